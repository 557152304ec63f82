fn main() {
    lamu_sandbox::process::spawner_main_if_asked();
}

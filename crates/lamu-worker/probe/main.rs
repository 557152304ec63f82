//! The program whose spawner the tests' process driver starts. Nothing else.

fn main() {
    lamu_sandbox::process::spawner_main_if_asked();
    eprintln!("this is the spawner of lamu-worker's tests");
}

//! The committed tables are those that the generator makes of the model.

use std::process::Command;

#[test]
fn the_committed_files_are_what_the_generator_writes() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/generate.py");
    let output = Command::new("python3").args([script, "--check"]).output().expect("run python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

//! Extensions in layers, as a function's log, its callers and the extensions
//! themselves see them. The scenarios are in `py/extensions.py`; the programs
//! with AWS's own client are `examples/extensions-rust`.

mod support;

use std::process::Command;

use support::{Lamu, said, workspace};

scenarios!("extensions":
    an_extension_in_python_takes_part,
    an_extension_in_shell_takes_part,
    an_internal_extension_registers_from_the_function,
    json_logs_say_the_same_in_records,
    what_cannot_start_is_a_launch_error,
    an_extension_that_ends_fails_the_call_and_starts_again,
    an_extension_that_never_comes_back_costs_the_timeout,
    an_extension_that_never_registers_costs_init_and_call,
    hostile_extensions_harm_only_their_function,
    a_failed_call_is_told_as_such,
);

/// The unmodified `lambda-extension` crate, in its three roles.
#[test]
fn stock_rust_extensions_hear_of_everything() {
    let example = workspace().join("examples/extensions-rust");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(example.join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", said(&built));
    let lamu = Lamu::start();
    let programs = example.join("target/debug");
    let programs = [("LAMU_TEST_EXTENSIONS", programs.to_str().unwrap())];
    lamu.python_with("extensions", "stock_rust_extensions", &programs);
    lamu.stop();
}

//! Builds `lamu-init` as a static program, so that the one binary carries what
//! runs inside every sandbox.
//!
//! It is a build of its own, in a target directory of its own, since it needs
//! other flags than the program around it: no dynamic loader, small, and
//! aborting on panic. The flags are given together with an explicit `--target`
//! and so do not reach build scripts.
//!
//! Where the toolchain has the musl target (`rustup target add`), init is built
//! for it. A static glibc program asks the CPU some eighty questions before
//! `main`, each of which a virtual machine answers in microseconds: half a
//! millisecond of every cold start. Without the target it is glibc.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = here.ancestors().nth(2).expect("crates/lamu lies in the workspace");
    for input in ["crates/lamu-init", "crates/lamu-guest", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    let program = build_init(workspace, &out.join("init"));
    let embedded = out.join("lamu-init");
    if let Err(error) = std::fs::copy(&program, &embedded) {
        panic!("could not copy {} to {}: {error}", program.display(), embedded.display());
    }
    println!("cargo::rustc-env=LAMU_INIT={}", embedded.display());
}

/// The path of the finished program.
fn build_init(workspace: &Path, target_dir: &Path) -> PathBuf {
    let target = target_of_init();
    let cargo = env::var_os("CARGO").expect("cargo sets CARGO");
    let mut build = Command::new(cargo);
    build
        .current_dir(workspace)
        .args(["build", "--package", "lamu-init", "--profile", "init", "--locked"])
        .args(["--target", &target])
        .arg("--target-dir")
        .arg(target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    // What cargo tells this script about the crate it is for (profile,
    // features, clippy as the compiler) must not colour the other build.
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        let foreign = name_text.starts_with("CARGO_PROFILE_")
            || name_text.starts_with("CARGO_FEATURE_")
            || name_text.starts_with("CARGO_CFG_")
            || ["RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET", "RUSTDOCFLAGS"]
                .contains(&&*name_text);
        if foreign {
            build.env_remove(&name);
        }
    }
    match build.status() {
        Ok(status) if status.success() => target_dir.join(target).join("init").join("lamu-init"),
        Ok(status) => panic!("building lamu-init ended with {status}"),
        Err(error) => panic!("could not start cargo to build lamu-init: {error}"),
    }
}

/// This machine's musl target when its standard library is there, else the
/// target that lamu itself is built for.
fn target_of_init() -> String {
    let own = env::var("TARGET").expect("cargo sets TARGET");
    let musl = own.replace("-gnu", "-musl");
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", &musl]).output();
    let libdir = asked.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let libdir = libdir.and_then(|path| String::from_utf8(path).ok());
    let Some(libdir) = libdir.map(|path| PathBuf::from(path.trim())) else { return own };
    // rustup's list of what is installed: a target added later makes another
    // init. A path that is not there would have cargo build lamu every time.
    if let Some(list) = libdir.ancestors().nth(2).map(|rustlib| rustlib.join("components"))
        && list.is_file()
    {
        println!("cargo::rerun-if-changed={}", list.display());
    }
    if libdir.is_dir() { musl } else { own }
}

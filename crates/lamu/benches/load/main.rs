//! The measuring tools behind `make bench`: a load generator, and the floor it
//! is compared with.
//!
//! - `load`: closed or open loop over N keep-alive connections, one thread.
//! - `floor`: the least that can stand between a caller and a runtime: one
//!   thread, raw HTTP, invocations on one side and the Runtime API on the
//!   other; no sandbox, no checks, no logs.
//! - run under the name `bootstrap`: the least a runtime can be, an echo.
//!
//! Not here: which figures are taken and beside what (`bench/bench.py`).

mod bootstrap;
mod floor;
mod http;
mod load;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let name = Path::new(&args[0]).file_name().and_then(|name| name.to_str()).unwrap_or("");
    let result = match (name, args.get(1).map(String::as_str)) {
        ("bootstrap", _) => bootstrap::run(),
        (_, Some("floor")) => floor::run(&args[2..]),
        (_, Some("load")) => load::run(&args[2..]),
        // What `cargo test` and `cargo bench` pass; there is nothing to run.
        _ => {
            eprintln!("usage: load --url URL … | floor; see bench/bench.py");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

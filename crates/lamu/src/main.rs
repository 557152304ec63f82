//! lamu: AWS Lambda on one's own machines. The one program, which runs the
//! platform and speaks to it.
//!
//! Not here: anything a role does. This crate reads what was typed, starts the
//! roles, and ends them.

mod cli;
mod client;
mod doctor;
mod metrics;
mod platform;
mod run;
mod settings;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command};

/// The function failed, the doctor found what stops lamu, or a platform was
/// ended in the middle of its draining.
pub const EXIT_FAILED: u8 = 1;
/// Wrong usage or settings; clap's own.
pub const EXIT_USAGE: u8 = 2;
/// The platform refused, or could not be reached or started.
pub const EXIT_REFUSED: u8 = 3;

/// The program that becomes process 1 of every sandbox; `build.rs` makes it.
pub const INIT: &[u8] = include_bytes!(env!("LAMU_INIT"));

fn main() -> ExitCode {
    // This program started again as the driver's helper never gets further.
    lamu_sandbox::process::spawner_main_if_asked();
    let done = match Cli::parse().command {
        Command::Run(run) => run::run(&run),
        Command::Deploy(deploy) => client::deploy(&deploy).map(|()| ExitCode::SUCCESS),
        Command::Invoke(invoke) => client::invoke(&invoke),
        Command::Logs(logs) => client::logs(&logs).map(|()| ExitCode::SUCCESS),
        Command::Url(url) => client::url(&url).map(|()| ExitCode::SUCCESS),
        Command::Ls(ls) => client::list(&ls).map(|()| ExitCode::SUCCESS),
        Command::Rm(rm) => client::remove(&rm),
        Command::Doctor(_) => doctor::doctor(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("lamu: {error:#}");
        ExitCode::from(EXIT_REFUSED)
    })
}

//! One host: makes execution environments, runs invocations in them, and
//! keeps what they write.
//!
//! ```text
//!  manager --Boot, Retire--> Worker (slots) --spawns--> environment (a task
//!  placement <--Load-------/       ^                      each: machine,
//!                                  +------Ready, Gone---  channel, log)
//!  frontend --Lease::invoke------------------------------> ^
//! ```
//!
//! Laws: an invocation touches its environment's task only. What init sends
//! is hostile. A sandbox serves one version of one account for its whole
//! life. When an environment's slot is free, its machine is gone.
//!
//! Not here: choosing the worker (`lamu_fleet`), making the isolation
//! boundary (`lamu_sandbox`), what runs inside it (`lamu_init`).

mod config;
mod context;
mod environment;
pub mod logs;
pub mod package;
pub mod runtimes;
mod slot;
mod stats;
#[cfg(test)]
mod testing;
mod variables;
mod worker;

pub use config::{CpuShare, Credentials, StreamRate, WorkerConfig};
/// Who a function runs as inside; part of [`WorkerConfig`].
pub use lamu_guest::User;
pub use stats::{Counter, Gauge, WorkerStats};
pub use worker::{StartError, Worker};

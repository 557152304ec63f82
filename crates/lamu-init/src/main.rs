//! Init: the first process inside a sandbox.
//!
//! It speaks with the host over descriptor 3 (`lamu_guest`), starts the
//! extensions in `/opt/extensions` and the runtime, serves them Lambda's
//! Runtime, Extensions, Telemetry and Logs APIs on 127.0.0.1:9001 and, for lamu's own
//! bootstraps, a socket without HTTP, cuts their output into log records,
//! and collects every process that ends. When the host goes, init goes, and
//! as PID 1 takes everything inside along.
//!
//! ```text
//!  host <-- channel --> environment (one loop) --> state   which call is allowed
//!                          |   |   |  |             extensions
//!                       spawn output serve lifecycle   api, http, direct  bytes
//!                              |                       sys   the kernel
//!                          telemetry --> sink --> subscribers inside
//! ```
//!
//! `LAMU_INIT_PORT` chooses another port, 0 any free one, and
//! `LAMU_INIT_EXTENSIONS` another directory of extensions; tests use them.
//!
//! Not here: mounts, namespaces, seccomp and limits of the sandbox (made by
//! `lamu-sandbox` before init starts), time limits of Init and invocations
//! (the host's: it sends `Reset`).

// Init forks, executes and handles descriptors; std has no safe form for it.
#![allow(unsafe_code)]

mod api;
mod channel;
mod connection;
mod direct;
mod environment;
mod extensions;
mod http;
mod json;
mod lifecycle;
mod logs;
mod output;
mod record;
mod serve;
mod sink;
mod spawn;
mod state;
mod stream;
mod subscription;
mod sys;
mod telemetry;
mod value;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use environment::{End, Environment};

const CHANNEL_FD: i32 = 3;
const PORT: u16 = 9001;
const EXTENSIONS: &str = "/opt/extensions";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lamu-init: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    sys::settle();
    // SAFETY: descriptor 3 is handed to init by whoever starts it, and nothing
    // in this process owns it yet. A wrong one fails in the next calls.
    let channel = unsafe { UnixStream::from_raw_fd(CHANNEL_FD) };
    sys::set_close_on_exec(channel.as_raw_fd())?;
    let port = match std::env::var("LAMU_INIT_PORT") {
        Ok(text) => text.parse().map_err(|_| io::Error::other("LAMU_INIT_PORT is no port"))?,
        Err(_) => PORT,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let extensions = std::env::var_os("LAMU_INIT_EXTENSIONS");
    let extensions = extensions.map_or_else(|| EXTENSIONS.into(), PathBuf::from);
    let mut environment = Environment::new(channel, listener, extensions)?;
    let end = environment.run();
    environment.end();
    end.map(|end| match end {
        End::Shutdown | End::HostGone => {}
    })
}

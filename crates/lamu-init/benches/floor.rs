//! Init alone: invocations per second and latency over the channel, without
//! frontend, worker and sandbox, beside the floor measured in the same run.
//!
//! `cargo bench -p lamu-init` prints one line per case. `LAMU_INIT` names
//! another binary (the static one), `LAMU_BENCH_PYTHON` another interpreter,
//! `LAMU_BENCH_ONLY` picks cases by a part of their name.

// The harness forks (tests/support).
#![allow(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lamu_guest::{Start, ToInit};
use support::{Init, TempDir, start};

const SECONDS: Duration = Duration::from_secs(3);
const EVENT: &str = r#"{"key1":"value1","key2":"value2"}"#;

fn main() {
    if let Ok(api) = std::env::var("AWS_LAMBDA_RUNTIME_API") {
        return raw_runtime(&api);
    }
    let only = std::env::var("LAMU_BENCH_ONLY").unwrap_or_default();
    let wanted = |name: &str| name.contains(&only);
    let this = std::env::current_exe().expect("own path").to_str().expect("UTF-8").to_owned();
    let files = TempDir::new(&[
        ("app.py", "def h(event, context):\n    return event\n"),
        ("app.js", "exports.h = async (event) => event;"),
        ("loop.py", PYTHON_LOOP),
    ]);
    println!("{:<44} {:>6} {:>10} {:>9} {:>9}", "case", "at", "calls/s", "p50 us", "p99 us");
    for at_once in [1, 8] {
        if wanted("floor: raw http") {
            report("floor: raw http server and runtime", at_once, &|_| bare_http(&this));
        }
        if wanted("init: raw http") {
            report("init: raw http runtime", at_once, &|_| through_init(start(&this, &[])));
        }
        if let Some(python) =
            interpreter("LAMU_BENCH_PYTHON", "python3", "import sys; print(sys.executable)", "-c")
        {
            if wanted("floor: python") {
                report("floor: python plain socket loop", at_once, &|_| {
                    bare_python(&python, &files)
                });
            }
            if wanted("init: python") {
                report("init: python bootstrap", at_once, &|_| {
                    through_init(managed(&python, &["-S", PYTHON], &files))
                });
            }
            if wanted("init: awslambdaric") && has_awslambdaric(&python) {
                report("init: awslambdaric over http", at_once, &|_| {
                    let mut start = managed(&python, &["-m", "awslambdaric", "app.h"], &files);
                    start.telemetry_fd = false;
                    through_init(start)
                });
            }
        }
        if let Some(node) =
            interpreter("LAMU_BENCH_NODE", "node", "console.log(process.execPath)", "-e")
            && wanted("init: node")
        {
            report("init: node bootstrap", at_once, &|_| {
                through_init(managed(&node, &[NODE], &files))
            });
        }
    }
    if wanted("memory") {
        memory(&this);
    }
}

const PYTHON: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../lamu-worker/runtimes/python/bootstrap.py");
const NODE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../lamu-worker/runtimes/node/bootstrap.cjs");

/// The least a Python runtime can do: read an event, parse it, write it back.
const PYTHON_LOOP: &str = "\
import os, json
from json import loads, dumps
while True:
    data = os.read(0, 65536)
    if not data: break
    os.write(0, dumps(loads(data)).encode())
";

/// One call after the other; dropping it ends its processes.
trait Callee: Send {
    fn call(&mut self);
}

fn report(name: &str, at_once: usize, make: &(dyn Fn(usize) -> Box<dyn Callee> + Sync)) {
    let callees: Vec<_> = (0..at_once).map(make).collect();
    let begin = Instant::now();
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let measure = |mut callee: Box<dyn Callee>| {
            let mut times = Vec::new();
            while begin.elapsed() < SECONDS {
                let at = Instant::now();
                callee.call();
                times.push(at.elapsed());
            }
            times
        };
        let threads: Vec<_> =
            callees.into_iter().map(|callee| scope.spawn(move || measure(callee))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("measured")).collect()
    });
    let rate = all.len() as f64 / SECONDS.as_secs_f64();
    all.sort();
    let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    println!("{name:<44} {at_once:>6} {rate:>10.0} {:>9.0} {:>9.0}", at(0.5), at(0.99));
}

struct Through {
    init: Init,
    wire: Vec<u8>,
}

fn through_init(wanted: Start) -> Box<dyn Callee> {
    let mut init = Init::boot();
    init.send(&ToInit::Start(wanted));
    init.expect_ready();
    let mut wire = Vec::new();
    ToInit::Invoke(support::invoke("8476a536-e9f4-11e8-9739-2dfe598c3fcd", EVENT.as_bytes()))
        .encode(&mut wire);
    let mut through = Through { init, wire };
    for _ in 0..200 {
        through.call();
    }
    Box::new(through)
}

impl Callee for Through {
    fn call(&mut self) {
        self.init.channel.as_mut().expect("open").write_all(&self.wire).expect("sent");
        let id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";
        self.init.expect_response(id);
        self.init.expect_done(id);
    }
}

fn managed(program: &str, args: &[&str], files: &TempDir) -> Start {
    let mut start = start(program, args);
    start.telemetry_fd = true;
    start.cwd = files.path("");
    start.env.push(("_HANDLER".into(), "app.h".into()));
    start.env.push(("LAMBDA_TASK_ROOT".into(), start.cwd.clone()));
    start
}

fn interpreter(variable: &str, usual: &str, script: &str, flag: &str) -> Option<String> {
    let name = std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
    let output = Command::new(name).args([flag, script]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn has_awslambdaric(python: &str) -> bool {
    let status =
        Command::new(python).args(["-c", "import awslambdaric"]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// This program as a runtime over raw HTTP.
fn raw_runtime(api: &str) {
    let mut stream = TcpStream::connect(api).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    let mut input = Vec::new();
    loop {
        stream
            .write_all(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
            .expect("sent");
        let Some((head, body)) = read_message(&mut stream, &mut input) else { return };
        let id =
            head.split("Request-Id: ").nth(1).and_then(|rest| rest.split('\r').next()).expect("id");
        let text = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).expect("sent");
        if read_message(&mut stream, &mut input).is_none() {
            return;
        }
    }
}

fn read_message(stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<(String, String)> {
    let mut piece = [0; 16384];
    loop {
        if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&input[..end + 2]).into_owned();
            let length =
                head.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next());
            let length: usize = length.map_or(0, |text| text.parse().expect("length"));
            if input.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&input[end + 4..end + 4 + length]).into_owned();
                input.drain(..end + 4 + length);
                return Some((head, body));
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => input.extend_from_slice(&piece[..count]),
        }
    }
}

struct Bare {
    stream: TcpStream,
    input: Vec<u8>,
    child: Child,
}

/// The same raw runtime, served by this process in the simplest way.
fn bare_http(this: &str) -> Box<dyn Callee> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let api = listener.local_addr().expect("address").to_string();
    let child = Command::new(this).env("AWS_LAMBDA_RUNTIME_API", api).spawn().expect("spawn");
    let (stream, _) = listener.accept().expect("accept");
    stream.set_nodelay(true).expect("nodelay");
    let mut bare = Bare { stream, input: Vec::new(), child };
    read_message(&mut bare.stream, &mut bare.input);
    for _ in 0..200 {
        bare.call();
    }
    Box::new(bare)
}

impl Callee for Bare {
    fn call(&mut self) {
        let event = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 8476a536\r\nLambda-Runtime-Deadline-Ms: 1800000000000\r\nContent-Length: {}\r\n\r\n{EVENT}",
            EVENT.len()
        );
        self.stream.write_all(event.as_bytes()).expect("sent");
        read_message(&mut self.stream, &mut self.input).expect("response");
        let accepted = b"HTTP/1.1 202 Accepted\r\nContent-Length: 15\r\n\r\n{\"status\":\"OK\"}";
        self.stream.write_all(accepted).expect("sent");
        read_message(&mut self.stream, &mut self.input).expect("next");
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Plain {
    stream: UnixStream,
    child: Child,
}

fn bare_python(python: &str, files: &TempDir) -> Box<dyn Callee> {
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let fd = theirs.as_raw_fd();
    let mut command = Command::new(python);
    command.arg(files.path("loop.py"));
    // SAFETY: dup2 may be called between fork and exec.
    unsafe {
        command.pre_exec(move || match libc::dup2(fd, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let child = command.spawn().expect("spawn");
    let mut plain = Plain { stream: ours, child };
    for _ in 0..200 {
        plain.call();
    }
    Box::new(plain)
}

impl Callee for Plain {
    fn call(&mut self) {
        let mut piece = [0; 4096];
        self.stream.write_all(EVENT.as_bytes()).expect("sent");
        assert!(self.stream.read(&mut piece).expect("read") > 0);
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an idle init keeps for itself.
fn memory(this: &str) {
    let mut init = Init::boot();
    init.send(&ToInit::Start(start(this, &[])));
    init.expect_ready();
    let private = |init: &Init| {
        let path = format!("/proc/{}/smaps_rollup", init.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with("Private_"));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>()
    };
    println!("private memory idle after init: {} KiB", private(&init));
    let large = format!("\"{}\"", "x".repeat(6 << 20));
    init.call("r-1", &large[..6_291_456]);
    println!("private memory after a 6 MiB echo: {} KiB", private(&init));
}

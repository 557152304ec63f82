//! Runs the real binary for one test, and sees to it that nothing of it stays:
//! no process, cgroup, mount or file.
//!
//! Not here: any test. Clients other than our own live in `tests/py`.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod s3;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Far above a start on a busy machine; a test that waits this long has failed.
const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(45);

/// One platform on a free port, with its data in a directory of its own.
pub struct Lamu {
    child: Child,
    pub endpoint: String,
    pub dir: PathBuf,
    /// Kept until the end, so that what stays in it can be looked at.
    _dir: Option<tempfile::TempDir>,
}

impl Lamu {
    pub fn start() -> Lamu {
        Lamu::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Lamu {
        let dir = tempfile::Builder::new().prefix("lamu-test.").tempdir().unwrap();
        let path = dir.path().to_owned();
        let mut lamu = Lamu::start_in(&path, arguments);
        lamu._dir = Some(dir);
        lamu
    }

    /// On data that is there already and outlives this instance.
    pub fn start_in(dir: &Path, arguments: &[&str]) -> Lamu {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lamu"));
        if let Some(path) = access_log() {
            command.env("LAMU_ACCESS_LOG", path);
        }
        Lamu::start_command(command, dir, arguments)
    }

    /// A copy of the program that user may execute, run by `nobody`.
    pub fn start_as_nobody(program: &Path, dir: &Path) -> Lamu {
        let mut command = Command::new(program);
        command.uid(65534).gid(65534).env("HOME", dir);
        Lamu::start_command(command, dir, &[])
    }

    /// Started by another program, such as one that sets its class.
    pub fn start_through(program: &str, arguments: &[&str]) -> Lamu {
        let dir = tempfile::Builder::new().prefix("lamu-test.").tempdir().unwrap();
        let path = dir.path().to_owned();
        let mut command = Command::new(program);
        command.args(arguments).arg(env!("CARGO_BIN_EXE_lamu"));
        let mut lamu = Lamu::start_command(command, &path, &[]);
        lamu._dir = Some(dir);
        lamu
    }

    /// By a command that ends in executing the program.
    pub fn start_command(mut command: Command, dir: &Path, arguments: &[&str]) -> Lamu {
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
        let mut child = command
            .args(["run", "--listen", "127.0.0.1:0", "--data"])
            .arg(dir.join("data"))
            .args(arguments)
            .env_remove("LAMU_CONFIG")
            .env("LAMU_DRAIN_SECS", "10")
            .env("XDG_CONFIG_HOME", dir.join("config"))
            .env("LAMU_LOG", std::env::var("LAMU_LOG").unwrap_or("info,lamu=debug".into()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (ready, line) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            // An error here shows as the line that never comes.
            let _ = BufReader::new(stdout).read_line(&mut text);
            let _ = ready.send(text);
        });
        let line = line.recv_timeout(START_MAX).unwrap_or_default();
        let endpoint = line.split_whitespace().find(|word| word.starts_with("http://"));
        let Some(endpoint) = endpoint.map(str::to_owned) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("lamu is not ready: {line:?}\n{}", read(&dir.join("log")));
        };
        Lamu { child, endpoint, dir: dir.to_owned(), _dir: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    /// The SDKs' variables that lead a client here.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_LAMBDA", self.endpoint.clone()),
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_DEFAULT_REGION", "us-east-1".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            ("AWS_PAGER", String::new()),
            ("AWS_CONFIG_FILE", "/dev/null".into()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".into()),
        ]
    }

    /// Our own client verbs.
    pub fn lamu(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lamu"));
        command.args(arguments).envs(self.environment()).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// The same, which must succeed; its stdout.
    pub fn lamu_ok(&self, arguments: &[&str]) -> String {
        let output = self.lamu(arguments);
        assert!(output.status.success(), "lamu {arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs one scenario of `tests/py/<script>.py` with boto3; it must succeed.
    pub fn python(&self, script: &str, scenario: &str) {
        self.python_with(script, scenario, &[]);
    }

    pub fn python_with(
        &self,
        script: &str,
        scenario: &str,
        environment: &[(&str, &str)],
    ) -> String {
        let output = Command::new(venv("python"))
            .arg("-u")
            .arg(here().join("tests/py").join(format!("{script}.py")))
            .arg(scenario)
            .envs(self.environment())
            .env("LAMU_TEST_ROOT", workspace())
            .env("LAMU_TEST_LOG", self.dir.join("log"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = said(&output);
        assert!(
            output.status.success(),
            "{script} {scenario}: {text}\n--- end of lamu's log ---\n{}",
            tail(&read(&self.dir.join("log")), 60)
        );
        text
    }

    /// The aws CLI, which must succeed; its stdout.
    pub fn aws(&self, arguments: &[&str]) -> String {
        let output = Command::new(venv("aws"))
            .args(arguments)
            .envs(self.environment())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "aws {arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Sends bytes as they are; what came back until the other side closed or
    /// was silent for two seconds.
    pub fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        // The other side may refuse before it has read all.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Ends it as an operator would, and looks for what stayed.
    pub fn stop(mut self) {
        let trace = Trace::of(&self);
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "lamu ended with {status}\n{}", read(&self.dir.join("log")));
        trace.must_be_gone();
    }

    /// Ends it as the kernel would, and looks for what stayed once its helper
    /// has had the time to clear up.
    pub fn kill(mut self) -> Trace {
        let trace = Trace::of(&self);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        trace
    }

    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < STOP_MAX, "lamu does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Lamu {
    fn drop(&mut self) {
        // A test that failed half way: nothing to check, all to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one instance has on this machine: processes, their cgroups, its data.
pub struct Trace {
    dir: PathBuf,
    processes: BTreeSet<(u32, String)>,
    cgroups: BTreeSet<PathBuf>,
}

impl Trace {
    pub fn of(lamu: &Lamu) -> Trace {
        let processes: BTreeSet<(u32, String)> = descendants(lamu.pid())
            .into_iter()
            .filter_map(|pid| Some((pid, start_time(pid)?)))
            .collect();
        let cgroups = processes.iter().flat_map(|(pid, _)| cgroups_of(*pid)).collect();
        Trace { dir: lamu.dir.clone(), processes, cgroups }
    }

    pub fn process_count(&self) -> usize {
        self.processes.len()
    }

    /// Waits a moment, since the last of it may be on its way out.
    pub fn must_be_gone(&self) {
        let begun = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (pid, started) in &self.processes {
            if start_time(*pid).is_some_and(|now| now == *started) {
                left.push(format!("process {pid}: {}", command_line(*pid)));
            }
        }
        left.extend(
            self.cgroups.iter().filter(|dir| dir.exists()).map(|dir| format!("cgroup {dir:?}")),
        );
        // Anything that has this instance's data in view, wherever it hangs.
        let mark = self.dir.file_name().unwrap().to_string_lossy().into_owned();
        for pid in all_pids() {
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            if mounts.lines().any(|mount| mount.contains(&mark)) {
                left.push(format!("mount in the view of {pid}: {}", command_line(pid)));
            }
        }
        left
    }
}

/// Where an instance is to note what it is asked, for the report that
/// `scripts/api-report` makes of all tests: a file named after the test.
fn access_log() -> Option<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let dir = PathBuf::from(std::env::var_os("LAMU_TEST_ACCESS_LOGS")?);
    let program = std::env::current_exe().ok()?;
    let (binary, _hash) = program.file_stem()?.to_str()?.rsplit_once('-')?;
    let thread = std::thread::current();
    let (test, pid) = (thread.name()?, std::process::id());
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Some(dir.join(format!("{binary}.{test}.{pid}-{number}.jsonl")))
}

/// Processes that `pid` itself has started.
pub fn children(pid: u32) -> Vec<u32> {
    let of = |child: &u32| stat(*child).and_then(|fields| fields[1].parse::<u32>().ok());
    all_pids().into_iter().filter(|child| of(child) == Some(pid)).collect()
}

/// Whether tests that need root can run.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

pub fn workspace() -> PathBuf {
    here().ancestors().nth(2).unwrap().to_owned()
}

pub fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A program of the tests' own Python environment.
pub fn venv(program: &str) -> PathBuf {
    let path = workspace().join("target/venv/bin").join(program);
    assert!(path.exists(), "{} is missing: run scripts/setup-tests", path.display());
    path
}

pub fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Polls until it holds; panics with `what` when it never does.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; the rest begins after the last.
    let rest = text.rsplit_once(')')?.1;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn start_time(pid: u32) -> Option<String> {
    let fields = stat(pid)?;
    // A zombie is gone but for its parent's interest.
    (fields[0] != "Z").then(|| fields[19].clone())
}

fn descendants(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> =
        all_pids().into_iter().filter_map(|pid| Some((pid, stat(pid)?[1].parse().ok()?))).collect();
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

/// Directories of lamu's own cgroups that a process is in, up to the
/// instance's.
fn cgroups_of(pid: u32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut dirs = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next(), parts.next());
        let Some((base, below)) = path.and_then(|path| path.split_once("/lamu/")) else { continue };
        let root = match controllers {
            Some("") if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => String::new(),
            Some("") => "unified".to_owned(),
            Some(names) => names.trim_start_matches("name=").to_owned(),
            None => continue,
        };
        let mut dir = Path::new("/sys/fs/cgroup").join(root);
        dir = dir.join(base.trim_start_matches('/')).join("lamu");
        for part in Path::new(below).components() {
            dir = dir.join(part);
            dirs.push(dir.clone());
        }
    }
    dirs
}

fn command_line(pid: u32) -> String {
    read(Path::new(&format!("/proc/{pid}/cmdline"))).replace('\0', " ")
}

/// One test a scenario of `tests/py/<script>.py`, each on a platform of its own
/// that must leave nothing.
#[macro_export]
macro_rules! scenarios {
    ($script:literal: $($(#[$attribute:meta])* $name:ident,)+) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            let lamu = $crate::support::Lamu::start();
            lamu.python($script, stringify!($name));
            lamu.stop();
        }
    )+};
}

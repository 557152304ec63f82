//! A driver over the probe, and ways to look at the host from outside.

#![allow(dead_code)] // each test file uses a part

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lamu_model::{AccountId, EgressPlan, SandboxId};
use lamu_sandbox::process::{ProcessDriver, ProcessDriverConfig};
use lamu_sandbox::{Driver, Machine, Mount, SandboxSpec, ShellClass};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

pub const PROBE: &str = env!("CARGO_BIN_EXE_sandbox-probe");

/// Whether tests that need root can run; says so when not.
pub fn is_root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    if !root {
        eprintln!("skipped: only root can give sandboxes users and limits of their own");
    }
    root
}

pub struct Host {
    pub driver: ProcessDriver,
    pub data: tempfile::TempDir,
}

/// A sandbox whose init is the probe.
pub struct Inside {
    pub machine: Machine,
    pub sandbox: SandboxId,
    channel: BufReader<UnixStream>,
}

impl Host {
    pub async fn start() -> Host {
        let data = tempfile::tempdir().unwrap();
        let driver = ProcessDriver::start(config(data.path())).await.unwrap();
        Host { driver, data }
    }

    /// Whose sandboxes reach these endpoints.
    pub async fn start_with(egress: EgressPlan) -> Host {
        let data = tempfile::tempdir().unwrap();
        let config = ProcessDriverConfig { egress, ..config(data.path()) };
        let driver = ProcessDriver::start(config).await.unwrap();
        Host { driver, data }
    }

    pub async fn inside(&self) -> Inside {
        self.inside_with(|_| {}).await
    }

    pub async fn inside_with(&self, change: impl FnOnce(&mut SandboxSpec)) -> Inside {
        self.inside_of("000000000000", change).await
    }

    pub async fn inside_of(&self, account: &str, change: impl FnOnce(&mut SandboxSpec)) -> Inside {
        let mut spec = spec();
        change(&mut spec);
        let class = ShellClass { account: AccountId::new(account) };
        let shell = self.driver.prepare(&class).await.unwrap();
        let mut machine = self.driver.claim(shell, &spec).await.unwrap();
        let mut channel = BufReader::new(machine.channel.take().unwrap());
        channel.read_exact(&mut [0]).await.unwrap();
        Inside { machine, sandbox: spec.sandbox, channel }
    }

    /// Processes that are sandboxes or were.
    pub fn children(&self) -> usize {
        children_of(self.driver.spawner_pid()).len()
    }

    /// A file or directory with content, below the data directory.
    pub fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.data.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

impl Inside {
    pub async fn ask(&mut self, question: &str) -> String {
        self.send(question).await;
        self.answer().await
    }

    pub async fn send(&mut self, question: &str) {
        let line = format!("{question}\n");
        self.channel.get_mut().write_all(line.as_bytes()).await.unwrap();
    }

    pub async fn answer(&mut self) -> String {
        let mut line = String::new();
        let read = self.channel.read_line(&mut line);
        tokio::time::timeout(Duration::from_secs(60), read)
            .await
            .expect("init does not answer")
            .unwrap();
        line.trim_end().to_owned()
    }
}

pub fn config(data: &Path) -> ProcessDriverConfig {
    let mut config = ProcessDriverConfig::new(fs::read(PROBE).unwrap(), data);
    config.spawner = PROBE.into();
    config
}

pub fn spec() -> SandboxSpec {
    SandboxSpec {
        sandbox: SandboxId(uuid::Uuid::new_v4()),
        memory_mib: 128,
        cpu_millis: 1_000,
        cpu_millis_max: Some(1_000),
        init_secs_max: 10,
        pids_max: 64,
        tmp_mib: 16,
        mounts: Vec::new(),
    }
}

pub fn mount(sources: &[&Path], target: &str) -> Mount {
    let sources = sources.iter().map(|source| source.to_path_buf()).collect();
    Mount { sources, target: target.into() }
}

/// Children of `pid`, dead ones that nobody reaped included.
pub fn children_of(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|child| parent_of(*child) == Some(pid)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a process is there and not merely unreaped.
pub fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(')')?.1.trim_start().starts_with('Z')))
        .is_some_and(|zombie| !zombie)
}

/// lamu's cgroup directories of the instances of process `owner`.
pub fn cgroups_of(owner: u32) -> Vec<PathBuf> {
    fn walk(dir: &Path, deep: u8, owner: u32, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if dir.ends_with("lamu") && name.split('.').nth(1) == Some(&owner.to_string()) {
                found.push(path);
            } else if deep > 0 {
                walk(&path, deep - 1, owner, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 5, owner, &mut found);
    found
}

/// Waits until `done`, which happens in the background.
pub fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not so after 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

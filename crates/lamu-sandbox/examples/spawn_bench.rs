//! How long a sandbox takes, from the decision to the first byte of its init,
//! and how many are made and ended per second.
//!
//! `cargo run --release --example spawn_bench -- [INIT] [ROUNDS]`, where INIT
//! is a program that writes a byte to descriptor 3 and waits; without one this
//! program is its own init, which as a dynamic one costs half a millisecond.
//! The floor is the same program started with nothing around it.
//!
//! A line a figure: `row`, name, unit, ours, floor (if there is one), with tabs
//! between, as `bench/bench.py` reads them.
//!
//! Not here: what a runtime takes to start inside.

// Taking over descriptor 3 has no safe form.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamu_model::{AccountId, SandboxId};
use lamu_sandbox::process::{ProcessDriver, ProcessDriverConfig, spawner_main_if_asked};
use lamu_sandbox::{Driver, Machine, Mount, SandboxSpec, ShellClass};
use tokio::io::AsyncReadExt;

fn main() {
    spawner_main_if_asked();
    if std::env::args().next().as_deref() == Some("init") {
        be_init();
    }
    let mut arguments = std::env::args().skip(1);
    let init = arguments
        .next()
        .filter(|path| path != "-")
        .map_or_else(|| std::env::current_exe().expect("own path"), PathBuf::from);
    let rounds: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(500);
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(bench(init, rounds));
}

fn be_init() -> ! {
    use std::io::{Read, Write};
    use std::os::fd::FromRawFd;
    // SAFETY: descriptor 3 is the channel by agreement and nobody else's.
    let mut channel = unsafe { std::fs::File::from_raw_fd(3) };
    let _ = channel.write_all(b"!");
    let _ = channel.read(&mut [0]);
    std::process::exit(0)
}

async fn bench(init: PathBuf, rounds: usize) {
    let data = tempfile::tempdir().expect("data directory");
    let package = data.path().join("package");
    std::fs::create_dir(&package).expect("package");
    let config = ProcessDriverConfig::new(std::fs::read(&init).expect("init"), data.path());
    let driver = Arc::new(ProcessDriver::start(config).await.expect("driver"));
    for (what, why) in driver.report().missing() {
        println!("not enforced: {what}: {why}");
    }
    let stage = Stage { driver, package };
    one_at_a_time(&stage, &init, rounds).await;
    standing(&stage, rounds).await;
    for parallel in [1, 2, 4, 8] {
        let per_second = many(&stage, rounds, parallel).await;
        row(&format!("sandboxes made and ended, {parallel} at a time"), "/s", per_second, None);
    }
}

/// A driver, and what its sandboxes are made of.
#[derive(Clone)]
struct Stage {
    driver: Arc<ProcessDriver>,
    package: PathBuf,
}

impl Stage {
    /// Claims a shell and waits for the first byte of its init; when each step
    /// was done, since the decision.
    async fn make(&self, sandbox: SandboxId) -> (Machine, [Duration; 3]) {
        let class = ShellClass { account: AccountId::new("000000000000") };
        let spec = SandboxSpec {
            sandbox,
            memory_mib: 128,
            cpu_millis: 1_000,
            cpu_millis_max: Some(1_000),
            init_secs_max: 10,
            pids_max: 1_024,
            tmp_mib: 512,
            mounts: vec![Mount { sources: vec![self.package.clone()], target: "/var/task".into() }],
        };
        let start = Instant::now();
        let shell = self.driver.prepare(&class).await.expect("prepare");
        let prepared = start.elapsed();
        let mut machine = self.driver.claim(shell, &spec).await.expect("claim");
        let claimed = start.elapsed();
        let channel = machine.channel.as_mut().expect("channel");
        channel.read_exact(&mut [0]).await.expect("first byte");
        (machine, [prepared, claimed, start.elapsed()])
    }
}

/// As on a host with a call now and then.
async fn one_at_a_time(stage: &Stage, init: &Path, rounds: usize) {
    let mut steps: [Vec<Duration>; 3] = Default::default();
    let (mut ended, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let sandbox = SandboxId(uuid::Uuid::new_v4());
        let (machine, took) = stage.make(sandbox).await;
        steps.iter_mut().zip(took).for_each(|(step, took)| step.push(took));
        let start = Instant::now();
        stage.driver.destroy(sandbox).await.expect("destroy");
        ended.push(start.elapsed());
        drop(machine);
        bare.push(start_bare(init));
    }
    let [mut prepared, mut claimed, mut first] = steps;
    show("sandbox from scratch, pooled parts taken", &mut prepared, None);
    show("sandbox from scratch, claimed", &mut claimed, None);
    show("sandbox from scratch, decision to first byte inside", &mut first, Some(&mut bare));
    show("sandbox ended", &mut ended, None);
}

/// The init program alone: started by this process, to its first byte.
fn start_bare(init: &Path) -> Duration {
    let (mut ours, theirs) = UnixStream::pair().expect("pair");
    let start = Instant::now();
    let mut command = Command::new(init);
    command.arg0("init").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Another port than a sandbox's, since this one is in the host's network.
    command.env("LAMU_INIT_PORT", "0");
    let fd = theirs.as_raw_fd();
    // SAFETY: one system call on a descriptor that this frame keeps open.
    unsafe {
        command.pre_exec(move || match libc::dup2(fd, 3) {
            3 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let mut child = command.spawn().expect("start the init alone");
    drop(theirs);
    std::io::Read::read_exact(&mut ours, &mut [0]).expect("first byte of the init alone");
    let took = start.elapsed();
    // It ends when its host is gone.
    drop(ours);
    child.wait().expect("end of the init alone");
    took
}

/// What is done with a sandbox that is there.
async fn standing(stage: &Stage, rounds: usize) {
    let driver = &stage.driver;
    let sandbox = SandboxId(uuid::Uuid::new_v4());
    let (machine, _) = stage.make(sandbox).await;
    let (mut froze, mut thawed, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        driver.freeze(sandbox).await.expect("freeze");
        froze.push(start.elapsed());
        let start = Instant::now();
        driver.thaw(sandbox).await.expect("thaw");
        thawed.push(start.elapsed());
        let start = Instant::now();
        driver.stats(sandbox).expect("stats");
        told.push(start.elapsed());
    }
    show("sandbox frozen", &mut froze, None);
    show("sandbox thawed", &mut thawed, None);
    show("sandbox's figures read", &mut told, None);
    drop(machine);
}

/// Made and ended per second, by so many tasks at once.
async fn many(stage: &Stage, rounds: usize, parallel: usize) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..parallel)
        .map(|_| {
            let stage = stage.clone();
            tokio::spawn(async move {
                for _ in 0..rounds / parallel {
                    let sandbox = SandboxId(uuid::Uuid::new_v4());
                    let (machine, _) = stage.make(sandbox).await;
                    stage.driver.destroy(sandbox).await.expect("destroy");
                    drop(machine);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("task");
    }
    (rounds / parallel * parallel) as f64 / start.elapsed().as_secs_f64()
}

fn show(what: &str, times: &mut [Duration], floor: Option<&mut [Duration]>) {
    let at = |times: &mut [Duration], part: f64| {
        times.sort();
        times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3
    };
    let (mut half, mut most) = (None, None);
    if let Some(floor) = floor {
        (half, most) = (Some(at(floor, 0.5)), Some(at(floor, 0.99)));
    }
    row(&format!("{what}, p50"), "ms", at(times, 0.5), half);
    row(&format!("{what}, p99"), "ms", at(times, 0.99), most);
}

fn row(name: &str, unit: &str, ours: f64, floor: Option<f64>) {
    let floor = floor.map(|floor| format!("\t{floor:.4}")).unwrap_or_default();
    println!("row\t{name}\t{unit}\t{ours:.4}{floor}");
}

//! How long a sandbox takes, from the decision to the first byte of its init,
//! and how many are made and ended per second.
//!
//! `cargo run --release --example spawn_bench -- [INIT] [ROUNDS]`, where INIT
//! is a program that writes a byte to descriptor 3 and waits; without one this
//! program is its own init, which as a dynamic one costs half a millisecond.
//!
//! Not here: what a runtime takes to start inside.

// Taking over descriptor 3 has no safe form.
#![allow(unsafe_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamu_model::{AccountId, SandboxId};
use lamu_sandbox::process::{ProcessDriver, ProcessDriverConfig, spawner_main_if_asked};
use lamu_sandbox::{Driver, Mount, SandboxSpec, ShellClass};
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
    let config = ProcessDriverConfig::new(std::fs::read(init).expect("init"), data.path());
    let driver = Arc::new(ProcessDriver::start(config).await.expect("driver"));
    for (what, why) in driver.report().missing() {
        println!("not enforced: {what}: {why}");
    }
    let class = ShellClass { account: AccountId::new("000000000000") };
    let spec = |sandbox| SandboxSpec {
        sandbox,
        memory_mib: 128,
        cpu_millis: 1_000,
        pids_max: 1_024,
        tmp_mib: 512,
        mounts: vec![Mount { sources: vec![package.clone()], target: "/var/task".into() }],
    };
    let new_id = || SandboxId(uuid::Uuid::new_v4());

    let mut prepared = Vec::new();
    let mut claimed = Vec::new();
    let mut first = Vec::new();
    let mut ended = Vec::new();
    for _ in 0..rounds {
        // One at a time with a pause, as on a host with a call now and then.
        tokio::time::sleep(Duration::from_millis(3)).await;
        let start = Instant::now();
        let shell = driver.prepare(&class).await.expect("prepare");
        prepared.push(start.elapsed());
        let sandbox = new_id();
        let mut machine = driver.claim(shell, &spec(sandbox)).await.expect("claim");
        claimed.push(start.elapsed());
        let mut channel = machine.channel.take().expect("channel");
        channel.read_exact(&mut [0]).await.expect("first byte");
        first.push(start.elapsed());
        let start = Instant::now();
        driver.destroy(sandbox).await.expect("destroy");
        ended.push(start.elapsed());
    }
    show("prepare", &mut prepared);
    show("prepare + claim", &mut claimed);
    show("prepare + claim + first byte", &mut first);
    show("destroy", &mut ended);

    let sandbox = new_id();
    let shell = driver.prepare(&class).await.expect("prepare");
    let mut machine = driver.claim(shell, &spec(sandbox)).await.expect("claim");
    machine.channel.as_mut().expect("channel").read_exact(&mut [0]).await.expect("first byte");
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
    show("freeze", &mut froze);
    show("thaw", &mut thawed);
    show("stats", &mut told);
    drop(machine);

    for parallel in [1, 2, 4, 8] {
        let start = Instant::now();
        let tasks: Vec<_> = (0..parallel)
            .map(|_| {
                let (driver, class, spec) = (driver.clone(), class.clone(), spec(new_id()));
                tokio::spawn(async move {
                    for _ in 0..rounds / parallel {
                        let spec = SandboxSpec {
                            sandbox: SandboxId(uuid::Uuid::new_v4()),
                            ..spec.clone()
                        };
                        let shell = driver.prepare(&class).await.expect("prepare");
                        let mut machine = driver.claim(shell, &spec).await.expect("claim");
                        let mut channel = machine.channel.take().expect("channel");
                        channel.read_exact(&mut [0]).await.expect("first byte");
                        driver.destroy(spec.sandbox).await.expect("destroy");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("task");
        }
        let made = rounds / parallel * parallel;
        println!(
            "create and destroy, {parallel} at a time: {:.0}/s",
            made as f64 / start.elapsed().as_secs_f64()
        );
    }
}

fn show(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("{what}: p50 {:?}, p90 {:?}, p99 {:?}", at(0.5), at(0.9), at(0.99));
}

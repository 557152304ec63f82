//! The other sides of this crate's tests, in one program:
//!
//! - the spawner, when started as one;
//! - `init` inside a sandbox, which greets with a byte and then answers
//!   questions, one line each, about what it finds (`looks`);
//! - `own DATA_DIR`: a process that owns a driver and one sandbox, passes
//!   lines from its standard input to the sandbox and the answers back, and
//!   can be killed to see what is left.
//!
//! Not here: what the answers should be (`tests/`).

// Becoming another user and asking for refused system calls has no safe form.
#![allow(unsafe_code)]

mod looks;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::FromRawFd;

use lamu_model::{AccountId, SandboxId};
use lamu_sandbox::process::{ProcessDriver, ProcessDriverConfig, spawner_main_if_asked};
use lamu_sandbox::{Driver, SandboxSpec, ShellClass};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

fn main() {
    spawner_main_if_asked();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["init"] => be_init(),
        [_, "own", data_dir] => {
            let runtime = tokio::runtime::Runtime::new().expect("runtime");
            runtime.block_on(own(data_dir));
        }
        _ => panic!("this program is for tests"),
    }
}

fn be_init() {
    // SAFETY: descriptor 3 is the channel by agreement and nobody else's.
    let mut channel = unsafe { std::fs::File::from_raw_fd(3) };
    channel.write_all(b"!").expect("greet");
    let mut lines = BufReader::new(channel.try_clone().expect("channel"));
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
        let answer = looks::answer(line.trim_end()).replace('\n', "|");
        if channel.write_all(format!("{answer}\n").as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}

async fn own(data_dir: &str) {
    let init = std::fs::read("/proc/self/exe").expect("own program");
    let config = ProcessDriverConfig::new(init, data_dir);
    let driver = ProcessDriver::start(config).await.expect("driver");
    for (what, why) in driver.report().missing() {
        println!("missing {what}: {why}");
    }
    let class = ShellClass { account: AccountId::new("000000000000") };
    let spec = SandboxSpec {
        sandbox: SandboxId(uuid::Uuid::new_v4()),
        memory_mib: 128,
        cpu_millis: 1_000,
        cpu_millis_max: Some(1_000),
        init_secs_max: 10,
        pids_max: 64,
        tmp_mib: 16,
        mounts: Vec::new(),
    };
    let shell = driver.prepare(&class).await.expect("prepare");
    let mut machine = driver.claim(shell, &spec).await.expect("claim");
    let mut channel = machine.channel.take().expect("channel");
    channel.read_exact(&mut [0]).await.expect("greeting");
    println!("ready");
    let (answers, mut questions) = channel.split();
    let mut answers = tokio::io::BufReader::new(answers).lines();
    let mut input = BufReader::new(std::io::stdin()).lines();
    while let Some(Ok(line)) = tokio::task::block_in_place(|| input.next()) {
        match line.as_str() {
            "freeze" => {
                driver.freeze(spec.sandbox).await.expect("freeze");
                println!("frozen");
            }
            question => {
                questions.write_all(format!("{question}\n").as_bytes()).await.expect("ask");
                println!("{}", answers.next_line().await.expect("answer").expect("an answer"));
            }
        }
    }
    driver.destroy(spec.sandbox).await.expect("destroy");
}

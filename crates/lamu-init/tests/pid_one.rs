//! Init as the first process of a pid namespace, as it is in a sandbox.

// The harness forks (tests/support).
#![allow(unsafe_code)]

mod support;

use std::time::{Duration, Instant};

use lamu_guest::{Exit, FromInit, InitOutcome, ToInit};
use support::{Init, shell};

#[test]
fn a_reset_ends_even_a_fork_bomb() {
    let Some(mut init) = Init::boot_as_pid_one() else { return };
    let bomb = "[ -e \"$TMP_MARK\" ] && { echo $$ $AWS_LAMBDA_RUNTIME_API; ls -d /proc/[0-9]* | wc -l; sleep 1000; }; \
                touch \"$TMP_MARK\"; echo $$ $AWS_LAMBDA_RUNTIME_API; \
                f() { f & f & setsid sleep 1000 & wait; }; f 2>/dev/null";
    let directory = support::TempDir::new(&[]);
    let mut wanted = shell(bomb);
    wanted.processes_max = 200;
    wanted.env.push(("TMP_MARK".into(), directory.path("mark")));
    init.send(&ToInit::Start(wanted));
    init.scripted();
    std::thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    init.reset();
    assert!(begin.elapsed() < Duration::from_secs(10));

    init.invoke("r-1", b"1");
    init.scripted();
    // Init, the shell, its subshell, ls and wc.
    let count: u32 = init.expect_log().trim().parse().unwrap();
    assert!(count <= 5, "{count} processes");
}

#[test]
fn its_children_cannot_end_it() {
    let Some(mut init) = Init::boot_as_pid_one() else { return };
    let script = "kill -9 1; kill -TERM 1; kill -SEGV 1; kill -CHLD 1; \
                  (sleep 0.05; exit 9) & exec sh -c 'sleep 0.2; kill -9 -1 2>/dev/null; echo here; exit 4'";
    init.send(&ToInit::Start(shell(script)));
    match init.expect() {
        FromInit::InitDone { outcome: InitOutcome::Exited(exit), .. } => {
            assert_eq!(exit, Exit::Code(4));
        }
        message => panic!("{message:?}"),
    }
    assert_eq!(init.logs, ["here"]);
    init.reset();
}

#[test]
fn when_it_ends_nothing_stays() {
    let Some(mut init) = Init::boot_as_pid_one() else { return };
    let mark = format!("{}.{}", std::process::id(), 4711);
    let script = format!("for i in 1 2 3; do setsid sleep 1000{mark} & done; echo up; sleep 1000");
    init.send(&ToInit::Start(shell(&script)));
    assert_eq!(init.expect_log(), "up");
    assert!(init.hang_up().is_some());
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let found = command.windows(mark.len()).any(|part| part == mark.as_bytes());
        assert!(!found, "{:?} is left", entry.path());
    }
}

//! The runtime as a process: how it starts, what it writes, how it ends, and
//! that nothing of it remains.

// The harness forks (tests/support).
#![allow(unsafe_code)]

mod support;

use std::time::{Duration, Instant};

use lamu_guest::{Entry, Exit, FromInit, InitOutcome, ShutdownReason, ToInit, User};
use support::{Init, TempDir, alive, shell, start};

fn init_outcome(init: &mut Init) -> InitOutcome {
    match init.expect() {
        FromInit::InitDone { outcome, .. } => outcome,
        message => panic!("expected the end of init, got {message:?}"),
    }
}

fn gone(pid: i32) -> bool {
    let until = Instant::now() + support::PATIENCE;
    while alive(pid) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    !alive(pid)
}

#[test]
fn the_runtime_gets_its_environment_and_nothing_else() {
    let mut init = Init::boot();
    let mut wanted = shell(
        "env | sort; pwd; ls /proc/self/fd | tr '\\n' ' '; echo; readlink /proc/self/fd/0; \
         ulimit -n; ulimit -c; grep -E '^(CapEff|CapBnd|CapInh|NoNewPrivs|SigBlk|SigIgn)' /proc/self/status; \
         ps -o sid= -p $$ | tr -d ' '; echo $$; exit 3",
    );
    wanted.cwd = "/usr".into();
    wanted.env.push(("A".into(), "b=c d".into()));
    wanted.open_files_max = 123;
    init.send(&ToInit::Start(wanted));
    assert_eq!(init_outcome(&mut init), InitOutcome::Exited(Exit::Code(3)));
    let logs = init.logs.join("\n");
    let mut lines = init.logs.iter().map(String::as_str);
    let mut line = || lines.next().expect("a line");
    assert_eq!(line(), "A=b=c d", "{logs}");
    assert!(line().starts_with("AWS_LAMBDA_RUNTIME_API=127.0.0.1:"), "{logs}");
    assert_eq!(line(), "PATH=/usr/local/bin:/usr/bin:/bin", "{logs}");
    // The shell sets this one itself.
    assert_eq!(line(), "PWD=/usr", "{logs}");
    assert_eq!(line(), "/usr", "{logs}");
    // The fourth is the directory that ls reads.
    assert_eq!(line(), "0 1 2 3 ", "{logs}");
    assert_eq!(line(), "/dev/null", "{logs}");
    assert_eq!(line(), "123", "{logs}");
    assert_eq!(line(), "0", "{logs}");
    for expected in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
        assert_eq!(line(), expected, "{logs}");
    }
    for expected in ["CapInh:\t0000000000000000", "CapEff:\t0000000000000000"] {
        assert_eq!(line(), expected, "{logs}");
    }
    let bounding = line();
    // SAFETY: no pointers.
    if unsafe { libc::geteuid() } == 0 {
        assert_eq!(bounding, "CapBnd:\t0000000000000000", "{logs}");
    }
    assert_eq!(line(), "NoNewPrivs:\t1", "{logs}");
    let session = line();
    assert_eq!(line(), session, "{logs}");
}

#[test]
fn a_runtime_of_another_user_has_no_groups() {
    // SAFETY: no pointers.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root may change users");
        return;
    }
    let mut init = Init::boot();
    let mut wanted = shell("id -u; id -g; id -G; exit 0");
    wanted.user = Some(User { uid: 993, gid: 990 });
    init.send(&ToInit::Start(wanted));
    assert_eq!(init_outcome(&mut init), InitOutcome::Exited(Exit::Code(0)));
    assert_eq!(init.logs, ["993", "990", "990"]);
}

#[test]
fn a_managed_runtime_gets_its_two_descriptors() {
    let mut init = Init::boot();
    let mut wanted = shell(
        "echo $_LAMBDA_TELEMETRY_LOG_FD $_LAMU_RUNTIME_FD; ls /proc/self/fd | tr '\\n' ' '; echo; \
         readlink /proc/self/fd/3 /proc/self/fd/4 | sed 's/:.*//'; exit 0",
    );
    wanted.telemetry_fd = true;
    init.send(&ToInit::Start(wanted));
    assert_eq!(init_outcome(&mut init), InitOutcome::Exited(Exit::Code(0)));
    assert_eq!(init.logs, ["3 4", "0 1 2 3 4 5 ", "pipe", "socket"]);
}

#[test]
fn the_first_executable_entry_is_taken() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new(&[
        ("plain", "#!/bin/sh\necho wrong\n"),
        ("garbage", "\x01\x02\x03"),
        ("good", "#!/bin/sh\necho right $# $0\n"),
    ]);
    for name in ["garbage", "good"] {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(name), mode).unwrap();
    }
    let files =
        |names: &[&str]| Entry::FirstOf(names.iter().map(|name| directory.path(name)).collect());
    let mut init = Init::boot();
    let mut wanted = start("", &[]);
    wanted.entry = files(&["missing", "plain", "garbage", "good"]);
    init.send(&ToInit::Start(wanted.clone()));
    assert_eq!(init_outcome(&mut init), InitOutcome::Exited(Exit::Code(0)));
    assert_eq!(init.logs, [format!("right 0 {}", directory.path("good"))]);

    for names in [&["missing"][..], &["plain"], &["garbage"], &["."], &[]] {
        let mut init = Init::boot();
        wanted.entry = files(names);
        init.send(&ToInit::Start(wanted.clone()));
        assert_eq!(init_outcome(&mut init), InitOutcome::NoEntry, "{names:?}");
        // It stays so when an invocation tries again.
        init.invoke("r-1", b"1");
        assert_eq!(init_outcome(&mut init), InitOutcome::NoEntry, "{names:?}");
    }
    let mut init = Init::boot();
    init.send(&ToInit::Start(start("/no/such/program", &["x"])));
    assert_eq!(init_outcome(&mut init), InitOutcome::NoEntry);
}

#[test]
fn output_becomes_records_ahead_of_the_end() {
    let mut init = Init::boot();
    let script = "echo one; echo two >&2; printf 'a\\n\\nb'; exit 0";
    init.send(&ToInit::Start(shell(script)));
    assert_eq!(init_outcome(&mut init), InitOutcome::Exited(Exit::Code(0)));
    init.logs.sort();
    assert_eq!(init.logs, ["", "a", "b", "one", "two"]);
}

#[test]
fn a_long_line_is_cut_and_all_of_it_arrives() {
    let mut init = Init::boot();
    let script = "head -c 600000 /dev/zero | tr '\\0' x; echo; echo end; exit 0";
    init.send(&ToInit::Start(shell(script)));
    assert_eq!(init_outcome(&mut init), InitOutcome::Exited(Exit::Code(0)));
    let lengths: Vec<_> = init.logs.iter().map(String::len).collect();
    assert_eq!(lengths, [262_144, 262_144, 600_000 - 2 * 262_144, 3]);
}

#[test]
fn a_host_that_does_not_read_slows_the_function_not_its_memory() {
    let mut init = Init::boot();
    init.send(&ToInit::Start(shell("yes 0123456789012345678901234567890123456789")));
    std::thread::sleep(Duration::from_millis(500));
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", init.child.id())).unwrap();
    let resident: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(resident * 4096 < 16 << 20, "{resident} pages resident");
    for _ in 0..10_000 {
        assert_eq!(init.expect_log().len(), 40);
    }
    init.reset();
}

#[test]
fn an_exit_is_told_once_and_the_next_invocation_starts_afresh() {
    let mut init = Init::boot();
    let runtime = init.start_scripted();
    let mut http = runtime.connect();
    http.ask_next();
    init.expect_ready();

    // While idle.
    runtime.signal(libc::SIGTERM);
    assert_eq!(init.expect(), FromInit::Exited(Exit::Code(7)));
    init.invoke("r-1", b"1");
    let runtime = init.scripted();
    let mut http = runtime.connect();
    http.ask_next();
    init.expect_ready();
    assert_eq!(http.answer().body, "1");

    // During an invocation.
    runtime.signal(libc::SIGKILL);
    assert_eq!(init.expect(), FromInit::Exited(Exit::Signal(libc::SIGKILL)));
    init.reset();
    init.invoke("r-2", b"2");
    let mut http = init.scripted().connect();
    http.ask_next();
    init.expect_ready();
    assert_eq!(http.answer().body, "2");
}

#[test]
fn a_response_posted_right_before_the_end_counts() {
    let mut init = Init::boot();
    let mut wanted = shell("python3 -c \"$SCRIPT\"");
    let script = r#"
import os, socket
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
s = socket.create_connection((host, int(port)))
s.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n")
s.recv(65536)
s.sendall(b"POST /2018-06-01/runtime/invocation/r-1/response HTTP/1.1\r\nContent-Length: 2\r\n\r\nok")
os._exit(9)
"#;
    wanted.env.push(("SCRIPT".into(), script.into()));
    wanted.env[0].1 = std::env::var("PATH").unwrap_or_default();
    init.send(&ToInit::Start(wanted));
    init.expect_ready();
    for _ in 0..20 {
        init.invoke("r-1", b"1");
        let mut message = init.expect();
        if let FromInit::InitDone { outcome: InitOutcome::Ready, .. } = message {
            message = init.expect();
        }
        match message {
            FromInit::Response { body, .. } => assert_eq!(body, b"ok"),
            message => panic!("{message:?}"),
        }
        assert_eq!(init.expect(), FromInit::Exited(Exit::Code(9)));
    }
}

#[test]
fn a_reset_ends_every_process_and_forgets_the_invocation() {
    let mut init = Init::boot();
    let script = "echo $$ $AWS_LAMBDA_RUNTIME_API; \
                  (setsid sh -c 'trap \"\" TERM; echo $$ grandchild; while :; do sleep 1; done' &); \
                  printf last >&2; sleep 1000 & wait";
    let runtime = init.start_shell(script);
    let grandchild = init.expect_log();
    let grandchild: i32 = grandchild.split(' ').next().unwrap().parse().unwrap();
    let mut http = runtime.connect();
    http.ask_next();
    init.expect_ready();
    init.invoke("r-1", b"1");
    http.answer();
    init.reset();
    // What it had written comes before the answer.
    assert_eq!(init.logs.last().map(String::as_str), Some("last"));
    assert!(!alive(runtime.pid) && !alive(grandchild));
    assert!(http.try_answer().is_none());
    // Again, with nothing there.
    init.reset();
}

#[test]
fn orphans_are_collected() {
    let mut init = Init::boot();
    let script = "echo $$ $AWS_LAMBDA_RUNTIME_API; \
                  for i in 1 2 3 4 5; do (sleep 0.05 & echo $!); done; sleep 1000 & wait";
    let runtime = init.start_shell(script);
    let orphans: Vec<i32> = (0..5).map(|_| init.expect_log().parse().unwrap()).collect();
    for orphan in orphans {
        assert!(gone(orphan), "{orphan} is still there");
    }
    assert!(alive(runtime.pid));
}

#[test]
fn when_the_host_goes_everything_goes() {
    for politely in [true, false] {
        let mut init = Init::boot();
        let runtime = init.start_scripted();
        if politely {
            init.send(&ToInit::Shutdown(ShutdownReason::Spindown));
            assert_eq!(init.try_receive(), None);
        }
        let status = init.hang_up().expect("init ends");
        assert!(status.success(), "{status}");
        assert!(gone(runtime.pid));
    }
}

#[test]
fn a_host_that_breaks_the_protocol_ends_init() {
    let frames: [&[u8]; 3] = [b"\x00\x00\x00\x00", b"\x01\x00\x00\x00\x63", b"\xff\xff\xff\xff"];
    for frame in frames {
        let mut init = Init::boot();
        use std::io::Write;
        init.channel.as_mut().unwrap().write_all(frame).unwrap();
        assert_eq!(init.try_receive(), None, "{frame:?}");
        assert!(!init.wait().expect("init ends").success());
    }
    let mut init = Init::boot();
    init.invoke("r-1", b"1");
    assert_eq!(init.try_receive(), None);
}

#[test]
fn init_is_closed_to_the_function() {
    // SAFETY: no pointers.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root may change users");
        return;
    }
    let mut init = Init::boot();
    let mut wanted = shell(
        "ls /proc/$PPID/fd >/dev/null 2>&1 && echo open; cat /proc/$PPID/environ >/dev/null 2>&1 && echo read; \
         kill -9 $PPID 2>/dev/null && echo killed; echo done; exit 0",
    );
    wanted.user = Some(User { uid: 993, gid: 990 });
    init.send(&ToInit::Start(wanted));
    assert_eq!(init_outcome(&mut init), InitOutcome::Exited(Exit::Code(0)));
    assert_eq!(init.logs, ["done"]);
}

//! What was written is there for people and tools: the CloudWatch Logs calls
//! of boto3 and both versions of the aws CLI, kept over crashes and within
//! bounds.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use support::{Lamu, Trace};

scenarios!("logs":
    groups_have_settings_and_end,
    streams_are_read_from_both_ends,
    writers_are_told_what_was_not_taken,
    filters_choose_events,
    functions_write_where_they_are_told,
    the_older_cli_asks_too,
    live_tails_tell_what_is_written,
);

/// It would never end by itself; cut off, it would have no last chunk.
#[test]
fn a_live_tail_ends_well_when_lamu_drains() {
    let lamu = Lamu::start();
    lamu.aws(&["logs", "create-log-group", "--log-group-name", "g"]);
    let address = lamu.endpoint.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let body = r#"{"logGroupIdentifiers": ["g"]}"#;
    let length = body.len();
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: Logs_20140328.StartLiveTail";
    write!(socket, "{head}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("sessionId") {
        let mut piece = [0; 4096];
        let count = socket.read(&mut piece).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..count]);
    }
    lamu.stop();
    socket.read_to_end(&mut seen).unwrap();
    assert!(seen.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&seen));
}

/// Version 2 of the CLI comes from Debian; where it does not, its test says so.
#[test]
fn the_cli_follows_a_log() {
    let aws = Path::new("/usr/bin/aws");
    let version = Command::new(aws).arg("--version").output();
    if !version.is_ok_and(|said| said.stdout.starts_with(b"aws-cli/2")) {
        eprintln!("skipped: /usr/bin/aws is not version 2 of the aws CLI");
        return;
    }
    let lamu = Lamu::start();
    lamu.python_with("logs", "the_cli_follows_a_log", &[("LAMU_TEST_AWS2", "/usr/bin/aws")]);
    lamu.stop();
}

#[test]
fn a_kill_while_writing_leaves_whole_lines_and_all_settings() {
    let dir = tempfile::Builder::new().prefix("lamu-test.").tempdir().unwrap();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("logs", "settings_before_the_kill");
    let trace = Trace::of(&lamu);
    let killed = std::thread::scope(|scope| {
        let writing = scope.spawn(|| lamu.python_with("logs", "writing_until_the_kill", &[]));
        support::eventually("much is written", || {
            let logs = dir.path().join("data/logs");
            size(&logs) > 2 << 20 || writing.is_finished()
        });
        lamu.signal("KILL");
        writing.join().unwrap()
    });
    assert!(killed.contains("ended in call"), "{killed}");
    let mut lamu = lamu;
    lamu.wait();
    trace.must_be_gone();

    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("logs", "everything_after_the_kill");
    lamu.stop();
}

/// The log store is on a file system of two MiB that only this instance sees.
#[test]
fn a_full_disk_costs_logs_only() {
    if !support::is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let dir = tempfile::Builder::new().prefix("lamu-test.").tempdir().unwrap();
    let script = "umask 077 && mkdir -p \"$0/data/logs\" \
        && mount -t tmpfs -o size=2m tmpfs \"$0/data/logs\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(dir.path());
    command.arg(env!("CARGO_BIN_EXE_lamu"));
    let lamu = Lamu::start_command(command, dir.path(), &[]);
    lamu.python("logs", "a_full_disk_costs_logs_only");
    lamu.stop();
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => size(&path),
            _ => entry.metadata().map_or(0, |metadata| metadata.len()),
        })
        .sum()
}

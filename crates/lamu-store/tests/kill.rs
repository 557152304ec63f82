//! What a process had acknowledged when it was killed is there afterwards.
//!
//! The test starts itself again as a writer, kills that with SIGKILL at some
//! moment, and opens what it left.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamu_model::Digest;
use lamu_store::{DirPackages, Expect, Metadata, Packages, SqliteMetadata};

/// Tells the writer where to write.
const HOME: &str = "LAMU_STORE_TEST_HOME";

/// The moments of the kills, in milliseconds after the first acknowledgement:
/// at once, amid groups of writes, and after a checkpoint of the log.
const MOMENTS_MS: [u64; 6] = [0, 3, 20, 55, 150, 400];

const WRITERS: usize = 32;

#[tokio::test]
async fn a_kill_loses_no_acknowledged_write() {
    if let Some(home) = std::env::var_os(HOME) {
        return write_until_killed(Path::new(&home)).await;
    }
    let home = tempfile::tempdir().unwrap();
    let mut next = vec![0; WRITERS];
    // The same home each time: what the last kill left is what the next finds.
    for moment in MOMENTS_MS {
        let acknowledged = run_and_kill(home.path(), Duration::from_millis(moment));
        assert!(!acknowledged.is_empty());

        let metadata = SqliteMetadata::open(home.path().join("metadata.sqlite")).unwrap();
        let packages = DirPackages::open(home.path().join("packages")).unwrap();
        for [writer, round, revision] in acknowledged {
            let writer = usize::try_from(writer).unwrap();
            let found = metadata.get(&key(writer, round)).await.unwrap().expect("it was promised");
            assert_eq!((found.value, found.revision.0), (value(writer, round), revision));
            let digest = Digest::of(&value(writer, round));
            if round % 10 == 0 {
                assert_eq!(packages.get(&digest).await.unwrap(), value(writer, round));
            }
            next[writer] = next[writer].max(round + 1);
        }
        let leftovers = std::fs::read_dir(home.path().join("packages/incoming")).unwrap().count();
        assert_eq!(leftovers, 0, "an unfinished package is still there");
    }
    assert!(next.iter().sum::<u64>() > 100, "too little was written to show anything");
}

/// Writes with many tasks at once, and prints each acknowledged write.
async fn write_until_killed(home: &Path) {
    let metadata = Arc::new(SqliteMetadata::open(home.join("metadata.sqlite")).unwrap());
    let packages = DirPackages::open(home.join("packages")).unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (metadata, packages) = (metadata.clone(), packages.clone());
        writers.spawn(async move {
            for round in 0.. {
                let value = value(writer, round);
                if round % 10 == 0 {
                    packages.put(value.clone()).await.unwrap();
                }
                let revision =
                    metadata.put(&key(writer, round), value, Expect::Anything).await.unwrap();
                let line = format!("acknowledged {writer} {round} {}\n", revision.0);
                // Its reader is gone: so is the test.
                if std::io::stdout().write_all(line.as_bytes()).is_err() {
                    std::process::exit(1);
                }
            }
        });
    }
    writers.join_next().await.unwrap().unwrap();
}

/// The numbers of each acknowledged write, in the order they were printed.
fn run_and_kill(home: &Path, after_first: Duration) -> Vec<[u64; 3]> {
    let mut writer = Killed(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_kill_loses_no_acknowledged_write", "--nocapture"])
            .env(HOME, home)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut output = BufReader::new(writer.0.stdout.take().unwrap());
    let mut lines = std::iter::from_fn(move || {
        loop {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            // A line that is cut off was not acknowledged to us.
            let line = line.strip_suffix('\n')?;
            if let Some(numbers) = line.strip_prefix("acknowledged ") {
                let numbers: Vec<u64> =
                    numbers.split(' ').map(|number| number.parse().unwrap()).collect();
                break Some(numbers.try_into().unwrap());
            }
        }
    });
    let mut acknowledged = vec![lines.next().expect("the writer wrote nothing")];
    let killer = std::thread::spawn(move || {
        std::thread::sleep(after_first);
        drop(writer);
    });
    acknowledged.extend(lines);
    killer.join().unwrap();
    acknowledged
}

/// Ends with SIGKILL, also when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn key(writer: usize, round: u64) -> String {
    format!("k/{writer}/{round}")
}

fn value(writer: usize, round: u64) -> Bytes {
    format!("{writer} {round} ").repeat(1 + usize::try_from(round % 90).unwrap()).into()
}

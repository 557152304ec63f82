//! The store as a whole: written, read, bounded, restarted.

use super::*;
use lamu_link::{LogEvent, LogQuery};

fn account() -> AccountId {
    AccountId::new("000000000000")
}

fn region() -> Region {
    Region::new("us-east-1")
}

fn writer(store: &LogStore, group: &str, stream: &str) -> LogWriter {
    store.writer(StreamName::new(account(), region(), group.to_owned(), stream.to_owned()))
}

fn query(group: &str) -> LogQuery {
    LogQuery {
        account: account(),
        region: region(),
        group: group.to_owned(),
        streams: Vec::new(),
        from_ms: 0,
        until_ms: u64::MAX,
        after: None,
        count_max: 10_000,
    }
}

fn open(dir: &std::path::Path, limits: LogLimits) -> Arc<LogStore> {
    Arc::new(LogStore::open(dir.to_owned(), limits).unwrap())
}

fn messages(events: &[LogEvent]) -> Vec<&str> {
    events.iter().map(|event| event.message.as_str()).collect()
}

#[tokio::test]
async fn a_read_sees_what_was_just_written_in_time_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LogLimits::default());
    let logs = store.serve();
    let mut one = writer(&store, "/aws/lambda/f", "a");
    let mut two = writer(&store, "/aws/lambda/f", "b");
    one.function(20, b"second");
    two.function(10, b"first");
    one.platform(20, "third \u{e4}".as_bytes());
    let events = logs.events(query("/aws/lambda/f")).await.unwrap();
    assert_eq!(messages(&events), ["first", "second", "third \u{e4}"]);
    assert_eq!(logs.groups(&account(), &region(), "/aws").await.unwrap(), ["/aws/lambda/f"]);
    assert!(logs.groups(&account(), &Region::new("eu-west-1"), "").await.unwrap().is_empty());
    let streams = logs.streams(&account(), &region(), "/aws/lambda/f").await.unwrap();
    let names: Vec<_> = streams.iter().map(|s| (s.name.as_str(), s.first_ms)).collect();
    assert_eq!(names, [("b", 10), ("a", 20)]);
    assert_eq!(logs.events(query("nothing")).await, Err(LogError::NoGroup));
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LogLimits::default());
    let logs = store.serve();
    let mut one = writer(&store, "g", "a");
    for line in 0..100_u64 {
        // Several lines share a time, and times do not come in order.
        one.function(100 - line / 3, line.to_string().as_bytes());
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = logs.events(LogQuery { after, count_max: 7, ..query("g") }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.time_ms, last.id));
        seen.extend(page);
    }
    assert_eq!(seen.len(), 100);
    assert!(seen.windows(2).all(|w| (w[0].time_ms, w[0].id) < (w[1].time_ms, w[1].id)));
    let some = LogQuery { from_ms: 90, until_ms: 95, ..query("g") };
    assert_eq!(logs.events(some).await.unwrap().len(), 15);
    let other = LogQuery { streams: vec!["b".into()], ..query("g") };
    assert!(logs.events(other).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_restart_keeps_events_and_a_cut_file_is_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LogLimits::default());
    writer(&store, "g", "a").function(1, b"before");
    writer(&store, "g", "a").function(2, b"cut off");
    drop(store);
    let file = files(dir.path()).pop().unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();

    let store = open(dir.path(), LogLimits::default());
    let logs = store.serve();
    assert_eq!(messages(&logs.events(query("g")).await.unwrap()), ["before"]);
    writer(&store, "g", "b").function(3, b"after");
    let events = logs.events(query("g")).await.unwrap();
    assert_eq!(messages(&events), ["before", "after"]);
    assert!(events[0].id < events[1].id);
    assert_eq!(files(dir.path()).len(), 1);
}

#[tokio::test]
async fn the_oldest_segment_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let limits =
        LogLimits { group_bytes_max: 8_000, segment_bytes_max: 1_000, total_bytes_max: 20_000 };
    let store = open(dir.path(), limits);
    let logs = store.serve();
    for group in ["g", "h", "i", "j"] {
        let mut one = writer(&store, group, "a");
        for line in 0..1_000_u64 {
            one.function(line, b"some twenty bytes or so");
        }
        store.flush();
        std::thread::sleep(Duration::from_millis(2));
    }
    let last = logs.events(query("j")).await.unwrap();
    assert_eq!(last.last().unwrap().time_ms, 999, "the newest is kept");
    assert!(last[0].time_ms > 700, "the oldest is gone: {}", last[0].time_ms);
    let bytes: u64 = files(dir.path()).iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(bytes <= 20_000, "{bytes}");
    assert_eq!(logs.events(query("g")).await, Err(LogError::NoGroup));
}

#[test]
fn a_flood_loses_its_own_lines_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LogLimits::default());
    let mut loud = writer(&store, "g", "loud");
    let mut quiet = writer(&store, "g", "quiet");
    let line = vec![b'x'; 100_000];
    let lost = (0..200).filter(|_| loud.function(1, &line) == Kept::No).count();
    assert!(lost > 100, "{lost}");
    assert_eq!(quiet.function(1, b"hello"), Kept::Yes);
    assert_eq!(loud.platform(1, b"END"), Kept::Yes, "the platform's lines are kept");
    store.flush();
    assert_eq!(loud.function(1, b"again"), Kept::Yes, "a new gathering, a new share");
}

#[test]
fn a_line_longer_than_the_limit_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LogLimits::default());
    let line = vec![b'x'; lamu_model::LOG_LINE_BYTES_MAX + 10];
    writer(&store, "g", "s").function(1, &line);
    store.flush();
    let name = GroupName { account: account(), region: region(), group: "g".into() };
    let segments = store.disk().segments(&name).unwrap();
    let events = reader::events(&segments, &query("g")).unwrap();
    assert_eq!(events[0].message.len(), lamu_model::LOG_LINE_BYTES_MAX);
}

fn files(dir: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

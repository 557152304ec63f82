//! The store as a whole: written, read, bounded, restarted.

use std::collections::BTreeMap;

use lamu_link::{
    GroupChange, GroupQuery, LogEnd, LogEvent, LogPlace, LogStream, NewLogEvent, NewLogGroup,
};
use lamu_model::{AccountId, LogPattern, Region};

use super::*;

const DAY_MS: u64 = 86_400_000;

fn account() -> AccountId {
    AccountId::new("000000000000")
}

fn region() -> Region {
    Region::new("us-east-1")
}

fn writer(store: &LogStore, group: &str, stream: &str) -> LogWriter {
    store.writer(StreamName::new(account(), region(), group.to_owned(), stream.to_owned()))
}

fn name(group: &str) -> LogGroupName {
    LogGroupName { account: account(), region: region(), group: group.to_owned() }
}

fn query(group: &str) -> LogQuery {
    LogQuery::all(name(group))
}

async fn group_names(logs: &LogsHandle, region: &str, prefix: &str) -> Vec<String> {
    let query = GroupQuery {
        account: account(),
        region: Region::new(region),
        prefix: prefix.into(),
        part: String::new(),
        after: None,
        count_max: 100,
    };
    let groups = logs.groups(query).await.unwrap();
    groups.into_iter().map(|group| group.name).collect()
}

async fn read(logs: &LogsHandle, query: LogQuery) -> Vec<LogEvent> {
    logs.events(query).await.unwrap().events
}

async fn page_through(
    logs: &LogsHandle,
    end: LogEnd,
    count_max: usize,
    query: LogQuery,
) -> Vec<LogEvent> {
    let mut seen: Vec<LogEvent> = Vec::new();
    let (mut after, mut before): (Option<LogPlace>, Option<LogPlace>) = (None, None);
    loop {
        let page = LogQuery { after, before, end, count_max, ..query.clone() };
        let page = logs.events(page).await.unwrap();
        assert!(page.events.len() <= count_max);
        let place = |event: &LogEvent| (event.time_ms, event.id);
        match end {
            LogEnd::Oldest => {
                after = page.events.last().map(place);
                seen.extend(page.events);
            }
            LogEnd::Newest => {
                before = page.events.first().map(place);
                seen.splice(0..0, page.events);
            }
        }
        if !page.more {
            return seen;
        }
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
    let events = read(&logs, query("/aws/lambda/f")).await;
    assert_eq!(messages(&events), ["first", "second", "third \u{e4}"]);
    assert_eq!(group_names(&logs, "us-east-1", "/aws").await, ["/aws/lambda/f"]);
    assert!(group_names(&logs, "eu-west-1", "").await.is_empty());
    let streams = logs.streams(name("/aws/lambda/f")).await.unwrap();
    let first = |stream: &LogStream| stream.events.unwrap().first_ms;
    let names: Vec<_> = streams.iter().map(|s| (s.name.as_str(), first(s))).collect();
    assert_eq!(names, [("a", 20), ("b", 10)]);
    assert_eq!(logs.events(query("nothing")).await, Err(LogError::NoGroup));
}

#[test]
fn a_store_that_was_taken_away_is_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs");
    let store = open(&path, LogLimits::default());
    dir.close().unwrap();
    writer(&store, "g", "a").function(1, b"to nobody");
    store.flush();
    drop(store);
    assert!(!path.parent().unwrap().exists());
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
    for end in [LogEnd::Oldest, LogEnd::Newest] {
        for count_max in [1, 7, 99, 100, 1_000] {
            let seen = page_through(&logs, end, count_max, query("g")).await;
            assert_eq!(seen.len(), 100, "{end:?} {count_max}");
            let places = seen.iter().map(|event| (event.time_ms, event.id));
            assert!(places.clone().zip(places.skip(1)).all(|(a, b)| a < b));
        }
    }
    let some = LogQuery { from_ms: 90, until_ms: 95, ..query("g") };
    assert_eq!(read(&logs, some).await.len(), 15);
    let named = |name: &str| StreamChoice::Named(vec![name.to_owned()]);
    let other = LogQuery { streams: named("b"), ..query("g") };
    assert_eq!(logs.events(other).await, Err(LogError::NoStream));
    let prefixed = LogQuery { streams: StreamChoice::Prefixed(vec!["b".into()]), ..query("g") };
    assert!(read(&logs, prefixed).await.is_empty());
}

#[tokio::test]
async fn both_ends_page_over_many_segments_and_only_what_matches() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { segment_bytes_max: 2_000, ..LogLimits::default() };
    let store = open(dir.path(), limits);
    let logs = store.serve();
    let mut writers = [writer(&store, "g", "even"), writer(&store, "g", "odd")];
    for line in 0..1_000_u64 {
        // A little out of order, as lines of several environments are.
        let time_ms = 10_000 + line * 10 - (line % 7) * 13;
        writers[line as usize % 2].function(time_ms, format!("line {line}").as_bytes());
        if line % 100 == 0 {
            store.flush();
        }
    }
    for restarted in [false, true] {
        let mut expected = read(&logs, query("g")).await;
        assert_eq!(expected.len(), 1_000);
        expected.retain(|event| event.stream == "odd" && event.message.contains('7'));
        let wanted = LogQuery {
            streams: StreamChoice::Named(vec!["odd".into()]),
            pattern: LogPattern::parse("?7").unwrap(),
            ..query("g")
        };
        for end in [LogEnd::Oldest, LogEnd::Newest] {
            let seen = page_through(&logs, end, 11, wanted.clone()).await;
            assert_eq!(seen, expected, "{end:?} {restarted}");
        }
        if !restarted {
            // The spans and indexes are known by now; forget them.
            store.disk().forget();
        }
    }
}

#[tokio::test]
async fn what_was_written_since_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LogLimits::default());
    let logs = store.serve();
    let mut one = writer(&store, "g", "a");
    one.function(50, b"old");
    let first = logs.events(query("g")).await.unwrap();
    assert_eq!(first.newest_id, first.events[0].id);
    let since = |id| LogQuery { newer_than: Some(id), ..query("g") };
    assert!(read(&logs, since(first.newest_id)).await.is_empty());
    // Written later, though it claims to be earlier.
    one.function(40, b"new");
    let second = logs.events(since(first.newest_id)).await.unwrap();
    assert_eq!(messages(&second.events), ["new"]);
    assert_eq!(second.newest_id, first.newest_id + 1);
    let none = logs.events(since(u64::MAX)).await.unwrap();
    assert_eq!((none.events.len(), none.newest_id), (0, second.newest_id));
    drop((store, logs, one));

    let store = open(dir.path(), LogLimits::default());
    let logs = store.serve();
    let again = logs.events(since(u64::MAX)).await.unwrap();
    assert_eq!((again.events.len(), again.newest_id), (0, second.newest_id));
}

#[tokio::test]
async fn groups_are_made_changed_listed_and_deleted_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LogLimits::default());
    let logs = store.serve();
    let tags = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    let with = NewLogGroup { tags: tags.clone(), ..NewLogGroup::default() };
    logs.create_group(name("/b"), with.clone()).await.unwrap();
    assert_eq!(logs.create_group(name("/b"), with).await, Err(LogError::GroupExists));
    logs.create_group(name("/a"), NewLogGroup::default()).await.unwrap();
    logs.change_group(name("/b"), GroupChange::Retention(Some(7))).await.unwrap();
    let missing = logs.change_group(name("/c"), GroupChange::Retention(None)).await;
    assert_eq!(missing, Err(LogError::NoGroup));
    let more: BTreeMap<_, _> = (0..50).map(|at| (at.to_string(), String::new())).collect();
    let many = logs.change_group(name("/b"), GroupChange::Tag(more)).await;
    assert_eq!(many, Err(LogError::TooManyTags { max: 50 }));
    writer(&store, "/b", "s").function(now_ms(), b"line");
    store.flush();

    drop(logs);
    drop(store);
    let store = open(dir.path(), LogLimits::default());
    let logs = store.serve();
    assert_eq!(group_names(&logs, "us-east-1", "").await, ["/a", "/b"]);
    let b = logs.group(&name("/b")).await.unwrap();
    assert_eq!((b.retention_days, b.tags), (Some(7), tags));
    assert!(b.stored_bytes > 0 && b.created_ms <= now_ms());
    assert_eq!(logs.group(&name("/")).await, Err(LogError::NoGroup));

    logs.change_group(name("/b"), GroupChange::Untag(vec!["team".into()])).await.unwrap();
    assert!(logs.group(&name("/b")).await.unwrap().tags.is_empty());
    logs.change_group(name("/b"), GroupChange::DeletionProtection(true)).await.unwrap();
    assert_eq!(logs.delete_group(name("/b")).await, Err(LogError::Protected));
    logs.change_group(name("/b"), GroupChange::DeletionProtection(false)).await.unwrap();
    logs.delete_group(name("/b")).await.unwrap();
    assert_eq!(logs.delete_group(name("/b")).await, Err(LogError::NoGroup));
    assert_eq!(logs.events(query("/b")).await, Err(LogError::NoGroup));
    // A function that is still there brings it back, without its past.
    writer(&store, "/b", "s").function(1, b"again");
    let events = read(&logs, query("/b")).await;
    assert_eq!(messages(&events), ["again"]);
    assert_eq!(logs.group(&name("/b")).await.unwrap().retention_days, None);
}

#[tokio::test]
async fn streams_are_made_written_to_and_deleted_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { segment_bytes_max: 500, ..LogLimits::default() };
    let store = open(dir.path(), limits);
    let logs = store.serve();
    logs.create_group(name("g"), NewLogGroup::default()).await.unwrap();
    logs.create_stream(name("g"), "mine".into()).await.unwrap();
    let again = logs.create_stream(name("g"), "mine".into()).await;
    assert_eq!(again, Err(LogError::StreamExists));
    let event = |time_ms| NewLogEvent { time_ms, message: format!("put {time_ms}") };
    let missing = logs.put(name("g"), "other".into(), vec![event(1)]).await;
    assert_eq!(missing, Err(LogError::NoStream));
    let made = logs.streams(name("g")).await.unwrap();
    assert_eq!((made[0].name.as_str(), made[0].events), ("mine", None));
    for time_ms in 0..100 {
        logs.put(name("g"), "mine".into(), vec![event(time_ms)]).await.unwrap();
        writer(&store, "g", "kept").function(time_ms, b"kept");
    }
    assert_eq!(read(&logs, query("g")).await.len(), 200);
    assert!(files(dir.path()).len() > 3);
    logs.delete_stream(name("g"), "mine".into()).await.unwrap();
    assert_eq!(logs.delete_stream(name("g"), "mine".into()).await, Err(LogError::NoStream));
    for _ in 0..2 {
        let left = read(&logs, query("g")).await;
        assert_eq!(left.len(), 100);
        assert!(left.iter().all(|event| event.message == "kept"));
        let streams = logs.streams(name("g")).await.unwrap();
        assert_eq!(streams.len(), 1);
        store.disk().forget();
    }
    logs.create_stream(name("g"), "mine".into()).await.unwrap();
    logs.put(name("g"), "mine".into(), vec![event(7)]).await.unwrap();
    let mine = LogQuery { streams: StreamChoice::Named(vec!["mine".into()]), ..query("g") };
    assert_eq!(messages(&read(&logs, mine).await), ["put 7"]);
}

#[tokio::test]
async fn what_is_too_old_is_not_shown_and_then_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { segment_bytes_max: 200, ..LogLimits::default() };
    let store = open(dir.path(), limits);
    let logs = store.serve();
    let now_ms = now_ms();
    logs.create_group(name("g"), NewLogGroup::default()).await.unwrap();
    let mut one = writer(&store, "g", "s");
    for days in (0..10).rev() {
        // A minute off the edge, which the clock passes meanwhile.
        one.function(now_ms - days * DAY_MS + 60_000, &[b'x'; 300]);
        store.flush();
    }
    assert_eq!(files(dir.path()).len(), 11, "ten segments and the document");
    logs.change_group(name("g"), GroupChange::Retention(Some(3))).await.unwrap();
    assert_eq!(read(&logs, query("g")).await.len(), 4);
    assert_eq!(files(dir.path()).len(), 5, "four segments and the document");
    // Days later all of it is old.
    store.disk().expire(now_ms + 4 * DAY_MS);
    assert!(read(&logs, query("g")).await.is_empty());
    assert_eq!(files(dir.path()).len(), 1);
    assert!(logs.group(&name("g")).await.is_ok(), "the group itself stays");
    logs.change_group(name("g"), GroupChange::Retention(None)).await.unwrap();
    one.function(5, b"from the seventies");
    assert_eq!(read(&logs, query("g")).await.len(), 1);
}

#[tokio::test]
async fn a_slow_group_with_retention_begins_new_segments() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LogLimits::default());
    let logs = store.serve();
    let begun_ms = now_ms();
    logs.create_group(name("g"), NewLogGroup::default()).await.unwrap();
    logs.create_stream(name("g"), "s".into()).await.unwrap();
    logs.change_group(name("g"), GroupChange::Retention(Some(1))).await.unwrap();
    for day in 0..5 {
        let time_ms = begun_ms + day * DAY_MS + 1_000 * day;
        let event = NewLogEvent { time_ms, message: day.to_string() };
        store.disk().put(&name("g"), "s", &[event], time_ms).unwrap();
    }
    store.disk().expire(begun_ms + 4 * DAY_MS + 2_000);
    let left: u64 =
        files(dir.path()).iter().filter(|f| f.extension().unwrap() == "log").count() as u64;
    assert_eq!(left, 2, "a day, and the part that just ends");
}

#[tokio::test]
async fn a_full_disk_costs_the_oldest_lines_and_then_counted_ones() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { segment_bytes_max: 1_000, ..LogLimits::default() };
    let store = open(dir.path(), limits);
    let logs = store.serve();
    store.disk().disk_bytes_max = Some(20_000);
    let mut old = writer(&store, "old", "a");
    let mut new = writer(&store, "new", "a");
    for line in 0..100 {
        old.function(line, &[b'o'; 100]);
    }
    store.flush();
    std::thread::sleep(Duration::from_millis(2));
    for line in 0..100 {
        new.function(line, &[b'n'; 100]);
    }
    assert_eq!(read(&logs, query("new")).await.len(), 100);
    let left = read(&logs, query("old")).await;
    assert!(left.len() < 100 && left.last().is_none_or(|last| last.time_ms == 99));
    let figures = store.figures();
    assert!(figures.dropped_bytes > 0 && figures.bytes <= 20_000, "{figures:?}");
    assert_eq!(figures.lost_lines, 0);

    store.disk().disk_bytes_max = Some(0);
    new.function(1_000, b"nowhere to go");
    store.flush();
    assert_eq!((store.figures().lost_lines, store.figures().lost_bytes), (1, 13));
    store.disk().disk_bytes_max = None;
    new.function(1_001, b"after");
    assert_eq!(messages(&read(&logs, query("new")).await), ["after"]);
}

#[tokio::test]
async fn too_many_groups_are_refused_and_functions_push_out_idle_ones() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LogLimits { groups_max: 3, ..LogLimits::default() });
    let logs = store.serve();
    logs.create_group(name("asked"), NewLogGroup::default()).await.unwrap();
    for group in ["one", "two", "three"] {
        writer(&store, group, "s").function(1, b"line");
        store.flush();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(group_names(&logs, "us-east-1", "").await, ["asked", "three", "two"]);
    let refused = logs.create_group(name("more"), NewLogGroup::default()).await;
    assert_eq!(refused, Err(LogError::TooManyGroups));
    for group in ["two", "three"] {
        logs.change_group(name(group), GroupChange::Retention(Some(1))).await.unwrap();
    }
    writer(&store, "four", "s").function(1, b"no room");
    store.flush();
    assert_eq!(store.figures().lost_lines, 1);
}

#[tokio::test]
async fn a_restart_keeps_events_and_a_cut_file_is_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LogLimits::default());
    writer(&store, "g", "a").function(1, b"before");
    writer(&store, "g", "a").function(2, b"cut off");
    drop(store);
    let mut segments = files(dir.path()).into_iter().filter(|f| f.extension().unwrap() == "log");
    let file = segments.next().unwrap();
    // As of the versions that kept no document.
    std::fs::remove_file(file.with_file_name("group.json")).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();

    let store = open(dir.path(), LogLimits::default());
    let logs = store.serve();
    assert_eq!(messages(&read(&logs, query("g")).await), ["before"]);
    writer(&store, "g", "b").function(3, b"after");
    let events = read(&logs, query("g")).await;
    assert_eq!(messages(&events), ["before", "after"]);
    assert!(events[0].id < events[1].id);
    assert_eq!(files(dir.path()).len(), 1);
}

#[tokio::test]
async fn the_oldest_segment_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits {
        group_bytes_max: 8_000,
        segment_bytes_max: 1_000,
        total_bytes_max: 20_000,
        ..LogLimits::default()
    };
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
    let last = read(&logs, query("j")).await;
    assert_eq!(last.last().unwrap().time_ms, 999, "the newest is kept");
    assert!(last[0].time_ms > 700, "the oldest is gone: {}", last[0].time_ms);
    let segments = files(dir.path()).into_iter().filter(|f| f.extension().unwrap() == "log");
    let bytes: u64 = segments.map(|f| f.metadata().unwrap().len()).sum();
    assert!(bytes <= 20_000, "{bytes}");
    assert!(read(&logs, query("g")).await.is_empty());
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
    let events = store.events(&query("g")).unwrap().events;
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

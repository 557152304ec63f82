//! One function for each promise of [`Metadata`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::{Change, Document, Expect, Metadata, MetadataError, Revision};

type Store = Arc<dyn Metadata>;

/// Long enough for any store; only a broken promise waits this long.
const SOON: Duration = Duration::from_secs(20);

pub async fn a_put_is_read_back(store: Store) {
    assert_eq!(store.get("function/a").await.unwrap(), None);

    for value in [Bytes::new(), Bytes::from_static(b"\0\xff any bytes"), Bytes::from_static(b"2")] {
        let revision = store.put("function/a", value.clone(), Expect::Anything).await.unwrap();
        let found = store.get("function/a").await.unwrap();
        assert_eq!(found, Some(Document { key: "function/a".into(), value, revision }));
    }
    assert_eq!(store.get("function").await.unwrap(), None, "a key is not its prefix");
}

pub async fn revisions_grow_over_all_keys(store: Store) {
    let mut last = Revision(0);
    for round in 0..3 {
        for key in ["b", "a", "c"] {
            let next = put(&store, key, &round.to_string()).await;
            assert!(next > last, "{next:?} after {last:?}");
            last = next;
        }
    }
}

pub async fn absent_admits_only_the_first(store: Store) {
    let first = store.put("k", "1".into(), Expect::Absent).await.unwrap();
    assert_conflict("k", store.put("k", "2".into(), Expect::Absent).await);
    store.delete("k", Expect::At(first)).await.unwrap();
    store.put("k", "3".into(), Expect::Absent).await.expect("it is absent again");
}

pub async fn a_revision_admits_only_itself(store: Store) {
    assert_conflict("k", store.put("k", "0".into(), Expect::At(Revision(1))).await);
    let first = put(&store, "k", "1").await;
    put(&store, "other", "1").await;
    let second = store.put("k", "2".into(), Expect::At(first)).await.unwrap();
    assert_conflict("k", store.put("k", "3".into(), Expect::At(first)).await);
    assert_conflict("k", store.put("k", "3".into(), Expect::At(Revision(second.0 + 1))).await);
    store.put("k", "3".into(), Expect::At(second)).await.unwrap();
}

pub async fn a_refused_write_changes_nothing(store: Store) {
    let revision = put(&store, "k", "kept").await;
    assert_conflict("k", store.put("k", "refused".into(), Expect::Absent).await);
    assert_conflict("k", store.delete("k", Expect::At(Revision(revision.0 + 7))).await);
    let found = store.get("k").await.unwrap().unwrap();
    assert_eq!((&found.value[..], found.revision), (&b"kept"[..], revision));
}

pub async fn a_delete_removes_and_may_be_repeated(store: Store) {
    put(&store, "k", "1").await;
    store.delete("k", Expect::Anything).await.unwrap();
    assert_eq!(store.get("k").await.unwrap(), None);
    assert_eq!(store.scan("", None, 10).await.unwrap(), []);
    store.delete("k", Expect::Anything).await.expect("it is gone already");
    store.delete("k", Expect::Absent).await.expect("it is gone already");
}

pub async fn a_delete_holds_to_what_it_expects(store: Store) {
    let first = put(&store, "k", "1").await;
    let second = put(&store, "k", "2").await;
    assert_conflict("k", store.delete("k", Expect::At(first)).await);
    assert_conflict("k", store.delete("k", Expect::Absent).await);
    assert_conflict("never", store.delete("never", Expect::At(second)).await);
    store.delete("k", Expect::At(second)).await.unwrap();
    assert_conflict("k", store.delete("k", Expect::At(second)).await);
}

pub async fn what_is_made_anew_has_a_new_revision(store: Store) {
    let first = put(&store, "k", "1").await;
    store.delete("k", Expect::Anything).await.unwrap();
    let second = put(&store, "k", "1").await;
    assert!(second > first);
    assert_conflict("k", store.put("k", "2".into(), Expect::At(first)).await);
}

pub async fn of_many_who_race_one_wins(store: Store) {
    const RACERS: usize = 64;
    for expect in [Expect::Absent, Expect::At(put(&store, "held", "start").await)] {
        let key = if expect == Expect::Absent { "free" } else { "held" };
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let store = store.clone();
                tokio::spawn(async move {
                    (racer, store.put(key, racer.to_string().into(), expect).await)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                (racer, Ok(revision)) => winners.push((racer, revision)),
                (_, lost) => assert_conflict(key, lost),
            }
        }
        let [(winner, revision)] = winners[..] else { panic!("{} won", winners.len()) };
        let found = store.get(key).await.unwrap().unwrap();
        assert_eq!((found.value, found.revision), (Bytes::from(winner.to_string()), revision));
    }
}

pub async fn concurrent_counting_loses_nothing(store: Store) {
    const WORKERS: usize = 16;
    const ROUNDS: usize = 20;
    store.put("count", "0".into(), Expect::Absent).await.unwrap();
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    loop {
                        let now = store.get("count").await.unwrap().unwrap();
                        let next = number(&now.value) + 1;
                        let expect = Expect::At(now.revision);
                        match store.put("count", next.to_string().into(), expect).await {
                            Ok(_) => break,
                            Err(MetadataError::Conflict { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let count = store.get("count").await.unwrap().unwrap();
    assert_eq!(number(&count.value), WORKERS * ROUNDS);
}

pub async fn a_scan_is_in_key_order_and_within_its_prefix(store: Store) {
    let keys = ["a", "a/", "a/b", "a/b/c", "a/é", "a/\u{10ffff}", "a/~", "a0", "b", "A/x"];
    for key in keys {
        put(&store, key, key).await;
    }
    for prefix in ["", "a", "a/", "a/b", "a/\u{10ffff}", "a/é", "z", "A"] {
        let mut expected: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).collect();
        expected.sort();
        let found = store.scan(prefix, None, 100).await.unwrap();
        let found: Vec<_> = found.iter().map(|document| &document.key).collect();
        assert_eq!(found, expected, "below {prefix:?}");
    }
}

pub async fn a_scan_takes_its_prefix_literally(store: Store) {
    for key in ["a%b/1", "axb/1", "a_b/1", "a*b/1", "a?b/1", "a[b/1", "a.b/1", "a>b/1"] {
        put(&store, key, "").await;
    }
    for prefix in ["a%", "a_", "a*", "a?", "a[", "a.", "a>"] {
        let found = store.scan(prefix, None, 100).await.unwrap();
        assert_eq!(found.len(), 1, "below {prefix:?}: {found:?}");
        assert!(found[0].key.starts_with(prefix));
    }
}

pub async fn pages_join_to_the_whole(store: Store) {
    for number in 0..23 {
        put(&store, &format!("p/{number:02}"), &number.to_string()).await;
    }
    put(&store, "o/before", "").await;
    put(&store, "q/behind", "").await;
    let whole = store.scan("p/", None, 100).await.unwrap();
    assert_eq!(whole.len(), 23);
    for size in [1, 7, 23, 24] {
        let mut joined: Vec<Document> = Vec::new();
        loop {
            let after = joined.last().map(|document| document.key.clone());
            let page = store.scan("p/", after.as_deref(), size).await.unwrap();
            assert!(page.len() <= size);
            if page.is_empty() {
                break;
            }
            joined.extend(page);
        }
        assert_eq!(joined, whole, "in pages of {size}");
    }
    assert_eq!(store.scan("p/", None, 0).await.unwrap(), []);
    assert_eq!(store.scan("p/", Some("a"), 100).await.unwrap(), whole, "after lies before");
    assert_eq!(store.scan("p/", Some("q"), 100).await.unwrap(), [], "after lies behind");
    let behind_a_gap = store.scan("p/", Some("p/055"), 1).await.unwrap();
    assert_eq!(behind_a_gap[0].key, "p/06", "after need not exist");
}

pub async fn limits_are_kept_exactly(store: Store) {
    let key = "k".repeat(1_024);
    let value = Bytes::from(vec![7; 1024 * 1024]);
    store.put(&key, value.clone(), Expect::Absent).await.expect("as large as promised");
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, value);

    let larger = Bytes::from(vec![7; 1024 * 1024 + 1]);
    assert_invalid(store.put("k", larger, Expect::Anything).await);
    let longer = "k".repeat(1_025);
    for key in [longer.as_str(), "a\0b", ""] {
        assert_invalid(store.put(key, Bytes::new(), Expect::Anything).await);
        assert_invalid(store.delete(key, Expect::Anything).await);
        assert_invalid(store.get(key).await);
    }
    assert_eq!(store.scan("", None, 10).await.unwrap().len(), 1);
}

pub async fn a_watch_begins_with_what_is_there(store: Store) {
    for key in ["w/2", "w/1", "x/1", "w/3"] {
        put(&store, key, key).await;
    }
    store.delete("w/3", Expect::Anything).await.unwrap();

    let mut watch = store.watch("w/").await.unwrap();

    let there = store.scan("w/", None, 10).await.unwrap();
    assert_eq!(there.len(), 2);
    for document in there {
        assert_eq!(next(&mut watch).await, Change::Put(document));
    }
    assert_eq!(next(&mut watch).await, Change::Caught);
    let mut nothing = store.watch("nothing/").await.unwrap();
    assert_eq!(next(&mut nothing).await, Change::Caught);
}

pub async fn a_watch_hears_every_change_in_order(store: Store) {
    let mut watch = store.watch("").await.unwrap();
    assert_eq!(next(&mut watch).await, Change::Caught);
    let mut written = Vec::new();
    for round in 0..20 {
        let (key, value) = (format!("k{}", round % 3), Bytes::from(round.to_string()));
        if round % 5 == 4 {
            store.delete(&key, Expect::Anything).await.unwrap();
            written.push((key, None));
        } else {
            store.put(&key, value.clone(), Expect::Anything).await.unwrap();
            written.push((key, Some(value)));
        }
        // Neither of these changes anything, so nobody hears of them.
        assert_conflict("k9", store.put("k9", "".into(), Expect::At(Revision(1))).await);
        store.delete("k9", Expect::Anything).await.unwrap();
    }
    let mut last = Revision(0);
    for (key, value) in written {
        let (heard, revision) = match next(&mut watch).await {
            Change::Put(document) => ((document.key, Some(document.value)), document.revision),
            Change::Deleted { key, revision } => ((key, None), revision),
            Change::Caught => panic!("caught up twice"),
        };
        assert_eq!(heard, (key, value));
        assert!(revision > last, "{revision:?} after {last:?}");
        last = revision;
    }
}

pub async fn a_watch_hears_only_its_prefix(store: Store) {
    let mut watch = store.watch("mine/").await.unwrap();
    assert_eq!(next(&mut watch).await, Change::Caught);
    for key in ["mine", "mine0", "yours/1", "mine/1"] {
        put(&store, key, "").await;
    }
    let Change::Put(first) = next(&mut watch).await else { panic!("not a put") };
    assert_eq!(first.key, "mine/1");
}

/// The state that a watcher builds is the store's, wherever between the writes
/// it began, and no change reaches it twice or goes back in time.
pub async fn a_watch_amid_writes_has_no_gap_and_no_repeat(store: Store) {
    const WRITES: usize = 400;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..WRITES / 4 {
                    let key = format!("k/{}", (round * 7 + writer) % 13);
                    if round % 6 == 5 {
                        store.delete(&key, Expect::Anything).await.unwrap();
                    } else {
                        put(&store, &key, &format!("{writer} {round}")).await;
                    }
                }
            })
        })
        .collect();
    let watchers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut watch = store.watch("").await.unwrap();
                let (mut state, mut caught, mut last) = (BTreeMap::new(), false, Revision(0));
                loop {
                    match next(&mut watch).await {
                        Change::Caught => caught = true,
                        Change::Put(document) if document.key == "end" => break state,
                        Change::Put(document) => {
                            if caught {
                                assert!(document.revision > last, "repeated or out of order");
                            }
                            last = last.max(document.revision);
                            state.insert(document.key, document.value);
                        }
                        Change::Deleted { key, revision } => {
                            assert!(caught, "a deletion before all was delivered");
                            assert!(revision > last, "repeated or out of order");
                            last = revision;
                            assert!(state.remove(&key).is_some(), "{key} was never there");
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let there = store.scan("k/", None, 100).await.unwrap();
    let there: BTreeMap<_, _> =
        there.into_iter().map(|document| (document.key, document.value)).collect();
    put(&store, "end", "").await;
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), there);
    }
}

pub async fn a_watcher_that_sleeps_is_cut_off_and_holds_up_nobody(store: Store) {
    /// More than any store keeps for one watcher.
    const WRITES: usize = 20_000;
    let mut sleeper = store.watch("").await.unwrap();
    let writers: Vec<_> = (0..200)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..WRITES / 200 {
                    put(&store, &format!("k/{writer}"), "").await;
                }
            })
        })
        .collect();
    for writer in writers {
        timeout(SOON, writer).await.expect("a sleeping watcher held up a writer").unwrap();
    }
    let mut heard = 0;
    while timeout(SOON, sleeper.recv()).await.expect("never cut off").is_some() {
        heard += 1;
    }
    assert!(heard < WRITES, "all {heard} changes were kept for one that slept");

    let mut again = store.watch("").await.unwrap();
    let mut there = 0;
    while next(&mut again).await != Change::Caught {
        there += 1;
    }
    assert_eq!(there, 200, "watching anew finds everything");
}

pub async fn a_dropped_write_is_whole_or_absent(store: Store) {
    for round in 0..50 {
        let key = format!("k/{round}");
        let write = store.put(&key, "whole".into(), Expect::Absent);
        let _ = timeout(Duration::from_micros(round * 20), write).await;
    }
    // Behind this write, whatever the dropped ones did is done.
    put(&store, "end", "").await;
    for document in store.scan("k/", None, 100).await.unwrap() {
        assert_eq!(document.value, "whole");
    }
}

async fn put(store: &Store, key: &str, value: &str) -> Revision {
    let value = Bytes::copy_from_slice(value.as_bytes());
    store.put(key, value, Expect::Anything).await.unwrap()
}

async fn next(watch: &mut mpsc::Receiver<Change>) -> Change {
    timeout(SOON, watch.recv()).await.expect("nothing was heard").expect("the watch was cut off")
}

fn number(value: &[u8]) -> usize {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

#[track_caller]
fn assert_conflict<T: std::fmt::Debug>(expected: &str, result: Result<T, MetadataError>) {
    match result {
        Err(MetadataError::Conflict { key }) if key == expected => {}
        other => panic!("{other:?} is not a conflict about {expected}"),
    }
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(result: Result<T, MetadataError>) {
    assert!(matches!(result, Err(MetadataError::Invalid { .. })), "{result:?} is not Invalid");
}

//! What [`SqliteMetadata`] promises beyond the trait.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::*;
use crate::conformance;
use crate::sqlite::hold::Hold;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_metadata_conforms() {
    let home = tempfile::tempdir().unwrap();
    let made = AtomicUsize::new(0);
    conformance::metadata(async || {
        let path = home.path().join(made.fetch_add(1, Ordering::Relaxed).to_string());
        Arc::new(SqliteMetadata::open(path).unwrap()) as Arc<dyn Metadata>
    })
    .await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let (_home, path) = place();
    let store = SqliteMetadata::open(&path).unwrap();
    let revision = store.put("a/b", "one".into(), Expect::Absent).await.unwrap();
    drop(store);

    let store = SqliteMetadata::open(&path).unwrap();

    let found = store.get("a/b").await.unwrap().unwrap();
    assert_eq!((&found.value[..], found.revision), (&b"one"[..], revision));
    store.delete("a/b", Expect::At(revision)).await.unwrap();
    drop(store);
    let store = SqliteMetadata::open(&path).unwrap();
    let next = store.put("a/b", "two".into(), Expect::Absent).await.unwrap();
    assert!(next.0 > revision.0 + 1, "the revision of the deletion was given again");
}

#[tokio::test]
async fn dropping_the_store_finishes_what_it_accepted() {
    let (_home, path) = place();
    let store = Arc::new(SqliteMetadata::open(&path).unwrap());
    let release = hold(&store).await;
    let (answer, answered) = oneshot::channel();
    let write = Write { key: "k".into(), value: Some("v".into()), expect: Expect::Absent };
    store.requests.as_ref().unwrap().send(Request::Write { write, answer }).await.unwrap();

    let dropped = tokio::task::spawn_blocking(move || drop(store));
    release.send(()).unwrap();
    dropped.await.unwrap();

    let revision = answered.await.unwrap().unwrap();
    let store = SqliteMetadata::open(&path).unwrap();
    assert_eq!(store.get("k").await.unwrap().unwrap().revision, revision);
}

#[tokio::test]
async fn writes_that_wait_share_one_commit() {
    let (_home, path) = place();
    let store = Arc::new(SqliteMetadata::open(&path).unwrap());
    let commits = Arc::new(AtomicUsize::new(0));
    let counter = commits.clone();
    let count = move |connection: &Connection| {
        connection.commit_hook(Some(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            false
        }));
    };
    on_writer(&store, count).await;
    let release = hold(&store).await;

    let writes: Vec<_> = (0..100)
        .map(|number| {
            let store = store.clone();
            // Every tenth is refused; the others must not notice.
            let expect = if number % 10 == 0 { Expect::At(Revision(99)) } else { Expect::Absent };
            let write =
                async move { store.put(&format!("k/{number}"), "v".into(), expect).await.is_ok() };
            tokio::spawn(write)
        })
        .collect();
    while store.requests.as_ref().unwrap().capacity() > INBOX_MAX - writes.len() {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();

    for (number, write) in writes.into_iter().enumerate() {
        assert_eq!(write.await.unwrap(), number % 10 != 0);
    }
    assert_eq!(commits.load(Ordering::Relaxed), 1);
    assert_eq!(store.scan("k/", None, 200).await.unwrap().len(), 90);
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_passes() {
    let (_home, path) = place();
    let store = Arc::new(SqliteMetadata::open(&path).unwrap());
    let before = store.put("kept", "v".into(), Expect::Absent).await.unwrap();
    let mut watch = store.watch("").await.unwrap();
    set_pages_max(&store, 12).await;

    let large = Bytes::from(vec![1; 200_000]);
    let refused = store.put("large", large.clone(), Expect::Absent).await.unwrap_err();
    assert!(matches!(refused, MetadataError::Unavailable { .. }), "{refused:?}");
    assert_eq!(store.get("large").await.unwrap(), None);
    assert_eq!(store.get("kept").await.unwrap().unwrap().revision, before);
    store.put("kept", "w".into(), Expect::At(before)).await.expect("this still fits");

    set_pages_max(&store, 1 << 30).await;
    store.put("large", large, Expect::Absent).await.expect("there is room again");

    let mut heard = Vec::new();
    while let Ok(change) = watch.try_recv() {
        heard.extend(match change {
            Change::Put(document) => Some(document.key),
            _ => None,
        });
    }
    assert_eq!(heard, ["kept", "kept", "large"]);
}

#[tokio::test]
async fn a_write_too_large_for_the_disk_does_not_fail_its_group() {
    let (_home, path) = place();
    let store = Arc::new(SqliteMetadata::open(&path).unwrap());
    set_pages_max(&store, 12).await;
    let release = hold(&store).await;

    let put = |key: &'static str, bytes: usize| {
        let store = store.clone();
        tokio::spawn(async move { store.put(key, vec![1; bytes].into(), Expect::Absent).await })
    };
    let writes = [put("a", 10), put("b", 200_000), put("c", 10)];
    while store.requests.as_ref().unwrap().capacity() > INBOX_MAX - writes.len() {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();

    let mut ok = Vec::new();
    for write in writes {
        ok.push(write.await.unwrap().is_ok());
    }
    assert_eq!(ok, [true, false, true]);
    assert_eq!(store.scan("", None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_second_opening_is_refused_and_said_why() {
    let (_home, path) = place();
    let store = SqliteMetadata::open(&path).unwrap();

    let refused = SqliteMetadata::open(&path).unwrap_err();

    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(refused.to_string().contains("could not lock"), "{refused}");
    assert!(source.contains("another lamu process"), "{source}");
    drop(store);
    SqliteMetadata::open(&path).expect("the first one is gone");
}

#[test]
fn the_files_are_the_owners_alone() {
    let (home, path) = place();
    let store = SqliteMetadata::open(&path).unwrap();
    for entry in std::fs::read_dir(home.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.path());
    }
    drop(store);
}

/// Flips one byte at a time, all over the file: each flip is either found or
/// changes nothing that was stored.
#[tokio::test]
async fn damage_is_found_and_never_returned_as_data() {
    let (_home, path) = place();
    let store = SqliteMetadata::open(&path).unwrap();
    for number in 0..60u8 {
        let value = vec![number; 40 * usize::from(number)];
        store.put(&format!("k/{number}"), value.into(), Expect::Absent).await.unwrap();
    }
    let stored = store.scan("", None, 100).await.unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    assert!(!with_suffix(&path, "-wal").exists(), "everything is in the file itself");

    let (mut found, mut harmless) = (0, 0);
    for at in (0..whole.len()).step_by(97) {
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[whole[at] ^ 0x55], at as u64).unwrap();
        match SqliteMetadata::open(&path) {
            Err(MetadataError::Damaged { what }) => {
                assert!(!what.is_empty());
                found += 1;
            }
            // Damage to the file's identity makes it somebody else's.
            Err(MetadataError::Invalid { .. }) => found += 1,
            Err(error) => panic!("at {at}: {error:?}"),
            Ok(store) => {
                assert_eq!(store.scan("", None, 100).await.unwrap(), stored, "flipped at {at}");
                harmless += 1;
            }
        }
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(with_suffix(&path, suffix));
        }
        std::fs::write(&path, &whole).unwrap();
    }
    // Free space in pages holds nothing, and a page of values has some.
    assert!(found > harmless, "found {found}, harmless {harmless}");
}

#[tokio::test]
async fn damage_while_open_is_found_when_read() {
    let (_home, path) = place();
    let store = Arc::new(SqliteMetadata::open(&path).unwrap());
    store.put("k", "the value".into(), Expect::Absent).await.unwrap();
    on_writer(&store, |connection| {
        connection.execute("UPDATE document SET value = x'00' WHERE key = 'k'", []).unwrap();
    })
    .await;

    for result in [store.get("k").await.map(|_| ()), store.scan("", None, 9).await.map(|_| ())] {
        assert!(matches!(result, Err(MetadataError::Damaged { .. })), "{result:?}");
    }
}

#[test]
fn a_cut_off_or_foreign_file_is_refused() {
    let (_home, path) = place();
    drop(SqliteMetadata::open(&path).unwrap());
    let whole = std::fs::read(&path).unwrap();

    std::fs::write(&path, &whole[..whole.len() - 4096]).unwrap();
    let cut = SqliteMetadata::open(&path).unwrap_err();
    assert!(matches!(cut, MetadataError::Damaged { .. }), "{cut:?}");

    std::fs::write(&path, "not a database, but some text of a certain length\n".repeat(99))
        .unwrap();
    let text = SqliteMetadata::open(&path).unwrap_err();
    assert!(matches!(text, MetadataError::Damaged { .. }), "{text:?}");

    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let foreign = SqliteMetadata::open(&path).unwrap_err();
    assert!(foreign.to_string().contains("not this store's"), "{foreign}");
}

#[test]
fn a_file_of_a_later_lamu_is_left_alone() {
    let (_home, path) = place();
    drop(SqliteMetadata::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();

    let refused = SqliteMetadata::open(&path).unwrap_err();

    assert!(refused.to_string().contains("schema 2"), "{refused}");
}

fn place() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("metadata.sqlite");
    (home, path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

async fn on_writer(store: &SqliteMetadata, work: impl FnOnce(&Connection) + Send + 'static) {
    let (done, wait) = oneshot::channel();
    let hold = Hold::new(move |connection| {
        work(connection);
        let _ = done.send(());
    });
    store.requests.as_ref().unwrap().send(Request::Hold(hold)).await.unwrap();
    wait.await.unwrap();
}

/// Stops the writer until something is sent.
async fn hold(store: &SqliteMetadata) -> std::sync::mpsc::Sender<()> {
    let (held, holds) = oneshot::channel();
    let (release, released) = std::sync::mpsc::channel();
    let hold = Hold::new(move |_| {
        held.send(()).unwrap();
        released.recv().unwrap();
    });
    store.requests.as_ref().unwrap().send(Request::Hold(hold)).await.unwrap();
    holds.await.unwrap();
    release
}

async fn set_pages_max(store: &SqliteMetadata, pages: u32) {
    on_writer(store, move |connection| {
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    })
    .await;
}

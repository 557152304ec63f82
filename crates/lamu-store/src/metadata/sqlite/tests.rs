//! What SQLite adds to the promises of the trait.

use super::*;

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("metadata.sqlite");
    let store = SqliteMetadata::open(&path).unwrap();
    let revision = store.put("a/b", "one".into(), Expect::Absent).await.unwrap();
    drop(store);

    let store = SqliteMetadata::open(&path).unwrap();

    let found = store.get("a/b").await.unwrap().unwrap();
    assert_eq!((&found.value[..], found.revision), (&b"one"[..], revision));
    let next = store.put("a/b", "two".into(), Expect::At(revision)).await.unwrap();
    assert!(next > revision);
}

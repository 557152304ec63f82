//! One function for each promise of [`Packages`].

use std::sync::Arc;

use bytes::Bytes;
use lamu_model::Digest;

use crate::{Packages, PackagesError};

type Store = Arc<dyn Packages>;

pub async fn a_package_is_read_back_by_its_digest(store: Store) {
    for bytes in [some_bytes(1), some_bytes(4_096), some_bytes(3 * 1024 * 1024 + 17)] {
        let digest = store.put(bytes.clone()).await.unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(store.get(&digest).await.unwrap(), bytes);
        assert_eq!(store.size(&digest).await.unwrap(), Some(bytes.len() as u64));
    }
}

pub async fn an_empty_package_is_a_package(store: Store) {
    let digest = store.put(Bytes::new()).await.unwrap();
    assert_eq!(store.get(&digest).await.unwrap(), Bytes::new());
    assert_eq!(store.size(&digest).await.unwrap(), Some(0));
    assert_eq!(store.list().await.unwrap(), [digest]);
}

pub async fn putting_twice_keeps_one(store: Store) {
    let bytes = some_bytes(100);
    let digest = store.put(bytes.clone()).await.unwrap();
    assert_eq!(store.put(bytes.clone()).await.unwrap(), digest);
    assert_eq!(store.list().await.unwrap(), [digest]);
    assert_eq!(store.get(&digest).await.unwrap(), bytes);
}

pub async fn many_may_put_the_same_at_once(store: Store) {
    let bytes = some_bytes(200_000);
    let puts: Vec<_> = (0..16)
        .map(|_| {
            let (store, bytes) = (store.clone(), bytes.clone());
            tokio::spawn(async move {
                let digest = store.put(bytes.clone()).await.unwrap();
                assert_eq!(store.get(&digest).await.unwrap(), bytes);
            })
        })
        .collect();
    for put in puts {
        put.await.unwrap();
    }
    assert_eq!(store.list().await.unwrap(), [Digest::of(&bytes)]);
}

pub async fn a_range_is_clipped_to_the_package(store: Store) {
    let bytes = some_bytes(1_000);
    let digest = store.put(bytes.clone()).await.unwrap();
    let get = async |range| store.get_range(&digest, range).await.unwrap();
    assert_eq!(get(0..1_000).await, bytes);
    assert_eq!(get(10..20).await, bytes[10..20]);
    assert_eq!(get(999..5_000).await, bytes[999..]);
    assert_eq!(get(1_000..1_001).await, Bytes::new());
    assert_eq!(get(5_000..u64::MAX).await, Bytes::new());
    assert_eq!(get(7..7).await, Bytes::new());
}

pub async fn what_is_missing_is_said_to_be(store: Store) {
    store.put(some_bytes(10)).await.unwrap();
    let never = Digest::of(b"never stored");
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("copy");
    assert_missing(never, store.get(&never).await);
    assert_missing(never, store.get_range(&never, 0..1).await);
    assert_missing(never, store.copy_to(&never, &file).await);
    assert!(!file.exists(), "a copy of nothing was left behind");
    assert_eq!(store.size(&never).await.unwrap(), None);
}

pub async fn a_copy_has_all_bytes(store: Store) {
    let home = tempfile::tempdir().unwrap();
    for length in [0, 1, 1024 * 1024, 2 * 1024 * 1024 + 1] {
        let bytes = some_bytes(length);
        let digest = store.put(bytes.clone()).await.unwrap();
        let file = home.path().join(length.to_string());
        assert_eq!(store.copy_to(&digest, &file).await.unwrap(), length as u64);
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
    }
}

pub async fn a_copy_never_overwrites(store: Store) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("there");
    std::fs::write(&file, "precious").unwrap();
    let digest = store.put(some_bytes(10)).await.unwrap();
    let refused = store.copy_to(&digest, &file).await.unwrap_err();
    assert!(matches!(refused, PackagesError::Unavailable { .. }), "{refused:?}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

pub async fn a_delete_removes_and_may_be_repeated(store: Store) {
    let digest = store.put(some_bytes(10)).await.unwrap();
    let other = store.put(some_bytes(11)).await.unwrap();
    store.delete(&digest).await.unwrap();
    assert_missing(digest, store.get(&digest).await);
    store.delete(&digest).await.expect("it is gone already");
    assert_eq!(store.list().await.unwrap(), [other]);
    store.put(some_bytes(10)).await.expect("it may come back");
    assert_eq!(store.size(&digest).await.unwrap(), Some(10));
}

pub async fn the_list_is_what_is_stored(store: Store) {
    assert_eq!(store.list().await.unwrap(), []);
    let mut stored = Vec::new();
    for length in 0..50 {
        stored.push(store.put(some_bytes(length)).await.unwrap());
    }
    stored.sort();
    let mut listed = store.list().await.unwrap();
    listed.sort();
    assert_eq!(listed, stored);
}

/// Bytes that repeat nowhere soon, so a misplaced piece is noticed.
fn some_bytes(length: usize) -> Bytes {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[track_caller]
fn assert_missing<T: std::fmt::Debug>(expected: Digest, result: Result<T, PackagesError>) {
    match result {
        Err(PackagesError::Missing { digest }) if digest == expected => {}
        other => panic!("{other:?} does not say that {expected} is missing"),
    }
}

//! What the package cache promises, on a real directory.

use std::io::{Cursor, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use lamu_store::DirPackages;
use tokio::sync::Notify;
use zip::write::SimpleFileOptions;

use super::*;

/// What a package of [`zipped`] takes: its bytes, one file, and the directory.
const fn taken(bytes: u64) -> u64 {
    bytes + 2 * ENTRY_BYTES
}

#[tokio::test]
async fn a_package_is_unpacked_where_others_can_read_it() {
    let host = Host::new();
    let digest = host.put(b"print()", 1_000).await;

    let unpacked = host.open(u64::MAX).get(&digest).await.unwrap();

    let file = unpacked.path.join("f");
    assert_eq!(std::fs::read(&file).unwrap().len(), 1_000);
    assert_eq!((unpacked.digest, unpacked.bytes), (digest, taken(1_000)));
    let mut directory = unpacked.path.as_path();
    while directory != host.home.path() {
        assert_eq!(mode(directory) & 0o005, 0o005, "{directory:?} lets nobody through");
        directory = directory.parent().unwrap();
    }
    assert_eq!(mode(&file), 0o644);
    assert_eq!(host.tree(), [".lock", &digest.to_string()]);
    let mut inside: Vec<_> = names(&host.cache.join(digest.to_string()));
    inside.sort();
    assert_eq!(inside, ["code", "complete"], "the archive is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_ask_it_is_unpacked_once() {
    let host = Host::new();
    let digest = host.put(b"x", 50_000).await;
    let cache = host.open(u64::MAX);
    let askers: Vec<_> = (0..100)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get(&digest).await.unwrap() })
        })
        .collect();
    let mut unpacked = Vec::new();
    for asker in askers {
        unpacked.push(asker.await.unwrap());
    }
    assert_eq!(host.packages.copies.load(Ordering::SeqCst), 1);
    assert!(unpacked.iter().all(|one| Arc::ptr_eq(one, &unpacked[0])));
    assert_eq!(cache.bytes(), taken(50_000));
}

#[tokio::test]
async fn an_asker_that_leaves_does_not_stop_the_unpacking() {
    let host = Host::new();
    let digest = host.put(b"x", 10).await;
    let cache = host.open(u64::MAX);
    let gate = host.packages.close();
    let leaving = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get(&digest).await }
    });
    host.packages.asked.notified().await;
    let staying = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get(&digest).await }
    });
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());

    drop(gate);

    staying.await.unwrap().unwrap();
    assert_eq!(host.packages.copies.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_longest_unused_goes_when_room_is_needed() {
    let host = Host::new();
    let cache = host.open(3 * taken(1_000));
    let mut digests = Vec::new();
    for name in [b"a", b"b", b"c"] {
        digests.push(host.put(name, 1_000).await);
        cache.get(digests.last().unwrap()).await.unwrap();
    }
    cache.get(&digests[0]).await.unwrap();

    let fourth = host.put(b"d", 1_000).await;
    cache.get(&fourth).await.unwrap();

    let mut kept = vec![".lock".to_owned()];
    kept.extend([digests[0], digests[2], fourth].iter().map(Digest::to_string));
    kept.sort();
    assert_eq!(host.tree(), kept);
    assert_eq!(cache.bytes(), 3 * taken(1_000));
    cache.get(&digests[1]).await.expect("it comes back");
}

#[tokio::test]
async fn what_is_used_stays_and_too_much_is_refused() {
    let host = Host::new();
    let cache = host.open(2 * taken(1_000));
    let (a, b) = (host.put(b"a", 1_000).await, host.put(b"b", 1_000).await);
    let c = host.put(b"c", 1_000).await;
    let first = cache.get(&a).await.unwrap();
    let second = cache.get(&b).await.unwrap();

    let refused = cache.get(&c).await.unwrap_err();

    assert!(matches!(refused, PackageError::Full { .. }), "{refused:?}");
    assert!(first.path.join("f").is_file() && second.path.join("f").is_file());
    assert_eq!(host.tree().len(), 3, "{:?}", host.tree());

    // `a` was used first and is still used, so the other one goes.
    drop(second);
    let third = cache.get(&c).await.unwrap();
    assert!(first.path.is_dir() && third.path.is_dir());
    assert!(!host.cache.join(b.to_string()).exists());
}

#[tokio::test]
async fn a_failure_is_told_to_all_and_is_not_kept() {
    let host = Host::new();
    let cache = host.open(u64::MAX);
    let missing = Digest::of(b"nowhere");
    let error = cache.get(&missing).await.unwrap_err();
    assert!(matches!(error, PackageError::Missing { digest } if digest == missing), "{error:?}");

    let garbage = host.packages.inner.put("not an archive".into()).await.unwrap();
    let (one, other) = tokio::join!(cache.get(&garbage), cache.get(&garbage));
    for result in [one, other] {
        let Err(PackageError::Unusable { source, .. }) = result else { panic!("{result:?}") };
        assert!(source.to_string().contains("cannot be unpacked"), "{source}");
    }
    assert_eq!(host.tree(), [".lock"]);

    let late = host.put(b"late", 10).await;
    host.packages.inner.delete(&late).await.unwrap();
    cache.get(&late).await.unwrap_err();
    host.put(b"late", 10).await;
    cache.get(&late).await.expect("it is there now");
}

#[tokio::test]
async fn a_crash_in_the_task_is_told_and_passes() {
    let host = Host::new();
    let digest = host.put(b"x", 10).await;
    let cache = host.open(u64::MAX);
    host.packages.panics.store(1, Ordering::SeqCst);

    let error = cache.get(&digest).await.unwrap_err();

    assert!(matches!(error, PackageError::Unavailable { .. }), "{error:?}");
    cache.get(&digest).await.unwrap();
}

#[tokio::test]
async fn finished_packages_are_used_again_after_reopening() {
    let host = Host::new();
    let digest = host.put(b"x", 1_000).await;
    let path = host.open(u64::MAX).get(&digest).await.unwrap().path.clone();
    host.wait_until_closed().await;

    let cache = host.open(u64::MAX);

    assert_eq!(cache.bytes(), taken(1_000));
    assert_eq!(cache.get(&digest).await.unwrap().path, path);
    assert_eq!(host.packages.copies.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn opening_removes_what_is_not_whole_and_what_is_too_much() {
    let host = Host::new();
    let mut digests = Vec::new();
    {
        let cache = host.open(u64::MAX);
        for name in [b"a", b"b", b"c", b"d"] {
            digests.push(host.put(name, 1_000).await);
            cache.get(digests.last().unwrap()).await.unwrap();
        }
    }
    host.wait_until_closed().await;
    let in_cache = |name: &str| host.cache.join(name);
    // Crashes while unpacking, while removing, and of the machine.
    std::fs::create_dir_all(in_cache("tmp-crash/code/deep")).unwrap();
    std::fs::write(in_cache("tmp-crash/archive.zip"), "half").unwrap();
    std::fs::write(in_cache("stray"), "").unwrap();
    let complete = |digest: &Digest| in_cache(&digest.to_string()).join("complete");
    std::fs::remove_file(complete(&digests[0])).unwrap();
    std::fs::write(complete(&digests[1]), "9192\nanother-boot\n").unwrap();
    // Of the two that remain the newer one fits.
    let older = File::options().write(true).open(complete(&digests[2])).unwrap();
    older.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let cache = host.open(taken(1_000));

    assert_eq!(cache.bytes(), taken(1_000));
    let left = host.tree();
    assert!(left == [".lock".to_owned(), digests[3].to_string()], "{left:?}");
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let host = Host::new();
    let cache = host.open(u64::MAX);
    let refused = PackageCache::open(&host.cache, 1, host.packages.clone()).unwrap_err();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(source.contains("another lamu process"), "{source}");
    drop(cache);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_uses_never_loses_what_is_held() {
    const PACKAGES: usize = 12;
    let host = Host::new();
    let mut digests = Vec::new();
    for number in 0..PACKAGES {
        digests.push(host.put(&[number as u8], 2_000).await);
    }
    // At most 6 are held at once, so there always is room for one more.
    let bytes_max = 7 * taken(2_000);
    let cache = host.open(bytes_max);
    let users: Vec<_> = (0..6)
        .map(|user| {
            let (cache, digests) = (cache.clone(), digests.clone());
            tokio::spawn(async move {
                for round in 0..40 {
                    let number = (user * 7 + round * 5) % PACKAGES;
                    let unpacked = cache.get(&digests[number]).await.unwrap();
                    tokio::task::yield_now().await;
                    let bytes = std::fs::read(unpacked.path.join("f")).unwrap();
                    assert_eq!(bytes, vec![number as u8; 2_000]);
                }
            })
        })
        .collect();
    for user in users {
        user.await.unwrap();
    }
    assert!(cache.bytes() <= bytes_max);
    assert!(host.tree().iter().all(|name| !name.starts_with("tmp-")), "{:?}", host.tree());
}

/// A directory with a package store and a place for a cache.
struct Host {
    home: TempDir,
    cache: PathBuf,
    packages: Arc<Watched>,
}

impl Host {
    fn new() -> Host {
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let packages = Watched {
            inner: DirPackages::open(home.path().join("packages")).unwrap(),
            copies: AtomicUsize::new(0),
            panics: AtomicUsize::new(0),
            asked: Notify::new(),
            open: Arc::new(Semaphore::new(1)),
        };
        Host { cache: home.path().join("cache"), packages: Arc::new(packages), home }
    }

    fn open(&self, bytes_max: u64) -> PackageCache {
        PackageCache::open(&self.cache, bytes_max, self.packages.clone()).unwrap()
    }

    async fn put(&self, what: &[u8], bytes: usize) -> Digest {
        self.packages.inner.put(zipped(what, bytes)).await.unwrap()
    }

    /// The task that unpacked last may hold the cache for a moment longer.
    async fn wait_until_closed(&self) {
        while Arc::strong_count(&self.packages) > 1 {
            tokio::task::yield_now().await;
        }
    }

    fn tree(&self) -> Vec<String> {
        let mut names = names(&self.cache);
        names.sort();
        names
    }
}

/// A package store that counts, and that a test can hold up.
#[derive(Debug)]
struct Watched {
    inner: DirPackages,
    copies: AtomicUsize,
    panics: AtomicUsize,
    asked: Notify,
    open: Arc<Semaphore>,
}

impl Watched {
    /// Holds up all copies until the result is dropped.
    fn close(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.open.clone().try_acquire_owned().unwrap()
    }
}

#[async_trait]
impl Packages for Watched {
    async fn put(&self, bytes: Bytes) -> Result<Digest, PackagesError> {
        self.inner.put(bytes).await
    }

    async fn get(&self, digest: &Digest) -> Result<Bytes, PackagesError> {
        self.inner.get(digest).await
    }

    async fn get_range(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, PackagesError> {
        self.inner.get_range(digest, range).await
    }

    async fn copy_to(&self, digest: &Digest, file: &Path) -> Result<u64, PackagesError> {
        self.copies.fetch_add(1, Ordering::SeqCst);
        self.asked.notify_one();
        if self.panics.swap(0, Ordering::SeqCst) > 0 {
            panic!("the test wants this");
        }
        let _open = self.open.acquire().await.unwrap();
        self.inner.copy_to(digest, file).await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, PackagesError> {
        self.inner.size(digest).await
    }

    async fn delete(&self, digest: &Digest) -> Result<(), PackagesError> {
        self.inner.delete(digest).await
    }

    async fn list(&self) -> Result<Vec<Digest>, PackagesError> {
        self.inner.list().await
    }
}

/// An archive of one file `f` with so many bytes, all the first of `what`.
fn zipped(what: &[u8], bytes: usize) -> Bytes {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("f", SimpleFileOptions::default().unix_permissions(0o644)).unwrap();
    writer.write_all(&vec![what[0]; bytes]).unwrap();
    writer.finish().unwrap().into_inner().into()
}

fn names(directory: &Path) -> Vec<String> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

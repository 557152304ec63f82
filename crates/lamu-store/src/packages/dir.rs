//! [`Packages`] in one directory: `ab/cdef…`, the digest in hex.
//!
//! A package is written beside the others, flushed, and renamed to its name,
//! so a name always has all of its bytes. Readers check them again: what a
//! disk returns later need not be what it was given.
//!
//! Not here: which packages are still wanted (`lamu_frontend`), unpacking
//! ([`crate::archive`]).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use lamu_model::Digest;
use sha2::{Digest as _, Sha256};

use super::{Packages, PackagesError};

/// Where packages grow until they have their name.
const INCOMING: &str = "incoming";

/// Read and checked at a time: large enough that calls cost nothing, small
/// enough that many copies at once stay small.
const PIECE_BYTES: usize = 1024 * 1024;

/// Packages below one directory, which several processes may share.
#[derive(Clone, Debug)]
pub struct DirPackages {
    root: PathBuf,
}

impl DirPackages {
    /// Opens or creates the directory, readable by its owner alone, and
    /// removes what crashed writers left.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, PackagesError> {
        let root = dir.as_ref().to_path_buf();
        make_dirs(&root)
            .and_then(|()| remove_leftovers(&root.join(INCOMING)))
            .map_err(|source| unavailable(format!("open {}", root.display()), source))?;
        Ok(Self { root })
    }

    fn folder(&self, digest: &Digest) -> PathBuf {
        self.root.join(&digest.to_string()[..2])
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder(digest).join(&digest.to_string()[2..])
    }

    fn open_package(&self, digest: &Digest) -> Result<File, PackagesError> {
        File::open(self.path(digest)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => PackagesError::Missing { digest: *digest },
            _ => unavailable(format!("open package {digest}"), source),
        })
    }

    fn put_now(&self, bytes: &[u8]) -> Result<Digest, PackagesError> {
        let digest = Digest::of(bytes);
        let step = |source| unavailable(format!("write package {digest}"), source);
        let there = match std::fs::metadata(self.path(&digest)) {
            Ok(metadata) => metadata.len() == bytes.len() as u64,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(step(error)),
        };
        if !there {
            let file = tempfile::Builder::new()
                .prefix("put-")
                .tempfile_in(self.root.join(INCOMING))
                .map_err(step)?;
            // Tells a later `open` that its writer lives.
            file.as_file().lock().map_err(step)?;
            file.as_file().write_all(bytes).map_err(step)?;
            file.as_file().sync_all().map_err(step)?;
            file.persist(self.path(&digest)).map_err(|error| step(error.error))?;
        }
        // Also when it was there: the one who put it may not have come this far.
        flush(&self.folder(&digest)).map_err(step)?;
        Ok(digest)
    }

    fn get_now(&self, digest: &Digest) -> Result<Bytes, PackagesError> {
        let mut bytes = Vec::new();
        self.open_package(digest)?
            .read_to_end(&mut bytes)
            .map_err(|source| unavailable(format!("read package {digest}"), source))?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes.into()),
            false => Err(PackagesError::Damaged { digest: *digest }),
        }
    }

    fn get_range_now(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, PackagesError> {
        let mut file = self.open_package(digest)?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(range.start))
            .and_then(|_| file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes))
            .map_err(|source| unavailable(format!("read package {digest}"), source))?;
        Ok(bytes.into())
    }

    fn copy_to_now(&self, digest: &Digest, path: &Path) -> Result<u64, PackagesError> {
        let from = self.open_package(digest)?;
        let step =
            |source| unavailable(format!("copy package {digest} to {}", path.display()), source);
        let to =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(step)?;
        let copied = match copy(from, to) {
            Ok((found, bytes)) if found == *digest => return Ok(bytes),
            Ok(_) => PackagesError::Damaged { digest: *digest },
            Err(source) => step(source),
        };
        // Half a package helps nobody. What went wrong first is what is told.
        let _ = std::fs::remove_file(path);
        Err(copied)
    }

    fn size_now(&self, digest: &Digest) -> Result<Option<u64>, PackagesError> {
        match std::fs::metadata(self.path(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(unavailable(format!("look at package {digest}"), source)),
        }
    }

    fn delete_now(&self, digest: &Digest) -> Result<(), PackagesError> {
        match std::fs::remove_file(self.path(digest)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(unavailable(format!("delete package {digest}"), source)),
        }
        flush(&self.folder(digest))
            .map_err(|source| unavailable(format!("delete package {digest}"), source))
    }

    fn list_now(&self) -> Result<Vec<Digest>, PackagesError> {
        let list = || -> io::Result<Vec<Digest>> {
            let mut digests = Vec::new();
            for folder in folders() {
                for entry in std::fs::read_dir(self.root.join(&folder))? {
                    let name = entry?.file_name();
                    let digest =
                        name.to_str().and_then(|rest| Digest::parse(&(folder.clone() + rest)));
                    digests.extend(digest);
                }
            }
            Ok(digests)
        };
        list().map_err(|source| unavailable("list its packages".into(), source))
    }

    /// Away from the async threads: every step here may wait for the disk.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DirPackages) -> Result<T, PackagesError> + Send + 'static,
    ) -> Result<T, PackagesError> {
        let packages = self.clone();
        match tokio::task::spawn_blocking(move || work(&packages)).await {
            Ok(result) => result,
            Err(source) => Err(unavailable("finish".into(), io::Error::other(source))),
        }
    }
}

#[async_trait]
impl Packages for DirPackages {
    async fn put(&self, bytes: Bytes) -> Result<Digest, PackagesError> {
        self.run(move |packages| packages.put_now(&bytes)).await
    }

    async fn get(&self, digest: &Digest) -> Result<Bytes, PackagesError> {
        let digest = *digest;
        self.run(move |packages| packages.get_now(&digest)).await
    }

    async fn get_range(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, PackagesError> {
        let digest = *digest;
        self.run(move |packages| packages.get_range_now(&digest, range)).await
    }

    async fn copy_to(&self, digest: &Digest, file: &Path) -> Result<u64, PackagesError> {
        let (digest, file) = (*digest, file.to_path_buf());
        self.run(move |packages| packages.copy_to_now(&digest, &file)).await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, PackagesError> {
        let digest = *digest;
        self.run(move |packages| packages.size_now(&digest)).await
    }

    async fn delete(&self, digest: &Digest) -> Result<(), PackagesError> {
        let digest = *digest;
        self.run(move |packages| packages.delete_now(&digest)).await
    }

    async fn list(&self) -> Result<Vec<Digest>, PackagesError> {
        self.run(DirPackages::list_now).await
    }
}

/// All folders at once, so no later `put` has to make and flush one.
fn make_dirs(root: &Path) -> io::Result<()> {
    let mut make = DirBuilder::new();
    make.recursive(true).mode(0o700);
    make.create(root.join(INCOMING))?;
    folders().try_for_each(|folder| make.create(root.join(folder)))?;
    flush(root)
}

fn folders() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|first| format!("{first:02x}"))
}

/// A file that is locked belongs to a writer that lives.
fn remove_leftovers(incoming: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(incoming)? {
        let path = entry?.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if file.try_lock().is_ok() {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => tracing::info!(path = %path.display(), "removed an unfinished package"),
            }
        }
    }
    Ok(())
}

fn copy(mut from: File, mut to: File) -> io::Result<(Digest, u64)> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) => return Ok((Digest(hash.finalize().into()), bytes)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&piece[..count]);
        to.write_all(&piece[..count])?;
        bytes += count as u64;
    }
}

fn flush(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn unavailable(step: String, source: io::Error) -> PackagesError {
    PackagesError::Unavailable { step, source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::conformance;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn dir_packages_conforms() {
        let home = tempfile::tempdir().unwrap();
        let made = AtomicUsize::new(0);
        conformance::packages(async || {
            let dir = home.path().join(made.fetch_add(1, Ordering::Relaxed).to_string());
            Arc::new(DirPackages::open(dir).unwrap()) as Arc<dyn Packages>
        })
        .await;
    }

    #[tokio::test]
    async fn packages_are_there_after_reopening() {
        let home = tempfile::tempdir().unwrap();
        let digest = DirPackages::open(home.path()).unwrap().put("abc".into()).await.unwrap();

        let packages = DirPackages::open(home.path()).unwrap();

        assert_eq!(packages.get(&digest).await.unwrap(), "abc");
        let name = digest.to_string();
        assert!(home.path().join(&name[..2]).join(&name[2..]).is_file());
    }

    #[tokio::test]
    async fn a_changed_byte_is_damage_to_every_reader_of_the_whole() {
        let home = tempfile::tempdir().unwrap();
        let packages = DirPackages::open(home.path().join("packages")).unwrap();
        let digest = packages.put(vec![7; 3 * PIECE_BYTES].into()).await.unwrap();
        let file = OpenOptions::new().write(true).open(packages.path(&digest)).unwrap();
        file.write_all_at(&[8], 2 * PIECE_BYTES as u64).unwrap();

        let got = packages.get(&digest).await.unwrap_err();
        let copy = home.path().join("copy");
        let copied = packages.copy_to(&digest, &copy).await.unwrap_err();

        assert!(matches!(got, PackagesError::Damaged { .. }), "{got:?}");
        assert!(matches!(copied, PackagesError::Damaged { .. }), "{copied:?}");
        assert!(!copy.exists(), "a damaged copy was left behind");
    }

    #[tokio::test]
    async fn a_cut_off_package_is_mended_by_putting_it_again() {
        let home = tempfile::tempdir().unwrap();
        let packages = DirPackages::open(home.path()).unwrap();
        let digest = packages.put("some bytes".into()).await.unwrap();
        std::fs::write(packages.path(&digest), "some").unwrap();

        packages.put("some bytes".into()).await.unwrap();

        assert_eq!(packages.get(&digest).await.unwrap(), "some bytes");
    }

    #[tokio::test]
    async fn opening_removes_what_crashed_writers_left_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let packages = DirPackages::open(home.path()).unwrap();
        let digest = packages.put("kept".into()).await.unwrap();
        let crashed = home.path().join(INCOMING).join("put-crashed");
        let living = home.path().join(INCOMING).join("put-living");
        std::fs::write(&crashed, "half").unwrap();
        let writing = File::create(&living).unwrap();
        writing.lock().unwrap();

        let again = DirPackages::open(home.path()).unwrap();

        assert!(!crashed.exists());
        assert!(living.exists());
        assert_eq!(again.list().await.unwrap(), [digest]);
    }

    #[tokio::test]
    async fn a_put_that_fails_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let packages = DirPackages::open(home.path()).unwrap();
        let folder = packages.folder(&Digest::of(b"abc"));
        std::fs::remove_dir(&folder).unwrap();

        let failed = packages.put("abc".into()).await.unwrap_err();

        assert!(matches!(failed, PackagesError::Unavailable { .. }), "{failed:?}");
        assert_eq!(std::fs::read_dir(home.path().join(INCOMING)).unwrap().count(), 0);
    }
}

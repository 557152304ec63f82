//! The package cache's directory: what lies where, and what is whole.
//!
//! Not here: what is kept and what goes (`cache.rs`).

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lamu_model::Digest;
use lamu_store::archive::{self, ArchiveError, Limits, Summary};
use tempfile::TempDir;

use super::Unpacked;

const LOCK: &str = ".lock";
const UNFINISHED: &str = "tmp-";
const ARCHIVE: &str = "archive.zip";
const CODE: &str = "code";
const COMPLETE: &str = "complete";

/// Takes the directory for this process, empties it of what is not whole, and
/// returns what is, the oldest first.
pub fn open(root: &Path) -> io::Result<(File, Vec<Unpacked>)> {
    std::fs::create_dir_all(root)?;
    // Functions run under other user ids, and must come through here.
    std::fs::set_permissions(root, Permissions::from_mode(0o755))?;
    let path = root.join(LOCK);
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            io::Error::new(io::ErrorKind::ResourceBusy, "another lamu process uses this directory")
        }
        TryLockError::Error(error) => error,
    })?;
    let boot = boot_id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        if name == LOCK {
            continue;
        }
        let digest = name.to_str().and_then(Digest::parse);
        match digest.and_then(|digest| whole(&path, digest, boot.as_deref())) {
            Some(whole) => found.push(whole),
            None if std::fs::symlink_metadata(&path)?.is_dir() => std::fs::remove_dir_all(&path)?,
            None => std::fs::remove_file(&path)?,
        }
    }
    found.sort_by_key(|(since, _)| *since);
    Ok((lock, found.into_iter().map(|(_, unpacked)| unpacked).collect()))
}

/// A directory of its own for a package that is being unpacked.
pub fn home(root: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(root)
}

/// Where a package's archive belongs meanwhile.
pub fn archive(home: &TempDir) -> PathBuf {
    home.path().join(ARCHIVE)
}

/// Unpacks the archive in `home`, and removes it.
pub fn unpack(home: &TempDir, limits: &Limits) -> Result<Summary, ArchiveError> {
    let path = archive(home);
    let failed = |source| ArchiveError::Io { step: format!("read {}", path.display()), source };
    let file = File::open(&path).map_err(failed)?;
    let summary = archive::extract(file, &home.path().join(CODE), limits)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(summary)
}

/// Gives what is in `home` its name, whole or not at all.
pub fn publish(root: &Path, digest: &Digest, home: TempDir, bytes: u64) -> io::Result<PathBuf> {
    let path = root.join(digest.to_string());
    // Nobody knows of one that is there: removing it failed before.
    if path.exists() {
        drop(bury(root, digest)?);
    }
    let boot = boot_id().unwrap_or_default();
    std::fs::write(home.path().join(COMPLETE), format!("{bytes}\n{boot}\n"))?;
    std::fs::set_permissions(home.path(), Permissions::from_mode(0o755))?;
    std::fs::rename(home.path(), &path)?;
    // It is not there any more, under this name.
    let _ = home.keep();
    Ok(path.join(CODE))
}

/// Takes a package out of everyone's sight; it is removed with what is
/// returned.
pub fn bury(root: &Path, digest: &Digest) -> io::Result<TempDir> {
    let grave = home(root)?;
    std::fs::rename(root.join(digest.to_string()), grave.path())?;
    Ok(grave)
}

/// A package that was finished in this boot, and since when it is there. What
/// was not flushed may have lost bytes in the boot before.
fn whole(path: &Path, digest: Digest, boot: Option<&str>) -> Option<(SystemTime, Unpacked)> {
    let complete = path.join(COMPLETE);
    let text = std::fs::read_to_string(&complete).ok()?;
    let (bytes, written) = text.trim_end().split_once('\n')?;
    let code = path.join(CODE);
    if Some(written) != boot || !code.is_dir() {
        return None;
    }
    let since = std::fs::metadata(&complete).ok()?.modified().ok()?;
    Some((since, Unpacked { digest, path: code, bytes: bytes.parse().ok()? }))
}

/// `None` where the kernel does not say: then nothing is taken to be whole.
fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

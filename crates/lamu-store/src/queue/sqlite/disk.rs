//! What is free where a queue lies.
//!
//! Not here: what follows from it (`writer`).

use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// The one with this file.
    pub fn of(path: &Path) -> Disk {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Disk(parent.to_owned()),
            _ => Disk(".".into()),
        }
    }

    /// Bytes that may still be written. One that does not tell is taken for
    /// empty: a write that fails says so itself.
    pub fn free_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.0)
            .map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

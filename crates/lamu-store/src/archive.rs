//! Zip archives from strangers: looked through before they are accepted, and
//! unpacked.
//!
//! An archive is refused whole or taken whole. Nothing in it is believed: sizes
//! are counted while inflating, checksums are compared, and the directory tree
//! is built in memory (`tree.rs`) before the first byte is written. Links are
//! made last, when every file has its place, so nothing is written through one.
//!
//! What is bounded, and by what:
//!
//! | | bound |
//! |---|---|
//! | unpacked bytes | [`Limits::unzipped_bytes_max`], counted |
//! | files, directories, links | [`Limits::entries_max`] |
//! | memory for the archive's directory | `DIRECTORY_BYTES_MAX` read |
//! | time | the above, and no byte of the archive is inflated twice |
//!
//! Of entries with the same name the last counts. Zip64, stored and deflated
//! entries are read; encryption and other methods are refused.
//!
//! Not here: Lambda's words for a refusal (`lamu_frontend`), keeping unpacked
//! packages (`lamu_worker`).

mod metered;
mod tree;

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use lamu_model::UNZIPPED_BYTES_MAX;
use zip::ZipArchive;
use zip::result::ZipError;

use metered::{Meter, Metered};
use tree::{Kind, Tree};

/// Read of the archive before its first entry is. Its directory is kept in
/// memory, some 500 bytes for an entry of 46: this much is 100,000 entries with
/// names of 100 bytes, or 180 MiB of memory if it is made to hurt.
const DIRECTORY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Inflated and written at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// What the file system allows a link to hold.
const LINK_BYTES_MAX: usize = 4_095;

/// What a package may amount to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub unzipped_bytes_max: u64,
    /// Files, directories and links. Lambda names no such limit; each costs an
    /// inode and at least a block of the host, which no byte count sees.
    pub entries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { unzipped_bytes_max: UNZIPPED_BYTES_MAX, entries_max: 200_000 }
    }
}

/// What a good archive amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub unzipped_bytes: u64,
    /// Files, directories and links, those directories included that only the
    /// names of others speak of.
    pub entries: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the archive is empty")]
    Empty,
    #[error("the archive unpacks to more than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    /// It is damaged, or would do harm, or uses what nobody here can read.
    #[error("the archive cannot be unpacked: {why}")]
    Unreadable { why: String },
    /// The archive may be good; reading it or writing its files failed.
    #[error("could not {step}")]
    Io { step: String, source: io::Error },
}

/// Reads all of an archive, and keeps nothing of it.
///
/// Takes as long as unpacking without writing: away from async threads.
pub fn inspect(reader: impl Read + Seek, limits: &Limits) -> Result<Summary, ArchiveError> {
    let mut archive = Archive::open(reader, limits)?;
    let mut tree = archive.tree()?;
    let mut links = Vec::new();
    tree.visit(&mut |_, item| match item.kind {
        Kind::Directory { .. } => Ok(()),
        Kind::File { entry, .. } => archive.read(*entry, |_| Ok(())),
        Kind::Link { entry, .. } => {
            links.push((item.node, archive.read_link(*entry)?));
            Ok(())
        }
    })?;
    tree.aim(links)?;
    Ok(archive.summary(&tree))
}

/// Unpacks into `directory`, which must not exist, and which the caller alone
/// can reach meanwhile. After an error it does not exist.
///
/// Files keep their read, write and execute bits and lose all others; without
/// any they are 0644. Directories are at least 0755: the owner can remove what
/// is in them, everyone can go through them.
pub fn extract(
    reader: impl Read + Seek,
    directory: &Path,
    limits: &Limits,
) -> Result<Summary, ArchiveError> {
    let archive = Archive::open(reader, limits)?;
    let tree = archive.tree()?;
    make_directory(directory)?;
    fill(directory, archive, tree).inspect_err(|_| {
        // What went wrong first is what is told.
        if let Err(error) = std::fs::remove_dir_all(directory) {
            tracing::warn!(directory = %directory.display(), %error, "could not remove a half unpacked package");
        }
    })
}

/// An archive being read, and what it has come to so far.
struct Archive<R> {
    zip: ZipArchive<Metered<R>>,
    meter: Meter,
    limits: Limits,
    bytes: u64,
    packed_bytes: u64,
    unzipped_bytes: u64,
}

impl<R: Read + Seek> Archive<R> {
    fn open(mut reader: R, limits: &Limits) -> Result<Self, ArchiveError> {
        let bytes = reader
            .seek(SeekFrom::End(0))
            .map_err(|source| ArchiveError::Io { step: "read the archive".into(), source })?;
        if bytes == 0 {
            return Err(ArchiveError::Empty);
        }
        let (metered, meter) = Metered::new(reader, DIRECTORY_BYTES_MAX);
        let zip = ZipArchive::new(metered).map_err(|error| refuse(&meter, error))?;
        meter.stop();
        if zip.is_empty() {
            return Err(ArchiveError::Empty);
        }
        let (packed_bytes, unzipped_bytes) = (0, 0);
        Ok(Archive { zip, meter, limits: *limits, bytes, packed_bytes, unzipped_bytes })
    }

    /// Where everything belongs; what it contains is not looked at.
    fn tree(&self) -> Result<Tree, ArchiveError> {
        const TYPE: u32 = 0o170_000;
        const DIRECTORY: u32 = 0o040_000;
        const LINK: u32 = 0o120_000;

        let mut tree = Tree::new(self.limits.entries_max);
        for entry in 0..self.zip.len() {
            let data = self.zip.by_index_data(entry).map_err(|error| refuse(&self.meter, error))?;
            let (name, mode) = (data.name_raw(), data.unix_mode());
            let kind = mode.map_or(0, |mode| mode & TYPE);
            if name.ends_with(b"/") || kind == DIRECTORY {
                tree.add_directory(name, mode.map_or(0, |mode| mode & 0o777))?;
            } else if data.encrypted() {
                return Err(unreadable(format!("{} is encrypted", tree::shown(name))));
            } else if kind == LINK {
                tree.add_link(name, entry)?;
            } else {
                tree.add_file(name, entry, mode.map_or(0o644, |mode| mode & 0o777))?;
            }
        }
        Ok(tree)
    }

    /// Hands out all of an entry in pieces, and refuses it if it is not whole.
    fn read(
        &mut self,
        entry: usize,
        mut take: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let mut file = self.zip.by_index(entry).map_err(|error| refuse(&self.meter, error))?;
        // Entries that overlap are how a small archive inflates for hours.
        self.packed_bytes = self.packed_bytes.saturating_add(file.compressed_size());
        if self.packed_bytes > self.bytes {
            return Err(unreadable("its entries overlap or are cut off".into()));
        }
        let mut piece = vec![0; PIECE_BYTES];
        let mut bytes = 0;
        loop {
            let count = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let name = tree::shown(file.name_raw());
                    return Err(match refuse(&self.meter, ZipError::Io(error)) {
                        ArchiveError::Unreadable { why } => unreadable(format!("{name}: {why}")),
                        error => error,
                    });
                }
            };
            bytes += count as u64;
            self.unzipped_bytes += count as u64;
            if self.unzipped_bytes > self.limits.unzipped_bytes_max {
                let bytes_max = self.limits.unzipped_bytes_max;
                return Err(ArchiveError::TooLarge { bytes_max });
            }
            take(&piece[..count])?;
        }
        // More than it says is found while reading.
        if bytes != file.size() {
            let name = tree::shown(file.name_raw());
            return Err(unreadable(format!("{name} is shorter than it says")));
        }
        Ok(())
    }

    fn read_link(&mut self, entry: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut target = Vec::new();
        self.read(entry, |piece| {
            if target.len() + piece.len() > LINK_BYTES_MAX {
                return Err(unreadable("a link is longer than a path can be".into()));
            }
            target.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(target)
    }

    fn summary(&self, tree: &Tree) -> Summary {
        Summary { unzipped_bytes: self.unzipped_bytes, entries: tree.len() }
    }
}

fn fill<R: Read + Seek>(
    root: &Path,
    mut archive: Archive<R>,
    mut tree: Tree,
) -> Result<Summary, ArchiveError> {
    let mut links = Vec::new();
    tree.visit(&mut |path, item| {
        let path = root.join(path);
        match item.kind {
            Kind::Directory { .. } if item.is_root() => Ok(()),
            Kind::Directory { .. } => make_directory(&path),
            Kind::File { entry, mode } => {
                let failed = |source| writing(&path, source);
                let mut file = make_file(&path).map_err(failed)?;
                archive.read(*entry, |piece| file.write_all(piece).map_err(failed))?;
                file.set_permissions(Permissions::from_mode(*mode)).map_err(failed)
            }
            Kind::Link { entry, .. } => {
                links.push((item.node, archive.read_link(*entry)?));
                Ok(())
            }
        }
    })?;
    tree.aim(links)?;
    tree.visit(&mut |path, item| {
        let path = root.join(path);
        let made = match item.kind {
            Kind::Directory { mode, .. } => {
                std::fs::set_permissions(&path, Permissions::from_mode(mode | 0o755))
            }
            Kind::File { .. } => Ok(()),
            Kind::Link { target, .. } => symlink(std::ffi::OsStr::from_bytes(target), &path),
        };
        made.map_err(|source| writing(&path, source))
    })?;
    Ok(archive.summary(&tree))
}

/// Nobody else goes in until all is there.
fn make_directory(path: &Path) -> Result<(), ArchiveError> {
    DirBuilder::new().mode(0o700).create(path).map_err(|source| writing(path, source))
}

fn make_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn writing(path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Io { step: format!("write {}", path.display()), source }
}

fn refuse(meter: &Meter, error: ZipError) -> ArchiveError {
    match meter.failure() {
        Some(source) => ArchiveError::Io { step: "read the archive".into(), source },
        None => unreadable(error.to_string()),
    }
}

fn unreadable(why: String) -> ArchiveError {
    ArchiveError::Unreadable { why }
}

#[cfg(test)]
mod tests;

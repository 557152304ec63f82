//! Packs a directory into a zip, the same bytes for the same content: entries
//! sorted, times fixed, modes reduced to what matters inside a sandbox.
//!
//! Not here: unpacking, which the platform does with its own checks.

use std::fs;
use std::io::{self, Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// What never belongs to a function, wherever it lies.
const LEFT_OUT: [&str; 8] = [
    ".git",
    ".hg",
    ".DS_Store",
    ".venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
];

/// Packs everything under `dir`.
pub fn pack_dir(dir: &Path) -> anyhow::Result<Vec<u8>> {
    let mut entries = Vec::new();
    collect(dir, Path::new(""), &mut entries)?;
    entries.sort();
    if entries.is_empty() {
        bail!("{} holds no files", dir.display());
    }
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for relative in &entries {
        let path = dir.join(relative);
        add(&mut zip, &path, relative).with_context(|| format!("pack {}", path.display()))?;
    }
    Ok(zip.finish()?.into_inner())
}

/// Packs one program as the `bootstrap` of a custom runtime.
pub fn pack_bootstrap(program: &Path) -> anyhow::Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("bootstrap", options(0o755))?;
    let mut file = fs::File::open(program).with_context(|| program.display().to_string())?;
    io::copy(&mut file, &mut zip)?;
    Ok(zip.finish()?.into_inner())
}

fn collect(root: &Path, relative: &Path, entries: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let dir = root.join(relative);
    for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let relative = relative.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &relative, entries)?;
        } else {
            entries.push(relative);
        }
    }
    Ok(())
}

fn add(zip: &mut ZipWriter<Cursor<Vec<u8>>>, path: &Path, relative: &Path) -> anyhow::Result<()> {
    let Some(name) = relative.to_str() else { bail!("the name is not UTF-8") };
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        let target = fs::read_link(path)?;
        let Some(target) = target.to_str() else { bail!("the link is not UTF-8") };
        zip.add_symlink(name, target, options(0o777))?;
    } else if metadata.is_file() {
        // Files are owned by root inside: everyone must be able to read them.
        let runs = metadata.permissions().mode() & 0o111 != 0;
        zip.start_file(name, options(if runs { 0o755 } else { 0o644 }))?;
        zip.write_all(&fs::read(path)?)?;
    } else {
        bail!("neither file, directory nor link");
    }
    Ok(())
}

fn options(mode: u32) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(mode)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_same_content_packs_to_the_same_bytes() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (dir, order) in [(&a, ["z.py", "a/b.py"]), (&b, ["a/b.py", "z.py"])] {
            fs::create_dir(dir.path().join("a")).unwrap();
            for name in order {
                fs::write(dir.path().join(name), name).unwrap();
            }
        }
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(b.path().join("z.py"), mode).unwrap();

        assert_eq!(pack_dir(a.path()).unwrap(), pack_dir(b.path()).unwrap());
    }

    #[test]
    fn modes_and_links_are_kept_and_rubbish_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bootstrap"), "#!/bin/sh\n").unwrap();
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.path().join("bootstrap"), mode).unwrap();
        std::os::unix::fs::symlink("bootstrap", dir.path().join("link")).unwrap();
        fs::create_dir_all(dir.path().join("pkg/__pycache__")).unwrap();
        fs::write(dir.path().join("pkg/__pycache__/x.pyc"), "x").unwrap();
        fs::create_dir_all(dir.path().join("node_modules/m")).unwrap();
        fs::write(dir.path().join("node_modules/m/index.js"), "x").unwrap();

        let bytes = pack_dir(dir.path()).unwrap();

        let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
        assert_eq!(names, ["bootstrap", "link", "node_modules/m/index.js"]);
        assert_eq!(zip.by_name("bootstrap").unwrap().unix_mode().unwrap() & 0o777, 0o755);
        let mut link = zip.by_name("link").unwrap();
        assert_eq!(link.unix_mode().unwrap() & 0o170_000, 0o120_000);
        let mut target = String::new();
        link.read_to_string(&mut target).unwrap();
        assert_eq!(target, "bootstrap");
    }

    #[test]
    fn an_empty_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(pack_dir(dir.path()).is_err());
    }
}

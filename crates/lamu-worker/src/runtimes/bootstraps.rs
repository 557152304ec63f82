//! Our own runtimes' files: embedded in the program, written once to the data
//! directory, compiled there for each interpreter.
//!
//! Not here: what the files do.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lamu_model::Digest;
use tokio::process::Command;
use tokio::time::timeout;
use tracing::warn;

const PYTHON: &[(&str, &str)] = &[
    ("bootstrap.py", include_str!("../../runtimes/python/bootstrap.py")),
    ("lamu_errors.py", include_str!("../../runtimes/python/lamu_errors.py")),
    ("lamu_logging.py", include_str!("../../runtimes/python/lamu_logging.py")),
    ("lamu_runtime.py", include_str!("../../runtimes/python/lamu_runtime.py")),
];
const NODE: &[(&str, &str)] =
    &[("bootstrap.cjs", include_str!("../../runtimes/node/bootstrap.cjs"))];

/// Three small files take a tenth of a second.
const COMPILE_SECS_MAX: u64 = 20;

#[derive(Debug)]
pub struct Bootstraps {
    dir: PathBuf,
}

impl Bootstraps {
    /// The directory's name is the files' digest: another version of this
    /// program writes beside it, and one that is there is complete.
    pub fn write(data: &Path) -> io::Result<Bootstraps> {
        let mut all = String::new();
        for (name, text) in PYTHON.iter().chain(NODE) {
            all.extend([*name, "\n", *text, "\n"]);
        }
        let digest = Digest::of(all.as_bytes()).to_string();
        let dir = data.join(&digest[..16]);
        if !dir.is_dir() {
            fs::create_dir_all(data)?;
            let fresh = tempfile::Builder::new().prefix("tmp-").tempdir_in(data)?;
            write_files(&fresh.path().join("python"), PYTHON)?;
            write_files(&fresh.path().join("node"), NODE)?;
            readable(fresh.path())?;
            match fs::rename(fresh.path(), &dir) {
                Ok(()) => drop(fresh.keep()),
                // Somebody else was as fast.
                Err(_) if dir.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Bootstraps { dir })
    }

    pub fn python(&self) -> PathBuf {
        self.dir.join("python")
    }

    pub fn node(&self) -> PathBuf {
        self.dir.join("node")
    }

    /// Saves each start of this interpreter from compiling the bootstrap,
    /// several milliseconds. Without it everything works.
    pub async fn compile(&self, python: &Path) {
        let mut command = Command::new(python);
        command.args(["-I", "-S", "-m", "compileall", "-q"]).arg(self.python());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true);
        match timeout(Duration::from_secs(COMPILE_SECS_MAX), command.status()).await {
            Ok(Ok(status)) if status.success() => {
                if let Err(error) = readable(&self.python().join("__pycache__")) {
                    warn!(%error, "the compiled bootstrap is not readable");
                }
            }
            failed => warn!(python = %python.display(), ?failed, "the bootstrap was not compiled"),
        }
    }
}

fn write_files(dir: &Path, files: &[(&str, &str)]) -> io::Result<()> {
    fs::create_dir(dir)?;
    for (name, text) in files {
        fs::write(dir.join(name), text)?;
    }
    readable(dir)
}

/// Functions run as another user, whatever this process's umask is.
fn readable(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_runtimes_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtimes");
        for (dir, embedded) in [("python", PYTHON), ("node", NODE)] {
            let mut there: Vec<String> = fs::read_dir(root.join(dir))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name != "__pycache__" && !name.contains("test"))
                .collect();
            there.sort();
            let embedded: Vec<&str> = embedded.iter().map(|(name, _)| *name).collect();
            assert_eq!(there, embedded, "{dir}");
        }
    }

    #[test]
    fn writing_twice_is_writing_once() {
        let dir = tempfile::tempdir().unwrap();
        let one = Bootstraps::write(dir.path()).unwrap();
        let two = Bootstraps::write(dir.path()).unwrap();
        assert_eq!(one.python(), two.python());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing temporary is left");
        assert!(two.node().join("bootstrap.cjs").is_file());
    }
}

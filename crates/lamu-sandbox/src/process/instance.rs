//! One running driver on this host, told apart from those that died.
//!
//! An instance is called `<pid namespace>.<pid>.<start time>`. It keeps a
//! record with the names of its cgroup directories in the data directory,
//! locked as long as it lives; the kernel lets go of the lock however it
//! ends. A later driver of the same data directory finds the record free and
//! clears away what it names. Directories beside our own whose instance was a
//! process of our pid namespace that is gone are cleared away too, so a data
//! directory that was deleted leaves nothing either.
//!
//! Not here: clearing away while lamu dies (`spawner`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::cgroup::{self, Layout};

#[derive(Debug)]
pub struct Instance {
    name: String,
    path: PathBuf,
    /// Locked while this is open.
    record: File,
}

/// What an instance's name says.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    pid_namespace: u64,
    pid: u32,
    started: u64,
}

impl Instance {
    /// Clears away what dead instances left, and begins the record of ours.
    /// Blocks.
    pub fn begin(data_dir: &Path, number: u32) -> io::Result<Instance> {
        let records = data_dir.join("sandboxes");
        fs::create_dir_all(&records)?;
        sweep_records(&records)?;
        let identity = Identity::own()?;
        // A process may hold several drivers.
        let name = format!("{}.{number}", identity.name());
        let path = records.join(&name);
        let mut options = File::options();
        let record = options.create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        record.try_lock().map_err(|_| io::Error::from(io::ErrorKind::AddrInUse))?;
        Ok(Instance { name, path, record })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes down which cgroup directories are ours, and clears away the
    /// dead ones beside them.
    pub fn claim(&mut self, layout: &Layout) -> io::Result<()> {
        for dir in layout.dirs() {
            writeln!(self.record, "{}", dir.display())?;
            if let Some(parent) = dir.parent() {
                sweep_neighbours(parent);
            }
        }
        Ok(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Identity {
    fn own() -> io::Result<Identity> {
        let pid = std::process::id();
        let started = start_time(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Identity { pid_namespace: own_pid_namespace()?, pid, started })
    }

    fn name(&self) -> String {
        format!("{}.{}.{}", self.pid_namespace, self.pid, self.started)
    }

    fn parse(name: &str) -> Option<Identity> {
        let mut parts = name.split('.');
        Some(Identity {
            pid_namespace: parts.next()?.parse().ok()?,
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
        })
    }

    /// Whether that process is gone for certain; one of another pid namespace
    /// cannot be judged.
    fn is_dead(&self) -> bool {
        own_pid_namespace().is_ok_and(|own| own == self.pid_namespace)
            && start_time(self.pid) != Some(self.started)
    }
}

fn sweep_records(records: &Path) -> io::Result<()> {
    for entry in fs::read_dir(records)? {
        let path = entry?.path();
        let Ok(record) = File::open(&path) else { continue };
        if record.try_lock().is_err() {
            continue; // it lives
        }
        let dirs: Vec<PathBuf> =
            fs::read_to_string(&path).unwrap_or_default().lines().map(PathBuf::from).collect();
        if !dirs.is_empty() {
            tracing::info!(record = %path.display(), "clearing away a dead instance");
            cgroup::end_instance(&dirs);
        }
        fs::remove_file(&path)?;
    }
    Ok(())
}

fn sweep_neighbours(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let identity = name.to_str().and_then(Identity::parse);
        if identity.is_some_and(|identity| identity.is_dead()) {
            tracing::info!(dir = %entry.path().display(), "clearing away a dead instance");
            cgroup::end_instance(&[entry.path()]);
        }
    }
}

fn own_pid_namespace() -> io::Result<u64> {
    let link = fs::read_link("/proc/self/ns/pid")?; // pid:[4026531836]
    let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// When process `pid` started, in the kernel's ticks; `None` if there is none.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the 20th field after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_is_not_dead_and_a_recycled_number_is() {
        let own = Identity::own().unwrap();
        assert_eq!(Identity::parse(&own.name()), Some(Identity { ..Identity::own().unwrap() }));
        assert!(!own.is_dead());
        assert!(Identity { started: own.started + 1, ..own }.is_dead());
        let elsewhere = Identity { pid_namespace: 1, pid: u32::MAX, started: 0 };
        assert!(!elsewhere.is_dead());
    }

    #[test]
    fn the_record_of_a_dead_instance_is_cleared_away_and_a_living_one_kept() {
        let data = tempfile::tempdir().unwrap();
        let living = Instance::begin(data.path(), 0).unwrap();
        let dead_dir = data.path().join("cgroup/lamu/dead");
        fs::create_dir_all(dead_dir.join("0")).unwrap();
        let dead = data.path().join("sandboxes/1.2.3.0");
        fs::write(&dead, format!("{}\n", dead_dir.display())).unwrap();

        let second = Instance::begin(data.path(), 1).unwrap();

        assert!(!dead.exists());
        assert!(!dead_dir.exists());
        assert!(living.path.exists());
        let kept = living.path.clone();
        drop(living);
        drop(second);
        assert!(!kept.exists());
    }
}

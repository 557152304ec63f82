//! One cgroup per sandbox: limits, use, stop and go.
//!
//! ```text
//!  <where lamu itself is>/lamu/<instance>/<number>     in each hierarchy
//! ```
//!
//! On v1 every controller has a hierarchy of its own and a process joins each
//! by writing to its `tasks`; on v2 there is one. A controller may be missing
//! or not ours to write: then its limit is not enforced, and [`Layout`] says
//! so. Everything works below directories handed in, so that v2 is tested on
//! a tree of plain files.
//!
//! Not here: finding the hierarchies (`layout`), keeping prepared cgroups
//! (`pool`).

mod layout;
mod pool;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use layout::{Controller, Layout};
pub use pool::{CgroupPool, Pooled};

use super::wire::CgroupFiles;
use crate::Stats;

/// One period of the CPU ceiling; the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// How long a directory may stay busy after its last process ended.
const REMOVE_MILLIS_MAX: u64 = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub memory_mib: u32,
    pub cpu_millis: u32,
    pub pids_max: u32,
}

/// The directories and open files of one sandbox's cgroup.
#[derive(Debug)]
pub struct Cgroup {
    dirs: Vec<(Controller, PathBuf)>,
    files: Files,
}

#[derive(Debug)]
enum Files {
    None,
    V1(V1),
    V2(V2),
}

#[derive(Debug, Default)]
struct V1 {
    tasks: Vec<File>,
    memory_limit: Option<File>,
    swap_limit: Option<File>,
    memory: Option<File>,
    memory_max: Option<File>,
    oom: Option<File>,
    cpu_shares: Option<File>,
    cpu_quota: Option<File>,
    cpu_used: Option<File>,
    pids: Option<File>,
    freezer: Option<File>,
}

#[derive(Debug)]
struct V2 {
    dir: File,
    memory_limit: Option<File>,
    swap_limit: Option<File>,
    memory: Option<File>,
    memory_peak: Option<File>,
    memory_events: Option<File>,
    cpu_weight: Option<File>,
    cpu_max: Option<File>,
    cpu_stat: Option<File>,
    pids: Option<File>,
    freeze: Option<File>,
}

impl Cgroup {
    /// Makes `number` below the instance's directories of `layout`. If it
    /// fails, nothing of it remains.
    pub fn create(layout: &Layout, number: u64) -> io::Result<Cgroup> {
        let mut made = Cgroup { dirs: Vec::new(), files: Files::None };
        match made.fill(layout, number) {
            Ok(()) => Ok(made),
            Err(error) => {
                let _ = made.remove();
                Err(error)
            }
        }
    }

    fn fill(&mut self, layout: &Layout, number: u64) -> io::Result<()> {
        for (controller, base) in layout.bases() {
            let dir = base.join(number.to_string());
            if !self.dirs.iter().any(|(_, made)| *made == dir) {
                fs::create_dir(&dir)?;
            }
            self.dirs.push((*controller, dir));
        }
        if self.dirs.is_empty() {
            return Ok(());
        }
        self.files = if layout.is_v2() {
            Files::V2(V2::open(&self.dirs[0].1)?)
        } else {
            Files::V1(V1::open(&self.dirs)?)
        };
        Ok(())
    }

    /// What the spawner needs to put a process in.
    pub fn join_files(&self) -> (CgroupFiles, Vec<BorrowedFd<'_>>) {
        match &self.files {
            Files::None => (CgroupFiles::None, Vec::new()),
            Files::V1(v1) => (
                CgroupFiles::V1Tasks(v1.tasks.len() as u8),
                v1.tasks.iter().map(File::as_fd).collect(),
            ),
            Files::V2(v2) => (CgroupFiles::V2Directory, vec![v2.dir.as_fd()]),
        }
    }

    /// Sets everything but the CPU ceiling.
    pub fn set_limits(&self, limits: &Limits) -> io::Result<()> {
        let bytes = (u64::from(limits.memory_mib) << 20).to_string();
        let pids = limits.pids_max.to_string();
        match &self.files {
            Files::None => Ok(()),
            Files::V1(v1) => {
                put(&v1.memory_limit, &bytes)?;
                // Memory and swap together: no swap at all.
                put(&v1.swap_limit, &bytes)?;
                put(&v1.cpu_shares, &cpu_shares(limits.cpu_millis).to_string())?;
                put(&v1.pids, &pids)
            }
            Files::V2(v2) => {
                put(&v2.memory_limit, &bytes)?;
                put(&v2.swap_limit, "0")?;
                put(&v2.cpu_weight, &cpu_weight(limits.cpu_millis).to_string())?;
                // memory.oom.group stays off: the kernel ends the largest
                // process, as in a machine of its own, and init lives to tell.
                put(&v2.pids, &pids)
            }
        }
    }

    /// Sets the CPU ceiling.
    pub fn set_cpu_ceiling(&self, cpu_millis: u32) -> io::Result<()> {
        let quota = cpu_quota_us(cpu_millis);
        match &self.files {
            Files::None => Ok(()),
            Files::V1(v1) => put(&v1.cpu_quota, &quota.to_string()),
            Files::V2(v2) => put(&v2.cpu_max, &format!("{quota} {CPU_PERIOD_US}")),
        }
    }

    /// Begins to stop (or lets go) everything inside.
    pub fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        match &self.files {
            Files::None => Ok(()),
            Files::V1(v1) => put(&v1.freezer, if frozen { "FROZEN" } else { "THAWED" }),
            Files::V2(v2) => put(&v2.freeze, if frozen { "1" } else { "0" }),
        }
    }

    /// Whether everything inside stands still.
    pub fn is_frozen(&self) -> io::Result<bool> {
        match &self.files {
            Files::None => Ok(true),
            Files::V1(v1) => Ok(read(&v1.freezer)?.is_none_or(|state| state.starts_with("FROZEN"))),
            Files::V2(v2) => {
                if v2.freeze.is_none() {
                    return Ok(true);
                }
                let events = fs::read_to_string(self.dirs[0].1.join("cgroup.events"))?;
                Ok(field(&events, "frozen") == Some(1))
            }
        }
    }

    /// The high-water mark of memory; what is in use where the kernel keeps no
    /// mark.
    pub fn memory_bytes_max(&self) -> io::Result<u64> {
        let (mark, use_) = match &self.files {
            Files::None => return Ok(0),
            Files::V1(v1) => (&v1.memory_max, &v1.memory),
            Files::V2(v2) => (&v2.memory_peak, &v2.memory),
        };
        match number(mark)? {
            0 => number(use_),
            mark => Ok(mark),
        }
    }

    pub fn stats(&self) -> io::Result<Stats> {
        let mut stats = Stats::default();
        match &self.files {
            Files::None => {}
            Files::V1(v1) => {
                stats.memory_bytes = number(&v1.memory)?;
                stats.memory_bytes_max = number(&v1.memory_max)?;
                stats.cpu_ns = number(&v1.cpu_used)?;
                if let Some(text) = read(&v1.oom)? {
                    stats.oom_kills = field(&text, "oom_kill").unwrap_or(0);
                }
            }
            Files::V2(v2) => {
                stats.memory_bytes = number(&v2.memory)?;
                stats.memory_bytes_max = number(&v2.memory_peak)?;
                if let Some(text) = read(&v2.memory_events)? {
                    stats.oom_kills = field(&text, "oom_kill").unwrap_or(0);
                }
                if let Some(text) = read(&v2.cpu_stat)? {
                    stats.cpu_ns = field(&text, "usage_usec").unwrap_or(0) * 1_000;
                }
            }
        }
        // A kernel without memory.peak, and the moment between two reads.
        stats.memory_bytes_max = stats.memory_bytes_max.max(stats.memory_bytes);
        Ok(stats)
    }

    /// Starts the high-water mark of memory afresh.
    pub fn reset_memory_max(&self) -> io::Result<()> {
        match &self.files {
            Files::None => Ok(()),
            Files::V1(v1) => put(&v1.memory_max, "0"),
            // Since Linux 6.12 a write resets what this descriptor reads;
            // before, the mark of the whole life stays.
            Files::V2(v2) => put(&v2.memory_peak, "0").or(Ok(())),
        }
    }

    /// Removes the directories, waiting a moment for the last process to be
    /// accounted gone. Blocks.
    pub fn remove(&mut self) -> io::Result<()> {
        self.files = Files::None;
        let mut result = Ok(());
        for (_, dir) in std::mem::take(&mut self.dirs) {
            result = result.and(remove_dir(&dir));
        }
        result
    }
}

impl V1 {
    fn open(dirs: &[(Controller, PathBuf)]) -> io::Result<V1> {
        let mut v1 = V1::default();
        for (controller, dir) in dirs {
            v1.tasks.push(open(&dir.join("tasks"), Mode::Write)?);
            match controller {
                Controller::Memory => {
                    v1.memory_limit = Some(open(&dir.join("memory.limit_in_bytes"), Mode::Write)?);
                    v1.swap_limit = maybe(&dir.join("memory.memsw.limit_in_bytes"), Mode::Write);
                    v1.memory = maybe(&dir.join("memory.usage_in_bytes"), Mode::Read);
                    v1.memory_max = maybe(&dir.join("memory.max_usage_in_bytes"), Mode::Both);
                    v1.oom = maybe(&dir.join("memory.oom_control"), Mode::Read);
                }
                Controller::Cpu => {
                    v1.cpu_shares = Some(open(&dir.join("cpu.shares"), Mode::Write)?);
                    v1.cpu_quota = maybe(&dir.join("cpu.cfs_quota_us"), Mode::Write);
                }
                Controller::CpuUse => v1.cpu_used = maybe(&dir.join("cpuacct.usage"), Mode::Read),
                Controller::Pids => v1.pids = Some(open(&dir.join("pids.max"), Mode::Write)?),
                Controller::Freezer => {
                    v1.freezer = Some(open(&dir.join("freezer.state"), Mode::Both)?);
                }
            }
        }
        // Controllers that share a hierarchy share one `tasks`.
        let mut seen = Vec::new();
        let mut at = 0;
        v1.tasks.retain(|_| {
            let dir = &dirs[at].1;
            at += 1;
            let first = !seen.contains(&dir);
            seen.push(dir);
            first
        });
        Ok(v1)
    }
}

impl V2 {
    fn open(dir: &Path) -> io::Result<V2> {
        Ok(V2 {
            dir: File::open(dir)?,
            memory_limit: maybe(&dir.join("memory.max"), Mode::Write),
            swap_limit: maybe(&dir.join("memory.swap.max"), Mode::Write),
            memory: maybe(&dir.join("memory.current"), Mode::Read),
            memory_peak: maybe(&dir.join("memory.peak"), Mode::Both)
                .or_else(|| maybe(&dir.join("memory.peak"), Mode::Read)),
            memory_events: maybe(&dir.join("memory.events"), Mode::Read),
            cpu_weight: maybe(&dir.join("cpu.weight"), Mode::Write),
            cpu_max: maybe(&dir.join("cpu.max"), Mode::Write),
            cpu_stat: maybe(&dir.join("cpu.stat"), Mode::Read),
            pids: maybe(&dir.join("pids.max"), Mode::Write),
            freeze: maybe(&dir.join("cgroup.freeze"), Mode::Write),
        })
    }
}

/// Kills what is inside each sandbox below an instance's `dirs`, and removes
/// all. For instances that no longer live. Blocks.
pub fn end_instance(dirs: &[PathBuf]) {
    for dir in dirs {
        for child in children(dir) {
            thaw(&child);
            write_existing(&child.join("cgroup.kill"), "1");
            let processes = fs::read_to_string(child.join("cgroup.procs")).unwrap_or_default();
            for pid in processes.lines().filter_map(|line| line.parse::<i32>().ok()) {
                if pid > 0 {
                    // SAFETY: takes numbers. What is in this directory was
                    // put there by an instance that is gone.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
            }
        }
    }
    remove_instance(dirs);
}

/// Thaws everything below an instance's `dirs`: on v1 a frozen process does
/// not die before it is thawed.
pub fn thaw_all(dirs: &[PathBuf]) {
    for dir in dirs {
        children(dir).iter().for_each(|child| thaw(child));
    }
}

/// Removes an instance's `dirs` and the sandboxes below, all empty by now.
pub fn remove_instance(dirs: &[PathBuf]) {
    for dir in dirs {
        for child in children(dir) {
            let _ = remove_dir(&child);
        }
        let _ = remove_dir(dir);
        // The common parent goes with its last instance.
        if let Some(parent) = dir.parent() {
            let _ = fs::remove_dir(parent);
        }
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn thaw(dir: &Path) {
    for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        write_existing(&dir.join(file), value);
    }
}

/// Not every version has every file.
fn write_existing(path: &Path, value: &str) {
    if let Some(file) = maybe(path, Mode::Write) {
        let _ = file.write_at(value.as_bytes(), 0);
    }
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_millis(REMOVE_MILLIS_MAX);
    let mut pause = Duration::from_micros(50);
    loop {
        match fs::remove_dir(dir) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if Instant::now() >= deadline {
                    return Err(error);
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
}

/// 1,024 shares are one core; the kernel takes no fewer than 2.
fn cpu_shares(millis: u32) -> u64 {
    (u64::from(millis) * 1_024 / 1_000).max(2)
}

/// From 1 to 10,000, in proportion. Only sandboxes have siblings here, so how
/// much it is matters to none but them.
fn cpu_weight(millis: u32) -> u64 {
    u64::from(millis).clamp(1, 10_000)
}

/// The kernel takes no quota under 1 ms.
fn cpu_quota_us(millis: u32) -> u64 {
    (u64::from(millis) * CPU_PERIOD_US / 1_000).max(1_000)
}

enum Mode {
    Read,
    Write,
    Both,
}

fn open(path: &Path, mode: Mode) -> io::Result<File> {
    let mut options = OpenOptions::new();
    match mode {
        Mode::Read => options.read(true),
        Mode::Write => options.write(true),
        Mode::Both => options.read(true).write(true),
    };
    options.open(path)
}

fn maybe(path: &Path, mode: Mode) -> Option<File> {
    open(path, mode).ok()
}

fn put(file: &Option<File>, value: &str) -> io::Result<()> {
    match file {
        Some(file) => file.write_at(value.as_bytes(), 0).map(drop),
        None => Ok(()),
    }
}

fn read(file: &Option<File>) -> io::Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    // The largest of these, cpu.stat, is some hundred bytes, and what is
    // looked for stands in the first lines.
    let mut buffer = [0u8; 1024];
    let got = file.read_at(&mut buffer, 0)?;
    Ok(Some(String::from_utf8_lossy(&buffer[..got]).into_owned()))
}

/// A file that holds one number; 0 where it is missing.
fn number(file: &Option<File>) -> io::Result<u64> {
    Ok(read(file)?.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
}

/// The number after `name` in lines of `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2_layout(root: &Path) -> Layout {
        fs::create_dir_all(root.join("lamu/i")).unwrap();
        Layout::for_tests_v2(root.join("lamu/i"))
    }

    fn written(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap()
    }

    /// A plain directory stands in for the kernel, which would make the files.
    fn cgroup_v2(root: &Path) -> (Cgroup, PathBuf) {
        let layout = v2_layout(root);
        let dir = root.join("lamu/i/7");
        let mut cgroup = Cgroup::create(&layout, 7).unwrap();
        for file in ["memory.max", "memory.swap.max", "cpu.weight", "cpu.max", "pids.max"] {
            fs::write(dir.join(file), "").unwrap();
        }
        fs::write(dir.join("memory.current"), "1000\n").unwrap();
        fs::write(dir.join("memory.peak"), "5000\n").unwrap();
        fs::write(dir.join("memory.events"), "low 0\noom 3\noom_kill 2\n").unwrap();
        fs::write(dir.join("cpu.stat"), "usage_usec 17\nuser_usec 9\n").unwrap();
        fs::write(dir.join("cgroup.freeze"), "0").unwrap();
        fs::write(dir.join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        cgroup.files = Files::V2(V2::open(&dir).unwrap());
        (cgroup, dir)
    }

    #[test]
    fn v2_limits_reach_their_files() {
        let root = tempfile::tempdir().unwrap();
        let (cgroup, dir) = cgroup_v2(root.path());

        let limits = Limits { memory_mib: 128, cpu_millis: 1_000, pids_max: 1_024 };
        cgroup.set_limits(&limits).unwrap();
        cgroup.set_cpu_ceiling(72).unwrap();
        cgroup.set_frozen(true).unwrap();

        assert_eq!(written(dir.join("memory.max")), "134217728");
        assert_eq!(written(dir.join("memory.swap.max")), "0");
        assert_eq!(written(dir.join("cpu.weight")), "1000");
        assert_eq!(written(dir.join("cpu.max")), "7200 100000");
        assert_eq!(written(dir.join("pids.max")), "1024");
        assert_eq!(written(dir.join("cgroup.freeze")), "1");
        assert!(cgroup.is_frozen().unwrap());
    }

    #[test]
    fn v2_use_is_read_from_its_files() {
        let root = tempfile::tempdir().unwrap();
        let (cgroup, _) = cgroup_v2(root.path());
        assert_eq!(
            cgroup.stats().unwrap(),
            Stats { memory_bytes: 1_000, memory_bytes_max: 5_000, oom_kills: 2, cpu_ns: 17_000 }
        );
        assert_eq!(cgroup.memory_bytes_max().unwrap(), 5_000);
    }

    #[test]
    fn a_host_without_cgroups_gets_no_limits_and_no_errors() {
        let cgroup = Cgroup::create(&Layout::none(), 1).unwrap();
        cgroup.set_limits(&Limits { memory_mib: 1, cpu_millis: 1, pids_max: 1 }).unwrap();
        cgroup.set_frozen(true).unwrap();
        assert!(cgroup.is_frozen().unwrap());
        assert_eq!(cgroup.stats().unwrap(), Stats::default());
    }

    #[test]
    fn cpu_is_a_share_and_a_ceiling_with_the_kernels_bounds() {
        assert_eq!(cpu_shares(1_000), 1_024);
        assert_eq!(cpu_shares(0), 2);
        assert_eq!(cpu_weight(0), 1);
        assert_eq!(cpu_weight(72), 72);
        assert_eq!(cpu_weight(1_000_000), 10_000);
        assert_eq!(cpu_quota_us(1_000), 100_000);
        assert_eq!(cpu_quota_us(6_000), 600_000);
        assert_eq!(cpu_quota_us(1), 1_000);
    }
}

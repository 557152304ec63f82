//! Where the controllers of this host are, and which of them are ours.
//!
//! Not here: what is done with them (`super`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    Memory,
    Cpu,
    /// CPU time used: v1's `cpuacct`.
    CpuUse,
    Pids,
    Freezer,
}

impl Controller {
    pub const ALL: [Controller; 5] = [
        Controller::Memory,
        Controller::Cpu,
        Controller::CpuUse,
        Controller::Pids,
        Controller::Freezer,
    ];

    fn v1_name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::CpuUse => "cpuacct",
            Controller::Pids => "pids",
            Controller::Freezer => "freezer",
        }
    }

    /// What v2 must list; `None` for what every v2 cgroup does.
    fn v2_name(self) -> Option<&'static str> {
        match self {
            Controller::Memory => Some("memory"),
            Controller::Cpu => Some("cpu"),
            Controller::Pids => Some("pids"),
            Controller::CpuUse | Controller::Freezer => None,
        }
    }
}

/// A controller that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub controller: Controller,
    pub why: String,
}

/// The directory of this instance for each controller that works.
#[derive(Clone, Debug)]
pub struct Layout {
    v2: bool,
    bases: Vec<(Controller, PathBuf)>,
    missing: Vec<Missing>,
}

/// Where this process is in each hierarchy, as the kernel tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    v1: Vec<(Controller, PathBuf)>,
    v2: Option<PathBuf>,
}

impl Layout {
    #[cfg(test)]
    pub fn none() -> Layout {
        let missing = Controller::ALL
            .map(|controller| Missing { controller, why: "not looked for".into() })
            .into();
        Layout { v2: false, bases: Vec::new(), missing }
    }

    /// Finds the hierarchies and makes `lamu/<instance>` in each.
    pub fn create(instance: &str) -> Layout {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Layout::create_in(&find(&mountinfo, &own), instance)
    }

    fn create_in(found: &Found, instance: &str) -> Layout {
        if let Some(own) = &found.v2
            && found.v1.iter().all(|(controller, _)| *controller != Controller::Memory)
        {
            return Layout::create_v2(own, instance);
        }
        let mut layout = Layout { v2: false, bases: Vec::new(), missing: Vec::new() };
        for controller in Controller::ALL {
            let why = match found.v1.iter().find(|(found, _)| *found == controller) {
                None => "the host has no such controller".to_owned(),
                Some((_, own)) => {
                    let base = own.join("lamu").join(instance);
                    match fs::create_dir_all(&base) {
                        Ok(()) => {
                            layout.bases.push((controller, base));
                            continue;
                        }
                        Err(error) => format!("{} is not ours to write: {error}", own.display()),
                    }
                }
            };
            layout.missing.push(Missing { controller, why });
        }
        layout
    }

    fn create_v2(own: &Path, instance: &str) -> Layout {
        let mut layout = Layout { v2: true, bases: Vec::new(), missing: Vec::new() };
        let base = own.join("lamu").join(instance);
        if let Err(error) = fs::create_dir_all(&base) {
            let why = format!("{} is not ours to write: {error}", own.display());
            layout.missing =
                Controller::ALL.map(|controller| Missing { controller, why: why.clone() }).into();
            return layout;
        }
        for controller in Controller::ALL {
            let passed_on = match controller.v2_name() {
                None => Ok(()),
                Some(name) => [own, &own.join("lamu"), &base]
                    .into_iter()
                    .try_for_each(|dir| pass_on(own, dir, name)),
            };
            match passed_on {
                Ok(()) => layout.bases.push((controller, base.clone())),
                Err(error) => {
                    let why = format!("{} does not pass it on: {error}", own.display());
                    layout.missing.push(Missing { controller, why });
                }
            }
        }
        layout
    }

    pub fn is_v2(&self) -> bool {
        self.v2
    }

    pub fn bases(&self) -> &[(Controller, PathBuf)] {
        &self.bases
    }

    /// The instance's directories, each once.
    pub fn dirs(&self) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> = self.bases.iter().map(|(_, base)| base.clone()).collect();
        dirs.dedup();
        dirs
    }

    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    #[cfg(test)]
    fn has(&self, controller: Controller) -> bool {
        self.bases.iter().any(|(found, _)| *found == controller)
    }

    #[cfg(test)]
    pub fn for_tests_v2(base: PathBuf) -> Layout {
        let bases = Controller::ALL.map(|controller| (controller, base.clone())).into();
        Layout { v2: true, bases, missing: Vec::new() }
    }
}

/// Lets the children of `dir` use controller `name`. A cgroup with processes
/// cannot pass controllers on, so those of `own`, lamu itself, move to a leaf
/// beside the sandboxes first.
fn pass_on(own: &Path, dir: &Path, name: &str) -> io::Result<()> {
    let control = dir.join("cgroup.subtree_control");
    let enable = || {
        fs::OpenOptions::new().write(true).open(&control).and_then(|mut file| {
            use std::io::Write;
            file.write_all(format!("+{name}").as_bytes())
        })
    };
    match enable() {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) && dir == own => {
            let leaf = own.join("lamu.self");
            fs::create_dir_all(&leaf)?;
            let processes = fs::read_to_string(own.join("cgroup.procs"))?;
            for pid in processes.lines() {
                fs::write(leaf.join("cgroup.procs"), pid)?;
            }
            enable()
        }
        other => other,
    }
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn find(mountinfo: &str, own: &str) -> Found {
    let mut found = Found::default();
    for line in mountinfo.lines() {
        let Some((mount, fs)) = line.split_once(" - ") else { continue };
        let mut mount = mount.split(' ').skip(3);
        let (Some(root), Some(point)) = (mount.next(), mount.next()) else { continue };
        let mut fs = fs.split(' ');
        let (kind, options) = (fs.next().unwrap_or(""), fs.nth(1).unwrap_or(""));
        let inside = |path: &str| {
            // A container sees its own part of the hierarchy as the root.
            let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or("");
            Path::new(point).join(below.trim_start_matches('/'))
        };
        match kind {
            "cgroup" => {
                for controller in Controller::ALL {
                    let name = controller.v1_name();
                    if options.split(',').any(|option| option == name)
                        && let Some(path) =
                            own_path(own, |names| names.split(',').any(|listed| listed == name))
                    {
                        found.v1.push((controller, inside(path)));
                    }
                }
            }
            "cgroup2" => {
                found.v2 = own_path(own, str::is_empty).map(inside);
            }
            _ => {}
        }
    }
    found
}

/// The path in the hierarchy whose controllers satisfy `wanted`, from lines
/// of `number:controllers:path`.
fn own_path(own: &str, wanted: impl Fn(&str) -> bool) -> Option<&str> {
    own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        wanted(names).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 /docker/abc /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const V1_OWN: &str =
        "8:pids:/docker/abc/x\n4:memory:/a/b\n2:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n";

    #[test]
    fn v1_controllers_are_found_where_they_are_mounted() {
        let found = find(V1, V1_OWN);
        assert_eq!(
            found.v1,
            [
                (Controller::Cpu, "/sys/fs/cgroup/cpu,cpuacct".into()),
                (Controller::CpuUse, "/sys/fs/cgroup/cpu,cpuacct".into()),
                (Controller::Memory, "/sys/fs/cgroup/memory/a/b".into()),
                (Controller::Pids, "/sys/fs/cgroup/pids/x".into()),
            ]
        );
        assert_eq!(found.v2, Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn v2_passes_its_controllers_on_at_each_level() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("user.slice");
        for dir in [own.clone(), own.join("lamu"), own.join("lamu/i")] {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cgroup.subtree_control"), "").unwrap();
        }
        let found = Found { v1: Vec::new(), v2: Some(own.clone()) };

        let layout = Layout::create_in(&found, "i");

        assert!(layout.is_v2());
        assert_eq!(layout.missing(), []);
        assert_eq!(layout.dirs(), [own.join("lamu/i")]);
        for dir in [own.clone(), own.join("lamu"), own.join("lamu/i")] {
            // Plain files keep only the last of the three writes.
            let enabled = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap();
            assert!(enabled.starts_with('+'), "{enabled}");
        }
    }

    #[test]
    fn a_controller_that_is_not_passed_on_is_missing_and_says_why() {
        let root = tempfile::tempdir().unwrap();
        let found = Found { v1: Vec::new(), v2: Some(root.path().join("no-control")) };

        let layout = Layout::create_in(&found, "i");

        assert!(!layout.has(Controller::Memory) && layout.has(Controller::Freezer));
        assert_eq!(layout.missing()[0].controller, Controller::Memory);
        assert!(layout.missing()[0].why.contains("does not pass it on"));
    }
}

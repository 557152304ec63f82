//! What this host lets the process driver enforce, for `lamu doctor` and the
//! log at start.
//!
//! Not here: how any of it is enforced.

use super::cgroup::{Controller, Layout};
use super::wire::Privilege;

/// One protection or limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforced {
    /// What it is, for example `memory limit`.
    pub what: &'static str,
    /// `None` when it holds; else why not.
    pub missing: Option<String>,
}

/// All that the driver enforces, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub root: bool,
    /// 1, 2, or 0 when none is usable.
    pub cgroup_version: u8,
    /// 0 when the kernel has none.
    pub landlock_abi: u32,
    pub items: Vec<Enforced>,
}

impl Report {
    pub(super) fn new(privilege: Privilege, layout: &Layout, landlock_abi: u32) -> Report {
        let root = privilege == Privilege::Root;
        let holds = |what| Enforced { what, missing: None };
        let unless = |what, missing: bool, why: &str| Enforced {
            what,
            missing: missing.then(|| why.to_owned()),
        };
        // The spawner built its template and the driver would not have
        // started otherwise, so these hold wherever it runs.
        let mut items = vec![
            holds("namespaces: user, pid, mount, net, uts, ipc, cgroup"),
            holds("read-only root, private /tmp of limited size"),
            holds("no capabilities, no new privileges"),
            holds("system call filter (seccomp)"),
            holds("network: loopback only"),
            unless(
                "Landlock",
                landlock_abi == 0,
                "the kernel has none (Linux 5.13 and lsm=landlock are needed)",
            ),
            unless(
                "a host user per sandbox, init apart from the function",
                !root,
                "only root can give sandboxes users of their own",
            ),
        ];
        for (controller, what) in [
            (Controller::Memory, "memory limit and use"),
            (Controller::Cpu, "CPU share and ceiling"),
            (Controller::CpuUse, "CPU time used"),
            (Controller::Pids, "limit of processes"),
            (Controller::Freezer, "freezing of idle environments"),
        ] {
            let missing = layout.missing().iter().find(|missing| missing.controller == controller);
            items.push(Enforced { what, missing: missing.map(|missing| missing.why.clone()) });
        }
        let cgroup_version = match (layout.bases().is_empty(), layout.is_v2()) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        Report { root, cgroup_version, landlock_abi, items }
    }

    /// What does not hold, and why.
    pub fn missing(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.items.iter().filter_map(|item| item.missing.as_deref().map(|why| (item.what, why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_root_and_cgroups_it_says_what_does_not_hold() {
        let report = Report::new(Privilege::Rootless, &Layout::none(), 0);
        let missing: Vec<_> = report.missing().map(|(what, _)| what).collect();
        assert_eq!(report.cgroup_version, 0);
        assert!(missing.contains(&"memory limit and use"));
        assert!(missing.contains(&"Landlock"));
        assert!(!missing.contains(&"system call filter (seccomp)"));
    }
}

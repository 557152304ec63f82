//! A second fence around files, independent of mounts and users: everything
//! may be read and executed, only `/tmp`, devices and one's own `/proc` may
//! be written; nothing outside may be signalled or reached by an abstract
//! socket.
//!
//! Four rules, since each path walked up costs a lookup per rule set.
//!
//! Not here: which files are there at all (`root`, `child`).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::sys;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
/// Execute to make-sym: everything that the first version knows.
const ALL_V1: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;

const SCOPE_ABSTRACT_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 1 << 1;

#[repr(C)]
struct RulesetAttr {
    handled_fs: u64,
    handled_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// The kernel's version of Landlock; 0 when it has none.
pub fn abi() -> u32 {
    // SAFETY: with this flag the call takes no structure.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) };
    u32::try_from(version).unwrap_or(0)
}

/// Restricts the calling process for good. Nothing happens on a kernel
/// without Landlock, and newer rights are left out on older ones.
pub fn restrict(abi: u32) -> io::Result<()> {
    if abi == 0 {
        return Ok(());
    }
    let attr = attributes(abi);
    // Older kernels know a shorter structure.
    let size = match abi {
        ..4 => 8,
        4..6 => 16,
        _ => size_of::<RulesetAttr>(),
    };
    // SAFETY: the structure outlives the call and is at least `size` long;
    // the descriptor that comes back is ours.
    let rules = unsafe {
        let fd =
            sys::check(libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size, 0))?;
        OwnedFd::from_raw_fd(fd as i32)
    };
    let read = READ_FILE | READ_DIR;
    let write_there = WRITE_FILE | (TRUNCATE & attr.handled_fs);
    allow(&rules, c"/", read | EXECUTE)?;
    allow(&rules, c"/dev", read | write_there)?;
    allow(&rules, c"/proc", read | write_there)?;
    allow(&rules, c"/tmp", attr.handled_fs)?;
    // SAFETY: takes numbers.
    sys::check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) })?;
    Ok(())
}

fn attributes(abi: u32) -> RulesetAttr {
    let mut handled_fs = ALL_V1;
    if abi >= 2 {
        handled_fs |= REFER;
    }
    if abi >= 3 {
        handled_fs |= TRUNCATE;
    }
    let scoped = if abi >= 6 { SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL } else { 0 };
    RulesetAttr { handled_fs, handled_net: 0, scoped }
}

fn allow(rules: &OwnedFd, path: &std::ffi::CStr, allowed: u64) -> io::Result<()> {
    const RULE_PATH_BENEATH: i32 = 1;
    // SAFETY: path and rule outlive the calls; the opened descriptor is ours.
    unsafe {
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        let fd = sys::check(libc::open(path.as_ptr(), flags) as libc::c_long)?;
        let parent = OwnedFd::from_raw_fd(fd as i32);
        let rule = PathBeneath { allowed, parent: parent.as_raw_fd() };
        sys::check(libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const rule,
            0,
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_kernel_is_asked_only_for_what_it_knows() {
        assert_eq!(attributes(1).handled_fs, ALL_V1);
        assert_eq!(attributes(1).scoped, 0);
        assert_eq!(attributes(3).handled_fs & TRUNCATE, TRUNCATE);
        assert_eq!(attributes(5).scoped, 0);
        assert_ne!(attributes(6).scoped, 0);
    }
}

//! The root that every sandbox starts from, made once by the spawner.
//!
//! It is a small tmpfs with the host's `/usr`, a synthetic `/etc` and `/dev`
//! and the directories that packages are mounted on, all read-only. It lives
//! in a mount namespace of its own that holds nothing of the host besides, so
//! a child cloned from there needs neither pivot_root nor unmounting: it adds
//! its packages, `/tmp` and `/proc`, and that is all.
//!
//! Its tmpfs is shared by all sandboxes and written by none. What a sandbox
//! can learn from it is which mount points others asked for (`/var/task`).
//!
//! Not here: what is mounted per sandbox (`child`).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::spawner::{FUNCTION_GID, FUNCTION_UID};
use super::sys;
use super::wire::{At, Failure, Setup, c_path};
use crate::Mount;

/// Mount points beyond the usual ones; a driver asks for a handful.
const TARGETS_MAX: usize = 256;

/// What packages are mounted on, ready from the start.
const TARGETS: [&str; 4] = ["var/task", "var/runtime", "var/lang", "opt"];

/// Directories of the host that programs in `/usr` cannot do without. Those
/// that are missing are left out; what in them is root's alone stays closed.
const ETC_SHARED: [&str; 6] =
    ["alternatives", "ca-certificates", "ld.so.cache", "pki", "ssl", "ld.so.conf.d"];

const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\n\
    sbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nsbx_user1051:x:990:\n";
const HOSTS: &str = "127.0.0.1 localhost sandbox.localdomain sandbox\n\
    ::1 localhost ip6-localhost ip6-loopback\n";
const NSSWITCH: &str =
    "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n";
/// There is no resolver to reach; a lookup fails at once instead of waiting.
const RESOLV: &str = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";

/// Device nodes, with their numbers.
const DEVICES: [(&str, u32, u32); 5] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];

#[derive(Debug)]
pub struct Template {
    host: OwnedFd,
    template: OwnedFd,
    /// The root tmpfs through a mount that is writable and reachable only
    /// from here, for mount points asked for later.
    writable: OwnedFd,
    targets: HashSet<PathBuf>,
}

impl Template {
    /// Builds the root in a new mount namespace and returns to the old one.
    pub fn build(setup: &Setup) -> Result<Template, Failure> {
        // SAFETY: takes and returns a plain number.
        unsafe { libc::umask(0o022) };
        let host: OwnedFd = File::open("/proc/self/ns/mnt").at("open the mount namespace")?.into();
        sys::unshare(libc::CLONE_NEWNS).at("make the template's mount namespace")?;
        sys::mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"")
            .at("part from the host's mounts")?;
        let root = &setup.mount_point;
        let c_root = c_path(root).at("name the root")?;
        // 2,048 files and 4 MiB are many times what is put here.
        let options = c"mode=755,size=4m,nr_inodes=2k";
        sys::mount(c"lamu", &c_root, c"tmpfs", libc::MS_NOSUID | libc::MS_NOATIME, options)
            .at("mount the root")?;
        let writable = File::open(root).at("open the root")?;

        populate(root, &setup.hosts).at("fill the root")?;
        for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            show_userland(root, name)?;
        }
        for name in etc_shared() {
            let host = Path::new("/etc").join(&name);
            if host.exists() {
                show(&host, &root.join("etc").join(&name))?;
            }
        }
        devices(root)?;
        process_files(&root.join("proc"))?;

        // The namespace keeps a read-only copy of the tree as its root; the
        // writable mount stays only in our descriptor.
        let tree = sys::open_tree(&c_root).at("copy the root")?;
        let flags = sys::MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSUID;
        sys::set_mount_flags(tree.as_fd(), flags, false).at("make the root read-only")?;
        sys::move_mount(tree.as_fd(), &c_root).at("place the root")?;
        std::env::set_current_dir(root).at("enter the root")?;
        sys::pivot_to_cwd().at("change to the root")?;
        let template = File::open("/proc/self/ns/mnt").at("open the template")?.into();
        sys::setns(host.as_fd(), libc::CLONE_NEWNS).at("return to the host's mounts")?;

        let targets = TARGETS.iter().map(|target| Path::new("/").join(target)).collect();
        Ok(Template { host, template, writable: writable.into(), targets })
    }

    /// Steps into the template: the next clone is born there.
    pub fn enter(&self) -> Result<(), Failure> {
        sys::setns(self.template.as_fd(), libc::CLONE_NEWNS).at("enter the template")
    }

    /// Back to the host's view.
    pub fn leave(&self) {
        if sys::setns(self.host.as_fd(), libc::CLONE_NEWNS).is_err() {
            // Without the host's view no package can be found any more; lamu
            // sees the end of the control socket and starts another spawner.
            std::process::abort();
        }
    }

    /// A detached read-only tree for `mount`, and a place in the template for
    /// it. To be called in the host's view.
    pub fn package(&mut self, mount: &Mount) -> Result<OwnedFd, Failure> {
        let named = || format!("mount {}", mount.target.display());
        let flags = sys::MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV;
        let tree = match &mount.sources[..] {
            [] => return Err(Failure { step: named(), errno: libc::EINVAL }),
            [source] => {
                let tree = c_path(source).and_then(|path| sys::open_tree(&path)).at(&named())?;
                sys::set_mount_flags(tree.as_fd(), flags, true).at(&named())?;
                tree
            }
            sources => overlay(sources, flags).at(&named())?,
        };
        if !self.targets.contains(&mount.target) {
            if self.targets.len() >= TARGETS_MAX {
                return Err(Failure { step: named(), errno: libc::ENOSPC });
            }
            let directory = File::from(tree.try_clone().at(&named())?)
                .metadata()
                .map(|metadata| metadata.is_dir())
                .at(&named())?;
            make_target(&self.writable, &mount.target, directory).at(&named())?;
            self.targets.insert(mount.target.clone());
        }
        Ok(tree)
    }
}

/// Lays `sources` over each other, the last on top. Paths go in as numbers of
/// open files, since one option holds at most 256 bytes.
fn overlay(sources: &[PathBuf], flags: u64) -> io::Result<OwnedFd> {
    let mut layers = Vec::with_capacity(sources.len());
    for source in sources.iter().rev() {
        layers.push(File::open(source)?);
    }
    let names: Vec<String> =
        layers.iter().map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd())).collect();
    let lower = std::ffi::CString::new(names.join(":"))?;
    sys::new_mount(c"overlay", &[(c"source", c"lamu"), (c"lowerdir", &lower)], flags)
}

/// Makes `target` under `root`, step by step and through no symlink.
fn make_target(root: &OwnedFd, target: &Path, directory: bool) -> io::Result<()> {
    let mut names = Vec::new();
    for component in target.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => names.push(std::ffi::CString::new(name.as_bytes())?),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    let Some(last) = names.pop() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut at = root.try_clone()?;
    let exists = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
    for name in names {
        // SAFETY: the names outlive the calls, and openat makes a descriptor
        // for us alone.
        unsafe {
            match sys::check(libc::mkdirat(at.as_raw_fd(), name.as_ptr(), 0o755) as _) {
                Err(error) if !exists(&error) => return Err(error),
                _ => {}
            }
            let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            let next = sys::check(libc::openat(at.as_raw_fd(), name.as_ptr(), flags) as _)?;
            at = OwnedFd::from_raw_fd(next as i32);
        }
    }
    // SAFETY: the name outlives the call.
    let made = unsafe {
        if directory {
            libc::mkdirat(at.as_raw_fd(), last.as_ptr(), 0o755)
        } else {
            libc::mknodat(at.as_raw_fd(), last.as_ptr(), libc::S_IFREG | 0o644, 0)
        }
    };
    match sys::check(made as _) {
        Err(error) if !exists(&error) => Err(error),
        _ => Ok(()),
    }
}

fn populate(root: &Path, hosts: &str) -> io::Result<()> {
    for name in ["usr", "etc", "dev", "proc", "tmp", "var", "mnt", "home", "run"] {
        directory(&root.join(name))?;
    }
    fs::DirBuilder::new().mode(0o700).create(root.join("root"))?;
    for target in TARGETS {
        directory(&root.join(target))?;
    }
    symlink("/tmp", root.join("var/tmp"))?;
    let etc = root.join("etc");
    fs::write(etc.join("passwd"), PASSWD)?;
    fs::write(etc.join("group"), GROUP)?;
    fs::write(etc.join("hosts"), format!("{HOSTS}{hosts}"))?;
    fs::write(etc.join("hostname"), "sandbox\n")?;
    fs::write(etc.join("nsswitch.conf"), NSSWITCH)?;
    fs::write(etc.join("resolv.conf"), RESOLV)?;
    symlink("/proc/mounts", etc.join("mtab"))?;
    symlink("/usr/share/zoneinfo/UTC", etc.join("localtime"))?;
    if Path::new("/usr/lib/os-release").exists() {
        symlink("../usr/lib/os-release", etc.join("os-release"))?;
    }
    for name in ["protocols", "services", "mime.types", "ld.so.conf"] {
        if let Ok(content) = fs::read(Path::new("/etc").join(name)) {
            fs::write(etc.join(name), content)?;
        }
    }
    Ok(())
}

/// Shared directories, and those of the host's Java.
fn etc_shared() -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = ETC_SHARED.iter().map(PathBuf::from).collect();
    for entry in fs::read_dir("/etc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let bytes = name.as_bytes();
        if bytes.starts_with(b"java-") || bytes == b"java" || bytes == b"crypto-policies" {
            names.push(name.into());
        }
    }
    names
}

/// A directory of the host's top level: the same symlink where the host has
/// one (merged /usr), the directory itself, read-only, where it is one.
fn show_userland(root: &Path, name: &str) -> Result<(), Failure> {
    let (host, inside) = (Path::new("/").join(name), root.join(name));
    match fs::symlink_metadata(&host) {
        Err(_) => Ok(()),
        Ok(metadata) if metadata.is_symlink() => {
            let target = fs::read_link(&host).at("read a top-level link")?;
            symlink(target, inside).at("link into /usr")
        }
        Ok(_) => show(&host, &inside),
    }
}

/// Puts the host's `host` read-only at `inside`, made if it is not there.
fn show(host: &Path, inside: &Path) -> Result<(), Failure> {
    let named = || format!("show {}", host.display());
    let metadata = fs::metadata(host).at(&named())?;
    if metadata.is_dir() {
        directory(inside).at(&named())?;
    } else {
        File::create(inside).at(&named())?;
    }
    let flags = sys::MOUNT_ATTR_RDONLY | sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV;
    let tree = c_path(host).and_then(|path| sys::open_tree(&path)).at(&named())?;
    sys::set_mount_flags(tree.as_fd(), flags, true).at(&named())?;
    c_path(inside).and_then(|path| sys::move_mount(tree.as_fd(), &path)).at(&named())
}

fn devices(root: &Path) -> Result<(), Failure> {
    let dev = root.join("dev");
    for (name, major, minor) in DEVICES {
        let node = dev.join(name);
        let c_node = c_path(&node).at("name a device")?;
        let number = libc::makedev(major, minor);
        // SAFETY: the name outlives the call.
        let made = unsafe { libc::mknod(c_node.as_ptr(), libc::S_IFCHR | 0o666, number) };
        if made == 0 {
            let open = fs::Permissions::from_mode(0o666);
            fs::set_permissions(&node, open).at("open a device to all")?;
            continue;
        }
        // Nodes may not be made here (no root, or a container without the
        // right): the host's own is mounted instead.
        File::create(&node).at("make room for a device")?;
        let tree = c_path(&Path::new("/dev").join(name))
            .and_then(|path| sys::open_tree(&path))
            .at("take a device of the host")?;
        sys::set_mount_flags(tree.as_fd(), sys::MOUNT_ATTR_NOSUID, true).at("restrict a device")?;
        sys::move_mount(tree.as_fd(), &c_node).at("mount a device")?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name)).at("link standard streams")?;
    }
    Ok(())
}

/// A proc below the one that each sandbox mounts for itself: the kernel lets
/// a user namespace mount one only where one is fully visible already.
fn process_files(target: &Path) -> Result<(), Failure> {
    let c_target = c_path(target).at("name /proc")?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    if sys::mount(c"proc", &c_target, c"proc", flags, c"").is_ok() {
        return Ok(());
    }
    let tree = sys::open_tree(c"/proc").at("copy /proc")?;
    sys::move_mount(tree.as_fd(), &c_target).at("mount /proc below")
}

fn directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Named here since passwd above states them as text.
const _: () = assert!(FUNCTION_UID == 993 && FUNCTION_GID == 990);

//! What lamu and its spawner say to each other, one packet a message.
//!
//! ```text
//! lamu                                            spawner
//!   Setup (+ init binary) ---- control ------------->
//!   <------------------------- control ---- Ready | Failure
//!   Spawn (+ status, channel, netns, cgroup) -------->
//!   <------------- that spawn's status ---- Listening (+ sockets of doors)
//!   <------------- that spawn's status ---- Started (+ pidfd) | Failure
//!   <------------- that spawn's status ---- Failure from the child, or the end
//! ```
//!
//! Each spawn brings a status socket of its own. Spawner and child hold its
//! other end and the child's closes on exec, so the end of the stream without
//! a failure means that init runs. Both sides are the same build of lamu.
//!
//! Not here: sockets (`sys`), what a spawn does (`spawner`, `child`).

use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::Mount;

/// Largest message: a spec with 64 paths of 4 KiB would still fit.
pub const PACKET_BYTES_MAX: usize = 256 * 1024;

/// Who the host is to the spawner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    Root,
    /// Everything happens inside a user namespace of the caller's own.
    Rootless,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    pub privilege: Privilege,
    /// An existing directory; the template root is mounted over it, in a
    /// mount namespace that only the spawner sees.
    pub mount_point: PathBuf,
    /// Directories of this instance in each cgroup hierarchy; removed, with
    /// the level below, when lamu is gone.
    pub cgroups: Vec<PathBuf>,
    /// Where every sandbox has a socket that listens.
    pub doors: Vec<SocketAddr>,
    /// What `/etc/hosts` has beside the usual.
    pub hosts: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// First of the host's user ids of this sandbox; `None` when rootless.
    pub uid_base: Option<u32>,
    pub tmp_mib: u32,
    pub mounts: Vec<Mount>,
    pub cgroup: CgroupFiles,
    /// Whether a network namespace comes along.
    pub netns: bool,
}

/// Which files of the sandbox's cgroup come with a spawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupFiles {
    None,
    /// The `tasks` file of so many v1 hierarchies.
    V1Tasks(u8),
    /// The directory itself.
    V2Directory,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Ready {
        /// 0 when the kernel has none.
        landlock_abi: u32,
    },
    Started {
        pid: u32,
    },
    /// The sockets of the sandbox's doors come along.
    Listening,
    Failure(Failure),
}

/// A step that failed in the spawner or in the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub step: String,
    pub errno: i32,
}

impl Failure {
    pub fn new(step: impl Into<String>, error: io::Error) -> Failure {
        Failure { step: step.into(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

/// Names the step that an error belongs to.
pub trait At<T> {
    fn at(self, step: &str) -> Result<T, Failure>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, error))
    }
}

impl Setup {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![match self.privilege {
            Privilege::Root => 0,
            Privilege::Rootless => 1,
        }];
        put_path(&mut out, &self.mount_point);
        put_u32(&mut out, self.cgroups.len() as u32);
        self.cgroups.iter().for_each(|path| put_path(&mut out, path));
        put_u32(&mut out, self.doors.len() as u32);
        self.doors.iter().for_each(|door| put_path(&mut out, Path::new(&door.to_string())));
        put_path(&mut out, Path::new(&self.hosts));
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Setup> {
        let mut rest = bytes;
        let privilege = match take(&mut rest, 1)?[0] {
            0 => Privilege::Root,
            1 => Privilege::Rootless,
            _ => return None,
        };
        let mount_point = take_path(&mut rest)?;
        let count = take_u32(&mut rest)?;
        let cgroups = (0..count).map(|_| take_path(&mut rest)).collect::<Option<_>>()?;
        let count = take_u32(&mut rest)?;
        let door = |rest: &mut &[u8]| take_path(rest)?.to_str()?.parse().ok();
        let doors = (0..count).map(|_| door(&mut rest)).collect::<Option<_>>()?;
        let hosts = take_path(&mut rest)?.to_str()?.to_owned();
        rest.is_empty().then_some(Setup { privilege, mount_point, cgroups, doors, hosts })
    }
}

impl Spawn {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        // No sandbox starts at the host's own user 0, so 0 can mean none.
        put_u32(&mut out, self.uid_base.unwrap_or(0));
        put_u32(&mut out, self.tmp_mib);
        out.push(self.netns as u8);
        out.push(match self.cgroup {
            CgroupFiles::None => 0,
            CgroupFiles::V1Tasks(count) => count,
            CgroupFiles::V2Directory => 255,
        });
        put_u32(&mut out, self.mounts.len() as u32);
        for mount in &self.mounts {
            put_path(&mut out, &mount.target);
            put_u32(&mut out, mount.sources.len() as u32);
            mount.sources.iter().for_each(|path| put_path(&mut out, path));
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Spawn> {
        let mut rest = bytes;
        let uid_base = Some(take_u32(&mut rest)?).filter(|base| *base != 0);
        let tmp_mib = take_u32(&mut rest)?;
        let netns = take(&mut rest, 1)?[0] == 1;
        let cgroup = match take(&mut rest, 1)?[0] {
            0 => CgroupFiles::None,
            255 => CgroupFiles::V2Directory,
            count => CgroupFiles::V1Tasks(count),
        };
        let count = take_u32(&mut rest)?;
        let mut mounts = Vec::new();
        for _ in 0..count {
            let target = take_path(&mut rest)?;
            let count = take_u32(&mut rest)?;
            let sources = (0..count).map(|_| take_path(&mut rest)).collect::<Option<_>>()?;
            mounts.push(Mount { sources, target });
        }
        rest.is_empty().then_some(Spawn { uid_base, tmp_mib, mounts, cgroup, netns })
    }
}

impl Answer {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Answer::Ready { landlock_abi } => {
                out.push(0);
                put_u32(&mut out, *landlock_abi);
            }
            Answer::Started { pid } => {
                out.push(1);
                put_u32(&mut out, *pid);
            }
            Answer::Listening => {
                out.push(3);
                put_u32(&mut out, 0);
            }
            Answer::Failure(failure) => {
                out.push(2);
                put_u32(&mut out, failure.errno as u32);
                out.extend_from_slice(failure.step.as_bytes());
            }
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Answer> {
        let mut rest = bytes;
        let kind = take(&mut rest, 1)?[0];
        let number = take_u32(&mut rest)?;
        match kind {
            0 => Some(Answer::Ready { landlock_abi: number }),
            1 => Some(Answer::Started { pid: number }),
            2 => Some(Answer::Failure(Failure {
                step: String::from_utf8_lossy(rest).into_owned(),
                errno: number as i32,
            })),
            3 => Some(Answer::Listening),
            _ => None,
        }
    }
}

pub fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_path(out: &mut Vec<u8>, path: &Path) {
    let bytes = path.as_os_str().as_bytes();
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))
}

fn take_path(rest: &mut &[u8]) -> Option<PathBuf> {
    let count = take_u32(rest)? as usize;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(take(rest, count)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let setup = Setup {
            privilege: Privilege::Rootless,
            mount_point: "/var/lib/lamu".into(),
            cgroups: vec!["/sys/fs/cgroup/memory/lamu/a".into()],
            doors: vec!["127.0.0.1:9000".parse().unwrap(), "[fd00::5]:80".parse().unwrap()],
            hosts: "127.77.0.1 sqs.example.com\n".into(),
        };
        assert_eq!(Setup::decode(&setup.encode()), Some(setup));

        for cgroup in [CgroupFiles::None, CgroupFiles::V1Tasks(5), CgroupFiles::V2Directory] {
            let spawn = Spawn {
                uid_base: Some(0x4000_0000),
                tmp_mib: 512,
                mounts: vec![Mount {
                    sources: vec!["/a".into(), "/b c".into()],
                    target: "/opt".into(),
                }],
                cgroup,
                netns: true,
            };
            assert_eq!(Spawn::decode(&spawn.encode()), Some(spawn));
        }

        for answer in [
            Answer::Ready { landlock_abi: 7 },
            Answer::Started { pid: 12 },
            Answer::Listening,
            Answer::Failure(Failure { step: "mount /tmp".into(), errno: libc::EPERM }),
        ] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }

    #[test]
    fn a_message_cut_anywhere_is_refused() {
        let setup = Setup {
            privilege: Privilege::Root,
            mount_point: "/x".into(),
            cgroups: vec!["/y".into(), "/z".into()],
            doors: vec!["127.0.0.1:9000".parse().unwrap(), "[fd00::5]:80".parse().unwrap()],
            hosts: "127.77.0.1 sqs.example.com\n".into(),
        };
        let bytes = setup.encode();
        for cut in 0..bytes.len() {
            assert_eq!(Setup::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }
}

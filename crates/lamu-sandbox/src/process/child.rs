//! What a sandbox's first process does between its birth and becoming init.
//!
//! It is a fork of the spawner in namespaces of its own, so ordinary code may
//! run. From step to step it gives up more: cgroup, user, mounts, Landlock,
//! capabilities, seccomp, exec. A step that fails is reported over `status`
//! and ends the process.
//!
//! Not here: who prepared what it is given (`spawner`).

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libc::{c_long, c_ulong};

use super::spawner::{self, FUNCTION_UID};
use super::sys;
use super::wire::{Answer, At, Failure, Privilege, Spawn, c_path};
use super::{landlock, seccomp};

/// Open files of anything inside at most (Managed Instances allow 4,096); init
/// sets the function's own limit below it.
const OPEN_FILES_MAX: u64 = 4_096;

/// Files in `/tmp` per MiB of it: one per 4 KiB page.
const TMP_FILES_PER_MIB: u32 = 256;

/// Under memory pressure on the whole host, functions go before lamu.
const OOM_SCORE_ADJ: &str = "500";

/// What init may still do inside: become the function's user, leave that user
/// no capability to ever regain (SETPCAP), and end its processes. Only where init and function are different users.
const INIT_CAPABILITIES: [u32; 4] = [CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP];
const CAP_KILL: u32 = 5;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_SETPCAP: u32 = 8;

#[derive(Debug)]
pub struct Child<'a> {
    pub spawn: &'a Spawn,
    pub privilege: Privilege,
    pub status: &'a OwnedFd,
    pub channel: &'a OwnedFd,
    /// Gives one byte once the user maps are written.
    pub gate: &'a OwnedFd,
    pub init: &'a OwnedFd,
    /// v1 `tasks` files to join.
    pub tasks: &'a [OwnedFd],
    /// Detached mounts, one for each of the spec's.
    pub trees: &'a [OwnedFd],
    pub new_netns: bool,
    /// Made here when the network namespace is.
    pub doors: &'a [SocketAddr],
    pub landlock_abi: u32,
    pub filter: &'a [libc::sock_filter],
}

/// Does it all; comes back never.
pub fn become_init(child: Child<'_>) -> ! {
    let Err(failure) = child.run();
    let _ = sys::send_packet(child.status.as_fd(), &Answer::Failure(failure).encode(), &[]);
    // SAFETY: ends the process without running the spawner's exit handlers.
    unsafe { libc::_exit(127) }
}

impl Child<'_> {
    fn run(&self) -> Result<Infallible, Failure> {
        self.join_cgroups()?;
        // While /proc is the spawner's, and its files about us are ours: they
        // become the host root's with the change of user.
        std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ).at("offer to the OOM killer")?;
        self.pass_gate()?;
        self.take_user()?;
        self.mount_all()?;
        if self.new_netns {
            sys::loopback_up().at("bring loopback up")?;
            spawner::open_doors(self.doors, self.status)?;
        }
        self.set_limits()?;
        self.give_up_signals_and_session()?;
        // Beyond here nothing is opened any more.
        no_new_privileges().at("set no_new_privs")?;
        landlock::restrict(self.landlock_abi).at("apply Landlock")?;
        self.drop_capabilities().at("drop capabilities")?;
        self.arrange_descriptors().at("arrange descriptors")?;
        seccomp::install(self.filter).at("install the system call filter")?;
        Err(Failure::new("execute init", self.execute()))
    }

    /// A thread that moves itself takes no lock that all forks of the host
    /// share; being moved by its parent had a tail of milliseconds.
    fn join_cgroups(&self) -> Result<(), Failure> {
        // Should lamu run in a class above user code, this is where it ends;
        // a real-time task could not even join. A class below it (idle) stays:
        // it is no privilege, and a child in a user namespace may not leave it.
        // SAFETY: the structure outlives the call; the rest takes numbers.
        unsafe {
            if is_above_user_code(libc::sched_getscheduler(0)) {
                let plain = libc::sched_param { sched_priority: 0 };
                sys::check(libc::sched_setscheduler(0, libc::SCHED_OTHER, &plain) as c_long)
                    .at("leave lamu's scheduling class")?;
            }
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        }
        for tasks in self.tasks {
            // SAFETY: one byte from a live buffer.
            sys::check(unsafe { libc::write(tasks.as_raw_fd(), c"0".as_ptr().cast(), 1) } as c_long)
                .at("join the cgroup")?;
        }
        sys::unshare(libc::CLONE_NEWCGROUP).at("make the cgroup namespace")
    }

    fn pass_gate(&self) -> Result<(), Failure> {
        let mut byte = 0u8;
        // SAFETY: room for the one byte asked for.
        let got = sys::check(
            unsafe { libc::read(self.gate.as_raw_fd(), (&raw mut byte).cast(), 1) } as c_long,
        )
        .at("wait for the user maps")?;
        if got == 1 {
            return Ok(());
        }
        Err(Failure { step: "wait for the user maps".into(), errno: libc::EPIPE })
    }

    fn take_user(&self) -> Result<(), Failure> {
        if self.privilege == Privilege::Rootless {
            return Ok(());
        }
        // SAFETY: an empty list needs no pointer; the others take numbers.
        unsafe {
            sys::check(libc::setgroups(0, std::ptr::null()) as c_long).at("leave all groups")?;
            sys::check(libc::setresgid(0, 0, 0) as c_long).at("become the inside group")?;
            sys::check(libc::setresuid(0, 0, 0) as c_long).at("become the inside user")?;
        }
        Ok(())
    }

    fn mount_all(&self) -> Result<(), Failure> {
        // SAFETY: name and length belong together.
        sys::check(unsafe { libc::sethostname(c"sandbox".as_ptr(), 7) } as c_long)
            .at("set the host name")?;
        for (mount, tree) in self.spawn.mounts.iter().zip(self.trees) {
            c_path(&mount.target)
                .and_then(|target| sys::move_mount(tree.as_fd(), &target))
                .at(&format!("mount {}", mount.target.display()))?;
        }
        let tmp_mib = self.spawn.tmp_mib;
        let files = tmp_mib.saturating_mul(TMP_FILES_PER_MIB);
        let options = CString::new(format!("size={tmp_mib}m,nr_inodes={files},mode=1777"))
            .map_err(io::Error::from)
            .at("name options")?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        sys::mount(c"tmp", c"/tmp", c"tmpfs", flags, &options).at("mount /tmp")?;
        // With two users inside, the function does not see init's files;
        // init, whose group is 0, sees all.
        let options = match self.privilege {
            Privilege::Root => c"hidepid=2,gid=0",
            Privilege::Rootless => c"",
        };
        sys::mount(c"proc", c"/proc", c"proc", flags | libc::MS_NOEXEC, options).at("mount /proc")
    }

    fn set_limits(&self) -> Result<(), Failure> {
        let limit = |kind, value| {
            let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
            // SAFETY: the structure outlives the call.
            sys::check(unsafe { libc::setrlimit(kind, &limit) } as c_long).at("set limits")
        };
        limit(libc::RLIMIT_CORE, 0)?;
        // A hard limit that is lower already stays as it is.
        let _ = limit(libc::RLIMIT_NOFILE, OPEN_FILES_MAX);
        Ok(())
    }

    fn give_up_signals_and_session(&self) -> Result<(), Failure> {
        // SAFETY: an initialised empty set; the other calls take numbers.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            // The runtime of the spawner ignores it, and exec would keep that.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::setsid();
            libc::umask(0o022);
            sys::check(libc::chdir(c"/".as_ptr()) as c_long).at("go to the root")?;
            // After the change of user, which would clear it.
            let kill = libc::SIGKILL as c_ulong;
            sys::check(libc::prctl(libc::PR_SET_PDEATHSIG, kill, 0, 0, 0) as c_long)
                .at("tie to the spawner")?;
        }
        Ok(())
    }

    fn drop_capabilities(&self) -> io::Result<()> {
        let kept: &[u32] = match self.privilege {
            Privilege::Root => &INIT_CAPABILITIES,
            Privilege::Rootless => &[],
        };
        for capability in 0..64 {
            if kept.contains(&capability) {
                continue;
            }
            // SAFETY: takes numbers.
            let dropped = sys::check(unsafe {
                libc::prctl(libc::PR_CAPBSET_DROP, capability as c_ulong, 0, 0, 0)
            } as c_long);
            match dropped {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break, // past the last
                other => other?,
            };
        }
        // Nobody inside gets capabilities by being asked to keep or pass
        // them on; each with its lock.
        const SECBIT_NO_SETUID_FIXUP_LOCKED: c_ulong = 1 << 3;
        const SECBIT_KEEP_CAPS_LOCKED: c_ulong = 1 << 5;
        const SECBIT_NO_CAP_AMBIENT_RAISE: c_ulong = 1 << 6;
        const SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED: c_ulong = 1 << 7;
        let bits = SECBIT_NO_SETUID_FIXUP_LOCKED
            | SECBIT_KEEP_CAPS_LOCKED
            | SECBIT_NO_CAP_AMBIENT_RAISE
            | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
        // SAFETY: takes numbers.
        sys::check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) } as c_long)?;
        let bits = kept.iter().fold(0u32, |bits, capability| bits | 1 << capability);
        const VERSION_3: u32 = 0x2008_0522;
        let header = [VERSION_3, 0];
        // Effective, permitted, inheritable; low words, then high words.
        let sets = [bits, bits, 0, 0, 0, 0];
        // SAFETY: header and both data blocks have the layout of version 3.
        sys::check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) })?;
        Ok(())
    }

    /// 0 to 2 are `/dev/null` already; 3 becomes the channel; nothing else
    /// outlives the exec.
    fn arrange_descriptors(&self) -> io::Result<()> {
        const CLOSE_RANGE_CLOEXEC: u32 = 4;
        // SAFETY: take numbers; descriptor 3 is a placeholder.
        unsafe {
            sys::check(libc::dup2(self.channel.as_raw_fd(), 3) as c_long)?;
            sys::check(libc::syscall(libc::SYS_close_range, 4, u32::MAX, CLOSE_RANGE_CLOEXEC))?;
        }
        Ok(())
    }

    fn execute(&self) -> io::Error {
        let arguments = [c"init".as_ptr(), std::ptr::null()];
        let environment = [std::ptr::null::<libc::c_char>()];
        // SAFETY: both lists end in null and outlive the call, which returns
        // only when it failed.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                self.init.as_raw_fd(),
                c"".as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
        io::Error::last_os_error()
    }
}

/// Whether tasks of a scheduling policy go before all ordinary ones.
fn is_above_user_code(policy: libc::c_int) -> bool {
    // One bit says only what a task's children begin with.
    !matches!(
        policy & !libc::SCHED_RESET_ON_FORK,
        libc::SCHED_OTHER | libc::SCHED_BATCH | libc::SCHED_IDLE
    )
}

fn no_new_privileges() -> io::Result<()> {
    // SAFETY: takes numbers.
    sys::check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } as c_long).map(drop)
}

/// The user that an own process group of the function runs as; named here so
/// that the maps and the capabilities are seen to belong together.
const _: () = assert!(FUNCTION_UID != 0);

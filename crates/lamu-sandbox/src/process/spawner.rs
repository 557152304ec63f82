//! The helper process that forks sandboxes, so that lamu never forks itself:
//! a fork costs by the size of the process, and this one stays small. It is
//! the same program, started once with [`SPAWNER_ARGUMENT`], single-threaded,
//! without environment and without any file of lamu's but its control socket.
//!
//! It lives in the host's view of the file system, where packages are found,
//! and steps into the template's mount namespace (`root`) for each clone, so
//! that a child is born with its root in place.
//!
//! When lamu is gone, the control socket ends: the spawner then kills and
//! reaps its children, removes the instance's cgroups and ends too.
//!
//! Not here: what the child does before init (`child`), the other end
//! (`client`), how the root is made (`root`).

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::child::{self, Child};
use super::root::Template;
use super::sys::{self, Cloned, Packet};
use super::wire::{Answer, At, CgroupFiles, Failure, PACKET_BYTES_MAX, Privilege, Setup, Spawn};
use super::{cgroup, landlock, network, seccomp};

/// The first argument that makes this program a spawner.
pub const SPAWNER_ARGUMENT: &str = "__lamu_spawner";

/// Inside, the function is `sbx_user1051`, as on Lambda.
pub const FUNCTION_UID: u32 = 993;
pub const FUNCTION_GID: u32 = 990;

/// How long children may take to die after SIGKILL before the spawner leaves
/// them to their parent-death signal.
const CHILDREN_END_SECS_MAX: u64 = 5;

/// Runs the spawner and ends the process when it was started as one; returns
/// at once otherwise. To be called first in `main`, before any thread.
pub fn spawner_main_if_asked() {
    if std::env::args_os().nth(1).is_none_or(|argument| argument != SPAWNER_ARGUMENT) {
        return;
    }
    let code = match Spawner::start() {
        Ok(spawner) => spawner.run(),
        Err(_) => 1,
    };
    std::process::exit(code);
}

struct Spawner {
    control: OwnedFd,
    /// Becomes readable when a child ended.
    deaths: OwnedFd,
    init: OwnedFd,
    setup: Setup,
    template: Template,
    own_netns: OwnedFd,
    landlock_abi: u32,
    filter: Vec<libc::sock_filter>,
    children: Vec<libc::pid_t>,
}

impl Spawner {
    fn start() -> Result<Spawner, Failure> {
        let control = keep_only_control().at("arrange descriptors")?;
        match Spawner::set_up(control.try_clone().at("keep the control socket")?) {
            Ok(spawner) => {
                let ready = Answer::Ready { landlock_abi: spawner.landlock_abi };
                sys::send_packet(control.as_fd(), &ready.encode(), &[]).at("report")?;
                Ok(spawner)
            }
            Err(failure) => {
                let answer = Answer::Failure(failure.clone()).encode();
                let _ = sys::send_packet(control.as_fd(), &answer, &[]);
                Err(failure)
            }
        }
    }

    fn set_up(control: OwnedFd) -> Result<Spawner, Failure> {
        // A Ctrl-C at lamu's terminal is lamu's to handle.
        // SAFETY: failing (we lead a group already) is fine; the name is a
        // live string.
        unsafe {
            libc::setsid();
            libc::prctl(libc::PR_SET_NAME, c"lamu-spawner".as_ptr());
        }
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let Packet { bytes, mut files } =
            sys::receive_packet(control.as_fd(), &mut buffer).at("receive the set-up")?;
        let setup = Setup::decode(&buffer[..bytes]);
        let (Some(setup), Some(init)) = (setup, files.pop()) else {
            return Err(Failure { step: "read the set-up".into(), errno: libc::EPROTO });
        };
        if setup.privilege == Privilege::Rootless {
            enter_user_namespace()?;
        }
        let own_netns = File::open("/proc/self/ns/net").at("open the network namespace")?.into();
        let template = Template::build(&setup)?;
        let deaths = child_signals().at("watch children")?;
        Ok(Spawner {
            control,
            deaths,
            init,
            setup,
            template,
            own_netns,
            landlock_abi: landlock::abi(),
            filter: seccomp::filter(),
            children: Vec::new(),
        })
    }

    fn run(mut self) -> i32 {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            let (asked, died) = self.wait();
            if died {
                self.reap();
            }
            if !asked {
                continue;
            }
            match sys::receive_packet(self.control.as_fd(), &mut buffer) {
                Ok(Packet { bytes: 0, .. }) => break,
                Ok(Packet { bytes, files }) => self.spawn(&buffer[..bytes], files),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.end();
        0
    }

    /// Whether a request waits, and whether a child died.
    fn wait(&self) -> (bool, bool) {
        let interest =
            |fd: &OwnedFd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut polled = [interest(&self.control), interest(&self.deaths)];
        // SAFETY: two initialised entries, and the count says two.
        unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) };
        (polled[0].revents != 0, polled[1].revents != 0)
    }

    fn reap(&mut self) {
        let mut signal = [0u8; 128];
        // SAFETY: the buffer is as long as stated; the content is not needed.
        unsafe {
            libc::read(self.deaths.as_raw_fd(), signal.as_mut_ptr().cast(), signal.len());
        }
        loop {
            // SAFETY: a null status is allowed.
            let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
            if pid <= 0 {
                return;
            }
            self.children.retain(|child| *child != pid);
        }
    }

    fn spawn(&mut self, bytes: &[u8], files: Vec<OwnedFd>) {
        let mut files = files.into_iter();
        let Some(status) = files.next() else { return };
        let files: Vec<OwnedFd> = files.collect();
        let result = match Spawn::decode(bytes) {
            Some(spawn) => self.clone_child(&spawn, &status, files),
            None => Err(Failure { step: "read the request".into(), errno: libc::EPROTO }),
        };
        match result {
            Ok((pid, pidfd)) => {
                self.children.push(pid);
                let started = Answer::Started { pid: pid as u32 }.encode();
                if sys::send_packet(status.as_fd(), &started, &[pidfd.as_fd()]).is_err() {
                    // Nobody waits for this sandbox any more.
                    let _ = sys::kill_pidfd(pidfd.as_fd(), libc::SIGKILL);
                }
            }
            Err(failure) => {
                let _ = sys::send_packet(status.as_fd(), &Answer::Failure(failure).encode(), &[]);
            }
        }
        // Off the path of this spawn: back to where packages are found, and
        // out of a network namespace that is not ours.
        drop(status);
        self.template.leave();
        let _ = sys::setns(self.own_netns.as_fd(), libc::CLONE_NEWNET);
    }

    fn clone_child(
        &mut self,
        spawn: &Spawn,
        status: &OwnedFd,
        files: Vec<OwnedFd>,
    ) -> Result<(libc::pid_t, OwnedFd), Failure> {
        let mut files = files.into_iter();
        let mut file = |what: &str| {
            files.next().ok_or(Failure { step: format!("find the {what}"), errno: libc::EBADF })
        };
        let channel = file("channel")?;
        let netns = if spawn.netns { Some(file("network namespace")?) } else { None };
        let mut tasks = Vec::new();
        let mut cgroup = None;
        match spawn.cgroup {
            CgroupFiles::None => {}
            CgroupFiles::V1Tasks(count) => {
                for _ in 0..count {
                    tasks.push(file("cgroup")?);
                }
            }
            CgroupFiles::V2Directory => cgroup = Some(file("cgroup")?),
        }
        let mut trees = Vec::with_capacity(spawn.mounts.len());
        for mount in &spawn.mounts {
            trees.push(self.template.package(mount)?);
        }
        if let Some(netns) = &netns {
            sys::setns(netns.as_fd(), libc::CLONE_NEWNET).at("enter the network namespace")?;
            // One made with the child is the child's to open doors in.
            open_doors(&self.setup.doors, status)?;
        }
        self.template.enter()?;
        let (gate, open) = sys::pipe().at("make the gate")?;
        let mut flags = libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC;
        if netns.is_none() {
            flags |= libc::CLONE_NEWNET;
        }
        match sys::clone_process(flags, cgroup.as_ref().map(AsFd::as_fd)).at("clone")? {
            Cloned::Child => {
                drop(open);
                child::become_init(Child {
                    spawn,
                    privilege: self.setup.privilege,
                    status,
                    channel: &channel,
                    gate: &gate,
                    init: &self.init,
                    tasks: &tasks,
                    trees: &trees,
                    new_netns: netns.is_none(),
                    doors: &self.setup.doors,
                    landlock_abi: self.landlock_abi,
                    filter: &self.filter,
                })
            }
            Cloned::Parent { pid, pidfd } => {
                // Closing the gate unopened makes the child exit.
                if let Err(error) = write_id_maps(pid, spawn.uid_base) {
                    let _ = sys::kill_pidfd(pidfd.as_fd(), libc::SIGKILL);
                    self.children.push(pid);
                    return Err(Failure::new("map users", error));
                }
                // SAFETY: one byte from a live buffer.
                unsafe { libc::write(open.as_raw_fd(), c"1".as_ptr().cast(), 1) };
                Ok((pid, pidfd))
            }
        }
    }

    /// lamu is gone: nothing of it may stay.
    fn end(mut self) {
        for pid in &self.children {
            // SAFETY: an unreaped child keeps its number, so this is it.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        cgroup::thaw_all(&self.setup.cgroups);
        let deadline = Instant::now() + Duration::from_secs(CHILDREN_END_SECS_MAX);
        while !self.children.is_empty() && Instant::now() < deadline {
            // SAFETY: a null status is allowed.
            let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
            match pid {
                0 => std::thread::sleep(Duration::from_millis(1)),
                pid if pid < 0 => break,
                pid => self.children.retain(|child| *child != pid),
            }
        }
        cgroup::remove_instance(&self.setup.cgroups);
    }
}

/// Moves the control socket, which comes as standard input, out of the way,
/// points 0 to 3 at `/dev/null` and closes everything else. With 3 taken, no
/// file received later can be where the child wants its channel.
fn keep_only_control() -> io::Result<OwnedFd> {
    // SAFETY: descriptor 0 is the control socket by agreement; the duplicate
    // is ours. The others are replaced or closed before anything uses them.
    unsafe {
        let control = sys::check(libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 10) as libc::c_long)?;
        let control = OwnedFd::from_raw_fd(control as i32);
        let null = File::options().read(true).write(true).open("/dev/null")?;
        for fd in 0..4 {
            if null.as_raw_fd() != fd {
                sys::check(libc::dup2(null.as_raw_fd(), fd) as libc::c_long)?;
            }
        }
        if null.as_raw_fd() < 4 {
            std::mem::forget(null);
        }
        let own = control.as_raw_fd() as u32;
        libc::syscall(libc::SYS_close_range, 4, own - 1, 0);
        libc::syscall(libc::SYS_close_range, own + 1, u32::MAX, 0);
        Ok(control)
    }
}

/// Makes the sockets of the doors in the current network namespace and hands
/// them over; none stays here.
pub fn open_doors(doors: &[SocketAddr], status: &OwnedFd) -> Result<(), Failure> {
    if doors.is_empty() {
        return Ok(());
    }
    let listeners = network::listen(doors).at("listen for the endpoints")?;
    let files: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    sys::send_packet(status.as_fd(), &Answer::Listening.encode(), &files)
        .at("hand over the endpoints' sockets")
}

/// A descriptor that becomes readable on SIGCHLD.
fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        sys::check(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) as _)?;
        let fd = sys::check(
            libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) as libc::c_long
        )?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Without root, all mounts are made inside a user namespace of our own, in
/// which we stay the user that we are.
fn enter_user_namespace() -> Result<(), Failure> {
    let (uid, gid) = (sys::effective_uid(), sys::effective_gid());
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).at("make a user namespace")?;
    std::fs::write("/proc/self/setgroups", "deny").at("give up groups")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).at("map our user")?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).at("map our group")?;
    sys::mount(c"", c"/", c"", libc::MS_REC | libc::MS_SLAVE, c"").at("follow the host's mounts")
}

/// Root gives each sandbox two users of its own: init is 0 inside, the
/// function is 993. Without root there is one, 993, and it is the caller.
fn write_id_maps(pid: libc::pid_t, uid_base: Option<u32>) -> io::Result<()> {
    let proc = Path::new("/proc").join(pid.to_string());
    match uid_base {
        Some(base) => {
            let map = |id: u32| format!("0 {base} 1\n{id} {} 1\n", base + id);
            std::fs::write(proc.join("uid_map"), map(FUNCTION_UID))?;
            std::fs::write(proc.join("gid_map"), map(FUNCTION_GID))
        }
        None => {
            std::fs::write(proc.join("setgroups"), "deny")?;
            let (uid, gid) = (sys::effective_uid(), sys::effective_gid());
            std::fs::write(proc.join("uid_map"), format!("{FUNCTION_UID} {uid} 1\n"))?;
            std::fs::write(proc.join("gid_map"), format!("{FUNCTION_GID} {gid} 1\n"))
        }
    }
}

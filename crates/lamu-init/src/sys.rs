//! The few kernel interfaces that std has no safe form for.
//!
//! Not here: decisions. Everything below is one call and its error.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lamu_guest::Exit;

pub const READ: u32 = libc::EPOLLIN as u32;
pub const WRITE: u32 = libc::EPOLLOUT as u32;
/// The other side closed; reported even where reading is not asked for.
pub const HANGUP: u32 = libc::EPOLLRDHUP as u32;

/// Turns the kernel's -1 into its error.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just returned this descriptor and nothing else
        // owns it.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn add(&self, fd: &impl AsRawFd, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub fn modify(&self, fd: &impl AsRawFd, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Waits for events until `until`, or without limit, and returns how many
    /// came.
    pub fn wait(
        &self,
        events: &mut [libc::epoll_event],
        until: Option<Instant>,
    ) -> io::Result<usize> {
        let (fd, count) = (self.0.as_raw_fd(), events.len() as libc::c_int);
        loop {
            let limit = until.map_or(-1, |until| {
                // Upwards, so that the time has come when the wait is over.
                let left = until.saturating_duration_since(Instant::now());
                left.as_micros().div_ceil(1000).min(60_000) as libc::c_int
            });
            // SAFETY: `events` is writable for `count` entries.
            let result = check(unsafe { libc::epoll_wait(fd, events.as_mut_ptr(), count, limit) });
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(|count| count as usize),
            }
        }
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: &impl AsRawFd,
        token: u64,
        interest: u32,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token };
        // SAFETY: `event` lives across the call, which only reads it.
        let result = unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event)
        };
        check(result).map(drop)
    }
}

/// Blocks SIGCHLD and returns a descriptor that reports it instead.
pub fn child_signals() -> io::Result<File> {
    // SAFETY: an all-zero sigset_t is a valid value, and the calls below
    // write only to it.
    let fd = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?
    };
    // SAFETY: the kernel just returned this descriptor.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// A pipe whose read end does not block; both ends close on exec.
pub fn pipe() -> io::Result<(File, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors the kernel writes.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the kernel just returned both and nothing else owns them.
    let (read, write) = unsafe { (File::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
    // SAFETY: no pointers; `read` is open.
    check(unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok((read, write))
}

/// Which of `files` can be read now, without waiting. Descriptors below 0
/// stand for nothing.
pub fn readable(files: [RawFd; 3]) -> [bool; 3] {
    let mut polls = files.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: `polls` is writable for its three entries.
    let count = unsafe { libc::poll(polls.as_mut_ptr(), 3, 0) };
    polls.map(|poll| count > 0 && poll.revents != 0)
}

/// Waits until `fd` can be read; `false` when the time is over first, or the
/// wait was interrupted.
pub fn wait_readable(fd: RawFd, patience: Duration) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let limit = patience.as_micros().div_ceil(1000).min(60_000) as libc::c_int;
    // SAFETY: `poll` is writable.
    unsafe { libc::poll(&raw mut poll, 1, limit) > 0 }
}

pub fn set_close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// A process that nobody inside the sandbox may trace or read, that adopts
/// orphans, and whose allocator gives large buffers back at once.
pub fn settle() {
    // Both are refused only by very old kernels, where nothing better could
    // be done.
    prctl(libc::PR_SET_DUMPABLE, 0, 0);
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0);
    // A fixed threshold: glibc would raise it after the first large body and
    // keep such memory from then on. Others have a fixed one.
    // SAFETY: numbers only, and the process has one thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Those operations that take numbers only. Whether it was done.
pub fn prctl(operation: libc::c_int, first: libc::c_ulong, second: libc::c_ulong) -> bool {
    const NONE: libc::c_ulong = 0;
    // SAFETY: no pointers, and every argument has the kernel's width.
    unsafe { libc::prctl(operation, first, second, NONE, NONE) >= 0 }
}

/// One ended child, if there is one; `Err` when there are no children.
pub fn reap(wait: Wait) -> io::Result<Option<(libc::pid_t, Exit)>> {
    let flags = match wait {
        Wait::UntilOneEnds => 0,
        Wait::Never => libc::WNOHANG,
    };
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable.
        match check(unsafe { libc::waitpid(-1, &raw mut status, flags) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(0) => return Ok(None),
            Ok(pid) if libc::WIFSIGNALED(status) => {
                return Ok(Some((pid, Exit::Signal(libc::WTERMSIG(status)))));
            }
            Ok(pid) => return Ok(Some((pid, Exit::Code(libc::WEXITSTATUS(status))))),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    UntilOneEnds,
    Never,
}

/// Ends every process but this one and collects them all.
pub fn end_all_others() {
    if std::process::id() == 1 {
        // As PID 1 that is everything in the namespace, at one moment, so
        // nothing can fork its way out.
        // SAFETY: no pointers.
        unsafe { libc::kill(-1, libc::SIGKILL) };
        while reap(Wait::UntilOneEnds).is_ok() {}
        return;
    }
    // Elsewhere (tests): orphans come to us as the subreaper, so killing
    // children until there are none reaches every descendant.
    loop {
        for pid in children() {
            // SAFETY: no pointers. These are our own unreaped children, so
            // their ids cannot have been reused. A negative id reaches the
            // group; it fails harmlessly where the child leads none.
            unsafe {
                libc::kill(-pid, libc::SIGKILL);
                libc::kill(pid, libc::SIGKILL);
            }
        }
        loop {
            match reap(Wait::Never) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn children() -> Vec<libc::pid_t> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    let list = std::fs::read_to_string(path).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Sends `signal` to a child of ours that has not been collected, or with
/// `Reach::Group` to all of its process group.
pub fn signal(pid: libc::pid_t, signal: libc::c_int, reach: Reach) {
    let target = if reach == Reach::Group { -pid } else { pid };
    // SAFETY: no pointers. An uncollected child keeps its id, and so does its
    // group; where it is gone, the call fails.
    unsafe { libc::kill(target, signal) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Process,
    Group,
}

/// Begins a connection to a port of the loopback and does not wait for it.
pub fn connect_loopback(port: u16) -> io::Result<TcpStream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: the kernel just returned this descriptor.
    let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    };
    let bytes = std::mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` lives across the call, which only reads its bytes.
    match check(unsafe { libc::connect(fd, (&raw const address).cast(), bytes) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(stream),
    }
}

pub fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    // SAFETY: `bytes` is writable for its length. Sixteen bytes come whole.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if count == bytes.len() as isize { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

//! Starts the runtime process, and the extensions beside it.
//!
//! Everything is laid out before the fork; the child only makes system calls.
//! An exec that fails is reported over a pipe that a good exec closes.
//!
//! Not here: what the process says, and its end.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use lamu_guest::{Entry, Start, User};

use crate::sys::{self, check};

/// Where a managed runtime finds its framed log pipe and its direct socket.
const TELEMETRY_FD: RawFd = 3;
const DIRECT_FD: RawFd = 4;
/// Everything that is moved onto a fixed descriptor starts above them.
const SOURCE_FD_MIN: RawFd = 16;

/// A child executes within a millisecond; this is for a host that stands still,
/// and less than the host waits for the end of a reset. Extensions have the
/// child's user and may stop it before it executes, and init serves nobody
/// meanwhile.
const EXEC_MAX: Duration = Duration::from_secs(3);

/// A running runtime and the ends that init holds of its channels.
#[derive(Debug)]
pub struct Spawned {
    pub pid: libc::pid_t,
    pub stdout: File,
    pub stderr: File,
    pub telemetry: Option<File>,
    pub direct: Option<UnixStream>,
}

#[derive(Debug)]
pub enum SpawnError {
    /// No entry could be executed, or its directory could not be entered.
    NoEntry(io::Error),
    /// Init itself lacks something.
    Own(io::Error),
}

impl From<io::Error> for SpawnError {
    fn from(error: io::Error) -> SpawnError {
        SpawnError::Own(error)
    }
}

/// Starts the entry with `api` as its AWS_LAMBDA_RUNTIME_API.
pub fn spawn(start: &Start, api: &str) -> Result<Spawned, SpawnError> {
    launch(start, &Image::new(start, api)?, start.telemetry_fd)
}

/// Starts the extension in `file`, with the same user and limits.
pub fn spawn_extension(start: &Start, api: &str, file: &Path) -> Result<Spawned, SpawnError> {
    launch(start, &Image::extension(start, api, file)?, false)
}

fn launch(start: &Start, image: &Image, managed: bool) -> Result<Spawned, SpawnError> {
    let (stdout, stdout_end) = sys::pipe()?;
    let (stderr, stderr_end) = sys::pipe()?;
    let (failure, failure_end) = sys::pipe()?;
    let mut telemetry = None;
    let mut direct = None;
    let mut ends: [Option<OwnedFd>; 5] =
        [Some(null()?), Some(above_fixed(stdout_end)?), Some(above_fixed(stderr_end)?), None, None];
    if managed {
        let (read, write) = sys::pipe()?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        ends[TELEMETRY_FD as usize] = Some(above_fixed(write)?);
        ends[DIRECT_FD as usize] = Some(above_fixed(theirs.into())?);
        (telemetry, direct) = (Some(read), Some(ours));
    }
    let failure_end = above_fixed(failure_end)?;

    let child = Child {
        fds: std::array::from_fn(|at| ends[at].as_ref().map_or(-1, AsRawFd::as_raw_fd)),
        failure: failure_end.as_raw_fd(),
        cwd: &image.cwd,
        user: start.user,
        open_files_max: start.open_files_max,
        processes_max: start.processes_max,
        ends_with_init: std::process::id() != 1,
        commands: &image.commands(),
        environment: &pointers(&image.environment),
    };
    // SAFETY: init has one thread, so the child may do anything its parent
    // could; it makes system calls only and ends in exec or _exit.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        // SAFETY: this is the freshly forked child.
        unsafe { child.become_runtime() }
    }
    drop((ends, failure_end));

    match read_failure(failure, EXEC_MAX) {
        None => Ok(Spawned { pid, stdout, stderr, telemetry, direct }),
        Some(error) => {
            end(pid);
            Err(SpawnError::NoEntry(error))
        }
    }
}

/// Ends a child that did not execute, stopped or not.
fn end(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: `status` is writable; `pid` is our child and not collected yet.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, &raw mut status, 0);
    }
}

/// What exec takes, as C strings.
struct Image {
    candidates: Vec<Vec<CString>>,
    environment: Vec<CString>,
    cwd: CString,
}

impl Image {
    fn new(start: &Start, api: &str) -> Result<Image, SpawnError> {
        let candidates = match &start.entry {
            Entry::FirstOf(files) => {
                files.iter().map(|file| Ok(vec![c_string(file)?])).collect::<io::Result<_>>()?
            }
            Entry::Exec(command) => {
                let program = std::iter::once(&command.program);
                let words = program.chain(&command.args).map(|word| c_string(word));
                vec![words.collect::<io::Result<_>>()?]
            }
        };
        let mut environment: Vec<CString> = Vec::with_capacity(start.env.len() + 3);
        for (name, value) in &start.env {
            environment.push(c_string(&format!("{name}={value}"))?);
        }
        environment.push(c_string(&format!("AWS_LAMBDA_RUNTIME_API={api}"))?);
        if start.telemetry_fd {
            environment.push(c_string(&format!("_LAMBDA_TELEMETRY_LOG_FD={TELEMETRY_FD}"))?);
            environment.push(c_string(&format!("_LAMU_RUNTIME_FD={DIRECT_FD}"))?);
        }
        Ok(Image { candidates, environment, cwd: c_string(&start.cwd)? })
    }

    fn extension(start: &Start, api: &str, file: &Path) -> Result<Image, SpawnError> {
        let mut environment: Vec<CString> = Vec::with_capacity(start.env.len() + 1);
        for (name, value) in start.env.iter().filter(|(name, _)| is_for_extensions(name)) {
            environment.push(c_string(&format!("{name}={value}"))?);
        }
        environment.push(c_string(&format!("AWS_LAMBDA_RUNTIME_API={api}"))?);
        let file = CString::new(file.as_os_str().as_bytes())
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        Ok(Image { candidates: vec![vec![file]], environment, cwd: c_string(&start.cwd)? })
    }

    fn commands(&self) -> Vec<Vec<*const libc::c_char>> {
        self.candidates.iter().map(|words| pointers(words)).collect()
    }
}

/// What concerns the runtime alone is kept from extensions (execution
/// environment reference, section 3).
fn is_for_extensions(name: &str) -> bool {
    const RUNTIME_ONLY: [&str; 6] = [
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    ];
    !name.starts_with('_') && !RUNTIME_ONLY.contains(&name)
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// A null-terminated array that borrows `strings`.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

fn null() -> io::Result<OwnedFd> {
    match OpenOptions::new().read(true).open("/dev/null") {
        Ok(file) => above_fixed(file.into()),
        // Without /dev, a pipe that nobody writes to reads as empty too.
        Err(_) => above_fixed(sys::pipe()?.0.into()),
    }
}

/// Moves `fd` to where no `dup2` onto the fixed descriptors can hit it.
fn above_fixed(fd: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let copy = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, SOURCE_FD_MIN) })?;
    // SAFETY: the kernel just returned this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Waits for the exec: nothing when it went well, else its error.
fn read_failure(mut failure: File, patience: Duration) -> Option<io::Error> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if !sys::wait_readable(failure.as_raw_fd(), left) {
            if left.is_zero() {
                return Some(io::Error::from_raw_os_error(libc::ETIMEDOUT));
            }
            continue;
        }
        // Four bytes are written as one.
        let mut errno = [0; 4];
        return match failure.read_exact(&mut errno) {
            Ok(()) => Some(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => Some(error),
        };
    }
}

/// What the child needs between fork and exec.
struct Child<'a> {
    fds: [RawFd; 5],
    failure: RawFd,
    cwd: &'a CStr,
    user: Option<User>,
    open_files_max: u64,
    processes_max: u64,
    /// Not PID 1, so nothing else would end the runtime when init dies.
    ends_with_init: bool,
    commands: &'a [Vec<*const libc::c_char>],
    environment: &'a [*const libc::c_char],
}

impl Child<'_> {
    /// # Safety
    /// Only in a freshly forked child.
    unsafe fn become_runtime(&self) -> ! {
        // SAFETY: the caller's promise is the one these need.
        let errno = unsafe {
            match self.prepare() {
                Ok(()) => self.execute(),
                Err(error) => error,
            }
        };
        // SAFETY: writes four bytes of a local and ends the process.
        unsafe {
            libc::write(self.failure, (&raw const errno).cast(), 4);
            libc::_exit(127)
        }
    }

    /// # Safety
    /// As `become_runtime`.
    unsafe fn prepare(&self) -> Result<(), i32> {
        let done = |result: libc::c_int| if result < 0 { Err(errno()) } else { Ok(()) };
        // SAFETY: system calls on values of this frame; none allocates.
        unsafe {
            libc::setsid();
            for (target, &source) in self.fds.iter().enumerate() {
                if source >= 0 {
                    done(libc::dup2(source, target as RawFd))?;
                }
            }
            // All of ours close on exec already; this is the second lock.
            let first = self.fds.iter().rposition(|&fd| fd >= 0).map_or(3, |last| last + 1);
            let (last, flags) = (u32::MAX as usize, libc::CLOSE_RANGE_CLOEXEC as usize);
            libc::syscall(libc::SYS_close_range, first, last, flags);

            limit(libc::RLIMIT_CORE, 0)?;
            limit(libc::RLIMIT_NOFILE, self.open_files_max)?;
            limit(libc::RLIMIT_NPROC, self.processes_max)?;

            // The bounding set goes first, while there is a right to do so.
            for capability in 0..64 {
                if !sys::prctl(libc::PR_CAPBSET_DROP, capability, 0) {
                    break;
                }
            }
            if let Some(User { uid, gid }) = self.user {
                if libc::setgroups(0, std::ptr::null()) < 0 && errno() != libc::EPERM {
                    return Err(errno());
                }
                done(libc::setresgid(gid, gid, gid))?;
                done(libc::setresuid(uid, uid, uid))?;
            }
            sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as _, 0);
            drop_capabilities();
            sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0);
            if self.ends_with_init {
                sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0);
            }
            done(libc::chdir(self.cwd.as_ptr()))?;

            // What is ignored or blocked stays so through exec: SIGPIPE by
            // std, SIGCHLD by us, others by whoever started us.
            default_signals();
        }
        Ok(())
    }

    /// Returns only if no candidate could be executed.
    ///
    /// # Safety
    /// As `become_runtime`.
    unsafe fn execute(&self) -> i32 {
        let mut first_error = libc::ENOENT;
        for command in self.commands {
            // SAFETY: both arrays are null-terminated and their strings live
            // in the parent's copy of this frame.
            unsafe { libc::execve(command[0], command.as_ptr(), self.environment.as_ptr()) };
            match errno() {
                libc::ENOENT => {}
                error => first_error = error,
            }
        }
        first_error
    }
}

/// What the C library calls the number of a limit.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn limit(resource: Resource, max: u64) -> Result<(), i32> {
    let value = libc::rlimit { rlim_cur: max, rlim_max: max };
    // SAFETY: `value` lives across the call, which only reads it.
    if unsafe { libc::setrlimit(resource, &raw const value) } == 0 {
        return Ok(());
    }
    // Without the right to raise it, the inherited hard limit is the most
    // that can be had.
    let mut held = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `held` is writable, then only read.
    let result = unsafe {
        libc::getrlimit(resource, &raw mut held);
        held.rlim_cur = held.rlim_max.min(max);
        libc::setrlimit(resource, &raw const held)
    };
    if result < 0 { Err(errno()) } else { Ok(()) }
}

fn default_signals() {
    const SET_BYTES: usize = 8;
    // The kernel's sigaction: handler 0 is the default, no flags, no mask.
    let default = [0u64; 4];
    let none = 0u64;
    for signal in 1..=64 {
        // SAFETY: both live across the calls and are only read. libc's own
        // wrapper would refuse the signals it keeps for itself.
        unsafe {
            let old = std::ptr::null_mut::<u8>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, SET_BYTES);
        }
    }
    // SAFETY: as above.
    unsafe {
        let (how, old) = (libc::SIG_SETMASK, std::ptr::null_mut::<u8>());
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const none, old, SET_BYTES);
    }
}

fn drop_capabilities() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    // Effective, permitted, inheritable; two words each.
    let none = [0u32; 6];
    // SAFETY: both live across the call and have the layout of version 3.
    unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_neither_executes_nor_fails_is_given_up() {
        let (failure, failure_end) = sys::pipe().unwrap();
        // SAFETY: the child makes system calls only and ends in _exit.
        let pid = unsafe {
            let pid = check(libc::fork()).unwrap();
            if pid == 0 {
                libc::raise(libc::SIGSTOP);
                libc::_exit(0);
            }
            pid
        };
        let error = read_failure(failure, Duration::from_millis(1)).unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
        end(pid);
        // SAFETY: no pointers that are followed.
        let again = check(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) });
        assert_eq!(again.unwrap_err().raw_os_error(), Some(libc::ECHILD), "it was collected");
        drop(failure_end);
    }
}

//! What can be asked inside a sandbox, and how it is found out.
//!
//! `fn QUESTION` is answered by a process that first becomes the function's
//! user; anything else by init itself.
//!
//! Not here: what the answer should be (`tests/`).

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::FromRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use lamu_sandbox::process::{FUNCTION_GID, FUNCTION_UID};

pub fn answer(question: &str) -> String {
    match question.strip_prefix("fn ") {
        Some(question) => as_function(question),
        None => answered(question),
    }
}

fn answered(question: &str) -> String {
    let words: Vec<&str> = question.split(' ').collect();
    let result = match words[..] {
        ["status"] => fs::read_to_string("/proc/self/status"),
        ["ids"] => Ok(ids()),
        ["read", path] => fs::read(path).map(|bytes| format!("{} bytes", bytes.len())),
        ["text", path] => fs::read_to_string(path),
        ["link", path] => fs::read_link(path).map(|target| target.display().to_string()),
        ["list", path] => list(path),
        ["write", path] => fs::write(path, "x").map(|()| "written".to_owned()),
        ["remount", path] => remount(path),
        ["syscall", name] => syscall(name),
        ["socket", family, kind, protocol] => socket(family, kind, protocol),
        ["connect", address] => connect(address),
        ["hear", address] => hear(address),
        ["abstract", name] => connect_abstract(name),
        ["serve", address] => serve(address),
        ["fill", path, mib] => fill(path, mib.parse().unwrap_or(0)),
        ["files", dir, count] => files(dir, count.parse().unwrap_or(0)),
        ["fork", count] => fork_many(count.parse().unwrap_or(0)),
        ["eat", mib] => eat(mib.parse().unwrap_or(0)),
        ["spin", millis] => spin(millis.parse().unwrap_or(0)),
        ["processes"] => processes(),
        ["signal", pid] => signal(pid.parse().unwrap_or(0)),
        ["run", ..] => run(&words[1..]),
        _ => Ok(format!("what is {question:?}?")),
    };
    match result {
        Ok(text) => text,
        Err(error) => format!("error {}", error.raw_os_error().unwrap_or(-1)),
    }
}

/// Forks, becomes the function's user where init may, answers, ends.
fn as_function(question: &str) -> String {
    let mut fds = [0; 2];
    // SAFETY: this program has one thread here, so a forked child may run
    // ordinary code; the descriptors are the pipe's own.
    unsafe {
        assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
        let pid = libc::fork();
        assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
        if pid == 0 {
            if libc::getuid() == 0 {
                assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
                assert_eq!(libc::setresgid(FUNCTION_GID, FUNCTION_GID, FUNCTION_GID), 0);
                assert_eq!(libc::setresuid(FUNCTION_UID, FUNCTION_UID, FUNCTION_UID), 0);
            }
            let mut out = fs::File::from_raw_fd(fds[1]);
            let _ = out.write_all(answered(question).as_bytes());
            libc::_exit(0);
        }
        drop(fs::File::from_raw_fd(fds[1]));
        let mut answer = String::new();
        let _ = fs::File::from_raw_fd(fds[0]).read_to_string(&mut answer);
        let mut status = 0;
        libc::waitpid(pid, &mut status, 0);
        if libc::WIFSIGNALED(status) {
            return format!("signal {}", libc::WTERMSIG(status));
        }
        answer
    }
}

fn ids() -> String {
    let mut ids = [0; 6];
    let [a, b, c, d, e, f] = &mut ids;
    // SAFETY: six numbers to write to.
    unsafe {
        libc::getresuid(a, b, c);
        libc::getresgid(d, e, f);
    }
    format!("{ids:?}")
}

fn list(path: &str) -> io::Result<String> {
    let mut names: Vec<String> = fs::read_dir(path)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names.join(" "))
}

fn remount(path: &str) -> io::Result<String> {
    let path = std::ffi::CString::new(path)?;
    let none = std::ptr::null();
    // SAFETY: strings outlive the call; null where nothing is passed.
    let done = unsafe {
        libc::mount(none, path.as_ptr(), none, libc::MS_REMOUNT | libc::MS_BIND, none.cast())
    };
    if done == 0 { Ok("remounted".into()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for one system call with arguments that would do no harm.
fn syscall(name: &str) -> io::Result<String> {
    let (number, first): (i64, i64) = match name {
        "mount" => (libc::SYS_mount, 0),
        "umount2" => (libc::SYS_umount2, 0),
        "pivot_root" => (libc::SYS_pivot_root, 0),
        "chroot" => (libc::SYS_chroot, c"/tmp".as_ptr() as i64),
        "unshare_user" => (libc::SYS_unshare, libc::CLONE_NEWUSER as i64),
        "unshare_net" => (libc::SYS_unshare, libc::CLONE_NEWNET as i64),
        "clone_user" => (libc::SYS_clone, (libc::CLONE_NEWUSER | libc::SIGCHLD) as i64),
        "clone3" => (libc::SYS_clone3, 0),
        "setns" => (libc::SYS_setns, 0),
        "ptrace" => (libc::SYS_ptrace, libc::PTRACE_TRACEME as i64),
        "process_vm_readv" => (libc::SYS_process_vm_readv, 1),
        "bpf" => (libc::SYS_bpf, 0),
        "keyctl" => (libc::SYS_keyctl, 0),
        "add_key" => (libc::SYS_add_key, 0),
        "perf_event_open" => (libc::SYS_perf_event_open, 0),
        "userfaultfd" => (libc::SYS_userfaultfd, 0),
        "io_uring_setup" => (libc::SYS_io_uring_setup, 8),
        "open_by_handle_at" => (libc::SYS_open_by_handle_at, 0),
        "name_to_handle_at" => (libc::SYS_name_to_handle_at, 0),
        "reboot" => (libc::SYS_reboot, 0),
        "swapon" => (libc::SYS_swapon, 0),
        "init_module" => (libc::SYS_init_module, 0),
        "kexec_load" => (libc::SYS_kexec_load, 0),
        "clock_settime" => (libc::SYS_clock_settime, 0),
        "sethostname" => (libc::SYS_sethostname, c"x".as_ptr() as i64),
        "syslog" => (libc::SYS_syslog, 10),
        "unknown" => (4_000, 0),
        _ => return Ok(format!("no syscall {name}")),
    };
    // SAFETY: null pointers and small numbers: refused, or an error.
    let result = unsafe { libc::syscall(number, first, 0, 0, 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(format!("returned {result}")) }
}

fn socket(family: &str, kind: &str, protocol: &str) -> io::Result<String> {
    let number = |text: &str| text.parse::<i32>().unwrap_or(-1);
    // SAFETY: takes numbers; the descriptor is leaked into a short life.
    let fd = unsafe { libc::socket(number(family), number(kind), number(protocol)) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok("opened".into()) }
}

fn connect(address: &str) -> io::Result<String> {
    let address =
        address.to_socket_addrs()?.next().ok_or(io::Error::from(io::ErrorKind::NotFound))?;
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).map(|_| "connected".to_owned())
}

/// What somebody says who speaks first.
fn hear(address: &str) -> io::Result<String> {
    let address = address.parse::<SocketAddr>().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

fn connect_abstract(name: &str) -> io::Result<String> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};
    let address = SocketAddr::from_abstract_name(name)?;
    UnixStream::connect_addr(&address).map(|_| "connected".to_owned())
}

/// Listens, connects to itself, and leaves both open until init ends.
fn serve(address: &str) -> io::Result<String> {
    let listener = TcpListener::bind(address)?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    std::mem::forget((listener, stream));
    Ok("served".into())
}

/// How many MiB a file can take.
fn fill(path: &str, mib: usize) -> io::Result<String> {
    let mut file = fs::File::create(path)?;
    let block = vec![7u8; 1 << 20];
    for written in 0..mib {
        if let Err(error) = file.write_all(&block) {
            let code = error.raw_os_error().unwrap_or(-1);
            fs::remove_file(path)?;
            return Ok(format!("{written} MiB, then error {code}"));
        }
    }
    fs::remove_file(path)?;
    Ok(format!("{mib} MiB"))
}

/// How many files a directory can take.
fn files(dir: &str, count: usize) -> io::Result<String> {
    for made in 0..count {
        if let Err(error) = fs::write(format!("{dir}/{made}"), "") {
            return Ok(format!("{made} files, then error {}", error.raw_os_error().unwrap_or(-1)));
        }
    }
    Ok(format!("{count} files"))
}

/// How many children can be alive at once.
fn fork_many(count: usize) -> io::Result<String> {
    let mut children = Vec::new();
    let mut error = 0;
    for _ in 0..count {
        // SAFETY: one thread; the child only waits to be killed.
        match unsafe { libc::fork() } {
            0 => loop {
                std::thread::sleep(Duration::from_secs(60));
            },
            pid if pid < 0 => {
                error = io::Error::last_os_error().raw_os_error().unwrap_or(-1);
                break;
            }
            pid => children.push(pid),
        }
    }
    for pid in &children {
        // SAFETY: our own children, not yet reaped.
        unsafe {
            libc::kill(*pid, libc::SIGKILL);
            libc::waitpid(*pid, std::ptr::null_mut(), 0);
        }
    }
    Ok(format!("{} children, error {error}", children.len()))
}

fn eat(mib: usize) -> io::Result<String> {
    let mut eaten = Vec::new();
    for _ in 0..mib {
        eaten.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
    Ok(format!("ate {} MiB", eaten.len()))
}

/// The share of a core that spinning gets, in thousandths.
fn spin(millis: u64) -> io::Result<String> {
    let used = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: room for one time.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
        time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
    };
    let (start, before) = (std::time::Instant::now(), used());
    while start.elapsed() < Duration::from_millis(millis) {
        std::hint::spin_loop();
    }
    let spun = used() - before;
    Ok((spun * 1_000 / start.elapsed().as_micros() as u64).to_string())
}

fn processes() -> io::Result<String> {
    let names = list("/proc")?;
    let numbers: Vec<&str> =
        names.split(' ').filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect();
    Ok(numbers.join(" "))
}

fn signal(pid: i32) -> io::Result<String> {
    // SAFETY: takes numbers.
    let sent = unsafe { libc::kill(pid, libc::SIGTERM) };
    if sent == 0 { Ok("sent".into()) } else { Err(io::Error::last_os_error()) }
}

/// Runs a program; `~` in an argument stands for a space.
fn run(words: &[&str]) -> io::Result<String> {
    let arguments = words[1..].iter().map(|word| word.replace('~', " "));
    let output = Command::new(words[0])
        .args(arguments)
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(format!("{} {text} {errors}", output.status))
}

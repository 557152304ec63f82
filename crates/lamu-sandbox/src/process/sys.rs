//! System calls that std has no name for, each behind a safe function.
//!
//! Not here: any decision about what to call when.

use std::ffi::CStr;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_long, c_ulong, c_void};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One message over a packet socket: how many bytes came, and which files.
#[derive(Debug)]
pub struct Packet {
    pub bytes: usize,
    pub files: Vec<OwnedFd>,
}

/// Most files one message carries: the kernel's own bound is 253; a request
/// carries its two sockets, a network namespace and one file per hierarchy,
/// an answer one socket for each door.
pub const FILES_MAX: usize = 16;

/// Turns a result below zero into the error that errno names.
pub fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: c_long) -> io::Result<OwnedFd> {
    let fd = check(result)? as RawFd;
    // SAFETY: the call that returned this descriptor made it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A connected pair of packet sockets, closed on exec.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    socket_pair(libc::SOCK_SEQPACKET)
}

/// A connected pair of byte streams, closed on exec.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    socket_pair(libc::SOCK_STREAM)
}

fn socket_pair(kind: c_int) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors that the call writes.
    check(unsafe {
        libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) as c_long
    })?;
    // SAFETY: both descriptors were just made and nothing else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// A pipe, closed on exec: read end, write end.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors that the call writes.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) as c_long })?;
    // SAFETY: both descriptors were just made and nothing else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain flag calls on a descriptor that is open while borrowed.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) as c_long)? as c_int;
        check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) as c_long)?;
    }
    Ok(())
}

/// Room for [`FILES_MAX`] descriptors, aligned as control data must be.
#[repr(C, align(8))]
struct Control([u8; 16 + FILES_MAX * 4]);

/// Sends one packet with `files` attached. Never raises SIGPIPE.
pub fn send_packet(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if files.len() > FILES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut part = libc::iovec { iov_base: bytes.as_ptr() as *mut c_void, iov_len: bytes.len() };
    let mut control = Control([0; 16 + FILES_MAX * 4]);
    // SAFETY: all zero is a valid empty header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &mut part;
    header.msg_iovlen = 1;
    if !files.is_empty() {
        let length = size_of_val(files) as u32;
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute; the first control
        // header lies inside `control`, which is aligned and large enough for
        // FILES_MAX descriptors.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(length) as _;
            let message = libc::CMSG_FIRSTHDR(&header);
            (*message).cmsg_level = libc::SOL_SOCKET;
            (*message).cmsg_type = libc::SCM_RIGHTS;
            (*message).cmsg_len = libc::CMSG_LEN(length) as _;
            let data = libc::CMSG_DATA(message).cast::<RawFd>();
            for (i, file) in files.iter().enumerate() {
                data.add(i).write_unaligned(file.as_raw_fd());
            }
        }
    }
    // SAFETY: the header points at live buffers of the stated lengths.
    let sent =
        check(unsafe { libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_NOSIGNAL) as c_long })?;
    if sent as usize == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one packet; zero bytes mean that the other side is gone.
pub fn receive_packet(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Packet> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 16 + FILES_MAX * 4]);
    // SAFETY: all zero is a valid empty header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    // SAFETY: the header points at live buffers of the stated lengths.
    let bytes = check(unsafe {
        libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_CMSG_CLOEXEC) as c_long
    })? as usize;
    let mut files = Vec::new();
    // SAFETY: the kernel filled `control` up to `msg_controllen`; the CMSG
    // functions walk exactly that, and each descriptor in an SCM_RIGHTS
    // message was made for us alone.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_RIGHTS
            {
                let data = libc::CMSG_DATA(message).cast::<RawFd>();
                let count = ((*message).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / 4;
                for i in 0..count {
                    files.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            message = libc::CMSG_NXTHDR(&header, message);
        }
    }
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Packet { bytes, files })
}

/// The arguments of clone3, version 2 of the structure.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of [`clone_process`] we are on.
#[derive(Debug)]
pub enum Cloned {
    Child,
    Parent { pid: libc::pid_t, pidfd: OwnedFd },
}

/// Forks with `flags` (namespaces) and, on cgroup v2, straight into `cgroup`.
/// Only for a process with a single thread.
pub fn clone_process(flags: c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: (flags as u32 as u64) | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and without a stack this is a fork; the caller
    // has one thread, so the child's copy of memory is consistent.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: CLONE_PIDFD made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: pid as libc::pid_t, pidfd })
}

pub fn kill_pidfd(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    // SAFETY: no pointer but a null one is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<c_void>(),
            0,
        )
    })?;
    Ok(())
}

pub fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::unshare(flags) } as c_long).map(drop)
}

pub fn setns(namespace: BorrowedFd<'_>, kind: c_int) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) } as c_long).map(drop)
}

/// mount(2). An empty `fstype` or `data` is passed as null.
pub fn mount(
    source: &CStr,
    target: &CStr,
    fstype: &CStr,
    flags: c_ulong,
    data: &CStr,
) -> io::Result<()> {
    let or_null = |text: &CStr| {
        if text.is_empty() { std::ptr::null() } else { text.as_ptr() }
    };
    // SAFETY: every pointer is null or a string that outlives the call.
    check(unsafe {
        libc::mount(or_null(source), target.as_ptr(), or_null(fstype), flags, or_null(data).cast())
    } as c_long)
    .map(drop)
}

pub const MOUNT_ATTR_RDONLY: u64 = 1;
pub const MOUNT_ATTR_NOSUID: u64 = 2;
pub const MOUNT_ATTR_NODEV: u64 = 4;

const AT_RECURSIVE: c_int = 0x8000;

/// A detached copy of the mounts at `path`, all below included.
pub fn open_tree(path: &CStr) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: c_int = 1;
    // SAFETY: `path` outlives the call.
    owned(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            path.as_ptr(),
            OPEN_TREE_CLONE | libc::O_CLOEXEC | AT_RECURSIVE,
        )
    })
}

/// Sets mount flags; `below` says whether on everything under it too.
pub fn set_mount_flags(tree: BorrowedFd<'_>, flags: u64, below: bool) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let attr = Attr { set: flags, clear: 0, propagation: 0, userns: 0 };
    let at = libc::AT_EMPTY_PATH | if below { AT_RECURSIVE } else { 0 };
    // SAFETY: the structure and the empty path outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            at,
            &raw const attr,
            size_of::<Attr>(),
        )
    })
    .map(drop)
}

/// Attaches a detached tree at `target`.
pub fn move_mount(tree: BorrowedFd<'_>, target: &CStr) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: c_int = 4;
    // SAFETY: both strings outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// A detached, new mount of `fstype` with string options.
pub fn new_mount(fstype: &CStr, options: &[(&CStr, &CStr)], flags: u64) -> io::Result<OwnedFd> {
    const FSCONFIG_SET_STRING: c_int = 1;
    const FSCONFIG_CMD_CREATE: c_int = 6;
    // SAFETY: strings outlive each call; the last call of fsconfig takes none.
    unsafe {
        let fs = owned(libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), 1))?;
        for (key, value) in options {
            check(libc::syscall(
                libc::SYS_fsconfig,
                fs.as_raw_fd(),
                FSCONFIG_SET_STRING,
                key.as_ptr(),
                value.as_ptr(),
                0,
            ))?;
        }
        check(libc::syscall(
            libc::SYS_fsconfig,
            fs.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            std::ptr::null::<c_void>(),
            std::ptr::null::<c_void>(),
            0,
        ))?;
        owned(libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), 1, flags))
    }
}

/// Makes the current directory the root and lets go of the old one.
pub fn pivot_to_cwd() -> io::Result<()> {
    // SAFETY: constant strings only.
    unsafe {
        check(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))?;
        check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH) as c_long)?;
        check(libc::chdir(c"/".as_ptr()) as c_long)?;
    }
    Ok(())
}

/// A file that exists in memory only, holding `bytes`, read-only for ever.
pub fn sealed_memory_file(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    use std::io::Write;
    const MFD_EXEC: libc::c_uint = 0x10;
    let open = |flags| {
        // SAFETY: the name outlives the call.
        owned(unsafe { libc::memfd_create(name.as_ptr(), flags) } as c_long)
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Kernels before 6.3 do not know MFD_EXEC and need not be told.
    let file = open(flags | MFD_EXEC).or_else(|_| open(flags))?;
    let mut file = std::fs::File::from(file);
    file.write_all(bytes)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: a flag call on an open descriptor.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } as c_long)?;
    // A program that somebody holds open for writing cannot be executed, so
    // only a read-only descriptor is kept.
    let read_only = std::fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(read_only.into())
}

/// `ioctl`s the loopback interface of the current network namespace up.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: the request structure is fully initialised, named `lo`, and
    // outlives the calls.
    unsafe {
        let socket =
            owned(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) as c_long)?;
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as _;
        request.ifr_name[1] = b'o' as _;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) as c_long)?;
    }
    Ok(())
}

/// Gives the loopback of the current network namespace one more address, of
/// which there may be one already.
pub fn add_loopback_address(address: IpAddr) -> io::Result<()> {
    const NLM_F_REQUEST_ACK_CREATE: u16 = 0x1 | 0x4 | 0x400;
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_F_NODAD: u8 = 2;
    const SCOPE_HOST: u8 = 254;
    /// In every network namespace.
    const LOOPBACK: u32 = 1;
    let (family, octets, flags) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec(), 0),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec(), IFA_F_NODAD),
    };
    let mut message = Vec::with_capacity(80);
    message.extend_from_slice(&[0; 4]); // the length, below
    message.extend_from_slice(&libc::RTM_NEWADDR.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_ACK_CREATE.to_ne_bytes());
    message.extend_from_slice(&1u32.to_ne_bytes()); // sequence
    message.extend_from_slice(&0u32.to_ne_bytes()); // to the kernel
    message.extend_from_slice(&[family as u8, octets.len() as u8 * 8, flags, SCOPE_HOST]);
    message.extend_from_slice(&LOOPBACK.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        message.extend_from_slice(&(4 + octets.len() as u16).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&octets);
    }
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    let mut answer = [0u8; 256];
    // SAFETY: message and answer outlive the calls and are as long as stated.
    let received = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let socket = owned(libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) as c_long)?;
        let fd = socket.as_raw_fd();
        check(libc::send(fd, message.as_ptr().cast(), message.len(), 0) as c_long)?;
        check(libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0) as c_long)? as usize
    };
    // Behind the header of 16 bytes: the error, below zero, or 0.
    let code = answer[..received].get(16..20).and_then(|code| code.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) if -code == libc::EEXIST => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

pub fn effective_uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

pub fn effective_gid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getegid() }
}

/// Has tokio watch `fd`, which must be in a mode that does not block.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd names the same open descriptor until it is dropped,
    // and the AsyncFd owns it until then.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(io::Error::from)
}

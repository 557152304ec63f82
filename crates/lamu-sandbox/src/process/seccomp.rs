//! The system call filter: a list of rules becomes one classic BPF program.
//!
//! The kernel runs a filter once per system call number when it is installed,
//! to remember which are always allowed, and compiles every instruction. So
//! the shape decides the cost: a chain of comparisons takes 320 to 450 us, a
//! binary tree over ranges of numbers a tenth of that.
//!
//! ```text
//!  arch ours? -> number below the x32 bit? -> tree of JGE -> a leaf per range:
//!  ALLOW | ERRNO | a few instructions that look at the arguments
//! ```
//!
//! Not here: which calls are allowed (`syscalls`).

use std::io;

use libc::{c_ulong, sock_filter};

use super::{sys, syscalls};

/// What happens to one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Allow,
    /// The call fails with this error.
    Refuse(u16),
    /// clone without any new namespace.
    CloneFlags,
    /// `personality` that asks and does not set.
    PersonalityQuery,
    /// The internet, local sockets, and route netlink, with the protocols
    /// that belong to them.
    SocketFamily,
    /// Local sockets only.
    LocalFamily,
}

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xC000_00B7;

/// Numbers with this bit are x32 calls on x86_64, which nobody needs.
const X32_BIT: u32 = 0x4000_0000;

const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

const RET_ALLOW: u32 = 0x7FFF_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_KILL: u32 = 0x8000_0000;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const IF_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data`.
const AT_NUMBER: u32 = 0;
const AT_ARCH: u32 = 4;

/// The low half of argument `index` (both architectures are little endian).
const fn at_argument(index: u32) -> u32 {
    16 + 8 * index
}

/// The program for this architecture.
pub fn filter() -> Vec<sock_filter> {
    program(&ranges(rule_of))
}

/// What the list says about `number`.
pub fn rule_of(number: u32) -> Rule {
    let wanted = i64::from(number);
    let listed = syscalls::COMMON.iter().chain(syscalls::OWN);
    if let Some((_, rule)) = listed.into_iter().find(|(listed, _)| *listed == wanted) {
        return *rule;
    }
    if syscalls::ABSENT.contains(&wanted) || number > syscalls::NUMBER_MAX {
        return Rule::Refuse(libc::ENOSYS as u16);
    }
    Rule::Refuse(libc::EPERM as u16)
}

/// Fences the calling process and all that come from it. Needs no_new_privs.
pub fn install(filter: &[sock_filter]) -> io::Result<()> {
    const SET_MODE_FILTER: c_ulong = 1;
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program outlives the call; the kernel only reads it. No
    // flag: the mitigation that SPEC_ALLOW avoids is off by default since
    // Linux 5.16, and hostile code is what runs here.
    sys::check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const program) })
        .map(drop)
}

/// The first number of each range of equal rules, ascending from 0.
fn ranges(rule_of: impl Fn(u32) -> Rule) -> Vec<(u32, Rule)> {
    let mut ranges: Vec<(u32, Rule)> = Vec::new();
    for number in 0..=syscalls::NUMBER_MAX + 1 {
        let rule = rule_of(number);
        if ranges.last().is_none_or(|(_, last)| *last != rule) {
            ranges.push((number, rule));
        }
    }
    ranges
}

fn program(ranges: &[(u32, Rule)]) -> Vec<sock_filter> {
    let mut out = vec![
        load(AT_ARCH),
        branch(IF_EQUAL, ARCH, 1, 0),
        give(RET_KILL),
        load(AT_NUMBER),
        branch(IF_AT_LEAST, X32_BIT, 0, 1),
        refuse(libc::ENOSYS as u16),
    ];
    out.extend(tree(ranges));
    out
}

/// Lower half, then upper half, with a jump over the lower one before them.
fn tree(ranges: &[(u32, Rule)]) -> Vec<sock_filter> {
    if let [(_, rule)] = ranges {
        return leaf(*rule);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (first_high, _) = high[0];
    let (low, high) = (tree(low), tree(high));
    let mut out = match u8::try_from(low.len()) {
        Ok(length) => vec![branch(IF_AT_LEAST, first_high, length, 0)],
        // A conditional jump reaches 255 instructions; a plain one all.
        Err(_) => vec![branch(IF_AT_LEAST, first_high, 0, 1), instruction(JUMP, low.len() as u32)],
    };
    out.extend(low);
    out.extend(high);
    out
}

fn leaf(rule: Rule) -> Vec<sock_filter> {
    let eperm = refuse(libc::EPERM as u16);
    let family = refuse(libc::EAFNOSUPPORT as u16);
    let allow = give(RET_ALLOW);
    match rule {
        Rule::Allow => vec![allow],
        Rule::Refuse(errno) => vec![refuse(errno)],
        Rule::CloneFlags => {
            vec![load(at_argument(0)), branch(IF_ANY_BIT, NEW_NAMESPACES, 0, 1), eperm, allow]
        }
        Rule::PersonalityQuery => {
            vec![load(at_argument(0)), branch(IF_EQUAL, u32::MAX, 1, 0), eperm, allow]
        }
        Rule::LocalFamily => {
            vec![load(at_argument(0)), branch(IF_EQUAL, libc::AF_UNIX as u32, 1, 0), family, allow]
        }
        Rule::SocketFamily => vec![
            load(at_argument(0)),
            branch(IF_EQUAL, libc::AF_UNIX as u32, 13, 0),
            branch(IF_EQUAL, libc::AF_INET as u32, 3, 0),
            branch(IF_EQUAL, libc::AF_INET6 as u32, 2, 0),
            branch(IF_EQUAL, libc::AF_NETLINK as u32, 7, 0),
            family,
            // Other protocols would have the kernel load modules for them.
            load(at_argument(2)),
            branch(IF_EQUAL, 0, 7, 0),
            branch(IF_EQUAL, libc::IPPROTO_TCP as u32, 6, 0),
            branch(IF_EQUAL, libc::IPPROTO_UDP as u32, 5, 0),
            branch(IF_EQUAL, libc::IPPROTO_ICMP as u32, 4, 0),
            branch(IF_EQUAL, libc::IPPROTO_ICMPV6 as u32, 3, 2),
            load(at_argument(2)),
            branch(IF_EQUAL, libc::NETLINK_ROUTE as u32, 1, 0),
            refuse(libc::EPROTONOSUPPORT as u16),
            allow,
        ],
    }
}

fn instruction(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn load(offset: u32) -> sock_filter {
    instruction(LOAD, offset)
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn give(value: u32) -> sock_filter {
    instruction(RETURN, value)
}

fn refuse(errno: u16) -> sock_filter {
    give(RET_ERRNO | u32::from(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do: classic BPF over one call.
    fn verdict(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let op = program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { op.jt } else { op.jf });
            match op.code {
                LOAD => {
                    accumulator = match op.k {
                        AT_NUMBER => number,
                        AT_ARCH => arch,
                        k => {
                            let index = (k - 16) / 8;
                            assert_eq!(k, at_argument(index));
                            arguments[index as usize] as u32
                        }
                    }
                }
                IF_EQUAL => at += jump(accumulator == op.k),
                IF_AT_LEAST => at += jump(accumulator >= op.k),
                IF_ANY_BIT => at += jump(accumulator & op.k != 0),
                JUMP => at += op.k as usize,
                RETURN => return op.k,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    fn errno(number: i32) -> u32 {
        RET_ERRNO | number as u32
    }

    fn call(number: i64, arguments: [u64; 6]) -> u32 {
        verdict(&filter(), ARCH, number as u32, arguments)
    }

    #[test]
    fn every_number_is_judged_as_the_list_says() {
        let program = filter();
        for number in (0..600).chain([1 << 20, X32_BIT - 1]) {
            let judged = verdict(&program, ARCH, number, [0; 6]);
            match rule_of(number) {
                Rule::Allow => assert_eq!(judged, RET_ALLOW, "call {number}"),
                Rule::Refuse(code) => assert_eq!(judged, errno(code.into()), "call {number}"),
                _ => {} // looks at arguments; below
            }
        }
    }

    #[test]
    fn another_architecture_kills_and_x32_does_not_exist() {
        let program = filter();
        assert_eq!(verdict(&program, 0x4000_0003, 1, [0; 6]), RET_KILL);
        assert_eq!(verdict(&program, ARCH, X32_BIT, [0; 6]), errno(libc::ENOSYS));
        assert_eq!(verdict(&program, ARCH, X32_BIT | 59, [0; 6]), errno(libc::ENOSYS));
        assert_eq!(verdict(&program, ARCH, u32::MAX, [0; 6]), errno(libc::ENOSYS));
    }

    #[test]
    fn clone_makes_threads_and_processes_but_no_namespace() {
        let thread = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u64;
        assert_eq!(call(libc::SYS_clone, [thread, 0, 0, 0, 0, 0]), RET_ALLOW);
        assert_eq!(call(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]), RET_ALLOW);
        for flag in [
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWCGROUP,
        ] {
            let flags = (flag | libc::SIGCHLD) as u64;
            assert_eq!(call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]), errno(libc::EPERM));
        }
        assert_eq!(call(libc::SYS_clone3, [0; 6]), errno(libc::ENOSYS));
    }

    #[test]
    fn sockets_are_local_internet_or_route() {
        let socket = |family: i32, protocol: i32| {
            call(libc::SYS_socket, [family as u64, 1, protocol as u64, 0, 0, 0])
        };
        for family in [libc::AF_INET, libc::AF_INET6] {
            for protocol in [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_ICMPV6] {
                assert_eq!(socket(family, protocol), RET_ALLOW, "{family} {protocol}");
            }
            for protocol in [libc::IPPROTO_SCTP, libc::IPPROTO_DCCP, libc::IPPROTO_RAW, 262] {
                assert_eq!(socket(family, protocol), errno(libc::EPROTONOSUPPORT));
            }
        }
        assert_eq!(socket(libc::AF_UNIX, 0), RET_ALLOW);
        assert_eq!(socket(libc::AF_NETLINK, libc::NETLINK_ROUTE), RET_ALLOW);
        for protocol in [libc::NETLINK_AUDIT, libc::NETLINK_NETFILTER, libc::NETLINK_SOCK_DIAG] {
            assert_eq!(socket(libc::AF_NETLINK, protocol), errno(libc::EPROTONOSUPPORT));
        }
        for family in [libc::AF_PACKET, libc::AF_VSOCK, libc::AF_ALG, libc::AF_KEY, 39, 44] {
            assert_eq!(socket(family, 0), errno(libc::EAFNOSUPPORT));
        }
        let pair = |family: i32| call(libc::SYS_socketpair, [family as u64, 1, 0, 0, 0, 0]);
        assert_eq!(pair(libc::AF_UNIX), RET_ALLOW);
        assert_eq!(pair(libc::AF_TIPC), errno(libc::EAFNOSUPPORT));
    }

    #[test]
    fn a_personality_is_told_and_not_changed() {
        assert_eq!(call(libc::SYS_personality, [0xFFFF_FFFF, 0, 0, 0, 0, 0]), RET_ALLOW);
        assert_eq!(call(libc::SYS_personality, [0x0400_0000, 0, 0, 0, 0, 0]), errno(libc::EPERM));
    }

    #[test]
    fn what_reaches_around_the_sandbox_is_refused() {
        for number in [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_io_uring_setup,
            libc::SYS_open_by_handle_at,
            libc::SYS_name_to_handle_at,
            libc::SYS_quotactl,
            libc::SYS_swapon,
            libc::SYS_reboot,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_adjtimex,
            libc::SYS_syslog,
            libc::SYS_acct,
            libc::SYS_sethostname,
            libc::SYS_fsopen,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
        ] {
            assert_eq!(call(number, [0; 6]), errno(libc::EPERM), "call {number}");
        }
    }

    #[test]
    fn no_call_takes_more_steps_than_a_tree_is_deep() {
        let program = filter();
        let deepest = ranges(rule_of).len().next_power_of_two().ilog2() as usize;
        // Two instructions a range, and those that look at arguments.
        assert!(program.len() <= 2 * ranges(rule_of).len() + 40, "{}", program.len());
        assert!(deepest <= 8, "{deepest}");
    }

    #[test]
    fn halves_longer_than_a_conditional_jump_are_jumped_over() {
        // Every number differs from its neighbours: the widest tree there is.
        let rule = |number: u32| Rule::Refuse((number % 97) as u16);
        let program = program(&ranges(rule));
        assert!(program.len() > 2 * 255);
        for number in 0..=syscalls::NUMBER_MAX {
            assert_eq!(verdict(&program, ARCH, number, [0; 6]), errno((number % 97) as i32));
        }
    }
}

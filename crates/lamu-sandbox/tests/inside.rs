//! What a function finds inside a process sandbox, asked from inside.

mod common;

use std::net::TcpListener;

use common::{Host, is_root, mount};
use lamu_sandbox::{Driver, SandboxSpec};

const EPERM: &str = "error 1";
const ENOENT: &str = "error 2";
const EACCES: &str = "error 13";
const ENOSYS: &str = "error 38";
const EROFS: &str = "error 30";

#[tokio::test(flavor = "multi_thread")]
async fn the_root_holds_the_userland_and_nothing_else_of_the_host() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let secret = host.write("secret", "x");
    let mut inside = host.inside().await;

    let top = inside.ask("fn list /").await;
    for name in top.split(' ') {
        let known =
            "bin dev etc home lib lib32 lib64 libx32 mnt opt proc root run sbin tmp usr var";
        assert!(known.split(' ').any(|known| known == name), "/{name}");
    }
    for path in ["/home", "/mnt", "/run", "/opt", "/var/task", "/tmp"] {
        assert_eq!(inside.ask(&format!("fn list {path}")).await, "", "{path}");
    }
    assert_eq!(inside.ask("fn list /root").await, EACCES);
    for path in ["/etc/shadow", "/etc/hostname.d", "/sys", "/dev/shm", "/dev/pts", "/dev/tty"] {
        assert_eq!(inside.ask(&format!("fn read {path}")).await, ENOENT, "{path}");
    }
    let secret = secret.display();
    assert_eq!(inside.ask(&format!("fn read {secret}")).await, ENOENT);
    assert_eq!(
        inside.ask("fn list /dev").await,
        "fd full null random stderr stdin stdout urandom zero"
    );
    assert!(inside.ask("fn text /etc/passwd").await.contains("sbx_user1051:x:993:990:"));
    // Nor does the kernel's list of mounts tell more than what is there.
    let mounts = inside.ask("fn text /proc/self/mountinfo").await;
    assert!(!mounts.contains("cgroup") && !mounts.contains("/old"), "{mounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_but_tmp_is_read_only() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let package = host.write("package/handler.py", "x");
    let mut inside = host
        .inside_with(|spec| spec.mounts = vec![mount(&[package.parent().unwrap()], "/var/task")])
        .await;
    for path in ["/x", "/etc/x", "/etc/passwd", "/usr/x", "/var/x", "/dev/x", "/var/task/x"] {
        for who in ["", "fn "] {
            let answer = inside.ask(&format!("{who}write {path}")).await;
            assert!([EROFS, EACCES].contains(&&*answer), "{who}{path}: {answer}");
        }
    }
    assert_eq!(inside.ask("fn write /tmp/x").await, "written");
    assert_eq!(inside.ask("fn write /dev/null").await, "written");
    assert_eq!(inside.ask("fn read /var/task/handler.py").await, "1 bytes");
    for path in ["/var/task", "/", "/usr"] {
        assert_eq!(inside.ask(&format!("remount {path}")).await, EPERM, "{path}");
    }
    for path in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/1/mem"] {
        let answer = inside.ask(&format!("fn write {path}")).await;
        assert!([EROFS, EACCES, ENOENT].contains(&&*answer), "{path}: {answer}");
    }
    assert_eq!(std::fs::read_to_string(package).unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn tmp_takes_what_was_ordered_and_no_more() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let mut inside = host.inside_with(|spec| spec.tmp_mib = 8).await;
    assert_eq!(inside.ask("fn fill /tmp/a 7").await, "7 MiB");
    assert_eq!(inside.ask("fn fill /tmp/b 20").await, "8 MiB, then error 28");
    let answer = inside.ask("fn files /tmp 5000").await;
    let (made, rest) = answer.split_once(' ').unwrap();
    assert_eq!(rest, "files, then error 28");
    assert!(made.parse::<u32>().unwrap() <= 8 * 256, "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_has_three_capabilities_and_the_function_none() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let mut inside = host.inside().await;
    let field = |status: &str, name: &str| -> String {
        let line = status.split('|').find(|line| line.starts_with(name));
        line.unwrap_or_default()[name.len()..].trim().to_owned()
    };

    let init = inside.ask("status").await;
    assert_eq!(field(&init, "CapEff:"), "00000000000001e0");
    assert_eq!(field(&init, "CapPrm:"), "00000000000001e0");
    assert_eq!(field(&init, "CapBnd:"), "00000000000001e0");
    assert_eq!(field(&init, "Pid:"), "1");
    assert_eq!(inside.ask("ids").await, "[0, 0, 0, 0, 0, 0]");

    let function = inside.ask("fn status").await;
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        assert_eq!(field(&function, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&function, "NoNewPrivs:"), "1");
    assert_eq!(field(&function, "Seccomp:"), "2");
    assert_eq!(field(&function, "Groups:"), "");
    assert_eq!(inside.ask("fn ids").await, "[993, 993, 993, 990, 990, 990]");
    // A program that is setuid on the host gives nothing here.
    let answer = inside.ask("fn run /usr/bin/env sh -c id~-u").await;
    assert_eq!(answer, "993");
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_system_calls_are_refused() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let mut inside = host.inside().await;
    for name in [
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "unshare_user",
        "unshare_net",
        "clone_user",
        "setns",
        "ptrace",
        "process_vm_readv",
        "bpf",
        "keyctl",
        "add_key",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "open_by_handle_at",
        "name_to_handle_at",
        "reboot",
        "swapon",
        "init_module",
        "kexec_load",
        "clock_settime",
        "sethostname",
        "syslog",
    ] {
        for who in ["", "fn "] {
            assert_eq!(inside.ask(&format!("{who}syscall {name}")).await, EPERM, "{who}{name}");
        }
    }
    assert_eq!(inside.ask("fn syscall clone3").await, ENOSYS);
    assert_eq!(inside.ask("fn syscall unknown").await, ENOSYS);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_hosts_services_nor_link_local_can_be_reached() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    if !is_root() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("lamu-test-{}", std::process::id());
    let _hidden = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let host = Host::start().await;
    let mut inside = host.inside().await;

    let refused = "error 111";
    let unreachable = "error 101";
    assert_eq!(inside.ask(&format!("fn connect 127.0.0.1:{port}")).await, refused);
    assert_eq!(inside.ask(&format!("fn abstract {name}")).await, refused);
    for address in ["169.254.169.254:80", "10.0.0.1:80", "1.1.1.1:53", "[fe80::1]:80"] {
        let answer = inside.ask(&format!("fn connect {address}")).await;
        assert!([unreachable, "error 22"].contains(&&*answer), "{address}: {answer}");
    }
    assert_eq!(inside.ask("fn serve 127.0.0.1:9001").await, "served");
    // Packets as they are, other address families, other netlinks.
    assert_eq!(inside.ask("fn socket 2 3 1").await, EPERM);
    assert_eq!(inside.ask("fn socket 17 3 0").await, "error 97");
    assert_eq!(inside.ask("fn socket 40 1 0").await, "error 97");
    assert_eq!(inside.ask("fn socket 16 3 12").await, "error 93");
    assert_eq!(inside.ask("fn socket 16 3 0").await, "opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sandboxes_share_no_files_processes_or_sockets() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let mut one = host.inside().await;
    let mut other = host.inside().await;

    assert_eq!(one.ask("fn write /tmp/secret").await, "written");
    assert_eq!(other.ask("fn read /tmp/secret").await, ENOENT);

    assert_eq!(one.ask("serve 127.0.0.1:9001").await, "served");
    assert_eq!(other.ask("fn connect 127.0.0.1:9001").await, "error 111");

    // Init sees itself; the function sees only its own kind, and cannot
    // touch init.
    assert_eq!(one.ask("processes").await, "1");
    assert!(!one.ask("fn processes").await.split(' ').any(|pid| pid == "1"));
    assert_eq!(one.ask("fn signal 1").await, EPERM);
    for namespace in ["user", "pid", "mnt", "net", "uts", "ipc", "cgroup"] {
        let question = format!("link /proc/self/ns/{namespace}");
        let (one, other) = (one.ask(&question).await, other.ask(&question).await);
        let host = std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        assert_ne!(one, other, "{namespace}");
        assert_ne!(one, host.display().to_string(), "{namespace}");
    }
    let users = |map: String| map.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap();
    let one = users(one.ask("text /proc/self/uid_map").await);
    let other = users(other.ask("text /proc/self/uid_map").await);
    assert!(one >= 0x4000_0000 && other >= 0x4000_0000 && one != other);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_lie_over_each_other_with_the_last_on_top() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let low = host.write("low/a", "low");
    host.write("low/b", "low");
    let high = host.write("high/b", "high");
    let file = host.write("bootstrap.py", "print()");
    let (low, high) = (low.parent().unwrap(), high.parent().unwrap());
    let mut inside = host
        .inside_with(|spec| {
            spec.mounts = vec![
                mount(&[low, high], "/opt"),
                mount(&[&file], "/var/runtime/lamu/bootstrap.py"),
                mount(&[low], "/mnt/elsewhere"),
            ];
        })
        .await;
    assert_eq!(inside.ask("fn text /opt/a").await, "low");
    assert_eq!(inside.ask("fn text /opt/b").await, "high");
    assert_eq!(inside.ask("fn text /var/runtime/lamu/bootstrap.py").await, "print()");
    assert_eq!(inside.ask("fn list /mnt/elsewhere").await, "a b");
    for path in ["/opt/x", "/opt/a", "/mnt/elsewhere/a", "/var/runtime/lamu/bootstrap.py"] {
        let answer = inside.ask(&format!("fn write {path}")).await;
        assert!([EROFS, EACCES].contains(&&*answer), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_meets_its_bound() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let mut inside = host.inside_with(|spec| spec.pids_max = 32).await;
    // Init and the process that answers are two of them.
    assert_eq!(inside.ask("fn fork 500").await, "30 children, error 11");
    assert_eq!(inside.ask("fn fork 5").await, "5 children, error 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_bomb_is_killed_and_counted_and_init_lives() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let mut inside = host.inside_with(|spec| spec.memory_mib = 64).await;
    assert_eq!(inside.ask("fn eat 40").await, "ate 40 MiB");
    let used = host.driver.stats(inside.sandbox).unwrap();
    assert_eq!(used.oom_kills, 0);
    assert!(used.memory_bytes_max >= 40 << 20, "{used:?}");
    assert!(used.cpu_ns > 0, "{used:?}");

    host.driver.reset_memory_max(inside.sandbox).unwrap();
    let fresh = host.driver.stats(inside.sandbox).unwrap();
    assert!(fresh.memory_bytes_max < 40 << 20, "{fresh:?}");

    assert_eq!(inside.ask("fn eat 400").await, "signal 9");
    let used = host.driver.stats(inside.sandbox).unwrap();
    assert!(used.oom_kills >= 1, "{used:?}");
    assert!(used.memory_bytes_max <= 64 << 20, "{used:?}");
    assert_eq!(inside.ask("ids").await, "[0, 0, 0, 0, 0, 0]");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cpu_ceiling_holds_from_when_it_is_asked_for() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let mut inside = host.inside_with(|spec| spec.cpu_millis_max = Some(100)).await;
    host.driver.hold_cpu(inside.sandbox).unwrap();
    let share: u32 = inside.ask("fn spin 1000").await.parse().unwrap();
    assert!(share <= 200, "{share} thousandths of a core");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cpu_ceiling_holds_by_itself_when_init_has_had_its_time() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let ceiling = |spec: &mut SandboxSpec| {
        spec.cpu_millis_max = Some(100);
        spec.init_secs_max = 0;
    };
    let mut inside = host.inside_with(ceiling).await;
    let mut share = 1_000;
    // The ceiling comes while the first of these spins, at the latest.
    for _ in 0..2 {
        share = inside.ask("fn spin 1000").await.parse().unwrap();
    }
    assert!(share <= 200, "{share} thousandths of a core");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_machine_stands_still_until_it_is_thawed() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let mut inside = host.inside().await;
    host.driver.freeze(inside.sandbox).await.unwrap();
    inside.send("ids").await;
    let before = host.driver.stats(inside.sandbox).unwrap().cpu_ns;
    let silent = tokio::time::timeout(std::time::Duration::from_millis(100), inside.answer()).await;
    assert!(silent.is_err());
    assert_eq!(host.driver.stats(inside.sandbox).unwrap().cpu_ns, before);

    host.driver.thaw(inside.sandbox).await.unwrap();
    assert_eq!(inside.answer().await, "[0, 0, 0, 0, 0, 0]");
}

#[tokio::test(flavor = "multi_thread")]
async fn interpreters_of_the_host_run() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let mut inside = host
        .inside_with(|spec| {
            spec.memory_mib = 1_024;
            spec.pids_max = 512;
            spec.tmp_mib = 128;
        })
        .await;
    for (program, question, wanted) in [
        ("sh", "sh -c echo~$((6*7))", "42"),
        (
            "python3",
            "python3 -c import~threading,ssl,json,subprocess,socket,multiprocessing.pool;\
             t=threading.Thread(target=print,args=(40,));t.start();t.join();\
             print(subprocess.check_output(['echo','2']).decode().strip(),\
             socket.gethostbyname('localhost'))",
            "40|2 127.0.0.1",
        ),
        (
            "node",
            "node -e new~(require('worker_threads').Worker)('0',{eval:true})\
             .on('exit',()=>console.log(42,require('os').cpus().length>0))",
            "42 true",
        ),
        ("java", "java -version", ""),
    ] {
        if !["/usr/bin", "/bin"].iter().any(|dir| std::path::Path::new(dir).join(program).exists())
        {
            eprintln!("skipped {program}: the host has none");
            continue;
        }
        assert_eq!(inside.ask(&format!("fn run {question}")).await, wanted, "{program}");
    }
}

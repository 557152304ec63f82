//! What a process driver does to its host, looked at from outside: nothing
//! that stays, whatever ends and however.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use common::{Host, PROBE, cgroups_of, children_of, config, eventually, is_root, lives, mount};
use lamu_model::AccountId;
use lamu_sandbox::process::{FunctionUser, ProcessDriver};
use lamu_sandbox::{Driver, DriverError, ShellClass, conformance};

#[tokio::test(flavor = "multi_thread")]
async fn process_driver_conforms() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    conformance::driver(&host.driver, &|| host.children()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_driver_leaves_nothing() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let mut machines = Vec::new();
    for _ in 0..3 {
        machines.push(host.inside().await);
    }
    host.driver.freeze(machines[1].sandbox).await.unwrap();
    let spawner = host.driver.spawner_pid();
    let children = children_of(spawner);
    assert_eq!(children.len(), 3);
    let own = cgroups_of(std::process::id());
    assert!(!own.is_empty());

    let Host { driver, data } = host;
    drop(driver);

    assert!(!lives(spawner));
    assert!(children.iter().all(|child| !lives(*child)));
    eventually("no cgroup of the driver", || own.iter().all(|dir| !dir.exists()));
    let records = std::fs::read_dir(data.path().join("sandboxes")).unwrap();
    assert_eq!(records.count(), 0);
    drop(machines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_cannot_be_made_is_named_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    for (source, target) in [("/nowhere", "/var/task"), ("/etc", "/usr/nowhere/deep")] {
        let class = ShellClass { account: AccountId::new("000000000000") };
        let shell = host.driver.prepare(&class).await.unwrap();
        let mut spec = common::spec();
        spec.mounts = vec![mount(&[source.as_ref()], target)];
        let error = host.driver.claim(shell, &spec).await.unwrap_err();
        let DriverError::Step { step, source } = error else { panic!("{error:?}") };
        assert_eq!(step, format!("mount {target}"));
        assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    }
    eventually("no child is left", || host.children() == 0);
    // And the next one starts.
    assert_eq!(host.inside().await.ask("ids").await, "[0, 0, 0, 0, 0, 0]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_namespace_returns_to_its_account_only_and_without_sockets() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let (mine, other) = ("111111111111", "222222222222");
    let question = "link /proc/self/ns/net";

    let mut first = host.inside_of(mine, |_| {}).await;
    let name = first.ask(question).await;
    host.driver.destroy(first.sandbox).await.unwrap();
    // It is checked in the background, so it may take a few.
    let mut again = String::new();
    for _ in 0..50 {
        let mut stranger = host.inside_of(other, |_| {}).await;
        assert_ne!(stranger.ask(question).await, name);
        host.driver.destroy(stranger.sandbox).await.unwrap();
        let mut next = host.inside_of(mine, |_| {}).await;
        again = next.ask(question).await;
        host.driver.destroy(next.sandbox).await.unwrap();
        if again == name {
            break;
        }
    }
    assert_eq!(again, name);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_spawner_dies_so_do_its_sandboxes_and_another_takes_over() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    let inside = host.inside().await;
    let spawner = host.driver.spawner_pid();
    let children = children_of(spawner);
    kill(spawner);
    eventually("the sandbox is gone", || children.iter().all(|child| !lives(*child)));
    host.driver.destroy(inside.sandbox).await.unwrap();

    let mut next = host.inside().await;

    assert_eq!(next.ask("ids").await, "[0, 0, 0, 0, 0, 0]");
    assert_ne!(host.driver.spawner_pid(), spawner);
}

#[test]
fn kill_9_of_the_owner_leaves_nothing() {
    if !is_root() {
        return;
    }
    for frozen in [false, true] {
        let data = tempfile::tempdir().unwrap();
        let mut owner = Owner::start(data.path(), None);
        if frozen {
            assert_eq!(owner.ask("freeze"), "frozen");
        }
        let pid = owner.process.id();
        let [spawner] = children_of(pid)[..] else { panic!("one spawner") };
        let children = children_of(spawner);
        assert_eq!(children.len(), 1);
        assert!(!cgroups_of(pid).is_empty());

        owner.kill();

        eventually("no process is left", || {
            !lives(spawner) && children.iter().all(|child| !lives(*child))
        });
        eventually("no cgroup is left", || cgroups_of(pid).is_empty());
    }
}

#[test]
fn what_survives_the_death_of_owner_and_spawner_is_cleared_away_at_the_next_start() {
    if !is_root() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let mut owner = Owner::start(data.path(), None);
    let pid = owner.process.id();
    let [spawner] = children_of(pid)[..] else { panic!("one spawner") };
    let children = children_of(spawner);
    // Stopped, the spawner cannot clear away when its owner goes.
    signal(spawner, "STOP");
    owner.kill();
    kill(spawner);
    eventually("the sandbox follows its spawner", || children.iter().all(|child| !lives(*child)));
    assert!(!cgroups_of(pid).is_empty());

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let next = runtime.block_on(ProcessDriver::start(config(data.path()))).unwrap();

    assert_eq!(cgroups_of(pid), Vec::<std::path::PathBuf>::new());
    drop(next);
}

#[test]
fn without_root_a_sandbox_still_closes_and_says_what_it_cannot_enforce() {
    if !is_root() {
        return; // as root we can be anybody; otherwise `own` runs as ourselves
    }
    let data = tempfile::tempdir().unwrap();
    let nobody = 65_534;
    std::os::unix::fs::chown(data.path(), Some(nobody), Some(nobody)).unwrap();
    let mut try_out = Command::new(PROBE);
    if try_out.uid(nobody).gid(nobody).arg("?").stderr(Stdio::null()).status().is_err() {
        eprintln!("skipped: the build directory is closed to other users");
        return;
    }
    let mut owner = Owner::start(data.path(), Some(nobody));

    let missing = owner.missing.join("\n");
    assert!(missing.contains("only root can give sandboxes users of their own"), "{missing}");
    assert!(missing.contains("memory limit"), "{missing}");
    assert_eq!(owner.ask("ids"), "[993, 993, 993, 990, 990, 990]");
    let status = owner.ask("status");
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    assert!(status.contains("CapBnd:\t0000000000000000"), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert_eq!(owner.ask("processes"), "1");
    assert_eq!(owner.ask("write /tmp/x"), "written");
    assert_eq!(owner.ask("fill /tmp/y 40"), "15 MiB, then error 28");
    assert_eq!(owner.ask("list /home"), "");
    assert_eq!(owner.ask("write /x"), "error 30");
    assert_eq!(owner.ask("syscall mount"), "error 1");
    assert_eq!(owner.ask("syscall unshare_user"), "error 1");
    assert_eq!(owner.ask("connect 1.1.1.1:80"), "error 101");
    assert_eq!(owner.ask("serve 127.0.0.1:9001"), "served");
    assert_eq!(owner.ask("run sh -c echo~hello"), "hello");

    let [spawner] = children_of(owner.process.id())[..] else { panic!("one spawner") };
    let children = children_of(spawner);
    owner.kill();
    eventually("no process is left", || {
        !lives(spawner) && children.iter().all(|child| !lives(*child))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn as_root_the_function_has_a_user_of_its_own_and_every_limit_is_reported() {
    if !is_root() {
        return;
    }
    let host = Host::start().await;
    assert_eq!(host.driver.user(), Some(FunctionUser { uid: 993, gid: 990 }));
    let report = host.driver.report();
    assert!(report.root);
    assert_eq!(report.items.len(), 12);
}

/// A process that owns a driver and one sandbox.
struct Owner {
    process: Child,
    answers: std::io::Lines<BufReader<std::process::ChildStdout>>,
    missing: Vec<String>,
}

impl Owner {
    fn start(data: &std::path::Path, uid: Option<u32>) -> Owner {
        let mut command = Command::new(PROBE);
        command.arg("own").arg(data).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut process = command.spawn().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut owner = Owner { process, answers, missing: Vec::new() };
        loop {
            let line = owner.answers.next().expect("the owner came up").unwrap();
            if line == "ready" {
                return owner;
            }
            owner.missing.push(line);
        }
    }

    fn ask(&mut self, question: &str) -> String {
        let input = self.process.stdin.as_mut().unwrap();
        writeln!(input, "{question}").unwrap();
        self.answers.next().expect("an answer").unwrap()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn kill(pid: u32) {
    signal(pid, "KILL");
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.unwrap().success());
}

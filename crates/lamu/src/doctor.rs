//! `lamu doctor`: what this host can do, and what to do about the rest.
//!
//! It does not read tea leaves: the driver is started as `lamu run` would
//! start it, and one sandbox is made and ended.
//!
//! Not here: enforcing anything (`lamu_sandbox`).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lamu_model::{AccountId, Runtime, SandboxId};
use lamu_sandbox::process::{ProcessDriver, ProcessDriverConfig};
use lamu_sandbox::{Driver as _, SandboxSpec, ShellClass};
use lamu_worker::runtimes::Runtimes;

/// What is looked for; other versions can be configured.
const RUNTIMES: [&str; 10] = [
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "nodejs18.x",
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
];

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Good,
    /// lamu works, with less.
    Less,
    /// lamu does not work.
    Stops,
}

#[derive(Debug)]
struct Finding {
    mark: Mark,
    what: String,
    found: String,
    /// What to do; empty when there is nothing to do.
    advice: String,
}

/// Prints findings, and fails when one of them stops lamu.
pub fn doctor() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start")?;
    let findings = runtime.block_on(examine())?;
    print!("{}", render(&findings));
    let stopped = findings.iter().any(|finding| finding.mark == Mark::Stops);
    Ok(ExitCode::from(if stopped { crate::EXIT_FAILED } else { 0 }))
}

async fn examine() -> anyhow::Result<Vec<Finding>> {
    let root = effective_uid() == Some(0);
    let mut findings = vec![privileges(root)];
    let scratch = Scratch::new().context("make a temporary directory")?;
    findings.extend(sandboxes(&scratch.0).await);
    findings.push(overlay());
    findings.push(kvm());
    findings.extend(interpreters(&scratch.0).await?);
    Ok(findings)
}

fn privileges(root: bool) -> Finding {
    if root {
        return good("privileges", "root: sandboxes get users and cgroups of their own");
    }
    let namespaces = read("/proc/sys/user/max_user_namespaces");
    let clone = read("/proc/sys/kernel/unprivileged_userns_clone");
    if namespaces.trim() == "0" || clone.trim() == "0" {
        return Finding {
            mark: Mark::Stops,
            what: "privileges".into(),
            found: "rootless, and user namespaces are switched off".into(),
            advice: "run as root, or: sysctl -w kernel.unprivileged_userns_clone=1 \
                     user.max_user_namespaces=10000"
                .into(),
        };
    }
    Finding {
        mark: Mark::Less,
        what: "privileges".into(),
        found: "rootless: functions run as your own user, in a user namespace".into(),
        advice: "run as root to give each sandbox a user of its own".into(),
    }
}

/// Starts the driver, asks what it enforces, and makes one sandbox.
async fn sandboxes(dir: &Path) -> Vec<Finding> {
    let config = ProcessDriverConfig::new(crate::INIT, dir);
    let driver = match ProcessDriver::start(config).await {
        Ok(driver) => driver,
        Err(error) => {
            return vec![Finding {
                mark: Mark::Stops,
                what: "sandbox".into(),
                found: format!("cannot be made: {}", chain(&error)),
                advice: "lamu needs user, pid, mount, net, uts and ipc namespaces and seccomp; \
                         inside a container, run it privileged"
                    .into(),
            }];
        }
    };
    let report = driver.report();
    let mut findings = Vec::new();
    let cgroup = match report.cgroup_version {
        0 => "no hierarchy is ours to write".to_owned(),
        version => format!("version {version}"),
    };
    findings.push(Finding {
        mark: if report.cgroup_version == 0 { Mark::Less } else { Mark::Good },
        what: "cgroup".into(),
        found: cgroup,
        advice: match report.cgroup_version {
            0 => "run as root, or under `systemd-run --user --scope -p Delegate=yes`".into(),
            _ => String::new(),
        },
    });
    for item in &report.items {
        let (what, found) = item.what.split_once(": ").unwrap_or((item.what, "enforced"));
        findings.push(match &item.missing {
            None => good(what, found),
            Some(why) => Finding {
                mark: Mark::Less,
                what: what.into(),
                found: format!("not enforced: {why}"),
                advice: String::new(),
            },
        });
    }
    let landlock = match report.landlock_abi {
        0 => "the kernel has none".to_owned(),
        abi => format!("ABI {abi}"),
    };
    findings.push(good("Landlock ABI", &landlock));
    findings.push(try_one(&driver).await);
    driver.destroy_all().await;
    findings
}

async fn try_one(driver: &ProcessDriver) -> Finding {
    let begun = Instant::now();
    let sandbox = SandboxId(uuid::Uuid::from_u128(1));
    let spec = SandboxSpec {
        sandbox,
        memory_mib: 128,
        cpu_millis: 1_000,
        cpu_millis_max: Some(1_000),
        init_secs_max: 10,
        pids_max: 64,
        tmp_mib: 16,
        mounts: Vec::new(),
    };
    let made = async {
        let class = ShellClass { account: AccountId::new("000000000000") };
        let shell = driver.prepare(&class).await?;
        let machine = driver.claim(shell, &spec).await?;
        let took = begun.elapsed();
        driver.destroy(sandbox).await?;
        drop(machine);
        Ok::<Duration, lamu_sandbox::DriverError>(took)
    };
    match made.await {
        Ok(took) => {
            let ms = took.as_secs_f64() * 1e3;
            good("sandbox", &format!("one was made in {ms:.1} ms, and ended"))
        }
        Err(error) => Finding {
            mark: Mark::Stops,
            what: "sandbox".into(),
            found: format!("one could not be made: {}", chain(&error)),
            advice: "run as root; inside a container, run it privileged".into(),
        },
    }
}

fn overlay() -> Finding {
    if read("/proc/filesystems")
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "overlay")
    {
        return good("overlay", "known to the kernel");
    }
    Finding {
        mark: Mark::Less,
        what: "overlay".into(),
        found: "not known to the kernel: functions with several layers cannot run".into(),
        advice: "modprobe overlay".into(),
    }
}

fn kvm() -> Finding {
    let kinds = [("kvm_intel", "Intel VT-x"), ("kvm_amd", "AMD-V"), ("kvm_pvm", "software (PVM)")];
    let kind = kinds.iter().find(|(module, _)| Path::new("/sys/module").join(module).exists());
    let kind = kind.map_or("kind unknown", |(_, kind)| kind);
    if !Path::new("/dev/kvm").exists() {
        return Finding {
            mark: Mark::Less,
            what: "KVM".into(),
            found: "none: only process sandboxes are possible".into(),
            advice: "enable virtualisation in the firmware, or nested virtualisation of the VM"
                .into(),
        };
    }
    match fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => good("KVM", &format!("{kind}, usable; process sandboxes do not need it")),
        Err(error) => Finding {
            mark: Mark::Less,
            what: "KVM".into(),
            found: format!("{kind}, not usable: {error}"),
            advice: "join the group kvm; process sandboxes do not need it".into(),
        },
    }
}

async fn interpreters(dir: &Path) -> anyhow::Result<Vec<Finding>> {
    let runtimes = Runtimes::open(&dir.join("runtimes"), Default::default())
        .context("write the runtimes' bootstraps")?;
    let asked: Vec<Runtime> = RUNTIMES.iter().map(|name| Runtime::new(*name)).collect();
    let mut findings = vec![good("provided.*", "brings its own bootstrap")];
    let mut missing = Vec::new();
    for (runtime, found) in runtimes.survey(&asked).await {
        match found {
            Ok(interpreter) => {
                let program = interpreter.program.display();
                let found = format!("{program}, {}", interpreter.version);
                findings.push(good(runtime.as_str(), &found));
            }
            Err(_) => missing.push(runtime.to_string()),
        }
    }
    if !missing.is_empty() {
        findings.push(Finding {
            mark: Mark::Less,
            what: "not found".into(),
            found: missing.join(", "),
            advice: "install the interpreter, or point to it: lamu run --runtime \
                     python3.12=/path/to/python3.12"
                .into(),
        });
    }
    Ok(findings)
}

fn render(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.mark {
            Mark::Good => "ok  ",
            Mark::Less => "less",
            Mark::Stops => "STOP",
        };
        let _ = writeln!(text, "{mark}  {:<width$}  {}", finding.what, finding.found);
        if !finding.advice.is_empty() {
            let _ = writeln!(text, "{:>1$}  -> {2}", "", width + 6, finding.advice);
        }
    }
    text
}

fn good(what: &str, found: &str) -> Finding {
    Finding { mark: Mark::Good, what: what.into(), found: found.into(), advice: String::new() }
}

fn effective_uid() -> Option<u32> {
    let status = read("/proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

/// A directory that goes when it is dropped.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("lamu-doctor.{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody could do anything about a temporary file that stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_with_advice_takes_a_second_line() {
        let text = render(&[
            good("cgroup", "version 2"),
            Finding {
                mark: Mark::Less,
                what: "KVM".into(),
                found: "none".into(),
                advice: "do this".into(),
            },
        ]);
        assert_eq!(text, "ok    cgroup  version 2\nless  KVM     none\n              -> do this\n");
    }
}

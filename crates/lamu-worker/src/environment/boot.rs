//! Makes an environment: package, shell, claim, hello, Init.
//!
//! Every wait has an end: the steps of the host by [`MAKE_SECS_MAX`], init's
//! hello by [`HELLO_SECS_MAX`], Init by Lambda's ten seconds. A failed Init is
//! no failure of the boot: the first invocation runs it again. Provisioned
//! concurrency is another thing: its Init has minutes, and must succeed. If the
//! future is dropped at any moment, the driver removes what was there.
//!
//! Not here: what happens to the environment afterwards (`environment`).

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use lamu_guest::{Exit, FromInit, InitOutcome, PROTOCOL, ShutdownReason, Start, ToInit};
use lamu_link::{BootError, Timings};
use lamu_model::{
    Architecture, InitPhase, InitializationType, OPEN_FILES_MAX, PROCESSES_MAX, ReportStatus,
    RuntimeVersion, SYNC_RESPONSE_BYTES_MAX, SandboxId, VersionSpec,
};
use lamu_sandbox::{DriverError, Machine, Mount, SandboxSpec, ShellClass};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::channel::{Channel, ChannelError};
use super::extensions::Extensions;
use super::invocation::{Runtime, init_failure};
use super::journal::{Journal, stream_names};
use crate::config::{Credentials, cpu_millis};
use crate::context::Context;
use crate::logs::StreamName;
use crate::package::{PackageError, Unpacked};
use crate::runtimes::Launch;
use crate::variables::variables;

/// For all the host does itself, fetching a 250 MB package over a slow line
/// included. Callers give up earlier.
const MAKE_SECS_MAX: u64 = 120;
/// Init says hello in its first millisecond; this is for a host that stands
/// still.
const HELLO_SECS_MAX: u64 = 10;
/// How long one boot keeps its place among those that run at once. Init of a
/// function may sleep for seconds, and then others should go on.
const TURN: Duration = Duration::from_millis(200);

/// A machine whose Init has been tried.
#[derive(Debug)]
pub struct Made {
    #[expect(dead_code, reason = "held until the environment ends, then torn down")]
    pub machine: Machine,
    pub channel: Channel,
    pub journal: Journal,
    pub extensions: Extensions,
    pub runtime: Runtime,
    pub timings: Timings,
    #[expect(dead_code, reason = "what is mounted stays in the cache meanwhile")]
    pub packages: Vec<Arc<Unpacked>>,
    pub oom_kills: u64,
}

impl Made {
    /// Queues what subscribers inside are to hear; without any this is
    /// nothing.
    pub fn publish(&mut self) {
        publish(&mut self.channel, &mut self.journal);
    }
}

fn publish(channel: &mut Channel, journal: &mut Journal) {
    for event in journal.telemetry.take() {
        channel.send(&event);
    }
}

/// Whether this host's processors run the code. Nothing is emulated.
pub fn check_architecture(spec: &VersionSpec) -> Result<(), BootError> {
    let host = match cfg!(target_arch = "aarch64") {
        true => Architecture::Arm64,
        false => Architecture::X86_64,
    };
    match spec.architecture == host {
        true => Ok(()),
        false => Err(BootError::ArchitectureMissing { wanted: spec.architecture, host }),
    }
}

/// The packages of a version, unpacked, in the order code, layers.
pub async fn unpack(
    context: &Context,
    spec: &VersionSpec,
) -> Result<Vec<Arc<Unpacked>>, BootError> {
    let mut packages = Vec::with_capacity(1 + spec.layers.len());
    for digest in std::iter::once(&spec.code).chain(&spec.layers) {
        let unpacked = context.cache.get(digest).await;
        packages.push(unpacked.map_err(package_error)?);
    }
    Ok(packages)
}

pub async fn make(
    context: &Context,
    sandbox: SandboxId,
    spec: &Arc<VersionSpec>,
    initialization: InitializationType,
) -> Result<Made, BootError> {
    check_architecture(spec)?;
    let began = Instant::now();
    let made = async {
        // A package on its way holds up nobody whose package is here.
        let (packages, launch) = tokio::try_join!(
            unpack(context, spec),
            context.runtimes.launch(&spec.runtime, &spec.environment),
        )?;
        let turn = context.boots.acquire().await.map_err(|_| BootError::WorkerGone)?;
        let class = ShellClass { account: spec.account.clone() };
        let shell = context.driver.prepare(&class).await.map_err(driver_error)?;
        let wanted = sandbox_spec(context, sandbox, spec, initialization, &packages, &launch);
        let machine = context.driver.claim(shell, &wanted).await.map_err(driver_error)?;
        Ok((machine, packages, launch, turn))
    };
    let (mut machine, packages, launch, turn) =
        timeout(Duration::from_secs(MAKE_SECS_MAX), made).await.unwrap_or_else(|_| {
            Err(BootError::Sandbox { what: format!("not made within {MAKE_SECS_MAX} s") })
        })?;
    let stream = machine.channel.take().ok_or_else(|| BootError::Sandbox {
        what: "the driver returned a machine without a channel".to_owned(),
    })?;
    let mut channel = Channel::new(stream);
    hello(&mut channel).await?;
    let hello_at = Instant::now();

    let hex = sandbox.to_string();
    let (stream, instance) = stream_names(spec, &hex, Utc::now());
    let credentials = context.config.credentials.clone();
    let credentials = credentials.unwrap_or_else(|| Credentials::local(spec.account.as_str()));
    let endpoints = &context.config.endpoint_variables;
    let env = variables(spec, initialization, &stream, &credentials, endpoints);
    let writer = context.logs.writer(StreamName::new(
        spec.account.clone(),
        spec.region.clone(),
        spec.log.group.clone(),
        stream,
    ));
    let mut journal = Journal::new(writer, spec.clone(), initialization);
    let version = launch.build.as_ref().map(|build| RuntimeVersion {
        name: build.clone(),
        arn: spec.runtime.version_arn(&spec.region).to_string(),
    });
    journal.init_start(version, &instance);
    let mut extensions = Extensions::default();

    channel.send(&ToInit::Start(Start {
        entry: launch.entry.clone(),
        cwd: "/var/task".to_owned(),
        env,
        user: context.config.user,
        open_files_max: OPEN_FILES_MAX,
        processes_max: u64::from(PROCESSES_MAX),
        telemetry_fd: launch.telemetry_fd,
        response_bytes_max: SYNC_RESPONSE_BYTES_MAX as u64,
        account_id: spec.account.as_str().to_owned(),
    }));
    publish(&mut channel, &mut journal);
    let limit = Duration::from_secs(initialization.init_secs_max(spec.timeout_secs));
    let first = async {
        tokio::pin! {
            let done =
                first_init(context, sandbox, &mut channel, &mut journal, &mut extensions, limit);
        }
        match timeout(TURN, &mut done).await {
            Ok(done) => done,
            Err(_) => {
                drop(turn);
                done.await
            }
        }
    };
    let status = first.await?;
    let init = hello_at.elapsed();
    debug!(%sandbox, ?init, ?status, "init done");
    let runtime = match status {
        ReportStatus::Success => {
            context.stats.init_done(init);
            journal.init_done(InitPhase::Init, &status, init);
            Runtime::Ready
        }
        failed => {
            journal.init_done(InitPhase::Init, &failed, init);
            let reason = match failed {
                ReportStatus::Timeout => ShutdownReason::Timeout,
                _ => ShutdownReason::Failure,
            };
            publish(&mut channel, &mut journal);
            if initialization.is_provisioned() {
                // Extensions hear why it ends. Which there are, init tells at the
                // end of Init, and to that it may not have come.
                let _ = super::reset(&mut channel, &mut journal, reason).await;
                return Err(BootError::InitFailed { what: failure_name(&failed) });
            }
            super::reset(&mut channel, &mut journal, reason).await.map_err(|_| {
                BootError::Sandbox { what: "init did not come back after a failed Init".to_owned() }
            })?;
            context.stats.resets.add(1);
            let _ = context.driver.reset_memory_max(sandbox);
            Runtime::Absent
        }
    };
    publish(&mut channel, &mut journal);
    let oom_kills = context.driver.stats(sandbox).map_or(0, |stats| stats.oom_kills);
    let timings = Timings { placed: Duration::ZERO, sandbox: hello_at - began, init };
    Ok(Made { machine, channel, journal, extensions, runtime, timings, packages, oom_kills })
}

async fn hello(channel: &mut Channel) -> Result<(), BootError> {
    let waited = Duration::from_secs(HELLO_SECS_MAX);
    match timeout(waited, poll_fn(|cx| channel.poll_next(cx))).await {
        Err(_) => Err(BootError::Silent { waited }),
        Ok(Ok(FromInit::Hello { protocol: PROTOCOL })) => Ok(()),
        Ok(Ok(FromInit::Hello { protocol })) => Err(BootError::Sandbox {
            what: format!("init speaks protocol {protocol}, this worker {PROTOCOL}"),
        }),
        Ok(Ok(_)) => {
            Err(BootError::Sandbox { what: "init said something before hello".to_owned() })
        }
        Ok(Err(error)) => Err(channel_error(&error)),
    }
}

/// As REPORT lines name it.
fn failure_name(status: &ReportStatus) -> String {
    match status {
        ReportStatus::Success => String::new(),
        ReportStatus::Timeout => "timeout".to_owned(),
        ReportStatus::Error(kind) | ReportStatus::Failure(kind) => kind.clone(),
    }
}

/// Waits for the first Init within its limit.
fn first_init<'a>(
    context: &'a Context,
    sandbox: SandboxId,
    channel: &'a mut Channel,
    journal: &'a mut Journal,
    extensions: &'a mut Extensions,
    limit: Duration,
) -> impl Future<Output = Result<ReportStatus, BootError>> + 'a {
    let init = async move {
        loop {
            match poll_fn(|cx| channel.poll_next(cx)).await {
                Ok(FromInit::Log { time_ms, record, .. }) => journal.function(time_ms, &record),
                Ok(FromInit::InitDone { outcome, .. }) => {
                    let killed = matches!(outcome, InitOutcome::Exited(Exit::Signal(9)));
                    let oom = killed
                        && context.driver.stats(sandbox).is_ok_and(|stats| stats.oom_kills > 0);
                    return Ok(match init_failure(outcome, oom) {
                        None => ReportStatus::Success,
                        Some((status, _)) => status,
                    });
                }
                Ok(message) => match extensions.hear(message, journal) {
                    Ok(None) => publish(channel, journal),
                    Ok(Some(_)) | Err(_) => {
                        let what = "init said something out of turn".to_owned();
                        return Err(BootError::Sandbox { what });
                    }
                },
                Err(error) => return Err(channel_error(&error)),
            }
        }
    };
    async move { timeout(limit, init).await.unwrap_or(Ok(ReportStatus::Timeout)) }
}

fn sandbox_spec(
    context: &Context,
    sandbox: SandboxId,
    spec: &VersionSpec,
    initialization: InitializationType,
    packages: &[Arc<Unpacked>],
    launch: &Launch,
) -> SandboxSpec {
    let paths: Vec<PathBuf> = packages.iter().map(|unpacked| unpacked.path.clone()).collect();
    let (code, layers) = paths.split_at(1);
    let mut mounts = vec![Mount { sources: code.to_vec(), target: "/var/task".into() }];
    if !layers.is_empty() {
        mounts.push(Mount { sources: laid(layers), target: "/opt".into() });
    }
    mounts.extend(launch.mounts.iter().cloned());
    SandboxSpec {
        sandbox,
        memory_mib: spec.memory_mib,
        cpu_millis: cpu_millis(spec.memory_mib),
        cpu_millis_max: context.config.cpu_millis_max(spec.memory_mib),
        init_secs_max: initialization.init_secs_max(spec.timeout_secs),
        // Init is one more.
        pids_max: PROCESSES_MAX + 1,
        tmp_mib: spec.ephemeral_mib,
        mounts,
    }
}

/// Layers as they are laid over each other. Two layers may have the same
/// bytes, and so one path, which an overlay takes only once; the upper one
/// hides all of the lower.
fn laid(layers: &[PathBuf]) -> Vec<PathBuf> {
    let hidden = |at: usize| layers[at + 1..].contains(&layers[at]);
    (0..layers.len()).filter(|at| !hidden(*at)).map(|at| layers[at].clone()).collect()
}

fn driver_error(error: DriverError) -> BootError {
    match error {
        DriverError::NoRoom { what } => BootError::NoRoom { what },
        error => BootError::Sandbox { what: chain(&error) },
    }
}

fn channel_error(error: &ChannelError) -> BootError {
    BootError::Sandbox { what: chain(error) }
}

fn package_error(error: PackageError) -> BootError {
    match error {
        PackageError::Missing { digest } => BootError::PackageMissing { digest },
        PackageError::Unusable { digest, ref source } => {
            BootError::PackageUnreadable { digest, why: chain(source.as_ref()) }
        }
        PackageError::Full { .. } => BootError::NoRoom { what: error.to_string() },
        PackageError::Unavailable { .. } => BootError::Sandbox { what: chain(&error) },
    }
}

/// An error with its causes, for a message that crosses to another role.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_is_there_twice_is_laid_where_it_is_last() {
        let paths = |names: &'static str| -> Vec<PathBuf> {
            names.chars().map(|name| PathBuf::from(name.to_string())).collect()
        };
        for (given, expected) in [("", ""), ("abc", "abc"), ("aba", "ba"), ("aabab", "ab")] {
            assert_eq!(laid(&paths(given)), paths(expected), "{given}");
        }
    }
}

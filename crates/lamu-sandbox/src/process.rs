//! Sandboxes of namespaces, cgroups, seccomp and Landlock over the host's
//! kernel: works everywhere, and is one fence, where a microVM is two.
//!
//! ```text
//!  prepare: user range + network namespace + cgroup, all from pools
//!  claim:   limits -> spawner (enters netns and template, clones) -> child
//!           (joins cgroup, mounts, fences itself in, executes init)
//!  doors:   sockets made inside, served by lamu for the configured endpoints
//!  destroy: kill, thaw, wait, doors shut, cgroup away, the rest to the pools
//! ```
//!
//! A program that uses it calls [`spawner_main_if_asked`] first thing in
//! `main`: the spawner is the program itself, started again.
//!
//! Not here: what init says (the channel's bytes), which packages there are.

mod birth;
mod cgroup;
mod child;
mod client;
mod instance;
mod landlock;
mod machines;
mod network;
mod refill;
mod report;
mod root;
mod seccomp;
mod spawner;
mod sys;
mod syscalls;
mod users;
mod wire;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use lamu_model::{EgressPlan, SandboxId};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::egress::{Doors, Egress};
use crate::{Driver, DriverError, Machine, SandboxSpec, Shell, ShellClass, Stats, Teardown};
use birth::Birth;
use cgroup::{CgroupPool, Layout, Limits, Pooled};
use client::Spawner;
use instance::Instance;
use machines::{Machines, Running};
use network::{Netns, NetnsPool};
use users::{UserRange, Users};
use wire::{Failure, Privilege, Setup, Spawn};

pub use report::{Enforced, Report};
pub use spawner::{FUNCTION_GID, FUNCTION_UID, SPAWNER_ARGUMENT, spawner_main_if_asked};

/// Starts under way at once, per core: mount and cgroup locks are global, so
/// more only wait inside the kernel.
const STARTS_PER_CORE: usize = 2;

/// What a process driver is made from.
#[derive(Clone, Debug)]
pub struct ProcessDriverConfig {
    /// The program that becomes process 1 inside: an executable's bytes.
    pub init: Arc<[u8]>,
    /// An existing directory of lamu's own, where records of this instance
    /// are kept.
    pub data_dir: PathBuf,
    /// The program to start as the spawner; this one by default.
    pub spawner: PathBuf,
    /// The endpoints that sandboxes reach; none by default.
    pub egress: EgressPlan,
}

impl ProcessDriverConfig {
    pub fn new(init: impl Into<Arc<[u8]>>, data_dir: impl Into<PathBuf>) -> ProcessDriverConfig {
        ProcessDriverConfig {
            init: init.into(),
            data_dir: data_dir.into(),
            // This very image, even when its file was replaced meanwhile.
            spawner: "/proc/self/exe".into(),
            egress: EgressPlan::default(),
        }
    }
}

/// Whom a sandbox's init starts the function as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionUser {
    pub uid: u32,
    pub gid: u32,
}

/// Makes process sandboxes. Dropping the last clone of it ends them all and
/// waits for that.
#[derive(Clone, Debug)]
pub struct ProcessDriver {
    inner: Arc<Inner>,
    begin_destroy: Teardowns,
}

#[derive(Debug)]
struct Inner {
    // Fields drop in this order: pools stop making, then the spawner ends
    // what runs and removes the cgroups, then the record goes.
    machines: Machines,
    cgroups: CgroupPool,
    netns: Option<NetnsPool>,
    users: Option<Users>,
    starts: Semaphore,
    spawner: RwLock<Arc<Spawner>>,
    restart: tokio::sync::Mutex<()>,
    program: PathBuf,
    setup: Setup,
    init: OwnedFd,
    report: Report,
    egress: Arc<Egress>,
    _instance: Instance,
}

#[derive(Clone)]
struct Teardowns(Arc<dyn Fn(SandboxId) + Send + Sync>);

/// What of a sandbox does not depend on its function. Whoever drops it has
/// seen its last process end.
#[derive(Debug)]
pub(crate) struct Parts {
    cgroup: Pooled,
    /// Closed before the namespace they are in goes back.
    doors: Option<Doors>,
    netns: Option<Netns>,
    user: Option<UserRange>,
}

impl Parts {
    /// Removes the cgroup and gives the rest back.
    async fn dispose(mut self) -> io::Result<()> {
        if let Some(doors) = self.doors.take() {
            doors.close().await;
        }
        self.cgroup.remove().await
    }
}

impl ProcessDriver {
    /// Clears away what dead instances left and starts the spawner. The
    /// machines it makes belong to the tokio runtime that it is called on.
    pub async fn start(config: ProcessDriverConfig) -> Result<ProcessDriver, DriverError> {
        let runtime = tokio::runtime::Handle::current();
        let started = tokio::task::spawn_blocking(move || {
            let _entered = runtime.enter();
            Inner::start(config)
        });
        let inner = started.await.map_err(|error| DriverError::Step {
            step: "start the driver".into(),
            source: io::Error::other(error),
        })??;
        let inner = Arc::new(inner);
        let weak = Arc::downgrade(&inner);
        let begin_destroy = Teardowns(Arc::new(move |sandbox| {
            if let Some(inner) = weak.upgrade() {
                inner.machines.begin_end(sandbox);
            }
        }));
        Ok(ProcessDriver { inner, begin_destroy })
    }

    /// Whom init starts the function as; `None` where init is that user.
    pub fn user(&self) -> Option<FunctionUser> {
        let users = self.inner.users.as_ref();
        users.map(|_| FunctionUser { uid: FUNCTION_UID, gid: FUNCTION_GID })
    }

    /// What this host lets us enforce, and what not and why.
    pub fn report(&self) -> &Report {
        &self.inner.report
    }

    /// The way from sandboxes to endpoints.
    pub fn egress(&self) -> &Arc<Egress> {
        &self.inner.egress
    }

    /// The helper process whose children the sandboxes are.
    pub fn spawner_pid(&self) -> u32 {
        self.inner.spawner().pid()
    }

    /// Ends all machines, and returns when nothing of them is left.
    pub async fn destroy_all(&self) {
        for sandbox in self.inner.machines.all() {
            self.inner.machines.end(sandbox).await;
        }
    }
}

impl Inner {
    fn start(config: ProcessDriverConfig) -> Result<Inner, DriverError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let step =
            |step: &'static str| move |source| DriverError::Step { step: step.into(), source };
        let mut instance =
            Instance::begin(&config.data_dir, NUMBER.fetch_add(1, Ordering::Relaxed))
                .map_err(step("keep a record in the data directory"))?;
        let layout = Layout::create(instance.name());
        instance.claim(&layout).map_err(step("keep a record in the data directory"))?;
        let init =
            sys::sealed_memory_file(c"init", &config.init).map_err(step("keep init in memory"))?;
        let privilege =
            if sys::effective_uid() == 0 { Privilege::Root } else { Privilege::Rootless };
        let data_dir =
            std::path::absolute(&config.data_dir).map_err(step("find the data directory"))?;
        let plan = &config.egress;
        let hosts = plan.hosts.iter().map(|(address, name)| format!("{address} {name}\n"));
        let setup = Setup {
            privilege,
            mount_point: data_dir,
            cgroups: layout.dirs(),
            doors: plan.doors.iter().map(|door| door.inside).collect(),
            hosts: hosts.collect(),
        };
        let spawner = Spawner::start(&config.spawner, &setup, init.as_fd()).map_err(refused)?;
        let (netns, users) = match privilege {
            Privilege::Root => (
                Some(NetnsPool::start().map_err(step("make a network namespace"))?),
                Some(Users::of_instance(instance.name())),
            ),
            Privilege::Rootless => (None, None),
        };
        let report = Report::new(privilege, &layout, spawner.landlock_abi());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Inner {
            machines: Machines::new(tokio::runtime::Handle::current()),
            cgroups: CgroupPool::start(layout).map_err(step("start making cgroups"))?,
            netns,
            users,
            starts: Semaphore::new(cores * STARTS_PER_CORE),
            spawner: RwLock::new(Arc::new(spawner)),
            restart: tokio::sync::Mutex::new(()),
            program: config.spawner,
            setup,
            init,
            report,
            egress: Arc::new(Egress::new(&config.egress)),
            _instance: instance,
        })
    }

    fn spawner(&self) -> Arc<Spawner> {
        self.spawner.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Another spawner, started off the runtime's own threads.
    async fn restarted(&self) -> Result<Spawner, DriverError> {
        let step = |source| DriverError::Step { step: "start the spawner".into(), source };
        let (program, setup) = (self.program.clone(), self.setup.clone());
        let init = self.init.try_clone().map_err(step)?;
        let runtime = tokio::runtime::Handle::current();
        let started = tokio::task::spawn_blocking(move || {
            let _entered = runtime.enter();
            Spawner::start(&program, &setup, init.as_fd())
        });
        started.await.map_err(|error| step(io::Error::other(error)))?.map_err(refused)
    }

    /// Sends to the spawner, and to a new one if it has died.
    async fn send(
        &self,
        request: &[u8],
        files: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(), DriverError> {
        let spawner = self.spawner();
        let step = |source| DriverError::Step { step: "reach the spawner".into(), source };
        match spawner.send(request, files).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => return other.map_err(step),
        }
        let _restarting = self.restart.lock().await;
        let mut current = self.spawner();
        if Arc::ptr_eq(&current, &spawner) {
            tracing::error!("the spawner died, and every sandbox with it; starting another");
            current = Arc::new(self.restarted().await?);
            *self.spawner.write().unwrap_or_else(|poisoned| poisoned.into_inner()) =
                current.clone();
        }
        current.send(request, files).await.map_err(step)
    }
}

#[async_trait]
impl Driver for ProcessDriver {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn prepare(&self, class: &ShellClass) -> Result<Shell, DriverError> {
        let user = match &self.inner.users {
            None => None,
            Some(users) => Some(users.take().ok_or_else(|| DriverError::NoRoom {
                what: format!("{} sandboxes exist", users::SLOTS_MAX),
            })?),
        };
        let step = |step: &'static str| move |error: io::Error| refused(Failure::new(step, error));
        let netns = match &self.inner.netns {
            None => None,
            Some(pool) => {
                Some(pool.take(&class.account).await.map_err(step("make a network namespace"))?)
            }
        };
        let cgroup = self.inner.cgroups.take().await.map_err(step("make a cgroup"))?;
        let parts = Parts { cgroup, doors: None, netns, user };
        Ok(Shell { class: class.clone(), parts: Box::new(parts) })
    }

    async fn claim(&self, shell: Shell, spec: &SandboxSpec) -> Result<Machine, DriverError> {
        let step = |step: &'static str| move |error: io::Error| refused(Failure::new(step, error));
        let parts = shell.parts.downcast::<Parts>().map_err(|_| DriverError::Step {
            step: "use a shell of another driver".into(),
            source: io::ErrorKind::InvalidInput.into(),
        })?;
        let limits = Limits {
            memory_mib: spec.memory_mib,
            cpu_millis: spec.cpu_millis,
            pids_max: spec.pids_max,
        };
        parts.cgroup.set_limits(&limits).map_err(step("set limits"))?;
        let (channel, inside) = sys::stream_pair().map_err(step("make the channel"))?;
        let (status, told) = sys::packet_pair().map_err(step("make the status socket"))?;
        // The semaphore is never closed.
        let _start = self.inner.starts.acquire().await.ok();
        let birth = Birth::begin(*parts, status).map_err(step("watch the status socket"))?;
        {
            let parts = birth.parts();
            let (cgroup, cgroup_files) = parts.cgroup.join_files();
            let request = Spawn {
                uid_base: parts.user.as_ref().map(UserRange::base),
                tmp_mib: spec.tmp_mib,
                mounts: spec.mounts.clone(),
                cgroup,
                netns: parts.netns.is_some(),
            };
            let mut files = vec![told.as_fd(), inside.as_fd()];
            files.extend(parts.netns.as_ref().map(AsFd::as_fd));
            files.extend(cgroup_files);
            self.inner.send(&request.encode(), &files).await?;
        }
        // Only the spawner's side keeps them open from here.
        drop((told, inside));
        let (mut parts, pidfd, listeners) = birth.complete().await.map_err(refused)?;
        let doors = self.inner.egress.serve(listeners);
        // What fails now ends like any machine.
        let failed = match doors {
            Ok(doors) => {
                parts.doors = Some(doors);
                None
            }
            Err(error) => Some(error),
        };
        let running = Running::new(parts, pidfd, spec.cpu_millis_max);
        self.inner.machines.add(spec.sandbox, running)?;
        // From here its destruction is the machine's.
        let teardown = Teardown::new(spec.sandbox, self.begin_destroy.0.clone());
        if let Some(error) = failed {
            return Err(step("serve the endpoints")(error));
        }
        if spec.cpu_millis_max.is_some() {
            let wait = Duration::from_secs(spec.init_secs_max);
            self.inner.machines.hold_cpu_after(spec.sandbox, wait);
        }
        let channel = std::os::unix::net::UnixStream::from(channel);
        channel.set_nonblocking(true).map_err(step("set up the channel"))?;
        let channel = UnixStream::from_std(channel).map_err(step("watch the channel"))?;
        Ok(Machine { sandbox: spec.sandbox, channel: Some(channel), teardown })
    }

    async fn freeze(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        self.inner.machines.freeze(sandbox).await
    }

    async fn thaw(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        self.inner.machines.thaw(sandbox).await
    }

    fn memory_bytes_max(&self, sandbox: SandboxId) -> Result<u64, DriverError> {
        self.inner.machines.memory_bytes_max(sandbox)
    }

    fn stats(&self, sandbox: SandboxId) -> Result<Stats, DriverError> {
        self.inner.machines.stats(sandbox)
    }

    fn reset_memory_max(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        self.inner.machines.reset_memory_max(sandbox)
    }

    fn hold_cpu(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        self.inner.machines.hold_cpu(sandbox)
    }

    async fn destroy(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        self.inner.machines.end(sandbox).await;
        Ok(())
    }
}

impl std::fmt::Debug for Teardowns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Teardowns")
    }
}

/// A limit of the host that may be free again later is a lack of room.
fn refused(failure: Failure) -> DriverError {
    let Failure { step, errno } = failure;
    match errno {
        libc::EAGAIN | libc::ENOMEM | libc::ENFILE | libc::EMFILE | libc::EUSERS => {
            let error = io::Error::from_raw_os_error(errno);
            DriverError::NoRoom { what: format!("could not {step}: {error}") }
        }
        // Too many namespaces; only clone says it so.
        libc::ENOSPC if step == "clone" => {
            DriverError::NoRoom { what: "the host's limit of namespaces".into() }
        }
        _ => DriverError::Step { step, source: io::Error::from_raw_os_error(errno) },
    }
}

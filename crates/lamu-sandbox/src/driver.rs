//! The trait every kind of sandbox implements, and the values it deals in.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lamu_model::{AccountId, SandboxId};
use tokio::net::UnixStream;

/// Makes sandboxes of one kind on this host. Passes [`crate::conformance`].
#[async_trait]
pub trait Driver: Send + Sync + fmt::Debug {
    /// `process`, `firecracker`, `qemu`; for logs and `lamu ls`.
    fn kind(&self) -> &'static str;

    /// Makes everything of a sandbox that does not depend on the function.
    ///
    /// If the future or the shell is dropped, nothing of it remains.
    async fn prepare(&self, class: &ShellClass) -> Result<Shell, DriverError>;

    /// Binds a shell to a function and starts its init, which finds the other
    /// end of [`Machine::channel`] as its descriptor 3 and says hello on it.
    ///
    /// If the future is dropped, nothing of the machine remains.
    async fn claim(&self, shell: Shell, spec: &SandboxSpec) -> Result<Machine, DriverError>;

    /// Stops every process inside. Freezing a frozen machine succeeds.
    async fn freeze(&self, sandbox: SandboxId) -> Result<(), DriverError>;

    /// Lets a frozen machine run on. Thawing a running one succeeds.
    async fn thaw(&self, sandbox: SandboxId) -> Result<(), DriverError>;

    /// [`Stats::memory_bytes_max`] alone: what every invocation reports, so
    /// it costs one read.
    fn memory_bytes_max(&self, sandbox: SandboxId) -> Result<u64, DriverError> {
        Ok(self.stats(sandbox)?.memory_bytes_max)
    }

    /// A few reads; not for every invocation.
    fn stats(&self, sandbox: SandboxId) -> Result<Stats, DriverError>;

    /// Starts the high-water mark of [`Stats::memory_bytes_max`] afresh.
    fn reset_memory_max(&self, sandbox: SandboxId) -> Result<(), DriverError>;

    /// Begins to enforce [`SandboxSpec::cpu_millis_max`], where there is one, to be
    /// called when Init is over: until then only the share under contention
    /// holds, as on Lambda. A driver does so by itself
    /// [`SandboxSpec::init_secs_max`] after the claim; one whose machines have a
    /// fixed number of processors does nothing.
    fn hold_cpu(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        let _ = sandbox;
        Ok(())
    }

    /// Ends the machine and returns when nothing of it is left: no process,
    /// cgroup, namespace or mount. Ending one that is already gone succeeds.
    async fn destroy(&self, sandbox: SandboxId) -> Result<(), DriverError>;
}

/// What a shell must be made for before its function is known. Parts of a
/// shell may have been used by the same account before, never by another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShellClass {
    pub account: AccountId,
}

/// What a machine is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    pub sandbox: SandboxId,
    /// Hard limit of everything inside, init included, page cache too.
    pub memory_mib: u32,
    /// CPU in thousandths of a core: the share under contention.
    pub cpu_millis: u32,
    /// Ceiling of the same unit, whether others want the CPU or not.
    pub cpu_millis_max: Option<u32>,
    /// Longest that Init may take.
    pub init_secs_max: u64,
    /// Processes and threads.
    pub pids_max: u32,
    /// Size of `/tmp`.
    pub tmp_mib: u32,
    /// Read-only directories or files of the host that appear inside, beyond
    /// the minimal userland; applied in order.
    pub mounts: Vec<Mount>,
}

/// `source` on the host appears read-only, nosuid and nodev at `target`.
/// Several sources at one target are laid over each other, the last on top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub sources: Vec<PathBuf>,
    /// Absolute, for example `/var/task`.
    pub target: PathBuf,
}

/// An empty sandbox waiting for a function. Dropping it removes its parts.
pub struct Shell {
    pub class: ShellClass,
    /// The driver's own parts; a driver is only ever handed its own shells.
    pub parts: Box<dyn std::any::Any + Send>,
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shell").field("class", &self.class).finish_non_exhaustive()
    }
}

/// A running sandbox. Dropping it begins its destruction in the background;
/// [`Driver::destroy`] waits for it.
#[derive(Debug)]
pub struct Machine {
    pub sandbox: SandboxId,
    /// The byte stream to init. It ends when init does. Taken by whoever
    /// talks to init.
    pub channel: Option<UnixStream>,
    pub teardown: Teardown,
}

/// Destroys its sandbox when dropped.
pub struct Teardown {
    sandbox: SandboxId,
    begin: Arc<dyn Fn(SandboxId) + Send + Sync>,
}

impl Teardown {
    /// `begin` must not block and may be called for a sandbox already gone.
    pub fn new(sandbox: SandboxId, begin: Arc<dyn Fn(SandboxId) + Send + Sync>) -> Teardown {
        Teardown { sandbox, begin }
    }
}

impl Drop for Teardown {
    fn drop(&mut self) {
        (self.begin)(self.sandbox);
    }
}

impl fmt::Debug for Teardown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Teardown({})", self.sandbox)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Highest memory use since start or the last reset, in bytes.
    pub memory_bytes_max: u64,
    pub memory_bytes: u64,
    /// How often the kernel killed something inside for lack of memory.
    pub oom_kills: u64,
    pub cpu_ns: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The host cannot hold another sandbox now; a later attempt may succeed.
    #[error("no room for another sandbox: {what}")]
    NoRoom { what: String },
    #[error("no sandbox {sandbox}")]
    Gone { sandbox: SandboxId },
    /// A step of making or steering the sandbox failed.
    #[error("could not {step}")]
    Step { step: String, source: std::io::Error },
}

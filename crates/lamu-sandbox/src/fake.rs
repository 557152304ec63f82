//! A driver without sandboxes, for tests of those who use one: each machine's
//! init is played by the test, which gets the other end of the channel.
//!
//! ```text
//!  let (driver, mut births) = FakeDriver::new();
//!  ... claim ...                    let birth = births.recv().await;
//!  machine.channel  <------------>  birth.channel      the test is init
//! ```
//!
//! Not here: what flows over the channel.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use lamu_model::SandboxId;
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{Driver, DriverError, Machine, SandboxSpec, Shell, ShellClass, Stats, Teardown};

/// What init's player gets for each claim.
#[derive(Debug)]
pub struct Birth {
    pub spec: SandboxSpec,
    pub class: ShellClass,
    /// What a real init has as its descriptor 3. Dropping it is init's end.
    pub channel: UnixStream,
}

/// Something that was done to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Claimed(SandboxId),
    Frozen(SandboxId),
    Thawed(SandboxId),
    MemoryMarkReset(SandboxId),
    CpuHeld(SandboxId),
    Destroyed(SandboxId),
}

#[derive(Clone, Debug)]
pub struct FakeDriver {
    // Unbounded: a test's machines are few, and the test reads them all.
    births: UnboundedSender<Birth>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    machines: BTreeMap<SandboxId, FakeMachine>,
    shells: usize,
    events: Vec<Event>,
    prepare_failures: VecDeque<DriverError>,
    claim_failures: VecDeque<DriverError>,
    freeze_failures: VecDeque<DriverError>,
}

#[derive(Debug)]
struct FakeMachine {
    frozen: bool,
    stats: Stats,
    /// The process driver's channel ends with the machine; this one ends by
    /// shutting down a second handle to the host's side.
    hang_up: std::os::unix::net::UnixStream,
}

/// Counts a shell for as long as it exists.
struct FakeShell(Arc<Mutex<State>>);

impl FakeDriver {
    /// The driver, and where the births of its machines arrive.
    pub fn new() -> (FakeDriver, UnboundedReceiver<Birth>) {
        let (births, arriving) = unbounded_channel();
        (FakeDriver { births, state: Arc::default() }, arriving)
    }

    /// The next prepare, not failed already by an earlier call, fails so.
    pub fn fail_next_prepare(&self, error: DriverError) {
        self.lock().prepare_failures.push_back(error);
    }

    /// The next claim, not failed already by an earlier call, fails so.
    pub fn fail_next_claim(&self, error: DriverError) {
        self.lock().claim_failures.push_back(error);
    }

    /// The next freeze, not failed already by an earlier call, fails so.
    pub fn fail_next_freeze(&self, error: DriverError) {
        self.lock().freeze_failures.push_back(error);
    }

    /// What [`Driver::stats`] says from now on.
    pub fn set_stats(&self, sandbox: SandboxId, stats: Stats) {
        if let Some(machine) = self.lock().machines.get_mut(&sandbox) {
            machine.stats = stats;
        }
    }

    pub fn machines(&self) -> Vec<SandboxId> {
        self.lock().machines.keys().copied().collect()
    }

    /// Prepared shells that are neither claimed nor dropped.
    pub fn shells(&self) -> usize {
        self.lock().shells
    }

    /// `None` when there is no such machine.
    pub fn is_frozen(&self, sandbox: SandboxId) -> Option<bool> {
        self.lock().machines.get(&sandbox).map(|machine| machine.frozen)
    }

    /// All that happened, in order.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

#[async_trait]
impl Driver for FakeDriver {
    fn kind(&self) -> &'static str {
        "fake"
    }

    async fn prepare(&self, class: &ShellClass) -> Result<Shell, DriverError> {
        let mut state = self.lock();
        if let Some(error) = state.prepare_failures.pop_front() {
            return Err(error);
        }
        state.shells += 1;
        Ok(Shell { class: class.clone(), parts: Box::new(FakeShell(self.state.clone())) })
    }

    async fn claim(&self, shell: Shell, spec: &SandboxSpec) -> Result<Machine, DriverError> {
        let sandbox = spec.sandbox;
        let step = |source| DriverError::Step { step: "make the channel".into(), source };
        if shell.parts.downcast_ref::<FakeShell>().is_none() {
            return Err(DriverError::Step {
                step: "use a shell of another driver".into(),
                source: std::io::ErrorKind::InvalidInput.into(),
            });
        }
        if let Some(error) = self.lock().claim_failures.pop_front() {
            return Err(error);
        }
        let (host, inside) = UnixStream::pair().map_err(step)?;
        let host = host.into_std().map_err(step)?;
        let hang_up = host.try_clone().map_err(step)?;
        let host = UnixStream::from_std(host).map_err(step)?;
        {
            let mut state = self.lock();
            if state.machines.contains_key(&sandbox) {
                return Err(DriverError::Step {
                    step: format!("make sandbox {sandbox} twice"),
                    source: std::io::ErrorKind::AlreadyExists.into(),
                });
            }
            let machine = FakeMachine { frozen: false, stats: Stats::default(), hang_up };
            state.machines.insert(sandbox, machine);
            state.events.push(Event::Claimed(sandbox));
        }
        // A test that reads no births has inits that end at once.
        let birth = Birth { spec: spec.clone(), class: shell.class.clone(), channel: inside };
        let _ = self.births.send(birth);
        let state = self.state.clone();
        let teardown = Teardown::new(sandbox, Arc::new(move |sandbox| end(&state, sandbox)));
        Ok(Machine { sandbox, channel: Some(host), teardown })
    }

    async fn freeze(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        if let Some(error) = self.lock().freeze_failures.pop_front() {
            return Err(error);
        }
        self.change(sandbox, Event::Frozen(sandbox), |machine| machine.frozen = true)
    }

    async fn thaw(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        self.change(sandbox, Event::Thawed(sandbox), |machine| machine.frozen = false)
    }

    fn stats(&self, sandbox: SandboxId) -> Result<Stats, DriverError> {
        let state = self.lock();
        let machine = state.machines.get(&sandbox).ok_or(DriverError::Gone { sandbox })?;
        Ok(machine.stats)
    }

    fn reset_memory_max(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        self.change(sandbox, Event::MemoryMarkReset(sandbox), |machine| {
            machine.stats.memory_bytes_max = machine.stats.memory_bytes;
        })
    }

    fn hold_cpu(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        self.change(sandbox, Event::CpuHeld(sandbox), |_| {})
    }

    async fn destroy(&self, sandbox: SandboxId) -> Result<(), DriverError> {
        end(&self.state, sandbox);
        Ok(())
    }
}

impl FakeDriver {
    fn change(
        &self,
        sandbox: SandboxId,
        event: Event,
        change: impl FnOnce(&mut FakeMachine),
    ) -> Result<(), DriverError> {
        let mut state = self.lock();
        change(state.machines.get_mut(&sandbox).ok_or(DriverError::Gone { sandbox })?);
        state.events.push(event);
        Ok(())
    }
}

impl Drop for FakeShell {
    fn drop(&mut self) {
        lock(&self.0).shells -= 1;
    }
}

fn end(state: &Mutex<State>, sandbox: SandboxId) {
    let mut state = lock(state);
    if let Some(machine) = state.machines.remove(&sandbox) {
        let _ = machine.hang_up.shutdown(std::net::Shutdown::Both);
        state.events.push(Event::Destroyed(sandbox));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

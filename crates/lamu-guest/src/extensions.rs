//! What the protocol says about extensions and their telemetry.
//!
//! Init runs the Extensions, Telemetry and Logs APIs; the host words what is
//! told of them. Before `InitDone` init names every extension with its state
//! (`Extension`) and, as it happens, every subscription (`Subscribed`). The
//! host answers with events (`Event`) for the subscribers, which init passes
//! on without reading them.
//!
//! Not here: the frames (`messages`), what the words are (`lamu-model`).

use crate::Exit;
use crate::frame::{Malformed, Reader, Writer};

/// Why the processes inside come to their end; extensions are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// Nobody needs the environment any more.
    Spindown,
    Timeout,
    Failure,
}

impl ShutdownReason {
    /// The word of the SHUTDOWN event.
    pub fn word(self) -> &'static str {
        match self {
            ShutdownReason::Spindown => "spindown",
            ShutdownReason::Timeout => "timeout",
            ShutdownReason::Failure => "failure",
        }
    }

    pub(crate) fn write(self, w: &mut Writer<'_>) {
        w.u8(match self {
            ShutdownReason::Spindown => 0,
            ShutdownReason::Timeout => 1,
            ShutdownReason::Failure => 2,
        });
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<ShutdownReason, Malformed> {
        match r.u8()? {
            0 => Ok(ShutdownReason::Spindown),
            1 => Ok(ShutdownReason::Timeout),
            2 => Ok(ShutdownReason::Failure),
            _ => Err(Malformed("bad shutdown reason")),
        }
    }
}

/// Where an extension stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionState {
    Started,
    Registered,
    /// It waits for an event.
    Ready,
    Running,
    InitError,
    ExitError,
    Exited,
    LaunchError,
}

impl ExtensionState {
    const ALL: [ExtensionState; 8] = [
        ExtensionState::Started,
        ExtensionState::Registered,
        ExtensionState::Ready,
        ExtensionState::Running,
        ExtensionState::InitError,
        ExtensionState::ExitError,
        ExtensionState::Exited,
        ExtensionState::LaunchError,
    ];

    /// The names that Lambda's log lines and error texts use.
    pub fn name(self) -> &'static str {
        match self {
            ExtensionState::Started => "Started",
            ExtensionState::Registered => "Registered",
            ExtensionState::Ready => "Ready",
            ExtensionState::Running => "Running",
            ExtensionState::InitError => "InitError",
            ExtensionState::ExitError => "ExitError",
            ExtensionState::Exited => "Exited",
            ExtensionState::LaunchError => "LaunchError",
        }
    }
}

/// One extension as it stands at the end of an Init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionStatus {
    pub name: String,
    /// A process of its own, from `/opt/extensions`.
    pub external: bool,
    pub state: ExtensionState,
    pub invoke: bool,
    pub shutdown: bool,
    pub error_type: Option<String>,
}

impl ExtensionStatus {
    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        w.text(&self.name);
        w.u8(self.external.into());
        let state = ExtensionState::ALL.iter().position(|&state| state == self.state);
        w.u8(state.unwrap_or(0) as u8);
        w.u8(u8::from(self.invoke) | u8::from(self.shutdown) << 1);
        w.maybe_text(self.error_type.as_deref());
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<ExtensionStatus, Malformed> {
        let name = r.text()?;
        let external = r.u8()? != 0;
        let state = ExtensionState::ALL.get(usize::from(r.u8()?));
        let state = *state.ok_or(Malformed("bad extension state"))?;
        let events = r.u8()?;
        if events > 3 {
            return Err(Malformed("bad extension events"));
        }
        let error_type = r.maybe_text()?;
        let (invoke, shutdown) = (events & 1 != 0, events & 2 != 0);
        Ok(ExtensionStatus { name, external, state, invoke, shutdown, error_type })
    }
}

/// How an extension brought an Init or an invocation down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionFault {
    pub kind: ExtensionFaultKind,
    pub cause: ExtensionEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionFaultKind {
    /// It could not be started.
    Launch,
    /// It ended after it had reported an error of its Init.
    Init,
    /// It ended after it had announced its exit with an error.
    Exit,
    /// It ended without a word.
    Crash,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtensionEnd {
    Exited(Exit),
    NotStarted { name: String, errno: i32 },
    TooMany,
}

impl ExtensionFault {
    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        w.u8(match self.kind {
            ExtensionFaultKind::Launch => 0,
            ExtensionFaultKind::Init => 1,
            ExtensionFaultKind::Exit => 2,
            ExtensionFaultKind::Crash => 3,
        });
        match &self.cause {
            ExtensionEnd::Exited(exit) => {
                w.u8(0);
                exit.write(w);
            }
            ExtensionEnd::NotStarted { name, errno } => {
                w.u8(1);
                w.text(name);
                w.u32(*errno as u32);
            }
            ExtensionEnd::TooMany => w.u8(2),
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<ExtensionFault, Malformed> {
        let kind = match r.u8()? {
            0 => ExtensionFaultKind::Launch,
            1 => ExtensionFaultKind::Init,
            2 => ExtensionFaultKind::Exit,
            3 => ExtensionFaultKind::Crash,
            _ => return Err(Malformed("bad extension fault")),
        };
        let cause = match r.u8()? {
            0 => ExtensionEnd::Exited(Exit::read(r)?),
            1 => ExtensionEnd::NotStarted { name: r.text()?, errno: r.u32()? as i32 },
            2 => ExtensionEnd::TooMany,
            _ => return Err(Malformed("bad end of an extension")),
        };
        Ok(ExtensionFault { kind, cause })
    }
}

/// The two interfaces that an extension may subscribe to logs at. Their
/// platform events differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TelemetryApi {
    /// 2022-07-01.
    Telemetry,
    /// 2020-08-15, superseded by the other.
    Logs,
}

impl TelemetryApi {
    pub(crate) fn write(self, w: &mut Writer<'_>) {
        w.u8(matches!(self, TelemetryApi::Logs).into());
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<TelemetryApi, Malformed> {
        match r.u8()? {
            0 => Ok(TelemetryApi::Telemetry),
            1 => Ok(TelemetryApi::Logs),
            _ => Err(Malformed("bad telemetry API")),
        }
    }
}

/// The kinds of records that a subscriber asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TelemetryTypes {
    pub platform: bool,
    pub function: bool,
    pub extension: bool,
}

impl TelemetryTypes {
    pub(crate) fn write(self, w: &mut Writer<'_>) {
        let bits = [self.platform, self.function, self.extension];
        w.u8(bits.iter().enumerate().map(|(at, &bit)| u8::from(bit) << at).sum());
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<TelemetryTypes, Malformed> {
        let bits = r.u8()?;
        if bits > 7 {
            return Err(Malformed("bad telemetry types"));
        }
        let bit = |at: u8| bits & 1 << at != 0;
        Ok(TelemetryTypes { platform: bit(0), function: bit(1), extension: bit(2) })
    }
}

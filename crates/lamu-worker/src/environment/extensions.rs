//! What the worker knows of the extensions in one environment, and what it
//! makes of what init says about them.
//!
//! Init is not trusted: what it may say during one Init is counted, since
//! each notice becomes a line of the log and an event back.
//!
//! Not here: the invocation's part (`invocation`), events (`telemetry`).

use lamu_guest::{Exit, ExtensionEnd, ExtensionFault, ExtensionFaultKind, FromInit, TelemetryApi};
use lamu_model::{ExtensionLine, Fault, FaultKind, SubscriptionApi, SubscriptionLine};

use super::journal::Journal;

/// Ten extensions, of which each may change its subscription a few times.
const NOTICES_MAX: u32 = 128;

#[derive(Debug, Default)]
pub struct Extensions {
    count: u32,
    notices: u32,
}

/// Init said more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch;

impl Extensions {
    /// An Init begins: all of them start anew.
    pub fn begin(&mut self) {
        *self = Extensions::default();
    }

    /// Whether any has to be told of the end.
    pub fn any(&self) -> bool {
        self.count > 0
    }

    /// A message that belongs here, or the message back.
    pub fn hear(
        &mut self,
        message: FromInit,
        journal: &mut Journal,
    ) -> Result<Option<FromInit>, TooMuch> {
        match message {
            FromInit::Extension(status) => {
                self.notice()?;
                self.count += 1;
                journal.extension(&ExtensionLine {
                    name: &status.name,
                    state: status.state.name(),
                    invoke: status.invoke,
                    shutdown: status.shutdown,
                    error_type: status.error_type.as_deref(),
                });
            }
            FromInit::Subscribed { api, name, types } => {
                self.notice()?;
                journal.subscription(&SubscriptionLine {
                    api: match api {
                        TelemetryApi::Telemetry => SubscriptionApi::Telemetry,
                        TelemetryApi::Logs => SubscriptionApi::Logs,
                    },
                    name: &name,
                    platform: types.platform,
                    function: types.function,
                    extension: types.extension,
                });
            }
            message => return Ok(Some(message)),
        }
        Ok(None)
    }

    fn notice(&mut self) -> Result<(), TooMuch> {
        self.notices += 1;
        if self.notices > NOTICES_MAX { Err(TooMuch) } else { Ok(()) }
    }
}

/// What the end of an extension means to Init or an invocation.
pub fn extension_fault(fault: ExtensionFault) -> Fault {
    let kind = match fault.kind {
        ExtensionFaultKind::Launch => FaultKind::ExtensionLaunch,
        ExtensionFaultKind::Init => FaultKind::ExtensionInit,
        ExtensionFaultKind::Exit => FaultKind::ExtensionExit,
        ExtensionFaultKind::Crash => FaultKind::ExtensionCrash,
    };
    match fault.cause {
        ExtensionEnd::Exited(Exit::Code(code)) => Fault::extension_exited(kind, code),
        ExtensionEnd::Exited(Exit::Signal(signal)) => Fault::extension_signalled(kind, signal),
        ExtensionEnd::NotStarted { name, errno } => {
            Fault::extension_not_started(&name.replace(char::is_control, " "), errno)
        }
        ExtensionEnd::TooMany => Fault::too_many_extensions(),
    }
}

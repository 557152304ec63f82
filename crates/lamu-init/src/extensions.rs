//! The extensions of an environment: which there are, where each stands, and
//! which of their calls are allowed there.
//!
//! ```text
//!  external: Started -register-> Registered -next-> Ready -event-> Running
//!  internal:          register ->    |                ^              |
//!                                    |                +---- next ----+
//!     init/error, exit/error <-------+------ exit/error -------------+
//! ```
//!
//! An extension that is Ready waits for an event. One whose connection broke
//! meanwhile asks again and gets what came since.
//!
//! Not here: processes and connections (`lifecycle`), texts (`api`).

use lamu_guest::{
    ExtensionEnd, ExtensionFault, ExtensionFaultKind, ExtensionState as State, ExtensionStatus,
};

use crate::value::Json;

/// Internal and external ones together (execution environment reference,
/// section 3).
pub const EXTENSIONS_MAX: usize = 10;

/// A file name is no longer, and a log line names each extension.
const NAME_BYTES_MAX: usize = 255;

#[derive(Debug, Default)]
pub struct Extensions {
    all: Vec<Extension>,
    /// The runtime asked for its first event: nobody else may register.
    closed: bool,
}

#[derive(Debug)]
pub struct Extension {
    pub name: String,
    pub external: bool,
    pub id: String,
    pub state: State,
    pub invoke: bool,
    pub shutdown: bool,
    pub error_type: Option<String>,
    /// The connection on which it waits for its next event.
    pub parked: Option<usize>,
    /// The event that it has not been given yet.
    pub event: Option<String>,
    /// Of an external one, while it runs.
    pub pid: Option<libc::pid_t>,
}

/// What an extension asks to be told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    pub invoke: bool,
    pub shutdown: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    EmptyName,
    LongName,
    Format(&'static str),
    EventType { event: String, why: &'static str },
    Closed,
    NameTaken,
    TooMany,
    MissingIdentifier,
    InvalidIdentifier,
    UnknownIdentifier(String),
    MissingErrorType,
    Transition { from: &'static str, to: &'static str, who: String },
}

/// An error that an extension reports itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    Init,
    Exit,
}

impl Extensions {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn all(&self) -> &[Extension] {
        &self.all
    }

    pub fn get_mut(&mut self, at: usize) -> Option<&mut Extension> {
        self.all.get_mut(at)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Extension> {
        self.all.iter_mut()
    }

    pub fn clear(&mut self) {
        *self = Extensions::default();
    }

    /// From now on nobody may register.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// A file of `/opt/extensions` that was started, or could not be.
    pub fn launched(
        &mut self,
        name: String,
        id: String,
        launched: Result<libc::pid_t, &'static str>,
    ) {
        self.all.push(Extension {
            state: if launched.is_ok() { State::Started } else { State::LaunchError },
            pid: launched.ok(),
            error_type: launched.err().map(str::to_owned),
            ..Extension::new(name, id, true)
        });
    }

    /// `id` is taken for an internal one; an external one has its own.
    /// Returns where it stands.
    pub fn register(
        &mut self,
        name: &str,
        events: &[String],
        id: String,
    ) -> Result<usize, Refused> {
        if name.is_empty() {
            return Err(Refused::EmptyName);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Refused::LongName);
        }
        let known = self.all.iter().position(|extension| extension.name == name);
        if let Some(at) = known.filter(|&at| self.all[at].external) {
            let events = parse_events(events, true)?;
            let extension = &mut self.all[at];
            if extension.state != State::Started {
                return Err(extension.refuse("Registered", extension.name.clone()));
            }
            extension.register(events);
            return Ok(at);
        }
        let events = parse_events(events, false)?;
        if self.closed {
            return Err(Refused::Closed);
        }
        if self.all.len() >= EXTENSIONS_MAX {
            return Err(Refused::TooMany);
        }
        if known.is_some() {
            return Err(Refused::NameTaken);
        }
        let mut extension = Extension::new(name.to_owned(), id, false);
        extension.register(events);
        self.all.push(extension);
        Ok(self.all.len() - 1)
    }

    /// The one that an identifier header names.
    pub fn find(&self, id: Option<&str>) -> Result<usize, Refused> {
        let id = id.filter(|id| !id.is_empty()).ok_or(Refused::MissingIdentifier)?;
        let id = id.to_ascii_lowercase();
        if !is_uuid(&id) {
            return Err(Refused::InvalidIdentifier);
        }
        let found = self.all.iter().position(|extension| {
            extension.id == id && !matches!(extension.state, State::Started | State::LaunchError)
        });
        found.ok_or(Refused::UnknownIdentifier(id))
    }

    /// It asks for its next event on connection `connection`.
    pub fn next(&mut self, at: usize, connection: usize) -> Result<(), Refused> {
        let extension = &mut self.all[at];
        let allowed = match extension.state {
            State::Registered | State::Running => true,
            State::Ready => extension.parked.is_none(),
            _ => false,
        };
        if !allowed {
            return Err(extension.refuse("Ready", extension.id.clone()));
        }
        extension.state = State::Ready;
        extension.parked = Some(connection);
        Ok(())
    }

    pub fn report(
        &mut self,
        at: usize,
        reported: Reported,
        error_type: Option<&str>,
    ) -> Result<(), Refused> {
        let error_type = error_type.filter(|text| !text.is_empty());
        let error_type = error_type.ok_or(Refused::MissingErrorType)?;
        let extension = &mut self.all[at];
        let (to, name, allowed) = match reported {
            Reported::Init => {
                (State::InitError, "InitError", matches!(extension.state, State::Registered))
            }
            Reported::Exit => (
                State::ExitError,
                "Exited",
                matches!(extension.state, State::Registered | State::Ready | State::Running),
            ),
        };
        // Said again, only the first counts.
        if extension.state == to {
            return Ok(());
        }
        if !allowed {
            return Err(extension.refuse(name, extension.id.clone()));
        }
        extension.state = to;
        extension.error_type = Some(error_type.chars().take(NAME_BYTES_MAX).collect());
        Ok(())
    }

    /// A connection is gone; whoever waited on it waits without one.
    pub fn unpark(&mut self, connection: usize) {
        for extension in &mut self.all {
            if extension.parked == Some(connection) {
                extension.parked = None;
            }
        }
    }

    pub fn is_parked(&self, connection: usize) -> bool {
        self.all.iter().any(|extension| extension.parked == Some(connection))
    }

    /// Whether the runtime may be started: every process registered.
    pub fn registered(&self) -> bool {
        self.all.iter().all(|extension| extension.state != State::Started)
    }

    /// Whether Init need not wait for any of them.
    pub fn ready(&self) -> bool {
        self.all.iter().all(|extension| extension.state == State::Ready)
    }

    /// Whether one is still working on the current invocation.
    pub fn busy(&self) -> bool {
        self.all.iter().any(|extension| {
            extension.invoke && (extension.state != State::Ready || extension.event.is_some())
        })
    }

    pub fn has_external(&self) -> bool {
        self.all.iter().any(|extension| extension.external)
    }

    /// External processes that have not ended.
    pub fn running(&self) -> impl Iterator<Item = &Extension> {
        self.all.iter().filter(|extension| extension.pid.is_some())
    }

    /// The process of one ended: which it was and what that means.
    pub fn ended(&mut self, pid: libc::pid_t, exit: lamu_guest::Exit) -> Option<ExtensionFault> {
        let extension = self.all.iter_mut().find(|extension| extension.pid == Some(pid))?;
        extension.pid = None;
        extension.event = None;
        let kind = match extension.state {
            State::InitError => ExtensionFaultKind::Init,
            State::ExitError => ExtensionFaultKind::Exit,
            _ => {
                extension.state = State::Exited;
                ExtensionFaultKind::Crash
            }
        };
        Some(ExtensionFault { kind, cause: ExtensionEnd::Exited(exit) })
    }

    pub fn statuses(&self) -> impl Iterator<Item = ExtensionStatus> {
        self.all.iter().map(|extension| ExtensionStatus {
            name: extension.name.clone(),
            external: extension.external,
            state: extension.state,
            invoke: extension.invoke,
            shutdown: extension.shutdown,
            error_type: extension.error_type.clone(),
        })
    }
}

impl Extension {
    fn new(name: String, id: String, external: bool) -> Extension {
        Extension {
            name,
            external,
            id,
            state: State::Started,
            invoke: false,
            shutdown: false,
            error_type: None,
            parked: None,
            event: None,
            pid: None,
        }
    }

    fn register(&mut self, events: Events) {
        self.state = State::Registered;
        self.invoke = events.invoke;
        self.shutdown = events.shutdown;
    }

    fn refuse(&self, to: &'static str, who: String) -> Refused {
        Refused::Transition { from: self.state.name(), to, who }
    }
}

/// The names of the events in the body of a registration.
pub fn parse_register(body: &[u8]) -> Result<Vec<String>, Refused> {
    let json = Json::parse(body).filter(|json| json.is_object());
    let json = json.ok_or(Refused::Format("the body is no JSON object"))?;
    if let Some(keys) = json.get("configurationKeys")
        && keys.items().is_none_or(|keys| !keys.is_empty())
        && keys.bytes() != b"null"
    {
        let text = "configurationKeys are deprecated; use environment variables instead";
        return Err(Refused::Format(text));
    }
    let Some(events) = json.get("events").filter(|events| events.bytes() != b"null") else {
        return Ok(Vec::new());
    };
    let names = events.items().and_then(|events| {
        events.iter().map(|event| event.text().map(|text| text.into_owned())).collect()
    });
    names.ok_or(Refused::Format("events is no array of strings"))
}

fn parse_events(names: &[String], external: bool) -> Result<Events, Refused> {
    let mut events = Events::default();
    for name in names {
        match name.as_str() {
            "INVOKE" => events.invoke = true,
            "SHUTDOWN" if external => events.shutdown = true,
            _ => {
                let event = name.chars().take(64).collect();
                let why = if name == "SHUTDOWN" {
                    "ShutdownEventNotSupportedForInternalExtension"
                } else {
                    "ErrorInvalidEventType"
                };
                return Err(Refused::EventType { event, why });
            }
        }
    }
    Ok(events)
}

/// 8-4-4-4-12 lower case hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Sixteen random bytes as a version 4 UUID.
pub fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests;

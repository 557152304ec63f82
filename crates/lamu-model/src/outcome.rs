//! How an invocation ended, and the platform's own error payloads.
//!
//! The texts are those of the Runtime API reference ("Errors") and of Invoke
//! ("Function errors"). What a runtime reports itself passes through as bytes.

use bytes::Bytes;

use crate::{RequestId, SYNC_RESPONSE_BYTES_MAX};

/// The end of one invocation as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The function answered; bytes go to the caller unchanged.
    Response { content_type: Option<String>, body: Bytes },
    /// The runtime reported an error; its JSON goes to the caller unchanged.
    FunctionError { error_type: String, body: Bytes },
    /// The platform ended it.
    Fault(Fault),
}

/// A failure that the platform, not the runtime, words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Timeout,
    Exit,
    OutOfMemory,
    InvalidEntrypoint,
    ResponseTooLarge,
    /// An extension could not be started, failed its Init, announced its end,
    /// or ended without a word.
    ExtensionLaunch,
    ExtensionInit,
    ExtensionExit,
    ExtensionCrash,
    /// The sandbox itself failed under the invocation.
    Sandbox,
}

impl FaultKind {
    /// The `errorType` of the payload and of the REPORT line.
    pub fn error_type(self) -> &'static str {
        match self {
            FaultKind::Timeout => "Sandbox.Timedout",
            FaultKind::Exit => "Runtime.ExitError",
            FaultKind::OutOfMemory => "Runtime.OutOfMemory",
            FaultKind::InvalidEntrypoint => "Runtime.InvalidEntrypoint",
            FaultKind::ResponseTooLarge => "Function.ResponseSizeTooLarge",
            FaultKind::ExtensionLaunch => "Extension.LaunchError",
            FaultKind::ExtensionInit => "Extension.InitError",
            FaultKind::ExtensionExit => "Extension.ExitError",
            FaultKind::ExtensionCrash => "Extension.Crash",
            FaultKind::Sandbox => "Sandbox.Failure",
        }
    }
}

impl Fault {
    pub fn timeout(timeout_secs: f64) -> Fault {
        Fault {
            kind: FaultKind::Timeout,
            message: format!("Task timed out after {timeout_secs:.2} seconds"),
        }
    }

    /// The runtime ended by itself with this exit code; 0 gives no reason.
    pub fn exited(code: i32) -> Fault {
        let message = match code {
            0 => "Runtime exited without providing a reason".to_owned(),
            code => format!("Runtime exited with error: exit status {code}"),
        };
        Fault { kind: FaultKind::Exit, message }
    }

    /// The runtime was ended by a signal.
    pub fn signalled(signal: i32, out_of_memory: bool) -> Fault {
        let kind = if out_of_memory { FaultKind::OutOfMemory } else { FaultKind::Exit };
        let name = signal_name(signal);
        Fault { kind, message: format!("Runtime exited with error: signal: {name}") }
    }

    pub fn no_bootstrap() -> Fault {
        Fault {
            kind: FaultKind::InvalidEntrypoint,
            message: "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
                .to_owned(),
        }
    }

    pub fn response_too_large() -> Fault {
        Fault::response_larger_than(SYNC_RESPONSE_BYTES_MAX as u64)
    }

    pub fn response_larger_than(bytes_max: u64) -> Fault {
        Fault {
            kind: FaultKind::ResponseTooLarge,
            message: format!(
                "Response payload size exceeded maximum allowed payload size ({bytes_max} bytes)."
            ),
        }
    }

    /// An extension's process ended with this exit code.
    pub fn extension_exited(kind: FaultKind, code: i32) -> Fault {
        let word = if code == 0 { "code" } else { "status" };
        Fault { kind, message: format!("exit {word} {code}") }
    }

    pub fn extension_signalled(kind: FaultKind, signal: i32) -> Fault {
        Fault { kind, message: format!("signal: {}", signal_name(signal)) }
    }

    /// The system refused to execute an extension's file, for this reason.
    pub fn extension_not_started(name: &str, errno: i32) -> Fault {
        let why = match errno {
            2 => "no such file or directory".to_owned(),
            8 => "exec format error".to_owned(),
            13 => "permission denied".to_owned(),
            other => format!("errno {other}"),
        };
        let message = format!("fork/exec /opt/extensions/{name}: {why}");
        Fault { kind: FaultKind::ExtensionLaunch, message }
    }

    pub fn too_many_extensions() -> Fault {
        let message = "ErrTooManyExtensions".to_owned();
        Fault { kind: FaultKind::ExtensionLaunch, message }
    }

    pub fn sandbox(message: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Sandbox, message: message.into() }
    }

    /// The JSON body the caller gets beside `X-Amz-Function-Error: Unhandled`.
    pub fn payload(&self, request: &RequestId) -> Bytes {
        let error_type = self.kind.error_type();
        let payload = match self.kind {
            FaultKind::ResponseTooLarge => {
                serde_json::json!({"errorMessage": self.message, "errorType": error_type})
            }
            _ => serde_json::json!({
                "errorType": error_type,
                "errorMessage": format!("RequestId: {request} Error: {}", self.message),
            }),
        };
        Bytes::from(payload.to_string())
    }
}

/// Go's wording, which is what Lambda's runtime interface prints.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        31 => "bad system call",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_says_seconds_with_two_decimals() {
        let body = Fault::timeout(3.0).payload(&RequestId::new("r-1"));
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["errorType"], "Sandbox.Timedout");
        assert_eq!(body["errorMessage"], "RequestId: r-1 Error: Task timed out after 3.00 seconds");
    }

    #[test]
    fn exits_and_signals_read_as_lambda_words_them() {
        assert_eq!(Fault::exited(0).message, "Runtime exited without providing a reason");
        assert_eq!(Fault::exited(127).message, "Runtime exited with error: exit status 127");
        let oom = Fault::signalled(9, true);
        assert_eq!(oom.message, "Runtime exited with error: signal: killed");
        assert_eq!(oom.kind.error_type(), "Runtime.OutOfMemory");
        let crash = FaultKind::ExtensionCrash;
        assert_eq!(Fault::extension_exited(crash, 0).message, "exit code 0");
        assert_eq!(Fault::extension_exited(crash, 2).message, "exit status 2");
        assert_eq!(Fault::extension_signalled(crash, 9).message, "signal: killed");
        assert_eq!(
            Fault::extension_not_started("agent", 13).message,
            "fork/exec /opt/extensions/agent: permission denied"
        );
        assert_eq!(
            Fault::signalled(11, false).message,
            "Runtime exited with error: signal: segmentation fault"
        );
    }
}

//! Lambda's local HTTP interfaces as values: which call a request is, and
//! what the answers say.
//!
//! Not here: bytes of HTTP (`http`), the order of calls (`state`).

use lamu_guest::{Invoke, TelemetryApi};

use crate::extensions::{EXTENSIONS_MAX, Refused as Refusal, Reported};
use crate::state::Refused;
use crate::telemetry;
use crate::value::quoted;

/// What a request line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Next,
    Response { id: String },
    Error { id: String },
    InitError,
    RestoreNext,
    RestoreError,
    Ping,
    Register,
    ExtensionNext,
    ExtensionError(Reported),
    Telemetry,
    Logs,
    NotFound,
    MethodNotAllowed,
}

impl Call {
    /// Whether it is one that extensions make.
    pub fn is_extensions(&self) -> bool {
        matches!(
            self,
            Call::Register
                | Call::ExtensionNext
                | Call::ExtensionError(_)
                | Call::Telemetry
                | Call::Logs
        )
    }
}

/// Which call `method` on `path` is.
pub fn route(method: &str, path: &str) -> Call {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    if let Some(rest) = path.strip_prefix("/2018-06-01") {
        if let Some(rest) = rest.strip_prefix("/runtime/invocation/") {
            return match (method, rest.split_once('/')) {
                ("GET", None) if rest == "next" => Call::Next,
                (_, None) if rest == "next" => Call::MethodNotAllowed,
                ("POST", Some((id, "response"))) => Call::Response { id: id.to_owned() },
                ("POST", Some((id, "error"))) => Call::Error { id: id.to_owned() },
                (_, Some((_, "response" | "error"))) => Call::MethodNotAllowed,
                _ => Call::NotFound,
            };
        }
        return match (method, rest) {
            ("POST", "/runtime/init/error") => Call::InitError,
            ("GET", "/runtime/restore/next") => Call::RestoreNext,
            ("POST", "/runtime/restore/error") => Call::RestoreError,
            ("GET", "/ping") => Call::Ping,
            (
                _,
                "/runtime/init/error"
                | "/runtime/restore/next"
                | "/runtime/restore/error"
                | "/ping",
            ) => Call::MethodNotAllowed,
            _ => Call::NotFound,
        };
    }
    if let Some(rest) = path.strip_prefix("/2020-01-01/extension/") {
        return match (method, rest) {
            ("POST", "register") => Call::Register,
            ("GET", "event/next") => Call::ExtensionNext,
            ("POST", "init/error") => Call::ExtensionError(Reported::Init),
            ("POST", "exit/error") => Call::ExtensionError(Reported::Exit),
            (_, "register" | "event/next" | "init/error" | "exit/error") => Call::MethodNotAllowed,
            _ => Call::NotFound,
        };
    }
    match (method, path) {
        ("GET", "/ping") => Call::Ping,
        ("PUT", "/2022-07-01/telemetry" | "/2022-07-01/telemetry/") => Call::Telemetry,
        ("PUT", "/2020-08-15/logs" | "/2020-08-15/logs/") => Call::Logs,
        (_, "/ping" | "/2022-07-01/telemetry" | "/2020-08-15/logs") => Call::MethodNotAllowed,
        _ => Call::NotFound,
    }
}

/// A complete answer, apart from its connection handling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    /// One header beyond the usual.
    pub header: Option<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    pub fn accepted() -> Answer {
        Answer::json(202, r#"{"status":"OK"}"#.to_owned())
    }

    pub fn pong() -> Answer {
        Answer { status: 200, content_type: "text/plain", header: None, body: "pong".to_owned() }
    }

    pub fn error(status: u16, error_type: &str, message: &str) -> Answer {
        // Only fixed texts and state names come here, so nothing needs JSON
        // escapes.
        let body = format!(r#"{{"errorMessage":"{message}","errorType":"{error_type}"}}"#);
        Answer::json(status, body)
    }

    pub fn refused(refused: Refused) -> Answer {
        match refused {
            Refused::InvalidRequestId => {
                Answer::error(400, "InvalidRequestID", "Invalid request ID")
            }
            Refused::Transition { from, to } => Answer::error(
                403,
                "InvalidStateTransition",
                &format!(
                    "State transition from {from} to {to} failed for runtime. \
                     Error: State transition is not allowed"
                ),
            ),
        }
    }

    pub fn invalid_response_mode() -> Answer {
        Answer::error(400, "InvalidFunctionResponseMode", "Invalid function response mode")
    }

    pub fn truncated() -> Answer {
        Answer::error(400, "TruncatedHTTPRequest", "HTTP request detected as truncated")
    }

    pub fn too_large(bytes_max: u64) -> Answer {
        Answer::error(
            413,
            "RequestEntityTooLarge",
            &format!("Exceeded maximum allowed payload size ({bytes_max} bytes)."),
        )
    }

    pub fn not_found() -> Answer {
        Answer {
            status: 404,
            content_type: "text/plain; charset=utf-8",
            header: None,
            body: "404 page not found\n".to_owned(),
        }
    }

    pub fn method_not_allowed() -> Answer {
        Answer { status: 405, content_type: "text/plain", header: None, body: String::new() }
    }

    /// Whose texts name what an extension sent, so they are escaped.
    pub fn extension_refused(refused: Refusal) -> Answer {
        let (error_type, message) = match refused {
            Refusal::EmptyName => {
                ("Extension.InvalidExtensionName", "Empty extension name".to_owned())
            }
            Refusal::LongName => {
                ("Extension.InvalidExtensionName", "Extension name is too long".to_owned())
            }
            Refusal::Format(what) => ("InvalidRequestFormat", what.to_owned()),
            Refusal::EventType { event, why } => {
                ("Extension.InvalidEventType", format!("{event}: {why}"))
            }
            Refusal::Closed => {
                let text = "Extension registration closed already".to_owned();
                ("Extension.RegistrationClosed", text)
            }
            Refusal::NameTaken => {
                let text = "Extension with this name already registered".to_owned();
                ("Extension.InvalidExtensionState", text)
            }
            Refusal::TooMany => {
                let text = format!("Extension limit ({EXTENSIONS_MAX}) reached");
                ("Extension.TooManyExtensions", text)
            }
            Refusal::MissingIdentifier => {
                let text = "Missing Lambda-Extension-Identifier header".to_owned();
                ("Extension.MissingExtensionIdentifier", text)
            }
            Refusal::InvalidIdentifier => {
                let text = "Invalid Lambda-Extension-Identifier".to_owned();
                ("Extension.InvalidExtensionIdentifier", text)
            }
            Refusal::UnknownIdentifier(id) => {
                ("Extension.UnknownExtensionIdentifier", format!("Unknown extension {id}"))
            }
            Refusal::MissingErrorType => {
                let text = "Lambda-Extension-Function-Error-Type not found".to_owned();
                ("Extension.MissingHeader", text)
            }
            Refusal::Transition { from, to, who } => (
                "Extension.InvalidExtensionState",
                format!(
                    "State transition from {from} to {to} failed for extension {who}. \
                     Error: State transition is not allowed"
                ),
            ),
        };
        let message = quoted(&message);
        let body = format!(r#"{{"errorMessage":{message},"errorType":"{error_type}"}}"#);
        Answer::json(403, body)
    }

    pub fn subscription_refused(api: TelemetryApi, refused: telemetry::Refused) -> Answer {
        let name = match api {
            TelemetryApi::Telemetry => "Telemetry",
            TelemetryApi::Logs => "Logs",
        };
        match refused {
            telemetry::Refused::Closed => Answer::error(
                403,
                &format!("{name}.SubscriptionClosed"),
                &format!("{name} API subscription is closed"),
            ),
            telemetry::Refused::Invalid(what) => {
                let message = quoted(&what);
                let body = format!(r#"{{"errorMessage":{message},"errorType":"ValidationError"}}"#);
                Answer::json(400, body)
            }
        }
    }

    pub fn json(status: u16, body: String) -> Answer {
        Answer { status, content_type: "application/json", header: None, body }
    }
}

/// Appends the answer to `/next`: head and event in one piece.
pub fn write_event(out: &mut Vec<u8>, invoke: &Invoke, keep_alive: bool) {
    out.reserve(invoke.body.len() + 512);
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    let content_type = invoke.content_type.as_deref().unwrap_or("application/json");
    let deadline = invoke.deadline_ms.to_string();
    let headers = [
        ("Content-Type", Some(content_type)),
        ("Lambda-Runtime-Aws-Request-Id", Some(invoke.request_id.as_str())),
        ("Lambda-Runtime-Deadline-Ms", Some(deadline.as_str())),
        ("Lambda-Runtime-Invoked-Function-Arn", Some(invoke.function_arn.as_str())),
        ("Lambda-Runtime-Trace-Id", invoke.trace_id.as_deref()),
        ("Lambda-Runtime-Client-Context", invoke.client_context.as_deref()),
        ("Lambda-Runtime-Cognito-Identity", invoke.cognito_identity.as_deref()),
        ("Lambda-Runtime-Aws-Tenant-Id", invoke.tenant_id.as_deref()),
    ];
    for (name, value) in headers {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        write_header_value(out, value);
        out.extend_from_slice(b"\r\n");
    }
    crate::http::write_head_end(out, invoke.body.len(), keep_alive);
    out.extend_from_slice(&invoke.body);
}

/// The client context is the caller's JSON, which may hold line ends between
/// its tokens; as spaces they mean the same and end no header.
fn write_header_value(out: &mut Vec<u8>, value: &str) {
    let clean = |byte: u8| if byte < b' ' && byte != b'\t' || byte == 127 { b' ' } else { byte };
    out.extend(value.bytes().map(clean));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_method_and_path() {
        let response = Call::Response { id: "r-1".into() };
        let table = [
            ("GET", "/2018-06-01/runtime/invocation/next", Call::Next),
            ("POST", "/2018-06-01/runtime/invocation/next", Call::MethodNotAllowed),
            ("POST", "/2018-06-01/runtime/invocation/r-1/response", response),
            ("GET", "/2018-06-01/runtime/invocation/r-1/response", Call::MethodNotAllowed),
            ("POST", "/2018-06-01/runtime/invocation/r/error", Call::Error { id: "r".into() }),
            ("POST", "/2018-06-01/runtime/invocation/a/b/error", Call::NotFound),
            ("POST", "/2018-06-01/runtime/init/error", Call::InitError),
            ("GET", "/2018-06-01/runtime/restore/next", Call::RestoreNext),
            ("POST", "/2018-06-01/runtime/restore/error", Call::RestoreError),
            ("GET", "/2018-06-01/ping", Call::Ping),
            ("POST", "/2020-01-01/extension/register", Call::Register),
            ("GET", "/2020-01-01/extension/event/next", Call::ExtensionNext),
            ("POST", "/2020-01-01/extension/exit/error", Call::ExtensionError(Reported::Exit)),
            ("GET", "/2020-01-01/extension/register", Call::MethodNotAllowed),
            ("GET", "/2020-01-01/extension/other", Call::NotFound),
            ("PUT", "/2022-07-01/telemetry", Call::Telemetry),
            ("PUT", "/2020-08-15/logs", Call::Logs),
            ("POST", "/2022-07-01/telemetry", Call::MethodNotAllowed),
            ("GET", "/", Call::NotFound),
            ("GET", "/2018-06-01/runtime/invocation/", Call::NotFound),
        ];
        for (method, path, call) in table {
            assert_eq!(route(method, path), call, "{method} {path}");
        }
    }

    #[test]
    fn a_line_end_in_the_client_context_cannot_forge_a_header() {
        let invoke = Invoke {
            request_id: "r".into(),
            deadline_ms: 1,
            function_arn: "arn".into(),
            trace_id: None,
            client_context: Some("{\r\nX-Evil: 1}".into()),
            cognito_identity: None,
            tenant_id: Some(String::new()),
            content_type: None,
            stream_bytes_max: None,
            body: b"{}".to_vec(),
        };
        let mut out = Vec::new();
        write_event(&mut out, &invoke, true);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Lambda-Runtime-Client-Context: {  X-Evil: 1}\r\n"), "{text}");
        assert!(!text.contains("Tenant"), "{text}");
        assert!(text.ends_with("\r\n\r\n{}"), "{text}");
    }
}

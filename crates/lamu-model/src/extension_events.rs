//! What the platform says about extensions: EXTENSION, TELEMETRY and LOGS
//! lines, their JSON forms, and the older event records of the Logs API.
//!
//! Formats: "Event records" and "Log lines" of the execution environment
//! reference. Not here: writing them anywhere, delivering them to anybody.

use serde_json::{Value, json};

use crate::{Fault, LogLevel, Report, ReportStatus, RequestId};

/// An extension as Init left it.
#[derive(Clone, Debug)]
pub struct ExtensionLine<'a> {
    pub name: &'a str,
    pub state: &'a str,
    pub invoke: bool,
    pub shutdown: bool,
    pub error_type: Option<&'a str>,
}

impl ExtensionLine<'_> {
    pub fn text(&self) -> String {
        let name = one_line(self.name);
        let (state, events) = (self.state, self.events().join(", "));
        let mut line = format!("EXTENSION\tName: {name}\tState: {state}\tEvents: [{events}]");
        if let Some(kind) = self.error_type {
            line.push_str("\tError Type: ");
            line.push_str(&one_line(kind));
        }
        line
    }

    pub fn json(&self, time: &str) -> Value {
        let mut record = json!({"name": self.name, "state": self.state, "events": self.events()});
        if let Some(kind) = self.error_type {
            record["errorType"] = json!(kind);
        }
        json!({"time": time, "type": "platform.extension", "record": record})
    }

    pub fn level(&self) -> LogLevel {
        if self.state == "Ready" { LogLevel::Info } else { LogLevel::Warn }
    }

    fn events(&self) -> Vec<&'static str> {
        let events = [("INVOKE", self.invoke), ("SHUTDOWN", self.shutdown)];
        events.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect()
    }
}

/// Which of the two interfaces a subscription was made at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionApi {
    Telemetry,
    Logs,
}

/// An extension subscribed to telemetry.
#[derive(Clone, Debug)]
pub struct SubscriptionLine<'a> {
    pub api: SubscriptionApi,
    pub name: &'a str,
    pub platform: bool,
    pub function: bool,
    pub extension: bool,
}

impl SubscriptionLine<'_> {
    pub fn text(&self) -> String {
        let word = match self.api {
            SubscriptionApi::Telemetry => "TELEMETRY",
            SubscriptionApi::Logs => "LOGS",
        };
        let types: Vec<&str> = self.types().iter().map(|(_, capital)| *capital).collect();
        let (name, types) = (one_line(self.name), types.join(", "));
        format!("{word}\tName: {name}\tState: Subscribed\tTypes: [{types}]")
    }

    pub fn json(&self, time: &str) -> Value {
        let kind = match self.api {
            SubscriptionApi::Telemetry => "platform.telemetrySubscription",
            SubscriptionApi::Logs => "platform.logsSubscription",
        };
        let types: Vec<&str> = self.types().iter().map(|(name, _)| *name).collect();
        json!({"time": time, "type": kind, "record": {
            "name": self.name, "state": "Subscribed", "types": types,
        }})
    }

    /// Each type as JSON and as text writes it.
    fn types(&self) -> Vec<(&'static str, &'static str)> {
        let types = [
            ("platform", "Platform", self.platform),
            ("function", "Function", self.function),
            ("extension", "Extension", self.extension),
        ];
        let wanted = types.into_iter().filter(|(_, _, wanted)| *wanted);
        wanted.map(|(name, capital, _)| (name, capital)).collect()
    }
}

/// The Logs API's own form of what its subscribers hear of an invocation.
pub mod logs_api {
    use super::{Fault, Report, ReportStatus, RequestId, Value, json};

    pub fn start(time: &str, request: &RequestId, version: &str) -> Value {
        json!({"time": time, "type": "platform.start", "record": {
            "requestId": request.as_str(), "version": version,
        }})
    }

    pub fn runtime_done(time: &str, request: &RequestId, status: &ReportStatus) -> Value {
        // It knows three words only.
        let status = match status {
            ReportStatus::Success => "success",
            ReportStatus::Timeout => "timeout",
            ReportStatus::Error(_) | ReportStatus::Failure(_) => "failure",
        };
        json!({"time": time, "type": "platform.runtimeDone", "record": {
            "requestId": request.as_str(), "status": status,
        }})
    }

    pub fn fault(time: &str, request: &RequestId, fault: &Fault) -> Value {
        let (message, kind) = (&fault.message, fault.kind.error_type());
        let record = format!("RequestId: {request} Error: {message}\n{kind}\n");
        json!({"time": time, "type": "platform.fault", "record": record})
    }

    pub fn end(time: &str, request: &RequestId) -> Value {
        json!({"time": time, "type": "platform.end", "record": {"requestId": request.as_str()}})
    }

    pub fn report(time: &str, report: &Report) -> Value {
        json!({"time": time, "type": "platform.report", "record": {
            "requestId": report.request.as_str(), "metrics": report.metrics(),
        }})
    }
}

/// Names come from inside a sandbox; in a line of text they stay one field.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_reads_as_lambda_prints_it() {
        let mut line = ExtensionLine {
            name: "agent",
            state: "Ready",
            invoke: true,
            shutdown: true,
            error_type: None,
        };
        assert_eq!(line.text(), "EXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE, SHUTDOWN]");
        assert_eq!(line.level(), LogLevel::Info);
        assert_eq!(
            line.json("t").to_string(),
            r#"{"record":{"events":["INVOKE","SHUTDOWN"],"name":"agent","state":"Ready"},"time":"t","type":"platform.extension"}"#
        );
        line = ExtensionLine {
            name: "a\nREPORT\tx",
            state: "LaunchError",
            invoke: false,
            shutdown: false,
            error_type: Some("PermissionDenied"),
        };
        assert_eq!(
            line.text(),
            "EXTENSION\tName: a REPORT x\tState: LaunchError\tEvents: []\tError Type: PermissionDenied"
        );
        assert_eq!(line.level(), LogLevel::Warn);
    }

    #[test]
    fn a_subscription_names_its_api_and_types() {
        let mut line = SubscriptionLine {
            api: SubscriptionApi::Telemetry,
            name: "agent",
            platform: true,
            function: true,
            extension: false,
        };
        assert_eq!(
            line.text(),
            "TELEMETRY\tName: agent\tState: Subscribed\tTypes: [Platform, Function]"
        );
        assert_eq!(line.json("t")["record"]["types"], json!(["platform", "function"]));
        line.api = SubscriptionApi::Logs;
        assert!(line.text().starts_with("LOGS\tName: agent"));
        assert_eq!(line.json("t")["type"], "platform.logsSubscription");
    }

    #[test]
    fn the_logs_api_has_its_own_words() {
        let request = RequestId::new("r-1");
        let error = ReportStatus::Error("Runtime.ExitError".into());
        let done = logs_api::runtime_done("t", &request, &error);
        assert_eq!(done["record"], json!({"requestId": "r-1", "status": "failure"}));
        let fault = logs_api::fault("t", &request, &Fault::exited(1));
        assert_eq!(
            fault["record"],
            "RequestId: r-1 Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n"
        );
    }
}

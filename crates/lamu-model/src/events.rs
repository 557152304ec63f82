//! The platform's log events beyond START, END and REPORT: INIT_START,
//! runtimeDone, initRuntimeDone and logsDropped, and the level each has.
//! What is said of extensions is next door (`extension_events`).
//!
//! Formats: "Event records" and "Log lines" of the execution environment
//! reference. Not here: writing them anywhere (`lamu_worker`).

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::report::{add_tracing, round3};
use crate::{
    FunctionName, InitPhase, InitializationType, LogLevel, ReportStatus, RequestId, Version,
};

/// Which build of a managed runtime serves an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// `python:3.11.v7`.
    pub name: String,
    pub arn: String,
}

/// INIT_START. The text form exists for managed runtimes only.
#[derive(Clone, Debug)]
pub struct InitStart<'a> {
    pub initialization: InitializationType,
    pub runtime: Option<&'a RuntimeVersion>,
    pub name: &'a FunctionName,
    pub version: Version,
    /// `YYYY/MM/DD/<function>[<version>]<32 hex>`.
    pub instance: &'a str,
    pub memory_mib: u32,
    pub phase: InitPhase,
}

impl InitStart<'_> {
    pub fn text(&self) -> Option<String> {
        let runtime = self.runtime?;
        Some(format!(
            "INIT_START Runtime Version: {}\tRuntime Version ARN: {}",
            runtime.name, runtime.arn
        ))
    }

    pub fn json(&self, time: &str) -> Value {
        let mut record = json!({
            "initializationType": self.initialization.as_str(),
            "phase": self.phase.word(),
        });
        if let Some(runtime) = self.runtime {
            record["runtimeVersion"] = json!(runtime.name);
            record["runtimeVersionArn"] = json!(runtime.arn);
        }
        record["functionName"] = json!(self.name.as_str());
        record["functionVersion"] = json!(self.version.to_string());
        record["instanceId"] = json!(self.instance);
        record["instanceMaxMemory"] = json!(u64::from(self.memory_mib) << 20);
        json!({"time": time, "type": "platform.initStart", "record": record})
    }

    pub fn level(&self) -> LogLevel {
        if self.runtime.is_some() { LogLevel::Info } else { LogLevel::Debug }
    }
}

/// Runtime and function Init came to an end; JSON format only.
#[derive(Clone, Debug)]
pub struct InitRuntimeDone<'a> {
    pub initialization: InitializationType,
    pub phase: InitPhase,
    pub status: &'a ReportStatus,
}

impl InitRuntimeDone<'_> {
    pub fn json(&self, time: &str) -> Value {
        let mut record = json!({
            "initializationType": self.initialization.as_str(),
            "phase": self.phase.word(),
            "status": self.status.word(),
        });
        if let Some(kind) = self.status.error_type() {
            record["errorType"] = json!(kind);
        }
        json!({"time": time, "type": "platform.initRuntimeDone", "record": record})
    }

    pub fn level(&self) -> LogLevel {
        self.status.level_or(LogLevel::Debug)
    }
}

/// The runtime asked for the next event, or will not; JSON format only.
#[derive(Clone, Debug)]
pub struct RuntimeDone<'a> {
    pub request: &'a RequestId,
    pub status: &'a ReportStatus,
    pub duration_ms: f64,
    pub produced_bytes: usize,
    pub spans: &'a [Span],
    /// The X-Ray header, where it is to be shown.
    pub trace: Option<&'a str>,
}

/// A stretch of time inside an invocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub name: &'static str,
    /// Milliseconds since the epoch.
    pub start_ms: u64,
    /// How long, in milliseconds.
    pub ms: f64,
}

impl Span {
    pub fn json(&self) -> Value {
        let start = DateTime::from_timestamp_millis(self.start_ms as i64).unwrap_or_default();
        json!({
            "name": self.name,
            "start": start.to_rfc3339_opts(SecondsFormat::Millis, true),
            "durationMs": round3(self.ms),
        })
    }
}

impl RuntimeDone<'_> {
    pub fn json(&self, time: &str) -> Value {
        let mut record = json!({
            "requestId": self.request.as_str(),
            "status": self.status.word(),
            "metrics": {
                "durationMs": round3(self.duration_ms),
                "producedBytes": self.produced_bytes,
            },
        });
        if let Some(kind) = self.status.error_type() {
            record["errorType"] = json!(kind);
        }
        if !self.spans.is_empty() {
            record["spans"] = self.spans.iter().map(Span::json).collect();
        }
        add_tracing(&mut record, self.trace);
        json!({"time": time, "type": "platform.runtimeDone", "record": record})
    }

    pub fn level(&self) -> LogLevel {
        self.status.level_or(LogLevel::Debug)
    }
}

/// Records that were not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogsDropped {
    pub records: u64,
    pub bytes: u64,
}

impl LogsDropped {
    const REASON: &str = "the function wrote faster than its log can be kept";

    pub fn text(&self) -> String {
        format!("LOGS_DROPPED Records: {}\tBytes: {}\t{}", self.records, self.bytes, Self::REASON)
    }

    pub fn json(&self, time: &str) -> Value {
        json!({"time": time, "type": "platform.logsDropped", "record": {
            "reason": Self::REASON,
            "droppedRecords": self.records,
            "droppedBytes": self.bytes,
        }})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_start_has_the_members_of_lambdas() {
        let runtime = RuntimeVersion { name: "nodejs:20.v1".into(), arn: "arn:x".into() };
        let name = FunctionName::new("f");
        let start = InitStart {
            initialization: InitializationType::OnDemand,
            runtime: Some(&runtime),
            name: &name,
            version: Version::Latest,
            instance: "2026/10/08/f[$LATEST]22be",
            memory_mib: 256,
            phase: InitPhase::Init,
        };
        assert_eq!(
            start.text().unwrap(),
            "INIT_START Runtime Version: nodejs:20.v1\tRuntime Version ARN: arn:x"
        );
        assert_eq!(start.json("t")["record"]["instanceMaxMemory"], 268_435_456_u64);
        assert_eq!(start.level(), LogLevel::Info);
    }

    #[test]
    fn a_custom_runtime_has_no_init_start_line() {
        let name = FunctionName::new("f");
        let start = InitStart {
            initialization: InitializationType::OnDemand,
            runtime: None,
            name: &name,
            version: Version::Number(3),
            instance: "i",
            memory_mib: 128,
            phase: InitPhase::Invoke,
        };
        assert_eq!(start.text(), None);
        assert_eq!(start.level(), LogLevel::Debug);
        assert!(start.json("t")["record"].get("runtimeVersion").is_none());
    }

    #[test]
    fn what_failed_is_a_warning() {
        let status = ReportStatus::Error("Runtime.ExitError".into());
        let request = RequestId::new("r");
        let spans = [Span { name: "responseLatency", start_ms: 0, ms: 1.23456 }];
        let done = RuntimeDone {
            request: &request,
            status: &status,
            duration_ms: 1.0,
            produced_bytes: 0,
            spans: &spans,
            trace: None,
        };
        assert_eq!(done.level(), LogLevel::Warn);
        let json = done.json("t");
        assert_eq!(json["record"]["errorType"], "Runtime.ExitError");
        assert_eq!(json["record"]["spans"][0]["durationMs"], 1.235);
        assert!(json["record"].get("tracing").is_none());
    }
}

//! The lines the platform writes around an invocation: START, END, REPORT,
//! INIT_START and INIT_REPORT, in Lambda's text and JSON formats.
//!
//! Formats: "Log lines" and "Event records" of the execution environment
//! reference. Fields are separated by tabs and the REPORT line ends in one.
//! Not here: writing them anywhere (`lamu_worker::logs`).

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{Arn, InitializationType, LogLevel, RequestId, Span, Version};

/// The START line of one invocation.
#[derive(Clone, Debug)]
pub struct StartLine<'a> {
    pub request: &'a RequestId,
    pub version: Version,
    /// As invoked; JSON format only.
    pub arn: &'a Arn,
    /// The X-Ray header, where it is to be shown; JSON format only.
    pub trace: Option<&'a str>,
}

impl StartLine<'_> {
    pub fn text(&self) -> String {
        format!("START RequestId: {} Version: {}", self.request, self.version)
    }

    pub fn json(&self, time: &str) -> Value {
        let mut record = json!({
            "requestId": self.request.as_str(),
            "functionArn": self.arn.as_str(),
            "version": self.version.to_string(),
        });
        add_tracing(&mut record, self.trace);
        json!({"time": time, "type": "platform.start", "record": record})
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportStatus {
    Success,
    Timeout,
    /// The function or its runtime failed; the error type is named.
    Error(String),
    /// The platform failed.
    Failure(String),
}

impl ReportStatus {
    /// The level of an event with this status: a warning unless it succeeded.
    pub fn level_or(&self, success: LogLevel) -> LogLevel {
        match self {
            ReportStatus::Success => success,
            _ => LogLevel::Warn,
        }
    }

    pub(crate) fn word(&self) -> &'static str {
        match self {
            ReportStatus::Success => "success",
            ReportStatus::Timeout => "timeout",
            ReportStatus::Error(_) => "error",
            ReportStatus::Failure(_) => "failure",
        }
    }

    pub(crate) fn error_type(&self) -> Option<&str> {
        match self {
            ReportStatus::Success | ReportStatus::Timeout => None,
            ReportStatus::Error(kind) | ReportStatus::Failure(kind) => Some(kind),
        }
    }
}

/// The figures of one finished invocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub request: RequestId,
    pub duration_ms: f64,
    pub memory_mib: u32,
    pub memory_used_mib_max: u32,
    /// Present only when this environment's Init ran before this invocation
    /// and was not repeated inside it.
    pub init_ms: Option<f64>,
    pub status: ReportStatus,
    /// What extensions took after the runtime was through; JSON format only.
    pub extension_overhead: Option<Span>,
}

impl Report {
    /// Whole milliseconds, rounded up, Init included.
    pub fn billed_ms(&self) -> u64 {
        (self.duration_ms + self.init_ms.unwrap_or(0.0)).ceil() as u64
    }

    /// END and REPORT, without line ends.
    pub fn text(&self) -> [String; 2] {
        let end = format!("END RequestId: {}", self.request);
        let mut line = format!(
            "REPORT RequestId: {}\tDuration: {:.2} ms\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
            self.request,
            self.duration_ms,
            self.billed_ms(),
            self.memory_mib,
            self.memory_used_mib_max,
        );
        if let Some(init) = self.init_ms {
            let _ = write!(line, "Init Duration: {init:.2} ms\t");
        }
        // A runtime that reported its own error ends a REPORT without status.
        match &self.status {
            ReportStatus::Success => {}
            status => {
                let _ = write!(line, "Status: {}", status.word());
                if let Some(kind) = status.error_type() {
                    let _ = write!(line, "\tError Type: {kind}");
                }
            }
        }
        [end, line]
    }

    pub fn json(&self, time: &str, trace: Option<&str>) -> Value {
        let mut record = json!({
            "requestId": self.request.as_str(),
            "metrics": self.metrics(),
            "status": self.status.word(),
        });
        if let Some(kind) = self.status.error_type() {
            record["errorType"] = json!(kind);
        }
        if let Some(span) = &self.extension_overhead {
            record["spans"] = json!([span.json()]);
        }
        add_tracing(&mut record, trace);
        json!({"time": time, "type": "platform.report", "record": record})
    }

    /// The figures as every JSON form has them.
    pub fn metrics(&self) -> Value {
        let mut metrics = json!({
            "durationMs": round3(self.duration_ms),
            "billedDurationMs": self.billed_ms(),
            "memorySizeMB": self.memory_mib,
            "maxMemoryUsedMB": self.memory_used_mib_max,
        });
        if let Some(init) = self.init_ms {
            metrics["initDurationMs"] = json!(round3(init));
        }
        metrics
    }
}

/// Which Init: the environment's first, or the one repeated inside an invoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitPhase {
    Init,
    Invoke,
}

impl InitPhase {
    pub fn word(self) -> &'static str {
        match self {
            InitPhase::Init => "init",
            InitPhase::Invoke => "invoke",
        }
    }
}

/// INIT_REPORT: written when Init failed, and always for provisioned
/// concurrency.
#[derive(Clone, Debug, PartialEq)]
pub struct InitReport {
    pub initialization: InitializationType,
    pub duration_ms: f64,
    pub phase: InitPhase,
    pub status: ReportStatus,
}

impl InitReport {
    /// Whether the text format has a line of it.
    pub fn is_text(&self) -> bool {
        self.status != ReportStatus::Success || self.initialization.is_provisioned()
    }

    pub fn level(&self) -> LogLevel {
        let success = match self.initialization {
            InitializationType::OnDemand => LogLevel::Debug,
            InitializationType::ProvisionedConcurrency => LogLevel::Info,
        };
        self.status.level_or(success)
    }

    pub fn text(&self) -> String {
        let mut line = format!(
            "INIT_REPORT Init Duration: {:.2} ms\tPhase: {}\tStatus: {}",
            self.duration_ms,
            self.phase.word(),
            self.status.word()
        );
        if let Some(kind) = self.status.error_type() {
            let _ = write!(line, "\tError Type: {kind}");
        }
        line
    }

    pub fn json(&self, time: &str) -> Value {
        let mut record = json!({
            "initializationType": self.initialization.as_str(),
            "phase": self.phase.word(),
            "status": self.status.word(),
            "metrics": {"durationMs": round3(self.duration_ms)},
        });
        if let Some(kind) = self.status.error_type() {
            record["errorType"] = json!(kind);
        }
        json!({"time": time, "type": "platform.initReport", "record": record})
    }
}

pub(crate) fn add_tracing(record: &mut Value, trace: Option<&str>) {
    if let Some(trace) = trace {
        record["tracing"] = json!({"type": "X-Amzn-Trace-Id", "value": trace});
    }
}

pub(crate) fn round3(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: ReportStatus) -> Report {
        Report {
            request: RequestId::new("r-1"),
            duration_ms: 2.459,
            memory_mib: 1024,
            memory_used_mib_max: 95,
            init_ms: Some(413.61),
            status,
            extension_overhead: None,
        }
    }

    #[test]
    fn a_report_reads_as_lambda_prints_it() {
        let [end, line] = report(ReportStatus::Success).text();
        assert_eq!(end, "END RequestId: r-1");
        assert_eq!(
            line,
            "REPORT RequestId: r-1\tDuration: 2.46 ms\tBilled Duration: 417 ms\tMemory Size: 1024 MB\tMax Memory Used: 95 MB\tInit Duration: 413.61 ms\t"
        );
    }

    #[test]
    fn a_failed_report_names_status_and_error_type() {
        let mut failed = report(ReportStatus::Error("Runtime.ExitError".into()));
        failed.init_ms = None;
        let [_, line] = failed.text();
        assert!(
            line.ends_with("Max Memory Used: 95 MB\tStatus: error\tError Type: Runtime.ExitError"),
            "{line}"
        );
        failed.extension_overhead =
            Some(Span { name: "extensionOverhead", start_ms: 1_793_700_930_123, ms: 2.0 });
        let json = failed.json("t", Some("Root=1"));
        assert_eq!(json["record"]["errorType"], "Runtime.ExitError");
        assert_eq!(json["record"]["spans"][0]["start"], "2026-11-03T10:15:30.123Z");
        assert_eq!(json["record"]["tracing"]["value"], "Root=1");
    }

    #[test]
    fn an_init_ahead_of_its_calls_is_always_reported() {
        let report = |initialization| InitReport {
            initialization,
            duration_ms: 250.114,
            phase: InitPhase::Init,
            status: ReportStatus::Success,
        };
        let ahead = report(InitializationType::ProvisionedConcurrency);
        assert_eq!(
            ahead.text(),
            "INIT_REPORT Init Duration: 250.11 ms\tPhase: init\tStatus: success"
        );
        assert_eq!(ahead.json("t")["record"]["initializationType"], "provisioned-concurrency");
        assert_eq!((ahead.is_text(), ahead.level()), (true, LogLevel::Info));
        let on_demand = report(InitializationType::OnDemand);
        assert_eq!((on_demand.is_text(), on_demand.level()), (false, LogLevel::Debug));
    }

    #[test]
    fn init_counts_as_billed() {
        let mut long = report(ReportStatus::Success);
        (long.duration_ms, long.init_ms) = (1233.96, Some(463.512));
        assert_eq!(long.billed_ms(), 1698);
    }
}

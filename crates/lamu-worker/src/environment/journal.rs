//! What one environment writes to its log: the platform's lines around each
//! invocation and what the function says between them, in the function's log
//! format, filtered by its levels; and the tail that a caller may ask for.
//!
//! Rules: execution environment reference, section 8; invoke reference,
//! section 4. Not here: the shape of the lines (`lamu_model`), storing them
//! (`logs`).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use lamu_model::{
    Arn, ExtensionLine, InitPhase, InitReport, InitRuntimeDone, InitStart, InitializationType,
    LOG_TAIL_BYTES_MAX, LogFormat, LogLevel, LogsDropped, Report, ReportStatus, RequestId,
    RuntimeDone, RuntimeVersion, StartLine, SubscriptionApi, SubscriptionLine, VersionSpec,
};
use serde::Deserialize;
use serde_json::Value;

use super::telemetry::{Subscribers, Telemetry};

use crate::logs::{Kept, LogWriter};

#[derive(Debug)]
pub struct Journal {
    writer: LogWriter,
    spec: Arc<VersionSpec>,
    initialization: InitializationType,
    tail: Tail,
    /// What the store had no room for since the last note of it.
    dropped: LogsDropped,
    /// What of it goes to subscribers inside the sandbox too.
    pub telemetry: Telemetry,
    /// What INIT_START said, for an Init that is run again.
    runtime: Option<RuntimeVersion>,
    instance: String,
    /// No record may claim to be older than the environment.
    born_ms: u64,
}

impl Journal {
    pub fn new(
        writer: LogWriter,
        spec: Arc<VersionSpec>,
        initialization: InitializationType,
    ) -> Journal {
        // What Init writes belongs to the tail of the first invocation.
        let tail = Tail { kept: Vec::new(), wanted: true, fresh: true };
        let dropped = LogsDropped { records: 0, bytes: 0 };
        Journal {
            writer,
            spec,
            initialization,
            tail,
            dropped,
            telemetry: Telemetry::default(),
            runtime: None,
            instance: String::new(),
            born_ms: now_ms(),
        }
    }

    /// A record of the function. Its time is init's word and is only believed
    /// within the environment's life.
    pub fn function(&mut self, time_ms: u64, record: &[u8]) {
        if self.is_json() && application_level(record) < self.spec.log.application_level {
            return;
        }
        let time_ms = time_ms.clamp(self.born_ms, now_ms().max(self.born_ms));
        match self.writer.function(time_ms, record) {
            Kept::Yes => {}
            Kept::No => {
                self.dropped.records += 1;
                self.dropped.bytes += record.len() as u64;
            }
        }
        self.tail.put(record);
    }

    pub fn init_start(&mut self, runtime: Option<RuntimeVersion>, instance: &str) {
        instance.clone_into(&mut self.instance);
        let spec = self.spec.clone();
        let line = init_start(&spec, self.initialization, &runtime, instance, InitPhase::Init);
        if self.is_json() {
            self.json(line.level(), |time| line.json(time));
        } else if let Some(text) = line.text() {
            self.text(&text);
        }
        self.telemetry.init_begins(&line);
        self.runtime = runtime;
    }

    /// An Init inside an invocation begins; no line says so.
    pub fn init_again(&mut self) {
        let spec = self.spec.clone();
        let (phase, initialization) = (InitPhase::Invoke, self.initialization);
        let line = init_start(&spec, initialization, &self.runtime, &self.instance, phase);
        self.telemetry.init_begins(&line);
    }

    /// An extension as Init left it.
    pub fn extension(&mut self, line: &ExtensionLine<'_>) {
        self.caused(line.level(), || line.text(), |time| line.json(time));
        self.telemetry.put(Subscribers::All, |time| line.json(time));
    }

    pub fn subscription(&mut self, line: &SubscriptionLine<'_>) {
        self.telemetry.subscribed(line);
        self.caused(LogLevel::Info, || line.text(), |time| line.json(time));
        self.telemetry.put(Subscribers::Of(line.api), |time| line.json(time));
    }

    /// A line of the platform that was caused inside the sandbox: it has the
    /// function's share of the log.
    fn caused(
        &mut self,
        level: LogLevel,
        text: impl FnOnce() -> String,
        json: impl FnOnce(&str) -> Value,
    ) {
        let line = match self.is_json() {
            false => text(),
            true if level < self.spec.log.system_level => return,
            true => json(&timestamp()).to_string(),
        };
        let _ = self.writer.function(now_ms(), line.as_bytes());
        self.tail.put(line.as_bytes());
    }

    /// The end of an Init. On demand its report exists as text only when it
    /// failed.
    pub fn init_done(&mut self, phase: InitPhase, status: &ReportStatus, took: Duration) {
        let initialization = self.initialization;
        let duration_ms = millis(took);
        let report = InitReport { initialization, duration_ms, phase, status: status.clone() };
        let done = InitRuntimeDone { initialization, phase, status };
        let to = Subscribers::Of(SubscriptionApi::Telemetry);
        self.telemetry.put(to, |time| done.json(time));
        self.telemetry.put(to, |time| report.json(time));
        if self.is_json() {
            self.json(done.level(), |time| done.json(time));
            self.json(report.level(), |time| report.json(time));
        } else if report.is_text() {
            self.text(&report.text());
        }
    }

    /// An invocation begins: from here on, lines are for its tail.
    pub fn begin(&mut self, tail: bool) {
        self.tail.begin(tail);
    }

    pub fn start(&mut self, request: &RequestId, arn: &Arn, trace: Option<&str>) {
        let line = StartLine { request, version: self.spec.version, arn, trace };
        self.telemetry.start(&line);
        let line = StartLine { trace: trace.filter(|_| self.spec.tracing_active), ..line };
        if self.is_json() {
            self.json(LogLevel::Info, |time| line.json(time));
        } else {
            self.text(&line.text());
        }
    }

    /// The runtime is through with an invocation; JSON format only.
    pub fn runtime_done(&mut self, done: &RuntimeDone<'_>) {
        self.telemetry.runtime_done(done);
        if self.is_json() {
            let trace = done.trace.filter(|_| self.spec.tracing_active);
            let done = RuntimeDone { trace, ..done.clone() };
            self.json(done.level(), |time| done.json(time));
        }
    }

    /// END and REPORT. `reported` says that the runtime itself named the
    /// error, which the text form leaves out.
    pub fn end(&mut self, mut report: Report, reported: bool, trace: Option<&str>) {
        self.note_dropped();
        if self.is_json() {
            let trace = trace.filter(|_| self.spec.tracing_active);
            self.json(report.status.level_or(LogLevel::Info), |time| report.json(time, trace));
            return;
        }
        if reported {
            report.status = ReportStatus::Success;
        }
        for line in report.text() {
            self.text(&line);
        }
    }

    /// The last 4 KiB since `begin`, each record with its line end.
    pub fn take_tail(&mut self) -> Vec<u8> {
        self.tail.take()
    }

    fn note_dropped(&mut self) {
        if self.dropped.records == 0 {
            return;
        }
        let dropped = self.dropped;
        self.dropped = LogsDropped { records: 0, bytes: 0 };
        if self.is_json() {
            self.json(LogLevel::Warn, |time| dropped.json(time));
        } else {
            self.text(&dropped.text());
        }
    }

    fn is_json(&self) -> bool {
        self.spec.log.format == LogFormat::Json
    }

    fn text(&mut self, line: &str) {
        // When even the platform's lines find no room there is nothing to say.
        let _ = self.writer.platform(now_ms(), line.as_bytes());
        self.tail.put(line.as_bytes());
    }

    fn json(&mut self, level: LogLevel, line: impl FnOnce(&str) -> Value) {
        if level < self.spec.log.system_level {
            return;
        }
        self.text(&line(&timestamp()).to_string());
    }
}

fn init_start<'a>(
    spec: &'a VersionSpec,
    initialization: InitializationType,
    runtime: &'a Option<RuntimeVersion>,
    instance: &'a str,
    phase: InitPhase,
) -> InitStart<'a> {
    InitStart {
        initialization,
        runtime: runtime.as_ref(),
        name: &spec.name,
        version: spec.version,
        instance,
        memory_mib: spec.memory_mib,
        phase,
    }
}

/// Now, as JSON lines and events write it.
pub fn timestamp() -> String {
    let now: DateTime<Utc> = SystemTime::now().into();
    now.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The level of a line in JSON format. What was printed past the runtime's
/// logger is never filtered; JSON without a level that is known is INFO.
fn application_level(record: &[u8]) -> LogLevel {
    #[derive(Deserialize)]
    struct Leveled<'a> {
        #[serde(borrow, default)]
        level: Option<std::borrow::Cow<'a, str>>,
    }
    if record.first() != Some(&b'{') {
        return LogLevel::Fatal;
    }
    let Ok(line) = serde_json::from_slice::<Leveled<'_>>(record) else { return LogLevel::Fatal };
    let level = line.level.unwrap_or_default().to_ascii_uppercase();
    match level.as_str() {
        "TRACE" => LogLevel::Trace,
        "DEBUG" => LogLevel::Debug,
        "WARN" | "WARNING" => LogLevel::Warn,
        "ERROR" => LogLevel::Error,
        "FATAL" | "CRITICAL" => LogLevel::Fatal,
        _ => LogLevel::Info,
    }
}

#[derive(Debug)]
struct Tail {
    kept: Vec<u8>,
    wanted: bool,
    /// No invocation has begun yet.
    fresh: bool,
}

impl Tail {
    fn begin(&mut self, wanted: bool) {
        if !self.fresh || !wanted {
            self.kept = Vec::new();
        }
        self.fresh = false;
        self.wanted = wanted;
    }

    fn put(&mut self, record: &[u8]) {
        if !self.wanted {
            return;
        }
        let skipped = record.len().saturating_sub(LOG_TAIL_BYTES_MAX);
        self.kept.extend_from_slice(&record[skipped..]);
        self.kept.push(b'\n');
        if self.kept.len() > 4 * LOG_TAIL_BYTES_MAX {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let skipped = self.kept.len().saturating_sub(LOG_TAIL_BYTES_MAX);
        self.kept.drain(..skipped);
    }

    fn take(&mut self) -> Vec<u8> {
        self.cut();
        self.wanted = false;
        std::mem::take(&mut self.kept)
    }
}

/// The stream of an environment, and the instance id that names it in events.
/// A group that several functions may share has the function in the stream.
pub fn stream_names(spec: &VersionSpec, id: &str, day: DateTime<Utc>) -> (String, String) {
    let day = day.format("%Y/%m/%d");
    let instance = format!("{day}/{}[{}]{id}", spec.name, spec.version);
    let own = spec.log.group.strip_prefix("/aws/lambda/") == Some(spec.name.as_str());
    let stream = if own { format!("{day}/[{}]{id}", spec.version) } else { instance.clone() };
    (stream, instance)
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_tail_is_the_end_of_this_invocation() {
        let mut tail = Tail { kept: Vec::new(), wanted: true, fresh: true };
        tail.put(b"INIT_START");
        tail.begin(true);
        tail.put(b"START");
        assert_eq!(tail.take(), b"INIT_START\nSTART\n");
        tail.put(b"between");
        tail.begin(true);
        for _ in 0..10 {
            tail.put(&[b'x'; 3_000]);
        }
        let last = tail.take();
        assert_eq!(last.len(), LOG_TAIL_BYTES_MAX);
        assert!(last.ends_with(b"x\n"));
        tail.begin(false);
        tail.put(b"unwanted");
        assert!(tail.take().is_empty());
    }

    #[test]
    fn levels_filter_what_is_json_and_has_one() {
        assert_eq!(application_level(br#"{"level":"DEBUG","message":"x"}"#), LogLevel::Debug);
        assert_eq!(application_level(br#"{"level":"warn"}"#), LogLevel::Warn);
        assert_eq!(application_level(br#"{"message":"x"}"#), LogLevel::Info);
        assert_eq!(application_level(br#"{"level":"\u0044EBUG"}"#), LogLevel::Debug);
        assert_eq!(application_level(b"plain text"), LogLevel::Fatal, "never filtered");
        assert_eq!(application_level(b"{not json"), LogLevel::Fatal);
    }

    #[test]
    fn a_shared_group_names_the_function_in_the_stream() {
        let day = DateTime::from_timestamp(1_793_700_930, 0).unwrap();
        let mut spec = testing::spec();
        let (stream, instance) = stream_names(&spec, "ab", day);
        assert_eq!(stream, "2026/11/03/[$LATEST]ab");
        assert_eq!(instance, "2026/11/03/f[$LATEST]ab");
        spec.log.group = "/shared".into();
        assert_eq!(stream_names(&spec, "ab", day).0, "2026/11/03/f[$LATEST]ab");
    }
}

//! The platform's events on their way to subscribers inside the sandbox.
//!
//! Init delivers them; here is decided which there are and for whom. Where
//! nobody subscribed nothing is made, so an environment without extensions
//! pays for one event at its start and none afterwards.
//!
//! Not here: what the lines of the log say (`journal`).

use lamu_guest::{TelemetryApi, ToInit};
use lamu_model::{
    Fault, InitStart, Report, RuntimeDone, StartLine, SubscriptionApi, SubscriptionLine, logs_api,
};
use serde_json::Value;

use super::journal::timestamp;

#[derive(Debug, Default)]
pub struct Telemetry {
    /// Somebody wants platform events of this API.
    telemetry: bool,
    logs: bool,
    /// A handful per invocation and per notice of an extension, which are
    /// counted (`extensions`).
    events: Vec<ToInit>,
}

/// For whom an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribers {
    All,
    Of(SubscriptionApi),
}

impl Telemetry {
    /// What waits to be sent.
    pub fn take(&mut self) -> Vec<ToInit> {
        std::mem::take(&mut self.events)
    }

    /// Earlier subscribers are gone. This event is made before anybody can
    /// have subscribed; init keeps it for those who will.
    pub fn init_begins(&mut self, line: &InitStart<'_>) {
        (self.telemetry, self.logs) = (false, false);
        self.events.clear();
        self.push(TelemetryApi::Telemetry, line.json(&timestamp()));
    }

    pub fn subscribed(&mut self, line: &SubscriptionLine<'_>) {
        match line.api {
            SubscriptionApi::Telemetry => self.telemetry |= line.platform,
            SubscriptionApi::Logs => self.logs |= line.platform,
        }
    }

    /// An event that reads the same for everybody.
    pub fn put(&mut self, to: Subscribers, line: impl Fn(&str) -> Value) {
        if self.telemetry && to != Subscribers::Of(SubscriptionApi::Logs) {
            self.push(TelemetryApi::Telemetry, line(&timestamp()));
        }
        if self.logs && to != Subscribers::Of(SubscriptionApi::Telemetry) {
            self.push(TelemetryApi::Logs, line(&timestamp()));
        }
    }

    pub fn start(&mut self, line: &StartLine<'_>) {
        if self.telemetry {
            self.push(TelemetryApi::Telemetry, line.json(&timestamp()));
        }
        if self.logs {
            let version = line.version.to_string();
            self.push(TelemetryApi::Logs, logs_api::start(&timestamp(), line.request, &version));
        }
    }

    pub fn runtime_done(&mut self, done: &RuntimeDone<'_>) {
        if self.telemetry {
            self.push(TelemetryApi::Telemetry, done.json(&timestamp()));
        }
        if self.logs {
            let event = logs_api::runtime_done(&timestamp(), done.request, done.status);
            self.push(TelemetryApi::Logs, event);
        }
    }

    pub fn end(&mut self, report: &Report, fault: Option<&Fault>, trace: Option<&str>) {
        if self.telemetry {
            self.push(TelemetryApi::Telemetry, report.json(&timestamp(), trace));
        }
        if self.logs {
            let time = timestamp();
            if let Some(fault) = fault {
                self.push(TelemetryApi::Logs, logs_api::fault(&time, &report.request, fault));
            }
            self.push(TelemetryApi::Logs, logs_api::end(&time, &report.request));
            self.push(TelemetryApi::Logs, logs_api::report(&time, report));
        }
    }

    fn push(&mut self, api: TelemetryApi, event: Value) {
        self.events.push(ToInit::Event { api, json: event.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lamu_model::{FunctionName, InitPhase, ReportStatus, RequestId, Version};

    fn types(telemetry: &mut Telemetry) -> Vec<String> {
        let kind = |event: ToInit| match event {
            ToInit::Event { api, json } => {
                let json: Value = serde_json::from_str(&json).unwrap();
                format!("{api:?} {}", json["type"].as_str().unwrap())
            }
            other => panic!("{other:?}"),
        };
        telemetry.take().into_iter().map(kind).collect()
    }

    fn subscription(api: SubscriptionApi, platform: bool) -> SubscriptionLine<'static> {
        SubscriptionLine { api, name: "a", platform, function: true, extension: false }
    }

    fn report() -> Report {
        Report {
            request: RequestId::new("r"),
            duration_ms: 1.0,
            memory_mib: 128,
            memory_used_mib_max: 1,
            init_ms: None,
            status: ReportStatus::Success,
            extension_overhead: None,
        }
    }

    #[test]
    fn without_subscribers_only_the_start_of_init_is_told() {
        let mut telemetry = Telemetry::default();
        let name = FunctionName::new("f");
        telemetry.init_begins(&InitStart {
            initialization: lamu_model::InitializationType::OnDemand,
            runtime: None,
            name: &name,
            version: Version::Latest,
            instance: "i",
            memory_mib: 128,
            phase: InitPhase::Init,
        });
        assert_eq!(types(&mut telemetry), ["Telemetry platform.initStart"]);
        telemetry.subscribed(&subscription(SubscriptionApi::Telemetry, false));
        telemetry.end(&report(), None, None);
        telemetry.put(Subscribers::All, |_| Value::Null);
        assert!(types(&mut telemetry).is_empty(), "nobody wants platform events");
    }

    #[test]
    fn each_api_hears_its_own_events() {
        let mut telemetry = Telemetry::default();
        telemetry.subscribed(&subscription(SubscriptionApi::Telemetry, true));
        telemetry.end(&report(), Some(&Fault::exited(1)), None);
        assert_eq!(types(&mut telemetry), ["Telemetry platform.report"]);
        telemetry.subscribed(&subscription(SubscriptionApi::Logs, true));
        telemetry.end(&report(), Some(&Fault::exited(1)), None);
        assert_eq!(
            types(&mut telemetry),
            [
                "Telemetry platform.report",
                "Logs platform.fault",
                "Logs platform.end",
                "Logs platform.report",
            ]
        );
    }
}

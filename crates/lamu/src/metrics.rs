//! What `/metrics` says of worker, environments, logs and egress, in
//! Prometheus' text form.
//!
//! Not here: the frontend's own figures, which it renders itself; those of the
//! manager ([`fleet`]).

mod fleet;

use std::fmt::Write as _;

use lamu_sandbox::egress::EgressFigures;
use lamu_worker::logs::LogFigures;
use lamu_worker::{Worker, WorkerStats};

pub use fleet::of_manager;

/// The lines of one worker.
pub fn of_worker(worker: &Worker) -> String {
    let mut text = of_stats(worker.stats());
    head(&mut text, "lamu_package_cache_bytes", "gauge", "Unpacked packages on disk.");
    line(&mut text, "lamu_package_cache_bytes", worker.package_cache_bytes() as f64);
    text
}

fn of_stats(stats: &WorkerStats) -> String {
    let mut text = String::with_capacity(2048);
    head(&mut text, "lamu_environments", "gauge", "Execution environments by state.");
    for (state, gauge) in [
        ("starting", &stats.starting),
        ("idle", &stats.idle),
        ("frozen", &stats.frozen),
        ("busy", &stats.busy),
    ] {
        line(&mut text, &format!("lamu_environments{{state=\"{state}\"}}"), gauge.get() as f64);
    }
    for (name, help, counter) in [
        ("boots", "Environments whose making began.", &stats.boots),
        ("boot_failures", "Environments that could not be made.", &stats.boot_failures),
        ("invocations", "Invocations that ended.", &stats.invocations),
        ("errors", "Invocations that ended in an error or fault.", &stats.errors),
        ("timeouts", "Invocations that ran out of time.", &stats.timeouts),
        ("reruns", "Inits repeated inside an invocation.", &stats.reruns),
        ("resets", "Environments reset after a fault.", &stats.resets),
        ("freezes", "Times an idle environment was frozen.", &stats.freezes),
        ("inits", "Inits that succeeded.", &stats.inits),
    ] {
        let name = format!("lamu_worker_{name}_total");
        head(&mut text, &name, "counter", help);
        line(&mut text, &name, counter.get() as f64);
    }
    let name = "lamu_worker_init_seconds_total";
    head(&mut text, name, "counter", "Time of all Inits that succeeded.");
    line(&mut text, name, stats.init_ns.get() as f64 / 1e9);
    text
}

/// The lines of the log store.
pub fn of_logs(figures: &LogFigures) -> String {
    let mut text = String::with_capacity(512);
    for (name, kind, help, value) in [
        ("bytes", "gauge", "Log files on disk.", figures.bytes),
        ("groups", "gauge", "Log groups.", figures.groups),
        ("lost_lines_total", "counter", "Lines that could not be written.", figures.lost_lines),
        ("lost_bytes_total", "counter", "Their bytes.", figures.lost_bytes),
        ("dropped_bytes_total", "counter", "Old logs that made room.", figures.dropped_bytes),
    ] {
        let name = format!("lamu_log_{name}");
        head(&mut text, &name, kind, help);
        line(&mut text, &name, value as f64);
    }
    text
}

/// The lines of the way from functions to endpoints.
pub fn of_egress(figures: &EgressFigures) -> String {
    let mut text = String::with_capacity(512);
    for (name, help, value) in [
        ("connections", "Connections of functions to endpoints.", figures.connections),
        ("refused", "Those whose endpoint was not reached.", figures.refused),
        ("sent_bytes", "Bytes from functions to endpoints.", figures.sent_bytes),
        ("received_bytes", "Bytes from endpoints to functions.", figures.received_bytes),
    ] {
        let name = format!("lamu_egress_{name}_total");
        head(&mut text, &name, "counter", help);
        line(&mut text, &name, value as f64);
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, value: f64) {
    let _ = writeln!(text, "{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_help_type_and_a_plain_number() {
        let stats = WorkerStats::default();
        stats.invocations.add(3);
        stats.idle.up();

        let text = of_stats(&stats)
            + &of_logs(&LogFigures::default())
            + &of_egress(&EgressFigures::default());

        assert!(text.contains("\nlamu_worker_invocations_total 3\n"), "{text}");
        assert!(text.contains("\nlamu_environments{state=\"idle\"} 1\n"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once(' ').unwrap();
            let name = name.split('{').next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}

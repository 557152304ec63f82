//! What this frontend counts about itself, read by `/metrics`.
//!
//! Counters are plain atomics: counting costs a few nanoseconds and never
//! waits.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use lamu_api::Operation;

/// Statuses counted by themselves; any other is counted as 0.
const STATUSES: [u16; 21] = [
    0, 200, 201, 202, 204, 400, 403, 404, 405, 408, 409, 412, 413, 415, 429, 431, 500, 501, 502,
    503, 504,
];

/// Upper bounds in microseconds: from a warm native call to Lambda's longest.
const BUCKETS_MICROS: [u64; 22] = [
    100,
    200,
    300,
    500,
    750,
    1_000,
    2_000,
    3_000,
    5_000,
    10_000,
    20_000,
    30_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    900_000_000,
];

const OPERATIONS: usize = 91;

/// Requests that are no operation of Lambda.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Lambda(Operation),
    /// CloudWatch Logs.
    Logs,
    /// Anything else: health, metrics, code links, nonsense.
    Other,
}

/// Whether an invocation made an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    Warm,
    Cold,
}

#[derive(Debug)]
pub struct FrontendStats {
    requests: Vec<[AtomicU64; STATUSES.len()]>,
    warm: Histogram,
    cold: Histogram,
    pub(crate) connections: AtomicI64,
}

#[derive(Debug, Default)]
struct Histogram {
    /// Not cumulative; the last counts what is beyond every bound.
    buckets: [AtomicU64; BUCKETS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

impl Default for FrontendStats {
    fn default() -> FrontendStats {
        let row = || std::array::from_fn(|_| AtomicU64::new(0));
        FrontendStats {
            requests: (0..OPERATIONS + 2).map(|_| row()).collect(),
            warm: Histogram::default(),
            cold: Histogram::default(),
            connections: AtomicI64::new(0),
        }
    }
}

impl FrontendStats {
    pub fn count(&self, what: Counted, status: u16) {
        let row = match what {
            Counted::Lambda(operation) => operation as usize,
            Counted::Logs => OPERATIONS,
            Counted::Other => OPERATIONS + 1,
        };
        let column = STATUSES.iter().position(|known| *known == status).unwrap_or(0);
        if let Some(row) = self.requests.get(row) {
            row[column].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An invocation was answered after this long.
    pub fn invoked(&self, start: Started, took: Duration) {
        match start {
            Started::Warm => self.warm.observe(took),
            Started::Cold => self.cold.observe(took),
        }
    }

    /// How often an operation has ended with a status.
    pub fn requests(&self, operation: Operation, status: u16) -> u64 {
        let column = STATUSES.iter().position(|known| *known == status).unwrap_or(0);
        self.requests[operation as usize][column].load(Ordering::Relaxed)
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        out.push_str("# HELP lamu_frontend_requests_total Requests answered, by operation and status.\n# TYPE lamu_frontend_requests_total counter\n");
        let names = Operation::ALL.iter().map(|op| op.name()).chain(["Logs", "Other"]);
        for (name, row) in names.zip(&self.requests) {
            for (status, count) in STATUSES.iter().zip(row) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let _ = writeln!(
                        out,
                        "lamu_frontend_requests_total{{operation=\"{name}\",status=\"{status}\"}} {count}"
                    );
                }
            }
        }
        out.push_str("# HELP lamu_frontend_invoke_seconds Time from an invocation's request read to its answer ready.\n# TYPE lamu_frontend_invoke_seconds histogram\n");
        self.warm.render("warm", &mut out);
        self.cold.render("cold", &mut out);
        out.push_str("# HELP lamu_frontend_connections Open connections.\n# TYPE lamu_frontend_connections gauge\n");
        let _ =
            writeln!(out, "lamu_frontend_connections {}", self.connections.load(Ordering::Relaxed));
        out
    }
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn render(&self, start: &str, out: &mut String) {
        let mut count = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = match BUCKETS_MICROS.get(at) {
                Some(micros) => (*micros as f64 / 1e6).to_string(),
                None => "+Inf".to_owned(),
            };
            let _ = writeln!(
                out,
                "lamu_frontend_invoke_seconds_bucket{{start=\"{start}\",le=\"{bound}\"}} {count}"
            );
        }
        let sum = self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "lamu_frontend_invoke_seconds_sum{{start=\"{start}\"}} {sum}");
        let _ = writeln!(out, "lamu_frontend_invoke_seconds_count{{start=\"{start}\"}} {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_operation_and_status() {
        assert_eq!(Operation::ALL.len(), OPERATIONS);
        let stats = FrontendStats::default();
        stats.count(Counted::Lambda(Operation::Invoke), 200);
        stats.count(Counted::Lambda(Operation::Invoke), 200);
        stats.count(Counted::Lambda(Operation::Invoke), 418);
        stats.count(Counted::Other, 404);
        assert_eq!(stats.requests(Operation::Invoke, 200), 2);
        let text = stats.render();
        assert!(text.contains("requests_total{operation=\"Invoke\",status=\"200\"} 2\n"));
        assert!(text.contains("requests_total{operation=\"Invoke\",status=\"0\"} 1\n"));
        assert!(text.contains("requests_total{operation=\"Other\",status=\"404\"} 1\n"));
    }

    #[test]
    fn buckets_are_cumulative() {
        let stats = FrontendStats::default();
        stats.invoked(Started::Warm, Duration::from_micros(100));
        stats.invoked(Started::Warm, Duration::from_micros(101));
        stats.invoked(Started::Warm, Duration::from_secs(1_000));
        let text = stats.render();
        for line in [
            "bucket{start=\"warm\",le=\"0.0001\"} 1\n",
            "bucket{start=\"warm\",le=\"0.0002\"} 2\n",
            "bucket{start=\"warm\",le=\"900\"} 2\n",
            "bucket{start=\"warm\",le=\"+Inf\"} 3\n",
            "count{start=\"warm\"} 3\n",
            "count{start=\"cold\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}

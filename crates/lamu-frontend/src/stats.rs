//! What this frontend counts about itself, read by `/metrics`.
//!
//! Counters are plain atomics: counting costs a few nanoseconds and never
//! waits.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use lamu_api::{Operation, ThrottleReason};
use lamu_model::{AccountId, Region};

use crate::admission::InUse;

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

/// In the order of their declaration.
const THROTTLES: [ThrottleReason; 6] = [
    ThrottleReason::ConcurrentInvocationLimitExceeded,
    ThrottleReason::FunctionInvocationRateLimitExceeded,
    ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded,
    ThrottleReason::ReservedFunctionInvocationRateLimitExceeded,
    ThrottleReason::CallerRateLimitExceeded,
    ThrottleReason::ConcurrentSnapshotCreateLimitExceeded,
];

/// Requests that are no operation of Lambda.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Lambda(Operation),
    /// CloudWatch Logs.
    Logs,
    /// Function URLs.
    Url,
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
    /// By reason.
    throttles: [AtomicU64; THROTTLES.len()],
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
            requests: (0..OPERATIONS + 3).map(|_| row()).collect(),
            warm: Histogram::default(),
            cold: Histogram::default(),
            throttles: Default::default(),
            connections: AtomicI64::new(0),
        }
    }
}

impl FrontendStats {
    pub fn count(&self, what: Counted, status: u16) {
        let row = match what {
            Counted::Lambda(operation) => operation as usize,
            Counted::Logs => OPERATIONS,
            Counted::Url => OPERATIONS + 1,
            Counted::Other => OPERATIONS + 2,
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

    /// A request was refused with 429.
    pub fn throttled(&self, reason: ThrottleReason) {
        self.throttles[reason as usize].fetch_add(1, Ordering::Relaxed);
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
        let names =
            Operation::ALL.iter().map(|op| op.name()).chain(["Logs", "FunctionUrl", "Other"]);
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
        out.push_str("# HELP lamu_frontend_throttles_total Requests refused with 429, by reason (AWS: Throttles).\n# TYPE lamu_frontend_throttles_total counter\n");
        for (reason, count) in THROTTLES.iter().zip(&self.throttles) {
            let (reason, count) = (reason.as_str(), count.load(Ordering::Relaxed));
            let _ = writeln!(out, "lamu_frontend_throttles_total{{reason=\"{reason}\"}} {count}");
        }
        out.push_str("# HELP lamu_frontend_connections Open connections.\n# TYPE lamu_frontend_connections gauge\n");
        let _ =
            writeln!(out, "lamu_frontend_connections {}", self.connections.load(Ordering::Relaxed));
        out
    }
}

/// Accounts and regions shown by themselves. Callers without keys may name any
/// account, so the busiest are shown and the rest left out.
const ACCOUNTS_SHOWN: usize = 50;

/// Concurrency by account and region, as Prometheus text.
pub fn of_concurrency(census: &[(AccountId, Region, InUse)]) -> String {
    let mut rows: Vec<_> =
        census.iter().filter(|(_, _, row)| row.claimed.max(row.total) > 0).collect();
    rows.sort_by(|a, b| (b.2.claimed, &a.0, &a.1).cmp(&(a.2.claimed, &b.0, &b.1)));
    rows.truncate(ACCOUNTS_SHOWN);
    let mut out = String::new();
    for (name, help, figure) in [
        (
            "concurrent_executions",
            "Invocations under way (AWS: ConcurrentExecutions).",
            (|row| row.total) as fn(&InUse) -> u32,
        ),
        (
            "unreserved_concurrent_executions",
            "Those that nothing was claimed for (AWS: UnreservedConcurrentExecutions).",
            |row| row.pool,
        ),
        (
            "claimed_account_concurrency",
            "Concurrency that is not free to others (AWS: ClaimedAccountConcurrency).",
            |row| row.claimed,
        ),
    ] {
        let _ = writeln!(out, "# HELP lamu_{name} {help}\n# TYPE lamu_{name} gauge");
        for (account, region, row) in &rows {
            let figure = figure(row);
            let _ =
                writeln!(out, "lamu_{name}{{account=\"{account}\",region=\"{region}\"}} {figure}");
        }
    }
    out
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
    fn throttles_are_counted_by_reason() {
        let stats = FrontendStats::default();
        for (at, reason) in THROTTLES.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            stats.throttled(*reason);
        }
        let text = stats.render();
        let line = "throttles_total{reason=\"CallerRateLimitExceeded\"} 1\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn concurrency_is_shown_of_the_busiest_accounts_only() {
        let mut census: Vec<_> = (0..200)
            .map(|n| {
                let account = AccountId::new(format!("{n:012}"));
                (account, Region::new("us-east-1"), InUse { pool: 1, total: 1, claimed: 1 })
            })
            .collect();
        census[150].2 = InUse { pool: 2, total: 5, claimed: 9 };
        census[7].2 = InUse::default();
        let text = of_concurrency(&census);
        for line in [
            "lamu_concurrent_executions{account=\"000000000150\",region=\"us-east-1\"} 5\n",
            "lamu_unreserved_concurrent_executions{account=\"000000000150\",region=\"us-east-1\"} 2\n",
            "lamu_claimed_account_concurrency{account=\"000000000150\",region=\"us-east-1\"} 9\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("000000000007"), "nothing runs there");
        let lines = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(lines, 3 * ACCOUNTS_SHOWN);
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

//! What `/metrics` says of the manager's census: environments by function, and
//! provisioned concurrency by version. Where AWS has a metric of the same
//! meaning, the help names it.
//!
//! Functions are users' to make, so the largest few are shown by name and the
//! rest together.
//!
//! Not here: the worker's own counters (`super`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lamu_link::{EnvironmentRow, EnvironmentState, ManagerHandle, ProvisionedRow};
use lamu_model::VersionSpec;

use super::head;

/// Functions, and provisioned versions, that are shown by name.
const SHOWN_MAX: usize = 100;

/// Of a manager that has ended, nothing.
pub async fn of_manager(manager: &ManagerHandle) -> String {
    let (census, provisioned) = tokio::join!(manager.census(), manager.provisioned());
    of_census(&census.unwrap_or_default()) + &of_provisioned(&provisioned.unwrap_or_default())
}

/// Whose figures they are, as labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels(String);

impl Labels {
    fn function(spec: &VersionSpec) -> Labels {
        let VersionSpec { account, region, name, .. } = spec;
        Labels(format!("account=\"{account}\",region=\"{region}\",function=\"{name}\""))
    }

    fn version(spec: &VersionSpec) -> Labels {
        let Labels(function) = Labels::function(spec);
        Labels(format!("{function},version=\"{}\"", spec.version))
    }

    fn others() -> Labels {
        // No function can have this name.
        Labels("function=\"(others)\"".to_owned())
    }
}

fn of_census(census: &[EnvironmentRow]) -> String {
    // Starting, idle, busy, draining; on demand and provisioned.
    let mut functions: BTreeMap<Labels, [[u64; 4]; 2]> = BTreeMap::new();
    for row in census {
        let state = match row.state {
            EnvironmentState::Starting => 0,
            EnvironmentState::Idle => 1,
            EnvironmentState::Busy => 2,
            EnvironmentState::Draining => 3,
        };
        let counts = functions.entry(Labels::function(&row.spec)).or_default();
        counts[usize::from(row.initialization.is_provisioned())][state] += 1;
    }
    let size = |counts: &[[u64; 4]; 2]| counts.iter().flatten().sum::<u64>();
    let add = |sum: &mut [[u64; 4]; 2], more: &[[u64; 4]; 2]| {
        for (sum, more) in sum.iter_mut().flatten().zip(more.iter().flatten()) {
            *sum += more;
        }
    };
    let mut text = String::new();
    let name = "lamu_function_environments";
    head(&mut text, name, "gauge", "Execution environments by function, cause and state.");
    for (Labels(labels), counts) in largest(functions, size, add) {
        for (cause, counts) in ["on-demand", "provisioned-concurrency"].iter().zip(&counts) {
            for (state, count) in ["starting", "idle", "busy", "draining"].iter().zip(counts) {
                if *count > 0 {
                    let _ = writeln!(
                        text,
                        "{name}{{{labels},initialization_type=\"{cause}\",state=\"{state}\"}} {count}"
                    );
                }
            }
        }
    }
    text
}

/// Figures of one version, or of many together.
#[derive(Clone, Copy, Debug, Default)]
struct Provisioned {
    requested: u64,
    allocated: u64,
    available: u64,
    invocations: u64,
    spilled: u64,
}

impl Provisioned {
    fn in_use(&self) -> u64 {
        self.allocated.saturating_sub(self.available)
    }

    fn utilization(&self) -> f64 {
        if self.allocated == 0 { 0.0 } else { self.in_use() as f64 / self.allocated as f64 }
    }
}

fn of_provisioned(rows: &[ProvisionedRow]) -> String {
    let versions: BTreeMap<Labels, Provisioned> = rows
        .iter()
        .map(|row| {
            let figures = Provisioned {
                requested: row.requested.into(),
                allocated: row.allocated.into(),
                available: row.available.into(),
                invocations: row.invocations,
                spilled: row.spilled,
            };
            (Labels::version(&row.spec), figures)
        })
        .collect();
    let add = |sum: &mut Provisioned, more: &Provisioned| {
        sum.requested += more.requested;
        sum.allocated += more.allocated;
        sum.available += more.available;
        sum.invocations += more.invocations;
        sum.spilled += more.spilled;
    };
    let shown = largest(versions, |row| row.requested, add);
    let mut text = String::new();
    type Figure = fn(&Provisioned) -> f64;
    let figures: [(&str, &str, &str, Figure); 6] = [
        ("requested", "gauge", "Environments that shall stand by.", |row| row.requested as f64),
        ("allocated", "gauge", "Environments that are initialised.", |row| row.allocated as f64),
        (
            "executions",
            "gauge",
            "Invocations under way in them (AWS: ProvisionedConcurrentExecutions).",
            |row| row.in_use() as f64,
        ),
        (
            "utilization",
            "gauge",
            "Share of the allocated that is in use (AWS: ProvisionedConcurrencyUtilization).",
            Provisioned::utilization,
        ),
        (
            "invocations_total",
            "counter",
            "Invocations that got one (AWS: ProvisionedConcurrencyInvocations).",
            |row| row.invocations as f64,
        ),
        (
            "spillover_invocations_total",
            "counter",
            "Invocations that got another (AWS: ProvisionedConcurrencySpilloverInvocations).",
            |row| row.spilled as f64,
        ),
    ];
    for (name, kind, help, figure) in figures {
        let name = format!("lamu_provisioned_concurrency_{name}");
        head(&mut text, &name, kind, help);
        for (Labels(labels), row) in &shown {
            let _ = writeln!(text, "{name}{{{labels}}} {}", figure(row));
        }
    }
    text
}

/// The largest in the order of their names, and the rest as one.
fn largest<T: Clone + Default>(
    all: BTreeMap<Labels, T>,
    size: impl Fn(&T) -> u64,
    add: impl Fn(&mut T, &T),
) -> Vec<(Labels, T)> {
    if all.len() <= SHOWN_MAX {
        return all.into_iter().collect();
    }
    let mut rows: Vec<_> = all.into_iter().collect();
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(size(row)));
    let rest = rows.split_off(SHOWN_MAX);
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let mut sum = T::default();
    rest.iter().for_each(|(_, row)| add(&mut sum, row));
    rows.push((Labels::others(), sum));
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use lamu_model::{
        AccountId, Digest, FunctionName, InitializationType, LogConfig, LogFormat, LogLevel,
        Region, Runtime, SandboxId, Version, VersionId, WorkerId,
    };

    use super::*;

    fn spec(name: &str) -> Arc<VersionSpec> {
        Arc::new(VersionSpec {
            id: VersionId(Default::default()),
            account: AccountId::new("000000000000"),
            region: Region::new("us-east-1"),
            name: FunctionName::new(name),
            version: Version::Number(1),
            runtime: Runtime::new("provided.al2023"),
            handler: "h".into(),
            code: Digest([0; 32]),
            layers: Vec::new(),
            memory_mib: 128,
            timeout_secs: 3,
            ephemeral_mib: 512,
            environment: BTreeMap::new(),
            log: LogConfig {
                format: LogFormat::Text,
                group: String::new(),
                application_level: LogLevel::Info,
                system_level: LogLevel::Info,
            },
            tracing_active: false,
            architecture: Default::default(),
        })
    }

    fn environment(name: &str, state: EnvironmentState) -> EnvironmentRow {
        EnvironmentRow {
            sandbox: SandboxId(Default::default()),
            worker: WorkerId::new("w"),
            spec: spec(name),
            initialization: InitializationType::ProvisionedConcurrency,
            state,
            age: Duration::ZERO,
        }
    }

    fn provisioned(name: &str, requested: u32) -> ProvisionedRow {
        ProvisionedRow {
            spec: spec(name),
            requested,
            allocated: 4,
            available: 1,
            failure: None,
            leaving: false,
            invocations: 7,
            spilled: 2,
        }
    }

    #[test]
    fn environments_are_counted_by_function_cause_and_state() {
        let idle = || environment("f", EnvironmentState::Idle);
        let text = of_census(&[idle(), idle(), environment("g", EnvironmentState::Busy)]);
        let of = |name: &str, state: &str| {
            format!(
                "lamu_function_environments{{account=\"000000000000\",region=\"us-east-1\",function=\"{name}\",initialization_type=\"provisioned-concurrency\",state=\"{state}\"}}"
            )
        };
        assert!(text.contains(&format!("{} 2\n", of("f", "idle"))), "{text}");
        assert!(text.contains(&format!("{} 1\n", of("g", "busy"))), "{text}");
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 2);
    }

    #[test]
    fn provisioned_concurrency_has_awss_figures() {
        let text = of_provisioned(&[provisioned("f", 5)]);
        let labels = "{account=\"000000000000\",region=\"us-east-1\",function=\"f\",version=\"1\"}";
        for (name, value) in [
            ("requested", "5"),
            ("allocated", "4"),
            ("executions", "3"),
            ("utilization", "0.75"),
            ("invocations_total", "7"),
            ("spillover_invocations_total", "2"),
        ] {
            let line = format!("\nlamu_provisioned_concurrency_{name}{labels} {value}\n");
            assert!(text.contains(&line), "{line}: {text}");
        }
    }

    #[test]
    fn many_functions_make_no_more_lines_than_some() {
        let census: Vec<_> = (0..500)
            .map(|n| environment(&format!("f{n}"), EnvironmentState::Idle))
            .chain((0..2).map(|_| environment("large", EnvironmentState::Idle)))
            .collect();
        let text = of_census(&census);
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), SHOWN_MAX + 1);
        assert!(text.contains("function=\"large\""));
        assert!(lines[SHOWN_MAX].contains("(others)") && lines[SHOWN_MAX].ends_with(" 401"));

        let rows: Vec<_> = (0..500).map(|n| provisioned(&format!("f{n}"), n)).collect();
        let text = of_provisioned(&rows);
        let lines = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(lines, 6 * (SHOWN_MAX + 1));
        assert!(text.contains("function=\"f499\"") && !text.contains("function=\"f3\""));
    }
}

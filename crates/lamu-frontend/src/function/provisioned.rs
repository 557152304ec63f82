//! Provisioned concurrency as rules over values: which versions a
//! configuration leads to, what may be asked for, and what its status is.
//!
//! An alias that divides its calls between two versions has the whole count
//! standing by for each of them, so that weights may change without a cold
//! start; its calls share one count of concurrency.
//!
//! Not here: what stands by (`lamu_fleet`), telling the manager
//! (`provisioner`), the operations as clients call them (`operations`).

use std::collections::BTreeMap;

use lamu_link::{ProvisionFailure, ProvisionedRow};
use lamu_model::{Qualifier, UNRESERVED_CONCURRENCY_MIN, Version, VersionId};

use super::document::{AliasDoc, Live};
use super::refusal::Refusal;
use crate::admission::{Claims, Provisioned};

/// The published versions that a call of the qualifier may run, its own first.
/// None for `$LATEST`, and for an alias that is not there.
pub fn versions<'a>(qualifier: &str, alias: impl FnOnce(&str) -> Option<&'a AliasDoc>) -> Vec<u64> {
    match Qualifier::parse(qualifier) {
        Qualifier::Version(Version::Number(number)) => vec![number],
        Qualifier::Version(Version::Latest) => Vec::new(),
        Qualifier::Alias(name) => alias(&name).map_or_else(Vec::new, versions_of),
    }
}

pub fn versions_of(alias: &AliasDoc) -> Vec<u64> {
    let Version::Number(own) = alias.version else { return Vec::new() };
    std::iter::once(own).chain(alias.routing.map(|routing| routing.version)).collect()
}

/// What a living function claims of its account.
pub fn claims<'a>(live: &Live, alias: impl Fn(&str) -> Option<&'a AliasDoc>) -> Claims {
    let provisioned = live.provisioned.iter().map(|(qualifier, config)| Provisioned {
        qualifier: qualifier.clone(),
        count: config.count,
        versions: versions(qualifier, &alias),
    });
    Claims { reserved: live.reserved_concurrency, provisioned: provisioned.collect() }
}

/// The account's concurrency as one function's wish finds it.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub account: u32,
    /// What other functions claim.
    pub others: u64,
}

impl Budget {
    /// Whether a function may have so many provisioned beside what it has for
    /// other qualifiers.
    pub fn may_provision(
        self,
        count: u32,
        beside: u64,
        reserved: Option<u32>,
    ) -> Result<(), Refusal> {
        let count = u64::from(count);
        if let Some(reserved) = reserved {
            return match beside + count <= u64::from(reserved) {
                true => Ok(()),
                false => Err(Refusal::invalid(
                    "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
                )),
            };
        }
        let unreserved = u64::from(self.account).saturating_sub(self.others + beside);
        let Some(left) = unreserved.checked_sub(count) else {
            return Err(Refusal::invalid(format!(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{unreserved}]."
            )));
        };
        if left < u64::from(UNRESERVED_CONCURRENCY_MIN) {
            return Err(Refusal::invalid(format!(
                "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{UNRESERVED_CONCURRENCY_MIN}]."
            )));
        }
        Ok(())
    }

    /// Whether a function with so many provisioned may reserve so many.
    pub fn may_reserve(self, reserved: u32, provisioned: u32) -> Result<(), Refusal> {
        if reserved < provisioned {
            // The blanks are the service's.
            return Err(Refusal::invalid(format!(
                " ReservedConcurrentExecutions  {reserved} should not be lower than function's total provisioned concurrency [{provisioned}]."
            )));
        }
        let left = u64::from(self.account).checked_sub(self.others + u64::from(reserved));
        let enough = left.is_some_and(|left| left >= u64::from(UNRESERVED_CONCURRENCY_MIN));
        if enough || reserved == 0 {
            return Ok(());
        }
        Err(Refusal::invalid(format!(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{UNRESERVED_CONCURRENCY_MIN}]."
        )))
    }
}

/// How far a configuration has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub allocated: u32,
    pub available: u32,
    pub status: Status,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    InProgress,
    Ready,
    Failed(String),
}

impl Status {
    pub fn word(&self) -> &'static str {
        match self {
            Status::InProgress => "IN_PROGRESS",
            Status::Ready => "READY",
            Status::Failed(_) => "FAILED",
        }
    }

    pub fn reason(&self) -> Option<String> {
        match self {
            Status::Failed(reason) => Some(reason.clone()),
            Status::InProgress | Status::Ready => None,
        }
    }
}

/// Of a configuration with this count, whose calls run these versions. Of two
/// versions the one that has less counts: so many a call can count on.
pub fn progress(
    count: u32,
    versions: &[VersionId],
    rows: &BTreeMap<VersionId, ProvisionedRow>,
) -> Progress {
    let of = |version: &VersionId| rows.get(version).filter(|row| !row.leaving);
    let least = |figure: fn(&ProvisionedRow) -> u32| {
        let figures = versions.iter().map(|version| of(version).map_or(0, figure));
        figures.min().unwrap_or(0).min(count)
    };
    let (allocated, available) = (least(|row| row.allocated), least(|row| row.available));
    let failure = versions.iter().find_map(|version| of(version)?.failure.as_ref());
    let status = match failure {
        _ if allocated >= count => Status::Ready,
        Some(failure) => Status::Failed(reason(failure)),
        None => Status::InProgress,
    };
    Progress { allocated, available, status }
}

fn reason(failure: &ProvisionFailure) -> String {
    match failure {
        // The service's word; which error it was stands in the function's log.
        ProvisionFailure::Init { .. } => "FUNCTION_ERROR_INIT_FAILURE".to_owned(),
        ProvisionFailure::NoRoom => {
            "The host has no room for as many execution environments.".to_owned()
        }
        ProvisionFailure::Other { what } => {
            format!("Execution environments cannot be made: {what}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::function::document::Routing;
    use crate::function::document::tests::{configuration, key};

    fn alias(version: Version, routing: Option<Routing>) -> AliasDoc {
        AliasDoc {
            name: "prod".into(),
            version,
            description: String::new(),
            revision_id: Uuid::from_u128(1),
            routing,
            policy: None,
        }
    }

    #[test]
    fn a_configuration_leads_to_every_version_its_calls_may_run() {
        let one = alias(Version::Number(3), None);
        let both = alias(Version::Number(3), Some(Routing { version: 4, weight: 0.0 }));
        let latest = alias(Version::Latest, None);
        assert_eq!(versions("7", |_| None), [7]);
        assert_eq!(versions("prod", |_| Some(&one)), [3]);
        assert_eq!(versions("prod", |_| Some(&both)), [3, 4], "also one that has no weight yet");
        assert!(versions("prod", |_| Some(&latest)).is_empty());
        assert!(versions("prod", |_| None).is_empty());
        assert!(versions("$LATEST", |_| None).is_empty());
    }

    #[test]
    fn what_may_be_provisioned_leaves_a_hundred_for_all() {
        // Account, others, count, beside, reserved; the text of the refusal.
        let table = [
            ((1_000, 0, 900, 0, None), None),
            ((1_000, 0, 901, 0, None), Some("below its minimum value of [100]")),
            ((1_000, 0, 1_000, 0, None), Some("below its minimum value of [100]")),
            (
                (1_000, 0, 1_001, 0, None),
                Some("is greater than account's unreserved concurrency [1000]."),
            ),
            ((1_000, 500, 400, 0, None), None),
            ((1_000, 500, 300, 101, None), Some("below its minimum value")),
            ((1_000, 500, 500, 1, None), Some("unreserved concurrency [499].")),
            ((1_000, 900, 5, 0, Some(5)), None),
            ((1_000, 900, 5, 1, Some(5)), Some("greater than the reservedConcurrentExecution")),
            ((50, 0, 1, 0, None), Some("below its minimum value")),
        ];
        for ((account, others, count, beside, reserved), text) in table {
            let answer = Budget { account, others }.may_provision(count, beside, reserved);
            match (answer, text) {
                (Ok(()), None) => {}
                (Err(Refusal::Invalid(said)), Some(text)) => assert!(said.contains(text), "{said}"),
                (answer, _) => panic!("{count} of {account}, {others} taken: {answer:?}"),
            }
        }
    }

    #[test]
    fn a_reservation_holds_what_is_provisioned() {
        let budget = Budget { account: 1_000, others: 100 };
        assert!(budget.may_reserve(800, 2).is_ok());
        assert!(budget.may_reserve(2, 2).is_ok());
        assert!(Budget { account: 50, others: 0 }.may_reserve(0, 0).is_ok());
        for (reserved, provisioned, text) in [
            (
                1,
                2,
                " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2].",
            ),
            (
                801,
                0,
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].",
            ),
        ] {
            match budget.may_reserve(reserved, provisioned) {
                Err(Refusal::Invalid(said)) => assert_eq!(said, text),
                other => panic!("{other:?}"),
            }
        }
    }

    fn rows(
        of: &[(u128, u32, u32, Option<ProvisionFailure>)],
    ) -> BTreeMap<VersionId, ProvisionedRow> {
        let rows = of.iter().map(|(id, requested, allocated, failure)| {
            let mut configuration = configuration();
            configuration.id = VersionId(Uuid::from_u128(*id));
            let spec = Arc::new(configuration.spec(&key("f"), Version::Number(1)));
            let row = ProvisionedRow {
                spec,
                requested: *requested,
                allocated: *allocated,
                available: allocated.saturating_sub(1),
                failure: failure.clone(),
                leaving: false,
                invocations: 0,
                spilled: 0,
            };
            (configuration.id, row)
        });
        rows.collect()
    }

    #[test]
    fn a_status_says_what_there_is() {
        let id = |number: u128| VersionId(Uuid::from_u128(number));
        let failed = || Some(ProvisionFailure::Init { what: "Runtime.ExitError".into() });
        let failure = Status::Failed("FUNCTION_ERROR_INIT_FAILURE".into());
        // What stands by, for which versions 3 are asked for; what is shown.
        let table = [
            (rows(&[]), vec![id(1)], (0, 0, Status::InProgress)),
            (rows(&[(1, 3, 2, None)]), vec![id(1)], (2, 1, Status::InProgress)),
            (rows(&[(1, 3, 3, None)]), vec![id(1)], (3, 2, Status::Ready)),
            (rows(&[(1, 3, 1, failed())]), vec![id(1)], (1, 0, failure.clone())),
            (rows(&[(1, 3, 3, failed())]), vec![id(1)], (3, 2, Status::Ready)),
            (rows(&[(1, 5, 5, None)]), vec![id(1)], (3, 3, Status::Ready)),
            (
                rows(&[(1, 3, 3, None), (2, 3, 1, None)]),
                vec![id(1), id(2)],
                (1, 0, Status::InProgress),
            ),
            (rows(&[(1, 3, 3, None), (2, 3, 0, failed())]), vec![id(1), id(2)], (0, 0, failure)),
            (rows(&[(1, 3, 3, None)]), vec![], (0, 0, Status::InProgress)),
        ];
        for (rows, versions, (allocated, available, status)) in table {
            let shown = progress(3, &versions, &rows);
            assert_eq!(shown, Progress { allocated, available, status }, "{rows:?}");
        }
    }
}

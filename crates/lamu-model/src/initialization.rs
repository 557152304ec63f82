//! Why an environment was initialised, as Lambda names it, and how long its
//! Init may take ("Lifecycle" of the execution environment reference).
//!
//! Not here: making one (`lamu_worker`), wishing for one (`lamu_fleet`).

use crate::INIT_SECS_MAX;

/// Init of provisioned concurrency may take this long, or the function's own
/// timeout when that is longer.
pub const PROVISIONED_INIT_SECS_MIN: u64 = 130;

/// `AWS_LAMBDA_INITIALIZATION_TYPE`, and `initializationType` of the platform's
/// log events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum InitializationType {
    /// For a call that waits.
    #[default]
    OnDemand,
    /// Ahead of any call, and kept standing by.
    ProvisionedConcurrency,
}

impl InitializationType {
    pub fn as_str(self) -> &'static str {
        match self {
            InitializationType::OnDemand => "on-demand",
            InitializationType::ProvisionedConcurrency => "provisioned-concurrency",
        }
    }

    pub fn is_provisioned(self) -> bool {
        self == InitializationType::ProvisionedConcurrency
    }

    /// Longest that Init of a function with this timeout may take.
    pub fn init_secs_max(self, timeout_secs: u32) -> u64 {
        match self {
            InitializationType::OnDemand => INIT_SECS_MAX,
            InitializationType::ProvisionedConcurrency => {
                PROVISIONED_INIT_SECS_MIN.max(u64::from(timeout_secs))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provisioned_concurrency_has_time_to_initialise() {
        let provisioned = InitializationType::ProvisionedConcurrency;
        assert_eq!(InitializationType::OnDemand.init_secs_max(900), 10);
        assert_eq!(provisioned.init_secs_max(3), 130);
        assert_eq!(provisioned.init_secs_max(900), 900);
    }
}

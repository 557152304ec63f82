//! The life of a function and of a version, as `State` and `LastUpdateStatus`
//! show it ("Function state" of the API reference).
//!
//! ```text
//! Pending --settled--> Active(Successful) --updating--> Active(InProgress)
//!    |                      ^    ^                          |      |
//!    v                      |    +------------settled-------+      v
//!  Failed                   +--------- updating, settled --- Active(Failed)
//! ```
//!
//! Not here: who settles (`settle`), how it reads on the wire (`render`).

use std::sync::Arc;

use lamu_link::BootError;
use lamu_model::VersionSpec;
use serde::{Deserialize, Serialize};

/// Of `$LATEST`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Status {
    Pending,
    Active(LastUpdate),
    /// Never ran and never will: delete and create anew.
    Failed(Failure),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LastUpdate {
    Successful,
    /// Calls run what was there before.
    InProgress {
        serving: Arc<VersionSpec>,
    },
    /// Calls run what was there before, until an update succeeds.
    Failed {
        failure: Failure,
        serving: Arc<VersionSpec>,
    },
}

/// Of a published version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VersionState {
    Pending,
    Active,
    Failed(Failure),
}

/// Why it cannot run, in the words of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: FailureCode,
    pub reason: String,
}

/// The reason codes that lamu has a cause for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureCode {
    InvalidConfiguration,
    InvalidRuntime,
    InvalidSubnet,
    #[serde(rename = "EFSMountFailure")]
    EfsMountFailure,
    InvalidZipFileException,
    InternalError,
}

impl FailureCode {
    pub fn as_str(self) -> &'static str {
        match self {
            FailureCode::InvalidConfiguration => "InvalidConfiguration",
            FailureCode::InvalidRuntime => "InvalidRuntime",
            FailureCode::InvalidSubnet => "InvalidSubnet",
            FailureCode::EfsMountFailure => "EFSMountFailure",
            FailureCode::InvalidZipFileException => "InvalidZipFileException",
            FailureCode::InternalError => "InternalError",
        }
    }
}

/// Why something cannot be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The word of `State`.
    State(&'static str),
    UpdateInProgress,
    LastUpdateFailed(String),
}

impl Status {
    pub fn created() -> Status {
        Status::Pending
    }

    /// An update begins; `current` is the spec of `$LATEST` before it.
    pub fn updating(&self, current: &Arc<VersionSpec>) -> Result<Status, Blocked> {
        let serving = match self {
            Status::Active(LastUpdate::Successful) => current.clone(),
            Status::Active(LastUpdate::Failed { serving, .. }) => serving.clone(),
            Status::Active(LastUpdate::InProgress { .. }) => return Err(Blocked::UpdateInProgress),
            Status::Pending | Status::Failed(_) => return Err(Blocked::State(self.word())),
        };
        Ok(Status::Active(LastUpdate::InProgress { serving }))
    }

    /// What was begun has ended. A status with nothing begun stays.
    pub fn settled(self, result: Result<(), Failure>) -> Status {
        match (self, result) {
            (Status::Pending | Status::Active(LastUpdate::InProgress { .. }), Ok(())) => {
                Status::Active(LastUpdate::Successful)
            }
            (Status::Pending, Err(failure)) => Status::Failed(failure),
            (Status::Active(LastUpdate::InProgress { serving }), Err(failure)) => {
                Status::Active(LastUpdate::Failed { failure, serving })
            }
            (status @ (Status::Active(_) | Status::Failed(_)), _) => status,
        }
    }

    pub fn is_settled(&self) -> bool {
        !matches!(self, Status::Pending | Status::Active(LastUpdate::InProgress { .. }))
    }

    /// Publishing copies `$LATEST`, so `$LATEST` must be what it shows.
    pub fn may_publish(&self) -> Result<(), Blocked> {
        match self {
            Status::Active(LastUpdate::Successful) => Ok(()),
            Status::Active(LastUpdate::InProgress { .. }) => Err(Blocked::UpdateInProgress),
            Status::Active(LastUpdate::Failed { failure, .. }) => {
                Err(Blocked::LastUpdateFailed(failure.reason.clone()))
            }
            Status::Pending | Status::Failed(_) => Err(Blocked::State(self.word())),
        }
    }

    /// Tags change the revision, so they wait for an update; but a function
    /// that is being created takes them.
    pub fn may_tag(&self) -> Result<(), Blocked> {
        match self {
            Status::Active(LastUpdate::InProgress { .. }) => Err(Blocked::UpdateInProgress),
            _ => Ok(()),
        }
    }

    /// What a call of `$LATEST` runs.
    pub fn runnable<'a>(
        &'a self,
        latest: &'a Arc<VersionSpec>,
    ) -> Result<&'a Arc<VersionSpec>, Blocked> {
        match self {
            Status::Active(LastUpdate::Successful) => Ok(latest),
            Status::Active(
                LastUpdate::InProgress { serving } | LastUpdate::Failed { serving, .. },
            ) => Ok(serving),
            Status::Pending | Status::Failed(_) => Err(Blocked::State(self.word())),
        }
    }

    /// What runs in place of `$LATEST`, when it is not `$LATEST`.
    pub fn serving(&self) -> Option<&Arc<VersionSpec>> {
        match self {
            Status::Active(
                LastUpdate::InProgress { serving } | LastUpdate::Failed { serving, .. },
            ) => Some(serving),
            Status::Active(LastUpdate::Successful) | Status::Pending | Status::Failed(_) => None,
        }
    }

    /// The word of `State`.
    pub fn word(&self) -> &'static str {
        match self {
            Status::Pending => "Pending",
            Status::Active(_) => "Active",
            Status::Failed(_) => "Failed",
        }
    }
}

impl VersionState {
    pub fn settled(self, result: Result<(), Failure>) -> VersionState {
        match (self, result) {
            (VersionState::Pending, Ok(())) => VersionState::Active,
            (VersionState::Pending, Err(failure)) => VersionState::Failed(failure),
            (state, _) => state,
        }
    }

    pub fn runnable(&self) -> Result<(), Blocked> {
        match self {
            VersionState::Active => Ok(()),
            VersionState::Pending | VersionState::Failed(_) => Err(Blocked::State(self.word())),
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            VersionState::Pending => "Pending",
            VersionState::Active => "Active",
            VersionState::Failed(_) => "Failed",
        }
    }
}

/// What a worker's refusal to prepare means for the function. `None` when the
/// worker's trouble says nothing about it and another attempt may succeed.
pub fn failure_of(error: &BootError) -> Option<Failure> {
    let code = match error {
        BootError::RuntimeMissing { .. } => FailureCode::InvalidRuntime,
        BootError::ArchitectureMissing { .. } => FailureCode::InvalidConfiguration,
        BootError::PackageMissing { .. } | BootError::PackageUnreadable { .. } => {
            FailureCode::InvalidZipFileException
        }
        BootError::NoRoom { .. }
        | BootError::Sandbox { .. }
        | BootError::Silent { .. }
        | BootError::InitFailed { .. }
        | BootError::Fenced
        | BootError::Draining
        | BootError::WorkerGone => return None,
    };
    Some(Failure { code, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use lamu_model::{Runtime, Version};

    use super::*;
    use crate::function::document::tests::{configuration, key};

    fn spec(code: &[u8]) -> Arc<VersionSpec> {
        let mut configuration = configuration();
        configuration.code = lamu_model::Digest::of(code);
        Arc::new(configuration.spec(&key("f"), Version::Latest))
    }

    fn failure() -> Failure {
        Failure { code: FailureCode::InvalidRuntime, reason: "no python3.9".into() }
    }

    #[test]
    fn a_created_function_runs_only_once_it_has_settled() {
        let (old, pending) = (spec(b"1"), Status::created());
        assert_eq!(pending.runnable(&old), Err(Blocked::State("Pending")));
        assert_eq!(pending.updating(&old), Err(Blocked::State("Pending")));
        assert_eq!(pending.may_publish(), Err(Blocked::State("Pending")));

        let active = pending.settled(Ok(()));

        assert_eq!(active.runnable(&old), Ok(&old));
        assert_eq!(active.may_publish(), Ok(()));
        assert!(active.is_settled());
    }

    #[test]
    fn a_function_that_failed_to_settle_stays_failed() {
        let failed = Status::created().settled(Err(failure()));
        assert_eq!(failed, Status::Failed(failure()));
        assert_eq!(failed.updating(&spec(b"1")), Err(Blocked::State("Failed")));
        assert_eq!(failed.clone().settled(Ok(())), failed);
    }

    #[test]
    fn calls_during_an_update_run_what_was_there_before() {
        let (old, new) = (spec(b"1"), spec(b"2"));
        let updating = Status::created().settled(Ok(())).updating(&old).unwrap();

        assert_eq!(updating.runnable(&new), Ok(&old));
        assert_eq!(updating.updating(&new), Err(Blocked::UpdateInProgress));
        assert_eq!(updating.may_publish(), Err(Blocked::UpdateInProgress));
        assert_eq!(updating.may_tag(), Err(Blocked::UpdateInProgress));
        assert_eq!(updating.settled(Ok(())).runnable(&new), Ok(&new));
    }

    #[test]
    fn after_a_failed_update_the_last_good_code_serves_until_one_succeeds() {
        let (good, bad, next) = (spec(b"1"), spec(b"2"), spec(b"3"));
        let failed =
            Status::created().settled(Ok(())).updating(&good).unwrap().settled(Err(failure()));
        assert_eq!(failed.runnable(&bad), Ok(&good));
        assert!(matches!(failed.may_publish(), Err(Blocked::LastUpdateFailed(_))));

        let again = failed.updating(&bad).unwrap();
        assert_eq!(again.runnable(&next), Ok(&good));
        assert_eq!(again.settled(Ok(())).runnable(&next), Ok(&next));
    }

    #[test]
    fn only_troubles_of_the_function_itself_fail_it() {
        let missing =
            BootError::RuntimeMissing { runtime: Runtime::new("ruby3.4"), advice: "none".into() };
        assert_eq!(failure_of(&missing).map(|f| f.code), Some(FailureCode::InvalidRuntime));
        let broken = BootError::PackageUnreadable {
            digest: lamu_model::Digest::of(b""),
            why: "cut short".into(),
        };
        assert_eq!(failure_of(&broken).map(|f| f.code), Some(FailureCode::InvalidZipFileException));
        let arm = BootError::ArchitectureMissing {
            wanted: lamu_model::Architecture::Arm64,
            host: lamu_model::Architecture::X86_64,
        };
        assert_eq!(failure_of(&arm).map(|f| f.code), Some(FailureCode::InvalidConfiguration));
        assert_eq!(failure_of(&BootError::Draining), None);
    }
}

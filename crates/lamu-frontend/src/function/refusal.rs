//! Why the control plane says no, as values. Codes, statuses and the texts
//! that name AWS things are `crate::error`'s.

use lamu_api::ApiError;
use lamu_model::mapping::{Mapping, SourceKind};
use lamu_model::{AccountId, Arn, Region};
use lamu_store::{MetadataError, PackagesError};

use super::resource_policy::PolicyRefusal;
use super::state::Blocked;

#[derive(Debug)]
pub enum Refusal {
    /// The function, version or alias with this ARN is not there.
    NoFunction(Arn),
    /// `GetAlias` of a missing alias, which words it its own way.
    NoAlias(Arn),
    /// So does `UpdateAlias`.
    NoAliasToUpdate(Arn),
    /// The qualifier with this ARN has no event invoke config.
    NoInvokeConfig(Arn),
    /// What an event invoke config is asked for is not there.
    NothingToConfigure,
    /// The function or alias that a URL shall lead to is not there.
    NoUrlFunction,
    UrlExists(Arn),
    OtherRegion {
        asked: Region,
        here: Region,
    },
    OtherRegionsLayer {
        asked: Region,
        here: Region,
    },
    OtherAccount {
        caller: AccountId,
        action: &'static str,
        arn: Arn,
    },
    NoLayerVersion {
        arn: String,
    },
    FunctionExists {
        name: String,
    },
    AliasExists(Arn),
    /// The name says one qualifier and the parameter another.
    TwoQualifiers,
    /// Only the function itself, not a version or alias, can be asked this.
    NotTheFunction,
    /// The request itself is wrong; `lamu_api` has worded it.
    Request(ApiError),
    Blocked {
        arn: Arn,
        why: Blocked,
    },
    RevisionMismatch,
    /// The version or alias has no provisioned concurrency.
    NoProvisionedConfig,
    /// An alias shall be provisioned, or is and shall lead, to a version that
    /// is provisioned otherwise.
    AliasOfProvisionedVersion,
    /// A version shall be provisioned that a provisioned alias leads to.
    VersionOfProvisionedAlias,
    /// Of a policy; which operation tells the latest revision.
    PolicyRevisionMismatch {
        latest: &'static str,
    },
    /// Whatever was asked for, in no more words.
    NoResource,
    /// The function whose policy is to change is not there.
    NoPolicyFor(Arn),
    /// It is, and has no policy.
    NoPolicy,
    Policy(PolicyRefusal),
    VersionHasAlias {
        version: u64,
    },
    /// The check behind the model's, with its whole text.
    Invalid(String),
    /// Lambda can, lamu cannot yet; said rather than ignored.
    Unsupported {
        what: &'static str,
    },
    /// The zip itself is larger than a request may carry.
    ZipTooLarge,
    /// A configuration that is asked for by itself.
    NoSigningConfig {
        arn: String,
    },
    SigningConfigInUse {
        arn: String,
    },
    /// No trusted publisher has signed what is to be deployed.
    Unsigned,
    /// The configuration that a function has or is to have.
    CodeSigningConfigMissing {
        arn: String,
    },
    /// There is no event source mapping of this id.
    NoMapping,
    /// The same source is mapped to the same function by this one already.
    MappingExists(Box<Mapping>),
    MappingInUse {
        doing: &'static str,
    },
    /// A mapping of this kind of source would do nothing.
    NotPolled {
        kind: SourceKind,
    },
    /// More concurrent writers than attempts.
    Contended,
    Metadata(MetadataError),
    Packages(PackagesError),
    /// The platform's own trouble: what failed.
    Internal(String),
}

impl Refusal {
    pub fn invalid(text: impl Into<String>) -> Refusal {
        Refusal::Invalid(text.into())
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Refusal {
        Refusal::Request(error)
    }
}

impl From<PolicyRefusal> for Refusal {
    fn from(refusal: PolicyRefusal) -> Refusal {
        Refusal::Policy(refusal)
    }
}

impl From<MetadataError> for Refusal {
    fn from(error: MetadataError) -> Refusal {
        Refusal::Metadata(error)
    }
}

impl From<PackagesError> for Refusal {
    fn from(error: PackagesError) -> Refusal {
        Refusal::Packages(error)
    }
}

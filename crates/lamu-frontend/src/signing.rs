//! Code signing configurations: whose signatures a function's code must have.
//!
//! No package carries a signature here: AWS Signer is a service of AWS's, and
//! its signatures cannot be checked without it. So every package is untrusted,
//! and the configuration's policy decides what that means: `Enforce` refuses
//! the deployment, `Warn` lets it through and says so in the log.
//!
//! ```text
//! code-signing/<account>/<region>/<id>   SigningDoc
//! ```
//!
//! Not here: which function has which (`function::document::Live`), operations
//! as clients call them (`operations`).

pub mod store;

use std::collections::BTreeMap;

use lamu_api::Timestamp;
use lamu_api::shapes::{AllowedPublishers, CodeSigningConfig, CodeSigningPolicies};
use lamu_model::{AccountId, Arn, Region};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::function::refusal::Refusal;

/// Characters of an id behind its prefix.
const ID_CHARS: usize = 17;

const CONFIGS: &str = "code-signing/";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    pub account: AccountId,
    pub region: Region,
    /// `csc-` and 17 of a-z and 0-9.
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningDoc {
    pub description: Option<String>,
    /// ARNs of signing profile versions.
    pub publishers: Vec<String>,
    pub untrusted: Untrusted,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
    pub tags: BTreeMap<String, String>,
}

/// What becomes of a deployment without a trusted signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Untrusted {
    #[default]
    Warn,
    Enforce,
}

impl Untrusted {
    pub fn read(policies: Option<&CodeSigningPolicies>) -> Option<Untrusted> {
        match policies?.untrusted_artifact_on_deployment.as_deref()? {
            "Enforce" => Some(Untrusted::Enforce),
            _ => Some(Untrusted::Warn),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Untrusted::Warn => "Warn",
            Untrusted::Enforce => "Enforce",
        }
    }

    /// Whether a package that no trusted publisher has signed may be deployed.
    pub fn check(self) -> Result<(), Refusal> {
        match self {
            Untrusted::Warn => Ok(()),
            Untrusted::Enforce => Err(Refusal::Unsigned),
        }
    }
}

impl SigningKey {
    pub fn fresh(account: &AccountId, region: &Region) -> SigningKey {
        let mut id = Uuid::new_v4().simple().to_string();
        id.truncate(ID_CHARS);
        SigningKey { account: account.clone(), region: region.clone(), id: format!("csc-{id}") }
    }

    /// Reads the ARN of a configuration, whose form the model has checked.
    pub fn parse(arn: &str) -> Option<SigningKey> {
        let whole: Vec<&str> = arn.split(':').collect();
        let [_, _, _, region, account, "code-signing-config", id] = whole[..] else { return None };
        Some(SigningKey {
            account: AccountId::new(account),
            region: Region::new(region),
            id: id.to_owned(),
        })
    }

    pub fn arn(&self) -> Arn {
        Arn::new(format!(
            "arn:aws:lambda:{}:{}:code-signing-config:{}",
            self.region, self.account, self.id
        ))
    }

    pub fn document(&self) -> String {
        format!("{}{}", of_account(&self.account, &self.region), self.id)
    }
}

/// What the documents of an account's configurations begin with.
pub fn of_account(account: &AccountId, region: &Region) -> String {
    format!("{CONFIGS}{account}/{region}/")
}

/// A configuration as the API shows it.
pub fn render(key: &SigningKey, doc: &SigningDoc) -> CodeSigningConfig {
    CodeSigningConfig {
        allowed_publishers: AllowedPublishers {
            signing_profile_version_arns: doc.publishers.clone(),
        },
        code_signing_config_arn: key.arn().to_string(),
        code_signing_config_id: key.id.clone(),
        code_signing_policies: CodeSigningPolicies {
            untrusted_artifact_on_deployment: Some(doc.untrusted.as_str().to_owned()),
        },
        description: doc.description.clone(),
        last_modified: Timestamp::from_millis(doc.modified_ms).offset_millis(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key() -> SigningKey {
        SigningKey::fresh(&AccountId::new("000000000000"), &Region::new("us-east-1"))
    }

    #[test]
    fn an_id_has_the_form_of_the_service_and_reads_back() {
        let key = key();
        let random = key.id.strip_prefix("csc-").unwrap();
        assert_eq!(random.len(), 17);
        assert!(random.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{random}");
        assert_eq!(SigningKey::parse(key.arn().as_str()), Some(key.clone()));
        assert_ne!(self::key().id, key.id);
        assert_eq!(SigningKey::parse("arn:aws:lambda:us-east-1:000000000000:function:f"), None);
    }

    #[test]
    fn without_a_policy_the_untrusted_is_let_through() {
        let policy = |word: Option<&str>| CodeSigningPolicies {
            untrusted_artifact_on_deployment: word.map(str::to_owned),
        };
        assert_eq!(Untrusted::read(None), None);
        assert_eq!(Untrusted::read(Some(&policy(None))), None);
        assert_eq!(Untrusted::read(Some(&policy(Some("Warn")))), Some(Untrusted::Warn));
        assert_eq!(Untrusted::read(Some(&policy(Some("Enforce")))), Some(Untrusted::Enforce));
        assert!(Untrusted::default().check().is_ok());
        assert!(matches!(Untrusted::Enforce.check(), Err(Refusal::Unsigned)));
    }
}

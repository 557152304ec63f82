//! The documents a layer is made of, as they are stored.
//!
//! ```text
//! layer/<account>/<region>/<name>                   LayerHead: the counter
//! layer-version/<account>/<region>/<name>/<place>   LayerVersionDoc, immutable
//!                                                   but for who may use it
//! ```
//!
//! The place counts down, so that the order of keys is the order in which
//! versions are listed: the newest first. The counter is written before the
//! version that it counts, and outlives all of them, so that a number is never
//! given twice; a crash between the two writes leaves a number unused.
//!
//! Not here: reading and writing them (`store`).

use std::sync::Arc;

use lamu_model::{AccountId, Digest, Region};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::name::{LayerKey, LayerVersionKey};
use crate::function::resource_policy::ResourcePolicy;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerHead {
    pub last_version: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerVersionDoc {
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    pub description: String,
    pub license: Option<String>,
    /// `None` when never given; shown differently from empty.
    pub runtimes: Option<Vec<String>>,
    pub architectures: Option<Vec<String>>,
    pub code: Digest,
    pub code_bytes: u64,
    pub unzipped_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Shared>,
}

/// Who else may use a layer version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    pub policy: Arc<ResourcePolicy>,
    pub revision_id: Uuid,
}

pub const HEADS: &str = "layer/";
pub const VERSIONS: &str = "layer-version/";

/// Sorts behind every place.
const END: char = '~';

impl LayerKey {
    pub fn document(&self) -> String {
        format!("{HEADS}{}/{}/{}", self.account, self.region, self.name)
    }

    /// What the documents of its versions begin with.
    pub fn versions(&self) -> String {
        format!("{}{}/", of_account(&self.account, &self.region), self.name)
    }

    /// Behind the last of its versions.
    pub fn behind_versions(&self) -> String {
        format!("{}{END}", self.versions())
    }
}

impl LayerVersionKey {
    pub fn document(&self) -> String {
        format!("{}{}", self.layer.versions(), self.place())
    }

    /// Wide enough for any number.
    pub fn place(&self) -> String {
        format!("{:020}", u64::MAX - self.number)
    }

    pub fn of_document(document: &str) -> Option<LayerVersionKey> {
        let mut parts = document.strip_prefix(VERSIONS)?.split('/');
        let (account, region) = (parts.next()?, parts.next()?);
        let (name, place) = (parts.next()?, parts.next()?.parse::<u64>().ok()?);
        parts.next().is_none().then(|| {
            let layer = LayerKey {
                account: AccountId::new(account),
                region: Region::new(region),
                name: name.to_owned(),
            };
            layer.version(u64::MAX - place)
        })
    }
}

/// What the documents of an account's layer versions begin with.
pub fn of_account(account: &AccountId, region: &Region) -> String {
    format!("{VERSIONS}{account}/{region}/")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::layer::name::tests::layer;

    pub(crate) fn doc(bytes: &[u8]) -> LayerVersionDoc {
        LayerVersionDoc {
            created_ms: 1_762_161_327_123,
            description: String::new(),
            license: None,
            runtimes: None,
            architectures: None,
            code: Digest::of(bytes),
            code_bytes: bytes.len() as u64,
            unzipped_bytes: 10,
            shared: None,
        }
    }

    #[test]
    fn a_document_key_reads_back_to_what_it_names() {
        let version = layer("tools").version(3);
        assert_eq!(LayerVersionKey::of_document(&version.document()), Some(version.clone()));
        assert_eq!(LayerVersionKey::of_document(&version.layer.document()), None);
        assert_eq!(LayerVersionKey::of_document(&version.layer.versions()), None);
    }

    #[test]
    fn newer_versions_come_first_and_all_before_the_end() {
        let layer = layer("tools");
        assert!(layer.version(10).document() < layer.version(9).document());
        assert!(layer.version(1).document() < layer.behind_versions());
        assert!(layer.version(u64::MAX).document() < layer.version(1).document());
    }
}

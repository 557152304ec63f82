//! The documents a function is made of, as they are stored.
//!
//! ```text
//! function/<account>/<region>/<name>   Head: $LATEST, settings, the counter
//! version/<uid>/<number>               VersionDoc, immutable but for its state
//! alias/<uid>/<name>                   AliasDoc
//! ```
//!
//! No write covers two documents, so the head decides: a version exists if its
//! number is not above `Head::last_version`, its document is there and the
//! head is live under the same `uid`. What an interrupted write leaves beside
//! that is invisible, and swept at the next start.
//!
//! Not here: reading and writing them (`store`), the rules between them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use lamu_model::{
    AccountId, Architecture, Arn, Digest, FunctionName, LogConfig, Region, Runtime, Version,
    VersionId, VersionSpec,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::resource_policy::ResourcePolicy;
use super::state::{Status, VersionState};

/// What a function is called: unique while it lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FunctionKey {
    pub account: AccountId,
    pub region: Region,
    pub name: FunctionName,
}

/// One life of a function, from create to delete. A function that is created
/// again under the same name is another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(pub Uuid);

/// The head document. It outlives its function: the counter goes on, so that
/// a version number is never given twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub uid: Uid,
    pub last_version: u64,
    /// Nothing once the function was deleted.
    pub live: Option<Live>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// `$LATEST`, as it is shown; what of it runs is the status's to say.
    pub latest: Configuration,
    pub status: Status,
    pub reserved_concurrency: Option<u32>,
    /// By the version's number or the alias's name.
    #[serde(default)]
    pub provisioned: BTreeMap<String, ProvisionedConfig>,
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub recursive_loop: RecursiveLoop,
    /// ARN of its code signing configuration.
    #[serde(default)]
    pub code_signing: Option<String>,
    /// Who else may do what with the function by its bare name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Arc<ResourcePolicy>>,
}

/// What becomes of a call that went round in a circle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecursiveLoop {
    #[default]
    Terminate,
    Allow,
}

impl RecursiveLoop {
    pub fn as_str(self) -> &'static str {
        match self {
            RecursiveLoop::Terminate => "Terminate",
            RecursiveLoop::Allow => "Allow",
        }
    }
}

/// How many environments of a version or alias shall stand by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionedConfig {
    pub count: u32,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionDoc {
    pub function: FunctionKey,
    pub number: u64,
    pub configuration: Configuration,
    /// The description of `$LATEST` at publish; the version may have another.
    pub source_description: String,
    pub state: VersionState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Arc<ResourcePolicy>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AliasDoc {
    pub name: String,
    pub version: Version,
    pub description: String,
    pub revision_id: Uuid,
    pub routing: Option<Routing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Arc<ResourcePolicy>>,
}

/// The second version of an alias and its share of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Routing {
    pub version: u64,
    /// 0.0 to 1.0.
    pub weight: f64,
}

/// Code and settings of `$LATEST` or of one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    pub id: VersionId,
    pub revision_id: Uuid,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
    pub description: String,
    pub role: String,
    pub runtime: Runtime,
    pub handler: String,
    pub timeout_secs: u32,
    pub memory_mib: u32,
    pub ephemeral_mib: u32,
    /// `None` when never given; shown differently from empty.
    pub environment: Option<BTreeMap<String, String>>,
    pub tracing_active: bool,
    pub log: LogConfig,
    pub architecture: Architecture,
    pub dead_letter_target: Option<String>,
    pub code: Digest,
    pub code_bytes: u64,
    /// `None` in documents from before it was noted.
    #[serde(default)]
    pub code_unzipped_bytes: Option<u64>,
    /// In the order they are laid over each other.
    #[serde(default)]
    pub layers: Vec<LayerRef>,
    /// Kept and shown: nothing is encrypted with it here.
    #[serde(default)]
    pub kms_key_arn: Option<String>,
    /// `None` when never given; empty is nothing asked for.
    #[serde(default)]
    pub vpc: Option<Vpc>,
    #[serde(default)]
    pub file_systems: Vec<FileSystem>,
}

/// A layer version as a function has it: all it takes to run, so that the
/// function keeps it when the version is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// Of the version.
    pub arn: Arn,
    pub code: Digest,
    pub code_bytes: u64,
    pub unzipped_bytes: u64,
}

/// The network that a function asks to be in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    pub ipv6: Option<bool>,
}

/// A file system that a function asks to have mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    pub arn: String,
    pub mount_path: String,
    pub direct_s3_read: Option<String>,
}

impl Configuration {
    /// What it takes to run this under the given name and version.
    pub fn spec(&self, key: &FunctionKey, version: Version) -> VersionSpec {
        VersionSpec {
            id: self.id,
            account: key.account.clone(),
            region: key.region.clone(),
            name: key.name.clone(),
            version,
            runtime: self.runtime.clone(),
            handler: self.handler.clone(),
            code: self.code,
            layers: self.layers.iter().map(|layer| layer.code).collect(),
            memory_mib: self.memory_mib,
            timeout_secs: self.timeout_secs,
            ephemeral_mib: self.ephemeral_mib,
            environment: self.environment.clone().unwrap_or_default(),
            log: self.log.clone(),
            tracing_active: self.tracing_active,
            architecture: self.architecture,
        }
    }
}

impl Configuration {
    /// Packages that it refers to.
    pub fn packages(&self) -> impl Iterator<Item = Digest> + '_ {
        std::iter::once(self.code).chain(self.layers.iter().map(|layer| layer.code))
    }
}

impl Head {
    /// Packages that this head refers to by itself.
    pub fn packages(&self) -> impl Iterator<Item = Digest> + '_ {
        let live = self.live.iter();
        live.flat_map(|live| {
            let serving: Option<&Arc<VersionSpec>> = live.status.serving();
            let served = serving.into_iter();
            let served =
                served.flat_map(|spec| std::iter::once(spec.code).chain(spec.layers.clone()));
            live.latest.packages().chain(served)
        })
    }
}

pub const HEADS: &str = "function/";
pub const VERSIONS: &str = "version/";
pub const ALIASES: &str = "alias/";

impl FunctionKey {
    pub fn document(&self) -> String {
        format!("{HEADS}{}/{}/{}", self.account, self.region, self.name)
    }

    pub fn parse(document: &str) -> Option<FunctionKey> {
        let mut parts = document.strip_prefix(HEADS)?.split('/');
        let (account, region, name) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && !name.is_empty();
        whole.then(|| FunctionKey {
            account: AccountId::new(account),
            region: Region::new(region),
            name: FunctionName::new(name),
        })
    }

    /// The unqualified ARN.
    pub fn arn(&self) -> Arn {
        Arn::function(&self.region, &self.account, &self.name)
    }
}

impl Uid {
    /// Wide enough for any `u64`, so that key order is number order.
    pub fn version_document(&self, number: u64) -> String {
        format!("{VERSIONS}{self}/{number:020}")
    }

    pub fn alias_document(&self, name: &str) -> String {
        format!("{ALIASES}{self}/{name}")
    }

    pub fn parse_version(document: &str) -> Option<(Uid, u64)> {
        let (uid, number) = document.strip_prefix(VERSIONS)?.split_once('/')?;
        Some((Uid(Uuid::try_parse(uid).ok()?), number.parse().ok()?))
    }

    pub fn parse_alias(document: &str) -> Option<(Uid, &str)> {
        let (uid, name) = document.strip_prefix(ALIASES)?.split_once('/')?;
        Some((Uid(Uuid::try_parse(uid).ok()?), name))
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use lamu_model::{LogFormat, LogLevel};

    use super::*;

    pub(crate) fn key(name: &str) -> FunctionKey {
        FunctionKey {
            account: AccountId::new("000000000000"),
            region: Region::new("us-east-1"),
            name: FunctionName::new(name),
        }
    }

    pub(crate) fn configuration() -> Configuration {
        Configuration {
            id: VersionId(Uuid::from_u128(1)),
            revision_id: Uuid::from_u128(2),
            modified_ms: 1_762_161_327_123,
            description: String::new(),
            role: "arn:aws:iam::000000000000:role/r".into(),
            runtime: Runtime::new("python3.12"),
            handler: "index.handler".into(),
            timeout_secs: 3,
            memory_mib: 128,
            ephemeral_mib: 512,
            environment: None,
            tracing_active: false,
            log: LogConfig {
                format: LogFormat::Text,
                group: "/aws/lambda/f".into(),
                application_level: LogLevel::Info,
                system_level: LogLevel::Info,
            },
            architecture: Architecture::X86_64,
            dead_letter_target: None,
            code: Digest::of(b"zip"),
            code_bytes: 3,
            code_unzipped_bytes: Some(10),
            layers: Vec::new(),
            kms_key_arn: None,
            vpc: None,
            file_systems: Vec::new(),
        }
    }

    #[test]
    fn a_document_key_reads_back_to_what_it_names() {
        let key = key("f");
        assert_eq!(FunctionKey::parse(&key.document()), Some(key));
        assert_eq!(FunctionKey::parse("function/1/2"), None);
        assert_eq!(FunctionKey::parse("function/1/2/3/4"), None);

        let uid = Uid(Uuid::from_u128(7));
        assert_eq!(Uid::parse_version(&uid.version_document(12)), Some((uid, 12)));
        assert_eq!(Uid::parse_alias(&uid.alias_document("prod")), Some((uid, "prod")));
    }

    #[test]
    fn version_documents_sort_by_number() {
        let uid = Uid(Uuid::from_u128(7));
        assert!(uid.version_document(9) < uid.version_document(10));
        assert!(uid.version_document(99) < uid.version_document(u64::MAX));
    }

    #[test]
    fn a_configuration_of_before_its_newer_members_is_read() {
        let mut stored = serde_json::to_value(configuration()).unwrap();
        for member in ["kms_key_arn", "vpc", "file_systems"] {
            stored.as_object_mut().unwrap().remove(member);
        }
        assert_eq!(serde_json::from_value::<Configuration>(stored).unwrap(), configuration());
    }

    #[test]
    fn a_head_survives_being_stored() {
        let layer = |bytes: &[u8]| LayerRef {
            arn: Arn::new("arn:aws:lambda:us-east-1:000000000000:layer:l:1"),
            code: Digest::of(bytes),
            code_bytes: 1,
            unzipped_bytes: 2,
        };
        let with = |layers| Configuration { layers, ..configuration() };
        let before = with(vec![layer(b"1"), layer(b"2")]);
        let spec = Arc::new(before.spec(&key("f"), Version::Latest));
        let live = Live {
            latest: with(vec![layer(b"3")]),
            status: Status::created().settled(Ok(())).updating(&spec).unwrap(),
            reserved_concurrency: Some(3),
            provisioned: BTreeMap::from([(
                "prod".into(),
                ProvisionedConfig { count: 2, modified_ms: 5 },
            )]),
            tags: BTreeMap::from([("k".into(), "v".into())]),
            recursive_loop: RecursiveLoop::Allow,
            code_signing: None,
            policy: None,
        };
        let head = Head { uid: Uid(Uuid::from_u128(7)), last_version: 4, live: Some(live) };

        let stored = serde_json::to_vec(&head).unwrap();

        assert_eq!(serde_json::from_slice::<Head>(&stored).unwrap(), head);
        let packages: Vec<Digest> = head.packages().collect();
        let all: [&[u8]; 5] = [b"zip", b"3", b"zip", b"1", b"2"];
        assert_eq!(packages, all.map(Digest::of));

        // As it was written before there was provisioned concurrency.
        let mut older: serde_json::Value = serde_json::from_slice(&stored).unwrap();
        older["live"].as_object_mut().unwrap().remove("provisioned").unwrap();
        let read: Head = serde_json::from_value(older).unwrap();
        assert!(read.live.unwrap().provisioned.is_empty());
    }

    #[test]
    fn a_configuration_from_before_layers_is_still_read() {
        let mut stored = serde_json::to_value(configuration()).unwrap();
        let members = stored.as_object_mut().unwrap();
        assert!(members.remove("layers").is_some());
        assert!(members.remove("code_unzipped_bytes").is_some());

        let read: Configuration = serde_json::from_value(stored).unwrap();

        assert_eq!((read.layers, read.code_unzipped_bytes), (Vec::new(), None));
    }
}

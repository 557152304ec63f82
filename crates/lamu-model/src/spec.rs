//! What it takes to run one version of a function: the part of its
//! configuration that manager, placement and worker need.
//!
//! Not here: the whole configuration as the API stores it (`lamu_frontend`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AccountId, Arn, Digest, FunctionName, Region, Runtime, Version, VersionId};

/// One immutable version, ready to be run. Shared as `Arc<VersionSpec>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSpec {
    pub id: VersionId,
    pub account: AccountId,
    pub region: Region,
    pub name: FunctionName,
    pub version: Version,
    pub runtime: Runtime,
    pub handler: String,
    /// The zip in the package store.
    pub code: Digest,
    /// Layer zips in the order they are laid over each other.
    pub layers: Vec<Digest>,
    pub memory_mib: u32,
    pub timeout_secs: u32,
    pub ephemeral_mib: u32,
    /// The user's variables only.
    pub environment: BTreeMap<String, String>,
    pub log: LogConfig,
    /// `TracingConfig.Mode` is `Active`.
    pub tracing_active: bool,
}

impl VersionSpec {
    /// The function's unqualified ARN.
    pub fn function_arn(&self) -> Arn {
        Arn::function(&self.region, &self.account, &self.name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    pub format: LogFormat,
    pub group: String,
    /// Levels apply to the JSON format only.
    pub application_level: LogLevel,
    pub system_level: LogLevel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    Text,
    #[serde(rename = "JSON")]
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

//! What it takes to run one version of a function: the part of its
//! configuration that manager, placement and worker need.
//!
//! Not here: the whole configuration as the API stores it (`lamu_frontend`).

use std::collections::BTreeMap;
use std::fmt;

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
    #[serde(default)]
    pub architecture: Architecture,
}

/// The instruction set that the code was made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    #[serde(rename = "arm64")]
    Arm64,
}

impl Architecture {
    pub fn as_str(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Arm64 => "arm64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
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

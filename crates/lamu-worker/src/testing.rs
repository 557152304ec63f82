//! What several test modules need. Compiled for tests only.

use std::collections::BTreeMap;

use lamu_model::{
    AccountId, Digest, FunctionName, LogConfig, LogFormat, LogLevel, Region, Runtime, Version,
    VersionId, VersionSpec,
};
use uuid::Uuid;

/// A small function on a custom runtime.
pub fn spec() -> VersionSpec {
    VersionSpec {
        id: VersionId(Uuid::new_v4()),
        account: AccountId::new("123456789012"),
        region: Region::new("us-east-1"),
        name: FunctionName::new("f"),
        version: Version::Latest,
        runtime: Runtime::new("provided.al2023"),
        handler: "app.handler".to_owned(),
        code: Digest::of(b"code"),
        layers: Vec::new(),
        memory_mib: 128,
        timeout_secs: 3,
        ephemeral_mib: 512,
        environment: BTreeMap::new(),
        log: LogConfig {
            format: LogFormat::Text,
            group: "/aws/lambda/f".to_owned(),
            application_level: LogLevel::Info,
            system_level: LogLevel::Info,
        },
        tracing_active: false,
        architecture: match cfg!(target_arch = "aarch64") {
            true => lamu_model::Architecture::Arm64,
            false => lamu_model::Architecture::X86_64,
        },
    }
}

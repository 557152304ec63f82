//! Functions, versions and aliases as the API shows them ("Configuration
//! fields" and "Function state" of the API reference).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lamu_api::Timestamp;
use lamu_api::shapes::{
    AliasConfiguration, AliasRoutingConfiguration, DeadLetterConfig, EnvironmentResponse,
    EphemeralStorage, FileSystemConfig, FunctionConfiguration, Layer, LoggingConfig,
    RuntimeVersionConfig, S3FilesConfig, SnapStartResponse, TracingConfigResponse,
    VpcConfigResponse,
};
use lamu_model::{Arn, Digest, LogFormat, LogLevel, Version};

use super::document::{
    AliasDoc, Configuration, FileSystem, FunctionKey, LayerRef, Live, VersionDoc, Vpc,
};
use super::state::{LastUpdate, Status, VersionState};

/// `$LATEST` with its state.
pub fn latest(key: &FunctionKey, arn: &Arn, live: &Live) -> FunctionConfiguration {
    let mut shown = configuration(key, arn, Version::Latest, &live.latest);
    show_status(&mut shown, &live.status);
    shown
}

/// One version with its state.
pub fn version(key: &FunctionKey, arn: &Arn, version: &VersionDoc) -> FunctionConfiguration {
    let number = Version::Number(version.number);
    let mut shown = configuration(key, arn, number, &version.configuration);
    match &version.state {
        VersionState::Pending => show_status(&mut shown, &Status::Pending),
        VersionState::Active => show_status(&mut shown, &Status::Active(LastUpdate::Successful)),
        VersionState::Failed(failure) => {
            show_status(&mut shown, &Status::Failed(failure.clone()));
        }
    }
    shown
}

/// As lists show it: without anything that changes by itself.
pub fn in_list(mut shown: FunctionConfiguration) -> FunctionConfiguration {
    shown.state = None;
    shown.state_reason = None;
    shown.state_reason_code = None;
    shown.last_update_status = None;
    shown.last_update_status_reason = None;
    shown.last_update_status_reason_code = None;
    shown.runtime_version_config = None;
    shown
}

pub fn alias(key: &FunctionKey, alias: &AliasDoc) -> AliasConfiguration {
    let routing_config = alias.routing.map(|routing| AliasRoutingConfiguration {
        additional_version_weights: Some(BTreeMap::from([(
            routing.version.to_string(),
            routing.weight,
        )])),
    });
    AliasConfiguration {
        alias_arn: Some(key.arn().qualified(&alias.name).to_string()),
        name: Some(alias.name.clone()),
        function_version: Some(alias.version.to_string()),
        description: Some(alias.description.clone()),
        revision_id: Some(alias.revision_id.to_string()),
        routing_config,
    }
}

/// `CodeSha256`: base64 of the digest.
pub fn code_sha256(code: &Digest) -> String {
    STANDARD.encode(code.0)
}

pub fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "TRACE",
        LogLevel::Debug => "DEBUG",
        LogLevel::Info => "INFO",
        LogLevel::Warn => "WARN",
        LogLevel::Error => "ERROR",
        LogLevel::Fatal => "FATAL",
    }
}

fn configuration(
    key: &FunctionKey,
    arn: &Arn,
    version: Version,
    of: &Configuration,
) -> FunctionConfiguration {
    let environment = of.environment.clone();
    let json = of.log.format == LogFormat::Json;
    let number = |value: u32| i32::try_from(value).ok();
    FunctionConfiguration {
        architectures: Some(vec![of.architecture.as_str().to_owned()]),
        code_sha256: Some(code_sha256(&of.code)),
        code_size: i64::try_from(of.code_bytes).ok(),
        dead_letter_config: of
            .dead_letter_target
            .clone()
            .map(|target| DeadLetterConfig { target_arn: Some(target) }),
        description: Some(of.description.clone()),
        environment: environment
            .map(|variables| EnvironmentResponse { variables: Some(variables), error: None }),
        ephemeral_storage: number(of.ephemeral_mib).map(|size| EphemeralStorage { size }),
        file_system_configs: file_systems(&of.file_systems),
        function_arn: Some(arn.to_string()),
        function_name: Some(key.name.to_string()),
        handler: Some(of.handler.clone()),
        kms_key_arn: of.kms_key_arn.clone(),
        last_modified: Some(Timestamp::from_millis(of.modified_ms).offset_millis()),
        layers: (!of.layers.is_empty()).then(|| of.layers.iter().map(layer).collect()),
        logging_config: Some(LoggingConfig {
            log_format: Some(if json { "JSON" } else { "Text" }.to_owned()),
            log_group: Some(of.log.group.clone()),
            application_log_level: json.then(|| log_level(of.log.application_level).to_owned()),
            system_log_level: json.then(|| log_level(of.log.system_level).to_owned()),
        }),
        memory_size: number(of.memory_mib),
        package_type: Some("Zip".to_owned()),
        revision_id: Some(of.revision_id.to_string()),
        role: Some(of.role.clone()),
        runtime: Some(of.runtime.to_string()),
        runtime_version_config: Some(RuntimeVersionConfig {
            runtime_version_arn: Some(of.runtime.version_arn(&key.region).to_string()),
            error: None,
        }),
        snap_start: Some(SnapStartResponse {
            apply_on: Some("None".to_owned()),
            optimization_status: Some("Off".to_owned()),
        }),
        timeout: number(of.timeout_secs),
        tracing_config: Some(TracingConfigResponse {
            mode: Some(if of.tracing_active { "Active" } else { "PassThrough" }.to_owned()),
        }),
        version: Some(version.to_string()),
        vpc_config: of.vpc.as_ref().map(vpc),
        ..FunctionConfiguration::default()
    }
}

fn layer(layer: &LayerRef) -> Layer {
    Layer {
        arn: Some(layer.arn.to_string()),
        code_size: i64::try_from(layer.code_bytes).ok(),
        ..Layer::default()
    }
}

/// No subnet is of any VPC that is known here, so only the id of none is
/// shown.
fn vpc(vpc: &Vpc) -> VpcConfigResponse {
    VpcConfigResponse {
        subnet_ids: Some(vpc.subnets.clone()),
        security_group_ids: Some(vpc.security_groups.clone()),
        ipv6_allowed_for_dual_stack: vpc.ipv6,
        vpc_id: vpc.subnets.is_empty().then(String::new),
    }
}

fn file_systems(mounts: &[FileSystem]) -> Option<Vec<FileSystemConfig>> {
    let mounts = mounts.iter().map(|mount| FileSystemConfig {
        arn: mount.arn.clone(),
        local_mount_path: mount.mount_path.clone(),
        s3_files_config: mount
            .direct_s3_read
            .clone()
            .map(|read| S3FilesConfig { direct_s3_read: Some(read) }),
    });
    Some(mounts.collect::<Vec<_>>()).filter(|mounts| !mounts.is_empty())
}

fn show_status(shown: &mut FunctionConfiguration, status: &Status) {
    let creating = || ("The function is being created.".to_owned(), "Creating".to_owned());
    shown.state = Some(status.word().to_owned());
    match status {
        Status::Pending => {
            let (reason, code) = creating();
            shown.state_reason = Some(reason);
            shown.state_reason_code = Some(code);
        }
        Status::Failed(failure) => {
            shown.state_reason = Some(failure.reason.clone());
            shown.state_reason_code = Some(failure.code.as_str().to_owned());
        }
        Status::Active(LastUpdate::Successful) => {
            shown.last_update_status = Some("Successful".to_owned());
        }
        Status::Active(LastUpdate::InProgress { .. }) => {
            let (reason, code) = creating();
            shown.last_update_status = Some("InProgress".to_owned());
            shown.last_update_status_reason = Some(reason);
            shown.last_update_status_reason_code = Some(code);
        }
        Status::Active(LastUpdate::Failed { failure, .. }) => {
            shown.last_update_status = Some("Failed".to_owned());
            shown.last_update_status_reason = Some(failure.reason.clone());
            shown.last_update_status_reason_code = Some(failure.code.as_str().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::function::document::tests::{configuration, key};
    use crate::function::state::{Failure, FailureCode};

    fn live(status: Status) -> Live {
        let latest = configuration();
        Live {
            latest,
            status,
            reserved_concurrency: None,
            provisioned: BTreeMap::new(),
            tags: BTreeMap::new(),
            recursive_loop: Default::default(),
            code_signing: None,
            policy: None,
        }
    }

    #[test]
    fn a_fresh_function_answers_as_the_service_does() {
        let key = key("f");
        let shown = latest(&key, &key.arn(), &live(Status::created()));
        let shown = serde_json::to_value(shown).unwrap();
        let arn = shown["RuntimeVersionConfig"]["RuntimeVersionArn"].clone();
        assert_eq!(arn.as_str().unwrap().len(), "arn:aws:lambda:us-east-1::runtime:".len() + 64);
        let expected = serde_json::json!({
            "Architectures": ["x86_64"],
            "CodeSha256": code_sha256(&Digest::of(b"zip")),
            "CodeSize": 3,
            "Description": "",
            "EphemeralStorage": {"Size": 512},
            "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f",
            "FunctionName": "f",
            "Handler": "index.handler",
            "LastModified": "2025-11-03T09:15:27.123+0000",
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/f"},
            "MemorySize": 128,
            "PackageType": "Zip",
            "RevisionId": "00000000-0000-0000-0000-000000000002",
            "Role": "arn:aws:iam::000000000000:role/r",
            "Runtime": "python3.12",
            "RuntimeVersionConfig": {"RuntimeVersionArn": arn},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "State": "Pending",
            "StateReason": "The function is being created.",
            "StateReasonCode": "Creating",
            "Timeout": 3,
            "TracingConfig": {"Mode": "PassThrough"},
            "Version": "$LATEST",
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn each_status_shows_its_own_members() {
        let key = key("f");
        let spec = Arc::new(configuration().spec(&key, Version::Latest));
        let failure = Failure { code: FailureCode::InvalidRuntime, reason: "none here".into() };
        let active = Status::created().settled(Ok(()));
        let updating = active.updating(&spec).unwrap();
        let failed = updating.clone().settled(Err(failure.clone()));
        let table = [
            (active, ("Active", None, Some("Successful"), None)),
            (updating, ("Active", None, Some("InProgress"), Some("Creating"))),
            (failed, ("Active", None, Some("Failed"), Some("InvalidRuntime"))),
            (Status::Failed(failure), ("Failed", Some("InvalidRuntime"), None, None)),
        ];
        for (status, (state, state_code, update, update_code)) in table {
            let shown = latest(&key, &key.arn(), &live(status.clone()));
            assert_eq!(shown.state.as_deref(), Some(state), "{status:?}");
            assert_eq!(shown.state_reason_code.as_deref(), state_code, "{status:?}");
            assert_eq!(shown.last_update_status.as_deref(), update, "{status:?}");
            assert_eq!(shown.last_update_status_reason_code.as_deref(), update_code, "{status:?}");
            let listed = in_list(shown);
            assert_eq!((listed.state, listed.last_update_status), (None, None));
        }
    }

    #[test]
    fn levels_show_with_the_json_format_only() {
        let key = key("f");
        let mut live = live(Status::created());
        live.latest.log.format = LogFormat::Json;
        let shown = latest(&key, &key.arn(), &live).logging_config.unwrap();
        assert_eq!(shown.application_log_level.as_deref(), Some("INFO"));
        assert_eq!(shown.system_log_level.as_deref(), Some("INFO"));
    }
}

//! From a request to a configuration: defaults, merging, and the checks behind
//! the model's ("Configuration fields" of the API reference).
//!
//! A setting that lamu cannot honour yet is refused, not stored and ignored;
//! one that only this host cannot give fails the function later (`beyond`).
//!
//! Not here: code (`crate::code`), environment variables in detail
//! (`environment`), runtimes (`runtimes`).

use lamu_api::ApiError;
use lamu_api::ErrorCode;
use lamu_api::shapes::{
    CreateFunctionRequest, DeadLetterConfig, EphemeralStorage, ImageConfig, LoggingConfig,
    SnapStart, TracingConfig, UpdateFunctionConfigurationRequest,
};
use lamu_model::{
    Architecture, Digest, EPHEMERAL_MIB_DEFAULT, FunctionName, LogConfig, LogFormat, LogLevel,
    MEMORY_MIB_DEFAULT, MEMORY_MIB_MAX, Runtime, TIMEOUT_SECS_DEFAULT, TIMEOUT_SECS_MAX,
};

use super::beyond;
use super::document::{Configuration, LayerRef};
use super::environment;
use super::publish::Fresh;
use super::refusal::Refusal;
use super::runtimes;
use crate::layer::select;

const TAGS_MAX: usize = 50;
const NAME_CHARS_MAX: usize = 64;
const EPHEMERAL_MIB_MAX: u32 = 10_240;

/// Where the code of a configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeRef {
    pub digest: Digest,
    pub bytes: u64,
    pub unzipped_bytes: u64,
}

/// Everything about a create request that needs neither its code nor a store.
pub fn check_create(name: &FunctionName, request: &CreateFunctionRequest) -> Result<(), Refusal> {
    if name.as_str().len() > NAME_CHARS_MAX {
        return Err(Refusal::invalid(format!(
            "1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to {NAME_CHARS_MAX}"
        )));
    }
    if request.package_type.as_deref() == Some("Image") || request.code.image_uri.is_some() {
        return Err(Refusal::Unsupported { what: "PackageType Image" });
    }
    let missing = |member| {
        Refusal::invalid(format!(
            "{member} is mandatory for functions created with deployment packages (.zip files)."
        ))
    };
    let runtime = request.runtime.as_deref().ok_or_else(|| missing("Runtime"))?;
    runtimes::check(runtime)?;
    if request.handler.is_none() {
        return Err(missing("Handler"));
    }
    refuse_if(request.tenancy_config.is_some(), "TenancyConfig")?;
    refuse_if(request.durable_config.is_some(), "DurableConfig")?;
    refuse_if(request.publish_to.is_some(), "PublishTo")?;
    refuse_if(request.accelerator_config.is_some(), "AcceleratorConfig")?;
    refuse_if(request.capacity_provider_config.is_some(), "CapacityProviderConfig")?;
    refuse_if(request.runtime_config.is_some(), "RuntimeConfig")?;
    Unserved { image: request.image_config.as_ref(), snap_start: request.snap_start.as_ref() }
        .refuse()?;
    check_tags(request.tags.iter().flatten().map(|(key, _)| key.as_str()), TAGS_MAX)?;
    memory(request.memory_size)?;
    timeout(request.timeout)?;
    ephemeral(request.ephemeral_storage.as_ref())?;
    if let Some(variables) = variables(request) {
        environment::check(variables)?;
    }
    log_config(None, name, request.logging_config.as_ref())?;
    beyond::check(
        request.vpc_config.as_ref().map(beyond::vpc).as_ref(),
        &beyond::file_systems(request.file_system_configs.as_deref().unwrap_or_default()),
    )
}

/// The first configuration of a function. Call `check_create` first.
pub fn create(
    name: &FunctionName,
    request: &CreateFunctionRequest,
    code: CodeRef,
    layers: Vec<LayerRef>,
    fresh: Fresh,
    now_ms: i64,
) -> Result<Configuration, Refusal> {
    select::check_unzipped(code.unzipped_bytes, &layers)?;
    Ok(Configuration {
        id: fresh.id,
        revision_id: fresh.revision_id,
        modified_ms: now_ms,
        description: request.description.clone().unwrap_or_default(),
        role: request.role.clone(),
        runtime: Runtime::new(request.runtime.clone().unwrap_or_default()),
        handler: request.handler.clone().unwrap_or_default(),
        timeout_secs: timeout(request.timeout)?.unwrap_or(TIMEOUT_SECS_DEFAULT),
        memory_mib: memory(request.memory_size)?.unwrap_or(MEMORY_MIB_DEFAULT),
        ephemeral_mib: ephemeral(request.ephemeral_storage.as_ref())?
            .unwrap_or(EPHEMERAL_MIB_DEFAULT),
        environment: request
            .environment
            .as_ref()
            .map(|environment| environment.variables.clone().unwrap_or_default()),
        tracing_active: tracing_active(request.tracing_config.as_ref()).unwrap_or(false),
        log: log_config(None, name, request.logging_config.as_ref())?,
        architecture: architecture(request.architectures.as_deref()).unwrap_or_default(),
        dead_letter_target: dead_letter_target(request.dead_letter_config.as_ref()).flatten(),
        code: code.digest,
        code_bytes: code.bytes,
        code_unzipped_bytes: Some(code.unzipped_bytes),
        layers,
        kms_key_arn: request.kms_key_arn.clone().filter(|arn| !arn.is_empty()),
        vpc: request.vpc_config.as_ref().map(beyond::vpc),
        file_systems: beyond::file_systems(
            request.file_system_configs.as_deref().unwrap_or_default(),
        ),
    })
}

/// `current` with what the request changes: an absent member stays, a present
/// object replaces the whole, but for LoggingConfig, which merges. `layers`
/// are those of the request, if it names any or none.
pub fn update(
    name: &FunctionName,
    current: &Configuration,
    request: &UpdateFunctionConfigurationRequest,
    layers: Option<&[LayerRef]>,
    fresh: Fresh,
    now_ms: i64,
) -> Result<Configuration, Refusal> {
    refuse_if(request.durable_config.is_some(), "DurableConfig")?;
    refuse_if(request.accelerator_config.is_some(), "AcceleratorConfig")?;
    refuse_if(request.capacity_provider_config.is_some(), "CapacityProviderConfig")?;
    refuse_if(request.runtime_config.is_some(), "RuntimeConfig")?;
    Unserved { image: request.image_config.as_ref(), snap_start: request.snap_start.as_ref() }
        .refuse()?;
    let mut updated = current.clone();
    updated.id = fresh.id;
    updated.revision_id = fresh.revision_id;
    updated.modified_ms = now_ms;
    if let Some(runtime) = &request.runtime {
        runtimes::check(runtime)?;
        updated.runtime = Runtime::new(runtime.clone());
    }
    if let Some(handler) = &request.handler {
        updated.handler.clone_from(handler);
    }
    if let Some(role) = &request.role {
        updated.role.clone_from(role);
    }
    if let Some(description) = &request.description {
        updated.description.clone_from(description);
    }
    if let Some(timeout_secs) = timeout(request.timeout)? {
        updated.timeout_secs = timeout_secs;
    }
    if let Some(memory_mib) = memory(request.memory_size)? {
        updated.memory_mib = memory_mib;
    }
    if let Some(ephemeral_mib) = ephemeral(request.ephemeral_storage.as_ref())? {
        updated.ephemeral_mib = ephemeral_mib;
    }
    if let Some(environment) = &request.environment {
        let variables = environment.variables.clone().unwrap_or_default();
        environment::check(&variables)?;
        updated.environment = Some(variables);
    }
    if let Some(active) = tracing_active(request.tracing_config.as_ref()) {
        updated.tracing_active = active;
    }
    if let Some(target) = dead_letter_target(request.dead_letter_config.as_ref()) {
        updated.dead_letter_target = target;
    }
    if let Some(layers) = layers {
        select::check_unzipped(current.code_unzipped_bytes.unwrap_or(0), layers)?;
        updated.layers = layers.to_vec();
    }
    if let Some(arn) = &request.kms_key_arn {
        updated.kms_key_arn = Some(arn.clone()).filter(|arn| !arn.is_empty());
    }
    if let Some(vpc) = &request.vpc_config {
        updated.vpc = Some(beyond::vpc(vpc));
    }
    if let Some(mounts) = &request.file_system_configs {
        updated.file_systems = beyond::file_systems(mounts);
    }
    beyond::check(updated.vpc.as_ref(), &updated.file_systems)?;
    updated.log = log_config(Some(&current.log), name, request.logging_config.as_ref())?;
    Ok(updated)
}

/// `current` with other code.
pub fn update_code(
    current: &Configuration,
    code: CodeRef,
    architectures: Option<&[String]>,
    fresh: Fresh,
    now_ms: i64,
) -> Result<Configuration, Refusal> {
    select::check_unzipped(code.unzipped_bytes, &current.layers)?;
    Ok(Configuration {
        id: fresh.id,
        revision_id: fresh.revision_id,
        modified_ms: now_ms,
        code: code.digest,
        code_bytes: code.bytes,
        code_unzipped_bytes: Some(code.unzipped_bytes),
        architecture: architecture(architectures).unwrap_or(current.architecture),
        ..current.clone()
    })
}

/// Checks the keys that a request adds; `count` is how many there are then.
pub fn check_tags<'a>(
    keys: impl Iterator<Item = &'a str>,
    count_max: usize,
) -> Result<(), Refusal> {
    let mut count = 0;
    for key in keys {
        count += 1;
        if key.starts_with("aws:") {
            return Err(Refusal::invalid(
                "System tags cannot be added/updated by requester: tag keys must not begin with aws:",
            ));
        }
    }
    if count > count_max {
        return Err(Refusal::invalid("Number of tags exceeds resource tag limit."));
    }
    Ok(())
}

/// The most tags a function may have.
pub const fn tags_max() -> usize {
    TAGS_MAX
}

/// Members that Lambda serves and lamu does not, when they ask for something.
struct Unserved<'a> {
    image: Option<&'a ImageConfig>,
    snap_start: Option<&'a SnapStart>,
}

impl Unserved<'_> {
    fn refuse(&self) -> Result<(), Refusal> {
        let apply_on = self.snap_start.and_then(|snap| snap.apply_on.as_deref());
        refuse_if(apply_on == Some("PublishedVersions"), "SnapStart for PublishedVersions")?;
        let image = self.image.is_some_and(|image| *image != ImageConfig::default());
        refuse_if(image, "ImageConfig")
    }
}

fn refuse_if(given: bool, what: &'static str) -> Result<(), Refusal> {
    if given { Err(Refusal::Unsupported { what }) } else { Ok(()) }
}

/// The model allows what only Managed Instances have; the rest is refused in
/// the wording of the model's own check.
fn at_most(member: &str, value: i32, max: u32) -> Result<u32, Refusal> {
    match u32::try_from(value) {
        Ok(value) if value <= max => Ok(value),
        _ => Err(Refusal::Request(ApiError::new(
            ErrorCode::Validation,
            format!(
                "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must have value less than or equal to {max}"
            ),
        ))),
    }
}

fn memory(size: Option<i32>) -> Result<Option<u32>, Refusal> {
    size.map(|size| at_most("memorySize", size, MEMORY_MIB_MAX)).transpose()
}

fn timeout(timeout: Option<i32>) -> Result<Option<u32>, Refusal> {
    timeout.map(|timeout| at_most("timeout", timeout, TIMEOUT_SECS_MAX)).transpose()
}

fn ephemeral(storage: Option<&EphemeralStorage>) -> Result<Option<u32>, Refusal> {
    storage
        .map(|storage| at_most("ephemeralStorage.size", storage.size, EPHEMERAL_MIB_MAX))
        .transpose()
}

fn variables(
    request: &CreateFunctionRequest,
) -> Option<&std::collections::BTreeMap<String, String>> {
    request.environment.as_ref().and_then(|environment| environment.variables.as_ref())
}

fn tracing_active(tracing: Option<&TracingConfig>) -> Option<bool> {
    tracing.and_then(|tracing| tracing.mode.as_deref()).map(|mode| mode == "Active")
}

fn architecture(architectures: Option<&[String]>) -> Option<Architecture> {
    match architectures?.first()?.as_str() {
        "arm64" => Some(Architecture::Arm64),
        _ => Some(Architecture::X86_64),
    }
}

/// `Some(None)` clears it.
fn dead_letter_target(config: Option<&DeadLetterConfig>) -> Option<Option<String>> {
    let target = config?.target_arn.as_ref()?;
    Some((!target.is_empty()).then(|| target.clone()))
}

fn log_config(
    current: Option<&LogConfig>,
    name: &FunctionName,
    request: Option<&LoggingConfig>,
) -> Result<LogConfig, Refusal> {
    let mut log = current.cloned().unwrap_or_else(|| LogConfig {
        format: LogFormat::Text,
        group: format!("/aws/lambda/{name}"),
        application_level: LogLevel::Info,
        system_level: LogLevel::Info,
    });
    let Some(request) = request else { return Ok(log) };
    match request.log_format.as_deref() {
        Some("JSON") => log.format = LogFormat::Json,
        Some(_) => {
            log.format = LogFormat::Text;
            log.application_level = LogLevel::Info;
            log.system_level = LogLevel::Info;
        }
        None => {}
    }
    if let Some(group) = &request.log_group {
        log.group.clone_from(group);
    }
    let application = request.application_log_level.as_deref().and_then(read_level);
    let system = request.system_log_level.as_deref().and_then(read_level);
    if log.format == LogFormat::Text && (application.is_some() || system.is_some()) {
        return Err(Refusal::invalid(
            "ApplicationLogLevel and SystemLogLevel are only supported when LogFormat is set to JSON.",
        ));
    }
    log.application_level = application.unwrap_or(log.application_level);
    log.system_level = system.unwrap_or(log.system_level);
    Ok(log)
}

fn read_level(level: &str) -> Option<LogLevel> {
    match level {
        "TRACE" => Some(LogLevel::Trace),
        "DEBUG" => Some(LogLevel::Debug),
        "INFO" => Some(LogLevel::Info),
        "WARN" => Some(LogLevel::Warn),
        "ERROR" => Some(LogLevel::Error),
        "FATAL" => Some(LogLevel::Fatal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lamu_api::shapes::{Environment, FunctionCode};

    use super::*;

    fn name() -> FunctionName {
        FunctionName::new("f")
    }

    fn request() -> CreateFunctionRequest {
        CreateFunctionRequest {
            function_name: "f".into(),
            role: "arn:aws:iam::000000000000:role/r".into(),
            runtime: Some("python3.12".into()),
            handler: Some("index.handler".into()),
            ..CreateFunctionRequest::default()
        }
    }

    fn created(request: &CreateFunctionRequest) -> Configuration {
        check_create(&name(), request).unwrap();
        let code = CodeRef { digest: Digest::of(b"zip"), bytes: 3, unzipped_bytes: 10 };
        create(&name(), request, code, Vec::new(), Fresh::new(), 1).unwrap()
    }

    fn updated(request: UpdateFunctionConfigurationRequest) -> Configuration {
        update(&name(), &created(&self::request()), &request, None, Fresh::new(), 2).unwrap()
    }

    #[test]
    fn what_is_left_out_has_the_defaults_of_the_service() {
        let made = created(&request());
        assert_eq!((made.memory_mib, made.timeout_secs, made.ephemeral_mib), (128, 3, 512));
        assert_eq!(made.log.group, "/aws/lambda/f");
        assert_eq!(made.environment, None);
        assert_eq!(made.description, "");
    }

    #[test]
    fn a_zip_function_needs_runtime_and_handler() {
        let strips: [fn(&mut CreateFunctionRequest); 2] =
            [|request| request.runtime = None, |request| request.handler = None];
        for strip in strips {
            let mut request = request();
            strip(&mut request);
            match check_create(&name(), &request) {
                Err(Refusal::Invalid(text)) => assert!(text.contains("is mandatory"), "{text}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn settings_that_nothing_here_honours_are_refused() {
        let image = FunctionCode { image_uri: Some("x".into()), ..FunctionCode::default() };
        let snap = SnapStart { apply_on: Some("PublishedVersions".into()) };
        let changes: [(&str, CreateFunctionRequest); 2] = [
            ("PackageType Image", CreateFunctionRequest { code: image, ..request() }),
            (
                "SnapStart for PublishedVersions",
                CreateFunctionRequest { snap_start: Some(snap), ..request() },
            ),
        ];
        for (name_of, request) in changes {
            match check_create(&name(), &request) {
                Err(Refusal::Unsupported { what }) => assert_eq!(what, name_of),
                other => panic!("{name_of}: {other:?}"),
            }
        }
        let empty = CreateFunctionRequest {
            kms_key_arn: Some(String::new()),
            snap_start: Some(SnapStart { apply_on: Some("None".into()) }),
            ..request()
        };
        assert!(check_create(&name(), &empty).is_ok(), "nothing is asked for");
    }

    #[test]
    fn an_absent_member_stays_and_an_object_replaces_the_whole() {
        let mut request = request();
        request.environment = Some(Environment {
            variables: Some(BTreeMap::from([("A".into(), "1".into()), ("B".into(), "2".into())])),
        });
        request.description = Some("kept".into());
        let current = created(&request);
        let variables = BTreeMap::from([("C".to_owned(), "3".to_owned())]);
        let change = UpdateFunctionConfigurationRequest {
            environment: Some(Environment { variables: Some(variables.clone()) }),
            timeout: Some(10),
            ..UpdateFunctionConfigurationRequest::default()
        };

        let updated = update(&name(), &current, &change, None, Fresh::new(), 2).unwrap();

        assert_eq!(updated.environment, Some(variables));
        assert_eq!((updated.timeout_secs, updated.memory_mib), (10, 128));
        assert_eq!(updated.description, "kept");
        assert_ne!(updated.id, current.id);
        assert_ne!(updated.revision_id, current.revision_id);
    }

    #[test]
    fn logging_merges_and_text_drops_the_levels() {
        let json = LoggingConfig {
            log_format: Some("JSON".into()),
            application_log_level: Some("DEBUG".into()),
            ..LoggingConfig::default()
        };
        let mut request = request();
        request.logging_config = Some(json);
        let current = created(&request);
        let ask = |logging: LoggingConfig| {
            let change = UpdateFunctionConfigurationRequest {
                logging_config: Some(logging),
                ..UpdateFunctionConfigurationRequest::default()
            };
            update(&name(), &current, &change, None, Fresh::new(), 2)
        };

        let group = LoggingConfig { log_group: Some("/x".into()), ..LoggingConfig::default() };
        let kept = ask(group).unwrap().log;
        assert_eq!((kept.format, kept.application_level), (LogFormat::Json, LogLevel::Debug));
        assert_eq!(kept.group, "/x");

        let text = LoggingConfig { log_format: Some("Text".into()), ..LoggingConfig::default() };
        assert_eq!(ask(text.clone()).unwrap().log.application_level, LogLevel::Info);
        let both = LoggingConfig { system_log_level: Some("WARN".into()), ..text };
        assert!(matches!(ask(both), Err(Refusal::Invalid(_))));
    }

    #[test]
    fn an_empty_dead_letter_target_clears_it() {
        let target = |arn: &str| Some(DeadLetterConfig { target_arn: Some(arn.into()) });
        let set = updated(UpdateFunctionConfigurationRequest {
            dead_letter_config: target("arn:aws:sqs:us-east-1:000000000000:q"),
            ..UpdateFunctionConfigurationRequest::default()
        });
        assert!(set.dead_letter_target.is_some());
        let clear = UpdateFunctionConfigurationRequest {
            dead_letter_config: target(""),
            ..UpdateFunctionConfigurationRequest::default()
        };
        let cleared = update(&name(), &set, &clear, None, Fresh::new(), 3).unwrap();
        assert_eq!(cleared.dead_letter_target, None);
    }

    #[test]
    fn sizes_of_managed_instances_are_beyond_a_function() {
        for request in [
            CreateFunctionRequest { memory_size: Some(10_241), ..request() },
            CreateFunctionRequest { timeout: Some(901), ..request() },
            CreateFunctionRequest {
                ephemeral_storage: Some(EphemeralStorage { size: 10_241 }),
                ..request()
            },
        ] {
            match check_create(&name(), &request) {
                Err(Refusal::Request(error)) => {
                    assert!(error.message.contains("Member must have value less than or equal"));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn layers_are_replaced_as_a_whole_and_stay_when_not_named() {
        let layer = |unzipped_bytes| LayerRef {
            arn: lamu_model::Arn::new("arn"),
            code: Digest::of(b"layer"),
            code_bytes: 1,
            unzipped_bytes,
        };
        let request = UpdateFunctionConfigurationRequest::default();
        let ask = |current: &Configuration, layers: Option<&[LayerRef]>| {
            update(&name(), current, &request, layers, Fresh::new(), 2)
        };
        let with = ask(&created(&self::request()), Some(&[layer(1), layer(2)])).unwrap();
        assert_eq!(with.layers, [layer(1), layer(2)]);
        assert_eq!(ask(&with, None).unwrap().layers, with.layers);
        assert_eq!(ask(&with, Some(&[])).unwrap().layers, []);
        let all = lamu_model::UNZIPPED_BYTES_MAX;
        assert!(matches!(ask(&with, Some(&[layer(all)])), Err(Refusal::Invalid(_))));
        let code = CodeRef { digest: Digest::of(b"big"), bytes: 3, unzipped_bytes: all - 3 };
        assert!(update_code(&with, code, None, Fresh::new(), 2).is_ok());
        let code = CodeRef { unzipped_bytes: all, ..code };
        assert!(matches!(
            update_code(&with, code, None, Fresh::new(), 2),
            Err(Refusal::Invalid(_))
        ));
    }

    #[test]
    fn a_name_of_sixty_five_characters_is_one_too_long() {
        let name = FunctionName::new("x".repeat(65));
        match check_create(&name, &request()) {
            Err(Refusal::Invalid(text)) => {
                assert!(text.ends_with("Member must have length less than or equal to 64"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tags_are_fifty_at_most_and_never_the_systems() {
        let many: Vec<String> = (0..51).map(|i| format!("k{i}")).collect();
        assert!(check_tags(many[..50].iter().map(String::as_str), TAGS_MAX).is_ok());
        assert!(check_tags(many.iter().map(String::as_str), TAGS_MAX).is_err());
        assert!(check_tags(["aws:x"].into_iter(), TAGS_MAX).is_err());
    }
}

//! What a create or an update asks of a mapping, laid over what there is, and
//! held against what its kind of source takes.
//!
//! Texts are those of "The ESM resource" of the event source reference where
//! it has one; others are worded alike.
//!
//! Not here: whether function and source exist (`operations`).

use lamu_api::shapes::{
    CreateEventSourceMappingRequest, DestinationConfig, DocumentDBEventSourceConfig,
    EventSourceMappingLoggingConfig, EventSourceMappingMetricsConfig, FilterCriteria,
    ProvisionedPollerConfig, ScalingConfig, SourceAccessConfiguration,
    UpdateEventSourceMappingRequest,
};
use lamu_model::filter::Pattern;
use lamu_model::mapping::{
    Access, DocumentDb, Pollers, Settings, Source, SourceKind, StartingPosition,
};
use serde_json::Value;

use super::takes::{Column, Positions, Takes, column};
use crate::function::refusal::Refusal;

/// The quota that an account begins with.
const FILTERS_MAX: usize = 5;
const BOOTSTRAP_SERVERS: &str = "KAFKA_BOOTSTRAP_SERVERS";
const BATCH_SIZE_MAX_WITHOUT_WINDOW: i32 = 10;
const RECORD_AGE_SECS_MIN: i32 = 60;

/// The members that a create and an update share.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    batch_size: Option<i32>,
    window_secs: Option<i32>,
    parallelization_factor: Option<i32>,
    record_age_secs_max: Option<i32>,
    retries_max: Option<i32>,
    bisect_on_error: Option<bool>,
    tumbling_window_secs: Option<i32>,
    responses: Option<&'a [String]>,
    destinations: Option<&'a DestinationConfig>,
    filters: Option<&'a FilterCriteria>,
    kms_key_arn: Option<&'a str>,
    scaling: Option<&'a ScalingConfig>,
    pollers: Option<&'a ProvisionedPollerConfig>,
    access: Option<&'a [SourceAccessConfiguration]>,
    metrics: Option<&'a EventSourceMappingMetricsConfig>,
    logging: Option<&'a EventSourceMappingLoggingConfig>,
    document_db: Option<&'a DocumentDBEventSourceConfig>,
    msk: Option<Value>,
    kafka: Option<Value>,
}

macro_rules! asked {
    ($request:expr) => {
        Asked {
            batch_size: $request.batch_size,
            window_secs: $request.maximum_batching_window_in_seconds,
            parallelization_factor: $request.parallelization_factor,
            record_age_secs_max: $request.maximum_record_age_in_seconds,
            retries_max: $request.maximum_retry_attempts,
            bisect_on_error: $request.bisect_batch_on_function_error,
            tumbling_window_secs: $request.tumbling_window_in_seconds,
            responses: $request.function_response_types.as_deref(),
            destinations: $request.destination_config.as_ref(),
            filters: $request.filter_criteria.as_ref(),
            kms_key_arn: $request.kms_key_arn.as_deref(),
            scaling: $request.scaling_config.as_ref(),
            pollers: $request.provisioned_poller_config.as_ref(),
            access: $request.source_access_configurations.as_deref(),
            metrics: $request.metrics_config.as_ref(),
            logging: $request.logging_config.as_ref(),
            document_db: $request.document_db_event_source_config.as_ref(),
            msk: $request.amazon_managed_kafka_event_source_config.as_ref().map(as_value),
            kafka: $request.self_managed_kafka_event_source_config.as_ref().map(as_value),
        }
    };
}

/// What is polled, from the two members that say it.
pub fn source(request: &CreateEventSourceMappingRequest) -> Result<(SourceKind, Source), Refusal> {
    let unrecognized = || Refusal::invalid("Unrecognized event source.");
    match (&request.event_source_arn, &request.self_managed_event_source) {
        (Some(_), Some(_)) => Err(unsupported("SelfManagedEventSource")),
        (Some(arn), None) => {
            let kind = SourceKind::of_arn(arn).ok_or_else(unrecognized)?;
            Ok((kind, Source::Arn(arn.clone())))
        }
        (None, Some(own)) => {
            let endpoints = own.endpoints.as_ref().and_then(|all| all.get(BOOTSTRAP_SERVERS));
            match endpoints {
                Some(servers) if !servers.is_empty() => {
                    Ok((SourceKind::SelfManagedKafka, Source::Kafka(servers.clone())))
                }
                _ => Err(unrecognized()),
            }
        }
        (None, None) => Err(unrecognized()),
    }
}

/// The settings of a new mapping, checked.
pub fn create(
    kind: SourceKind,
    source: &Source,
    request: &CreateEventSourceMappingRequest,
    now_ms: i64,
) -> Result<Settings, Refusal> {
    let position = request.starting_position.as_deref().and_then(StartingPosition::parse);
    let begin = Settings {
        position,
        position_ms: request.starting_position_timestamp.map(|time| time.millis),
        topics: request.topics.clone().unwrap_or_default(),
        queues: request.queues.clone().unwrap_or_default(),
        ..Settings::default()
    };
    let settings = asked!(request).over(kind, begin)?;
    check(kind, source, &settings)?;
    check_position(kind, source, &settings, now_ms)?;
    Ok(settings)
}

/// `current` with what an update changes, checked as a whole.
pub fn update(
    kind: SourceKind,
    source: &Source,
    current: &Settings,
    request: &UpdateEventSourceMappingRequest,
) -> Result<Settings, Refusal> {
    let settings = asked!(request).over(kind, current.clone())?;
    if current.kafka != settings.kafka && group(&current.kafka) != group(&settings.kafka) {
        return Err(Refusal::invalid(
            "ConsumerGroupId cannot be changed once the event source mapping exists.",
        ));
    }
    check(kind, source, &settings)?;
    Ok(settings)
}

impl Asked<'_> {
    /// What is absent stays; a present object replaces the whole, and an empty
    /// one clears.
    fn over(self, kind: SourceKind, mut settings: Settings) -> Result<Settings, Refusal> {
        let column = column(kind);
        settings.batch_size = self.batch_size.or(settings.batch_size);
        settings.window_secs = self.window_secs.or(settings.window_secs);
        settings.parallelization_factor =
            self.parallelization_factor.or(settings.parallelization_factor);
        settings.record_age_secs_max = self.record_age_secs_max.or(settings.record_age_secs_max);
        settings.retries_max = self.retries_max.or(settings.retries_max);
        settings.bisect_on_error = self.bisect_on_error.or(settings.bisect_on_error);
        settings.tumbling_window_secs = self.tumbling_window_secs.or(settings.tumbling_window_secs);
        if let Some(responses) = self.responses {
            settings.partial_responses = Some(!responses.is_empty());
        }
        if let Some(destinations) = self.destinations {
            let given = |arn: Option<&String>| arn.filter(|arn| !arn.is_empty()).cloned();
            let success =
                given(destinations.on_success.as_ref().and_then(|on| on.destination.as_ref()));
            if success.is_some() {
                return Err(unsupported("DestinationConfig"));
            }
            settings.on_failure =
                given(destinations.on_failure.as_ref().and_then(|on| on.destination.as_ref()));
        }
        if let Some(criteria) = self.filters {
            settings.filters = read_filters(criteria)?;
        }
        if let Some(arn) = self.kms_key_arn {
            settings.kms_key_arn = Some(arn.to_owned()).filter(|arn| !arn.is_empty());
        }
        if let Some(scaling) = self.scaling {
            settings.concurrency_max = scaling.maximum_concurrency;
        }
        if let Some(pollers) = self.pollers {
            settings.pollers = (*pollers != ProvisionedPollerConfig::default()).then(|| Pollers {
                min: pollers.minimum_pollers,
                max: pollers.maximum_pollers,
                group: pollers.poller_group_name.clone(),
            });
        }
        if let Some(access) = self.access {
            settings.access = access
                .iter()
                .map(|one| Access {
                    kind: one.r#type.clone().unwrap_or_default(),
                    uri: one.uri.clone().unwrap_or_default(),
                })
                .collect();
        }
        if let Some(metrics) = self.metrics {
            settings.metrics = metrics.metrics.clone().unwrap_or_default();
        }
        if let Some(logging) = self.logging {
            settings.log_level.clone_from(&logging.system_log_level);
        }
        if let Some(config) = self.document_db {
            if kind != SourceKind::DocumentDb {
                return Err(unsupported("DocumentDBEventSourceConfig"));
            }
            settings.document_db = Some(DocumentDb {
                database: config.database_name.clone().ok_or_else(|| missing("databaseName"))?,
                collection: config.collection_name.clone(),
                full_document: config.full_document.clone(),
            });
        }
        for (given, of, name) in [
            (self.msk, SourceKind::Msk, "AmazonManagedKafkaEventSourceConfig"),
            (self.kafka, SourceKind::SelfManagedKafka, "SelfManagedKafkaEventSourceConfig"),
        ] {
            if given.is_some() && kind != of {
                return Err(unsupported(name));
            }
            settings.kafka = given.or(settings.kafka);
        }
        // Nothing asked of what is not taken is as good as nothing said.
        if settings.partial_responses == Some(false) && column.partial_responses == Takes::No {
            settings.partial_responses = None;
        }
        Ok(settings)
    }
}

fn read_filters(criteria: &FilterCriteria) -> Result<Vec<String>, Refusal> {
    let filters = criteria.filters.as_deref().unwrap_or_default();
    if filters.len() > FILTERS_MAX {
        return Err(Refusal::invalid(format!(
            "Number of filters in FilterCriteria exceeds the limit of {FILTERS_MAX}."
        )));
    }
    let read = filters.iter().map(|filter| {
        let pattern = filter.pattern.clone().unwrap_or_default();
        match Pattern::parse(&pattern) {
            Ok(_) => Ok(pattern),
            Err(_) => Err(Refusal::invalid("Invalid filter pattern definition.")),
        }
    });
    read.collect()
}

/// Everything but where reading begins, which an update cannot change.
fn check(kind: SourceKind, source: &Source, settings: &Settings) -> Result<(), Refusal> {
    let takes = column(kind);
    let provisioned = settings.pollers.is_some();
    let refuse = |given: bool, taken: Takes, name: &'static str| match (given, taken) {
        (false, _) | (_, Takes::Yes) => Ok(()),
        (true, Takes::Provisioned) if provisioned => Ok(()),
        (true, Takes::Provisioned) => Err(Refusal::invalid(format!(
            "{name} is only supported with ProvisionedPollerConfig for the given event source mapping type."
        ))),
        (true, Takes::No) => Err(unsupported(name)),
    };
    let if_taken = |taken: bool| if taken { Takes::Yes } else { Takes::No };
    let s = settings;
    let shards = if_taken(takes.shards);
    for (given, taken, name) in [
        (s.parallelization_factor.is_some(), shards, "ParallelizationFactor"),
        (s.tumbling_window_secs.is_some(), shards, "TumblingWindowInSeconds"),
        (s.record_age_secs_max.is_some(), takes.retries, "MaximumRecordAgeInSeconds"),
        (s.retries_max.is_some(), takes.retries, "MaximumRetryAttempts"),
        (s.bisect_on_error.is_some(), takes.retries, "BisectBatchOnFunctionError"),
        (s.partial_responses == Some(true), takes.partial_responses, "FunctionResponseTypes"),
        (s.on_failure.is_some(), if_taken(takes.on_failure), "DestinationConfig"),
        (!s.filters.is_empty(), if_taken(takes.filters), "FilterCriteria"),
        (s.concurrency_max.is_some(), if_taken(takes.scaling), "ScalingConfig"),
        (provisioned, if_taken(takes.provisioned.is_some()), "ProvisionedPollerConfig"),
        (!s.topics.is_empty(), if_taken(takes.topics), "Topics"),
        (!s.queues.is_empty(), if_taken(takes.queues), "Queues"),
        (s.log_level.is_some(), takes.logging, "LoggingConfig"),
        (!s.access.is_empty(), if_taken(!takes.access.is_empty()), "SourceAccessConfigurations"),
    ] {
        refuse(given, taken, name)?;
    }
    for (absent, name) in [
        (takes.topics && s.topics.is_empty(), "topics"),
        (takes.queues && s.queues.is_empty(), "queues"),
        (takes.access_required && s.access.is_empty(), "sourceAccessConfigurations"),
        (kind == SourceKind::DocumentDb && s.document_db.is_none(), "documentDBEventSourceConfig"),
    ] {
        if absent {
            return Err(missing(name));
        }
    }
    if let Some(other) = s.access.iter().find(|one| !takes.access.contains(&one.kind.as_str())) {
        return Err(Refusal::invalid(format!(
            "Unsupported source access configuration type {} for given event source mapping type.",
            other.kind
        )));
    }
    if let Some(other) = s.metrics.iter().find(|one| !takes.metrics.contains(&one.as_str())) {
        return Err(Refusal::invalid(format!(
            "Unsupported metric {other} for given event source mapping type."
        )));
    }
    refuse(s.metrics.iter().any(|one| one == "KafkaMetrics"), Takes::Provisioned, "KafkaMetrics")?;
    let registry =
        s.kafka.as_ref().is_some_and(|kafka| kafka.get("SchemaRegistryConfig").is_some());
    refuse(registry, Takes::Provisioned, "SchemaRegistryConfig")?;
    check_batch(kind, source, &takes, s)?;
    check_limits(&takes, s)?;
    check_destination(kind, s)
}

fn check_batch(
    kind: SourceKind,
    source: &Source,
    takes: &Column,
    settings: &Settings,
) -> Result<(), Refusal> {
    let size = settings.batch_size.unwrap_or(takes.batch_default);
    let window_secs = settings.window_secs.or(takes.window_secs_default).unwrap_or(1);
    if shares(settings) && settings.window_secs.is_some() {
        return Err(unsupported("MaximumBatchingWindowInSeconds"));
    }
    if kind != SourceKind::Sqs {
        return Ok(());
    }
    let fifo = matches!(source, Source::Arn(arn) if arn.ends_with(".fifo"));
    if fifo && window_secs > 0 {
        return Err(Refusal::invalid("Batching window is not supported for FIFO queues."));
    }
    if fifo && size > BATCH_SIZE_MAX_WITHOUT_WINDOW {
        return Err(Refusal::invalid(
            "Maximum batch size must not be greater than 10 for FIFO queues.",
        ));
    }
    if size > BATCH_SIZE_MAX_WITHOUT_WINDOW && window_secs == 0 {
        return Err(Refusal::invalid(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
        ));
    }
    Ok(())
}

fn check_limits(takes: &Column, settings: &Settings) -> Result<(), Refusal> {
    if let Some(age_secs) = settings.record_age_secs_max
        && age_secs != -1
        && age_secs < RECORD_AGE_SECS_MIN
    {
        return Err(Refusal::invalid(format!(
            "Maximum record age in seconds must be -1 or at least {RECORD_AGE_SECS_MIN}."
        )));
    }
    let tumbles = settings.tumbling_window_secs.is_some_and(|secs| secs > 0);
    if tumbles && settings.parallelization_factor.is_some_and(|factor| factor > 1) {
        return Err(Refusal::invalid(
            "TumblingWindowInSeconds is not supported with a ParallelizationFactor greater than 1.",
        ));
    }
    let (Some(pollers), Some(bounds)) = (&settings.pollers, takes.provisioned) else {
        return Ok(());
    };
    if settings.concurrency_max.is_some() {
        return Err(Refusal::invalid(
            "ScalingConfig and ProvisionedPollerConfig cannot be used together.",
        ));
    }
    if pollers.group.is_some() && !bounds.groups {
        return Err(unsupported("PollerGroupName"));
    }
    for (name, given, (low, high)) in
        [("MinimumPollers", pollers.min, bounds.min), ("MaximumPollers", pollers.max, bounds.max)]
    {
        if given.is_some_and(|count| count < low || count > high) {
            return Err(Refusal::invalid(format!("{name} must be between {low} and {high}.")));
        }
    }
    match (pollers.min, pollers.max) {
        (Some(min), Some(max)) if min > max => {
            Err(Refusal::invalid("MinimumPollers must not be greater than MaximumPollers."))
        }
        _ => Ok(()),
    }
}

fn check_destination(kind: SourceKind, settings: &Settings) -> Result<(), Refusal> {
    let Some(arn) = &settings.on_failure else { return Ok(()) };
    let kafka = matches!(kind, SourceKind::Msk | SourceKind::SelfManagedKafka);
    let takes = match arn.split(':').nth(2) {
        Some("sqs" | "sns") => !arn.ends_with(".fifo"),
        Some("s3") => true,
        _ => kafka && arn.starts_with("kafka://"),
    };
    if takes {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "The provided destination config DestinationConfig(onSuccess=null, onFailure=OnFailure(destination={arn})) is invalid."
    )))
}

fn check_position(
    kind: SourceKind,
    source: &Source,
    settings: &Settings,
    now_ms: i64,
) -> Result<(), Refusal> {
    let positions = match shares(settings) {
        true => Positions::None,
        false => column(kind).positions,
    };
    let Some(position) = settings.position else {
        if settings.position_ms.is_some() {
            return Err(unsupported("StartingPositionTimestamp"));
        }
        return match positions {
            Positions::None => Ok(()),
            Positions::Ends | Positions::All => Err(Refusal::invalid(
                "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.",
            )),
        };
    };
    let at_time = position == StartingPosition::AtTimestamp;
    match (positions, at_time, settings.position_ms) {
        (Positions::None, _, _) => Err(unsupported("StartingPosition")),
        (Positions::Ends, true, _) => {
            let arn = match source {
                Source::Arn(arn) => arn.as_str(),
                Source::Kafka(_) => "",
            };
            Err(Refusal::invalid(format!("Unsupported starting position for arn type: {arn}")))
        }
        (_, true, None) => Err(Refusal::invalid(
            "1 validation error detected: Value null at 'startingPositionTimestamp' failed to satisfy constraint: Member must not be null.",
        )),
        (_, true, Some(at_ms)) if at_ms > now_ms => {
            Err(Refusal::invalid("StartingPositionTimestamp must not be in the future."))
        }
        (_, false, Some(_)) => Err(unsupported("StartingPositionTimestamp")),
        _ => Ok(()),
    }
}

/// Kafka share groups have no position and no window.
fn shares(settings: &Settings) -> bool {
    let mode = settings.kafka.as_ref().and_then(|kafka| kafka.get("ConsumptionMode"));
    mode.and_then(Value::as_str) == Some("Queue")
}

fn group(kafka: &Option<Value>) -> Option<&str> {
    kafka.as_ref()?.get("ConsumerGroupId")?.as_str()
}

fn unsupported(name: &str) -> Refusal {
    Refusal::invalid(format!("Unsupported {name} parameter for given event source mapping type."))
}

fn missing(name: &str) -> Refusal {
    Refusal::invalid(format!("Required '{name}' parameter is missing."))
}

/// A shape as it is on the wire. Shapes always serialize.
fn as_value<T: serde::Serialize>(shape: &T) -> Value {
    serde_json::to_value(shape).unwrap_or_default()
}

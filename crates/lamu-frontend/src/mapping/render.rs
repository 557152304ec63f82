//! A mapping as the API shows it: what was asked for, and of the rest those
//! members that the service shows for the kind of source.

use std::collections::BTreeMap;

use lamu_api::Timestamp;
use lamu_api::shapes::{
    AmazonManagedKafkaEventSourceConfig, DestinationConfig, DocumentDBEventSourceConfig,
    EventSourceMappingConfiguration, EventSourceMappingLoggingConfig,
    EventSourceMappingMetricsConfig, Filter, FilterCriteria, OnFailure, ProvisionedPollerConfig,
    ScalingConfig, SelfManagedEventSource, SelfManagedKafkaEventSourceConfig,
    SourceAccessConfiguration,
};
use lamu_model::mapping::{Mapping, Source, SourceKind};
use serde_json::{Value, json};

use super::takes::{Takes, column};

pub fn mapping(of: &Mapping) -> EventSourceMappingConfiguration {
    let takes = column(of.kind);
    let settings = &of.settings;
    let (arn, servers) = match &of.source {
        Source::Arn(arn) => (Some(arn.clone()), None),
        Source::Kafka(servers) => (None, Some(servers.clone())),
    };
    let endless = |value: Option<i32>| value.or((takes.retries == Takes::Yes).then_some(-1));
    let of_shards = |value: Option<i32>, default| value.or(takes.shards.then_some(default));
    let responses = match settings.partial_responses {
        Some(true) => Some(vec!["ReportBatchItemFailures".to_owned()]),
        _ => (takes.partial_responses == Takes::Yes).then(Vec::new),
    };
    let (msk, own) = kafka(of);
    EventSourceMappingConfiguration {
        uuid: Some(of.uuid.to_string()),
        event_source_mapping_arn: Some(of.arn().to_string()),
        event_source_arn: arn,
        self_managed_event_source: servers.map(|servers| SelfManagedEventSource {
            endpoints: Some(BTreeMap::from([("KAFKA_BOOTSTRAP_SERVERS".to_owned(), servers)])),
        }),
        function_arn: Some(of.function_arn().to_string()),
        state: Some(of.state.as_str().to_owned()),
        state_transition_reason: Some(transition_reason(of.kind).to_owned()),
        last_modified: Some(Timestamp::from_millis(of.modified_ms)),
        last_processing_result: (of.kind != SourceKind::Sqs)
            .then(|| "No records processed".to_owned()),
        batch_size: Some(settings.batch_size.unwrap_or(takes.batch_default)),
        maximum_batching_window_in_seconds: settings.window_secs.or(takes.window_secs_default),
        starting_position: settings.position.map(|position| position.as_str().to_owned()),
        starting_position_timestamp: settings.position_ms.map(Timestamp::from_millis),
        parallelization_factor: of_shards(settings.parallelization_factor, 1),
        tumbling_window_in_seconds: of_shards(settings.tumbling_window_secs, 0),
        maximum_record_age_in_seconds: endless(settings.record_age_secs_max),
        maximum_retry_attempts: endless(settings.retries_max),
        bisect_batch_on_function_error: settings
            .bisect_on_error
            .or((takes.retries == Takes::Yes).then_some(false)),
        destination_config: takes.on_failure.then(|| DestinationConfig {
            on_failure: Some(OnFailure { destination: settings.on_failure.clone() }),
            on_success: None,
        }),
        function_response_types: responses,
        filter_criteria: filters(&settings.filters),
        kms_key_arn: settings.kms_key_arn.clone(),
        scaling_config: settings
            .concurrency_max
            .map(|max| ScalingConfig { maximum_concurrency: Some(max) }),
        provisioned_poller_config: settings.pollers.as_ref().map(|pollers| {
            ProvisionedPollerConfig {
                minimum_pollers: pollers.min,
                maximum_pollers: pollers.max,
                poller_group_name: pollers.group.clone(),
            }
        }),
        topics: some(&settings.topics),
        queues: some(&settings.queues),
        source_access_configurations: (!settings.access.is_empty()).then(|| {
            let access = settings.access.iter().map(|one| SourceAccessConfiguration {
                r#type: Some(one.kind.clone()),
                uri: Some(one.uri.clone()),
            });
            access.collect()
        }),
        metrics_config: some(&settings.metrics)
            .map(|metrics| EventSourceMappingMetricsConfig { metrics: Some(metrics) }),
        logging_config: settings
            .log_level
            .clone()
            .map(|level| EventSourceMappingLoggingConfig { system_log_level: Some(level) }),
        document_db_event_source_config: settings.document_db.as_ref().map(|config| {
            DocumentDBEventSourceConfig {
                database_name: Some(config.database.clone()),
                collection_name: config.collection.clone(),
                full_document: config.full_document.clone(),
            }
        }),
        amazon_managed_kafka_event_source_config: msk,
        self_managed_kafka_event_source_config: own,
        filter_criteria_error: None,
    }
}

/// As lists show it: encrypted filters stay closed.
pub fn in_list(of: &Mapping) -> EventSourceMappingConfiguration {
    let mut shown = mapping(of);
    if of.settings.kms_key_arn.is_some() {
        shown.filter_criteria = None;
    }
    shown
}

fn transition_reason(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Sqs | SourceKind::SelfManagedKafka => "USER_INITIATED",
        _ => "User action",
    }
}

fn filters(patterns: &[String]) -> Option<FilterCriteria> {
    let filters = patterns.iter().map(|pattern| Filter { pattern: Some(pattern.clone()) });
    (!patterns.is_empty()).then(|| FilterCriteria { filters: Some(filters.collect()) })
}

fn some(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// The config of either Kafka; its group is called after the mapping unless
/// it was given a name.
fn kafka(
    of: &Mapping,
) -> (Option<AmazonManagedKafkaEventSourceConfig>, Option<SelfManagedKafkaEventSourceConfig>) {
    if !matches!(of.kind, SourceKind::Msk | SourceKind::SelfManagedKafka) {
        return (None, None);
    }
    let mut config = of.settings.kafka.clone().unwrap_or_else(|| json!({}));
    if let Value::Object(members) = &mut config {
        members.entry("ConsumerGroupId").or_insert_with(|| json!(of.uuid.to_string()));
    }
    match of.kind {
        SourceKind::Msk => (serde_json::from_value(config).ok(), None),
        _ => (None, serde_json::from_value(config).ok()),
    }
}

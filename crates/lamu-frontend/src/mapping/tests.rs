//! What each kind of source takes and refuses, and how mappings are shown.

use std::collections::BTreeMap;

use lamu_api::shapes::{CreateEventSourceMappingRequest, UpdateEventSourceMappingRequest};
use lamu_model::mapping::{Mapping, MappingState, Settings, Source, SourceKind};
use lamu_model::{AccountId, FunctionName, Region};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{asked, render};
use crate::function::refusal::Refusal;

const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:q";
const NOW_MS: i64 = 1_762_161_330_120;

/// The least that each kind of source asks for.
fn least(kind: SourceKind) -> Value {
    let arn = |rest: &str| format!("arn:aws:{}", rest.replace('@', "us-east-1:000000000000"));
    let access = json!([{"Type": "BASIC_AUTH", "URI": "arn:aws:secretsmanager:x"}]);
    match kind {
        SourceKind::Sqs => json!({"EventSourceArn": QUEUE}),
        SourceKind::Kinesis => {
            json!({"EventSourceArn": arn("kinesis:@:stream/s"), "StartingPosition": "LATEST"})
        }
        SourceKind::DynamoDb => json!({
            "EventSourceArn": arn("dynamodb:@:table/t/stream/1"),
            "StartingPosition": "LATEST",
        }),
        SourceKind::Msk => json!({
            "EventSourceArn": arn("kafka:@:cluster/c/1"),
            "StartingPosition": "LATEST",
            "Topics": ["t1"],
        }),
        SourceKind::SelfManagedKafka => json!({
            "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["b:9092"]}},
            "SourceAccessConfigurations": access,
            "StartingPosition": "TRIM_HORIZON",
            "Topics": ["t1"],
        }),
        SourceKind::Mq => json!({
            "EventSourceArn": arn("mq:@:broker:b:b-1"),
            "Queues": ["q1"],
            "SourceAccessConfigurations": access,
        }),
        SourceKind::DocumentDb => json!({
            "EventSourceArn": arn("rds:@:cluster:c"),
            "StartingPosition": "LATEST",
            "SourceAccessConfigurations": access,
            "DocumentDBEventSourceConfig": {"DatabaseName": "d"},
        }),
    }
}

fn request(kind: SourceKind, more: &Value) -> CreateEventSourceMappingRequest {
    let mut input = least(kind);
    let members = input.as_object_mut().unwrap();
    members.insert("FunctionName".into(), json!("f"));
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => members.remove(name),
            value => members.insert(name.clone(), value.clone()),
        };
    }
    serde_json::from_value(input).unwrap()
}

fn create(kind: SourceKind, more: &Value) -> Result<Settings, String> {
    let request = request(kind, more);
    let made = asked::source(&request).and_then(|(found, source)| {
        assert_eq!(found, kind);
        asked::create(kind, &source, &request, NOW_MS)
    });
    made.map_err(text)
}

fn text(refusal: Refusal) -> String {
    match refusal {
        Refusal::Invalid(text) => text,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn mapping(kind: SourceKind, more: &Value) -> Mapping {
    let request = request(kind, more);
    let (kind, source) = asked::source(&request).unwrap();
    let settings = asked::create(kind, &source, &request, NOW_MS).unwrap();
    Mapping {
        uuid: Uuid::from_u128(7),
        account: AccountId::new("000000000000"),
        region: Region::new("us-east-1"),
        function: FunctionName::new("f"),
        qualifier: None,
        kind,
        source,
        state: MappingState::Creating,
        enabled: true,
        modified_ms: NOW_MS,
        settings,
        tags: BTreeMap::new(),
    }
}

#[test]
fn the_least_of_every_kind_is_enough() {
    for kind in SourceKind::ALL {
        create(kind, &json!({})).unwrap_or_else(|text| panic!("{kind:?}: {text}"));
    }
}

/// Each setting with a good value, and the kinds that take it: by itself, and
/// in provisioned mode.
#[test]
fn every_setting_is_taken_by_some_kinds_and_refused_by_the_others() {
    use SourceKind as K;
    const STREAMS: &[K] = &[K::Kinesis, K::DynamoDb];
    const KAFKA: &[K] = &[K::Msk, K::SelfManagedKafka];
    let table: [(&str, Value, &[K], &[K]); 13] = [
        ("ParallelizationFactor", json!(2), STREAMS, &[]),
        ("TumblingWindowInSeconds", json!(5), STREAMS, &[]),
        ("MaximumRecordAgeInSeconds", json!(60), STREAMS, KAFKA),
        ("MaximumRetryAttempts", json!(3), STREAMS, KAFKA),
        ("BisectBatchOnFunctionError", json!(true), STREAMS, KAFKA),
        (
            "FunctionResponseTypes",
            json!(["ReportBatchItemFailures"]),
            &[K::Sqs, K::Kinesis, K::DynamoDb],
            KAFKA,
        ),
        (
            "DestinationConfig",
            json!({"OnFailure": {"Destination": QUEUE}}),
            &[K::Kinesis, K::DynamoDb, K::Msk, K::SelfManagedKafka],
            &[],
        ),
        (
            "FilterCriteria",
            json!({"Filters": [{"Pattern": "{\"a\":[1]}"}]}),
            &[K::Sqs, K::Kinesis, K::DynamoDb, K::Msk, K::SelfManagedKafka, K::Mq],
            &[],
        ),
        ("ScalingConfig", json!({"MaximumConcurrency": 2}), &[K::Sqs], &[]),
        (
            "ProvisionedPollerConfig",
            json!({"MinimumPollers": 2, "MaximumPollers": 2}),
            &[K::Sqs, K::Msk, K::SelfManagedKafka],
            &[],
        ),
        ("Topics", json!(["t1"]), KAFKA, &[]),
        ("Queues", json!(["q1"]), &[K::Mq], &[]),
        ("LoggingConfig", json!({"SystemLogLevel": "INFO"}), &[], KAFKA),
    ];
    for (name, value, plain, provisioned) in table {
        for kind in K::ALL {
            let alone = create(kind, &json!({name: value}));
            let pollers = json!({name: value, "ProvisionedPollerConfig": {"MinimumPollers": 2}});
            match (plain.contains(&kind), provisioned.contains(&kind)) {
                (true, _) => assert!(alone.is_ok(), "{kind:?} {name}: {alone:?}"),
                (false, true) => {
                    let text = alone.unwrap_err();
                    assert!(text.contains("ProvisionedPollerConfig"), "{kind:?} {name}: {text}");
                    let with = create(kind, &pollers);
                    assert!(with.is_ok(), "{kind:?} {name}: {with:?}");
                }
                (false, false) => assert_eq!(
                    alone.unwrap_err(),
                    format!("Unsupported {name} parameter for given event source mapping type."),
                    "{kind:?}"
                ),
            }
        }
    }
}

#[test]
fn what_is_wrong_is_said_in_the_services_words() {
    use SourceKind as K;
    let null_position = "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.";
    let dynamo = "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/1";
    let no_filter = "Invalid filter pattern definition.";
    let window = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10";
    let unsupported =
        |name: &str| format!("Unsupported {name} parameter for given event source mapping type.");
    let missing = |name: &str| format!("Required '{name}' parameter is missing.");
    let fifo = format!("{QUEUE}.fifo");
    let pattern = |text: &str| json!({"FilterCriteria": {"Filters": [{"Pattern": text}]}});
    let table: Vec<(K, Value, String)> = vec![
        (K::Kinesis, json!({"StartingPosition": null}), null_position.into()),
        (K::Msk, json!({"StartingPosition": null}), null_position.into()),
        (
            K::DynamoDb,
            json!({"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1}),
            format!("Unsupported starting position for arn type: {dynamo}"),
        ),
        (
            K::Kinesis,
            json!({"StartingPosition": "AT_TIMESTAMP"}),
            null_position.replace("startingPosition", "startingPositionTimestamp"),
        ),
        (
            K::Kinesis,
            json!({"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 9e9}),
            "StartingPositionTimestamp must not be in the future.".into(),
        ),
        (
            K::Kinesis,
            json!({"StartingPositionTimestamp": 1}),
            unsupported("StartingPositionTimestamp"),
        ),
        (K::Sqs, json!({"StartingPosition": "LATEST"}), unsupported("StartingPosition")),
        (K::Sqs, json!({"BatchSize": 11}), window.into()),
        (
            K::Sqs,
            json!({"EventSourceArn": fifo, "MaximumBatchingWindowInSeconds": 1}),
            "Batching window is not supported for FIFO queues.".into(),
        ),
        (
            K::Sqs,
            json!({"EventSourceArn": fifo, "BatchSize": 11}),
            "Maximum batch size must not be greater than 10 for FIFO queues.".into(),
        ),
        (
            K::Kinesis,
            json!({"DestinationConfig": {"OnSuccess": {"Destination": QUEUE}}}),
            unsupported("DestinationConfig"),
        ),
        (
            K::SelfManagedKafka,
            json!({"SourceAccessConfigurations": null}),
            missing("sourceAccessConfigurations"),
        ),
        (K::Mq, json!({"SourceAccessConfigurations": []}), missing("sourceAccessConfigurations")),
        (K::Mq, json!({"Queues": null}), missing("queues")),
        (K::Msk, json!({"Topics": null}), missing("topics")),
        (K::DocumentDb, json!({"DocumentDBEventSourceConfig": {}}), missing("databaseName")),
        (
            K::DocumentDb,
            json!({"DocumentDBEventSourceConfig": null}),
            missing("documentDBEventSourceConfig"),
        ),
        (K::Sqs, pattern(""), no_filter.into()),
        (K::Sqs, pattern("[]"), no_filter.into()),
        (K::Sqs, pattern("{\"a\": [{\"wildcards\": \"x\"}]}"), no_filter.into()),
        (K::Sqs, json!({"FilterCriteria": {"Filters": [{}]}}), no_filter.into()),
        (
            K::Sqs,
            json!({"SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": "x"}]}),
            unsupported("SourceAccessConfigurations"),
        ),
        (
            K::Msk,
            json!({"SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"}}),
            unsupported("SelfManagedKafkaEventSourceConfig"),
        ),
        (
            K::Sqs,
            json!({"DocumentDBEventSourceConfig": {"DatabaseName": "d"}}),
            unsupported("DocumentDBEventSourceConfig"),
        ),
        (
            K::Sqs,
            json!({"ProvisionedPollerConfig": {"PollerGroupName": "g"}}),
            unsupported("PollerGroupName"),
        ),
        (
            K::SelfManagedKafka,
            json!({"SelfManagedKafkaEventSourceConfig": {"ConsumptionMode": "Queue"}}),
            unsupported("StartingPosition"),
        ),
    ];
    for (kind, more, expected) in table {
        assert_eq!(create(kind, &more).unwrap_err(), expected, "{kind:?} {more}");
    }
    let both = json!({"ScalingConfig": {"MaximumConcurrency": 2}, "ProvisionedPollerConfig": {"MinimumPollers": 2}});
    for (kind, more, part) in [
        (K::Sqs, both, "cannot be used together"),
        (K::Sqs, json!({"ProvisionedPollerConfig": {"MinimumPollers": 1}}), "between 2 and 200"),
        (
            K::Msk,
            json!({"ProvisionedPollerConfig": {"MinimumPollers": 9, "MaximumPollers": 8}}),
            "must not be greater than MaximumPollers",
        ),
        (K::Kinesis, json!({"MaximumRecordAgeInSeconds": 59}), "-1 or at least 60"),
        (
            K::Kinesis,
            json!({"TumblingWindowInSeconds": 1, "ParallelizationFactor": 2}),
            "greater than 1",
        ),
        (
            K::Kinesis,
            json!({"DestinationConfig": {"OnFailure": {"Destination": "kafka://t"}}}),
            "is invalid",
        ),
        (K::Kinesis, json!({"MetricsConfig": {"Metrics": ["ErrorCount"]}}), "Unsupported metric"),
        (
            K::Msk,
            json!({"MetricsConfig": {"Metrics": ["KafkaMetrics"]}}),
            "ProvisionedPollerConfig",
        ),
        (
            K::Mq,
            json!({"SourceAccessConfigurations": [{"Type": "IAM_AUTH", "URI": "x"}]}),
            "IAM_AUTH",
        ),
        (
            K::Sqs,
            json!({"FilterCriteria": {"Filters": vec![json!({"Pattern": "{\"a\":[1]}"}); 6]}}),
            "limit of 5",
        ),
        (
            K::Msk,
            json!({"AmazonManagedKafkaEventSourceConfig": {"SchemaRegistryConfig": {}}}),
            "ProvisionedPollerConfig",
        ),
    ] {
        let text = create(kind, &more).unwrap_err();
        assert!(text.contains(part), "{kind:?} {more}: {text}");
    }
}

#[test]
fn what_is_no_source_is_not_recognized() {
    for members in [
        json!({"FunctionName": "f"}),
        json!({"FunctionName": "f", "EventSourceArn": "arn:aws:s3:::bucket"}),
        json!({"FunctionName": "f", "SelfManagedEventSource": {}}),
        json!({"FunctionName": "f", "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": []}}}),
    ] {
        let request = serde_json::from_value(members.clone()).unwrap();
        let refused = asked::source(&request).unwrap_err();
        assert_eq!(text(refused), "Unrecognized event source.", "{members}");
    }
}

#[test]
fn an_update_is_held_against_what_it_leads_to() {
    let before = mapping(
        SourceKind::Sqs,
        &json!({"FilterCriteria": {"Filters": [{"Pattern": "{\"a\":[1]}"}]}}),
    );
    let update = |of: &Mapping, change: Value| {
        let mut input = change;
        input["UUID"] = json!(of.uuid);
        let request: UpdateEventSourceMappingRequest = serde_json::from_value(input).unwrap();
        asked::update(of.kind, &of.source, &of.settings, &request).map_err(text)
    };
    let settings = update(&before, json!({"MaximumBatchingWindowInSeconds": 1})).unwrap();
    assert_eq!(settings.filters, before.settings.filters, "what is absent stays");
    assert!(update(&before, json!({"BatchSize": 100})).unwrap_err().contains("window"));
    let windowed = Mapping { settings, ..before.clone() };
    assert_eq!(update(&windowed, json!({"BatchSize": 100})).unwrap().batch_size, Some(100));
    let cleared = update(&before, json!({"FilterCriteria": {}})).unwrap();
    assert_eq!(cleared.filters, Vec::<String>::new());

    let kafka = mapping(
        SourceKind::Msk,
        &json!({"AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"}}),
    );
    let other = json!({"AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "h"}});
    assert!(update(&kafka, other).unwrap_err().contains("ConsumerGroupId"));
    assert!(update(&kafka, json!({"BatchSize": 7})).is_ok());
}

#[test]
fn mappings_are_shown_with_the_members_that_the_service_records() {
    let queue = render::mapping(&mapping(SourceKind::Sqs, &json!({})));
    let uuid = Uuid::from_u128(7).to_string();
    let arn = format!("arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{uuid}");
    let function = "arn:aws:lambda:us-east-1:000000000000:function:f";
    let expected = json!({
        "UUID": uuid, "EventSourceMappingArn": arn, "EventSourceArn": QUEUE,
        "FunctionArn": function, "BatchSize": 10, "MaximumBatchingWindowInSeconds": 0,
        "FunctionResponseTypes": [], "State": "Creating",
        "StateTransitionReason": "USER_INITIATED", "LastModified": 1_762_161_330.12,
    });
    assert_eq!(serde_json::to_value(queue).unwrap(), expected);

    let stream = render::mapping(&mapping(SourceKind::Kinesis, &json!({})));
    let expected = json!({
        "UUID": uuid, "EventSourceMappingArn": arn,
        "EventSourceArn": "arn:aws:kinesis:us-east-1:000000000000:stream/s",
        "FunctionArn": function, "StartingPosition": "LATEST", "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 0, "ParallelizationFactor": 1,
        "MaximumRecordAgeInSeconds": -1, "MaximumRetryAttempts": -1,
        "BisectBatchOnFunctionError": false, "TumblingWindowInSeconds": 0,
        "DestinationConfig": {"OnFailure": {}}, "FunctionResponseTypes": [],
        "LastProcessingResult": "No records processed", "State": "Creating",
        "StateTransitionReason": "User action", "LastModified": 1_762_161_330.12,
    });
    assert_eq!(serde_json::to_value(stream).unwrap(), expected);

    let kafka = render::mapping(&mapping(SourceKind::Msk, &json!({})));
    let group = kafka.amazon_managed_kafka_event_source_config.unwrap().consumer_group_id;
    assert_eq!(group, Some(uuid), "called after the mapping");
    assert_eq!(kafka.maximum_batching_window_in_seconds, None, "500 ms are no whole seconds");
}

#[test]
fn encrypted_filters_stay_closed_in_lists() {
    let filters = json!({
        "FilterCriteria": {"Filters": [{"Pattern": "{\"a\":[1]}"}]},
        "KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k",
    });
    let made = mapping(SourceKind::Sqs, &filters);
    assert!(render::mapping(&made).filter_criteria.is_some());
    assert_eq!(render::in_list(&made).filter_criteria, None);
    let open = mapping(SourceKind::Sqs, &json!({"FilterCriteria": filters["FilterCriteria"]}));
    assert!(render::in_list(&open).filter_criteria.is_some());
    let source = Source::Arn(QUEUE.into());
    assert_eq!(open.source, source);
}

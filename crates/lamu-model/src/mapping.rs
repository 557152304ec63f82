//! An event source mapping: which source is polled for which function, how,
//! and where it is in its life ("The ESM resource" and "Parameters by source"
//! of the event source reference).
//!
//! ```text
//! Creating --+                  +--> Updating, Enabling, Disabling --+
//!            v                  |                                    v
//!        Enabled | Disabled ----+-- Deleting --> gone        Enabled | Disabled
//! ```
//!
//! Not here: which settings a kind of source takes (the frontend), reading
//! sources (the poller).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{AccountId, Arn, FunctionName, Region};

/// The kinds of sources that Lambda polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SourceKind {
    Sqs,
    Kinesis,
    DynamoDb,
    Msk,
    SelfManagedKafka,
    Mq,
    DocumentDb,
}

/// What is polled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    Arn(String),
    /// `host:port` of a Kafka that Lambda does not manage.
    Kafka(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mapping {
    pub uuid: Uuid,
    pub account: AccountId,
    pub region: Region,
    pub function: FunctionName,
    /// Version or alias, as it was given.
    pub qualifier: Option<String>,
    pub kind: SourceKind,
    pub source: Source,
    pub state: MappingState,
    /// What it is, or settles to: polled or not.
    pub enabled: bool,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
    pub settings: Settings,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MappingState {
    Creating,
    Enabling,
    Enabled,
    Disabling,
    Disabled,
    Updating,
    Deleting,
}

/// What was asked for, as it was asked; what was left out has the default of
/// its kind of source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub batch_size: Option<i32>,
    pub window_secs: Option<i32>,
    pub position: Option<StartingPosition>,
    /// Milliseconds since the epoch; with `AtTimestamp` only.
    pub position_ms: Option<i64>,
    pub parallelization_factor: Option<i32>,
    /// -1 is for ever.
    pub record_age_secs_max: Option<i32>,
    /// -1 is without end.
    pub retries_max: Option<i32>,
    pub bisect_on_error: Option<bool>,
    pub tumbling_window_secs: Option<i32>,
    /// The function answers with the records that failed.
    pub partial_responses: Option<bool>,
    pub on_failure: Option<String>,
    /// Patterns that were read once; records that match none are left out.
    pub filters: Vec<String>,
    pub kms_key_arn: Option<String>,
    pub concurrency_max: Option<i32>,
    pub pollers: Option<Pollers>,
    pub topics: Vec<String>,
    pub queues: Vec<String>,
    pub access: Vec<Access>,
    pub metrics: Vec<String>,
    pub log_level: Option<String>,
    /// The config object of either Kafka, in the API's shape.
    pub kafka: Option<Value>,
    pub document_db: Option<DocumentDb>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartingPosition {
    #[serde(rename = "TRIM_HORIZON")]
    TrimHorizon,
    #[serde(rename = "LATEST")]
    Latest,
    #[serde(rename = "AT_TIMESTAMP")]
    AtTimestamp,
}

/// Provisioned mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pollers {
    pub min: Option<i32>,
    pub max: Option<i32>,
    pub group: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub kind: String,
    pub uri: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentDb {
    pub database: String,
    pub collection: Option<String>,
    pub full_document: Option<String>,
}

/// Something is under way, and one thing at a time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse;

impl Source {
    /// The order of servers is no difference.
    fn is(&self, other: &Source) -> bool {
        match (self, other) {
            (Source::Kafka(ours), Source::Kafka(theirs)) => {
                let sorted = |servers: &[String]| {
                    let mut servers = servers.to_vec();
                    servers.sort();
                    servers
                };
                sorted(ours) == sorted(theirs)
            }
            (ours, theirs) => ours == theirs,
        }
    }
}

impl Mapping {
    pub fn arn(&self) -> Arn {
        mapping_arn(&self.region, &self.account, self.uuid)
    }

    /// With the qualifier that was given.
    pub fn function_arn(&self) -> Arn {
        let arn = Arn::function(&self.region, &self.account, &self.function);
        match &self.qualifier {
            Some(qualifier) => arn.qualified(qualifier),
            None => arn,
        }
    }

    /// Whether both poll the same for the same function: Lambda allows one.
    pub fn is_twin_of(&self, other: &Mapping) -> bool {
        self.source.is(&other.source)
            && self.function == other.function
            && self.qualifier == other.qualifier
            && self.settings.topics == other.settings.topics
            && self.settings.queues == other.settings.queues
    }

    /// An update begins; `enabled` is what is wanted after it.
    pub fn updating(&self, enabled: bool) -> Result<MappingState, InUse> {
        match (self.state, enabled) {
            (MappingState::Enabled, false) => Ok(MappingState::Disabling),
            (MappingState::Disabled, true) => Ok(MappingState::Enabling),
            (MappingState::Enabled | MappingState::Disabled, _) => Ok(MappingState::Updating),
            _ => Err(InUse),
        }
    }

    /// The end begins.
    pub fn deleting(&self) -> Result<MappingState, InUse> {
        match self.state {
            MappingState::Enabled | MappingState::Disabled => Ok(MappingState::Deleting),
            _ => Err(InUse),
        }
    }

    /// Where what was begun ends.
    pub fn settled(&self) -> Settled {
        match self.state {
            MappingState::Enabled | MappingState::Disabled => Settled::Already,
            MappingState::Deleting => Settled::Gone,
            MappingState::Creating
            | MappingState::Enabling
            | MappingState::Disabling
            | MappingState::Updating => Settled::As(match self.enabled {
                true => MappingState::Enabled,
                false => MappingState::Disabled,
            }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing is under way.
    Already,
    As(MappingState),
    Gone,
}

pub fn mapping_arn(region: &Region, account: &AccountId, uuid: Uuid) -> Arn {
    Arn::new(format!("arn:aws:lambda:{region}:{account}:event-source-mapping:{uuid}"))
}

impl MappingState {
    pub fn as_str(self) -> &'static str {
        match self {
            MappingState::Creating => "Creating",
            MappingState::Enabling => "Enabling",
            MappingState::Enabled => "Enabled",
            MappingState::Disabling => "Disabling",
            MappingState::Disabled => "Disabled",
            MappingState::Updating => "Updating",
            MappingState::Deleting => "Deleting",
        }
    }
}

impl StartingPosition {
    pub fn parse(text: &str) -> Option<StartingPosition> {
        match text {
            "TRIM_HORIZON" => Some(StartingPosition::TrimHorizon),
            "LATEST" => Some(StartingPosition::Latest),
            "AT_TIMESTAMP" => Some(StartingPosition::AtTimestamp),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            StartingPosition::TrimHorizon => "TRIM_HORIZON",
            StartingPosition::Latest => "LATEST",
            StartingPosition::AtTimestamp => "AT_TIMESTAMP",
        }
    }
}

impl SourceKind {
    pub const ALL: [SourceKind; 7] = [
        SourceKind::Sqs,
        SourceKind::Kinesis,
        SourceKind::DynamoDb,
        SourceKind::Msk,
        SourceKind::SelfManagedKafka,
        SourceKind::Mq,
        SourceKind::DocumentDb,
    ];

    /// As AWS calls it.
    pub fn title(self) -> &'static str {
        match self {
            SourceKind::Sqs => "Amazon SQS",
            SourceKind::Kinesis => "Amazon Kinesis",
            SourceKind::DynamoDb => "Amazon DynamoDB Streams",
            SourceKind::Msk => "Amazon MSK",
            SourceKind::SelfManagedKafka => "self-managed Apache Kafka",
            SourceKind::Mq => "Amazon MQ",
            SourceKind::DocumentDb => "Amazon DocumentDB",
        }
    }

    /// The kind of source behind an ARN, if it is one that is polled.
    pub fn of_arn(arn: &str) -> Option<SourceKind> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let [_, _, service, _, _, resource] = parts.as_slice() else { return None };
        let path: Vec<&str> = resource.split('/').collect();
        match (*service, path.as_slice()) {
            ("sqs", [name]) if !name.is_empty() => Some(SourceKind::Sqs),
            ("kinesis", ["stream", _] | ["stream", _, "consumer", _]) => Some(SourceKind::Kinesis),
            ("dynamodb", ["table", _, "stream", _]) => Some(SourceKind::DynamoDb),
            ("kafka", ["cluster", ..]) => Some(SourceKind::Msk),
            ("mq", _) if resource.starts_with("broker:") => Some(SourceKind::Mq),
            ("rds", _) if resource.starts_with("cluster:") => Some(SourceKind::DocumentDb),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(state: MappingState, enabled: bool) -> Mapping {
        Mapping {
            uuid: Uuid::from_u128(7),
            account: AccountId::new("000000000000"),
            region: Region::new("us-east-1"),
            function: FunctionName::new("f"),
            qualifier: None,
            kind: SourceKind::Sqs,
            source: Source::Arn("arn:aws:sqs:us-east-1:000000000000:q".into()),
            state,
            enabled,
            modified_ms: 1,
            settings: Settings::default(),
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn one_thing_at_a_time_is_under_way_and_ends_where_it_was_to() {
        use MappingState as S;
        // From, wanted, on the way, at its end.
        let table = [
            (S::Enabled, true, Ok(S::Updating), S::Enabled),
            (S::Enabled, false, Ok(S::Disabling), S::Disabled),
            (S::Disabled, true, Ok(S::Enabling), S::Enabled),
            (S::Disabled, false, Ok(S::Updating), S::Disabled),
        ];
        for (from, wanted, way, end) in table {
            assert_eq!(mapping(from, !wanted).updating(wanted), way);
            assert_eq!(mapping(way.unwrap(), wanted).settled(), Settled::As(end));
        }
        assert_eq!(mapping(S::Creating, false).settled(), Settled::As(S::Disabled));
        for busy in [S::Creating, S::Enabling, S::Disabling, S::Updating, S::Deleting] {
            assert_eq!(mapping(busy, true).updating(true), Err(InUse), "{busy:?}");
            assert_eq!(mapping(busy, true).deleting(), Err(InUse), "{busy:?}");
        }
        for quiet in [S::Enabled, S::Disabled] {
            assert_eq!(mapping(quiet, true).deleting(), Ok(S::Deleting));
            assert_eq!(mapping(quiet, true).settled(), Settled::Already);
        }
        assert_eq!(mapping(S::Deleting, true).settled(), Settled::Gone);
    }

    #[test]
    fn an_arn_names_its_kind_of_source() {
        let account = "us-east-1:000000000000";
        let table = [
            (format!("sqs:{account}:q.fifo"), Some(SourceKind::Sqs)),
            (format!("kinesis:{account}:stream/s"), Some(SourceKind::Kinesis)),
            (format!("kinesis:{account}:stream/s/consumer/c:1"), Some(SourceKind::Kinesis)),
            (format!("dynamodb:{account}:table/t/stream/2026"), Some(SourceKind::DynamoDb)),
            (format!("kafka:{account}:cluster/c/uuid-1"), Some(SourceKind::Msk)),
            (format!("mq:{account}:broker:b:b-1"), Some(SourceKind::Mq)),
            (format!("rds:{account}:cluster:c"), Some(SourceKind::DocumentDb)),
            (format!("dynamodb:{account}:table/t"), None),
            (format!("kinesis:{account}:s"), None),
            (format!("s3:{account}:b"), None),
            ("sqs:".into(), None),
        ];
        for (rest, kind) in table {
            assert_eq!(SourceKind::of_arn(&format!("arn:aws:{rest}")), kind, "{rest}");
        }
        assert_eq!(SourceKind::of_arn("nonsense"), None);
    }

    #[test]
    fn a_twin_polls_the_same_for_the_same() {
        let one = mapping(MappingState::Enabled, true);
        let mut other = Mapping { uuid: Uuid::from_u128(8), enabled: false, ..one.clone() };
        assert!(one.is_twin_of(&other));
        other.qualifier = Some("prod".into());
        assert!(!one.is_twin_of(&other));
    }

    #[test]
    fn a_mapping_survives_being_stored_and_older_documents_are_read() {
        let mut one = mapping(MappingState::Updating, true);
        one.settings.filters.push("{}".into());
        one.settings.position = Some(StartingPosition::TrimHorizon);
        let stored = serde_json::to_value(&one).unwrap();
        assert_eq!(serde_json::from_value::<Mapping>(stored.clone()).unwrap(), one);
        let mut older = stored;
        older["settings"] = serde_json::json!({"batch_size": 5});
        let read: Mapping = serde_json::from_value(older).unwrap();
        assert_eq!(read.settings, Settings { batch_size: Some(5), ..Settings::default() });
    }
}

//! Which settings each kind of source takes: the table "Parameters by source"
//! of the event source reference, as code.
//!
//! Not here: reading a request (`asked`).

use lamu_model::mapping::SourceKind;

/// Whether a kind of source takes a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    No,
    Yes,
    /// In provisioned mode only.
    Provisioned,
}

/// Where reading may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    None,
    /// From either end.
    Ends,
    /// From either end, or from a time.
    All,
}

/// One column of the table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub batch_default: i32,
    /// `None`: the 500 ms of those who have no whole default.
    pub window_secs_default: Option<i32>,
    pub positions: Positions,
    /// Parallelization and tumbling windows.
    pub shards: bool,
    /// Age, retries, bisecting.
    pub retries: Takes,
    pub partial_responses: Takes,
    pub on_failure: bool,
    pub filters: bool,
    pub scaling: bool,
    pub provisioned: Option<PollerBounds>,
    pub topics: bool,
    pub queues: bool,
    /// Kinds of `SourceAccessConfigurations`; none of them, none taken.
    pub access: &'static [&'static str],
    pub access_required: bool,
    pub metrics: &'static [&'static str],
    pub logging: Takes,
}

#[derive(Clone, Copy, Debug)]
pub struct PollerBounds {
    pub min: (i32, i32),
    pub max: (i32, i32),
    pub groups: bool,
}

const KAFKA_ACCESS: &[&str] = &[
    "BASIC_AUTH",
    "VPC_SUBNET",
    "VPC_SECURITY_GROUP",
    "SASL_SCRAM_512_AUTH",
    "SASL_SCRAM_256_AUTH",
    "CLIENT_CERTIFICATE_TLS_AUTH",
    "SERVER_ROOT_CA_CERTIFICATE",
    "OAUTHBEARER_AUTH",
    "OAUTHBEARER_SCOPE",
    "OAUTHBEARER_AUDIENCE",
    "OAUTHBEARER_LOGICAL_CLUSTER",
    "OAUTHBEARER_IDENTITY_POOL",
    "IAM_AUTH",
    "IAM_OAUTHBEARER_AUTH",
];

const KAFKA: Column = Column {
    batch_default: 100,
    window_secs_default: None,
    positions: Positions::All,
    shards: false,
    retries: Takes::Provisioned,
    partial_responses: Takes::Provisioned,
    on_failure: true,
    filters: true,
    scaling: false,
    provisioned: Some(PollerBounds { min: (1, 200), max: (1, 2_000), groups: true }),
    topics: true,
    queues: false,
    access: KAFKA_ACCESS,
    access_required: false,
    metrics: &["EventCount", "ErrorCount", "KafkaMetrics"],
    logging: Takes::Provisioned,
};

const STREAM: Column = Column {
    batch_default: 100,
    window_secs_default: Some(0),
    positions: Positions::All,
    shards: true,
    retries: Takes::Yes,
    partial_responses: Takes::Yes,
    on_failure: true,
    filters: true,
    scaling: false,
    provisioned: None,
    topics: false,
    queues: false,
    access: &[],
    access_required: false,
    metrics: &["EventCount"],
    logging: Takes::No,
};

const SQS: Column = Column {
    batch_default: 10,
    positions: Positions::None,
    shards: false,
    retries: Takes::No,
    on_failure: false,
    scaling: true,
    provisioned: Some(PollerBounds { min: (2, 200), max: (2, 10_000), groups: false }),
    ..STREAM
};

const MQ: Column = Column {
    window_secs_default: None,
    positions: Positions::None,
    shards: false,
    retries: Takes::No,
    partial_responses: Takes::No,
    on_failure: false,
    queues: true,
    access: &["BASIC_AUTH", "VIRTUAL_HOST"],
    access_required: true,
    ..STREAM
};

const DOCUMENT_DB: Column = Column {
    positions: Positions::All,
    filters: false,
    queues: false,
    access: &["BASIC_AUTH"],
    ..MQ
};

pub fn column(kind: SourceKind) -> Column {
    match kind {
        SourceKind::Sqs => SQS,
        SourceKind::Kinesis => STREAM,
        SourceKind::DynamoDb => Column { positions: Positions::Ends, ..STREAM },
        SourceKind::Msk => KAFKA,
        SourceKind::SelfManagedKafka => Column { access_required: true, ..KAFKA },
        SourceKind::Mq => MQ,
        SourceKind::DocumentDb => DOCUMENT_DB,
    }
}

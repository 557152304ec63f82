//! The nouns of lamu and the rules that need no machine: names, ARNs, ids,
//! versions, runtimes, limits, what an invocation ends with, and the log lines
//! the platform writes about it; which log events a pattern means; which endpoints
//! functions reach.
//!
//! Not here: clocks, randomness, I/O, tokio. Time and ids arrive as values.

mod arn;
mod digest;
mod egress;
mod events;
mod extension_events;
pub mod filter;
mod ids;
mod initialization;
mod limits;
mod log_pattern;
pub mod mapping;
mod outcome;
mod report;
mod runtime;
mod spec;

pub use arn::{Arn, FunctionRef, NameFamily, RefError};
pub use digest::Digest;
pub use egress::{
    ENDPOINTS_MAX, EgressDoor, EgressError, EgressPlan, EgressTarget, Endpoint, is_closed,
    is_closed_to_names,
};
pub use events::{InitRuntimeDone, InitStart, LogsDropped, RuntimeDone, RuntimeVersion, Span};
pub use extension_events::{ExtensionLine, SubscriptionApi, SubscriptionLine, logs_api};
pub use ids::{
    AccountId, Epoch, FunctionName, LeaseId, Qualifier, Region, RequestId, SandboxId, Version,
    VersionId, WorkerId,
};
pub use initialization::{InitializationType, PROVISIONED_INIT_SECS_MIN};
pub use limits::*;
pub use log_pattern::{LOG_PATTERN_LENGTH_MAX, LogPattern, LogPatternError};
pub use outcome::{Fault, FaultKind, Outcome};
pub use report::{InitPhase, InitReport, Report, ReportStatus, StartLine};
pub use runtime::{Language, Runtime};
pub use spec::{Architecture, LogConfig, LogFormat, LogLevel, VersionSpec};

//! The doorways between roles: what one role may ask of another, the handles
//! to ask it with, and the guards that come back.
//!
//! A role is one task with a bounded inbox. Everyone else holds a handle,
//! which is cheap to clone. What a reply carries cleans up after itself, so a
//! caller that goes away at any moment leaks nothing.
//!
//! ```text
//! frontend --Acquire--> manager --Place--> placement
//!         --Provision->    |
//!                          |------Boot---> worker
//! frontend <--Lease--------|
//! frontend --Lease::invoke-------------> environment (a task of the worker)
//! environment: END --drops--> Lease --returned--> manager
//! worker --Gone, Idle--> manager          worker --Join, Load--> placement
//! ```
//!
//! Not here: any role's inside. A test plays either side by reading the inbox.

mod environment;
mod logs;
mod manager;
mod placement;
mod stream;
mod worker;

pub use environment::{
    Call, EnvironmentHandle, Hold, InvokeError, Lease, Reply, Start, Timings, WeakEnvironment, Work,
};
pub use logs::{
    GroupChange, GroupQuery, LogEnd, LogError, LogEvent, LogGroup, LogGroupName, LogPage, LogPlace,
    LogQuery, LogRequest, LogSpan, LogStream, LogsHandle, NewLogEvent, NewLogGroup, StreamChoice,
};
pub use manager::{
    AcquireError, EnvironmentRow, EnvironmentState, ManagerHandle, ManagerRequest,
    ProvisionFailure, ProvisionedRow, WorkerEvent,
};
pub use placement::{
    Capacity, Load, PlaceError, Placed, PlacementHandle, PlacementRequest, Reservation,
};
pub use stream::{Piece, ReplyStream, Streamed};
pub use worker::{BootError, Booted, EnvironmentReport, WorkerHandle, WorkerRequest};

/// Requests that may wait at one role. Bounded, so a slow role slows its
/// callers rather than filling memory; far above what a healthy one holds.
pub const INBOX_MAX: usize = 1024;

/// The role on the other side of a handle is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {0} is gone")]
pub struct RoleGone(pub &'static str);

//! Functions as the control plane knows them: documents, their state machine,
//! and the rules of versions, aliases and revisions.
//!
//! Everything in this room's files is a decision over values, but for
//! `catalog` and `beside` (what is cached), `store` (what is written) and the
//! background tasks `settle`, `sweep` and `provisioner`.
//!
//! Not here: HTTP (`listener`, `service`), operations as clients call them
//! (`operations`), running a function (`invoke`).

pub mod beside;
pub mod beyond;
pub mod catalog;
pub mod configuration;
pub mod document;
pub mod environment;
pub mod invoke_config;
pub mod paging;
pub mod provisioned;
pub mod provisioner;
pub mod publish;
pub mod refusal;
pub mod render;
pub mod resolve;
pub mod resource_policy;
pub mod routing;
pub mod runtime_management;
pub mod runtimes;
pub mod settle;
pub mod state;
pub mod store;
pub mod sweep;
pub mod url;
pub mod watch;

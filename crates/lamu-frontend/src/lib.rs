//! The way in: the listener, identities, Lambda's control plane, and the
//! invoke path ending in a lease.
//!
//! ```text
//! connection ─▶ service ─▶ invoke ──────▶ manager, environment
//!                     ├─▶ url ──────────▶ the same, for HTTP of functions
//!                     ├─▶ operations ───▶ store (metadata, packages), settle
//!                     └─▶ logs ─────────▶ log store
//! ```
//!
//! Not here: AWS's wire (`lamu_api`), making and running environments
//! (`lamu_fleet`, `lamu_worker`).

mod access;
mod access_log;
mod admission;
mod answer;
mod body;
mod browser;
mod callers;
mod code;
mod code_link;
mod config;
mod error;
mod event;
mod eventstream;
mod frontend;
mod function;
mod identity;
mod invoke;
mod layer;
mod listener;
mod logs;
mod mapping;
mod operations;
mod policy;
mod rate;
mod s3;
mod service;
mod signing;
mod stats;
mod stream;
mod table;
mod trace;
mod url;

pub use admission::{Admission, Claims, InUse, Limits, Provisioned, RateRule};
pub use callers::CallerRate;
pub use config::{Bounds, FrontendConfig, RenderMetrics};
pub use frontend::{Frontend, FrontendHandle, StartError};
pub use identity::AccessKey;
pub use policy::managed::{names as managed_policy_names, policy as managed_policy};
pub use policy::{Attached, Policy, PolicyErrors, Principal};
pub use s3::{S3Config, S3Credentials};
pub use stats::FrontendStats;
pub use url::address::UrlBase;

//! IAM's policies: read, kept ready, and evaluated. Everything is a pure
//! function over values; the time of a request is one of them.
//!
//! ```text
//!  JSON ─▶ document ─▶ Policy ─┐
//!                              ├─ evaluate ─▶ allowed, or why not
//!  principal, context ─────────┘
//! ```
//!
//! Not here: which action and resource an operation is about, and whose
//! policies count (`crate::access`).

pub mod condition;
pub mod context;
pub mod document;
pub mod evaluate;
pub mod managed;
pub mod pattern;
pub mod principal;

pub use context::Context;
pub use document::{Attached, Policy, PolicyErrors};
pub use evaluate::{Owner, Question, Refused, denies, evaluate};
pub use principal::Principal;

//! The client verbs: the same public API that every SDK uses, and no other way
//! in.
//!
//! Not here: the roles, the stores; nothing in this folder knows of them.

mod archive;
mod connection;
mod deploy;
mod detect;
mod invoke;
mod list;
mod logs;
mod signing;
mod url;

pub use connection::{Connection, Refused};
pub use deploy::deploy;
pub use invoke::invoke;
pub use list::{list, remove};
pub use logs::logs;
pub use url::url;

//! What must survive a crash: documents ([`Metadata`]), events ([`Queue`]) and
//! package bytes ([`Packages`]). Each is a trait with promises, implementations, and a
//! conformance suite that every implementation passes. And reading what
//! packages are made of, zip archives from strangers ([`archive`]).
//!
//! Not here: what the documents mean (`lamu_frontend`), and anything that can
//! be rebuilt, such as which environment is warm.

pub mod archive;
pub mod conformance;
mod metadata;
mod packages;
pub mod queue;
mod sqlite;

pub use metadata::{Change, Document, Expect, Metadata, MetadataError, Revision, SqliteMetadata};
pub use packages::{DirPackages, Packages, PackagesError};
pub use queue::{Queue, QueueError, QueueLimits, SqliteQueue};

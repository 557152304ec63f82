//! Packages as the environments of this host use them: unpacked once, shared
//! read-only, kept while there is room.
//!
//! Not here: where packages are stored and what a good archive is
//! (`lamu_store`), mounting them (`lamu_sandbox`).

mod cache;

pub use cache::{PackageCache, PackageError, Unpacked};

//! Package bytes by digest: put once, read whole or by range.

mod dir;

use std::fmt;
use std::ops::Range;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use lamu_model::Digest;

pub use dir::DirPackages;

#[async_trait]
pub trait Packages: Send + Sync + fmt::Debug {
    /// Stores bytes under their digest and returns it. Durable before the
    /// answer; putting what is there already is cheap.
    async fn put(&self, bytes: Bytes) -> Result<Digest, PackagesError>;

    async fn get(&self, digest: &Digest) -> Result<Bytes, PackagesError>;

    /// The part of `range` that lies in the package. It is not checked against
    /// the digest, which names the whole.
    async fn get_range(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, PackagesError>;

    /// Writes the package to `file`, which must not exist, without holding it
    /// in memory. The bytes are checked against the digest on the way.
    async fn copy_to(&self, digest: &Digest, file: &Path) -> Result<u64, PackagesError>;

    /// `None` when it is not stored.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, PackagesError>;

    /// Removing what is not there succeeds.
    async fn delete(&self, digest: &Digest) -> Result<(), PackagesError>;

    /// Every stored digest, for the sweep of what no function refers to.
    async fn list(&self) -> Result<Vec<Digest>, PackagesError>;
}

#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    #[error("package {digest} is not in the package store")]
    Missing { digest: Digest },
    #[error("package {digest} does not have the bytes of its name")]
    Damaged { digest: Digest },
    #[error("the package store could not {step}")]
    Unavailable { step: String, source: Box<dyn std::error::Error + Send + Sync> },
}

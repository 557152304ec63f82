//! Links to a function's code: what `GetFunction` answers as `Code.Location`.
//! Whoever has a link may fetch that one package for ten minutes.
//!
//! The key that seals links is kept in the metadata store, so a link made by
//! one frontend opens at another, and after a restart.

use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use lamu_model::Digest;
use lamu_store::{Expect, Metadata, MetadataError};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

/// As long as the service's own.
pub const LIFE: Duration = Duration::from_secs(600);

/// The path below which packages are served.
pub const PATH: &str = "/_lamu/code/";

const KEY_DOCUMENT: &str = "secret/code-links";

/// Why a link does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLink {
    #[error("the link is not one of ours")]
    Forged,
    #[error("the link has expired")]
    Expired,
}

pub struct CodeLinks {
    key: Bytes,
}

impl std::fmt::Debug for CodeLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeLinks").finish_non_exhaustive()
    }
}

impl CodeLinks {
    /// Reads the key, or makes it where there is none.
    pub async fn open(metadata: &dyn Metadata) -> Result<CodeLinks, MetadataError> {
        loop {
            if let Some(document) = metadata.get(KEY_DOCUMENT).await? {
                return Ok(CodeLinks { key: document.value });
            }
            // 244 random bits.
            let key = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat();
            match metadata.put(KEY_DOCUMENT, Bytes::from(key), Expect::Absent).await {
                Ok(_) | Err(MetadataError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Path and query of a link. Times are seconds since the epoch.
    pub fn make(&self, digest: &Digest, now_secs: u64) -> String {
        let expires = now_secs + LIFE.as_secs();
        format!("{PATH}{digest}?expires={expires}&signature={}", self.seal(digest, expires))
    }

    /// The package that a link is for.
    pub fn open_link(&self, path: &str, query: &str, now_secs: u64) -> Result<Digest, BadLink> {
        let digest = path.strip_prefix(PATH).and_then(Digest::parse).ok_or(BadLink::Forged)?;
        let value = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let expires = value("expires").and_then(|text| text.parse().ok()).ok_or(BadLink::Forged)?;
        let signature = value("signature").ok_or(BadLink::Forged)?;
        let ours = self.seal(&digest, expires);
        if !bool::from(ours.as_bytes().ct_eq(signature.as_bytes())) {
            return Err(BadLink::Forged);
        }
        if now_secs > expires {
            return Err(BadLink::Expired);
        }
        Ok(digest)
    }

    fn seal(&self, digest: &Digest, expires: u64) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes any key");
        mac.update(&digest.0);
        mac.update(&expires.to_be_bytes());
        Digest(mac.finalize().into_bytes().into()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> CodeLinks {
        CodeLinks { key: Bytes::from_static(b"a key") }
    }

    fn open(link: &str, now_secs: u64) -> Result<Digest, BadLink> {
        let (path, query) = link.split_once('?').unwrap();
        links().open_link(path, query, now_secs)
    }

    #[test]
    fn a_link_opens_for_ten_minutes() {
        let digest = Digest::of(b"zip");
        let link = links().make(&digest, 1_000);
        assert_eq!(open(&link, 1_000), Ok(digest));
        assert_eq!(open(&link, 1_600), Ok(digest));
        assert_eq!(open(&link, 1_601), Err(BadLink::Expired));
    }

    #[test]
    fn a_changed_link_does_not_open() {
        let link = links().make(&Digest::of(b"zip"), 1_000);
        let other = link.replace(&Digest::of(b"zip").to_string(), &Digest::of(b"x").to_string());
        assert_eq!(open(&other, 1_000), Err(BadLink::Forged));
        assert_eq!(open(&link.replace("1600", "9999"), 1_000), Err(BadLink::Forged));
        let stranger = CodeLinks { key: Bytes::from_static(b"other") };
        let foreign = stranger.make(&Digest::of(b"zip"), 1_000);
        assert_eq!(open(&foreign, 1_000), Err(BadLink::Forged));
    }
}

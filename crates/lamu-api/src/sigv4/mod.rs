//! AWS Signature Version 4: making signatures, reading them, holding a request
//! against one.
//!
//! ```text
//!  request ─▶ canonical request ─▶ string to sign ─┐
//!  secret, date, region, service ─▶ signing key ───┴─▶ signature
//! ```
//!
//! Everything is a function of its arguments; the time is one of them.
//!
//! Not here: where secrets come from, and signatures of streamed chunks
//! (`STREAMING-…`), which Lambda does not take.

mod canonical;
mod sign;
#[cfg(test)]
mod tests;
mod verify;

use http::HeaderMap;
use sha2::{Digest as _, Sha256};

pub use canonical::{canonical_request, encode_path, uri_encode};
pub use sign::{Credentials, Signer, signing_key, string_to_sign};
pub use verify::{EXPIRES_SECS_MAX, SKEW_SECS_MAX, SignatureError, verify};

use crate::request::query_text;

pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
pub(crate) const TERMINATOR: &str = "aws4_request";
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The part of a request that is signed, as it travels.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    pub method: &'a str,
    /// Percent-encoded, as in the request line.
    pub path: &'a str,
    /// Percent-encoded, without its question mark.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// Stands for the `host` header where that is missing (HTTP/2).
    pub authority: Option<&'a str>,
}

/// What the signature says about the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadHash {
    Sha256([u8; 32]),
    /// The signature does not cover the body.
    Unsigned,
}

impl PayloadHash {
    pub fn of(body: &[u8]) -> PayloadHash {
        PayloadHash::Sha256(Sha256::digest(body).into())
    }

    pub(crate) fn text(&self) -> String {
        match self {
            PayloadHash::Sha256(hash) => hex(hash),
            PayloadHash::Unsigned => UNSIGNED.to_owned(),
        }
    }
}

/// Who signed, for where: the `Credential` of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub access_key: String,
    /// `YYYYMMDD`
    pub date: String,
    pub region: String,
    pub service: String,
}

/// Whose signature was found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub access_key: String,
    pub region: String,
    pub service: String,
}

/// Reads `AKID/20261103/us-east-1/lambda/aws4_request`.
pub fn parse_credential_scope(text: &str) -> Option<Scope> {
    let mut parts = text.split('/');
    let mut next = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
    let scope = Scope { access_key: next()?, date: next()?, region: next()?, service: next()? };
    (next()? == TERMINATOR && parts.next().is_none()).then_some(scope)
}

/// The scope of whatever signature a request carries, right or wrong. For
/// where nothing is verified: it says region and access key.
pub fn scope_of(headers: &HeaderMap, query: &str) -> Option<Scope> {
    if let Some(header) = headers.get(http::header::AUTHORIZATION) {
        let credential = verify::authorization_part(header.to_str().ok()?, "Credential")?;
        return parse_credential_scope(credential);
    }
    if query.is_empty() {
        return None;
    }
    parse_credential_scope(&query_text(query, "X-Amz-Credential")?)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

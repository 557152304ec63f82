//! Making signatures: for our client, and for fetching from S3.
//!
//! Not here: checking the signatures of others (`verify`).

use std::fmt;

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use http::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use sha2::{Digest as _, Sha256};

use super::canonical::{canonical_request, uri_encode};
use super::{ALGORITHM, PayloadHash, RequestParts, TERMINATOR, hex};

/// Headers that change on the way and so are never signed.
const UNSIGNABLE: [&str; 7] = [
    "authorization",
    "connection",
    "expect",
    "te",
    "transfer-encoding",
    "user-agent",
    "x-amzn-trace-id",
];

/// Keys of a caller. Its debug form holds no secret.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    pub access_key: &'a str,
    pub secret: &'a str,
    pub session_token: Option<&'a str>,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// Signs requests for one service in one region at one time.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    pub credentials: Credentials<'a>,
    pub region: &'a str,
    pub service: &'a str,
    pub now: DateTime<Utc>,
}

impl Signer<'_> {
    /// The headers to add to a request. `parts` has every header it will
    /// travel with, `host` or the authority among them.
    ///
    /// Fails when a key or token cannot be in a header.
    pub fn sign_headers(
        &self,
        parts: &RequestParts<'_>,
        payload: PayloadHash,
    ) -> Result<HeaderMap, InvalidHeaderValue> {
        let mut added = HeaderMap::new();
        let mut add = |name: &'static str, value: &str| {
            let value = HeaderValue::try_from(value)?;
            added.insert(HeaderName::from_static(name), value);
            Ok::<_, InvalidHeaderValue>(())
        };
        add("x-amz-date", &self.time())?;
        if let Some(token) = self.credentials.session_token {
            add("x-amz-security-token", token)?;
        }
        if self.service == "s3" || payload == PayloadHash::Unsigned {
            add("x-amz-content-sha256", &payload.text())?;
        }
        let mut headers = parts.headers.clone();
        for (name, value) in &added {
            headers.insert(name, value.clone());
        }
        let parts = RequestParts { headers: &headers, ..*parts };
        let mut signed: Vec<&str> = headers
            .keys()
            .map(HeaderName::as_str)
            .filter(|name| !UNSIGNABLE.contains(name) && *name != "host")
            .chain(["host"])
            .collect();
        signed.sort_unstable();
        let signature = self.signature(&parts, &signed, &payload.text());
        let authorization = format!(
            "{ALGORITHM} Credential={}, SignedHeaders={}, Signature={signature}",
            self.credential(),
            signed.join(";")
        );
        added.insert(http::header::AUTHORIZATION, HeaderValue::try_from(authorization)?);
        Ok(added)
    }

    /// The query string of a URL that anyone may use for `expires_secs`. Of
    /// the headers, only `host` is signed.
    pub fn presign(
        &self,
        parts: &RequestParts<'_>,
        payload: PayloadHash,
        expires_secs: u32,
    ) -> String {
        let mut query = parts.query.to_owned();
        let mut add = |name: &str, value: &str| {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(&format!("{name}={}", uri_encode(value)));
        };
        add("X-Amz-Algorithm", ALGORITHM);
        add("X-Amz-Credential", &self.credential());
        add("X-Amz-Date", &self.time());
        add("X-Amz-Expires", &expires_secs.to_string());
        if let Some(token) = self.credentials.session_token {
            add("X-Amz-Security-Token", token);
        }
        add("X-Amz-SignedHeaders", "host");
        let parts = RequestParts { query: &query, ..*parts };
        let signature = self.signature(&parts, &["host"], &payload.text());
        format!("{query}&X-Amz-Signature={signature}")
    }

    fn signature(&self, parts: &RequestParts<'_>, signed: &[&str], payload: &str) -> String {
        // Only `host` may be missing; it is then signed as empty, and the
        // other side says so.
        let named = RequestParts { authority: parts.authority.or(Some("")), ..*parts };
        let canonical =
            canonical_request(&named, signed, payload, self.service).unwrap_or_default();
        let date = self.now.format("%Y%m%d").to_string();
        let key = signing_key(self.credentials.secret.as_bytes(), &date, self.region, self.service);
        let scope = format!("{date}/{}/{}/{TERMINATOR}", self.region, self.service);
        hex(&mac(&key, string_to_sign(&self.time(), &scope, &canonical).as_bytes()))
    }

    fn credential(&self) -> String {
        format!(
            "{}/{}/{}/{}/{TERMINATOR}",
            self.credentials.access_key,
            self.now.format("%Y%m%d"),
            self.region,
            self.service
        )
    }

    fn time(&self) -> String {
        self.now.format("%Y%m%dT%H%M%SZ").to_string()
    }
}

/// The key of one day, region and service. `date` is `YYYYMMDD`.
pub fn signing_key(secret: &[u8], date: &str, region: &str, service: &str) -> [u8; 32] {
    let key = mac(&[b"AWS4", secret].concat(), date.as_bytes());
    let key = mac(&key, region.as_bytes());
    let key = mac(&key, service.as_bytes());
    mac(&key, TERMINATOR.as_bytes())
}

/// `time` is `YYYYMMDDTHHMMSSZ`, `scope` the credential without its key.
pub fn string_to_sign(time: &str, scope: &str, canonical_request: &str) -> String {
    let hash = hex(&Sha256::digest(canonical_request.as_bytes()));
    format!("{ALGORITHM}\n{time}\n{scope}\n{hash}")
}

pub(super) fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

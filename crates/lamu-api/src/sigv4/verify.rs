//! Holds a request against the signature it carries, in a header or in its
//! query string.
//!
//! Not here: which secrets exist, and what the signer may do.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use http::HeaderMap;
use http::header::{AUTHORIZATION, DATE};
use subtle::ConstantTimeEq as _;

use super::canonical::canonical_request;
use super::sign::{mac, signing_key, string_to_sign};
use super::{
    ALGORITHM, Identity, PayloadHash, RequestParts, Scope, TERMINATOR, UNSIGNED, hex,
    parse_credential_scope,
};
use crate::request::query_text;
use crate::{ApiError, ErrorCode};

/// How far the signer's clock may be from ours.
pub const SKEW_SECS_MAX: i64 = 300;

/// The longest life of a presigned URL: a week.
pub const EXPIRES_SECS_MAX: i64 = 604_800;

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";

/// Why a signature is refused, in the service's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("Missing Authentication Token")]
    Missing,
    /// It lacks a part or cannot be read.
    #[error("{0}")]
    Incomplete(String),
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// It is not for this time, this service, or these headers.
    #[error("{0}")]
    Unfit(String),
    #[error("{MISMATCH}")]
    Mismatch,
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> ApiError {
        let code = match error {
            SignatureError::Missing => ErrorCode::MissingAuthenticationToken,
            SignatureError::Incomplete(_) => ErrorCode::IncompleteSignature,
            SignatureError::UnknownKey => ErrorCode::UnrecognizedClient,
            SignatureError::Unfit(_) | SignatureError::Mismatch => ErrorCode::InvalidSignature,
        };
        ApiError::new(code, error.to_string())
    }
}

/// Whose request this is.
///
/// `payload` is the hash of the body that arrived, or `Unsigned` where the
/// body is not to be read first; then a signature over a body fails. A signer
/// who leaves the body out of the signature, and signs that, is taken at its
/// word, as is every presigned URL without a body.
pub fn verify<S: AsRef<[u8]>>(
    parts: &RequestParts<'_>,
    payload: PayloadHash,
    service: &str,
    now: DateTime<Utc>,
    secret_of: impl FnOnce(&str) -> Option<S>,
) -> Result<Identity, SignatureError> {
    let claim = match parts.headers.get(AUTHORIZATION) {
        Some(header) => {
            let text = header.to_str().map_err(|_| {
                SignatureError::Incomplete("The Authorization header is not ASCII".to_owned())
            })?;
            in_header(text, parts.headers)?
        }
        None if query_text(parts.query, "X-Amz-Algorithm").is_some() => in_query(parts.query)?,
        None => return Err(SignatureError::Missing),
    };
    check_scope(&claim, service)?;
    check_signed_headers(&claim, parts.headers)?;
    check_time(&claim, now)?;
    let hashes = payload_hashes(&claim, parts.headers, payload)?;
    let Some(secret) = secret_of(&claim.scope.access_key) else {
        return Err(SignatureError::UnknownKey);
    };
    let Scope { access_key, date, region, service } = claim.scope;
    let key = signing_key(secret.as_ref(), &date, &region, &service);
    let signed: Vec<&str> = claim.signed.split(';').collect();
    let scope = format!("{date}/{region}/{service}/{TERMINATOR}");
    for hash in hashes {
        let canonical =
            canonical_request(parts, &signed, &hash, &service).ok_or(SignatureError::Mismatch)?;
        let ours = hex(&mac(&key, string_to_sign(&claim.time_text, &scope, &canonical).as_bytes()));
        if bool::from(ours.as_bytes().ct_eq(claim.signature.as_bytes())) {
            return Ok(Identity { access_key, region, service });
        }
    }
    Err(SignatureError::Mismatch)
}

/// What a request says about its signature.
struct Claim {
    scope: Scope,
    /// Names joined by semicolons.
    signed: String,
    signature: String,
    time: DateTime<Utc>,
    /// `YYYYMMDDTHHMMSSZ`
    time_text: String,
    /// Of a presigned URL.
    expires_secs: Option<i64>,
}

/// The value of `Credential`, `SignedHeaders` or `Signature`.
pub(super) fn authorization_part<'h>(header: &'h str, name: &str) -> Option<&'h str> {
    let parts = header.strip_prefix(ALGORITHM)?;
    parts
        .split([',', ' '])
        .filter_map(|part| part.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn in_header(header: &str, headers: &HeaderMap) -> Result<Claim, SignatureError> {
    let mut missing = Vec::new();
    let mut part = |name: &str| {
        authorization_part(header, name).filter(|part| !part.is_empty()).unwrap_or_else(|| {
            missing.push(format!("Authorization header requires '{name}' parameter."));
            ""
        })
    };
    let credential = part("Credential");
    let signature = part("Signature");
    let signed = part("SignedHeaders");
    let time = header_time(headers);
    if time.is_none() {
        missing.push(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
                .to_owned(),
        );
    }
    let (Some((time, time_text)), true) = (time, missing.is_empty()) else {
        return Err(SignatureError::Incomplete(missing.join(" ")));
    };
    Ok(Claim {
        scope: read_scope(credential)?,
        signed: signed.to_owned(),
        signature: signature.to_owned(),
        time,
        time_text,
        expires_secs: None,
    })
}

fn in_query(query: &str) -> Result<Claim, SignatureError> {
    if query_text(query, "X-Amz-Algorithm").as_deref() != Some(ALGORITHM) {
        let text = format!("X-Amz-Algorithm only supports '{ALGORITHM}'");
        return Err(SignatureError::Incomplete(text));
    }
    let part = |name: &str| {
        query_text(query, name).filter(|part| !part.is_empty()).ok_or_else(|| {
            SignatureError::Incomplete(format!("AWS query-string parameters must include '{name}'"))
        })
    };
    let time_text = part("X-Amz-Date")?;
    let time = read_time(&time_text).ok_or_else(|| {
        let text = format!("Date must be in ISO-8601 'basic format'. Got '{time_text}'.");
        SignatureError::Incomplete(text)
    })?;
    // Without, it is as short-lived as a header.
    let expires_secs = match query_text(query, "X-Amz-Expires") {
        None => SKEW_SECS_MAX,
        Some(text) => match text.parse() {
            Ok(secs) if (0..=EXPIRES_SECS_MAX).contains(&secs) => secs,
            _ => {
                let text = format!(
                    "X-Amz-Expires must be a number of seconds from 0 to {EXPIRES_SECS_MAX}"
                );
                return Err(SignatureError::Incomplete(text));
            }
        },
    };
    Ok(Claim {
        scope: read_scope(&part("X-Amz-Credential")?)?,
        signed: part("X-Amz-SignedHeaders")?,
        signature: part("X-Amz-Signature")?,
        time,
        time_text,
        expires_secs: Some(expires_secs),
    })
}

fn read_scope(credential: &str) -> Result<Scope, SignatureError> {
    parse_credential_scope(credential).ok_or_else(|| {
        SignatureError::Incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/{TERMINATOR}, got '{credential}'"
        ))
    })
}

fn check_scope(claim: &Claim, service: &str) -> Result<(), SignatureError> {
    if claim.scope.service != service {
        let text = format!("Credential should be scoped to correct service: '{service}'.");
        return Err(SignatureError::Unfit(text));
    }
    let day = &claim.time_text[..8];
    if claim.scope.date != day {
        let text = format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{day}', from '{}'.",
            claim.scope.date, claim.time_text
        );
        return Err(SignatureError::Unfit(text));
    }
    Ok(())
}

/// A header that steers the call and is not signed could be anyone's.
fn check_signed_headers(claim: &Claim, headers: &HeaderMap) -> Result<(), SignatureError> {
    let signed: Vec<&str> = claim.signed.split(';').collect();
    if !signed.contains(&"host") {
        let text = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
        return Err(SignatureError::Unfit(text.to_owned()));
    }
    let unsigned: Vec<&str> = headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| name.starts_with("x-amz-") && !signed.contains(name))
        .collect();
    if unsigned.is_empty() {
        return Ok(());
    }
    let text = format!(
        "There were headers present in the request which were not signed: {}",
        unsigned.join(", ")
    );
    Err(SignatureError::Unfit(text))
}

fn check_time(claim: &Claim, now: DateTime<Utc>) -> Result<(), SignatureError> {
    let words = |time: DateTime<Utc>| time.format("%Y%m%dT%H%M%SZ").to_string();
    let skew = TimeDelta::seconds(SKEW_SECS_MAX);
    let unfit = |text: String| Err(SignatureError::Unfit(text));
    if claim.time > now + skew {
        return unfit(format!(
            "Signature not yet current: {} is still later than {} ({} + 5 min.)",
            claim.time_text,
            words(now + skew),
            words(now)
        ));
    }
    match claim.expires_secs {
        None if claim.time < now - skew => unfit(format!(
            "Signature expired: {} is now earlier than {} ({} - 5 min.)",
            claim.time_text,
            words(now - skew),
            words(now)
        )),
        Some(secs) if claim.time + TimeDelta::seconds(secs) < now => unfit(format!(
            "Signature expired: {} is now earlier than {} ({} - {secs} sec.)",
            claim.time_text,
            words(now - TimeDelta::seconds(secs)),
            words(now)
        )),
        _ => Ok(()),
    }
}

/// The payload hashes that the signature may have been made with.
fn payload_hashes(
    claim: &Claim,
    headers: &HeaderMap,
    payload: PayloadHash,
) -> Result<Vec<String>, SignatureError> {
    let ours = payload.text();
    let said = headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
    match said {
        Some(UNSIGNED) => Ok(vec![UNSIGNED.to_owned()]),
        Some(said) if said == ours => Ok(vec![ours]),
        Some(_) => Err(SignatureError::Mismatch),
        None if claim.expires_secs.is_some() => Ok(vec![ours, UNSIGNED.to_owned()]),
        None => Ok(vec![ours]),
    }
}

/// The time of signing: `X-Amz-Date`, else `Date`.
fn header_time(headers: &HeaderMap) -> Option<(DateTime<Utc>, String)> {
    if let Some(value) = headers.get("x-amz-date") {
        let text = value.to_str().ok()?;
        return read_time(text).map(|time| (time, text.to_owned()));
    }
    let text = headers.get(DATE)?.to_str().ok()?;
    let time = match read_time(text) {
        Some(time) => time,
        None => DateTime::parse_from_rfc2822(text).ok()?.to_utc(),
    };
    Some((time, time.format("%Y%m%dT%H%M%SZ").to_string()))
}

fn read_time(text: &str) -> Option<DateTime<Utc>> {
    let known = text.len() == 16 && text.is_ascii();
    let time = known.then(|| NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ").ok())??;
    Some(time.and_utc())
}

//! The event of a request to a function URL: payload format 2.0 ("Function
//! URLs" of the invocation reference).
//!
//! Not here: the way back (`response`), who may call (`serve`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use base64::display::Base64Display;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{
    CONNECTION, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, USER_AGENT,
};
use http::{HeaderMap, Version};
use lamu_model::{AccountId, RequestId, SYNC_REQUEST_BYTES_MAX};
use serde::{Serialize, Serializer};

use super::address::Scheme;

/// A request as it was read, and what is known about it.
#[derive(Debug)]
pub struct Asked<'a> {
    pub method: &'a str,
    /// With its escapes.
    pub path: &'a str,
    pub query: &'a str,
    pub version: Version,
    pub headers: &'a HeaderMap,
    pub body: &'a Bytes,
    pub source_ip: IpAddr,
    /// The way the client sees.
    pub scheme: Scheme,
    pub port: u16,
    pub id: &'a str,
    pub domain_name: &'a str,
    pub trace_id: &'a str,
    pub request: &'a RequestId,
    pub now: DateTime<Utc>,
    /// Who signed; the owner is shown then, too.
    pub signer: Option<(&'a AccountId, Signer)>,
}

/// Whose signature the request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    pub access_key: String,
    pub account: AccountId,
    pub user_arn: String,
    pub user_id: String,
}

/// The event would be larger than an invocation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event is larger than {SYNC_REQUEST_BYTES_MAX} bytes")]
pub struct TooLarge;

/// What the function gets.
pub fn event(asked: &Asked<'_>) -> Result<Bytes, TooLarge> {
    let body = match text_of(asked) {
        _ if asked.body.is_empty() => None,
        Some(text) => Some(Body::Text(text)),
        None => Some(Body::Binary(Base64Display::new(asked.body, &STANDARD))),
    };
    let event = Event {
        version: "2.0",
        route_key: DEFAULT,
        raw_path: asked.path,
        raw_query_string: asked.query,
        cookies: cookies(asked.headers),
        headers: headers(asked),
        query_string_parameters: parameters(asked.query),
        request_context: Context {
            account_id: asked.signer.as_ref().map_or("anonymous", |(owner, _)| owner.as_str()),
            api_id: asked.id,
            authorizer: asked.signer.as_ref().map(|(_, signer)| Authorizer {
                iam: Iam {
                    access_key: &signer.access_key,
                    account_id: signer.account.as_str(),
                    caller_id: &signer.user_id,
                    cognito_identity: None,
                    principal_org_id: None,
                    user_arn: &signer.user_arn,
                    user_id: &signer.user_id,
                },
            }),
            domain_name: asked.domain_name,
            domain_prefix: asked.id,
            http: Http {
                method: asked.method,
                path: asked.path,
                protocol: protocol(asked.version),
                source_ip: asked.source_ip,
                user_agent: asked.headers.get(USER_AGENT).map(text),
            },
            request_id: asked.request.as_str(),
            route_key: DEFAULT,
            stage: DEFAULT,
            time: asked.now.format("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            time_epoch: asked.now.timestamp_millis(),
        },
        is_base64_encoded: matches!(body, Some(Body::Binary(_))),
        body,
    };
    let mut out = Bounded(Vec::with_capacity(2_048 + asked.body.len()));
    // Writing into memory fails at the bound only.
    serde_json::to_writer(&mut out, &event).map_err(|_| TooLarge)?;
    Ok(Bytes::from(out.0))
}

const DEFAULT: &str = "$default";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
    headers: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Body<'a>>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: &'a str,
    api_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<Authorizer<'a>>,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: &'a str,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: i64,
}

#[derive(Serialize)]
struct Authorizer<'a> {
    iam: Iam<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Iam<'a> {
    access_key: &'a str,
    account_id: &'a str,
    caller_id: &'a str,
    cognito_identity: Option<()>,
    principal_org_id: Option<()>,
    user_arn: &'a str,
    user_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'a, str>>,
}

enum Body<'a> {
    Text(&'a str),
    Binary(Base64Display<'a, 'static, GeneralPurpose>),
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Body::Text(text) => serializer.serialize_str(text),
            // Written as it is made, so that no second copy is in memory.
            Body::Binary(bytes) => serializer.collect_str(bytes),
        }
    }
}

/// The body as text, if its type says that it is and its bytes are.
fn text_of<'a>(asked: &'a Asked<'_>) -> Option<&'a str> {
    let kind = asked.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    is_text(kind).then(|| std::str::from_utf8(asked.body).ok())?
}

/// Whether a content type is one that functions get as text; all others,
/// forms and multipart too, are base64.
fn is_text(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some((main, sub)) = kind.split_once('/') else { return false };
    match main {
        "text" => true,
        "application" if ["json", "javascript", "xml"].contains(&sub) => true,
        _ => sub.ends_with("+json") || sub.ends_with("+xml"),
    }
}

/// Names in lower case, repeated values joined; what concerns one connection
/// only is left out, and what a front of Lambda adds is added.
fn headers<'a>(asked: &'a Asked<'_>) -> BTreeMap<&'a str, String> {
    let mut all: BTreeMap<&str, String> = BTreeMap::new();
    let named: Vec<String> = asked
        .headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| text(value).split(',').map(str::to_owned).collect::<Vec<_>>())
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for (name, value) in asked.headers {
        if *name == COOKIE || is_hop(name) || named.iter().any(|hop| hop == name.as_str()) {
            continue;
        }
        let joined = all.entry(name.as_str());
        joined
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&text(value));
            })
            .or_insert_with(|| text(value).into_owned());
    }
    if !asked.body.is_empty() {
        all.insert(CONTENT_LENGTH_NAME, asked.body.len().to_string());
    }
    let source = asked.source_ip.to_string();
    all.entry("x-forwarded-for")
        .and_modify(|before| {
            before.push_str(", ");
            before.push_str(&source);
        })
        .or_insert(source);
    all.insert("x-forwarded-port", asked.port.to_string());
    all.insert("x-forwarded-proto", asked.scheme.as_str().to_owned());
    all.insert("x-amzn-trace-id", asked.trace_id.to_owned());
    all
}

const CONTENT_LENGTH_NAME: &str = "content-length";

/// Headers between two ends of one connection.
pub fn is_hop(name: &HeaderName) -> bool {
    [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str())
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let mut cookies = Vec::new();
    for value in headers.get_all(COOKIE) {
        let text = text(value);
        let parts = text.split(';').map(str::trim).filter(|cookie| !cookie.is_empty());
        cookies.extend(parts.map(str::to_owned));
    }
    cookies
}

/// Decoded, repeated values joined. What is no escape stays as it is, and
/// what is no text is shown as far as it is.
fn parameters(query: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        all.entry(decode(name))
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&value);
            })
            .or_insert(value);
    }
    all
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            (b'+', _, _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// A header's value. Bytes that are not UTF-8 are Latin 1, as HTTP has it.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => value.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// Takes what an invocation may carry, so that a body whose escapes swell
/// does not fill memory first.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > SYNC_REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

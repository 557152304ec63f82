//! The URL of a function or of one of its aliases, as it is stored:
//!
//! ```text
//! url/<uid>/<slot>   UrlDoc; the slot is $LATEST or the alias's name
//! ```
//!
//! A document of its own beside the function's: it counts only while the head
//! is live under the same `uid` and, for an alias, the alias is there. What an
//! interrupted deletion leaves is invisible, and swept at the next start.
//!
//! Not here: where URLs are served and how they are written
//! (`crate::url::address`), requests to them (`crate::url`), and the checks of
//! the model, which come before.

use std::fmt;

use http::{HeaderName, HeaderValue};
use lamu_api::shapes::{Cors, FunctionUrlConfig};
use lamu_api::{Timestamp, shapes};
use lamu_model::Arn;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::document::{FunctionKey, Uid};
use super::refusal::Refusal;

pub const URLS: &str = "url/";

/// The slot of the function itself. No alias can have this name.
pub const LATEST: &str = "$LATEST";

/// RFC 4648's base 32, in lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Methods that the service lets a configuration name.
const METHODS: [&str; 7] = ["GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "*"];

/// The first label of a URL's host: 32 characters, unique over the instance,
/// the same until the URL is deleted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UrlId(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UrlDoc {
    pub function: FunctionKey,
    /// Nothing for the function itself, whose URL runs `$LATEST`.
    pub alias: Option<String>,
    pub id: UrlId,
    pub auth: UrlAuth,
    pub cors: Option<CorsRules>,
    /// As given; what was not given is shown later, but not in the answer to
    /// its creation.
    pub invoke_mode: Option<InvokeMode>,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    pub modified_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UrlAuth {
    #[serde(rename = "NONE")]
    None,
    #[serde(rename = "AWS_IAM")]
    AwsIam,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvokeMode {
    #[default]
    #[serde(rename = "BUFFERED")]
    Buffered,
    #[serde(rename = "RESPONSE_STREAM")]
    ResponseStream,
}

/// What other origins may do with a URL. Members are kept as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CorsRules {
    pub allow_credentials: Option<bool>,
    pub allow_headers: Option<Vec<String>>,
    pub allow_methods: Option<Vec<String>>,
    pub allow_origins: Option<Vec<String>>,
    pub expose_headers: Option<Vec<String>>,
    pub max_age_secs: Option<i32>,
}

impl UrlId {
    /// A new one, of 160 random bits.
    pub fn random() -> UrlId {
        // The fixed bits of a UUID leave 122 random ones each.
        let seed = (Uuid::new_v4(), Uuid::new_v4());
        let digest = Sha256::new().chain_update(seed.0).chain_update(seed.1).finalize();
        let text = digest[..20].chunks(5).flat_map(|five| {
            let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            (0..8).rev().map(move |at| char::from(ALPHABET[(bits >> (5 * at)) as usize & 31]))
        });
        UrlId(text.collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub fn of(text: &str) -> UrlId {
        UrlId(text.to_owned())
    }
}

/// So that an index can be asked with what a request says.
impl std::borrow::Borrow<str> for UrlId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UrlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UrlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl UrlDoc {
    pub fn slot(&self) -> &str {
        self.alias.as_deref().unwrap_or(LATEST)
    }

    /// Of the function or the alias that it leads to.
    pub fn arn(&self) -> Arn {
        match &self.alias {
            None => self.function.arn(),
            Some(alias) => self.function.arn().qualified(alias),
        }
    }

    /// As the API shows it, given its address.
    pub fn shown(&self, address: String) -> FunctionUrlConfig {
        FunctionUrlConfig {
            auth_type: self.auth.as_str().to_owned(),
            cors: self.cors.clone().map(Cors::from),
            creation_time: Timestamp::from_millis(self.created_ms).zulu_micros(),
            function_arn: self.arn().to_string(),
            function_url: address,
            invoke_mode: Some(self.invoke_mode.unwrap_or_default().as_str().to_owned()),
            last_modified_time: Timestamp::from_millis(self.modified_ms).zulu_micros(),
        }
    }

    /// As the answer to its creation shows it: the invoke mode only when it
    /// was given.
    pub fn shown_created(&self, address: String) -> shapes::CreateFunctionUrlConfigResponse {
        let shown = self.shown(address);
        shapes::CreateFunctionUrlConfigResponse {
            auth_type: shown.auth_type,
            cors: shown.cors,
            creation_time: shown.creation_time,
            function_arn: shown.function_arn,
            function_url: shown.function_url,
            invoke_mode: self.invoke_mode.map(|mode| mode.as_str().to_owned()),
        }
    }
}

impl UrlAuth {
    /// The model has no other values, so they never come here.
    pub fn read(text: &str) -> UrlAuth {
        if text == "NONE" { UrlAuth::None } else { UrlAuth::AwsIam }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            UrlAuth::None => "NONE",
            UrlAuth::AwsIam => "AWS_IAM",
        }
    }
}

impl InvokeMode {
    /// The model has no other values, so they never come here.
    pub fn read(text: &str) -> InvokeMode {
        if text == "RESPONSE_STREAM" { InvokeMode::ResponseStream } else { InvokeMode::Buffered }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            InvokeMode::Buffered => "BUFFERED",
            InvokeMode::ResponseStream => "RESPONSE_STREAM",
        }
    }
}

impl CorsRules {
    /// What a request gives; nothing when it gives no member, which is how
    /// rules are taken away again.
    ///
    /// The service documents which methods there are. Names and origins become
    /// header values, so what no header can hold is refused here.
    pub fn read(given: &Cors) -> Result<Option<CorsRules>, Refusal> {
        let refuse = |member: &str, value: &str| {
            Err(Refusal::invalid(format!("Invalid value in cors.{member}: {value}")))
        };
        let all = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        for method in all(&given.allow_methods) {
            if !METHODS.contains(&method.as_str()) {
                return refuse("allowMethods", &method);
            }
        }
        for (member, list) in
            [("allowHeaders", &given.allow_headers), ("exposeHeaders", &given.expose_headers)]
        {
            for name in all(list) {
                if name != "*" && HeaderName::try_from(&name).is_err() {
                    return refuse(member, &name);
                }
            }
        }
        for origin in all(&given.allow_origins) {
            if origin.contains([' ', ',']) || HeaderValue::from_str(&origin).is_err() {
                return refuse("allowOrigins", &origin);
            }
        }
        let rules = CorsRules {
            allow_credentials: given.allow_credentials,
            allow_headers: given.allow_headers.clone(),
            allow_methods: given.allow_methods.clone(),
            allow_origins: given.allow_origins.clone(),
            expose_headers: given.expose_headers.clone(),
            max_age_secs: given.max_age,
        };
        Ok((rules != CorsRules::default()).then_some(rules))
    }
}

impl From<CorsRules> for Cors {
    fn from(rules: CorsRules) -> Cors {
        Cors {
            allow_credentials: rules.allow_credentials,
            allow_headers: rules.allow_headers,
            allow_methods: rules.allow_methods,
            allow_origins: rules.allow_origins,
            expose_headers: rules.expose_headers,
            max_age: rules.max_age_secs,
        }
    }
}

impl Uid {
    pub fn url_document(&self, slot: &str) -> String {
        format!("{URLS}{self}/{slot}")
    }

    pub fn parse_url(document: &str) -> Option<(Uid, &str)> {
        let (uid, slot) = document.strip_prefix(URLS)?.split_once('/')?;
        Some((Uid(Uuid::try_parse(uid).ok()?), slot))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::function::document::tests::key;

    pub(crate) fn url(alias: Option<&str>, id: &str) -> UrlDoc {
        UrlDoc {
            function: key("f"),
            alias: alias.map(str::to_owned),
            id: UrlId::of(id),
            auth: UrlAuth::None,
            cors: None,
            invoke_mode: None,
            created_ms: 1_793_697_327_123,
            modified_ms: 1_793_697_328_000,
        }
    }

    #[test]
    fn an_id_is_thirty_two_characters_that_a_host_name_takes() {
        let ids: std::collections::BTreeSet<UrlId> = (0..1_000).map(|_| UrlId::random()).collect();
        assert_eq!(ids.len(), 1_000);
        for id in ids {
            assert_eq!(id.as_str().len(), 32);
            assert!(id.as_str().bytes().all(|byte| ALPHABET.contains(&byte)), "{id}");
        }
    }

    #[test]
    fn a_document_key_reads_back_to_what_it_names() {
        let uid = Uid(Uuid::from_u128(7));
        assert_eq!(Uid::parse_url(&uid.url_document("prod")), Some((uid, "prod")));
        assert_eq!(Uid::parse_url(&uid.url_document(LATEST)), Some((uid, LATEST)));
        assert_eq!(Uid::parse_url("url/nonsense/prod"), None);
    }

    #[test]
    fn a_url_is_shown_with_its_times_and_its_mode() {
        let doc = url(Some("prod"), "id");
        let shown = doc.shown("http://u/".into());
        assert_eq!(shown.function_arn, "arn:aws:lambda:us-east-1:000000000000:function:f:prod");
        assert_eq!(shown.creation_time, "2026-11-03T09:15:27.123000Z");
        assert_eq!(shown.last_modified_time, "2026-11-03T09:15:28.000000Z");
        assert_eq!(shown.invoke_mode.as_deref(), Some("BUFFERED"));
        assert_eq!(doc.shown_created("http://u/".into()).invoke_mode, None);
    }

    #[test]
    fn a_document_without_the_newest_members_is_read() {
        let stored = r#"{"function":{"account":"000000000000","region":"us-east-1","name":"f"},
            "alias":null,"id":"x","auth":"AWS_IAM","cors":{"allow_origins":["*"]},
            "invoke_mode":null,"created_ms":1,"modified_ms":2}"#;
        let doc: UrlDoc = serde_json::from_str(stored).unwrap();
        assert_eq!(doc.auth, UrlAuth::AwsIam);
        assert_eq!(doc.cors.unwrap().allow_origins, Some(vec!["*".to_owned()]));
    }

    fn cors(change: impl FnOnce(&mut Cors)) -> Result<Option<CorsRules>, Refusal> {
        let mut given = Cors::default();
        change(&mut given);
        CorsRules::read(&given)
    }

    fn list(texts: &[&str]) -> Option<Vec<String>> {
        Some(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn rules_without_any_member_are_none() {
        assert_eq!(cors(|_| {}).unwrap(), None);
        let kept = cors(|cors| cors.max_age = Some(0)).unwrap().unwrap();
        assert_eq!(kept.max_age_secs, Some(0));
        assert_eq!(Cors::from(kept).max_age, Some(0));
    }

    #[test]
    fn what_no_header_can_hold_is_refused() {
        let good = cors(|cors| {
            cors.allow_methods = list(&["GET", "*"]);
            cors.allow_headers = list(&["X-Custom-Header", "*"]);
            cors.expose_headers = list(&["date"]);
            cors.allow_origins = list(&["*", "http://localhost:60905"]);
        });
        assert!(good.is_ok());
        let bad = [
            cors(|cors| cors.allow_methods = list(&["BREW"])),
            cors(|cors| cors.allow_methods = list(&["get"])),
            cors(|cors| cors.allow_headers = list(&["a b"])),
            cors(|cors| cors.allow_headers = list(&["a\r\nSet-Cookie: b"])),
            cors(|cors| cors.expose_headers = list(&[""])),
            cors(|cors| cors.allow_origins = list(&["http://a\r\nx: y"])),
            cors(|cors| cors.allow_origins = list(&["http://a, http://b"])),
        ];
        for refused in bad {
            assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
        }
    }
}

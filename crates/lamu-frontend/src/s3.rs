//! Fetching a package from S3 or what speaks its protocol: one GetObject,
//! streamed into a file.
//!
//! Not here: what is done with the file (`code`), signatures
//! (`lamu_api::sigv4`).

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;
use lamu_api::sigv4::{self, Credentials, PayloadHash, RequestParts, Signer};
use lamu_model::Region;

/// The whole download: 250 MB over a slow line, well within what a caller's
/// SDK waits for CreateFunction after retries.
const DOWNLOAD_MAX: Duration = Duration::from_secs(300);
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// S3's error bodies are a few hundred bytes of XML.
const ERROR_BYTES_MAX: u64 = 64 * 1024;

/// Where packages are fetched from, and as whom.
#[derive(Clone, Debug, Default)]
pub struct S3Config {
    /// Such as `http://127.0.0.1:9000`; AWS's own when absent. Buckets are
    /// then part of the path.
    pub endpoint: Option<String>,
    /// Requests are not signed without.
    pub credentials: Option<S3Credentials>,
}

#[derive(Clone)]
pub struct S3Credentials {
    pub access_key: String,
    pub secret: String,
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub bucket: String,
    pub key: String,
    pub version: Option<String>,
}

#[derive(Debug)]
pub enum S3Error {
    /// S3 said no, in its words.
    Refused {
        code: String,
        message: String,
    },
    TooLarge,
    /// Nobody could be asked.
    Unreachable(String),
    Io(io::Error),
}

/// Writes the object to `file`. Blocks.
pub fn fetch(
    config: &S3Config,
    region: &Region,
    object: &Object,
    file: &mut File,
    bytes_max: u64,
    now: DateTime<Utc>,
) -> Result<u64, S3Error> {
    let address = Address::of(config, region, object).map_err(S3Error::Unreachable)?;
    let mut headers = HeaderMap::new();
    if let Some(credentials) = &config.credentials {
        let signer = Signer {
            credentials: Credentials {
                access_key: &credentials.access_key,
                secret: &credentials.secret,
                session_token: credentials.session_token.as_deref(),
            },
            region: region.as_str(),
            service: "s3",
            now,
        };
        let parts = RequestParts {
            method: "GET",
            path: &address.path,
            query: &address.query,
            headers: &HeaderMap::new(),
            authority: Some(&address.authority),
        };
        headers = signer
            .sign_headers(&parts, PayloadHash::of(b""))
            .map_err(|error| S3Error::Unreachable(error.to_string()))?;
    }
    let agent = ureq::Agent::config_builder()
        // A redirect would take the signature elsewhere; S3 explains itself.
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_global(Some(DOWNLOAD_MAX))
        .timeout_connect(Some(CONNECT_MAX))
        .build()
        .new_agent();
    let mut request = agent.get(address.url());
    for (name, value) in &headers {
        request = request.header(name, value);
    }
    let mut response = request.call().map_err(|error| S3Error::Unreachable(error.to_string()))?;
    if !response.status().is_success() {
        let status = response.status();
        let mut text = String::new();
        // A body that cannot be read leaves the status to speak.
        let _ = response.body_mut().as_reader().take(ERROR_BYTES_MAX).read_to_string(&mut text);
        return Err(refused(status.as_u16(), &text));
    }
    let mut reader = response.body_mut().as_reader().take(bytes_max + 1);
    let bytes = io::copy(&mut reader, file).map_err(S3Error::Io)?;
    if bytes > bytes_max {
        return Err(S3Error::TooLarge);
    }
    file.flush().map_err(S3Error::Io)?;
    Ok(bytes)
}

#[derive(Debug, PartialEq, Eq)]
struct Address {
    scheme: &'static str,
    authority: String,
    path: String,
    query: String,
}

impl Address {
    fn of(config: &S3Config, region: &Region, object: &Object) -> Result<Address, String> {
        let key = sigv4::encode_path(&object.key);
        let query = match &object.version {
            Some(version) => format!("versionId={}", sigv4::uri_encode(version)),
            None => String::new(),
        };
        let bucket = &object.bucket;
        if let Some(endpoint) = &config.endpoint {
            let (scheme, rest) = match endpoint.split_once("://") {
                Some(("http", rest)) => ("http", rest),
                Some(("https", rest)) => ("https", rest),
                _ => return Err(format!("the S3 endpoint {endpoint:?} is not an HTTP URL")),
            };
            let (authority, base) = rest.split_once('/').unwrap_or((rest, ""));
            let base = base.trim_end_matches('/');
            let base = if base.is_empty() { String::new() } else { format!("/{base}") };
            let path = format!("{base}/{bucket}/{key}");
            return Ok(Address { scheme, authority: authority.to_owned(), path, query });
        }
        // The certificate of a bucket's own name does not cover dots in it.
        let (authority, path) = match bucket.contains('.') {
            true => (format!("s3.{region}.amazonaws.com"), format!("/{bucket}/{key}")),
            false => (format!("{bucket}.s3.{region}.amazonaws.com"), format!("/{key}")),
        };
        Ok(Address { scheme: "https", authority, path, query })
    }

    fn url(&self) -> String {
        let Address { scheme, authority, path, query } = self;
        match query.is_empty() {
            true => format!("{scheme}://{authority}{path}"),
            false => format!("{scheme}://{authority}{path}?{query}"),
        }
    }
}

/// S3's error document has one `Code` and one `Message`.
fn refused(status: u16, body: &str) -> S3Error {
    let member = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        Some(unescape(text))
    };
    S3Error::Refused {
        code: member("Code").unwrap_or_else(|| status.to_string()),
        message: member("Message").unwrap_or_else(|| format!("S3 answered with status {status}.")),
    }
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bucket: &str, key: &str) -> Object {
        Object { bucket: bucket.into(), key: key.into(), version: None }
    }

    fn url(endpoint: Option<&str>, object: &Object) -> String {
        let config = S3Config { endpoint: endpoint.map(str::to_owned), credentials: None };
        Address::of(&config, &Region::new("eu-west-1"), object).unwrap().url()
    }

    #[test]
    fn an_object_is_where_its_endpoint_has_it() {
        let plain = object("code", "a b/c+d.zip");
        assert_eq!(
            url(Some("http://127.0.0.1:9000/"), &plain),
            "http://127.0.0.1:9000/code/a%20b/c%2Bd.zip"
        );
        assert_eq!(
            url(Some("https://s3.example/base"), &plain),
            "https://s3.example/base/code/a%20b/c%2Bd.zip"
        );
        assert_eq!(url(None, &plain), "https://code.s3.eu-west-1.amazonaws.com/a%20b/c%2Bd.zip");
        assert_eq!(
            url(None, &object("my.code", "k")),
            "https://s3.eu-west-1.amazonaws.com/my.code/k"
        );
        let version = Object { version: Some("v/1".into()), ..plain };
        assert!(url(None, &version).ends_with("?versionId=v%2F1"));
    }

    #[test]
    fn an_endpoint_that_is_no_url_is_refused() {
        let config = S3Config { endpoint: Some("file:///etc".into()), credentials: None };
        assert!(Address::of(&config, &Region::new("r"), &object("b", "k")).is_err());
    }

    #[test]
    fn s3_speaks_for_itself() {
        let body = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>";
        match refused(404, body) {
            S3Error::Refused { code, message } => {
                assert_eq!(code, "NoSuchKey");
                assert_eq!(message, "The specified key does not exist.");
            }
            other => panic!("{other:?}"),
        }
        match refused(503, "") {
            S3Error::Refused { code, .. } => assert_eq!(code, "503"),
            other => panic!("{other:?}"),
        }
    }
}

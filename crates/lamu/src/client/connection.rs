//! One way to ask the platform something: build, sign, send, read the answer
//! or the refusal.
//!
//! Endpoint, region and keys come from where every SDK looks for them.
//! Not here: what to ask.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use ureq::http;

use crate::cli::Target;
use crate::client::signing::{Keys, sign};

/// Longer than any answer the platform may take: 900 s of function and 30 s of
/// everything else.
const ANSWER_MAX: Duration = Duration::from_secs(930);
/// The largest response there is, 6 MiB, and room for the error around it.
const BODY_BYTES_MAX: u64 = 8 << 20;

/// Where requests go and who signs them.
#[derive(Debug)]
pub struct Connection {
    agent: ureq::Agent,
    endpoint: String,
    region: String,
    keys: Keys,
}

/// The platform answered with an error.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refused {
    pub status: u16,
    pub code: String,
    pub message: String,
}

/// A good answer.
#[derive(Debug)]
pub struct Answer {
    headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).context("read the answer")
    }
}

/// One question.
#[derive(Debug)]
pub struct Ask<'a> {
    pub method: &'static str,
    /// Escaped already, with the query.
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The name requests are signed for: `lambda` or `logs`.
    pub service: &'a str,
}

impl Ask<'_> {
    pub fn get(path: String) -> Ask<'static> {
        Ask { method: "GET", path, headers: Vec::new(), body: Vec::new(), service: "lambda" }
    }

    pub fn delete(path: String) -> Ask<'static> {
        Ask { method: "DELETE", ..Ask::get(path) }
    }

    pub fn send(method: &'static str, path: String, body: &Value) -> Ask<'static> {
        let headers = vec![("content-type", "application/json".to_owned())];
        Ask { method, headers, body: body.to_string().into_bytes(), ..Ask::get(path) }
    }
}

impl Connection {
    pub fn new(target: &Target) -> Connection {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let endpoint = target
            .endpoint
            .clone()
            .or_else(|| variable("AWS_ENDPOINT_URL_LAMBDA"))
            .or_else(|| variable("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| "http://127.0.0.1:9001".to_owned());
        let region = target
            .region
            .clone()
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"))
            .unwrap_or_else(|| "us-east-1".to_owned());
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("lamu/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(ANSWER_MAX))
            .build()
            .new_agent();
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Connection { agent, endpoint, region, keys: Keys::from_environment() }
    }

    pub fn ask(&self, ask: Ask<'_>) -> anyhow::Result<Answer> {
        let url = format!("{}{}", self.endpoint, ask.path);
        let mut request = http::Request::builder().method(ask.method).uri(&url);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let mut request = request.body(ask.body).with_context(|| format!("ask {url}"))?;
        sign(&mut request, &self.keys, &self.region, ask.service)?;
        let response = self.agent.run(request).with_context(|| {
            format!("could not reach lamu at {}; start it with `lamu run`, or name another with --endpoint", self.endpoint)
        })?;
        let (parts, mut body) = response.into_parts();
        let body =
            body.with_config().limit(BODY_BYTES_MAX).read_to_vec().context("read the answer")?;
        if parts.status.is_success() {
            return Ok(Answer { headers: parts.headers, body });
        }
        Err(refusal(parts.status.as_u16(), &parts.headers, &body).into())
    }
}

/// One path segment, escaped.
pub fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(byte.into());
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn refusal(status: u16, headers: &http::HeaderMap, body: &[u8]) -> Refused {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| parsed.get(name).and_then(Value::as_str).map(str::to_owned);
    let code = headers
        .get("x-amzn-errortype")
        .and_then(|value| value.to_str().ok())
        .map(|code| code.split(':').next().unwrap_or(code).to_owned())
        .or_else(|| text("__type"))
        .unwrap_or_else(|| format!("HTTP {status}"));
    let message = text("message")
        .or_else(|| text("Message"))
        .unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(200).collect::<String>());
    Refused { status, code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_one_segment() {
        assert_eq!(segment("a:b/c$d"), "a%3Ab%2Fc%24d");
    }

    #[test]
    fn both_spellings_of_a_message_are_read() {
        let mut headers = http::HeaderMap::new();
        headers.insert("x-amzn-errortype", "ResourceNotFoundException".parse().unwrap());
        let refused = refusal(404, &headers, br#"{"Type":"User","Message":"gone"}"#);
        assert_eq!(refused.to_string(), "ResourceNotFoundException: gone");
        let refused = refusal(502, &http::HeaderMap::new(), b"bad gateway");
        assert_eq!(refused.to_string(), "HTTP 502: bad gateway");
    }
}

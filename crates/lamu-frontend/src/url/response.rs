//! What a function returned as an HTTP response: payload format 2.0 on its
//! way back ("Function URLs" of the invocation reference).
//!
//! ```text
//! object with statusCode ─▶ status, headers, cookies, body as it says
//! any other JSON ─────────▶ 200, the JSON itself; a string without its quotes
//! anything else ──────────▶ 502
//! ```
//!
//! The function is a stranger here. What could end a header line or speak for
//! the connection never gets through: values are checked by type, the length
//! is counted here, and headers between two ends of a connection are dropped
//! or renamed as the service renames them.
//!
//! Not here: CORS (`cors`), streamed responses (`stream`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue, SERVER, SET_COOKIE,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, Response, StatusCode};
use lamu_model::Outcome;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::event::is_hop;

/// Headers and cookies of one response, as many as clients take and far below
/// what a header map holds.
const HEADERS_MAX: usize = 500;

/// Their bytes, as many as a request's head may have.
const HEAD_BYTES_MAX: usize = 128 * 1024;

/// Set by the front and not by the function, whose values get another name.
static REMAPPED: [(HeaderName, HeaderName); 5] = [
    (CONNECTION, HeaderName::from_static("x-amzn-remapped-connection")),
    (CONTENT_LENGTH, HeaderName::from_static("x-amzn-remapped-content-length")),
    (DATE, HeaderName::from_static("x-amzn-remapped-date")),
    (SERVER, HeaderName::from_static("x-amzn-remapped-server")),
    (WWW_AUTHENTICATE, HeaderName::from_static("x-amzn-remapped-www-authenticate")),
];

pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What was wrong with what a function returned, for its owner's log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it is not JSON")]
    NotJson,
    #[error("statusCode is not a status from 200 to 599")]
    Status,
    #[error("headers is not an object of texts")]
    Headers,
    #[error("multiValueHeaders is not an object of arrays of texts")]
    MultiValueHeaders,
    #[error("cookies is not an array of texts")]
    Cookies,
    #[error("a header has a name or value that HTTP does not take")]
    NotAHeader,
    #[error("there are more headers than a response may have")]
    TooManyHeaders,
    #[error("body is not a text")]
    Body,
    #[error("body is not base 64, as isBase64Encoded says")]
    NotBase64,
    #[error("it is longer than a prelude may be")]
    PreludeTooLong,
    #[error("it does not end with eight NUL bytes")]
    PreludeEnd,
}

/// The response to the caller, before CORS.
pub fn of_outcome(outcome: Outcome) -> Response<Bytes> {
    match outcome {
        Outcome::Response { body, .. } => of_returned(body).unwrap_or_else(|malformed| {
            tracing::debug!(%malformed, "a function URL's response is no response");
            bad_gateway()
        }),
        Outcome::FunctionError { .. } | Outcome::Fault(_) => bad_gateway(),
    }
}

/// The answer when the function failed, in whatever way.
pub fn bad_gateway() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(b"Internal Server Error"));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

pub fn of_returned(returned: Bytes) -> Result<Response<Bytes>, Malformed> {
    match returned.trim_ascii_start().first() {
        Some(b'{') => {
            let shaped: Shaped<'_> =
                serde_json::from_slice(&returned).map_err(|_| Malformed::NotJson)?;
            match shaped.status_code()? {
                Some(status) => shaped.response(status),
                None => Ok(inferred(returned)),
            }
        }
        Some(b'"') => {
            let text: String = serde_json::from_slice(&returned).map_err(|_| Malformed::NotJson)?;
            Ok(inferred(text.into()))
        }
        _ => {
            serde_json::from_slice::<IgnoredAny>(&returned).map_err(|_| Malformed::NotJson)?;
            Ok(inferred(returned))
        }
    }
}

fn inferred(body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The members that matter, not read further than needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shaped<'a> {
    #[serde(borrow)]
    status_code: Option<&'a RawValue>,
    headers: Option<&'a RawValue>,
    cookies: Option<&'a RawValue>,
    body: Option<&'a RawValue>,
    is_base64_encoded: Option<&'a RawValue>,
}

/// A member, and `null` as if it were not there.
fn read<'a, T: Deserialize<'a>>(
    member: Option<&'a RawValue>,
    wrong: Malformed,
) -> Result<Option<T>, Malformed> {
    match member {
        None => Ok(None),
        Some(raw) => serde_json::from_str(raw.get()).map_err(|_| wrong),
    }
}

/// A number, or digits as some frameworks write them.
pub fn status_of(code: &Value) -> Result<StatusCode, Malformed> {
    let code = match code {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.len() == 3 => text.parse().ok(),
        _ => None,
    };
    // What is below 200 is not the end of a response.
    code.and_then(|code| u16::try_from(code).ok())
        .filter(|code| (200..=599).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(Malformed::Status)
}

/// Whether a response of this status may have a body. A client would take
/// that of another for the next response.
pub fn has_body(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

impl Shaped<'_> {
    fn status_code(&self) -> Result<Option<StatusCode>, Malformed> {
        let code = read::<Value>(self.status_code, Malformed::Status)?;
        code.map(|code| status_of(&code)).transpose()
    }

    fn response(&self, status: StatusCode) -> Result<Response<Bytes>, Malformed> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        let mut head = Head { headers: response.headers_mut(), count: 0, bytes: 0 };
        if let Some(headers) =
            read::<serde_json::Map<String, Value>>(self.headers, Malformed::Headers)?
        {
            for (name, value) in headers {
                match value {
                    Value::String(value) => head.add(&name, &value)?,
                    Value::Number(_) | Value::Bool(_) => head.add(&name, &value.to_string())?,
                    Value::Null => {}
                    Value::Array(_) | Value::Object(_) => return Err(Malformed::Headers),
                }
            }
        }
        for cookie in read::<Vec<String>>(self.cookies, Malformed::Cookies)?.unwrap_or_default() {
            head.add(SET_COOKIE.as_str(), &cookie)?;
        }
        if !response.headers().contains_key(CONTENT_TYPE) {
            response.headers_mut().insert(CONTENT_TYPE, JSON);
        }
        let body: String = read(self.body, Malformed::Body)?.unwrap_or_default();
        let encoded = read::<Value>(self.is_base64_encoded, Malformed::NotBase64)?;
        let body = match encoded {
            Some(Value::Bool(true)) => {
                Bytes::from(STANDARD.decode(body).map_err(|_| Malformed::NotBase64)?)
            }
            _ => Bytes::from(body),
        };
        if has_body(status) {
            *response.body_mut() = body;
        }
        Ok(response)
    }
}

/// A response's headers as far as they are there.
pub struct Head<'a> {
    pub headers: &'a mut HeaderMap,
    pub count: usize,
    pub bytes: usize,
}

impl Head<'_> {
    /// Takes one header of the function, under the name it may have.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), Malformed> {
        if let Some((name, value)) = self.check(name, value)? {
            match name == SET_COOKIE {
                true => drop(self.headers.append(name, value)),
                false => drop(self.headers.insert(name, value)),
            }
        }
        Ok(())
    }

    /// The same beside those of its name that are there, unless it is one of
    /// them. A body has one type.
    pub fn add_another(&mut self, name: &str, value: &str) -> Result<(), Malformed> {
        if let Some((name, value)) = self.check(name, value)? {
            if name == CONTENT_TYPE {
                self.headers.insert(name, value);
            } else if !self.headers.get_all(&name).iter().any(|there| *there == value) {
                self.headers.append(name, value);
            }
        }
        Ok(())
    }

    /// The header as it gets through; `None` when it does not.
    fn check(
        &mut self,
        name: &str,
        value: &str,
    ) -> Result<Option<(HeaderName, HeaderValue)>, Malformed> {
        self.count += 1;
        self.bytes += name.len() + value.len();
        if self.count > HEADERS_MAX || self.bytes > HEAD_BYTES_MAX {
            return Err(Malformed::TooManyHeaders);
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Malformed::NotAHeader)?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Malformed::NotAHeader)?;
        Ok(match REMAPPED.iter().find(|(own, _)| *own == name) {
            Some((_, other)) => Some((other.clone(), value)),
            None if is_hop(&name) => None,
            None => Some((name, value)),
        })
    }
}

#[cfg(test)]
mod tests {
    use lamu_model::Fault;
    use serde_json::json;

    use super::*;

    fn of(returned: &Value) -> Result<Response<Bytes>, Malformed> {
        of_returned(Bytes::from(returned.to_string()))
    }

    fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn an_object_with_a_status_is_taken_at_its_word() {
        let response = of(&json!({
            "statusCode": 201,
            "headers": {"Content-Type": "text/html", "X-Number": 7, "X-Flag": true, "X-None": null},
            "cookies": ["a=b; HttpOnly", "c=d"],
            "body": "<p>ü</p>",
            "isBase64Encoded": false,
        }))
        .unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(response.body(), "<p>ü</p>");
        assert_eq!(header(&response, "content-type"), Some("text/html"));
        assert_eq!(header(&response, "x-number"), Some("7"));
        assert_eq!(header(&response, "x-flag"), Some("true"));
        assert_eq!(header(&response, "x-none"), None);
        let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies, ["a=b; HttpOnly", "c=d"]);
    }

    #[test]
    fn a_status_may_be_all_there_is() {
        for returned in [
            json!({"statusCode": 404}),
            json!({"statusCode": "404"}),
            json!({"statusCode": 404, "body": null, "headers": null, "cookies": null}),
        ] {
            let response = of(&returned).unwrap();
            assert_eq!((response.status().as_u16(), response.body().len()), (404, 0));
            assert_eq!(header(&response, "content-type"), Some("application/json"));
        }
    }

    #[test]
    fn anything_else_is_json_of_its_own() {
        for (returned, shown) in [
            (r#"{"message": "hi"}"#, r#"{"message": "hi"}"#),
            (r#"{"statusCode":null,"a":1}"#, r#"{"statusCode":null,"a":1}"#),
            ("[1, 2]", "[1, 2]"),
            ("7", "7"),
            ("null", "null"),
            ("true", "true"),
            ("\"hello\"", "hello"),
            (" \"a\\n\\u00fc\" ", "a\nü"),
            ("\"\"", ""),
        ] {
            let response = of_returned(Bytes::from(returned)).unwrap();
            assert_eq!((response.status().as_u16(), &response.body()[..]), (200, shown.as_bytes()));
            assert_eq!(header(&response, "content-type"), Some("application/json"));
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(of_returned(Bytes::from(deep.clone())).unwrap().body(), &deep);
    }

    #[test]
    fn a_body_in_base_64_is_sent_as_its_bytes() {
        let response =
            of(&json!({"statusCode": 200, "body": "//4A", "isBase64Encoded": true})).unwrap();
        assert_eq!(&response.body()[..], b"\xff\xfe\x00");
    }

    #[test]
    fn what_is_no_response_is_malformed() {
        let status = |code: Value| json!({"statusCode": code});
        let with = |member: &str, value: Value| json!({"statusCode": 200, member: value});
        let table = [
            (status(json!(99)), Malformed::Status),
            (status(json!(101)), Malformed::Status),
            (status(json!(600)), Malformed::Status),
            (status(json!(-200)), Malformed::Status),
            (status(json!(200.5)), Malformed::Status),
            (status(json!("two hundred")), Malformed::Status),
            (status(json!([200])), Malformed::Status),
            (with("headers", json!("a: b")), Malformed::Headers),
            (with("headers", json!({"a": ["b"]})), Malformed::Headers),
            (with("cookies", json!("a=b")), Malformed::Cookies),
            (with("cookies", json!([1])), Malformed::Cookies),
            (with("body", json!({"a": 1})), Malformed::Body),
            (
                json!({"statusCode": 200, "body": "?", "isBase64Encoded": true}),
                Malformed::NotBase64,
            ),
        ];
        for (returned, why) in table {
            assert_eq!(of(&returned).unwrap_err(), why, "{returned}");
        }
        for text in ["", "hello", "{", "{\"statusCode\":200", "\"open", "[1,]", "\u{feff}{}", "\0"]
        {
            let refused = of_returned(Bytes::from(text)).unwrap_err();
            assert_eq!(refused, Malformed::NotJson, "{text:?}");
        }
    }

    #[test]
    fn no_header_of_a_function_ends_its_line() {
        for (name, value) in [
            ("x", "a\r\nSet-Cookie: admin=1"),
            ("x", "a\nb"),
            ("x", "a\0b"),
            ("x\r\nSet-Cookie", "admin=1"),
            ("x: y", "a"),
            ("x y", "a"),
            ("", "a"),
        ] {
            let returned = json!({"statusCode": 200, "headers": {name: value}});
            assert_eq!(of(&returned).unwrap_err(), Malformed::NotAHeader, "{name:?}: {value:?}");
        }
        let cookie = json!({"statusCode": 200, "cookies": ["a=b\r\nX: y"]});
        assert_eq!(of(&cookie).unwrap_err(), Malformed::NotAHeader);
    }

    #[test]
    fn a_function_does_not_speak_for_the_connection() {
        let response = of(&json!({"statusCode": 200, "body": "abc", "headers": {
            "Connection": "close", "Content-Length": "1000", "Transfer-Encoding": "chunked",
            "Upgrade": "websocket", "Keep-Alive": "timeout=5", "TE": "trailers", "Trailer": "x",
            "Date": "then", "Server": "mine", "WWW-Authenticate": "Basic", "X-Kept": "1",
        }}))
        .unwrap();
        let mut names: Vec<&str> = response.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "content-type",
                "x-amzn-remapped-connection",
                "x-amzn-remapped-content-length",
                "x-amzn-remapped-date",
                "x-amzn-remapped-server",
                "x-amzn-remapped-www-authenticate",
                "x-kept",
            ]
        );
    }

    #[test]
    fn a_flood_of_headers_is_refused() {
        let many = |count: usize| -> Value {
            (0..count)
                .map(|at| (format!("x-{at}"), json!("1")))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        assert!(of(&json!({"statusCode": 200, "headers": many(HEADERS_MAX)})).is_ok());
        let table = [
            json!({"statusCode": 200, "headers": many(HEADERS_MAX + 1)}),
            json!({"statusCode": 200, "headers": many(100_000)}),
            json!({"statusCode": 200, "headers": {"x": "a".repeat(HEAD_BYTES_MAX)}}),
            json!({"statusCode": 200, "cookies": vec!["a=b"; 100_000]}),
        ];
        for returned in table {
            assert_eq!(of(&returned).unwrap_err(), Malformed::TooManyHeaders);
        }
    }

    #[test]
    fn statuses_without_a_body_have_none() {
        for code in [204, 304] {
            let response = of(&json!({"statusCode": code, "body": "HTTP/1.1 200 OK"})).unwrap();
            assert!(response.body().is_empty());
        }
    }

    #[test]
    fn a_failed_function_is_a_bad_gateway_that_tells_nothing() {
        let error = Outcome::FunctionError { error_type: "E".into(), body: "secret".into() };
        let nonsense = Outcome::Response { content_type: None, body: "secret".into() };
        for outcome in [error, nonsense, Outcome::Fault(Fault::timeout(3.0))] {
            let response = of_outcome(outcome);
            assert_eq!(response.status(), 502);
            assert_eq!(response.body(), "Internal Server Error");
        }
    }
}

//! What a streamed response begins with when its function speaks HTTP: status,
//! headers and cookies as JSON, eight NUL bytes, then the body ("Function
//! URLs" of the invocation reference).
//!
//! ```text
//!  {"statusCode":201,"headers":{…},"cookies":[…]}  0 0 0 0 0 0 0 0  body…
//! ```
//!
//! It comes in pieces of any size. JSON has no NUL byte, so the first one ends
//! it; seven must follow, and a body may begin with more of them.
//!
//! Not here: which headers get through (`response`), the body (`stream`).

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::response::{Head, Malformed, status_of};

/// The content type that says a prelude comes.
const KIND: &str = "application/vnd.awslambda.http-integration-response";

/// Twice what a head may have, for escapes and punctuation.
const BYTES_MAX: usize = 256 * 1024;

const NULS: usize = 8;

/// Of a stream whose function says none.
pub const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Whether a response of this content type begins with a prelude.
pub fn is_announced(content_type: Option<&str>) -> bool {
    let kind = content_type.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case(KIND)
}

/// A prelude as far as it has come.
#[derive(Debug, Default)]
pub struct Prelude {
    json: BytesMut,
    nuls: usize,
}

/// What a prelude said.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// What of the body came with the prelude's end.
    pub rest: Bytes,
}

impl Prelude {
    /// Takes the next piece; whole when its end was in it.
    pub fn push(&mut self, mut piece: Bytes) -> Result<Option<Opened>, Malformed> {
        if self.nuls == 0 {
            let end = piece.iter().position(|byte| *byte == 0).unwrap_or(piece.len());
            if self.json.len() + end > BYTES_MAX {
                return Err(Malformed::PreludeTooLong);
            }
            self.json.extend_from_slice(&piece.split_to(end));
        }
        let due = piece.len().min(NULS - self.nuls);
        if piece.split_to(due).iter().any(|byte| *byte != 0) {
            return Err(Malformed::PreludeEnd);
        }
        self.nuls += due;
        if self.nuls < NULS {
            return Ok(None);
        }
        let (status, headers) = read(&self.json)?;
        Ok(Some(Opened { status, headers, rest: piece }))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    status_code: Option<Value>,
    headers: Option<Value>,
    multi_value_headers: Option<Value>,
    cookies: Option<Value>,
}

fn read(json: &[u8]) -> Result<(StatusCode, HeaderMap), Malformed> {
    // An array would be read as the members in their order.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(Malformed::NotJson);
    }
    let said: Said = serde_json::from_slice(json).map_err(|_| Malformed::NotJson)?;
    let status = said.status_code.map_or(Ok(StatusCode::OK), |code| status_of(&code))?;
    let mut headers = HeaderMap::new();
    let mut head = Head { headers: &mut headers, count: 0, bytes: 0 };
    for (name, value) in object(said.headers, Malformed::Headers)? {
        match value {
            // Some clients write a repeated header so.
            Value::Array(values) => add_each(&mut head, &name, values, Malformed::Headers)?,
            value => add(&mut head, &name, value, Malformed::Headers)?,
        }
    }
    for (name, values) in object(said.multi_value_headers, Malformed::MultiValueHeaders)? {
        match values {
            Value::Array(values) => {
                add_each(&mut head, &name, values, Malformed::MultiValueHeaders)?;
            }
            Value::Null => {}
            _ => return Err(Malformed::MultiValueHeaders),
        }
    }
    match said.cookies {
        None => {}
        Some(Value::Array(cookies)) => {
            for cookie in cookies {
                let Value::String(cookie) = cookie else { return Err(Malformed::Cookies) };
                head.add(SET_COOKIE.as_str(), &cookie)?;
            }
        }
        Some(_) => return Err(Malformed::Cookies),
    }
    headers.entry(CONTENT_TYPE).or_insert(OCTETS);
    Ok((status, headers))
}

fn object(member: Option<Value>, wrong: Malformed) -> Result<Map<String, Value>, Malformed> {
    match member {
        None => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(wrong),
    }
}

fn add_each(
    head: &mut Head<'_>,
    name: &str,
    values: Vec<Value>,
    wrong: Malformed,
) -> Result<(), Malformed> {
    values.into_iter().try_for_each(|value| match value {
        Value::String(value) => head.add_another(name, &value),
        Value::Number(_) | Value::Bool(_) => head.add_another(name, &value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(wrong),
    })
}

fn add(head: &mut Head<'_>, name: &str, value: Value, wrong: Malformed) -> Result<(), Malformed> {
    match value {
        Value::String(value) => head.add(name, &value),
        Value::Number(_) | Value::Bool(_) => head.add(name, &value.to_string()),
        Value::Null => Ok(()),
        Value::Array(_) | Value::Object(_) => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const END: &str = "\0\0\0\0\0\0\0\0";

    fn whole(prelude: &Value, body: &str) -> Result<Opened, Malformed> {
        let text = format!("{prelude}{END}{body}");
        Prelude::default().push(Bytes::from(text)).map(|opened| opened.expect("it was whole"))
    }

    fn all<'a>(opened: &'a Opened, name: &str) -> Vec<&'a str> {
        opened.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn one_content_type_announces_it() {
        let yes = [
            "application/vnd.awslambda.http-integration-response",
            "Application/Vnd.AwsLambda.Http-Integration-Response; charset=utf-8",
        ];
        assert!(yes.iter().all(|kind| is_announced(Some(kind))));
        let no = ["", "application/json", "application/vnd.awslambda.http-integration-response2"];
        assert!(!no.iter().any(|kind| is_announced(Some(kind))));
        assert!(!is_announced(None));
    }

    #[test]
    fn a_prelude_says_status_headers_and_cookies() {
        let prelude = json!({
            "statusCode": 201,
            "headers": {"Content-Type": "text/html", "x-number": 7, "x-none": null,
                "x-twice": ["a", "b"]},
            "multiValueHeaders": {"x-more": ["1", 2, true], "x-twice": ["b", "c"]},
            "cookies": ["a=b", "c=d"],
        });
        let opened = whole(&prelude, "body").unwrap();
        assert_eq!((opened.status.as_u16(), &opened.rest[..]), (201, &b"body"[..]));
        assert_eq!(all(&opened, "content-type"), ["text/html"]);
        assert_eq!(all(&opened, "x-number"), ["7"]);
        assert_eq!(all(&opened, "x-none"), [""; 0]);
        assert_eq!(all(&opened, "x-twice"), ["a", "b", "c"], "merged, each once");
        assert_eq!(all(&opened, "x-more"), ["1", "2", "true"]);
        assert_eq!(all(&opened, "set-cookie"), ["a=b", "c=d"]);
    }

    #[test]
    fn an_empty_prelude_is_a_plain_success() {
        for prelude in [
            json!({}),
            json!({"statusCode": null, "headers": null, "multiValueHeaders": null, "cookies": null}),
            json!({"statusCode": "200", "headers": {}, "more": [1]}),
        ] {
            let opened = whole(&prelude, "").unwrap();
            assert_eq!((opened.status.as_u16(), opened.rest.len()), (200, 0));
            assert_eq!(all(&opened, "content-type"), ["application/octet-stream"]);
        }
    }

    #[test]
    fn pieces_may_be_cut_anywhere() {
        let text = format!("{{\"statusCode\":202}}{END}\0\0body");
        for size in 1..=text.len() {
            let mut prelude = Prelude::default();
            let mut body = Vec::new();
            let mut opened = None;
            for piece in text.as_bytes().chunks(size) {
                match opened {
                    Some(_) => body.extend_from_slice(piece),
                    None => opened = prelude.push(Bytes::copy_from_slice(piece)).unwrap(),
                }
            }
            let opened = opened.unwrap_or_else(|| panic!("never whole, by {size}"));
            assert_eq!(opened.status, 202);
            assert_eq!([&opened.rest[..], &body].concat(), b"\0\0body", "by {size}");
        }
    }

    #[test]
    fn what_has_not_ended_is_not_whole() {
        let mut prelude = Prelude::default();
        for piece in ["", "{", "}", "\0\0\0", "", "\0\0\0\0"] {
            assert_eq!(prelude.push(Bytes::from(piece)).unwrap(), None);
        }
        assert!(prelude.push(Bytes::from("\0")).unwrap().is_some());
    }

    #[test]
    fn what_is_no_prelude_is_malformed() {
        let table = [
            (json!({"statusCode": 101}), Malformed::Status),
            (json!({"statusCode": 600}), Malformed::Status),
            (json!({"statusCode": []}), Malformed::Status),
            (json!({"headers": []}), Malformed::Headers),
            (json!({"headers": {"x": {}}}), Malformed::Headers),
            (json!({"headers": {"x": [[]]}}), Malformed::Headers),
            (json!({"headers": {"x": "a\r\nb: c"}}), Malformed::NotAHeader),
            (json!({"headers": {"x": ["a\r\nb: c"]}}), Malformed::NotAHeader),
            (json!({"headers": {"x y": "a"}}), Malformed::NotAHeader),
            (json!({"multiValueHeaders": {"x": "a"}}), Malformed::MultiValueHeaders),
            (json!({"multiValueHeaders": {"x": [null]}}), Malformed::MultiValueHeaders),
            (json!({"multiValueHeaders": {"x\n": ["a"]}}), Malformed::NotAHeader),
            (json!({"multiValueHeaders": {"x": vec!["a"; 501]}}), Malformed::TooManyHeaders),
            (json!({"cookies": "a=b"}), Malformed::Cookies),
            (json!({"cookies": [1]}), Malformed::Cookies),
            (json!({"cookies": ["a=b\r\n\r\n"]}), Malformed::NotAHeader),
            (json!([200]), Malformed::NotJson),
            (json!("text"), Malformed::NotJson),
        ];
        for (prelude, why) in table {
            assert_eq!(whole(&prelude, "").unwrap_err(), why, "{prelude}");
        }
        let push = |text: &str| Prelude::default().push(Bytes::copy_from_slice(text.as_bytes()));
        assert_eq!(push("{}\0\0\0x").unwrap_err(), Malformed::PreludeEnd);
        assert_eq!(push(&format!("{{{END}")).unwrap_err(), Malformed::NotJson);
        assert_eq!(push(END).unwrap_err(), Malformed::NotJson);
        let deep = format!("{{\"headers\":{}{END}", "[".repeat(100_000));
        assert_eq!(push(&deep).unwrap_err(), Malformed::NotJson);
    }

    #[test]
    fn a_prelude_that_does_not_end_is_given_up() {
        let mut prelude = Prelude::default();
        let piece = Bytes::from(vec![b' '; 64 * 1024]);
        for _ in 0..4 {
            assert_eq!(prelude.push(piece.clone()).unwrap(), None);
        }
        assert_eq!(prelude.push(Bytes::from(" ")).unwrap_err(), Malformed::PreludeTooLong);
    }

    #[test]
    fn a_function_does_not_speak_for_the_connection() {
        let prelude = json!({
            "headers": {"Content-Length": "3", "Transfer-Encoding": ["chunked"]},
            "multiValueHeaders": {"Connection": ["close", "x"], "Date": ["then"],
                "Trailer": ["x"], "Content-Type": ["text/a", "text/b"]},
        });
        let opened = whole(&prelude, "").unwrap();
        let mut names: Vec<&str> = opened.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "content-type",
                "x-amzn-remapped-connection",
                "x-amzn-remapped-content-length",
                "x-amzn-remapped-date",
            ]
        );
        assert_eq!(all(&opened, "content-type"), ["text/b"], "a body has one type");
    }
}

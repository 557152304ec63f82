//! Requests, and what the function sees of them.

use serde_json::{Value, json};

use super::*;

const ID: &str = "abcdefghijklmnopqrstuvwxyz234567";
const DOMAIN: &str = "abcdefghijklmnopqrstuvwxyz234567.lambda-url.us-east-1.localhost";

struct Sent {
    method: &'static str,
    path: &'static str,
    query: &'static str,
    headers: Vec<(&'static str, &'static [u8])>,
    body: Bytes,
    signer: Option<Signer>,
}

impl Default for Sent {
    fn default() -> Sent {
        Sent {
            method: "GET",
            path: "/",
            query: "",
            headers: Vec::new(),
            body: Bytes::new(),
            signer: None,
        }
    }
}

impl Sent {
    fn event(&self) -> Result<Value, TooLarge> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        let owner = AccountId::new("000000000000");
        let asked = Asked {
            method: self.method,
            path: self.path,
            query: self.query,
            version: Version::HTTP_11,
            headers: &headers,
            body: &self.body,
            source_ip: "1.2.3.4".parse().unwrap(),
            scheme: Scheme::Https,
            port: 443,
            id: ID,
            domain_name: DOMAIN,
            trace_id: "Root=1-0-0",
            request: &RequestId::new("r-1"),
            now: DateTime::from_timestamp_millis(1_773_342_238_390).unwrap(),
            signer: self.signer.clone().map(|signer| (&owner, signer)),
        };
        let event = event(&asked)?;
        assert!(event.len() <= SYNC_REQUEST_BYTES_MAX);
        Ok(serde_json::from_slice(&event).unwrap())
    }

    fn body(kind: Option<&'static str>, body: &'static [u8]) -> (Value, bool) {
        let headers = kind.map(|kind| ("content-type", kind.as_bytes()));
        let sent = Sent {
            method: "POST",
            headers: headers.into_iter().collect(),
            body: Bytes::from_static(body),
            ..Sent::default()
        };
        let event = sent.event().unwrap();
        (event["body"].clone(), event["isBase64Encoded"].as_bool().unwrap())
    }
}

#[test]
fn a_whole_request_becomes_a_whole_event() {
    let sent = Sent {
        method: "POST",
        path: "/my/path%20x",
        query: "a=1&a=2&b=x",
        headers: vec![
            ("Content-Type", b"text/plain"),
            ("X-Multi", b"v1"),
            ("x-multi", b"v2"),
            ("Host", b"h"),
            ("Cookie", b"c1=v1; c2=v2"),
            ("cookie", b"c3=v3"),
            ("User-Agent", b"agent"),
        ],
        body: Bytes::from_static(b"Hello"),
        signer: None,
    };
    assert_eq!(
        sent.event().unwrap(),
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/my/path%20x",
            "rawQueryString": "a=1&a=2&b=x",
            "cookies": ["c1=v1", "c2=v2", "c3=v3"],
            "headers": {
                "content-type": "text/plain",
                "content-length": "5",
                "x-multi": "v1,v2",
                "host": "h",
                "user-agent": "agent",
                "x-forwarded-for": "1.2.3.4",
                "x-forwarded-port": "443",
                "x-forwarded-proto": "https",
                "x-amzn-trace-id": "Root=1-0-0",
            },
            "queryStringParameters": {"a": "1,2", "b": "x"},
            "requestContext": {
                "accountId": "anonymous",
                "apiId": ID,
                "domainName": DOMAIN,
                "domainPrefix": ID,
                "http": {
                    "method": "POST",
                    "path": "/my/path%20x",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "1.2.3.4",
                    "userAgent": "agent",
                },
                "requestId": "r-1",
                "routeKey": "$default",
                "stage": "$default",
                "time": "12/Mar/2026:19:03:58 +0000",
                "timeEpoch": 1_773_342_238_390_i64,
            },
            "body": "Hello",
            "isBase64Encoded": false,
        })
    );
}

#[test]
fn what_is_not_there_is_missing() {
    let event = Sent::default().event().unwrap();
    let members: Vec<&String> = event.as_object().unwrap().keys().collect();
    for absent in ["cookies", "queryStringParameters", "body", "pathParameters", "stageVariables"] {
        assert!(!members.iter().any(|member| *member == absent), "{absent}");
    }
    assert_eq!(event["isBase64Encoded"], false);
    assert!(event["requestContext"].get("authorizer").is_none());
    assert!(event["requestContext"]["http"].get("userAgent").is_none());
}

#[test]
fn a_signer_is_shown_beside_the_owner() {
    let signer = Signer {
        access_key: "AKIA".into(),
        account: AccountId::new("111122223333"),
        user_arn: "arn:aws:iam::111122223333:user/u".into(),
        user_id: "AIDA".into(),
    };
    let event = Sent { signer: Some(signer), ..Sent::default() }.event().unwrap();
    assert_eq!(event["requestContext"]["accountId"], "000000000000");
    assert_eq!(
        event["requestContext"]["authorizer"]["iam"],
        json!({
            "accessKey": "AKIA",
            "accountId": "111122223333",
            "callerId": "AIDA",
            "cognitoIdentity": null,
            "principalOrgId": null,
            "userArn": "arn:aws:iam::111122223333:user/u",
            "userId": "AIDA",
        })
    );
}

#[test]
fn the_content_type_decides_between_text_and_base64() {
    for kind in [
        "text/plain",
        "text/html; charset=utf-8",
        "TEXT/CSV",
        "application/json",
        "application/json;charset=UTF-8",
        "application/javascript",
        "application/xml",
        "application/problem+json",
        "application/vnd.api+json",
        "application/atom+xml",
        "image/svg+xml",
    ] {
        assert_eq!(Sent::body(Some(kind), b"a\"b"), (json!("a\"b"), false), "{kind}");
    }
    for kind in [
        None,
        Some("application/octet-stream"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("image/png"),
        Some("application/jsonx"),
        Some("nonsense"),
        Some(""),
    ] {
        assert_eq!(Sent::body(kind, b"a=b"), (json!("YT1i"), true), "{kind:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_base64_whatever_the_type_says() {
    assert_eq!(Sent::body(Some("text/plain"), b"\xff\xfe"), (json!("//4="), true));
    assert_eq!(Sent::body(Some("application/json"), b"\x1f\x8b"), (json!("H4s="), true));
}

#[test]
fn query_values_are_decoded_and_the_raw_string_is_not() {
    let table: [(&'static str, Value); 8] = [
        ("a=1%202&b=x+y", json!({"a": "1 2", "b": "x y"})),
        ("a%5B%5D=1&a[]=2", json!({"a[]": "1,2"})),
        ("flag&empty=", json!({"flag": "", "empty": ""})),
        ("&&a=1&&", json!({"a": "1"})),
        ("a=b=c", json!({"a": "b=c"})),
        ("a=%zz&b=%4&c=%", json!({"a": "%zz", "b": "%4", "c": "%"})),
        ("a=%ff%C3%BC", json!({"a": "\u{fffd}\u{fc}"})),
        ("a=%00%0d%0a", json!({"a": "\0\r\n"})),
    ];
    for (query, parameters) in table {
        let event = Sent { query, ..Sent::default() }.event().unwrap();
        assert_eq!(event["queryStringParameters"], parameters, "{query}");
        assert_eq!(event["rawQueryString"], query);
    }
}

#[test]
fn headers_of_one_connection_stay_there() {
    let headers: Vec<(&str, &[u8])> = vec![
        ("connection", b"keep-alive, X-Hop"),
        ("keep-alive", b"timeout=5"),
        ("x-hop", b"1"),
        ("te", b"trailers"),
        ("transfer-encoding", b"chunked"),
        ("upgrade", b"websocket"),
        ("x-kept", b"1"),
    ];
    let event = Sent { headers, ..Sent::default() }.event().unwrap();
    let names: Vec<&String> = event["headers"].as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        ["x-amzn-trace-id", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto", "x-kept"]
    );
}

#[test]
fn what_a_client_says_about_its_way_does_not_replace_what_is_seen() {
    let headers: Vec<(&str, &[u8])> = vec![
        ("x-forwarded-for", b"9.9.9.9"),
        ("x-forwarded-proto", b"gopher"),
        ("x-forwarded-port", b"1"),
    ];
    let event = Sent { headers, ..Sent::default() }.event().unwrap();
    assert_eq!(event["headers"]["x-forwarded-for"], "9.9.9.9, 1.2.3.4");
    assert_eq!(event["headers"]["x-forwarded-proto"], "https");
    assert_eq!(event["headers"]["x-forwarded-port"], "443");
    assert_eq!(event["requestContext"]["http"]["sourceIp"], "1.2.3.4");
}

#[test]
fn header_values_are_utf_8_or_latin_1() {
    let headers: Vec<(&str, &[u8])> = vec![("a", b"\xc3\xbc"), ("b", b"\xfc")];
    let event = Sent { headers, ..Sent::default() }.event().unwrap();
    assert_eq!((&event["headers"]["a"], &event["headers"]["b"]), (&json!("ü"), &json!("ü")));
}

#[test]
fn the_event_and_not_only_the_body_has_to_fit() {
    let of = |kind: &'static str, byte: u8, bytes: usize| {
        let body = Bytes::from(vec![byte; bytes]);
        let headers = vec![("content-type", kind.as_bytes())];
        Sent { headers, body, ..Sent::default() }.event().map(|_| ())
    };
    let max = SYNC_REQUEST_BYTES_MAX;
    assert_eq!(of("text/plain", b'a', max - 2_000), Ok(()));
    assert_eq!(of("text/plain", b'a', max), Err(TooLarge));
    // Six bytes each once escaped, and four for three in base 64.
    assert_eq!(of("text/plain", 1, max / 6), Err(TooLarge));
    assert_eq!(of("image/png", 1, max / 4 * 3 - 2_000), Ok(()));
    assert_eq!(of("image/png", 1, max / 4 * 3), Err(TooLarge));
}

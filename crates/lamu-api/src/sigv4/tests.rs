//! Signatures against AWS's published vectors and against what botocore
//! 1.44.5 makes of the same requests.

use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;

use super::*;
use crate::{ApiError, ErrorCode};

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const INVOKE_PATH: &str = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af/invocations";
const PRESIGNED: &str = "Qualifier=1&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Flambda%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Security-Token=TOKEN%2F%2B%3D&X-Amz-Signature=aca535e1f50f8a411cce5adf3d602d0d85edbbb8c8cbddb059d62d75414ebb68";

fn now() -> DateTime<Utc> {
    "2015-08-30T12:36:00Z".parse().unwrap()
}

fn signer<'a>(service: &'a str, session_token: Option<&'a str>) -> Signer<'a> {
    let credentials = Credentials { access_key: KEY, secret: SECRET, session_token };
    Signer { credentials, region: "us-east-1", service, now: now() }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn secret_of(key: &str) -> Option<&'static str> {
    (key == KEY).then_some(SECRET)
}

/// A signed Invoke as it arrives.
fn invoke() -> HeaderMap {
    let mut headers = headers(&[
        ("host", "lambda.us-east-1.amazonaws.com"),
        ("x-amz-invocation-type", "RequestResponse"),
        ("x-amz-client-context", "  a   b "),
    ]);
    let added = signer("lambda", Some("TOKEN/+="))
        .sign_headers(&invoke_parts(&headers), PayloadHash::of(br#"{"k":1}"#))
        .unwrap();
    headers.extend(added);
    headers
}

fn invoke_parts(headers: &HeaderMap) -> RequestParts<'_> {
    RequestParts {
        method: "POST",
        path: INVOKE_PATH,
        query: "Qualifier=%24LATEST",
        headers,
        authority: None,
    }
}

fn verify_invoke(
    headers: &HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Identity, SignatureError> {
    verify(&invoke_parts(headers), PayloadHash::of(body), "lambda", now, secret_of)
}

#[test]
fn the_signing_key_is_the_published_one() {
    let key = signing_key(SECRET.as_bytes(), "20150830", "us-east-1", "iam");
    assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
}

#[test]
fn signatures_are_the_published_ones() {
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (name, method, path, query, extra, body, signature) in [
        (
            "get-vanilla",
            "GET",
            "/",
            "",
            None,
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "get-vanilla-query-order-key-case",
            "GET",
            "/",
            "Param2=value2&Param1=value1",
            None,
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "post-vanilla",
            "POST",
            "/",
            "",
            None,
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "get-utf8",
            "GET",
            "/\u{1234}",
            "",
            None,
            "",
            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
        ),
        (
            "post-x-www-form-urlencoded",
            "POST",
            "/",
            "",
            Some(form),
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ] {
        let headers = headers(&extra.into_iter().collect::<Vec<_>>());
        let authority = Some("example.amazonaws.com");
        let parts = RequestParts { method, path, query, headers: &headers, authority };
        let added =
            signer("service", None).sign_headers(&parts, PayloadHash::of(body.as_bytes())).unwrap();
        let authorization = added["authorization"].to_str().unwrap();
        assert!(authorization.ends_with(signature), "{name}: {authorization}");
        assert_eq!(added["x-amz-date"], "20150830T123600Z");
    }
}

#[test]
fn an_invoke_is_signed_as_botocore_signs_it() {
    assert_eq!(
        invoke()["authorization"],
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/lambda/aws4_request, SignedHeaders=host;x-amz-client-context;x-amz-date;x-amz-invocation-type;x-amz-security-token, Signature=7b9a2807783006ab65e90032669c068db871776e54ea992651249a7e1ca2c724"
    );
}

#[test]
fn an_object_is_fetched_as_botocore_fetches_it() {
    let headers = HeaderMap::new();
    let parts = RequestParts {
        method: "GET",
        path: &format!("/{}", encode_path("a b/c+d")),
        query: "versionId=x%2Fy",
        headers: &headers,
        authority: Some("bucket.s3.us-east-1.amazonaws.com"),
    };
    let added = signer("s3", None).sign_headers(&parts, PayloadHash::of(b"")).unwrap();
    assert_eq!(
        added["authorization"],
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=7007632adb31b74ab0ab94ebabd76e97b69bbaf25de3b61d9e5de4927e6b375b"
    );
    let query = signer("s3", None).presign(&parts, PayloadHash::Unsigned, 3600);
    let signature = "5e2dd8a456aef71612dd30e47d00f46a7c6d044929cebecf09fa9ba6a2073d1d";
    assert_eq!(query_text(&query, "X-Amz-Signature").as_deref(), Some(signature));
}

#[test]
fn a_right_signature_says_who_and_where() {
    let identity = verify_invoke(&invoke(), br#"{"k":1}"#, now()).unwrap();
    assert_eq!(identity.access_key, KEY);
    assert_eq!((&*identity.region, &*identity.service), ("us-east-1", "lambda"));
}

#[test]
fn any_change_to_what_is_signed_is_a_mismatch() {
    let good = invoke();
    assert_eq!(verify_invoke(&good, b"{}", now()), Err(SignatureError::Mismatch));
    let mut changed = good.clone();
    changed.insert("x-amz-invocation-type", "Event".parse().unwrap());
    assert_eq!(verify_invoke(&changed, br#"{"k":1}"#, now()), Err(SignatureError::Mismatch));
    let mut changed = good.clone();
    changed.remove("x-amz-client-context");
    assert_eq!(verify_invoke(&changed, br#"{"k":1}"#, now()), Err(SignatureError::Mismatch));
    let parts = RequestParts { query: "Qualifier=2", ..invoke_parts(&good) };
    let hash = PayloadHash::of(br#"{"k":1}"#);
    assert_eq!(verify(&parts, hash, "lambda", now(), secret_of), Err(SignatureError::Mismatch));
    let wrong = |_: &str| Some("another secret");
    let refused = verify(&invoke_parts(&good), hash, "lambda", now(), wrong);
    assert_eq!(refused, Err(SignatureError::Mismatch));
}

#[test]
fn a_header_that_steers_the_call_must_be_signed() {
    let mut changed = invoke();
    changed.insert("x-amz-log-type", "Tail".parse().unwrap());
    let error = verify_invoke(&changed, br#"{"k":1}"#, now()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "There were headers present in the request which were not signed: x-amz-log-type"
    );
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let good = invoke();
    let at = |secs| verify_invoke(&good, br#"{"k":1}"#, now() + TimeDelta::seconds(secs));
    assert!(at(300).is_ok() && at(-300).is_ok());
    assert_eq!(
        at(301).unwrap_err().to_string(),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
    );
    assert_eq!(
        at(-301).unwrap_err().to_string(),
        "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)"
    );
}

#[test]
fn a_presigned_url_of_botocore_holds_until_it_expires() {
    let headers = headers(&[("host", "lambda.us-east-1.amazonaws.com")]);
    let base = RequestParts {
        method: "GET",
        path: "/2015-03-31/functions/f",
        query: "Qualifier=1",
        headers: &headers,
        authority: None,
    };
    let check = |query: &str, secs: i64| {
        let now = now() + TimeDelta::seconds(secs);
        let parts = RequestParts { query, ..base };
        verify(&parts, PayloadHash::of(b""), "lambda", now, secret_of)
    };
    assert_eq!(check(PRESIGNED, 0).unwrap().access_key, KEY);
    assert!(check(PRESIGNED, 3600).is_ok());
    assert!(check(PRESIGNED, 3601).unwrap_err().to_string().starts_with("Signature expired: "));
    let longer = PRESIGNED.replace("Expires=3600", "Expires=7200");
    assert_eq!(check(&longer, 0), Err(SignatureError::Mismatch));
    let too_long = PRESIGNED.replace("Expires=3600", "Expires=604801");
    assert!(matches!(check(&too_long, 0), Err(SignatureError::Incomplete(_))));

    let ours = signer("lambda", None).presign(&base, PayloadHash::Unsigned, 600);
    assert!(check(&ours, 600).is_ok());
    assert_eq!(
        check(&ours.replace("Qualifier=1", "Qualifier=2"), 0),
        Err(SignatureError::Mismatch)
    );
}

#[test]
fn a_payload_left_out_of_the_signature_must_be_said_to_be() {
    let mut headers = headers(&[("host", "h")]);
    let added = signer("lambda", None)
        .sign_headers(&invoke_parts(&headers), PayloadHash::Unsigned)
        .unwrap();
    headers.extend(added);
    assert!(verify_invoke(&headers, b"any", now()).is_ok());
    headers.remove("x-amz-content-sha256");
    assert_eq!(verify_invoke(&headers, b"any", now()), Err(SignatureError::Mismatch));
}

#[test]
fn broken_and_missing_signatures_get_the_codes_of_the_service() {
    let of = |headers: &HeaderMap| ApiError::from(verify_invoke(headers, b"", now()).unwrap_err());
    let error = of(&HeaderMap::new());
    assert_eq!(error.code, ErrorCode::MissingAuthenticationToken);
    assert_eq!(error.respond().body(), r#"{"message":"Missing Authentication Token"}"#);

    let error = of(&headers(&[("authorization", "Bearer x")]));
    assert_eq!(error.code, ErrorCode::IncompleteSignature);
    assert_eq!(
        error.message,
        "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
    );

    let with = |credential: &str, signed: &str| {
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature=00"
        );
        of(&headers(&[("authorization", &value), ("x-amz-date", "20150830T123600Z")]))
    };
    let all = "host;x-amz-date";
    let error = with("AKIDEXAMPLE/20150830", all);
    assert_eq!(error.code, ErrorCode::IncompleteSignature);
    let error = with("AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request", all);
    assert_eq!(error.message, "Credential should be scoped to correct service: 'lambda'.");
    let error = with("AKIDEXAMPLE/20150831/us-east-1/lambda/aws4_request", all);
    assert_eq!(error.code, ErrorCode::InvalidSignature);
    let error = with("AKIDEXAMPLE/20150830/us-east-1/lambda/aws4_request", "x-amz-date");
    assert!(error.message.starts_with("'Host' or ':authority' must be"));
    let error = with("UNHEARD/20150830/us-east-1/lambda/aws4_request", all);
    assert_eq!(error.code, ErrorCode::UnrecognizedClient);
    assert_eq!(error.message, "The security token included in the request is invalid.");
    let error = with("AKIDEXAMPLE/20150830/us-east-1/lambda/aws4_request", all);
    assert_eq!(error.code, ErrorCode::InvalidSignature);
    assert_eq!(error.status(), 403);
}

#[test]
fn a_scope_has_five_parts() {
    let scope = parse_credential_scope("AKID/20261103/eu-west-1/lambda/aws4_request").unwrap();
    assert_eq!(scope.access_key, "AKID");
    assert_eq!(scope.region, "eu-west-1");
    for broken in ["", "AKID", "a/b/c/d/e", "a/b/c/d/aws4_request/x", "a//c/d/aws4_request", "////"]
    {
        assert_eq!(parse_credential_scope(broken), None, "{broken}");
    }
}

#[test]
fn any_signature_says_its_scope() {
    let mut headers = HeaderMap::new();
    assert_eq!(scope_of(&headers, "a=b"), None);
    let query = "X-Amz-Credential=123456789012%2F20261103%2Fus-east-1%2Flambda%2Faws4_request";
    assert_eq!(scope_of(&headers, query).unwrap().access_key, "123456789012");
    let header = "AWS4-HMAC-SHA256 Credential=AK/20261103/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=00";
    headers.insert("authorization", header.parse().unwrap());
    assert_eq!(scope_of(&headers, query).unwrap().region, "eu-west-1");
}

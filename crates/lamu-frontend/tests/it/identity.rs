//! Signatures with keys, claims without, and pages in browsers.

use chrono::Utc;
use http::HeaderMap;
use lamu_api::sigv4::{Credentials, PayloadHash, RequestParts, Signer};
use lamu_frontend::AccessKey;
use lamu_model::AccountId;
use serde_json::json;

use crate::world::{FUNCTIONS, World};

const LIST: &str = "/2015-03-31/functions";

fn keys() -> Vec<AccessKey> {
    let account = AccountId::new("111111111111");
    vec![AccessKey::root("AKIDEXAMPLE", "secret", account)]
}

fn signed(
    world: &World,
    secret: &str,
    method: &str,
    path: &str,
    body: &[u8],
    now: chrono::DateTime<Utc>,
) -> Vec<(String, String)> {
    let credentials = Credentials { access_key: "AKIDEXAMPLE", secret, session_token: None };
    let signer = Signer { credentials, region: "eu-west-1", service: "lambda", now };
    let authority = world.client.address.to_string();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let headers = HeaderMap::new();
    let parts =
        RequestParts { method, path, query, headers: &headers, authority: Some(&authority) };
    let added = signer.sign_headers(&parts, PayloadHash::of(body)).unwrap();
    let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    added.iter().map(text).collect()
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[tokio::test]
async fn with_keys_only_right_signatures_are_served() {
    let world = World::with(|config| config.keys = keys()).await;
    let now = Utc::now();
    let right = signed(&world, "secret", "GET", LIST, b"", now);
    assert_eq!(world.client.send("GET", LIST, &borrowed(&right), "").await.status, 200);

    let unsigned = world.client.get(LIST).await;
    assert_eq!(unsigned.error().1, "MissingAuthenticationTokenException");
    let wrong = signed(&world, "other", "GET", LIST, b"", now);
    let wrong = world.client.send("GET", LIST, &borrowed(&wrong), "").await;
    assert_eq!((wrong.status, wrong.error().1.as_str()), (403, "InvalidSignatureException"));
    let other_path = world.client.send("GET", "/2018-10-31/layers", &borrowed(&right), "").await;
    assert_eq!(other_path.status, 403);
    let old = signed(&world, "secret", "GET", LIST, b"", now - chrono::TimeDelta::hours(1));
    assert_eq!(world.client.send("GET", LIST, &borrowed(&old), "").await.status, 403);

    let invoke = "/2015-03-31/functions/f/invocations";
    let for_another_body = signed(&world, "secret", "POST", invoke, b"{}", now);
    let got = world.client.send("POST", invoke, &borrowed(&for_another_body), "{\"a\":1}").await;
    assert_eq!(got.status, 403);
    let for_this_body = signed(&world, "secret", "POST", invoke, b"{}", now);
    let got = world.client.send("POST", invoke, &borrowed(&for_this_body), "{}").await;
    let (status, _, message) = got.error();
    assert_eq!(status, 404, "known, and there is no such function");
    assert!(message.contains("eu-west-1:111111111111:function:f"), "{message}");
}

#[tokio::test]
async fn a_presigned_url_is_a_signature_too() {
    let world = World::with(|config| config.keys = keys()).await;
    let authority = world.client.address.to_string();
    let credentials =
        Credentials { access_key: "AKIDEXAMPLE", secret: "secret", session_token: None };
    let signer = Signer { credentials, region: "us-east-1", service: "lambda", now: Utc::now() };
    let headers = HeaderMap::new();
    let parts = RequestParts {
        method: "GET",
        path: LIST,
        query: "",
        headers: &headers,
        authority: Some(&authority),
    };
    let query = signer.presign(&parts, PayloadHash::of(b""), 60);
    assert_eq!(world.client.get(&format!("{LIST}?{query}")).await.status, 200);
    let longer = query.replace("X-Amz-Expires=60", "X-Amz-Expires=6000");
    assert_eq!(world.client.get(&format!("{LIST}?{longer}")).await.status, 403);
}

#[tokio::test]
async fn without_keys_the_scope_says_region_and_account() {
    let world = World::new().await;
    let scope = "AWS4-HMAC-SHA256 Credential=222222222222/20261103/ap-south-1/lambda/aws4_request, SignedHeaders=host, Signature=00";
    let input = json!({
        "FunctionName": "f",
        "Role": crate::world::ROLE,
        "Runtime": "python3.12",
        "Handler": "h.h",
        "Code": {"ZipFile": crate::world::zip(&[("h.py", "")])},
    });
    let headers = [("authorization", scope)];
    let created = world.client.send("POST", FUNCTIONS, &headers, input.to_string()).await;
    assert_eq!(created.json()["FunctionArn"], "arn:aws:lambda:ap-south-1:222222222222:function:f");
    assert_eq!(world.client.get(LIST).await.json()["Functions"], json!([]), "not ours");
    let other = scope.replace("222222222222", "AKIDEXAMPLE");
    let headers = [("authorization", other.as_str())];
    let listed = world.client.send("GET", LIST, &headers, "").await.json();
    assert_eq!(listed["Functions"], json!([]), "the default account");
}

#[tokio::test]
async fn a_page_in_a_browser_is_not_the_user() {
    let world = World::new().await;
    for headers in [
        [("host", "evil.example")],
        [("origin", "https://evil.example")],
        [("sec-fetch-site", "cross-site")],
    ] {
        let got = world.client.send("GET", LIST, &headers, "").await;
        assert_eq!((got.status, got.error().1.as_str()), (403, "AccessDeniedException"));
        let got = world.client.send("GET", "/metrics", &headers, "").await;
        assert_eq!(got.status, 403);
    }
    let rebound = [("host", "evil.example")];
    assert_eq!(world.client.send("GET", "/healthz", &rebound, "").await.status, 200);
}

#[tokio::test]
async fn without_keys_no_other_address_is_listened_on() {
    let directory = tempfile::tempdir().unwrap();
    let metadata = lamu_store::SqliteMetadata::open(directory.path().join("m.db")).unwrap();
    let packages = lamu_store::DirPackages::open(directory.path().join("p")).unwrap();
    let (_, manager, worker) = crate::fleet::Fleet::start();
    let listen = "0.0.0.0:0".parse().unwrap();
    let refused = lamu_frontend::Frontend::start(
        lamu_frontend::FrontendConfig::local(listen, directory.path().to_path_buf()),
        std::sync::Arc::new(metadata),
        std::sync::Arc::new(packages),
        manager,
        vec![worker],
        lamu_link::LogsHandle::new().0,
    )
    .await;
    assert!(matches!(refused, Err(lamu_frontend::StartError::Exposed(_))));
}

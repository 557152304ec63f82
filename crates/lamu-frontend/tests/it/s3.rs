//! Code that is fetched from an S3 endpoint.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use lamu_frontend::{S3Config, S3Credentials};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::world::{FUNCTIONS, World, zip_bytes};

/// One object, `code/f.zip`, for who signs.
async fn endpoint() -> SocketAddr {
    slow_endpoint(|| async {}).await
}

/// The same, which does something before it answers.
async fn slow_endpoint<F>(meanwhile: impl Fn() -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            meanwhile().await;
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            let signed = head.contains("authorization: aws4-hmac-sha256 credential=ak/")
                && head.contains("/us-east-1/s3/aws4_request");
            let (status, body) = match () {
                () if !signed => (403, error("AccessDenied", "Access Denied")),
                () if head.starts_with("get /code/f.zip http") => {
                    (200, zip_bytes(&[("index.py", "from s3")]))
                }
                () if head.starts_with("get /code/") => {
                    (404, error("NoSuchKey", "The specified key does not exist."))
                }
                () => (404, error("NoSuchBucket", "The specified bucket does not exist")),
            };
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
        }
    });
    address
}

fn error(code: &str, message: &str) -> Vec<u8> {
    format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>").into_bytes()
}

#[tokio::test]
async fn code_is_fetched_with_a_signature_and_refusals_are_passed_on() {
    let address = endpoint().await;
    let world = World::with(|config| {
        config.s3 = S3Config {
            endpoint: Some(format!("http://{address}")),
            credentials: Some(S3Credentials {
                access_key: "AK".into(),
                secret: "secret".into(),
                session_token: None,
            }),
        };
    })
    .await;
    let code = |bucket: &str, key: &str| json!({"Code": {"S3Bucket": bucket, "S3Key": key}});

    let created = world.create_with("f", code("code", "f.zip")).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    assert_eq!(created.json()["CodeSize"], zip_bytes(&[("index.py", "from s3")]).len());

    for (bucket, key, text) in [
        ("code", "none.zip", "NoSuchKey. S3 Error Message: The specified key does not exist."),
        ("none", "f.zip", "NoSuchBucket. S3 Error Message: The specified bucket does not exist"),
    ] {
        let (status, code, message) = world.create_with("g", code(bucket, key)).await.error();
        assert_eq!((status, code.as_str()), (400, "InvalidParameterValueException"));
        assert_eq!(message, format!("Error occurred while GetObject. S3 Error Code: {text}"));
    }
}

#[tokio::test]
async fn signing_that_is_enforced_during_an_upload_holds_for_it() {
    // The client once it is there, and what it does while code is fetched.
    type Step = (crate::clients::Client, &'static str, String, serde_json::Value);
    let step: Arc<Mutex<Option<Step>>> = Arc::default();
    let next = step.clone();
    let address = slow_endpoint(move || {
        let next = next.lock().unwrap().take();
        async move {
            if let Some((client, method, path, input)) = next {
                let done = client.call(method, &path, input).await;
                assert_eq!(done.status, 200, "{:?}", done.body);
            }
        }
    })
    .await;
    let world = World::with(|config| {
        config.s3 = S3Config {
            endpoint: Some(format!("http://{address}")),
            credentials: Some(S3Credentials {
                access_key: "AK".into(),
                secret: "secret".into(),
                session_token: None,
            }),
        };
    })
    .await;
    let client = world.client;
    let configs = "/2020-04-22/code-signing-configs";
    let config = async |policy: &str| {
        let input = json!({
            "AllowedPublishers": {"SigningProfileVersionArns": [
                "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/0123456789"
            ]},
            "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": policy},
        });
        let made = client.call("POST", &format!("{configs}/"), input).await.json();
        made["CodeSigningConfig"]["CodeSigningConfigArn"].as_str().unwrap().to_owned()
    };
    let (enforced, warned) = (config("Enforce").await, config("Warn").await);
    let enforce = json!({"CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Enforce"}});
    world.function("f").await;
    let before = client.get(&format!("{FUNCTIONS}/f/configuration")).await.json();
    let code = json!({"S3Bucket": "code", "S3Key": "f.zip"});

    let attach = json!({"CodeSigningConfigArn": enforced});
    let path = "/2020-06-30/functions/f/code-signing-config".to_owned();
    *step.lock().unwrap() = Some((client, "PUT", path, attach));
    let updated = client.call("PUT", &format!("{FUNCTIONS}/f/code"), code.clone()).await;
    assert_eq!(updated.error().1, "CodeVerificationFailedException");
    let after = client.get(&format!("{FUNCTIONS}/f/configuration")).await.json();
    assert_eq!(after["CodeSha256"], before["CodeSha256"]);

    *step.lock().unwrap() = Some((client, "PUT", format!("{configs}/{warned}"), enforce));
    let members = json!({"Code": code, "CodeSigningConfigArn": warned});
    let created = world.create_with("g", members).await;
    assert_eq!(created.error().1, "CodeVerificationFailedException");
    assert_eq!(client.get(&format!("{FUNCTIONS}/g")).await.status, 404);
}

//! Signs a request as the SDKs do, with the keys they would use.
//!
//! Not here: the arithmetic of Signature Version 4 (`lamu_api::sigv4`).

use std::time::SystemTime;

use anyhow::Context as _;
use lamu_api::sigv4::{Credentials, PayloadHash, RequestParts, Signer};
use ureq::http;

/// Who signs.
#[derive(Clone)]
pub struct Keys {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.access_key_id)
    }
}

impl Keys {
    /// From the SDKs' variables. Without them a key that only a platform
    /// without keys of its own accepts.
    pub fn from_environment() -> Keys {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let pair = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
        match pair {
            Some((access_key_id, secret_access_key)) => {
                let session_token = variable("AWS_SESSION_TOKEN");
                Keys { access_key_id, secret_access_key, session_token }
            }
            None => Keys {
                access_key_id: "lamu".to_owned(),
                secret_access_key: "lamu".to_owned(),
                session_token: None,
            },
        }
    }
}

/// Adds the signature's headers. The request has every other header already.
pub fn sign(
    request: &mut http::Request<Vec<u8>>,
    keys: &Keys,
    region: &str,
    service: &str,
) -> anyhow::Result<()> {
    let uri = request.uri().clone();
    let parts = RequestParts {
        method: request.method().as_str(),
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        headers: request.headers(),
        authority: uri.authority().map(|authority| authority.as_str()),
    };
    let credentials = Credentials {
        access_key: &keys.access_key_id,
        secret: &keys.secret_access_key,
        session_token: keys.session_token.as_deref(),
    };
    let signer = Signer { credentials, region, service, now: SystemTime::now().into() };
    let added = signer
        .sign_headers(&parts, PayloadHash::of(request.body()))
        .context("the keys in the environment cannot be sent")?;
    request.headers_mut().extend(added);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_request_names_key_region_and_service() {
        let mut request = http::Request::builder()
            .uri("http://127.0.0.1:9001/2015-03-31/functions")
            .body(Vec::new())
            .unwrap();
        let keys = Keys {
            access_key_id: "AKID".into(),
            secret_access_key: "secret".into(),
            session_token: Some("token".into()),
        };

        sign(&mut request, &keys, "eu-west-1", "lambda").unwrap();

        let authorization = request.headers()["authorization"].to_str().unwrap();
        assert!(authorization.contains("Credential=AKID/"), "{authorization}");
        assert!(authorization.contains("/eu-west-1/lambda/aws4_request"), "{authorization}");
        assert_eq!(request.headers()["x-amz-security-token"], "token");
        assert!(!format!("{keys:?}").contains("secret"));
    }
}

//! Who calls, and for which region.
//!
//! With keys configured every request must carry a right signature, and the
//! key says which principal signed. Without keys nothing is verified, only
//! loopback is served, and a signature, right or wrong, says region and
//! account: the region of its scope, the account of an access key of twelve
//! digits. What is missing is the configured default, and everyone is the root
//! of their account.
//!
//! Not here: the signatures themselves (`lamu_api::sigv4`), what a web page
//! could send (`browser`), what a principal may do (`access`).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use lamu_api::sigv4::{self, PayloadHash, RequestParts};
use lamu_api::{ApiError, ErrorCode};
use lamu_model::{AccountId, Region};

use crate::error;
use crate::function::resolve::Caller;
use crate::policy::Principal;

/// A key that callers may sign with.
#[derive(Clone)]
pub struct AccessKey {
    pub id: String,
    pub secret: String,
    /// Who signs with it.
    pub principal: Arc<Principal>,
}

impl AccessKey {
    /// The key of an account's root, which may do anything in it.
    pub fn root(id: impl Into<String>, secret: impl Into<String>, account: AccountId) -> AccessKey {
        let principal = Arc::new(Principal::root(account));
        AccessKey { id: id.into(), secret: secret.into(), principal }
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("principal", &self.principal.arn)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct Identities {
    keys: HashMap<String, AccessKey>,
    default: Identity,
}

/// Who sent a request, and for which region.
#[derive(Clone, Debug)]
pub struct Identity {
    pub principal: Arc<Principal>,
    pub region: Region,
    account: AccountId,
}

impl Identity {
    fn root(account: AccountId, region: Region) -> Identity {
        let principal = Arc::new(Principal::root(account.clone()));
        Identity { principal, region, account }
    }

    /// In whose account the request acts, unless it names another.
    pub fn caller(&self) -> Caller {
        Caller { account: self.account.clone(), region: self.region.clone() }
    }
}

impl Identities {
    pub fn new(keys: Vec<AccessKey>, account: AccountId, region: Region) -> Identities {
        let keys = keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        Identities { keys, default: Identity::root(account, region) }
    }

    /// Whether signatures are asked for.
    pub fn verifies(&self) -> bool {
        !self.keys.is_empty()
    }

    /// `service` is the signing name the request must be for.
    pub fn identify(
        &self,
        parts: &RequestParts<'_>,
        body: &[u8],
        service: &str,
        now: DateTime<Utc>,
    ) -> Result<Identity, ApiError> {
        if !self.verifies() {
            return Ok(self.claimed(parts));
        }
        let secret = |id: &str| self.keys.get(id).map(|key| key.secret.clone());
        let identity = sigv4::verify(parts, PayloadHash::of(body), service, now, secret)?;
        if !is_region(&identity.region) {
            return Err(error::of_region());
        }
        let principal = self.signer(&identity.access_key)?;
        let account = principal.account.clone();
        let account = account.unwrap_or_else(|| self.default.account.clone());
        Ok(Identity { principal, region: Region::new(identity.region), account })
    }

    /// Whose key it is. Nobody's is nobody, never the root that everyone is
    /// without keys.
    fn signer(&self, access_key: &str) -> Result<Arc<Principal>, ApiError> {
        match self.keys.get(access_key) {
            Some(key) => Ok(key.principal.clone()),
            None => Err(ApiError::new(
                ErrorCode::UnrecognizedClient,
                "The security token included in the request is invalid.",
            )),
        }
    }

    /// What an unverified signature says.
    fn claimed(&self, parts: &RequestParts<'_>) -> Identity {
        let Some(scope) = sigv4::scope_of(parts.headers, parts.query) else {
            return self.default.clone();
        };
        let twelve_digits =
            scope.access_key.len() == 12 && scope.access_key.bytes().all(|b| b.is_ascii_digit());
        let region = match is_region(&scope.region) {
            // The common case costs no allocation.
            true if scope.region == self.default.region.as_str() => self.default.region.clone(),
            true => Region::new(scope.region),
            false => self.default.region.clone(),
        };
        match twelve_digits {
            true => Identity::root(AccountId::new(scope.access_key), region),
            false => Identity { region, ..self.default.clone() },
        }
    }
}

/// A region becomes part of document keys and ARNs, so only what looks like
/// one is taken.
fn is_region(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::AUTHORIZATION;

    use super::*;

    fn claimed(credential: Option<&str>) -> (String, String) {
        let (account, region) = (AccountId::new("000000000000"), Region::new("us-east-1"));
        let identities = Identities::new(Vec::new(), account, region);
        let mut headers = HeaderMap::new();
        if let Some(credential) = credential {
            let value = format!("AWS4-HMAC-SHA256 Credential={credential}, Signature=0");
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        let parts = RequestParts {
            method: "GET",
            path: "/",
            query: "",
            headers: &headers,
            authority: None,
        };
        let identity = identities.identify(&parts, b"", "lambda", Utc::now()).unwrap();
        let caller = identity.caller();
        (caller.account.to_string(), caller.region.to_string())
    }

    #[test]
    fn a_key_that_is_nobodys_is_not_the_default_root() {
        let account = AccountId::new("111111111111");
        let keys = vec![AccessKey::root("KNOWN", "s", account.clone())];
        let identities = Identities::new(keys, account, Region::new("us-east-1"));
        assert!(identities.signer("KNOWN").unwrap().is_full());
        let error = identities.signer("known").unwrap_err();
        assert_eq!(error.code, ErrorCode::UnrecognizedClient);
    }

    #[test]
    fn an_unverified_scope_says_region_and_account() {
        let table = [
            (None, "000000000000", "us-east-1"),
            (Some("AKID/20261103/eu-west-1/lambda/aws4_request"), "000000000000", "eu-west-1"),
            (
                Some("123456789012/20261103/us-east-1/lambda/aws4_request"),
                "123456789012",
                "us-east-1",
            ),
            (
                Some("12345678901x/20261103/us-east-1/lambda/aws4_request"),
                "000000000000",
                "us-east-1",
            ),
            (Some("AKID/20261103/../../lambda/aws4_request"), "000000000000", "us-east-1"),
            (Some("AKID/20261103/US EAST/lambda/aws4_request"), "000000000000", "us-east-1"),
            (Some("nonsense"), "000000000000", "us-east-1"),
        ];
        for (credential, account, region) in table {
            assert_eq!(claimed(credential), (account.into(), region.into()), "{credential:?}");
        }
    }
}

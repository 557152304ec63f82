//! One request to a function URL: whether it may be, the event, the call, the
//! answer.
//!
//! Not here: what is decided over values (`cors`, `event`, `response`), what
//! comes of a streamed response (`stream`), and running the function
//! (`crate::invoke`).

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, ORIGIN};
use http::{Method, Response, StatusCode};
use lamu_api::ApiError;
use lamu_api::sigv4::scope_of;
use lamu_link::Call;
use lamu_model::{Qualifier, SYNC_REQUEST_BYTES_MAX, Version};

use super::address::{Form, Named};
use super::event::{Asked, Signer, event};
use super::{cors, response, stream};
use crate::answer::Answer;
use crate::body::{self, BodyError};
use crate::error;
use crate::function::catalog::Found;
use crate::function::resolve::Target;
use crate::function::url::{InvokeMode, UrlAuth, UrlDoc};
use crate::identity::Identity;
use crate::invoke::draw;
use crate::policy::Principal;
use crate::service::{FETCH_SITE, Read, Service, unread, whole};
use crate::trace::Trace;

/// A body is in memory as it came and in the event, which base 64 swells.
const BODY_COPIES: u64 = 3;

const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// What a document may do that shares its origin with the API: run scripts,
/// but in an origin of nobody.
const SANDBOX: HeaderValue = HeaderValue::from_static(
    "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts",
);

/// Answers a request that names a URL, whether or not there is one.
pub async fn answer<B>(
    service: &Service,
    read: &Read,
    named: Named<'_>,
    body: B,
    peer: SocketAddr,
) -> Response<Answer>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut response = match check_way(service, read, &named, peer) {
        Ok(()) => of_url(service, read, &named, body, peer).await,
        Err(error) => whole(error.respond()),
    };
    if named.form == Form::Path {
        // Beside what the function says; of several policies all hold.
        response.headers_mut().append(CONTENT_SECURITY_POLICY, SANDBOX);
    }
    response
}

async fn of_url<B>(
    service: &Service,
    read: &Read,
    named: &Named<'_>,
    body: B,
    peer: SocketAddr,
) -> Response<Answer>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let url = service.control.catalog.url_of_id(&named.id.to_ascii_lowercase());
    let region = |doc: &UrlDoc| {
        named.region.is_none_or(|said| said.eq_ignore_ascii_case(doc.function.region.as_str()))
    };
    let Some(url) = url.filter(|url| region(&url.doc)) else {
        return whole(error::of_unknown_url());
    };
    let (method, headers) = (&read.parts.method, &read.parts.headers);
    // One asks for a tunnel, the other for one's own cookies.
    if [Method::CONNECT, Method::TRACE].contains(method) || !named.path.starts_with('/') {
        return whole(error::of_url(StatusCode::BAD_REQUEST, "Bad Request"));
    }
    let rules = url.doc.cors.as_ref();
    if let Some(answer) = rules.and_then(|rules| cors::preflight(rules, method, headers)) {
        return whole(answer);
    }
    let mut response = serve(service, read, named, &url.doc, body, peer).await;
    if let Some(rules) = rules {
        cors::apply(rules, headers.get(ORIGIN), response.headers_mut());
    }
    response
}

async fn serve<B>(
    service: &Service,
    read: &Read,
    named: &Named<'_>,
    doc: &UrlDoc,
    body: B,
    peer: SocketAddr,
) -> Response<Answer>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let key = doc.function.clone();
    let qualifier = doc.alias.clone().map(Qualifier::Alias);
    let found = service.invoker.catalog.find(&key, qualifier.as_ref(), draw(read.seed));
    let Some(found) = found else { return whole(error::of_forbidden_url()) };
    let led = Led { target: Target { key, qualifier }, found };
    // Before the body is read: who does not even claim to be someone.
    let strange = match doc.auth {
        UrlAuth::None => !may_call(service, read, doc, &led, &Principal::anonymous(), Utc::now()),
        UrlAuth::AwsIam => {
            scope_of(&read.parts.headers, read.query()).is_none()
                || (!service.identities.verifies() && is_of_another_page(read))
        }
    };
    if strange {
        return whole(error::of_forbidden_url());
    }
    let bytes_max = SYNC_REQUEST_BYTES_MAX as u64;
    let received = match body::read(body, bytes_max, &service.budget, BODY_COPIES).await {
        Ok(received) => received,
        Err(BodyError::TooLarge) => return whole(error::of_url_too_large()),
        Err(error) => return unread(error),
    };
    let now = Utc::now();
    let signer = match doc.auth {
        UrlAuth::None => None,
        UrlAuth::AwsIam => match identify(service, read, doc, &received.bytes, now) {
            Ok(identity) if may_call(service, read, doc, &led, &identity.principal, now) => {
                Some(signer(read, &identity))
            }
            Ok(_) => return whole(error::of_forbidden_url()),
            Err(error) => return whole(error.respond()),
        },
    };
    let given = read.parts.headers.get(TRACE_ID).and_then(|value| value.to_str().ok());
    let now_secs = u64::try_from(now.timestamp()).unwrap_or(0);
    let trace = Trace::of(given, read.seed, now_secs);
    let region = doc.function.region.as_str();
    let domain_name = service.control.url_base.domain_name(doc.id.as_str(), region);
    let event = event(&Asked {
        method: read.parts.method.as_str(),
        path: named.path,
        query: read.query(),
        version: read.parts.version,
        headers: &read.parts.headers,
        body: &received.bytes,
        source_ip: peer.ip().to_canonical(),
        scheme: named.scheme,
        port: named.port,
        id: doc.id.as_str(),
        domain_name: &domain_name,
        trace_id: given.unwrap_or(trace.root()),
        request: &read.request,
        now,
        signer: signer.map(|signer| (&doc.function.account, signer)),
    });
    drop(received);
    let Ok(event) = event else { return whole(error::of_url_too_large()) };
    let mode = doc.invoke_mode.unwrap_or_default();
    let mut response = invoke(service, read, &led, &trace, event, mode).await.unwrap_or_else(whole);
    if let Ok(trace) = HeaderValue::try_from(trace.answer) {
        response.headers_mut().insert(TRACE_ID, trace);
    }
    response
}

/// What a URL leads to for one request.
struct Led {
    target: Target,
    found: Found,
}

/// Runs what the URL leads to. The error is the answer of the platform.
async fn invoke(
    service: &Service,
    read: &Read,
    Led { target, found }: &Led,
    trace: &Trace,
    payload: Bytes,
    mode: InvokeMode,
) -> Result<Response<Answer>, Response<Bytes>> {
    let began = Instant::now();
    let (invoker, key) = (&service.invoker, &target.key);
    let spec = found.runnable().map_err(|_| response::bad_gateway())?;
    let version = found.version.as_ref().map_or(Version::Latest, |v| Version::Number(v.doc.number));
    let permit = invoker
        .admission
        .admit(&key.account, &key.region, &key.name, version, began)
        .map_err(|throttle| error::of_throttle(&throttle).respond())?;
    let call = Call {
        request: read.request.clone(),
        arn: target.arn(),
        trace_id: Some(trace.header.clone()),
        client_context: None,
        cognito_identity: None,
        tenant_id: None,
        content_type: Some("application/json".to_owned()),
        payload,
        tail: false,
    };
    let permit = Box::new(permit);
    let refuse = |error| error::of_url_call(&error);
    let (response, start) = match mode {
        InvokeMode::Buffered => {
            let (reply, start) = invoker.run(spec, call, permit).await.map_err(refuse)?;
            (whole(response::of_outcome(reply.outcome)), start)
        }
        InvokeMode::ResponseStream => {
            let run = invoker.run_streamed(spec, call, permit).await;
            let (streamed, start) = run.map_err(refuse)?;
            (stream::of_streamed(streamed).await, start)
        }
    };
    // Of a stream: until its head. How long the rest takes is its reader's matter.
    invoker.count(start, began.elapsed());
    Ok(response)
}

/// Whether a request could come the way it came: without keys from this
/// machine only, and under a name that no page could have made its own. (A
/// host form's name is checked where it is recognised.)
fn check_way(
    service: &Service,
    read: &Read,
    named: &Named<'_>,
    peer: SocketAddr,
) -> Result<(), ApiError> {
    if service.identities.verifies() {
        return Ok(());
    }
    if !peer.ip().to_canonical().is_loopback() {
        return Err(error::of_stranger());
    }
    let known =
        |host: &str| service.own.is_own(host) || service.control.url_base.is_path_host(host);
    match (named.form, read.host()) {
        (Form::Path, Some(host)) if !known(host) => {
            Err(error::of_browser(&crate::browser::Foreign::Host.to_string()))
        }
        _ => Ok(()),
    }
}

/// Whether a page of another origin than the request's own host sent it.
fn is_of_another_page(read: &Read) -> bool {
    let site = read.parts.headers.get(FETCH_SITE);
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    let Some(origin) = read.parts.headers.get(ORIGIN) else { return false };
    let origin = origin.to_str().unwrap_or_default();
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_none() || host != read.host()
}

/// Whose signature it is, when it is right or nothing is verified.
fn identify(
    service: &Service,
    read: &Read,
    doc: &UrlDoc,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Identity, ApiError> {
    let identity = service.identities.identify(&read.signed(), body, "lambda", now)?;
    match service.identities.verifies() && identity.region != doc.function.region {
        true => Err(error::of_region()),
        false => Ok(identity),
    }
}

/// The signer as the function is told.
fn signer(read: &Read, identity: &Identity) -> Signer {
    let scope = scope_of(&read.parts.headers, read.query());
    Signer {
        access_key: scope.map(|scope| scope.access_key).unwrap_or_default(),
        account: identity.caller().account,
        user_arn: identity.principal.arn.clone(),
        user_id: identity.principal.user_id().unwrap_or_default(),
    }
}

/// Whether policies let the caller use the URL and invoke through it. A public
/// URL needs a policy that says so, too.
fn may_call(
    service: &Service,
    read: &Read,
    doc: &UrlDoc,
    Led { target, found }: &Led,
    principal: &Principal,
    now: DateTime<Utc>,
) -> bool {
    let asker = read.asker_of(principal, &doc.function.region, now);
    let may = service.access.url(&asker, doc.auth, target, Some(found));
    may.inspect_err(|denied| tracing::debug!(?denied, "a function URL refused its caller")).is_ok()
}

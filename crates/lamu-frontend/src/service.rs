//! One request to its answer: who calls, which operation, and the checks that
//! come before any operation.
//!
//! An invocation is served where its connection is; an operation of the
//! control plane runs in a task of its own, so that a client that goes away
//! does not stop it half way.
//!
//! Not here: connections (`listener`), what an operation does (`operations`,
//! `invoke`, `logs`), requests to function URLs (`url`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, USER_AGENT};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use lamu_api::sigv4::RequestParts;
use lamu_api::{ApiError, Operation, Request, Route};
use lamu_link::LogsHandle;
use lamu_model::{Region, RequestId};
use lamu_store::Packages;
use uuid::Uuid;

use crate::access::{self, Access, Admitted, Asker};
use crate::access_log::{self, AccessLog};
use crate::answer::Answer;
use crate::body::{self, BodyError, Budget, Received};
use crate::browser::{OwnNames, Signs};
use crate::callers::Callers;
use crate::code_link;
use crate::config::RenderMetrics;
use crate::error;
use crate::event;
use crate::function::refusal::Refusal;
use crate::identity::{Identities, Identity};
use crate::invoke::{Authority, Invocation, Invoker};
use crate::logs;
use crate::logs::tail::{self, Tails};
use crate::operations::{Ask, Control};
use crate::policy::Principal;
use crate::stats::{self, Counted, FrontendStats};
use crate::url;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
pub const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// Bytes of an upload are in memory as body, as JSON and as zip.
const UPLOAD_COPIES: u64 = 3;

/// Everything a request may need.
pub struct Service {
    pub identities: Identities,
    pub access: Arc<Access>,
    pub own: OwnNames,
    pub callers: Callers,
    pub control: Arc<Control>,
    pub invoker: Invoker,
    pub logs: LogsHandle,
    pub tails: Tails,
    pub packages: Arc<dyn Packages>,
    pub budget: Budget,
    pub stats: Arc<FrontendStats>,
    pub access_log: Option<AccessLog>,
    pub render_metrics: RenderMetrics,
    /// What `/readyz` says.
    pub ready: AtomicBool,
}

/// A request as it was read, without its body.
pub struct Read {
    pub parts: Parts,
    pub request: RequestId,
    pub seed: Uuid,
    pub peer: SocketAddr,
}

impl Read {
    pub fn path(&self) -> &str {
        self.parts.uri.path()
    }

    pub fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    pub fn host(&self) -> Option<&str> {
        let header = self.parts.headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
        header.or_else(|| self.parts.uri.authority().map(|authority| authority.as_str()))
    }

    /// Who asks, as policies see it.
    fn asker<'a>(&'a self, identity: &'a Identity, now: DateTime<Utc>) -> Asker<'a> {
        self.asker_of(&identity.principal, &identity.region, now)
    }

    pub fn asker_of<'a>(
        &'a self,
        principal: &'a Principal,
        region: &'a Region,
        now: DateTime<Utc>,
    ) -> Asker<'a> {
        let user_agent = self.parts.headers.get(USER_AGENT);
        Asker {
            principal,
            region,
            now,
            source_ip: Some(self.peer.ip()),
            user_agent: user_agent.and_then(|agent| agent.to_str().ok()),
        }
    }

    pub fn signed(&self) -> RequestParts<'_> {
        RequestParts {
            method: self.parts.method.as_str(),
            path: self.path(),
            query: self.query(),
            headers: &self.parts.headers,
            authority: self.parts.uri.authority().map(|authority| authority.as_str()),
        }
    }
}

/// Answers a request, whatever is wrong with it.
pub async fn serve<B>(
    service: &Arc<Service>,
    request: http::Request<B>,
    peer: SocketAddr,
) -> Response<Answer>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let seed = Uuid::new_v4();
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    let id: &str = seed.hyphenated().encode_lower(&mut id);
    let (parts, body) = request.into_parts();
    let noted = service.access_log.as_ref();
    let noted =
        noted.map(|_| (Instant::now(), access_log::Request::of(&parts.headers, Utc::now())));
    let read = Read { parts, request: RequestId::new(id), seed, peer };
    let (counted, mut response) = service.clone().route(read, body, peer).await;
    let status = response.status().as_u16();
    service.stats.count(counted, status);
    if let (Some(log), Some((begun, request))) = (&service.access_log, noted) {
        let error = response.headers().get(ERROR_TYPE).and_then(|code| code.to_str().ok());
        log.write(&request, id, counted, status, error, begun.elapsed());
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

impl Service {
    async fn route<B>(
        self: Arc<Self>,
        read: Read,
        body: B,
        peer: SocketAddr,
    ) -> (Counted, Response<Answer>)
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let named = self.control.url_base.named(read.host(), read.path(), self.own.port());
        if let Some(named) = named {
            let answer = url::serve::answer(&self, &read, named, body, peer).await;
            return (Counted::Url, answer);
        }
        let get = read.parts.method == Method::GET || read.parts.method == Method::HEAD;
        match read.path() {
            "/healthz" if get => return (Counted::Other, text(StatusCode::OK, "ok\n")),
            "/readyz" if get => {
                let (status, said) = match self.ready.load(Ordering::Relaxed) {
                    true => (StatusCode::OK, "ready\n"),
                    false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
                };
                return (Counted::Other, text(status, said));
            }
            _ => {}
        }
        if let Err(error) = self.check_sender(&read, peer) {
            return (Counted::Other, whole(error.respond()));
        }
        if get && read.path() == "/metrics" {
            if !is_of_this_host(peer) {
                let refused = "the metrics are for programs of this host\n";
                return (Counted::Other, text(StatusCode::FORBIDDEN, refused));
            }
            let concurrency = stats::of_concurrency(&self.invoker.admission.census());
            let others = (self.render_metrics)().await;
            let metrics = self.stats.render() + &concurrency + &others;
            return (Counted::Other, text(StatusCode::OK, metrics));
        }
        if get && read.path().starts_with(code_link::PATH) {
            return (Counted::Other, self.code(&read).await);
        }
        if read.path() == "/"
            && read.parts.method == Method::POST
            && let Some(target) = read.parts.headers.get(TARGET)
        {
            let target = target.to_str().unwrap_or_default().to_owned();
            return (Counted::Logs, self.logs(&read, &target, body).await);
        }
        self.lambda(read, body).await
    }

    /// Without keys only programs of this host are served.
    fn check_sender(&self, read: &Read, peer: SocketAddr) -> Result<(), ApiError> {
        if self.identities.verifies() {
            return Ok(());
        }
        if !is_of_this_host(peer) {
            return Err(error::of_stranger());
        }
        let header = |name: &HeaderName| {
            // What is not text is no sign of a friend.
            read.parts.headers.get(name).map(|value| value.to_str().unwrap_or("?"))
        };
        let signs = Signs {
            host: read.host(),
            origin: header(&ORIGIN),
            sec_fetch_site: header(&FETCH_SITE),
        };
        self.own.check(&signs).map_err(|foreign| error::of_browser(&foreign.to_string()))
    }

    /// A package, for who has a link to it.
    async fn code(&self, read: &Read) -> Response<Answer> {
        let now_secs = u64::try_from(Utc::now().timestamp()).unwrap_or(0);
        let digest = match self.control.links.open_link(read.path(), read.query(), now_secs) {
            Ok(digest) => digest,
            Err(bad) => return text(StatusCode::FORBIDDEN, format!("{bad}\n")),
        };
        match self.packages.size(&digest).await {
            Ok(Some(bytes)) => {
                let answer = Answer::package(self.packages.clone(), digest, bytes);
                let mut response = Response::new(answer);
                let zip = HeaderValue::from_static("application/zip");
                response.headers_mut().insert(CONTENT_TYPE, zip);
                response
            }
            Ok(None) => text(StatusCode::NOT_FOUND, "the package is gone\n"),
            Err(error) => whole(error::of_refusal(Refusal::Packages(error)).respond()),
        }
    }

    async fn logs<B>(&self, read: &Read, target: &str, body: B) -> Response<Answer>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let received = match body::read(body, logs::REQUEST_BYTES_MAX, &self.budget, 1).await {
            Ok(received) => received,
            Err(BodyError::TooLarge) => {
                return text(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large\n");
            }
            Err(error) => return unread(error),
        };
        let now = Utc::now();
        let identity = match self.identities.identify(&read.signed(), &received.bytes, "logs", now)
        {
            Ok(identity) => identity,
            Err(error) => return whole(error.respond()),
        };
        let caller = identity.caller();
        let asker = read.asker(&identity, now);
        let input = match logs::input(&received.bytes) {
            Ok(input) => input,
            Err(error) => return whole(logs::refuse(error)),
        };
        for (action, arn) in access::logs::asked(&caller, target, &input) {
            if let Err(denied) = self.access.own(&asker, &action, &arn) {
                return whole(logs::refuse_access(error::denied_text(&denied)));
            }
        }
        let now_ms = u64::try_from(now.timestamp_millis()).unwrap_or(0);
        if target == tail::TARGET {
            let (tails, logs, request) = (&self.tails, &self.logs, &read.request);
            let session = tail::start(tails, logs, &caller, request, &input, now_ms).await;
            return session.unwrap_or_else(|error| whole(logs::refuse(error)));
        }
        whole(logs::answer(&self.logs, &caller, target, &input, now_ms).await)
    }

    async fn lambda<B>(self: Arc<Self>, read: Read, body: B) -> (Counted, Response<Answer>)
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let route = match lamu_api::route(read.parts.method.as_str(), read.path(), read.query()) {
            Ok(route) => route,
            Err(error) => return (Counted::Other, whole(error.respond())),
        };
        let operation = route.operation;
        let counted = Counted::Lambda(operation);
        let invocation =
            matches!(operation, Operation::Invoke | Operation::InvokeWithResponseStream);
        let copies = if invocation { 1 } else { UPLOAD_COPIES };
        let received = body::read(body, operation.request_bytes_max(), &self.budget, copies).await;
        let answered = match received {
            Err(error @ (BodyError::Slow | BodyError::Broken)) => {
                return (counted, unread(error));
            }
            // Whether the function exists is said before how large its event
            // may be; but who asks must be known first.
            Err(BodyError::TooLarge) if invocation && !self.identities.verifies() => {
                self.invoke(&route, &read, None).await
            }
            Err(BodyError::TooLarge) => Err(operation.too_large()),
            Ok(received) if invocation => self.invoke(&route, &read, Some(received)).await,
            Ok(received) => {
                drop(route);
                self.clone().control(read, received).await.map(whole)
            }
        };
        let answer = answered.unwrap_or_else(|error| {
            if let Some(reason) = error.reason {
                self.stats.throttled(reason);
            }
            whole(error.respond())
        });
        (counted, answer)
    }

    /// `received` is `None` when it was too large.
    async fn invoke(
        &self,
        route: &Route<'_>,
        read: &Read,
        received: Option<Received>,
    ) -> Result<Response<Answer>, ApiError> {
        let now = Utc::now();
        let (payload, _share) = match received {
            Some(Received { bytes, share }) => (Some(bytes), share),
            None => (None, None),
        };
        let body = payload.as_ref().map_or(&b""[..], |payload| payload);
        let identity = self.identities.identify(&read.signed(), body, "lambda", now)?;
        let head = lamu_api::invoke_head(route, read.query(), &read.parts.headers)?;
        let caller = identity.caller();
        let invocation = Invocation {
            operation: route.operation,
            request: &read.request,
            seed: read.seed,
            caller: &caller,
            authority: Authority::Of(read.asker(&identity, now)),
            head,
            headers: &read.parts.headers,
            payload,
            now_secs: u64::try_from(now.timestamp()).unwrap_or(0),
        };
        match route.operation {
            Operation::InvokeWithResponseStream => {
                self.invoker.invoke_with_response_stream(invocation).await
            }
            _ => self.invoker.invoke(invocation).await.map(whole),
        }
    }

    /// Runs to its end even if nobody waits for it any more.
    async fn control(
        self: Arc<Self>,
        read: Read,
        received: Received,
    ) -> Result<Response<Bytes>, ApiError> {
        let running = tokio::spawn(async move {
            let now = Utc::now();
            let signed = read.signed();
            let identity = self.identities.identify(&signed, &received.bytes, "lambda", now)?;
            let route = lamu_api::route(signed.method, signed.path, signed.query)?;
            let operation = route.operation;
            let counted = self.callers.take(&identity.caller(), operation, Instant::now());
            counted.map_err(error::of_caller_rate)?;
            let base = format!("http://{}", read.host().unwrap_or("localhost"));
            let Received { bytes, share: _share } = received;
            let request = lamu_api::read(&route, read.query(), &read.parts.headers, bytes)?;
            let asker = read.asker(&identity, now);
            let admitted = self.access.admit(&asker, operation, &request.members).await?;
            let Admitted { caller, layers } = admitted;
            let ask = Ask { operation, caller, layers, base, now };
            self.operate(&ask, request).await
        });
        running.await.unwrap_or_else(|error| {
            tracing::error!(%error, "an operation ended badly");
            Err(error::service())
        })
    }

    /// What is asked is valid, and the caller may have it done.
    async fn operate(&self, ask: &Ask, request: Request) -> Result<Response<Bytes>, ApiError> {
        let control = &*self.control;
        macro_rules! run {
            ($method:ident) => {{
                let input = request.into_input()?;
                respond(ask.operation, control.$method(ask, input).await)
            }};
        }
        match ask.operation {
            Operation::CreateFunction => run!(create_function),
            Operation::GetFunction => run!(get_function),
            Operation::GetFunctionConfiguration => run!(get_function_configuration),
            Operation::ListFunctions => run!(list_functions),
            Operation::UpdateFunctionCode => run!(update_function_code),
            Operation::UpdateFunctionConfiguration => run!(update_function_configuration),
            Operation::DeleteFunction => run!(delete_function),
            Operation::PublishVersion => run!(publish_version),
            Operation::ListVersionsByFunction => run!(list_versions_by_function),
            Operation::CreateAlias => run!(create_alias),
            Operation::GetAlias => run!(get_alias),
            Operation::UpdateAlias => run!(update_alias),
            Operation::DeleteAlias => run!(delete_alias),
            Operation::ListAliases => run!(list_aliases),
            Operation::CreateFunctionUrlConfig => run!(create_function_url_config),
            Operation::GetFunctionUrlConfig => run!(get_function_url_config),
            Operation::UpdateFunctionUrlConfig => run!(update_function_url_config),
            Operation::DeleteFunctionUrlConfig => run!(delete_function_url_config),
            Operation::ListFunctionUrlConfigs => run!(list_function_url_configs),
            Operation::PutFunctionConcurrency => run!(put_function_concurrency),
            Operation::GetFunctionConcurrency => run!(get_function_concurrency),
            Operation::DeleteFunctionConcurrency => run!(delete_function_concurrency),
            Operation::PutProvisionedConcurrencyConfig => run!(put_provisioned_concurrency_config),
            Operation::GetProvisionedConcurrencyConfig => run!(get_provisioned_concurrency_config),
            Operation::DeleteProvisionedConcurrencyConfig => {
                run!(delete_provisioned_concurrency_config)
            }
            Operation::ListProvisionedConcurrencyConfigs => {
                run!(list_provisioned_concurrency_configs)
            }
            Operation::ListTags => run!(list_tags),
            Operation::TagResource => run!(tag_resource),
            Operation::UntagResource => run!(untag_resource),
            Operation::PutFunctionEventInvokeConfig => run!(put_function_event_invoke_config),
            Operation::UpdateFunctionEventInvokeConfig => {
                run!(update_function_event_invoke_config)
            }
            Operation::GetFunctionEventInvokeConfig => run!(get_function_event_invoke_config),
            Operation::DeleteFunctionEventInvokeConfig => {
                run!(delete_function_event_invoke_config)
            }
            Operation::ListFunctionEventInvokeConfigs => run!(list_function_event_invoke_configs),
            Operation::PutRuntimeManagementConfig => run!(put_runtime_management_config),
            Operation::GetRuntimeManagementConfig => run!(get_runtime_management_config),
            Operation::PutFunctionRecursionConfig => run!(put_function_recursion_config),
            Operation::GetFunctionRecursionConfig => run!(get_function_recursion_config),
            Operation::PublishLayerVersion => run!(publish_layer_version),
            Operation::ListLayers => run!(list_layers),
            Operation::ListLayerVersions => run!(list_layer_versions),
            Operation::GetLayerVersion => run!(get_layer_version),
            Operation::GetLayerVersionByArn => run!(get_layer_version_by_arn),
            Operation::DeleteLayerVersion => run!(delete_layer_version),
            Operation::CreateEventSourceMapping => run!(create_event_source_mapping),
            Operation::GetEventSourceMapping => run!(get_event_source_mapping),
            Operation::UpdateEventSourceMapping => run!(update_event_source_mapping),
            Operation::DeleteEventSourceMapping => run!(delete_event_source_mapping),
            Operation::ListEventSourceMappings => run!(list_event_source_mappings),
            Operation::CreateCodeSigningConfig => run!(create_code_signing_config),
            Operation::GetCodeSigningConfig => run!(get_code_signing_config),
            Operation::UpdateCodeSigningConfig => run!(update_code_signing_config),
            Operation::DeleteCodeSigningConfig => run!(delete_code_signing_config),
            Operation::ListCodeSigningConfigs => run!(list_code_signing_configs),
            Operation::ListFunctionsByCodeSigningConfig => {
                run!(list_functions_by_code_signing_config)
            }
            Operation::PutFunctionCodeSigningConfig => run!(put_function_code_signing_config),
            Operation::GetFunctionCodeSigningConfig => run!(get_function_code_signing_config),
            Operation::DeleteFunctionCodeSigningConfig => {
                run!(delete_function_code_signing_config)
            }
            Operation::GetAccountSettings => run!(get_account_settings),
            Operation::AddPermission => run!(add_permission),
            Operation::RemovePermission => run!(remove_permission),
            Operation::GetPolicy => run!(get_policy),
            Operation::PutResourcePolicy => run!(put_resource_policy),
            Operation::GetResourcePolicy => run!(get_resource_policy),
            Operation::DeleteResourcePolicy => run!(delete_resource_policy),
            Operation::AddLayerVersionPermission => run!(add_layer_version_permission),
            Operation::RemoveLayerVersionPermission => run!(remove_layer_version_permission),
            Operation::GetLayerVersionPolicy => run!(get_layer_version_policy),
            Operation::InvokeAsync => {
                event::check(request.payload).map_err(error::of_event)?;
                Err(Operation::InvokeAsync.not_implemented())
            }
            other => Err(other.not_implemented()),
        }
    }
}

fn respond<O: lamu_api::Output>(
    operation: Operation,
    output: Result<O, Refusal>,
) -> Result<Response<Bytes>, ApiError> {
    lamu_api::respond(operation, output.map_err(error::of_refusal)?)
}

pub fn whole(response: Response<Bytes>) -> Response<Answer> {
    response.map(|bytes| Answer::Whole(Some(bytes)))
}

/// Without a signature: metrics name accounts and functions.
fn is_of_this_host(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Some(text.into())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// A body that did not come leaves a connection that cannot go on.
pub fn unread(error: BodyError) -> Response<Answer> {
    let (status, what) = match error {
        BodyError::Slow => {
            (StatusCode::REQUEST_TIMEOUT, "The request body did not arrive in time.")
        }
        BodyError::Broken | BodyError::TooLarge => {
            (StatusCode::BAD_REQUEST, "The request body could not be read.")
        }
    };
    let mut response = whole(error::of_body(what).respond());
    *response.status_mut() = status;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_of_this_host_are_of_this_host() {
        for (peer, expected) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("192.168.0.2:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("[fe80::1]:1", false),
        ] {
            assert_eq!(is_of_this_host(peer.parse().unwrap()), expected, "{peer}");
        }
    }
}

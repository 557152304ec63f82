//! Invoke: from a request that was read to the function's answer.
//!
//! ```text
//! name, qualifier ─▶ existence ─▶ size ─▶ JSON ─▶ state ─▶ admission
//!   ─▶ manager.acquire ─▶ lease.invoke ─▶ answer
//! ```
//!
//! Nothing here outlives the caller. The invocation itself belongs to the
//! environment's task, which keeps lease and permit until its end, so a caller
//! that goes away stops nothing and leaks nothing.
//!
//! Not here: a streamed response's body (`stream`), reading the request (`service`), who may run how much
//! (`admission`), environments (`lamu_fleet`, `lamu_worker`).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use lamu_api::{ApiError, ErrorCode, InvokeHead, Operation};
use lamu_link::{Call, Hold, InvokeError, Lease, ManagerHandle, Reply, Start, Streamed, Timings};
use lamu_model::{
    ASYNC_REQUEST_BYTES_MAX, FunctionRef, Outcome, Qualifier, RequestId, SYNC_REQUEST_BYTES_MAX,
    Version, VersionSpec,
};
use uuid::Uuid;

use crate::access::{Access, Asker, asked};
use crate::admission::Admission;
use crate::error;
use crate::event;
use crate::function::catalog::{Catalog, Found};
use crate::function::document::RecursiveLoop;
use crate::function::refusal::Refusal;
use crate::function::resolve::{Caller, Target, resolve};
use crate::stats::{FrontendStats, Started};
use crate::trace::{self, Trace};

/// Environments that may end between their lease and our call before we give
/// up: each is a race lost, and three in a row are a defect.
const ATTEMPTS_MAX: usize = 3;

/// Passages of one trace through a function: Lambda stops "at about 16".
const PASSAGES_MAX: u32 = 16;

const CLIENT_CONTEXT_BYTES_MAX: usize = 3_583;

const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");
const REMAPPED_LENGTH: HeaderName = HeaderName::from_static("x-amzn-remapped-content-length");
pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// What an invocation needs of this process.
#[derive(Debug)]
pub struct Invoker {
    pub catalog: Arc<Catalog>,
    pub access: Arc<Access>,
    pub admission: Arc<Admission>,
    pub manager: ManagerHandle,
    pub stats: Arc<FrontendStats>,
    /// How long a call waits for an environment.
    pub acquire_max: Duration,
}

/// One request, read.
#[derive(Debug)]
pub struct Invocation<'a> {
    pub operation: Operation,
    pub request: &'a RequestId,
    /// Random.
    pub seed: Uuid,
    pub caller: &'a Caller,
    pub authority: Authority<'a>,
    pub head: InvokeHead,
    pub headers: &'a HeaderMap,
    /// `None` when it was larger than may be.
    pub payload: Option<Bytes>,
    pub now_secs: u64,
}

/// A function as the request names it.
struct Named<'a> {
    function: FunctionRef,
    qualifier: Option<&'a str>,
}

/// Why an invocation may be one.
#[derive(Clone, Copy, Debug)]
pub enum Authority<'a> {
    /// This principal asks, and its policies and the function's decide.
    Of(Asker<'a>),
    /// It was decided already, by who took the request in.
    #[expect(dead_code, reason = "function URLs and pollers are not served yet")]
    Granted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    RequestResponse,
    Event,
    DryRun,
}

/// A call that may run.
pub(crate) struct Admitted {
    pub spec: Arc<VersionSpec>,
    pub call: Call,
    /// The concurrency it counts for.
    pub permit: Hold,
    pub version: Version,
    pub trace: Trace,
    pub began: Instant,
}

pub(crate) enum Prepared {
    /// Only asked whether it could run.
    Dry(Response<Bytes>),
    Run(Admitted),
}

impl Invoker {
    pub async fn invoke(&self, invocation: Invocation<'_>) -> Result<Response<Bytes>, ApiError> {
        let request = invocation.request;
        let admitted = match self.prepare(invocation)? {
            Prepared::Dry(answer) => return Ok(answer),
            Prepared::Run(admitted) => admitted,
        };
        let Admitted { spec, call, permit, version, trace, began } = admitted;
        let (reply, start) = self.run(&spec, call, permit).await?;
        let handler = reply.handler;
        let mut response = answer_of(reply, request, version, &trace);
        let total = began.elapsed();
        self.count(start, total);
        put(response.headers_mut(), SERVER_TIMING, timing(start, handler, total));
        Ok(response)
    }

    /// Everything before the function runs, in the service's order.
    pub(crate) fn prepare(&self, invocation: Invocation<'_>) -> Result<Prepared, ApiError> {
        let began = Instant::now();
        let Invocation {
            operation,
            request,
            seed,
            caller,
            authority,
            head,
            headers,
            payload,
            now_secs,
        } = invocation;
        let kind = match head.invocation_type.as_deref() {
            Some("Event") => Kind::Event,
            Some("DryRun") => Kind::DryRun,
            _ => Kind::RequestResponse,
        };
        let named = Named { function: head.function, qualifier: head.qualifier.as_deref() };
        let (target, found) = self.reach(named, caller, operation, authority, seed)?;
        let mut trace = Trace::of(header_text(headers, &TRACE_ID), seed, now_secs);
        let version = match &found.version {
            None => Version::Latest,
            Some(version) => Version::Number(version.doc.number),
        };
        if kind == Kind::DryRun {
            let answer = answer(StatusCode::NO_CONTENT, version, &trace, Bytes::new());
            return Ok(Prepared::Dry(answer));
        }
        let bytes_max = match kind {
            Kind::Event => ASYNC_REQUEST_BYTES_MAX,
            Kind::RequestResponse | Kind::DryRun => SYNC_REQUEST_BYTES_MAX,
        };
        let payload = payload
            .filter(|payload| payload.len() <= bytes_max)
            .ok_or_else(|| error::of_large_event(bytes_max))?;
        let payload = event::check(payload).map_err(error::of_event)?;
        let spec = found.runnable().map_err(|why| {
            error::of_refusal(Refusal::Blocked { arn: found.function.key.arn(), why })
        })?;
        if kind == Kind::Event {
            return Err(ApiError::new(
                ErrorCode::NotImplemented,
                "InvocationType Event is a way of Lambda to invoke that lamu does not serve yet. Use RequestResponse.",
            ));
        }
        self.check_lineage(&found, &mut trace)?;
        refuse_unserved(&head.tenant_id, &head.durable_execution_name)?;
        let call = Call {
            request: request.clone(),
            arn: target.arn(),
            trace_id: Some(trace.header.clone()),
            client_context: head.client_context.as_deref().map(client_context).transpose()?,
            cognito_identity: None,
            tenant_id: None,
            content_type: header_text(headers, &CONTENT_TYPE).map(str::to_owned),
            payload,
            tail: head.log_tail,
        };
        let key = &found.function.key;
        let permit = self
            .admission
            .admit(&key.account, &key.region, &key.name, version, began)
            .map_err(|throttle| error::of_throttle(&throttle))?;
        let (spec, permit) = (spec.clone(), Box::new(permit));
        Ok(Prepared::Run(Admitted { spec, call, permit, version, trace, began }))
    }

    pub(crate) fn count(&self, start: Start, took: Duration) {
        let started = match start {
            Start::Warm => Started::Warm,
            Start::Cold(_) => Started::Cold,
        };
        self.stats.invoked(started, took);
    }

    /// What is to be invoked: in this region, allowed to the caller, named by
    /// one qualifier, and there.
    fn reach(
        &self,
        named: Named<'_>,
        caller: &Caller,
        operation: Operation,
        authority: Authority<'_>,
        seed: Uuid,
    ) -> Result<(Target, Found), ApiError> {
        let Named { function, qualifier } = named;
        let target = asked::target(function.clone(), qualifier, caller);
        let target = target.map_err(error::of_refusal)?;
        let found = self.catalog.find(&target.key, target.qualifier.as_ref(), draw(seed));
        if let Authority::Of(asker) = authority {
            self.access.invoke(&asker, operation.iam_action(), &target, found.as_ref())?;
        }
        // It acts for the function's owner from here on.
        let owner =
            Caller { account: target.key.account.clone(), region: target.key.region.clone() };
        let target = resolve(function, qualifier, &owner, operation.iam_action())
            .map_err(error::of_refusal)?;
        let found = found.ok_or_else(|| {
            // The service appends the qualifier here even if none was sent.
            let latest = Qualifier::Version(Version::Latest);
            let qualifier = target.qualifier.as_ref().unwrap_or(&latest);
            error::of_refusal(Refusal::NoFunction(target.key.arn().qualified(qualifier)))
        })?;
        Ok((target, found))
    }

    /// Stops a call that came round to its function too often, unless the
    /// function allows it.
    fn check_lineage(&self, found: &Found, trace: &mut Trace) -> Result<(), ApiError> {
        let key = &found.function.key;
        let mark = trace::mark(&[key.region.as_str(), key.account.as_str(), key.name.as_str()]);
        let passed = trace.pass(mark);
        let allowed = found.live().is_some_and(|live| live.recursive_loop == RecursiveLoop::Allow);
        match passed >= PASSAGES_MAX && !allowed {
            true => Err(error::of_recursion()),
            false => Ok(()),
        }
    }

    /// Has an environment run the call.
    pub(crate) async fn run(
        &self,
        spec: &Arc<VersionSpec>,
        call: Call,
        hold: Hold,
    ) -> Result<(Reply, Start), ApiError> {
        self.run_by(spec, call, hold, Lease::invoke).await
    }

    /// The same for a caller that takes a streamed response as it comes.
    pub(crate) async fn run_streamed(
        &self,
        spec: &Arc<VersionSpec>,
        call: Call,
        hold: Hold,
    ) -> Result<(Streamed, Start), ApiError> {
        self.run_by(spec, call, hold, Lease::invoke_streamed).await
    }

    async fn run_by<T, F>(
        &self,
        spec: &Arc<VersionSpec>,
        mut call: Call,
        mut hold: Hold,
        invoke: impl Fn(Lease, Call, Hold) -> F,
    ) -> Result<(T, Start), ApiError>
    where
        F: Future<Output = Result<T, InvokeError>>,
    {
        let deadline = Instant::now() + self.acquire_max;
        for _ in 0..ATTEMPTS_MAX {
            let lease = self
                .manager
                .acquire(spec, deadline)
                .await
                .map_err(|refused| error::of_acquire(&refused))?;
            let start = lease.start;
            match invoke(lease, call, hold).await {
                Ok(reply) => return Ok((reply, start)),
                Err(InvokeError::NotStarted { hold: held, call: returned }) => {
                    hold = held;
                    call = *returned;
                }
                Err(InvokeError::Lost) => return Err(error::of_lost()),
            }
        }
        tracing::error!(function = %spec.function_arn(), "every environment ended before its call");
        Err(error::service())
    }
}

/// Settings of a request that no function here can have.
fn refuse_unserved(
    tenant_id: &Option<String>,
    durable_name: &Option<String>,
) -> Result<(), ApiError> {
    if tenant_id.is_some() {
        return Err(ApiError::invalid(
            "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.",
        ));
    }
    if durable_name.is_some() {
        return Err(ApiError::invalid(
            "The invoked function is not enabled with durable configuration. Remove the durable execution name from your request and try again.",
        ));
    }
    Ok(())
}

/// Decodes the client context: base64 of JSON.
fn client_context(encoded: &str) -> Result<String, ApiError> {
    if encoded.len() > CLIENT_CONTEXT_BYTES_MAX {
        return Err(ApiError::new(
            ErrorCode::InvalidRequestContent,
            format!("Client context must be no more than {CLIENT_CONTEXT_BYTES_MAX} bytes."),
        ));
    }
    let invalid = || {
        ApiError::new(
            ErrorCode::InvalidRequestContent,
            "Client context must be a valid Base64-encoded JSON object.",
        )
    };
    let decoded = STANDARD.decode(encoded).map_err(|_| invalid())?;
    let text = String::from_utf8(decoded).map_err(|_| invalid())?;
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        // It travels on in a header, which takes no line ends.
        Ok(object) if text.contains(['\r', '\n']) => {
            serde_json::to_string(&object).map_err(|_| invalid())
        }
        Ok(_) => Ok(text),
        Err(_) => Err(invalid()),
    }
}

/// Uniform in `0.0..1.0`, from bits of the id that are random.
pub fn draw(seed: Uuid) -> f64 {
    let bits = seed.as_u128() as u64 & ((1 << 53) - 1);
    bits as f64 / (1_u64 << 53) as f64
}

fn answer_of(
    reply: Reply,
    request: &RequestId,
    version: Version,
    trace: &Trace,
) -> Response<Bytes> {
    let (body, failed, content_type) = match reply.outcome {
        Outcome::Response { content_type, body } => (body, false, content_type),
        Outcome::FunctionError { body, .. } => (body, true, None),
        Outcome::Fault(fault) => (fault.payload(request), true, None),
    };
    let mut response = answer(StatusCode::OK, version, trace, body);
    let headers = response.headers_mut();
    let content_type = content_type.and_then(|kind| HeaderValue::try_from(kind).ok());
    headers
        .insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/json")));
    if failed {
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    if let Some(tail) = reply.log_tail {
        put(headers, LOG_RESULT, STANDARD.encode(tail));
    }
    response
}

/// What every answer of an invocation has.
pub(crate) fn answer<B>(
    status: StatusCode,
    version: Version,
    trace: &Trace,
    body: B,
) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(10);
    let version = match version {
        Version::Latest => HeaderValue::from_static("$LATEST"),
        Version::Number(number) => HeaderValue::from(number),
    };
    headers.insert(EXECUTED_VERSION, version);
    headers.insert(REMAPPED_LENGTH, HeaderValue::from_static("0"));
    put(headers, TRACE_ID, trace.answer.clone());
    response
}

/// Milliseconds, in the standard's form. Making an environment is named only
/// when this call waited for one.
fn timing(start: Start, handler: Duration, total: Duration) -> String {
    let mut text = timing_start(start);
    let _ = write!(text, "handler;dur={:.3}, total;dur={:.3}", ms(handler), ms(total));
    text
}

pub(crate) fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// What the environment took to be there, to be followed by more.
pub(crate) fn timing_start(start: Start) -> String {
    let mut text = String::with_capacity(96);
    if let Start::Cold(Timings { placed, sandbox, init }) = start {
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "placed;dur={:.3}, sandbox;dur={:.3}, init;dur={:.3}, ",
            ms(placed),
            ms(sandbox),
            ms(init)
        );
    }
    text
}

/// A value that no header can hold is left out.
pub(crate) fn put(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use lamu_model::Fault;

    use super::*;

    fn trace() -> Trace {
        Trace::of(None, Uuid::from_u128(7), 1)
    }

    fn reply(outcome: Outcome) -> Reply {
        Reply { outcome, log_tail: None, handler: Duration::from_micros(1_500) }
    }

    fn shown(outcome: Outcome) -> Response<Bytes> {
        answer_of(reply(outcome), &RequestId::new("r-1"), Version::Number(3), &trace())
    }

    #[test]
    fn a_response_carries_the_functions_bytes_and_who_ran() {
        let body = Bytes::from_static(b"\"hi\"");
        let answer = shown(Outcome::Response { content_type: None, body });
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.body(), "\"hi\"");
        assert_eq!(answer.headers()[EXECUTED_VERSION], "3");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(answer.headers()[REMAPPED_LENGTH], "0");
        assert!(!answer.headers().contains_key(FUNCTION_ERROR));
    }

    #[test]
    fn a_failed_function_is_a_success_of_the_platform() {
        let body = Bytes::from_static(b"{}");
        let error = Outcome::FunctionError { error_type: "E".into(), body };
        for outcome in [error, Outcome::Fault(Fault::timeout(3.0))] {
            let answer = shown(outcome);
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()[FUNCTION_ERROR], "Unhandled");
        }
    }

    #[test]
    fn a_cold_start_shows_its_parts() {
        let timings = Timings {
            placed: Duration::from_micros(20),
            sandbox: Duration::from_millis(1),
            init: Duration::from_millis(30),
        };
        assert_eq!(
            timing(Start::Cold(timings), Duration::from_millis(2), Duration::from_millis(34)),
            "placed;dur=0.020, sandbox;dur=1.000, init;dur=30.000, handler;dur=2.000, total;dur=34.000"
        );
        assert_eq!(
            timing(Start::Warm, Duration::from_micros(300), Duration::from_micros(450)),
            "handler;dur=0.300, total;dur=0.450"
        );
    }

    #[test]
    fn a_client_context_is_base64_of_an_object() {
        let encode = |text: &str| STANDARD.encode(text);
        assert_eq!(client_context(&encode("{\"custom\":{}}")).unwrap(), "{\"custom\":{}}");
        assert_eq!(client_context(&encode("{\n\"a\":1}")).unwrap(), "{\"a\":1}");
        for bad in ["!", &encode("[]"), &encode("nonsense"), &"A".repeat(3_584)] {
            let error = client_context(bad).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequestContent);
        }
    }

    #[test]
    fn draws_are_uniform_enough_to_split_calls() {
        let below = (0..10_000).filter(|_| draw(Uuid::new_v4()) < 0.2).count();
        assert!((1_800..2_200).contains(&below), "{below}");
    }
}

//! Which of AWS's codes, statuses and texts answers what went wrong here: the
//! one place where that is chosen ("Errors" and "Message catalogue" of the API
//! reference; "Invoke" of the invocation reference).
//!
//! Not here: how an error looks on the wire (`lamu_api::ApiError`) and the
//! model's constraints (`lamu_api::validate`).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use lamu_api::{ApiError, ErrorCode, Operation};
use lamu_link::{AcquireError, BootError, LogError, PlaceError};
use lamu_model::mapping::{Mapping, Source, SourceKind};
use lamu_model::{Outcome, RequestId};
use lamu_store::{MetadataError, PackagesError};
use serde_json::Value;

use crate::access::Denied;
use crate::admission::Throttle;
use crate::function::refusal::Refusal;
use crate::function::resource_policy::{POLICY_BYTES_MAX, PolicyRefusal};
use crate::function::state::Blocked;
use crate::policy::Refused;
use crate::rate::whole_secs;
use crate::url::response::bad_gateway;

const RATE_EXCEEDED: &str = "Rate Exceeded.";
const NOT_THE_FUNCTION: &str = "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.";
const UNSIGNED: &str = "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not configured to accept. Check the provided signature for unsigned.";
/// Before which operation tells the latest.
const REVISION: &str = "The Revision Id provided does not match the latest Revision Id.";
const NO_RESOURCE: &str = "The resource you requested does not exist.";
const REVISION_MISMATCH: &str = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id";
const URL_FORBIDDEN: &str = "Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html";

/// An internal trouble is said to the caller in general words; what it was is
/// for the log of this process.
pub fn of_refusal(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Request(error) => error,
        Refusal::NoFunction(arn) => ApiError::not_found(format!("Function not found: {arn}")),
        Refusal::NoAlias(arn) => ApiError::not_found(format!("Cannot find alias arn: {arn}")),
        Refusal::NoAliasToUpdate(arn) => ApiError::not_found(format!("Alias not found: {arn}")),
        Refusal::NoInvokeConfig(arn) => {
            ApiError::not_found(format!("The function {arn} doesn't have an EventInvokeConfig"))
        }
        Refusal::NothingToConfigure => ApiError::not_found("The function doesn't exist."),
        Refusal::NoUrlFunction => ApiError::not_found("Function does not exist"),
        Refusal::UrlExists(arn) => ApiError::conflict(format!(
            "Failed to create function url config for [functionArn = {arn}]. Error message:  FunctionUrlConfig exists for this Lambda function"
        )),
        Refusal::OtherRegion { asked, here } => ApiError::not_found(format!(
            "Functions from '{asked}' are not reachable in this region ('{here}')"
        )),
        Refusal::OtherRegionsLayer { asked, here } => ApiError::not_found(format!(
            "Layers from '{asked}' are not reachable in this region ('{here}')"
        )),
        Refusal::NoLayerVersion { arn } => {
            ApiError::not_found(format!("Layer version {arn} does not exist."))
        }
        Refusal::OtherAccount { caller, action, arn } => ApiError::new(
            ErrorCode::AccessDenied,
            format!(
                "User: arn:aws:iam::{caller}:root is not authorized to perform: {action} on resource: {arn} because no resource-based policy allows the {action} action"
            ),
        ),
        Refusal::FunctionExists { name } => {
            ApiError::conflict(format!("Function already exist: {name}"))
        }
        Refusal::AliasExists(arn) => ApiError::conflict(format!("Alias already exists: {arn}")),
        Refusal::TwoQualifiers => ApiError::invalid(
            "The derived qualifier from the function name does not match the specified qualifier.",
        ),
        Refusal::NotTheFunction => ApiError::invalid(NOT_THE_FUNCTION),
        Refusal::Blocked { arn, why } => ApiError::conflict(of_blocked(&arn.to_string(), &why)),
        Refusal::RevisionMismatch => {
            ApiError::new(ErrorCode::PreconditionFailed, REVISION_MISMATCH)
        }
        Refusal::NoProvisionedConfig => ApiError::new(
            ErrorCode::ProvisionedConcurrencyConfigNotFound,
            "No Provisioned Concurrency Config found for this function",
        ),
        Refusal::AliasOfProvisionedVersion => ApiError::conflict(
            "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
        ),
        Refusal::VersionOfProvisionedAlias => {
            ApiError::conflict("Version is pointed by a Provisioned Concurrency alias")
        }
        Refusal::PolicyRevisionMismatch { latest } => ApiError::new(
            ErrorCode::PreconditionFailed,
            format!("{REVISION} Call the {latest} API to retrieve the latest Revision Id"),
        ),
        Refusal::NoResource => ApiError::not_found("The resource you requested does not exist."),
        Refusal::NoPolicyFor(arn) => ApiError::not_found(format!("No policy found for: {arn}")),
        Refusal::NoPolicy => {
            ApiError::not_found("No policy is associated with the given resource.")
        }
        Refusal::Policy(refusal) => of_policy(refusal),
        Refusal::VersionHasAlias { version } => ApiError::conflict(format!(
            "Version {version} cannot be deleted because it is referenced by one or more aliases"
        )),
        Refusal::Invalid(text) => ApiError::invalid(text),
        Refusal::Unsupported { what } => ApiError::invalid(format!(
            "{what} is a setting of Lambda that lamu does not serve yet."
        )),
        Refusal::ZipTooLarge => ApiError::new(
            ErrorCode::RequestEntityTooLarge,
            format!("Zipped size must be smaller than {} bytes", lamu_model::ZIP_INLINE_BYTES_MAX),
        ),
        Refusal::NoSigningConfig { arn } => ApiError::not_found(format!(
            "The Lambda code signing configuration {arn} can not be found."
        )),
        Refusal::SigningConfigInUse { arn } => ApiError::conflict(format!(
            "The code signing configuration {arn} cannot be deleted because functions use it."
        )),
        Refusal::Unsigned => ApiError::new(ErrorCode::CodeVerificationFailed, UNSIGNED),
        Refusal::CodeSigningConfigMissing { arn } => ApiError::new(
            ErrorCode::CodeSigningConfigNotFound,
            format!(
                "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
            ),
        ),
        Refusal::NoMapping => ApiError::not_found(NO_RESOURCE),
        Refusal::MappingExists(twin) => ApiError::conflict(of_twin(&twin)),
        Refusal::MappingInUse { doing } => ApiError::new(
            ErrorCode::ResourceInUse,
            format!("Cannot {doing} the event source mapping because it is in use."),
        ),
        Refusal::NotPolled { kind } => ApiError::invalid(format!(
            "Event source mappings of {} are a part of Lambda that lamu does not serve yet: nothing would poll the source.",
            kind.title()
        )),
        Refusal::Contended => ApiError::conflict(
            "The operation cannot be performed at this time. Other updates of the resource are in progress.",
        ),
        Refusal::Metadata(error) => of_metadata(&error),
        Refusal::Packages(error) => of_packages(&error),
        Refusal::Internal(what) => {
            tracing::error!(what, "an operation failed");
            service()
        }
    }
}

fn of_policy(refusal: PolicyRefusal) -> ApiError {
    match refusal {
        PolicyRefusal::SidExists(sid) => ApiError::conflict(format!(
            "The statement id ({sid}) provided already exists. Please provide a new statement id, or remove the existing statement."
        )),
        PolicyRefusal::SidMissing(sid) => {
            ApiError::not_found(format!("Statement {sid} is not found in resource policy."))
        }
        PolicyRefusal::TooLong { bytes } => ApiError::new(
            ErrorCode::PolicyLengthExceeded,
            format!(
                "The final policy size ({bytes}) is bigger than the limit ({POLICY_BYTES_MAX})."
            ),
        ),
        PolicyRefusal::PrincipalInvalid => ApiError::invalid(
            "The provided principal was invalid. Please check the principal and try again.",
        ),
        PolicyRefusal::Malformed(errors) => {
            ApiError::invalid(format!("The provided policy is invalid: {errors}"))
        }
    }
}

/// In IAM's words, which name the kind of policy that decided.
pub fn of_denied(denied: &Denied) -> ApiError {
    ApiError::new(ErrorCode::AccessDenied, denied_text(denied))
}

pub fn denied_text(denied: &Denied) -> String {
    let Denied { principal, action, resource, why } = denied;
    let because = match why {
        Refused::NoIdentityPolicy => {
            format!("because no identity-based policy allows the {action} action")
        }
        Refused::NoResourcePolicy => {
            format!("because no resource-based policy allows the {action} action")
        }
        Refused::DenyOfIdentity => "with an explicit deny in an identity-based policy".to_owned(),
        Refused::DenyOfResource => "with an explicit deny in a resource-based policy".to_owned(),
    };
    format!(
        "User: {principal} is not authorized to perform: {action} on resource: {resource} {because}"
    )
}

fn of_blocked(arn: &str, why: &Blocked) -> String {
    match why {
        Blocked::State(state) => format!(
            "The operation cannot be performed at this time. The function is currently in the following state: {state}"
        ),
        Blocked::UpdateInProgress => format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {arn}"
        ),
        Blocked::LastUpdateFailed(reason) => format!(
            "The operation cannot be performed at this time. The last update failed for resource: {arn}: {reason}"
        ),
    }
}

/// Each family of sources words it its own way.
fn of_twin(twin: &Mapping) -> String {
    let (uuid, name) = (twin.uuid, &twin.function);
    let update = format!("Please update or delete the existing mapping with UUID {uuid}");
    let topics = twin.settings.topics.join(",");
    match (&twin.source, twin.kind) {
        (Source::Arn(arn), SourceKind::Sqs) => format!(
            "An event source mapping with SQS arn (\" {arn} \") and function (\" {name} \") already exists. {update}"
        ),
        (Source::Arn(arn), SourceKind::Msk) => format!(
            "An event source mapping with event source (\"{arn}\"), function (\"{}\"), topics (\"{topics}\") already exists. {update}",
            twin.function_arn()
        ),
        (Source::Kafka(servers), _) => format!(
            "An event source mapping with event source (\"{}\"), function (\"{}\"), topics (\"{topics}\") already exists. {update}",
            servers.join(","),
            twin.function_arn()
        ),
        (Source::Arn(arn), _) => format!(
            "The event source arn (\" {arn} \") and function (\" {name} \") provided mapping already exists. {update}"
        ),
    }
}

fn of_metadata(error: &MetadataError) -> ApiError {
    log_chain(error);
    service()
}

fn of_packages(error: &PackagesError) -> ApiError {
    log_chain(error);
    service()
}

/// More calls than the account or the function's reservation takes.
pub fn of_throttle(throttle: &Throttle) -> ApiError {
    let error = ApiError::throttled(throttle.reason, RATE_EXCEEDED);
    match throttle.retry_after_secs {
        Some(secs) => error.retry_after(secs),
        None => error,
    }
}

/// The account asks the control plane more often than it may.
pub fn of_caller_rate(retry_after_secs: u32) -> ApiError {
    ApiError::throttled(lamu_api::ThrottleReason::CallerRateLimitExceeded, "Rate exceeded")
        .retry_after(retry_after_secs)
}

/// Why an environment could not be had. An empty host is our caller's
/// concurrency exhausted, in Lambda's terms: a 429 that SDKs retry, where a
/// 500 would be taken for a defect.
pub fn of_acquire(error: &AcquireError) -> ApiError {
    match error {
        AcquireError::Place(PlaceError::Full) | AcquireError::Crowded => no_room(),
        AcquireError::Late { .. } => no_room(),
        AcquireError::Boot(BootError::NoRoom { .. }) => no_room(),
        AcquireError::ScalingRate { retry_after } => ApiError::throttled(
            lamu_api::ThrottleReason::FunctionInvocationRateLimitExceeded,
            RATE_EXCEEDED,
        )
        .retry_after(whole_secs(*retry_after)),
        AcquireError::Boot(
            BootError::RuntimeMissing { .. } | BootError::ArchitectureMissing { .. },
        ) => ApiError::new(ErrorCode::InvalidRuntime, with_sources(error)),
        AcquireError::Boot(
            BootError::PackageUnreadable { .. } | BootError::PackageMissing { .. },
        ) => ApiError::new(ErrorCode::InvalidZipFile, with_sources(error)),
        AcquireError::Place(PlaceError::NoWorker | PlaceError::PlacementGone)
        | AcquireError::Boot(
            BootError::Sandbox { .. }
            | BootError::Silent { .. }
            | BootError::InitFailed { .. }
            | BootError::Fenced
            | BootError::Draining
            | BootError::WorkerGone,
        )
        | AcquireError::ManagerGone => {
            log_chain(error);
            service()
        }
    }
}

fn no_room() -> ApiError {
    ApiError::throttled(lamu_api::ThrottleReason::ConcurrentInvocationLimitExceeded, RATE_EXCEEDED)
}

/// The event of an invocation is no JSON; `text` says where.
pub fn of_event(text: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequestContent, text)
}

/// The event of an invocation is larger than its kind takes.
pub fn of_large_event(bytes_max: usize) -> ApiError {
    ApiError::new(
        ErrorCode::RequestTooLarge,
        format!("Request must be smaller than {bytes_max} bytes for the InvokeFunction operation"),
    )
}

/// The call has been through this function too often.
pub fn of_recursion() -> ApiError {
    ApiError::new(
        ErrorCode::RecursiveInvocation,
        "Lambda has detected your function being invoked in a recursive loop with other AWS resources and stopped your function's invocation.",
    )
}

/// The environment ended while the function may have run.
pub fn of_lost() -> ApiError {
    service()
}

/// How InvokeComplete names and tells what ended a streamed response: the
/// platform's own error types and those a runtime may report as they are,
/// anything else as Invoke's header has it.
pub fn of_stream(outcome: &Outcome, request: &RequestId) -> Option<(String, String)> {
    match outcome {
        Outcome::Response { .. } => None,
        Outcome::FunctionError { error_type, body } => {
            let unknown = error_type.is_empty() || error_type.ends_with(".Unknown");
            let code = if unknown { "Unhandled" } else { error_type };
            Some((code.to_owned(), String::from_utf8_lossy(body).into_owned()))
        }
        Outcome::Fault(fault) => {
            let details = fault.payload(request);
            let code = fault.kind.error_type().to_owned();
            Some((code, String::from_utf8_lossy(&details).into_owned()))
        }
    }
}

pub fn service() -> ApiError {
    ApiError::service("An internal error occurred. Please try again.")
}

/// A browser page, or a name rebound to this address, sent the request.
pub fn of_browser(what: &str) -> ApiError {
    ApiError::new(ErrorCode::AccessDenied, what)
}

/// Without keys somebody on another machine called.
pub fn of_stranger() -> ApiError {
    of_browser("Requests from other hosts need signatures; configure keys to serve them.")
}

/// An answer about a function URL: the member is `Message`, and there is no
/// `Type`.
pub fn of_url(status: StatusCode, message: impl Into<Value>) -> Response<Bytes> {
    let mut body = serde_json::Map::new();
    body.insert("Message".to_owned(), message.into());
    let mut response = Response::new(Bytes::from(Value::from(body).to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// No function URL has this id, or not here.
pub fn of_unknown_url() -> Response<Bytes> {
    with_type(of_url(StatusCode::FORBIDDEN, Value::Null), ErrorCode::AccessDenied)
}

/// The caller may not call this URL, or what it led to is gone.
pub fn of_forbidden_url() -> Response<Bytes> {
    with_type(of_url(StatusCode::FORBIDDEN, URL_FORBIDDEN), ErrorCode::AccessDenied)
}

/// The event of the request would be larger than an invocation takes.
pub fn of_url_too_large() -> Response<Bytes> {
    let error = Operation::Invoke.too_large();
    with_type(of_url(error.status(), error.message), error.code)
}

/// A URL's function could not be run. A throttled caller is told so; of the
/// rest it learns as much as of a failed function.
pub fn of_url_call(error: &ApiError) -> Response<Bytes> {
    match error.status() {
        StatusCode::TOO_MANY_REQUESTS => error.respond(),
        StatusCode::INTERNAL_SERVER_ERROR => {
            of_url(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        }
        _ => bad_gateway(),
    }
}

fn with_type(mut response: Response<Bytes>, code: ErrorCode) -> Response<Bytes> {
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(code.name()));
    response
}

/// A right signature for what is no region.
pub fn of_region() -> ApiError {
    ApiError::new(ErrorCode::InvalidSignature, "Credential should be scoped to a valid region.")
}

/// The request's body did not arrive in time, or not whole.
pub fn of_body(what: &'static str) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequestContent, what)
}

pub fn of_logs(error: &LogError) -> (u16, &'static str, String) {
    match error {
        LogError::NoGroup | LogError::NoStream => {
            (400, "ResourceNotFoundException", error.to_string())
        }
        LogError::GroupExists | LogError::StreamExists => {
            (400, "ResourceAlreadyExistsException", error.to_string())
        }
        LogError::TooManyGroups => (400, "LimitExceededException", error.to_string()),
        LogError::TooManyTags { .. } => (400, "TooManyTagsException", error.to_string()),
        LogError::Protected => (400, "ValidationException", error.to_string()),
        LogError::Unavailable { .. } => {
            log_chain(error);
            (
                503,
                "ServiceUnavailableException",
                "The service cannot complete the request.".to_owned(),
            )
        }
    }
}

/// One line with every cause.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn log_chain(error: &dyn std::error::Error) {
    tracing::error!(error = with_sources(error), "a request failed");
}

#[cfg(test)]
mod tests {
    use lamu_model::{Arn, Digest, Runtime};

    use super::*;

    #[test]
    fn refusals_have_the_codes_and_texts_of_the_service() {
        let arn = || Arn::new("arn:aws:lambda:us-east-1:000000000000:function:f");
        let blocked = |why| Refusal::Blocked { arn: arn(), why };
        let table = [
            (
                Refusal::NoFunction(arn()),
                404,
                "ResourceNotFoundException",
                "Function not found: arn:aws:lambda:us-east-1:000000000000:function:f",
            ),
            (
                Refusal::FunctionExists { name: "f".into() },
                409,
                "ResourceConflictException",
                "Function already exist: f",
            ),
            (
                blocked(Blocked::State("Pending")),
                409,
                "ResourceConflictException",
                "The operation cannot be performed at this time. The function is currently in the following state: Pending",
            ),
            (
                blocked(Blocked::UpdateInProgress),
                409,
                "ResourceConflictException",
                "The operation cannot be performed at this time. An update is in progress for resource: arn:aws:lambda:us-east-1:000000000000:function:f",
            ),
            (
                Refusal::UrlExists(arn()),
                409,
                "ResourceConflictException",
                "Failed to create function url config for [functionArn = arn:aws:lambda:us-east-1:000000000000:function:f]. Error message:  FunctionUrlConfig exists for this Lambda function",
            ),
            (Refusal::NoUrlFunction, 404, "ResourceNotFoundException", "Function does not exist"),
            (
                Refusal::NoResource,
                404,
                "ResourceNotFoundException",
                "The resource you requested does not exist.",
            ),
            (Refusal::RevisionMismatch, 412, "PreconditionFailedException", REVISION_MISMATCH),
            (
                Refusal::ZipTooLarge,
                413,
                "RequestEntityTooLargeException",
                "Zipped size must be smaller than 52428800 bytes",
            ),
            (Refusal::NotTheFunction, 400, "InvalidParameterValueException", NOT_THE_FUNCTION),
        ];
        for (refusal, status, code, text) in table {
            let error = of_refusal(refusal);
            assert_eq!((error.status().as_u16(), error.code.name()), (status, code), "{text}");
            assert_eq!(error.message, text);
        }
    }

    #[test]
    fn answers_about_urls_have_a_shape_of_their_own() {
        let unknown = of_unknown_url();
        assert_eq!(
            (unknown.status().as_u16(), &unknown.body()[..]),
            (403, &br#"{"Message":null}"#[..])
        );
        assert_eq!(unknown.headers()["x-amzn-errortype"], "AccessDeniedException");
        let forbidden = of_forbidden_url();
        assert_eq!(forbidden.status(), 403);
        assert!(forbidden.body().starts_with(br#"{"Message":"Forbidden. For troubleshooting "#));
        assert_eq!(of_url_too_large().status(), 413);
        for (error, status) in [(no_room(), 429), (service(), 500), (of_lost(), 500)] {
            assert_eq!(of_url_call(&error).status().as_u16(), status);
        }
    }

    #[test]
    fn a_full_platform_throttles_and_a_broken_function_is_a_bad_gateway() {
        let runtime =
            BootError::RuntimeMissing { runtime: Runtime::new("ruby3.4"), advice: "none".into() };
        let zip = BootError::PackageUnreadable { digest: Digest::of(b""), why: "cut".into() };
        let table = [
            (AcquireError::Place(PlaceError::Full), 429, "TooManyRequestsException"),
            (AcquireError::Crowded, 429, "TooManyRequestsException"),
            (
                AcquireError::ScalingRate { retry_after: std::time::Duration::from_millis(10) },
                429,
                "TooManyRequestsException",
            ),
            (AcquireError::Boot(runtime), 502, "InvalidRuntimeException"),
            (AcquireError::Boot(zip), 502, "InvalidZipFileException"),
            (AcquireError::ManagerGone, 500, "ServiceException"),
        ];
        for (error, status, code) in table {
            let answer = of_acquire(&error);
            assert_eq!((answer.status().as_u16(), answer.code.name()), (status, code), "{error}");
        }
    }
}

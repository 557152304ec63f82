//! An error as the wire has it: code, status, headers and body.
//!
//! Not here: the codes (`generated::errors`) and which one answers what (the
//! frontend's `error` file, and `validate` for the constraints).

use std::fmt;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::ErrorCode;
use crate::generated::errors::ERRORS;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

#[derive(Debug)]
pub(crate) struct ErrorInfo {
    pub name: &'static str,
    pub status: u16,
    pub type_member: TypeMember,
    pub message_member: &'static str,
}

/// The `Type` member of an error's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeMember {
    User,
    Service,
    Absent,
}

impl ErrorCode {
    pub(crate) fn info(self) -> &'static ErrorInfo {
        &ERRORS[self as usize]
    }

    /// As in `x-amzn-ErrorType`, such as `ResourceNotFoundException`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.info().status).expect("the table holds statuses")
    }
}

/// Why a call was throttled: the `Reason` of `TooManyRequestsException`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThrottleReason {
    ConcurrentInvocationLimitExceeded,
    FunctionInvocationRateLimitExceeded,
    ReservedFunctionConcurrentInvocationLimitExceeded,
    ReservedFunctionInvocationRateLimitExceeded,
    CallerRateLimitExceeded,
    ConcurrentSnapshotCreateLimitExceeded,
}

impl ThrottleReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConcurrentInvocationLimitExceeded => "ConcurrentInvocationLimitExceeded",
            Self::FunctionInvocationRateLimitExceeded => "FunctionInvocationRateLimitExceeded",
            Self::ReservedFunctionConcurrentInvocationLimitExceeded => {
                "ReservedFunctionConcurrentInvocationLimitExceeded"
            }
            Self::ReservedFunctionInvocationRateLimitExceeded => {
                "ReservedFunctionInvocationRateLimitExceeded"
            }
            Self::CallerRateLimitExceeded => "CallerRateLimitExceeded",
            Self::ConcurrentSnapshotCreateLimitExceeded => "ConcurrentSnapshotCreateLimitExceeded",
        }
    }
}

/// The answer to a request that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .code.name())]
pub struct ApiError {
    pub code: ErrorCode,
    pub message: String,
    /// Of `TooManyRequests` only.
    pub reason: Option<ThrottleReason>,
    /// Seconds, in the `Retry-After` header.
    pub retry_after_secs: Option<u32>,
    /// Of `EC2Unexpected` only.
    pub ec2_error_code: Option<Box<str>>,
    /// The methods that a path does take; makes the answer a 405.
    pub(crate) allow: Option<Box<str>>,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError {
            code,
            message: message.into(),
            reason: None,
            retry_after_secs: None,
            ec2_error_code: None,
            allow: None,
        }
    }

    /// `InvalidParameterValueException`: the check behind the model's.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorCode::InvalidParameterValue, message)
    }

    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorCode::ResourceNotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorCode::ResourceConflict, message)
    }

    pub fn throttled(reason: ThrottleReason, message: impl Into<String>) -> ApiError {
        ApiError { reason: Some(reason), ..ApiError::new(ErrorCode::TooManyRequests, message) }
    }

    /// The platform's own failure, 500.
    pub fn service(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorCode::Service, message)
    }

    pub fn retry_after(self, seconds: u32) -> ApiError {
        ApiError { retry_after_secs: Some(seconds), ..self }
    }

    pub fn status(&self) -> StatusCode {
        match self.allow {
            Some(_) => StatusCode::METHOD_NOT_ALLOWED,
            None => self.code.status(),
        }
    }

    /// The JSON body, `Type` before the message as the service has it.
    pub fn body(&self) -> Bytes {
        let mut members: Vec<(&str, &str)> = Vec::with_capacity(3);
        if let Some(reason) = self.reason {
            members.push(("Reason", reason.as_str()));
        }
        if let Some(code) = &self.ec2_error_code {
            members.push(("EC2ErrorCode", code));
        }
        match self.type_member() {
            TypeMember::User => members.push(("Type", "User")),
            TypeMember::Service => members.push(("Type", "Service")),
            TypeMember::Absent => {}
        }
        members.push((self.code.info().message_member, &self.message));
        let members: Vec<String> = members
            .iter()
            .map(|(name, text)| format!("\"{name}\":{}", Value::from(*text)))
            .collect();
        Bytes::from(format!("{{{}}}", members.join(",")))
    }

    /// Status, headers and body. The request id is the listener's to add.
    pub fn respond(&self) -> Response<Bytes> {
        let mut response = Response::new(self.body());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_TYPE, HeaderValue::from_static(self.code.name()));
        if let Some(seconds) = self.retry_after_secs {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| allow.parse().ok()) {
            headers.insert(ALLOW, allow);
        }
        response
    }

    /// A few texts of the service come without `Type`, whatever their code.
    fn type_member(&self) -> TypeMember {
        let text = self.message.as_str();
        let bare = (text.starts_with("Specified ")
            && text.contains("UnreservedConcurrentExecution"))
            || text.starts_with("$LATEST is not supported for an alias ")
            || text.starts_with("The Lambda code signing configuration ");
        // Every 413 comes without but for the one of Invoke.
        if bare || self.code == ErrorCode::SerializedRequestEntityTooLarge {
            return TypeMember::Absent;
        }
        self.code.info().type_member
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(error: &ApiError) -> String {
        String::from_utf8(error.body().to_vec()).unwrap()
    }

    #[test]
    fn the_message_is_spelled_as_the_code_has_it() {
        assert_eq!(
            body(&ApiError::not_found("Function not found: arn")),
            r#"{"Type":"User","Message":"Function not found: arn"}"#
        );
        assert_eq!(
            body(&ApiError::conflict("Function already exist: f")),
            r#"{"Type":"User","message":"Function already exist: f"}"#
        );
        assert_eq!(body(&ApiError::service("x")), r#"{"Type":"Service","Message":"x"}"#);
        assert_eq!(
            body(&ApiError::new(ErrorCode::Validation, "1 \"x\"")),
            r#"{"message":"1 \"x\""}"#
        );
        assert_eq!(body(&ApiError::new(ErrorCode::AccessDenied, "x")), r#"{"Message":"x"}"#);
    }

    #[test]
    fn some_texts_come_without_a_type() {
        for text in [
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].",
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ] {
            assert_eq!(body(&ApiError::invalid(text)), format!(r#"{{"message":"{text}"}}"#));
        }
        let text = "The Lambda code signing configuration arn can not be found.";
        assert_eq!(body(&ApiError::not_found(text)), format!(r#"{{"Message":"{text}"}}"#));
    }

    #[test]
    fn a_throttle_says_why_and_when_to_return() {
        let error = ApiError::throttled(ThrottleReason::CallerRateLimitExceeded, "Rate exceeded")
            .retry_after(1);
        let response = error.respond();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["x-amzn-errortype"], "TooManyRequestsException");
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(
            response.body(),
            r#"{"Reason":"CallerRateLimitExceeded","Type":"User","message":"Rate exceeded"}"#
        );
    }

    #[test]
    fn every_code_has_the_status_and_spelling_of_the_reference() {
        let capital = "InvalidCodeSignature CodeVerificationFailed PublicPolicy ResourceInUse \
            RecursiveInvocation SnapStart NoPublishedVersion CallbackTimeout ServiceQuotaExceeded \
            AccessDenied EFSMountFailure S3FilesMountFailure ResourceNotFound \
            CodeSigningConfigNotFound EFSMountConnectivity EFSMountTimeout \
            S3FilesMountConnectivity S3FilesMountTimeout SnapStartTimeout SnapStartNotReady \
            SnapStartRegenerationFailure DurableExecutionAlreadyStarted EFSIO Service \
            EC2AccessDenied EC2Throttled EC2Unexpected ENILimitReached ENINotReady \
            KMSAccessDenied KMSDisabled KMSInvalidState KMSNotFound InvalidRuntime \
            InvalidSecurityGroupID InvalidSubnetID SubnetIPAddressLimitReached InvalidZipFile";
        let capital: Vec<&str> = capital.split_whitespace().collect();
        for code in ErrorCode::ALL {
            let short = code.name().strip_suffix("Exception").unwrap();
            assert_eq!(format!("{code:?}"), short);
            let spelled = if capital.contains(&short) { "Message" } else { "message" };
            assert_eq!(code.info().message_member, spelled, "{code}");
        }
        assert_eq!(ErrorCode::ServiceQuotaExceeded.status(), 402);
        assert_eq!(ErrorCode::PreconditionFailed.status(), 412);
        assert_eq!(ErrorCode::InvalidZipFile.status(), 502);
        assert_eq!(ErrorCode::NotImplemented.status(), 501);
    }
}

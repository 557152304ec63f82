//! The short way in for the hot operations: names and headers are checked
//! where they lie, without building a request around them.
//!
//! Whatever is wrong is worded by the long way, so both say the same.
//!
//! Not here: the payload.

use bytes::Bytes;
use http::HeaderMap;
use lamu_model::FunctionRef;

use crate::constraint::{Kind, Member, Place};
use crate::request::{query_text, read};
use crate::route::Route;
use crate::validate::validate_text;
use crate::{ApiError, ErrorCode, Operation};

/// What Invoke and InvokeWithResponseStream say beside their payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvokeHead {
    pub function: FunctionRef,
    /// The query's, not the name's.
    pub qualifier: Option<String>,
    /// `RequestResponse` when absent; one of the enum otherwise.
    pub invocation_type: Option<String>,
    /// `LogType` is `Tail`.
    pub log_tail: bool,
    pub client_context: Option<String>,
    pub durable_execution_name: Option<String>,
    pub tenant_id: Option<String>,
}

/// Reads and validates everything of an invocation but its payload.
pub fn invoke_head(
    route: &Route<'_>,
    query: &str,
    headers: &HeaderMap,
) -> Result<InvokeHead, ApiError> {
    short(route, query, headers).ok_or_else(|| {
        match read(route, query, headers, Bytes::new()) {
            Err(error) => error,
            // The long way found nothing that the short way minds.
            Ok(_) => ApiError::service("the request of an invocation could not be read"),
        }
    })
}

/// Reads the function's name as `operation` takes it: form and length, and
/// the error if it has neither.
pub fn function_ref(operation: Operation, text: &str) -> Result<FunctionRef, ApiError> {
    validate_text(operation.input(), "FunctionName", text)?;
    let family = operation
        .input()
        .member("FunctionName")
        .and_then(pattern_family)
        .unwrap_or(lamu_model::NameFamily::Strict);
    FunctionRef::parse(text, family).map_err(|_| {
        // Patterns of unqualified and URL names take forms without account.
        ApiError::new(ErrorCode::ResourceNotFound, format!("Function not found: {text}"))
    })
}

fn pattern_family(member: &'static Member) -> Option<lamu_model::NameFamily> {
    match &member.shape.kind {
        Kind::Text { pattern: Some(pattern), .. } => pattern.name_family(),
        _ => None,
    }
}

/// `None` when anything fails a constraint.
fn short(route: &Route<'_>, query: &str, headers: &HeaderMap) -> Option<InvokeHead> {
    let input = route.operation.input();
    let name = route.labels.first();
    let member = input.member("FunctionName")?;
    let Kind::Text { max: Some(max), .. } = member.shape.kind else { return None };
    if name.len() as u64 > max {
        return None;
    }
    let function = FunctionRef::parse(name, pattern_family(member)?).ok()?;
    let header = |name: &str| -> Option<Option<String>> {
        let Some(member) = input.member(name) else { return Some(None) };
        let Place::Header(wire) = member.place else { return None };
        let Some(value) = headers.get(wire) else { return Some(None) };
        let value = value.to_str().ok()?;
        validate_text(input, name, value).ok()?;
        Some(Some(value.to_owned()))
    };
    let qualifier = if query.is_empty() { None } else { query_text(query, "Qualifier") };
    if let Some(qualifier) = &qualifier {
        validate_text(input, "Qualifier", qualifier).ok()?;
    }
    Some(InvokeHead {
        function,
        qualifier,
        invocation_type: header("InvocationType")?,
        log_tail: header("LogType")?.is_some_and(|kind| kind == "Tail"),
        client_context: header("ClientContext")?,
        durable_execution_name: header("DurableExecutionName")?,
        tenant_id: header("TenantId")?,
    })
}

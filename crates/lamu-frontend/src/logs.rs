//! The part of CloudWatch Logs that tools use for functions: what was
//! written, who keeps it for how long, and writing. JSON 1.1 over `POST /`,
//! the operation in `X-Amz-Target`.
//!
//! ```text
//!  groups   Create Describe Delete LogGroup(s), retention, protection
//!  streams  Create Describe Delete LogStream(s)
//!  events   GetLogEvents FilterLogEvents
//!  put      PutLogEvents
//!  tail     StartLiveTail
//!  tags     ListTagsForResource TagResource UntagResource and the older three
//! ```
//!
//! Not here: keeping logs (the log store behind [`LogsHandle`]).

mod check;
mod events;
mod groups;
mod put;
mod streams;
mod tags;
pub mod tail;
mod token;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use lamu_link::{LogGroupName, LogsHandle};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::error;
use crate::function::resolve::Caller;

const TARGET_PREFIX: &str = "Logs_20140328.";

/// Groups or streams of one answer.
const NAMES_MAX: usize = 50;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// The largest request is PutLogEvents with 1 MiB of messages, which JSON may
/// write six times as long.
pub const REQUEST_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// An error of this protocol: status, code, text.
#[derive(Debug, PartialEq, Eq)]
pub struct LogsError {
    status: u16,
    code: &'static str,
    message: String,
}

impl LogsError {
    fn new(code: &'static str, message: impl Into<String>) -> LogsError {
        LogsError { status: 400, code, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> LogsError {
        LogsError::new("InvalidParameterException", message)
    }
}

impl From<lamu_link::LogError> for LogsError {
    fn from(error: lamu_link::LogError) -> LogsError {
        let (status, code, message) = error::of_logs(&error);
        LogsError { status, code, message }
    }
}

/// What every operation gets: the store, who asks, the request, the time.
#[derive(Clone, Copy)]
struct Ask<'a> {
    logs: &'a LogsHandle,
    caller: &'a Caller,
    input: &'a Value,
    now_ms: u64,
}

/// The members of a request, read once: what is checked for permission and
/// what is done see the same. An object only, since a list would be taken for
/// the members in their order by the operations and name nothing to the check.
pub fn input(body: &[u8]) -> Result<Value, LogsError> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    let refused = |message| LogsError::new("SerializationException", message);
    let input: Value = serde_json::from_slice(body).map_err(|error| refused(error.to_string()))?;
    match input {
        Value::Object(_) => Ok(input),
        _ => Err(refused("The request is no JSON object.".to_owned())),
    }
}

/// Answers one request. `target` is the header's value.
pub async fn answer(
    logs: &LogsHandle,
    caller: &Caller,
    target: &str,
    input: &Value,
    now_ms: u64,
) -> Response<Bytes> {
    let ask = Ask { logs, caller, input, now_ms };
    match operate(ask, target).await {
        Ok(value) => respond(200, None, &value),
        Err(error) => refuse(error),
    }
}

pub fn refuse(error: LogsError) -> Response<Bytes> {
    let LogsError { status, code, message } = error;
    respond(status, Some(code), &json!({"__type": code, "message": message}))
}

/// The name of the caller's group that is named by name or by ARN, with or
/// without `:*`. Nothing for an ARN that is none of the caller's groups.
pub fn group_named<'a>(caller: &Caller, identifier: &'a str) -> Option<&'a str> {
    if !identifier.starts_with("arn:") {
        return Some(identifier);
    }
    let (scope, name) = identifier.split_once(":log-group:")?;
    let mine = format!("arn:aws:logs:{}:{}", caller.region, caller.account);
    let name = name.strip_suffix(":*").unwrap_or(name);
    (scope == mine && !name.is_empty()).then_some(name)
}

/// The answer to who may not ask.
pub fn refuse_access(message: String) -> Response<Bytes> {
    let code = "AccessDeniedException";
    respond(400, Some(code), &json!({"__type": code, "message": message}))
}

async fn operate(ask: Ask<'_>, target: &str) -> Result<Value, LogsError> {
    match target.strip_prefix(TARGET_PREFIX).unwrap_or_default() {
        "CreateLogGroup" => groups::create(ask).await,
        "DescribeLogGroups" => groups::describe(ask).await,
        "DeleteLogGroup" => groups::delete(ask).await,
        "PutRetentionPolicy" => groups::put_retention(ask).await,
        "DeleteRetentionPolicy" => groups::delete_retention(ask).await,
        "PutLogGroupDeletionProtection" => groups::put_deletion_protection(ask).await,
        "CreateLogStream" => streams::create(ask).await,
        "DescribeLogStreams" => streams::describe(ask).await,
        "DeleteLogStream" => streams::delete(ask).await,
        "GetLogEvents" => events::get(ask).await,
        "FilterLogEvents" => events::filter(ask).await,
        "PutLogEvents" => put::put(ask).await,
        "ListTagsForResource" => tags::list(ask).await,
        "TagResource" => tags::tag(ask).await,
        "UntagResource" => tags::untag(ask).await,
        "ListTagsLogGroup" => tags::list_of_group(ask).await,
        "TagLogGroup" => tags::tag_group(ask).await,
        "UntagLogGroup" => tags::untag_group(ask).await,
        _ => Err(LogsError::new(
            "UnknownOperationException",
            format!("{target} is no operation that lamu serves."),
        )),
    }
}

fn respond(status: u16, code: Option<&'static str>, value: &Value) -> Response<Bytes> {
    // What answers nothing has an empty body.
    let text = if value.is_null() { String::new() } else { value.to_string() };
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let json = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(CONTENT_TYPE, json);
    if let Some(code) = code {
        response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(code));
    }
    response
}

impl Ask<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, LogsError> {
        T::deserialize(self.input)
            .map_err(|error| LogsError::new("SerializationException", error.to_string()))
    }

    /// A group of the caller by its plain name.
    fn group(&self, group: impl Into<String>) -> LogGroupName {
        LogGroupName {
            account: self.caller.account.clone(),
            region: self.caller.region.clone(),
            group: group.into(),
        }
    }

    /// A group named by one of the two members that most operations have.
    fn named(
        &self,
        name: Option<String>,
        identifier: Option<String>,
    ) -> Result<LogGroupName, LogsError> {
        match (name, identifier) {
            (Some(_), Some(_)) => Err(LogsError::invalid(
                "LogGroup name and LogGroup identifier are mutually exclusive parameters.",
            )),
            (Some(name), None) => {
                check::all(|check| check.group("logGroupName", Some(&name)))?;
                Ok(self.group(name))
            }
            (None, Some(identifier)) => self.identified(identifier),
            (None, None) => Err(LogsError::invalid(
                "Either LogGroup name or LogGroup identifier must be provided.",
            )),
        }
    }

    /// A group by name or ARN, with or without `:*`.
    fn identified(&self, identifier: String) -> Result<LogGroupName, LogsError> {
        check::all(|check| check.identifier("logGroupIdentifier", &identifier))?;
        let name = group_named(self.caller, &identifier).ok_or(lamu_link::LogError::NoGroup)?;
        Ok(self.group(name))
    }

    /// The group of an ARN, if it is the caller's.
    fn of_arn(&self, arn: &str) -> Option<LogGroupName> {
        let name = arn.starts_with("arn:").then(|| group_named(self.caller, arn))?;
        name.map(|name| self.group(name))
    }

    fn arn(&self, group: &str) -> String {
        let Caller { region, account } = self.caller;
        format!("arn:aws:logs:{region}:{account}:log-group:{group}")
    }
}

/// An answer with its next token, when there is a next page.
fn with_next(mut answer: Map<String, Value>, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer.insert("nextToken".to_owned(), next.into());
    }
    Value::Object(answer)
}

#[cfg(test)]
mod tests;

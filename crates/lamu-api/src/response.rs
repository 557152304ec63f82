//! A typed output as an answer: status, headers and body.
//!
//! Not here: errors (`error`), the request id and the trace header (the
//! listener).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use crate::{ApiError, Operation};

/// The output of an operation.
pub trait Output: Serialize + Send {
    /// Whether any member travels in the JSON body.
    const HAS_BODY: bool;

    /// Moves the members that travel elsewhere to their places.
    fn place(&mut self, _: &mut Placed) {}
}

/// Operations that answer with nothing.
impl Output for () {
    const HAS_BODY: bool = false;
}

/// What an output says outside its JSON body.
#[derive(Debug, Default)]
pub struct Placed {
    pub(crate) status: Option<u16>,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Option<Bytes>,
}

impl Placed {
    pub(crate) fn status(&mut self, status: Option<i32>) {
        self.status = status.and_then(|status| u16::try_from(status).ok());
    }

    /// A value that no header can hold is left out rather than cut.
    pub(crate) fn header(&mut self, name: &'static str, value: Option<String>) {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// The answer of success. A member `StatusCode` of the output overrides the
/// operation's own status.
///
/// Fails only when the output cannot be written as JSON, which is ours.
pub fn respond<O: Output>(
    operation: Operation,
    mut output: O,
) -> Result<Response<Bytes>, ApiError> {
    let mut placed = Placed::default();
    output.place(&mut placed);
    let status = placed.status.unwrap_or(operation.status());
    let status = StatusCode::from_u16(status)
        .map_err(|_| ApiError::service(format!("{operation} ended with status {status}")))?;
    let body = match placed.payload {
        Some(payload) => payload,
        None if status == StatusCode::NO_CONTENT => Bytes::new(),
        None if !O::HAS_BODY && status != StatusCode::OK && status != StatusCode::CREATED => {
            Bytes::new()
        }
        None => Bytes::from(serde_json::to_vec(&output).map_err(|error| {
            ApiError::service(format!("{operation} could not write its answer: {error}"))
        })?),
    };
    let mut headers = placed.headers;
    if !body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

//! A request as typed input: body, labels, query and headers together.
//!
//! ```text
//!  body JSON ─┐
//!  labels ────┼─▶ one object ─▶ constraints ─▶ typed input
//!  query ─────┤
//!  headers ───┘
//! ```
//!
//! Not here: the constraints (`validate`) and the short way of Invoke
//! (`invoke`).

use std::fmt;

use bytes::Bytes;
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::constraint::{Kind, Place, Shape};
use crate::response::Output;
use crate::route::Route;
use crate::validate::validate;
use crate::{ApiError, ErrorCode, Operation, Timestamp};

/// The input of one operation.
pub trait Input: DeserializeOwned + Send {
    const OPERATION: Operation;
    type Output: Output;

    /// Takes the body of an operation whose body is bytes.
    fn set_payload(&mut self, _: Bytes) {}
}

/// A request that holds what the model asks for, not yet typed.
///
/// Its debug form names the members only: some are secrets.
#[derive(Clone)]
pub struct Request {
    /// The members by their wire names, wherever they travelled.
    pub members: Map<String, Value>,
    /// The body of an operation whose body is bytes.
    pub payload: Bytes,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<&String> = self.members.keys().collect();
        f.debug_struct("Request").field("members", &members).finish_non_exhaustive()
    }
}

/// Reads and validates. `query` is without its question mark.
pub fn read(
    route: &Route<'_>,
    query: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Request, ApiError> {
    let input = route.operation.input();
    let payload = input.members.iter().find(|member| member.place == Place::Payload);
    let mut request = Request { members: Map::new(), payload: Bytes::new() };
    match payload {
        None if input.members.iter().any(|member| member.place == Place::Body) => {
            if let Some(object) = read_json(&body)? {
                request.members = object;
            }
        }
        None => {}
        Some(member) => match member.shape.kind {
            Kind::Blob { .. } => request.payload = body,
            _ => {
                if let Some(object) = read_json(&body)? {
                    request.members.insert(member.name.to_owned(), Value::Object(object));
                }
            }
        },
    }
    for member in input.members {
        let value = match member.place {
            Place::Body | Place::Payload => continue,
            Place::Label => route.labels.get(member.name).map(|text| typed(member.shape, text)),
            Place::Header(name) => headers
                .get(name)
                .map(|value| typed(member.shape, &String::from_utf8_lossy(value.as_bytes()))),
            Place::Query(name) => query_value(query, name, member.shape),
        };
        // A member of this name in the body is not this member.
        match value {
            None => request.members.remove(member.name),
            Some(value) => request.members.insert(member.name.to_owned(), value?),
        };
    }
    validate(input, &request.members)?;
    if let Some(member) = payload
        && let Kind::Blob { max: Some(max), .. } = member.shape.kind
        && request.payload.len() as u64 > max
    {
        return Err(payload_too_long(member.name, max));
    }
    Ok(request)
}

/// Reads, validates and types. The input's operation is the route's.
pub fn parse<I: Input>(
    route: &Route<'_>,
    query: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<I, ApiError> {
    debug_assert_eq!(route.operation, I::OPERATION);
    read(route, query, headers, body)?.into_input()
}

impl Request {
    pub fn into_input<I: Input>(self) -> Result<I, ApiError> {
        let mut input: I = serde_json::from_value(Value::Object(self.members))
            .map_err(|error| ApiError::new(ErrorCode::Serialization, error.to_string()))?;
        input.set_payload(self.payload);
        Ok(input)
    }
}

/// The value of one query parameter, decoded.
pub fn query_text(query: &str, name: &str) -> Option<String> {
    query_texts(query, name).next()
}

/// A plus stays one: SDKs send blanks as `%20` and tokens hold pluses.
fn query_texts(query: &str, name: &str) -> impl Iterator<Item = String> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let known = percent_decode_str(key).eq(name.bytes());
        known.then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
}

fn query_value(query: &str, name: &str, shape: &Shape) -> Option<Result<Value, ApiError>> {
    let mut texts = query_texts(query, name).peekable();
    texts.peek()?;
    match shape.kind {
        Kind::List { member, .. } => {
            let items: Result<Vec<Value>, ApiError> =
                texts.map(|text| typed(member, &text)).collect();
            Some(items.map(Value::Array))
        }
        _ => texts.next().map(|text| typed(shape, &text)),
    }
}

/// Text from outside the body as the JSON that the body would have held.
fn typed(shape: &Shape, text: &str) -> Result<Value, ApiError> {
    let value = match shape.kind {
        Kind::Integer { .. } => text.parse::<i64>().ok().map(Value::from),
        Kind::Double { .. } => text.parse::<f64>().ok().map(Value::from),
        Kind::Boolean => text.to_ascii_lowercase().parse::<bool>().ok().map(Value::from),
        Kind::Timestamp => Timestamp::parse(text).map(|_| Value::from(text)),
        _ => Some(Value::from(text)),
    };
    let wanted = match shape.kind {
        Kind::Integer { wide: true, .. } => "a Long",
        Kind::Integer { .. } => "an Integer",
        Kind::Double { .. } => "a Double",
        Kind::Boolean => "a Boolean",
        _ => "a Timestamp",
    };
    value.ok_or_else(|| {
        let text: String = text.chars().take(200).collect();
        let text = format!("'{text}' can not be converted to {wanted}");
        ApiError::new(ErrorCode::Serialization, text)
    })
}

/// The object a body holds; an empty body and `null` hold none.
fn read_json(body: &Bytes) -> Result<Option<Map<String, Value>>, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let refused = |text: String| ApiError::new(ErrorCode::Serialization, text);
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(Value::Null) => Ok(None),
        Ok(_) => Err(refused("The request body is not a JSON object".to_owned())),
        Err(error) => Err(refused(format!("Could not parse request body into json: {error}"))),
    }
}

fn payload_too_long(name: &str, max: u64) -> ApiError {
    let name = name.to_ascii_lowercase();
    ApiError::new(
        ErrorCode::Validation,
        format!(
            "1 validation error detected: Value '***' at '{name}' failed to satisfy constraint: Member must have length less than or equal to {max}"
        ),
    )
}

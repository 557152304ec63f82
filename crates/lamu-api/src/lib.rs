//! AWS's wire for Lambda: operations, shapes, routes, constraints, errors and
//! signatures.
//!
//! Types, tables and codes are generated from the public service model
//! (`generate.py`, `model/lambda.json`); what reads and writes with them is
//! written by hand. Everything is a pure function over values.
//!
//! ```
//! use bytes::Bytes;
//! use http::HeaderMap;
//! use lamu_api::{ApiError, Operation, parse, respond, route, shapes};
//!
//! fn serve(method: &str, path: &str, query: &str, body: Bytes) -> http::Response<Bytes> {
//!     let answer = || {
//!         let route = route(method, path, query)?;
//!         match route.operation {
//!             Operation::GetFunctionConcurrency => {
//!                 let input: shapes::GetFunctionConcurrencyRequest =
//!                     parse(&route, query, &HeaderMap::new(), body)?;
//!                 if input.function_name != "f" {
//!                     return Err(ApiError::not_found("Function not found: …"));
//!                 }
//!                 let output = shapes::GetFunctionConcurrencyResponse {
//!                     reserved_concurrent_executions: Some(5),
//!                 };
//!                 respond(route.operation, output)
//!             }
//!             other => Err(other.not_implemented()),
//!         }
//!     };
//!     answer().unwrap_or_else(|error| error.respond())
//! }
//!
//! let path = "/2019-09-30/functions/f/concurrency";
//! let answer = serve("GET", path, "", Bytes::new());
//! assert_eq!(answer.body(), r#"{"ReservedConcurrentExecutions":5}"#);
//! ```
//!
//! Not here: what an operation means (`lamu_frontend`), sockets, clocks.

mod blob;
pub mod constraint;
mod error;
#[rustfmt::skip]
mod generated;
mod invoke;
mod operation;
mod request;
mod response;
mod route;
pub mod sigv4;
mod timestamp;
mod validate;

/// The inputs and outputs of the operations, with the model's names.
pub mod shapes {
    pub use crate::generated::shapes::*;
}

pub use blob::Blob;
pub use error::{ApiError, ThrottleReason, TypeMember};
pub use generated::errors::ErrorCode;
pub use generated::operations::Operation;
pub use invoke::{InvokeHead, function_ref, invoke_head};
pub use operation::Method;
pub use request::{Input, Request, parse, query_text, read};
pub use response::{Output, Placed, respond};
pub use route::{Labels, Route, route};
pub use timestamp::Timestamp;
pub use validate::{check_runtime, validate, validate_text};

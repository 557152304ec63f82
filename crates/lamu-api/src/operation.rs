//! What is known about an operation without reading a request of it.
//!
//! Not here: the table (`generated::operations`) and finding the operation of
//! a request (`route`).

use std::fmt;

use crate::constraint::Structure;
use crate::generated::operations::OPERATIONS;
use crate::{ApiError, ErrorCode, Operation};

#[derive(Debug)]
pub(crate) struct OperationInfo {
    pub name: &'static str,
    pub action: &'static str,
    pub method: Method,
    pub uri: &'static str,
    pub segments: &'static [Segment],
    /// What the query must hold for this operation rather than the other on
    /// the same path.
    pub selector: Option<(&'static str, &'static str)>,
    pub status: u16,
    pub errors: &'static [ErrorCode],
    pub input: &'static Structure,
}

/// One segment of a URI template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(&'static str),
    Label(&'static str),
    /// A label whose value may hold slashes.
    WideLabel(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }
}

impl Operation {
    pub(crate) fn info(self) -> &'static OperationInfo {
        &OPERATIONS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Such as `lambda:InvokeFunction`.
    pub fn iam_action(self) -> &'static str {
        self.info().action
    }

    pub fn method(self) -> Method {
        self.info().method
    }

    /// The URI template, such as `/2015-03-31/functions/{FunctionName}`.
    pub fn uri(self) -> &'static str {
        self.info().uri
    }

    /// The status of success.
    pub fn status(self) -> u16 {
        self.info().status
    }

    /// The errors the model declares. Those of the protocol (validation,
    /// signature, size) come on top.
    pub fn errors(self) -> &'static [ErrorCode] {
        self.info().errors
    }

    /// The constraints of its input.
    pub fn input(self) -> &'static Structure {
        self.info().input
    }

    /// The most bytes a request body may have.
    ///
    /// Published for the uploads and the invocations. The rest is JSON of a
    /// few kilobytes, but for durable payloads of 6 MB; the same 6 MB with
    /// room for the JSON around them bounds all of them.
    pub fn request_bytes_max(self) -> u64 {
        match self {
            Operation::CreateFunction | Operation::PublishLayerVersion => 70_167_211,
            Operation::UpdateFunctionCode => 69_905_067,
            Operation::Invoke | Operation::InvokeWithResponseStream => 6_291_456,
            Operation::InvokeAsync => 262_144,
            _ => 8 * 1024 * 1024,
        }
    }

    /// The answer to a body beyond `request_bytes_max`.
    pub fn too_large(self) -> ApiError {
        let (code, name) = match self {
            Operation::Invoke | Operation::InvokeWithResponseStream | Operation::InvokeAsync => {
                (ErrorCode::RequestTooLarge, "InvokeFunction")
            }
            _ => (ErrorCode::RequestEntityTooLarge, self.name()),
        };
        let max = self.request_bytes_max();
        let text = format!("Request must be smaller than {max} bytes for the {name} operation");
        ApiError::new(code, text)
    }

    /// The answer of an operation that is not served yet.
    pub fn not_implemented(self) -> ApiError {
        let text =
            format!("{} is an operation of Lambda that lamu does not serve yet.", self.name());
        ApiError::new(ErrorCode::NotImplemented, text)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        assert_eq!(Operation::ALL.len(), 91);
        for op in Operation::ALL {
            assert_eq!(format!("{op:?}"), op.name());
        }
    }

    #[test]
    fn actions_and_statuses_are_those_of_the_service() {
        assert_eq!(Operation::Invoke.iam_action(), "lambda:InvokeFunction");
        assert_eq!(Operation::InvokeAsync.iam_action(), "lambda:InvokeAsync");
        assert_eq!(Operation::GetLayerVersionByArn.iam_action(), "lambda:GetLayerVersion");
        assert_eq!(Operation::GetFunction.iam_action(), "lambda:GetFunction");
        assert_eq!(Operation::CreateFunction.status(), 201);
        assert_eq!(Operation::DeleteFunction.status(), 204);
    }

    #[test]
    fn a_body_beyond_the_bound_is_worded_as_the_service_words_it() {
        let error = Operation::CreateFunction.too_large();
        assert_eq!(error.code, ErrorCode::RequestEntityTooLarge);
        assert_eq!(
            error.message,
            "Request must be smaller than 70167211 bytes for the CreateFunction operation"
        );
        let error = Operation::Invoke.too_large();
        assert_eq!(error.code, ErrorCode::RequestTooLarge);
        assert_eq!(
            error.message,
            "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
        );
    }

    #[test]
    fn every_declared_error_is_an_error_of_the_operation() {
        assert!(Operation::CreateFunction.errors().contains(&ErrorCode::CodeStorageExceeded));
        assert!(!Operation::GetFunction.errors().contains(&ErrorCode::CodeStorageExceeded));
    }
}

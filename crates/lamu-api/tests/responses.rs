//! Outputs as answers: status, headers and bodies, byte by byte.

use std::collections::BTreeMap;

use bytes::Bytes;
use lamu_api::shapes::*;
use lamu_api::{Operation, Timestamp, respond};

#[test]
fn absent_members_are_left_out_and_names_are_the_models() {
    let output = FunctionConfiguration {
        function_name: Some("f".into()),
        kms_key_arn: Some("arn".into()),
        last_modified: Some(Timestamp::from_millis(1_793_697_327_123).offset_millis()),
        environment: Some(EnvironmentResponse {
            variables: Some(BTreeMap::from([("K".into(), "v".into())])),
            error: None,
        }),
        ..Default::default()
    };
    let answer = respond(Operation::CreateFunction, output).unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "FunctionName": "f",
            "KMSKeyArn": "arn",
            "LastModified": "2026-11-03T09:15:27.123+0000",
            "Environment": {"Variables": {"K": "v"}},
        })
    );
}

#[test]
fn event_source_mappings_have_their_times_as_numbers() {
    let output = EventSourceMappingConfiguration {
        last_modified: Some(Timestamp::from_millis(1_793_697_327_123)),
        ..Default::default()
    };
    let answer = respond(Operation::CreateEventSourceMapping, output).unwrap();
    assert_eq!(answer.status(), 202);
    assert_eq!(answer.body(), r#"{"LastModified":1793697327.123}"#);
}

#[test]
fn an_invocation_answers_with_headers_and_the_functions_bytes() {
    let output = InvocationResponse {
        executed_version: Some("$LATEST".into()),
        function_error: Some("Unhandled".into()),
        log_result: None,
        payload: Bytes::from_static(b"\xffany"),
        ..Default::default()
    };
    let answer = respond(Operation::Invoke, output).unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-amz-executed-version"], "$LATEST");
    assert_eq!(answer.headers()["x-amz-function-error"], "Unhandled");
    assert!(!answer.headers().contains_key("x-amz-log-result"));
    assert_eq!(answer.body().as_ref(), b"\xffany");

    let accepted = InvocationResponse { status_code: Some(202), ..Default::default() };
    let answer = respond(Operation::Invoke, accepted).unwrap();
    assert_eq!((answer.status().as_u16(), answer.body().len()), (202, 0));
    assert!(!answer.headers().contains_key("content-type"));
}

#[test]
fn an_empty_answer_has_no_bytes() {
    for (answer, status) in [
        (respond(Operation::DeleteFunction, DeleteFunctionResponse::default()), 204),
        (respond(Operation::DeleteAlias, ()), 204),
        (respond(Operation::TagResource, ()), 204),
        (respond(Operation::PauseDurableExecution, PauseDurableExecutionResponse::default()), 202),
    ] {
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().len()), (status, 0));
    }
}

#[test]
fn an_answer_without_members_is_still_an_object() {
    let output = GetFunctionConcurrencyResponse::default();
    let answer = respond(Operation::GetFunctionConcurrency, output).unwrap();
    assert_eq!(answer.body(), "{}");
}

#[test]
fn invoke_async_repeats_its_status_in_the_body() {
    let output = InvokeAsyncResponse { status: Some(202) };
    let answer = respond(Operation::InvokeAsync, output).unwrap();
    assert_eq!(answer.status(), 202);
    assert_eq!(answer.body(), r#"{"Status":202}"#);
}

#[test]
fn a_value_no_header_can_hold_is_left_out() {
    let output = InvocationResponse { log_result: Some("a\nb".into()), ..Default::default() };
    let answer = respond(Operation::Invoke, output).unwrap();
    assert!(!answer.headers().contains_key("x-amz-log-result"));
}

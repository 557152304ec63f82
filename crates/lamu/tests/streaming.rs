//! Streamed responses from the function to the client. The scenarios are in
//! `py/streaming.py`; the JavaScript SDK's part in `js/streaming.cjs`.

mod support;

use support::{Lamu, workspace};

scenarios!("streaming":
    pieces_arrive_before_the_end,
    http_responses_carry_their_prelude,
    functions_that_do_not_stream,
    errors_before_and_half_way,
    timeouts_and_crashes_half_way,
    invoke_collects,
    what_is_refused_is_refused_at_once,
    runtimes_of_their_own,
    the_rate_of_lambda,
);

/// With as much bandwidth as there is, so that the tests are quick.
fn unheld(scenario: &str) {
    let lamu = Lamu::start_with(&["--stream-mib-per-sec", "0"]);
    let pid = lamu.pid().to_string();
    lamu.python_with("streaming", scenario, &[("LAMU_TEST_PID", &pid)]);
    lamu.stop();
}

#[test]
fn two_hundred_megabytes_and_not_one_more() {
    unheld("two_hundred_megabytes_and_not_one_more");
}

#[test]
fn slow_readers_slow_the_function() {
    unheld("slow_readers_slow_the_function");
}

#[test]
fn readers_that_hang_up() {
    unheld("readers_that_hang_up");
}

#[test]
fn javascript_sdk() {
    unheld("javascript_sdk");
}

#[test]
fn stock_node_client() {
    let built = workspace().join("target/npm/node_modules/aws-lambda-ric/dist/rapid-client.node");
    if !built.exists() {
        eprintln!("skipped: aws-lambda-ric did not install here, see target/npm/npm.log");
        return;
    }
    unheld("stock_node_client");
}

#[test]
fn stock_rust_client() {
    let lamu = Lamu::start();
    let example = workspace().join("examples/stream-rust");
    lamu.lamu_ok(&["deploy", example.to_str().unwrap()]);
    lamu.python("streaming", "stock_rust_client");
    lamu.stop();
}

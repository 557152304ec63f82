//! Provisioned concurrency and the ways to be throttled, as boto3 meets them.
//! The scenarios are in `py/concurrency.py`.

mod support;

use support::{Lamu, eventually};

scenarios!("concurrency":
    three_stand_by_before_any_call,
    what_ends_is_made_again,
    an_alias_shifts_without_a_cold_start,
    a_failing_init_is_the_reason,
    wrong_requests_get_lambdas_words,
    concurrency_throttles_say_which_limit,
);

#[test]
fn rates_throttle_and_say_when_to_come_again() {
    let lamu = Lamu::start_with(&["--rate-limits", "aws", "--concurrency", "101"]);
    lamu.python("concurrency", "rates_throttle_and_say_when_to_come_again");
    lamu.stop();
}

#[test]
fn what_stands_by_does_again_after_a_kill() {
    let dir = tempfile::Builder::new().prefix("lamu-stand.").tempdir().unwrap();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("concurrency", "made_before_a_kill");
    let trace = lamu.kill();
    trace.must_be_gone();

    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("concurrency", "stands_after_a_kill");
    let trace = lamu.kill();
    trace.must_be_gone();
}

#[test]
fn killed_while_they_are_being_made() {
    let dir = tempfile::Builder::new().prefix("lamu-stand.").tempdir().unwrap();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("concurrency", "asked_for_with_a_slow_init");
    eventually("some are starting", || metrics(&lamu).contains("state=\"starting\"} 2"));
    let trace = lamu.kill();
    trace.must_be_gone();

    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("concurrency", "a_slow_init_is_ready_in_the_end");
    lamu.stop();
}

#[test]
fn the_aws_cli_and_ls_show_what_stands_by() {
    let lamu = Lamu::start();
    lamu.python("concurrency", "a_version_is_published");
    let names = ["--function-name", "f", "--qualifier", "1"];
    let config = |verb: &str, more: &[&str]| {
        let mut arguments = vec!["lambda", verb];
        arguments.extend(names);
        arguments.extend(more);
        lamu.aws(&arguments)
    };
    let put = "put-provisioned-concurrency-config";
    let asked = config(put, &["--provisioned-concurrent-executions", "2"]);
    assert!(asked.contains("\"Status\": \"IN_PROGRESS\""), "{asked}");
    eventually("they stand by", || {
        config("get-provisioned-concurrency-config", &[]).contains("\"Status\": \"READY\"")
    });
    let listed = lamu.lamu_ok(&["ls", "--provisioned"]);
    assert!(listed.contains("PROVISIONED") && listed.contains("1 2/2"), "{listed}");
    config("delete-provisioned-concurrency-config", &[]);
    eventually("they are gone", || !metrics(&lamu).contains("lamu_function_environments{"));
    lamu.stop();
}

fn metrics(lamu: &Lamu) -> String {
    lamu.raw(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
}

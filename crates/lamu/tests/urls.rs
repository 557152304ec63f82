//! Function URLs as HTTP clients, pages in browsers and signers see them. The
//! scenarios are in `py/urls.py`, those of streamed responses in
//! `py/url_streams.py`.

mod support;

use support::Lamu;

scenarios!("urls":
    configured_and_listed,
    concurrent_creations_have_one_winner,
    events_have_the_payload_format,
    responses_are_what_the_function_says,
    cors_is_answered_and_added,
    pages_reach_functions_and_nothing_else,
    any_signature_will_do_without_keys,
    aliases_have_urls_of_their_own,
    what_cannot_be_served_says_so,
    curl_reaches_the_url_that_is_shown,
);

#[test]
fn with_keys_signatures_and_policies_open_urls() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.toml");
    std::fs::write(
        &keys,
        "[[keys]]\naccess_key_id = 'AKIDONE'\nsecret_access_key = 'one'\naccount = '111122223333'\n\
         [[keys]]\naccess_key_id = 'AKIDTWO'\nsecret_access_key = 'two'\naccount = '444455556666'\n",
    )
    .unwrap();
    let lamu = Lamu::start_with(&["--keys", keys.to_str().unwrap()]);
    let environment = [
        ("AWS_ACCESS_KEY_ID", "AKIDONE"),
        ("AWS_SECRET_ACCESS_KEY", "one"),
        ("LAMU_TEST_ACCOUNT", "111122223333"),
        ("LAMU_TEST_OTHER_ID", "AKIDTWO"),
        ("LAMU_TEST_OTHER_SECRET", "two"),
        ("LAMU_TEST_OTHER_ACCOUNT", "444455556666"),
    ];
    lamu.python_with("urls", "signatures_are_verified", &environment);
    lamu.stop();
    let lamu = Lamu::start_with(&["--keys", keys.to_str().unwrap()]);
    lamu.python_with("urls", "policies_open_urls", &environment);
    let verb = std::process::Command::new(env!("CARGO_BIN_EXE_lamu"))
        .args(["url", "f", "--endpoint", &lamu.endpoint])
        .env("AWS_ACCESS_KEY_ID", "AKIDONE")
        .env("AWS_SECRET_ACCESS_KEY", "one")
        .env_remove("AWS_SESSION_TOKEN")
        .output()
        .unwrap();
    let url = String::from_utf8_lossy(&verb.stdout).trim().to_owned();
    let curl = std::process::Command::new("curl").args(["-sS", "--noproxy", "*", &url]).output();
    let answer = String::from_utf8_lossy(&curl.unwrap().stdout).into_owned();
    assert!(answer.contains("rawPath"), "the verb opens what it shows: {url} {answer}");
    lamu.stop();
}

#[test]
fn a_proxys_name_is_shown_and_served() {
    let lamu = Lamu::start_with(&["--url-base", "https://lambda.example"]);
    lamu.python("urls", "a_proxys_name_is_shown_and_served");
    lamu.stop();
}

#[test]
fn a_url_outlives_the_process() {
    let dir = tempfile::Builder::new().prefix("lamu-test.").tempdir().unwrap();
    let lamu = Lamu::start_in(dir.path(), &[]);
    let said = lamu.python_with("urls", "make_one", &[]);
    let ids = said.lines().find_map(|line| line.strip_prefix("ids ")).unwrap().to_owned();
    lamu.kill().must_be_gone();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python_with("urls", "find_it_again", &[("LAMU_TEST_IDS", &ids)]);
    lamu.stop();
}

#[test]
fn our_verbs_make_a_url_and_show_it() {
    let lamu = Lamu::start();
    let example = support::workspace().join("examples/hello-python");
    let made = lamu.lamu_ok(&["deploy", example.to_str().unwrap(), "--url"]);
    let made = made.trim();
    assert!(made.starts_with("http://") && made.ends_with('/'), "{made}");
    assert_eq!(lamu.lamu_ok(&["url", "hello-python"]).trim(), made);
    let curl = std::process::Command::new("curl").args(["-sS", "--noproxy", "*", made]).output();
    let answer = curl.unwrap();
    assert!(String::from_utf8_lossy(&answer.stdout).contains("Hello"), "{answer:?}");

    lamu.lamu_ok(&["url", "hello-python", "--auth", "AWS_IAM"]);
    let config =
        lamu.aws(&["lambda", "get-function-url-config", "--function-name", "hello-python"]);
    assert!(config.contains("AWS_IAM") && config.contains(made), "{config}");
    let absent = lamu.lamu(&["url", "absent"]);
    assert_eq!(absent.status.code(), Some(3));
    assert!(support::said(&absent).contains("Function does not exist"));
    lamu.stop();
}

/// A client may send anything, and only its own connection suffers.
#[test]
fn requests_that_are_no_http_harm_nobody() {
    let lamu = Lamu::start();
    let said = lamu.python_with("urls", "make_one", &[]);
    let id = said.lines().find_map(|line| line.strip_prefix("ids ")).unwrap();
    let id = id.split(' ').next().unwrap();
    let path = format!("/lambda-url/{id}/");
    let ask = |line: &str, headers: &str| {
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        lamu.raw(format!("{head}{headers}\r\n").as_bytes())
    };
    let status = |answer: &str| answer.split(' ').nth(1).unwrap_or("none").to_owned();

    let flood: String = (0..200).map(|at| format!("x-{at}: 1\r\n")).collect();
    assert_eq!(status(&ask(&format!("GET {path}"), &flood)), "431");
    let long = format!("x: {}\r\n", "a".repeat(200 * 1024));
    assert_eq!(status(&ask(&format!("GET {path}"), &long)), "431");
    for raw_path in ["%zz%", "%00%0d%0a", "..%2f..", "../../etc/passwd", "a?%ff=%fe&&=&%"] {
        let answer = ask(&format!("GET {path}{raw_path}"), "");
        assert_eq!(status(&answer), "200", "{raw_path}: {answer}");
    }
    for method in ["CONNECT", "TRACE"] {
        assert_eq!(status(&ask(&format!("{method} {path}"), "")), "400", "{method}");
    }
    let both =
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n";
    let answer = ask(&format!("POST {path}"), both);
    assert!(answer.matches("HTTP/1.1 ").count() <= 1, "one request, one answer: {answer}");
    for broken in [
        "Content-Length: -1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: nonsense\r\n",
        "x y: 1\r\n",
        "Content-Length: 5\r\n\r\nab",
    ] {
        let answer = ask(&format!("POST {path}"), broken);
        assert_ne!(status(&answer), "200", "{broken}: {answer}");
    }
    assert_eq!(status(&ask(&format!("GET {path}"), "")), "200");
    lamu.stop();
}

/// What streams through a URL, with as much bandwidth as there is.
fn streamed(scenario: &str) {
    let lamu = Lamu::start_with(&["--stream-mib-per-sec", "0"]);
    let pid = lamu.pid().to_string();
    lamu.python_with("url_streams", scenario, &[("LAMU_TEST_PID", &pid)]);
    lamu.stop();
}

macro_rules! streamed {
    ($($scenario:ident),* $(,)?) => {
        mod streamed { $(
            #[test]
            fn $scenario() {
                super::streamed(stringify!($scenario));
            }
        )* }
    };
}

streamed!(
    modes_are_configured_and_changed,
    preludes_become_heads,
    heads_and_pieces_come_at_once,
    without_a_prelude_every_byte_is_body,
    failures_before_the_first_byte_are_bad_gateways,
    failures_half_way_end_the_connection,
    answers_without_a_body_have_none,
    the_rest_is_as_for_other_urls,
    curl_shows_what_streams,
    slow_readers_slow_the_function,
    readers_that_hang_up,
);

#[test]
fn streams_have_the_rate_of_lambda() {
    let lamu = Lamu::start();
    lamu.python("url_streams", "the_rate_of_lambda");
    lamu.stop();
}

#[test]
fn stock_rust_client_streams_through_a_url() {
    let lamu = Lamu::start();
    let example = support::workspace().join("examples/stream-rust");
    lamu.lamu_ok(&["deploy", example.to_str().unwrap()]);
    lamu.python("url_streams", "stock_rust_client");
    lamu.stop();
}

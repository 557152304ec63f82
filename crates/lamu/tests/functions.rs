//! The life of a function as boto3 sees it. The scenarios are in
//! `py/functions.py`.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use support::Lamu;

scenarios!("functions":
    created_and_invoked,
    code_location_downloads_and_expires,
    log_tail_and_dry_run,
    updated_code_runs_next,
    versions_never_change,
    aliases_route_by_weight,
    reserved_concurrency_throttles,
    overlapping_calls_all_answer,
    tags_come_and_go,
    deleted_functions_are_gone,
    listed_in_pages,
    wrong_requests_get_lambdas_words,
    regions_and_accounts_are_apart,
    what_is_not_there_yet_says_so,
    logs_are_read_like_cloudwatchs,
);

#[test]
fn code_comes_from_s3() {
    let zip = std::process::Command::new(support::venv("python"))
        .args(["-c", "import io, sys, zipfile; o = io.BytesIO(); z = zipfile.ZipFile(o, 'w'); i = zipfile.ZipInfo('app.py'); i.external_attr = 0o644 << 16; z.writestr(i, 'def handler(e, c): return e'); z.close(); sys.stdout.buffer.write(o.getvalue())"])
        .output()
        .unwrap()
        .stdout;
    let s3 = FakeS3::start(zip);
    let lamu = Lamu::start_with(&["--s3-endpoint", &s3.endpoint]);
    lamu.python("functions", "code_comes_from_s3");
    lamu.stop();
}

/// Serves one object of one bucket, by path, to any caller.
struct FakeS3 {
    endpoint: String,
}

impl FakeS3 {
    fn start(object: Vec<u8>) -> FakeS3 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let (status, body) = if head.starts_with("GET /code/a%20b/f.zip") {
                    ("200 OK", object.clone())
                } else {
                    let text = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>";
                    ("404 Not Found", text.as_bytes().to_vec())
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.write_all(&body);
            }
        });
        FakeS3 { endpoint }
    }
}

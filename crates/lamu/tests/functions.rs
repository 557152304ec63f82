//! The life of a function as boto3 sees it. The scenarios are in
//! `py/functions.py`.

mod support;

use support::Lamu;
use support::s3::FakeS3;

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

//! Layers as boto3, the aws CLI and our own verbs see them, and as a function
//! finds them in `/opt`. The scenarios are in `py/layers.py`.

mod support;

use std::process::Command;

use serde_json::Value;
use support::s3::FakeS3;
use support::{Lamu, said};

scenarios!("layers":
    published_read_and_deleted,
    listed_by_what_fits_in_pages,
    laid_over_each_other_in_order,
    python_and_node_find_their_modules,
    a_layer_brings_the_runtime_or_wraps_it,
    wrong_layers_get_lambdas_words,
    code_and_layers_share_one_limit,
    a_change_of_layers_is_a_change,
    links_lead_nowhere_they_should_not,
);

#[test]
fn a_deleted_layer_stays_with_its_functions_and_survives_a_kill() {
    let dir = tempfile::Builder::new().prefix("lamu-layers.").tempdir().unwrap();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("layers", "deleted_and_still_used");
    let trace = lamu.kill();
    trace.must_be_gone();
    // What a function has of its layers is unpacked anew from the store.
    std::fs::remove_dir_all(dir.path().join("data/worker/packages")).unwrap();
    let lamu = Lamu::start_in(dir.path(), &[]);
    lamu.python("layers", "used_after_the_kill");
    lamu.stop();
}

#[test]
fn layers_come_from_s3() {
    let zip = lamu_zip("print('from s3')");
    let s3 = FakeS3::start(zip);
    let lamu = Lamu::start_with(&["--s3-endpoint", &s3.endpoint]);
    lamu.python("layers", "published_from_s3");
    lamu.stop();
}

#[test]
fn without_root_layers_lie_over_each_other_too() {
    if !support::read(std::path::Path::new("/proc/self/status"))
        .lines()
        .any(|line| line.starts_with("Uid:\t0\t"))
    {
        eprintln!("skipped: the other tests run without root already");
        return;
    }
    let dir = tempfile::Builder::new().prefix("lamu-rootless.").tempdir_in("/tmp").unwrap();
    let program = dir.path().join("lamu");
    std::fs::copy(env!("CARGO_BIN_EXE_lamu"), &program).unwrap();
    let own = Command::new("chown").args(["-R", "65534:65534"]).arg(dir.path()).status().unwrap();
    assert!(own.success());
    let lamu = Lamu::start_as_nobody(&program, dir.path());
    lamu.python("layers", "laid_over_each_other_in_order");
    lamu.stop();
}

#[test]
fn the_aws_cli_and_our_verbs_use_layers() {
    let lamu = Lamu::start();
    let dir = tempfile::tempdir().unwrap();
    let zip = dir.path().join("layer.zip");
    std::fs::write(&zip, lamu_zip("GREETING = 'from the layer'\n")).unwrap();
    let zip = format!("fileb://{}", zip.display());
    let json = |text: String| -> Value { serde_json::from_str(&text).unwrap() };
    let publish = |description: &str| {
        json(lamu.aws(&[
            "lambda",
            "publish-layer-version",
            "--layer-name",
            "greetings",
            "--zip-file",
            &zip,
            "--description",
            description,
            "--compatible-runtimes",
            "python3.12",
            "python3.13",
            "--compatible-architectures",
            "x86_64",
        ]))
    };
    let first = publish("first");
    assert_eq!(first["Version"], 1);
    let second = publish("second");
    assert_eq!(second["CompatibleRuntimes"], serde_json::json!(["python3.12", "python3.13"]));
    let arn = second["LayerVersionArn"].as_str().unwrap();

    let listed = json(lamu.aws(&["lambda", "list-layers", "--compatible-runtime", "python3.12"]));
    assert_eq!(listed["Layers"][0]["LayerName"], "greetings");
    assert_eq!(listed["Layers"][0]["LatestMatchingVersion"]["Description"], "second");
    let versions = json(lamu.aws(&["lambda", "list-layer-versions", "--layer-name", "greetings"]));
    assert_eq!(versions["LayerVersions"].as_array().unwrap().len(), 2);
    let one = json(lamu.aws(&["lambda", "get-layer-version-by-arn", "--arn", arn]));
    assert_eq!(one["Description"], "second");
    let delete =
        ["lambda", "delete-layer-version", "--layer-name", "greetings", "--version-number", "1"];
    lamu.aws(&delete);
    lamu.aws(&delete);

    let code = dir.path().join("hello");
    std::fs::create_dir(&code).unwrap();
    let app = "import app\ndef handler(event, context):\n    return app.GREETING\n";
    std::fs::write(code.join("main.py"), app).unwrap();
    let deploy = |layer: &[&str]| {
        let path = code.to_str().unwrap();
        let mut arguments = vec!["deploy", path, "--handler", "main.handler"];
        arguments.extend(layer);
        let output = lamu.lamu(&arguments);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    deploy(&["--layer", arn]);
    assert_eq!(lamu.lamu_ok(&["invoke", "hello"]).trim(), "\"from the layer\"");
    assert!(deploy(&["--layer", arn]).contains("nothing has changed"));
    assert!(deploy(&[]).contains("nothing has changed"), "layers that are not named stay");
    let third = publish("third");
    let changed = deploy(&["--layer", third["LayerVersionArn"].as_str().unwrap()]);
    assert!(changed.contains("updated Layers"), "{changed}");
    lamu.stop();
}

/// A zip with `python/app.py`.
fn lamu_zip(text: &str) -> Vec<u8> {
    let script = "import io, sys, zipfile; o = io.BytesIO(); z = zipfile.ZipFile(o, 'w'); i = zipfile.ZipInfo('python/app.py'); i.external_attr = 0o644 << 16; z.writestr(i, sys.argv[1]); z.close(); sys.stdout.buffer.write(o.getvalue())";
    let output = Command::new(support::venv("python")).args(["-c", script, text]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    output.stdout
}

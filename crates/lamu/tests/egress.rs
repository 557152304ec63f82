//! Endpoints that the operator configured are reached from inside, by the SDKs
//! that functions bring, and nothing else is.

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use support::{Lamu, here, venv};

scenarios!("egress":
    nothing_is_reached_by_default,
);

/// moto's S3 on a free port. Ends with its standard input, or when dropped.
struct S3 {
    child: Child,
    port: String,
}

impl S3 {
    fn start() -> S3 {
        let mut child = Command::new(venv("python"))
            .arg(here().join("tests/py/s3_server.py"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let number = |line: &String| line.trim().parse::<u16>().is_ok();
        let port = lines.map_while(Result::ok).find(number).expect("the S3 server's port");
        S3 { child, port: port.trim().to_owned() }
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn functions_use_s3_through_an_unchanged_url() {
    let s3 = S3::start();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let other_port = other.local_addr().unwrap().port().to_string();
    let dir = tempfile::Builder::new().prefix("lamu-test.").tempdir().unwrap();
    let config = dir.path().join("lamu.toml");
    let text = format!(
        "function_access_key_id = 'for-functions'\n\
         function_secret_access_key = 'secret'\n\
         [[egress]]\nurl = 'http://127.0.0.1:{}'\nservice = 's3'\n",
        s3.port
    );
    std::fs::write(&config, text).unwrap();
    let lamu = Lamu::start_in(dir.path(), &["--config", config.to_str().unwrap()]);
    let environment =
        [("LAMU_TEST_S3_PORT", s3.port.as_str()), ("LAMU_TEST_OTHER_PORT", other_port.as_str())];
    lamu.python_with("egress", "functions_use_s3_through_an_unchanged_url", &environment);
    lamu.stop();
}

#[test]
fn functions_invoke_functions() {
    let lamu = Lamu::start_with(&["--egress", "lambda=self"]);
    lamu.python("egress", "functions_invoke_functions");
    lamu.stop();
}

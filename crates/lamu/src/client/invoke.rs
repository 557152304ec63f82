//! `lamu invoke`: one synchronous call.
//!
//! Not here: reading the log later (`logs`).

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::cli::Invoke;
use crate::client::Connection;
use crate::client::connection::{Ask, segment};

/// The response on stdout, everything else on stderr.
pub fn invoke(invoke: &Invoke) -> anyhow::Result<ExitCode> {
    let connection = Connection::new(&invoke.target);
    let mut path = format!("/2015-03-31/functions/{}/invocations", segment(&invoke.name));
    if let Some(qualifier) = &invoke.qualifier {
        path.push_str("?Qualifier=");
        path.push_str(&segment(qualifier));
    }
    let mut headers = vec![("content-type", "application/json".to_owned())];
    if invoke.tail {
        headers.push(("x-amz-log-type", "Tail".to_owned()));
    }
    let body = payload(&invoke.payload)?;
    let answer = connection.ask(Ask { method: "POST", path, headers, body, service: "lambda" })?;

    if let Some(tail) = answer.header("x-amz-log-result") {
        let tail = BASE64.decode(tail).context("read the log tail")?;
        let text = String::from_utf8_lossy(&tail);
        eprintln!("{}", text.trim_end_matches('\n'));
    }
    if invoke.timeline {
        match answer.header("server-timing") {
            Some(timing) => eprint!("{}", timeline(timing)),
            None => eprintln!("the endpoint tells no timeline"),
        }
    }
    let failed = answer.header("x-amz-function-error").is_some();
    if failed {
        eprintln!("{}", String::from_utf8_lossy(&answer.body));
        return Ok(ExitCode::FAILURE);
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&answer.body)?;
    if !answer.body.ends_with(b"\n") {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn payload(argument: &str) -> anyhow::Result<Vec<u8>> {
    if argument == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("read the event from stdin")?;
        return Ok(bytes);
    }
    match argument.strip_prefix('@') {
        Some(file) => std::fs::read(file).with_context(|| format!("read the event from {file}")),
        None if argument.is_empty() => bail!("the event is empty; leave it out to send {{}}"),
        None => Ok(argument.as_bytes().to_vec()),
    }
}

/// A `Server-Timing` header as lines of phase and milliseconds.
fn timeline(header: &str) -> String {
    let mut lines = String::new();
    for metric in header.split(',') {
        let mut fields = metric.split(';').map(str::trim);
        let name = fields.next().unwrap_or_default();
        let fields: Vec<(&str, &str)> = fields.filter_map(|field| field.split_once('=')).collect();
        let of = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let description = of("desc").map(|text| text.trim_matches('"'));
        match of("dur").and_then(|text| text.parse::<f64>().ok()) {
            Some(ms) => lines.push_str(&format!("{name:<10}{ms:>10.3} ms\n")),
            None => lines.push_str(&format!("{name:<10}{:>10}\n", description.unwrap_or_default())),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_is_a_line_per_phase() {
        let header = "start;desc=\"cold\", placed;dur=0.1, sandbox;dur=1.25, total;dur=12";
        assert_eq!(
            timeline(header),
            "start           cold\nplaced         0.100 ms\nsandbox        1.250 ms\ntotal         12.000 ms\n"
        );
    }

    #[test]
    fn an_event_may_come_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("event.json");
        std::fs::write(&file, "{\"a\":1}").unwrap();
        assert_eq!(payload(&format!("@{}", file.display())).unwrap(), b"{\"a\":1}");
        assert!(payload("@/does/not/exist").is_err());
    }
}

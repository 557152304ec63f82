//! One line of JSON for each request that was answered, appended to a file
//! when the operator names one.
//!
//! A line is one write, made before the answer goes out: what a client has
//! seen is in the file even if the next thing is a kill. Several processes may
//! append to the same file.
//!
//! Not here: counters (`stats`), lamu's own log lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use http::header::{HeaderMap, USER_AGENT};
use serde::Serialize;

use crate::stats::Counted;

/// Of what a client says about itself; SDKs say up to some 300 characters.
const AGENT_CHARS_MAX: usize = 500;

#[derive(Debug)]
pub struct AccessLog {
    file: File,
    /// A disk that is full is said once, not with every request.
    failed: AtomicBool,
}

/// What a line says of a request.
#[derive(Debug)]
pub struct Request {
    pub at: DateTime<Utc>,
    agent: String,
    /// Of a request to CloudWatch Logs.
    target: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request: &'a str,
    operation: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    agent: &'a str,
    took_ms: f64,
}

impl Request {
    pub fn of(headers: &HeaderMap, at: DateTime<Utc>) -> Request {
        let text = |name: &str| {
            let text = String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned();
            Some(text.chars().take(AGENT_CHARS_MAX).collect::<String>())
        };
        let target = text("x-amz-target");
        Request { at, agent: text(USER_AGENT.as_str()).unwrap_or_default(), target }
    }
}

impl AccessLog {
    pub fn open(path: &Path) -> io::Result<AccessLog> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(AccessLog { file, failed: AtomicBool::new(false) })
    }

    pub fn write(
        &self,
        request: &Request,
        id: &str,
        counted: Counted,
        status: u16,
        error: Option<&str>,
        took: Duration,
    ) {
        let operation = operation(counted, request.target.as_deref());
        let line = Line {
            time: request.at.to_rfc3339_opts(SecondsFormat::Millis, true),
            request: id,
            operation: &operation,
            status,
            error,
            agent: &request.agent,
            took_ms: took.as_secs_f64() * 1_000.0,
        };
        let written = serde_json::to_vec(&line).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            (&self.file).write_all(&line)
        });
        if let Err(error) = written
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            tracing::error!(%error, "could not write the access log; this is said once");
        }
    }
}

/// `CreateFunction`, `logs:FilterLogEvents`, or `-` for what is neither.
fn operation(counted: Counted, target: Option<&str>) -> String {
    match (counted, target) {
        (Counted::Lambda(operation), _) => operation.name().to_owned(),
        (Counted::Logs, Some(target)) => {
            format!("logs:{}", target.rsplit('.').next().unwrap_or_default())
        }
        (Counted::Url, _) => "FunctionUrl".to_owned(),
        (Counted::Logs, None) | (Counted::Other, _) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use lamu_api::Operation;
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_request_is_one_line_whatever_its_client_says_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access");
        let agents: [&[u8]; 4] = [b"Boto3/1.40", b"a \"quote\"", b"\xff\xfe", &[b'x'; 5_000]];
        for agent in agents {
            // Each on a file of its own: one process after the other.
            let log = AccessLog::open(&path).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, agent.try_into().unwrap());
            let request = Request::of(&headers, DateTime::UNIX_EPOCH);
            let counted = Counted::Lambda(Operation::GetFunction);
            let error = Some("ResourceNotFoundException");
            log.write(&request, "id", counted, 404, error, Duration::from_micros(1_500));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 4);
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:00.000Z",
            "request": "id",
            "operation": "GetFunction",
            "status": 404,
            "error": "ResourceNotFoundException",
            "agent": "Boto3/1.40",
            "took_ms": 1.5,
        });
        assert_eq!(lines[0], expected);
        assert_eq!(lines[1]["agent"], "a \"quote\"");
        assert_eq!(lines[3]["agent"].as_str().unwrap().len(), AGENT_CHARS_MAX);
    }

    #[test]
    fn requests_to_the_logs_name_their_operation() {
        let of = |counted, target| operation(counted, target);
        assert_eq!(
            of(Counted::Logs, Some("Logs_20140328.FilterLogEvents")),
            "logs:FilterLogEvents"
        );
        assert_eq!(of(Counted::Lambda(Operation::Invoke), Some("x.y")), "Invoke");
        assert_eq!(of(Counted::Other, None), "-");
    }
}

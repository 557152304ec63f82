//! `lamu logs`: what a function wrote, read the way CloudWatch Logs is read.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cli::Logs;
use crate::client::connection::{Ask, segment};
use crate::client::{Connection, Refused};

const TARGET: &str = "Logs_20140328.FilterLogEvents";
const POLL: Duration = Duration::from_millis(500);
/// Events may be written a little out of order; looking back this far finds
/// the late ones, and remembering ids drops those already printed.
const LATE_MS: u64 = 5_000;

/// Prints events in order, oldest first.
pub fn logs(logs: &Logs) -> anyhow::Result<()> {
    let connection = Connection::new(&logs.target);
    let mut from_ms = match &logs.since {
        None => 0,
        Some(age) => now_ms().saturating_sub(parse_age(age)?),
    };
    let group = group_of(&connection, &logs.name)?;
    let mut printed: HashMap<String, u64> = HashMap::new();
    let mut stdout = std::io::stdout();
    loop {
        let mut token: Option<String> = None;
        loop {
            let page = match page(&connection, &group, from_ms, token.as_deref()) {
                Ok(page) => page,
                Err(error) if is_missing(&error) => {
                    if !logs.follow {
                        eprintln!("{group} holds nothing yet");
                    }
                    Value::Null
                }
                Err(error) => return Err(error),
            };
            for event in page["events"].as_array().into_iter().flatten() {
                let time_ms = event["timestamp"].as_u64().unwrap_or_default();
                let id = event["eventId"].as_str().unwrap_or_default().to_owned();
                if printed.insert(id, time_ms).is_none() {
                    let message = event["message"].as_str().unwrap_or_default();
                    writeln!(stdout, "{}", message.trim_end_matches('\n'))?;
                }
            }
            token = page["nextToken"].as_str().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        stdout.flush()?;
        if !logs.follow {
            return Ok(());
        }
        if let Some(last_ms) = printed.values().copied().max() {
            from_ms = from_ms.max(last_ms.saturating_sub(LATE_MS));
            printed.retain(|_, time_ms| *time_ms >= from_ms);
        }
        std::thread::sleep(POLL);
    }
}

/// The group the function logs to; its default when the function is gone.
fn group_of(connection: &Connection, name: &str) -> anyhow::Result<String> {
    let path = format!("/2015-03-31/functions/{}/configuration", segment(name));
    match connection.ask(Ask::get(path)) {
        Ok(answer) => {
            let configuration = answer.json()?;
            let group = configuration["LoggingConfig"]["LogGroup"].as_str();
            Ok(group.map_or_else(|| format!("/aws/lambda/{name}"), str::to_owned))
        }
        Err(error) if error.downcast_ref::<Refused>().is_some_and(|r| r.status == 404) => {
            Ok(format!("/aws/lambda/{name}"))
        }
        Err(error) => Err(error),
    }
}

fn page(
    connection: &Connection,
    group: &str,
    from_ms: u64,
    token: Option<&str>,
) -> anyhow::Result<Value> {
    let mut body = json!({"logGroupName": group, "startTime": from_ms});
    if let Some(token) = token {
        body["nextToken"] = token.into();
    }
    let headers = vec![
        ("content-type", "application/x-amz-json-1.1".to_owned()),
        ("x-amz-target", TARGET.to_owned()),
    ];
    let ask = Ask {
        method: "POST",
        path: "/".to_owned(),
        headers,
        body: body.to_string().into_bytes(),
        service: "logs",
    };
    connection.ask(ask)?.json()
}

fn is_missing(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.code.ends_with("ResourceNotFoundException"))
}

/// Milliseconds of `30s`, `10m`, `2h`, `7d`.
fn parse_age(text: &str) -> anyhow::Result<u64> {
    let Some((unit_at, unit)) = text.char_indices().last() else { bail!("--since is empty") };
    let unit_ms = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => bail!("--since {text}: ends in none of s, m, h, d"),
    };
    let count: u64 =
        text[..unit_at].parse().with_context(|| format!("--since {text}: not a number"))?;
    count.checked_mul(unit_ms).with_context(|| format!("--since {text}: too long ago"))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_a_number_and_a_unit() {
        assert_eq!(parse_age("30s").unwrap(), 30_000);
        assert_eq!(parse_age("7d").unwrap(), 7 * 86_400_000);
        for bad in ["", "10", "m", "-5m", "5w"] {
            assert!(parse_age(bad).is_err(), "{bad}");
        }
    }
}

//! What an extension asks of the Telemetry or the Logs API: the body of its
//! subscription, checked.
//!
//! Rules: "Telemetry and Logs API" of the execution environment reference.
//! Not here: delivery (`sink`).

use std::time::Duration;

use lamu_guest::{TelemetryApi, TelemetryTypes};

use crate::value::Json;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub types: TelemetryTypes,
    pub destination: Destination,
    pub items_max: usize,
    pub bytes_max: usize,
    pub timeout: Duration,
    /// The Logs API's first schema, which has no `platform.runtimeDone`.
    pub first_schema: bool,
}

/// Where to, always on this sandbox's loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Http { port: u16, path: String, method: &'static str },
    Tcp { port: u16 },
}

impl Destination {
    pub fn port(&self) -> u16 {
        match self {
            Destination::Http { port, .. } | Destination::Tcp { port } => *port,
        }
    }
}

const FIRST_SCHEMA: &str = "2020-08-15";

/// Everything that is wrong, in one text.
pub fn parse(api: TelemetryApi, body: &[u8]) -> Result<Subscription, String> {
    let json = Json::parse(body).filter(|json| json.is_object());
    let Some(json) = json else { return Err("failed to parse JSON".to_owned()) };
    let mut faults = Vec::new();

    let versions: &[&str] = match api {
        TelemetryApi::Telemetry => &["2022-12-13", "2022-07-01", "2025-01-29"],
        TelemetryApi::Logs => &[FIRST_SCHEMA, "2021-03-18"],
    };
    let version = json.get("schemaVersion").and_then(Json::text).unwrap_or_default();
    if !versions.contains(&version.as_ref()) {
        faults.push(format!("schemaVersion should be one of [{}]", versions.join(", ")));
    }
    let types = parse_types(json, &mut faults);
    let buffering = json.get("buffering").filter(|json| json.bytes() != b"null");
    let mut buffer = |name: &str, min: i64, max: i64, default: i64| {
        let Some(value) = buffering.and_then(|json| json.get(name)) else { return default };
        match value.integer() {
            Some(value) if (min..=max).contains(&value) => value,
            _ => {
                faults.push(format!("{name} should be an integer between {min} and {max}"));
                default
            }
        }
    };
    let items_max = buffer("maxItems", 1_000, 10_000, 10_000) as usize;
    let bytes_max = buffer("maxBytes", 262_144, 1_048_576, 262_144) as usize;
    let timeout = Duration::from_millis(buffer("timeoutMs", 25, 30_000, 1_000) as u64);
    let destination = parse_destination(json, &mut faults);

    let Some(destination) = destination.filter(|_| faults.is_empty()) else {
        return Err(faults.join("; "));
    };
    let first_schema = version == FIRST_SCHEMA;
    Ok(Subscription { types, destination, items_max, bytes_max, timeout, first_schema })
}

fn parse_types(json: Json<'_>, faults: &mut Vec<String>) -> TelemetryTypes {
    let mut types = TelemetryTypes::default();
    let items = json.get("types").and_then(Json::items).unwrap_or_default();
    if items.is_empty() {
        faults.push("types should not be empty".to_owned());
    }
    for item in items {
        match item.text().as_deref() {
            Some("platform") => types.platform = true,
            Some("function") => types.function = true,
            Some("extension") => types.extension = true,
            _ => {
                faults.push("types should be of [platform, function, extension]".to_owned());
                break;
            }
        }
    }
    types
}

fn parse_destination(json: Json<'_>, faults: &mut Vec<String>) -> Option<Destination> {
    let mut fault = |text: &str| {
        faults.push(text.to_owned());
        None
    };
    let Some(destination) = json.get("destination").filter(|json| json.is_object()) else {
        return fault("destination is not provided");
    };
    match destination.get("protocol").and_then(Json::text).as_deref() {
        Some("TCP") => match destination.get("port").and_then(Json::integer) {
            Some(port @ 1..=65_535) => Some(Destination::Tcp { port: port as u16 }),
            _ => fault("port should be an integer between 1 and 65535"),
        },
        Some("HTTP") => {
            let method = match destination.get("method").and_then(Json::text).as_deref() {
                None | Some("POST") => "POST",
                Some("PUT") => "PUT",
                Some(_) => return fault("method should be one of [POST, PUT]"),
            };
            if destination
                .get("encoding")
                .is_some_and(|json| json.text().as_deref() != Some("JSON"))
            {
                return fault("encoding should be JSON");
            }
            let Some(uri) = destination.get("URI").and_then(Json::text) else {
                return fault("URI is not provided");
            };
            match parse_uri(&uri) {
                Ok((port, path)) => Some(Destination::Http { port, path, method }),
                Err(text) => fault(text),
            }
        }
        _ => fault("protocol should be one of [HTTP, TCP]"),
    }
}

fn parse_uri(uri: &str) -> Result<(u16, String), &'static str> {
    // What could end the request line, or begin another.
    if !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("URI is not valid");
    }
    let scheme = uri.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let rest = &uri[scheme.ok_or("URI scheme should be http")?.len()..];
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if !["sandbox.localdomain", "sandbox"].iter().any(|name| host.eq_ignore_ascii_case(name)) {
        return Err("URI host should be sandbox.localdomain");
    }
    let port = port.filter(|port| !port.is_empty()).ok_or("URI port is not provided")?;
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|&port: &u16| port != 0 && digits);
    let port = port.ok_or("URI port is not valid")?;
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((port, path))
}

impl Subscription {
    pub fn is_tcp(&self) -> bool {
        matches!(self.destination, Destination::Tcp { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: &str = r#"{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080"}"#;

    fn subscribe(version: &str, rest: &str) -> Result<Subscription, String> {
        let api = if version < "2022" { TelemetryApi::Logs } else { TelemetryApi::Telemetry };
        parse(api, format!("{{\"schemaVersion\":\"{version}\",{rest}}}").as_bytes())
    }

    fn destination(json: &str) -> Result<Destination, String> {
        let rest = format!("\"types\":[\"function\"],\"destination\":{json}");
        subscribe("2022-12-13", &rest).map(|subscription| subscription.destination)
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let rest = format!("\"types\":[\"platform\",\"extension\"],\"destination\":{HTTP}");
        let path = "/".to_owned();
        let expected = Subscription {
            types: TelemetryTypes { platform: true, function: false, extension: true },
            destination: Destination::Http { port: 8080, path, method: "POST" },
            items_max: 10_000,
            bytes_max: 262_144,
            timeout: Duration::from_secs(1),
            first_schema: false,
        };
        assert_eq!(subscribe("2022-07-01", &rest), Ok(expected.clone()));
        let with = format!("{rest},\"buffering\":{{\"maxItems\":1000,\"timeoutMs\":25}}");
        let timeout = Duration::from_millis(25);
        let expected = Subscription { items_max: 1_000, timeout, ..expected };
        assert_eq!(subscribe("2022-12-13", &with), Ok(expected));
        assert!(subscribe("2020-08-15", &rest).unwrap().first_schema);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let body =
            br#"{"types":[],"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain"}}"#;
        let text = parse(TelemetryApi::Telemetry, body).unwrap_err();
        assert_eq!(
            text,
            "schemaVersion should be one of [2022-12-13, 2022-07-01, 2025-01-29]; types should not be empty; URI port is not provided"
        );
        assert_eq!(parse(TelemetryApi::Logs, b"[]").unwrap_err(), "failed to parse JSON");
    }

    #[test]
    fn limits_hold_at_their_edges() {
        for (name, min, max) in [
            ("maxItems", 1_000, 10_000),
            ("maxBytes", 262_144, 1_048_576),
            ("timeoutMs", 25, 30_000),
        ] {
            for (value, good) in [(min, true), (max, true), (min - 1, false), (max + 1, false)] {
                let rest = format!(
                    "\"types\":[\"function\"],\"destination\":{HTTP},\"buffering\":{{\"{name}\":{value}}}"
                );
                assert_eq!(subscribe("2022-12-13", &rest).is_ok(), good, "{name} {value}");
            }
        }
    }

    #[test]
    fn destinations_are_inside_the_sandbox() {
        let http = |uri: &str| destination(&format!(r#"{{"protocol":"HTTP","URI":"{uri}"}}"#));
        let path = "/a?b=c".to_owned();
        assert_eq!(
            http("HTTP://SANDBOX:1234/a?b=c#d"),
            Ok(Destination::Http { port: 1234, path, method: "POST" })
        );
        for (uri, expected) in [
            ("http://example.com:80", "URI host should be sandbox.localdomain"),
            ("http://sandbox.localdomain@example.com:80", "URI host should be sandbox.localdomain"),
            ("http://localhost:80", "URI host should be sandbox.localdomain"),
            ("https://sandbox.localdomain:80", "URI scheme should be http"),
            ("http://sandbox.localdomain:0", "URI port is not valid"),
            ("http://sandbox.localdomain:+80", "URI port is not valid"),
            ("http://sandbox.localdomain:65536", "URI port is not valid"),
            ("http://sandbox.localdomain:80/ HTTP/1.1\\r\\nX: y", "URI is not valid"),
            ("", "URI scheme should be http"),
        ] {
            assert_eq!(http(uri), Err(expected.to_owned()), "{uri}");
        }
        assert_eq!(
            destination(r#"{"protocol":"TCP","port":8081}"#),
            Ok(Destination::Tcp { port: 8081 })
        );
        for json in [
            "1",
            "{}",
            r#"{"protocol":"UDP","port":1}"#,
            r#"{"protocol":"TCP","port":0}"#,
            r#"{"protocol":"HTTP"}"#,
            r#"{"protocol":"HTTP","URI":"http://sandbox:1","method":"GET"}"#,
        ] {
            assert!(destination(json).is_err(), "{json}");
        }
    }
}

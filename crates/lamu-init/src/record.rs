//! Records of output as subscribers get them.
//!
//! Not here: platform events, which the host words.

use lamu_guest::LogSource;

use crate::value::{Json, push_text};

/// One event. Where the log format is JSON, a line that is an object is the
/// record itself.
pub fn of_output(source: LogSource, time_ms: u64, record: &[u8], json_format: bool) -> Vec<u8> {
    let kind = match source {
        LogSource::Function => "function",
        LogSource::Extension => "extension",
    };
    let mut out = Vec::with_capacity(record.len() + 96);
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(timestamp(time_ms).as_bytes());
    out.extend_from_slice(b"\",\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"record\":");
    match Json::parse(record).filter(|json| json_format && json.is_object()) {
        Some(json) => out.extend_from_slice(json.bytes()),
        None => push_text(&mut out, &String::from_utf8_lossy(record)),
    }
    out.push(b'}');
    out
}

/// That records were lost on their way to a subscriber.
pub fn of_loss(time_ms: u64, records: u64, bytes: u64) -> Vec<u8> {
    format!(
        "{{\"time\":\"{}\",\"type\":\"platform.logsDropped\",\"record\":{{\
         \"reason\":\"Some logs were dropped because the downstream consumer is slower than the \
         logs production rate\",\"droppedRecords\":{records},\"droppedBytes\":{bytes}}}}}",
        timestamp(time_ms),
    )
    .into_bytes()
}

/// `2026-11-03T09:15:30.123Z`.
fn timestamp(time_ms: u64) -> String {
    let (days, of_day) = (time_ms / 86_400_000, time_ms % 86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, ms) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of the Gregorian calendar, from days since 1970. Years
/// begin in March here, so that a leap day is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = days + DAYS_BEFORE_1970;
    let (cycle, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(record: &[u8], json_format: bool) -> String {
        let bytes = of_output(LogSource::Function, 0, record, json_format);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_793_700_930_123, "2026-11-03T10:15:30.123Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(ms), expected);
        }
    }

    #[test]
    fn a_line_is_a_string_and_an_object_is_itself_where_logs_are_json() {
        let object = br#"{"level":"INFO"}"#;
        assert!(text(object, true).ends_with(r#""record":{"level":"INFO"}}"#));
        assert!(text(object, false).ends_with(r#""record":"{\"level\":\"INFO\"}"}"#));
        for odd in [&b"{broken"[..], b"[1]", b"\xff\x00", b"", b"a\"b"] {
            let event = text(odd, true);
            let json = Json::parse(event.as_bytes()).expect("valid");
            assert!(json.get("record").unwrap().text().is_some(), "{event}");
        }
        assert!(Json::parse(&of_loss(5, 1, 2)).is_some());
    }
}

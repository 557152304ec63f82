//! The event of an invocation: whether its bytes are JSON, and the words for
//! bytes that are not.
//!
//! The bytes are walked, not built into a tree; the function gets them as they
//! came. The words are those of the service's parser as far as they are known
//! ("Invoke" of the invocation reference).

use bytes::Bytes;
use serde::de::IgnoredAny;

/// What an absent event becomes.
const EMPTY: Bytes = Bytes::from_static(b"{}");

const EXPECTED: &str = "expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')";

/// The event that the function gets, or the message of the refusal.
pub fn check(payload: Bytes) -> Result<Bytes, String> {
    if payload.is_empty() {
        return Ok(EMPTY);
    }
    match read(&payload) {
        Ok(()) => Ok(payload),
        Err((text, line, column)) => Err(format!(
            "Could not parse request body into json: Could not parse payload into json: {text}\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {line}, column: {column}]"
        )),
    }
}

fn read(payload: &[u8]) -> Result<(), (String, usize, usize)> {
    let text = std::str::from_utf8(payload).map_err(|error| {
        let at = error.valid_up_to();
        let (line, column) = position(payload, at);
        (format!("Invalid UTF-8 start byte 0x{:x}", payload[at]), line, column)
    })?;
    serde_json::from_str::<IgnoredAny>(text).map(|_| ()).map_err(|error| {
        // Columns count from one; 0 is the end of the line before.
        let (line, column) = (error.line(), error.column().max(1));
        if error.is_eof() {
            return ("Unexpected end-of-input".to_owned(), line, column);
        }
        let line_text = payload.split(|byte| *byte == b'\n').nth(line.saturating_sub(1));
        let rest = line_text.and_then(|text| text.get(column - 1..)).unwrap_or_default();
        (unexpected(rest), line, column)
    })
}

/// What the parser says about the bytes it stopped at.
fn unexpected(rest: &[u8]) -> String {
    let word: Vec<u8> =
        rest.iter().copied().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').collect();
    if word.first().is_some_and(u8::is_ascii_alphabetic) {
        let word: String = word.iter().take(256).map(|b| *b as char).collect();
        return format!("Unrecognized token '{word}': was {EXPECTED}")
            .replace("was expected a valid value", "was expecting");
    }
    match std::str::from_utf8(rest).ok().and_then(|rest| rest.chars().next()) {
        None => format!("Unexpected character: {EXPECTED}"),
        Some(c) if c.is_control() => {
            format!("Unexpected character ((CTRL-CHAR, code {})): {EXPECTED}", c as u32)
        }
        Some(c) => format!("Unexpected character ('{c}' (code {})): {EXPECTED}", c as u32),
    }
}

fn position(payload: &[u8], at: usize) -> (usize, usize) {
    let before = &payload[..at];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (line, at - begin + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(payload: &'static [u8]) -> String {
        check(Bytes::from_static(payload)).unwrap_err()
    }

    #[test]
    fn any_json_value_passes_unchanged() {
        for payload in ["{}", "null", "1", "\"x\"", " [1, 2] ", "true", "\"\\ud800\"", "1e999"] {
            let payload = Bytes::from_static(payload.as_bytes());
            assert_eq!(check(payload.clone()).as_ref(), Ok(&payload));
        }
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert!(check(Bytes::from(deep)).is_ok(), "depth costs no stack");
    }

    #[test]
    fn no_event_is_an_empty_object() {
        assert_eq!(check(Bytes::new()).unwrap(), "{}");
    }

    #[test]
    fn what_is_no_json_is_pointed_at() {
        let frame = "Could not parse request body into json: Could not parse payload into json: ";
        for (payload, text, place) in [
            (&b"{\x87"[..], "Invalid UTF-8 start byte 0x87", "line: 1, column: 2]"),
            (
                b"hello",
                "Unrecognized token 'hello': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
                "line: 1, column: 1]",
            ),
            (
                b"{\n \"a\": ?}",
                "Unexpected character ('?' (code 63)): expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
                "line: 2, column: 7]",
            ),
            (b"{\"a\":", "Unexpected end-of-input", "line: 1, column: 5]"),
            (
                b"{\"a\": \x01}",
                "Unexpected character ((CTRL-CHAR, code 1)): expected a valid",
                "line: 1, column: 7]",
            ),
        ] {
            let refused = refusal(payload);
            assert!(refused.starts_with(&format!("{frame}{text}")), "{refused}");
            assert!(refused.ends_with(place), "{refused}");
            assert!(refused.contains("\n at [Source: REDACTED (`StreamReadFeature."), "{refused}");
        }
    }

    #[test]
    fn two_values_are_one_too_many() {
        assert!(refusal(b"{} {}").contains("Unexpected character"));
    }
}

//! JSON that extensions and runtimes send, read without making anything of it:
//! a text is checked once, strictly, and its parts are looked at where they
//! lie.
//!
//! Not here: what is done with it (`telemetry`, `json`).

use std::borrow::Cow;

/// Deeper nesting than any request or log record has.
const DEPTH_MAX: usize = 64;

/// A piece of valid JSON, without the space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(&'a [u8]);

impl<'a> Json<'a> {
    /// `None` unless the whole text is one valid value.
    pub fn parse(text: &'a [u8]) -> Option<Json<'a>> {
        std::str::from_utf8(text).ok()?;
        let mut at = Cursor { text, at: 0 };
        at.space();
        let value = at.value(0)?;
        at.space();
        (at.at == text.len()).then_some(value)
    }

    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub fn is_object(self) -> bool {
        self.0.first() == Some(&b'{')
    }

    /// A member of an object. Of several with one name the last counts.
    pub fn get(self, name: &str) -> Option<Json<'a>> {
        if !self.is_object() {
            return None;
        }
        let mut at = Cursor { text: self.0, at: 1 };
        let mut found = None;
        loop {
            at.space();
            if at.peek() != Some(b'"') {
                return found;
            }
            let key = Json(at.string()?).text()?;
            at.space();
            at.take(b':')?;
            at.space();
            let value = at.value(0)?;
            if key == name {
                found = Some(value);
            }
            at.space();
            at.take(b',');
        }
    }

    pub fn items(self) -> Option<Vec<Json<'a>>> {
        let mut at = Cursor { text: self.0, at: 0 };
        at.take(b'[')?;
        let mut items = Vec::new();
        loop {
            at.space();
            if at.peek() == Some(b']') {
                return Some(items);
            }
            items.push(at.value(0)?);
            at.space();
            at.take(b',');
        }
    }

    pub fn text(self) -> Option<Cow<'a, str>> {
        let inside = self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let text = std::str::from_utf8(inside).ok()?;
        if !text.contains('\\') {
            return Some(Cow::Borrowed(text));
        }
        unescape(text).map(Cow::Owned)
    }

    pub fn integer(self) -> Option<i64> {
        std::str::from_utf8(self.0).ok()?.parse().ok()
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match rest.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = || u32::from_str_radix(rest.as_str().get(..4)?, 16).ok();
                let first = unit()?;
                rest = rest.as_str()[4..].chars();
                match first {
                    0xD800..=0xDBFF => low_surrogate(&mut rest)
                        .and_then(|low| char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + low))
                        .unwrap_or(char::REPLACEMENT_CHARACTER),
                    unit => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            other => other,
        });
    }
    Some(out)
}

/// The second half of a pair, if it follows.
fn low_surrogate(rest: &mut std::str::Chars<'_>) -> Option<u32> {
    let digits = rest.as_str().strip_prefix("\\u")?.get(..4)?;
    let unit = u32::from_str_radix(digits, 16).ok()?;
    let low = unit.checked_sub(0xDC00).filter(|&low| low < 0x400)?;
    *rest = rest.as_str()[6..].chars();
    Some(low)
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Option<Json<'a>> {
        if depth > DEPTH_MAX {
            return None;
        }
        let start = self.at;
        match self.peek()? {
            b'"' => {
                self.string()?;
            }
            b'{' => self.members(depth)?,
            b'[' => self.elements(depth)?,
            b't' => self.word(b"true")?,
            b'f' => self.word(b"false")?,
            b'n' => self.word(b"null")?,
            _ => self.number()?,
        }
        Some(Json(&self.text[start..self.at]))
    }

    fn members(&mut self, depth: usize) -> Option<()> {
        self.take(b'{')?;
        self.space();
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            self.space();
            self.string()?;
            self.space();
            self.take(b':')?;
            self.space();
            self.value(depth + 1)?;
            self.space();
            if self.take(b'}').is_some() {
                return Some(());
            }
            self.take(b',')?;
        }
    }

    fn elements(&mut self, depth: usize) -> Option<()> {
        self.take(b'[')?;
        self.space();
        if self.take(b']').is_some() {
            return Some(());
        }
        loop {
            self.space();
            self.value(depth + 1)?;
            self.space();
            if self.take(b']').is_some() {
                return Some(());
            }
            self.take(b',')?;
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        self.take(b'"')?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    self.at += 1;
                    match self.peek()? {
                        b'u' => {
                            let digits = self.text.get(self.at + 1..self.at + 5)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return None;
                            }
                            self.at += 5;
                        }
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
                        _ => return None,
                    }
                }
                byte if byte < b' ' => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at)
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let matches = self.text.get(self.at..self.at + word.len())? == word;
        matches.then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        self.take(b'-');
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return None,
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

/// Appends `text` as a JSON string, quotes included.
pub fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

/// `text` as a JSON string, quotes included.
pub fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_text(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Json<'_>> {
        Json::parse(text.as_bytes())
    }

    #[test]
    fn parts_are_found_where_they_lie() {
        let text = r#" {"events":["INVOKE", "SHUT\u0044OWN"],"n":-12,"o":{"x":[{}]},"n":7} "#;
        let json = parse(text).unwrap();
        let events = json.get("events").unwrap().items().unwrap();
        let events: Vec<_> = events.iter().map(|event| event.text().unwrap()).collect();
        assert_eq!(events, ["INVOKE", "SHUTDOWN"]);
        assert_eq!(json.get("n").unwrap().integer(), Some(7), "the last counts");
        assert_eq!(json.get("o").unwrap().bytes(), br#"{"x":[{}]}"#);
        assert_eq!(json.get("missing"), None);
        assert_eq!(parse("[]").unwrap().items(), Some(vec![]));
        assert_eq!(parse("[1]").unwrap().get("a"), None);
        assert_eq!(parse("1.5").unwrap().integer(), None);
    }

    #[test]
    fn escapes_become_what_they_stand_for() {
        let text = |json: &str| parse(json).unwrap().text().unwrap().into_owned();
        assert_eq!(text(r#""a\n\"\\\/é""#), "a\n\"\\/é");
        assert_eq!(text(r#""\ud83d\ude00""#), "\u{1f600}");
        assert_eq!(text(r#""\ud83dx""#), "\u{fffd}x");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
        for text in [
            "",
            "{",
            "{]",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "01",
            "+1",
            "1.",
            "1e",
            "tru",
            "nulll",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"a\nb\"",
            "1 2",
            "'a'",
            "NaN",
            &deep,
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(Json::parse(b"\"\xff\""), None);
        for text in ["0", "-0.5e+10", "true", "null", "\"\"", "[[],{}]"] {
            assert!(parse(text).is_some(), "{text}");
        }
    }

    #[test]
    fn any_text_becomes_a_valid_string() {
        let every: String = (0..0x300).filter_map(char::from_u32).collect();
        let json = quoted(&every);
        assert_eq!(parse(&json).unwrap().text().unwrap(), every);
    }
}

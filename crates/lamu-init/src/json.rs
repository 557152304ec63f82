//! The one thing init does to JSON: leave a member out of an object.
//!
//! Not here: values. They stay the bytes they came as.

/// Deeper nesting than any real error has is left alone.
const DEPTH_MAX: usize = 64;

/// The object with only the members named, in that order; `None` if `text` is
/// no JSON object that can be read. A name that is not there is left out.
pub fn keep_members(text: &[u8], names: &[&str]) -> Option<Vec<u8>> {
    let members = members(text)?;
    let mut out = vec![b'{'];
    for name in names {
        let found = members.iter().find(|(key, _)| *key == name.as_bytes());
        let Some((key, value)) = found else { continue };
        if out.len() > 1 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(key);
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value);
    }
    out.push(b'}');
    Some(out)
}

/// Keys (without quotes, escapes as they are) and values of an object.
fn members(text: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut at = Cursor { text, at: 0 };
    let mut members = Vec::new();
    at.space();
    at.take(b'{')?;
    at.space();
    if at.peek() != Some(b'}') {
        loop {
            at.space();
            let key = at.string()?;
            at.space();
            at.take(b':')?;
            at.space();
            members.push((key, at.value()?));
            at.space();
            if at.peek() != Some(b',') {
                break;
            }
            at.take(b',')?;
        }
    }
    at.take(b'}')?;
    at.space();
    if at.at == text.len() { Some(members) } else { None }
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

    /// What is between the quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        let content = self.text.get(start..self.at)?;
        self.at += 1;
        Some(content)
    }

    /// The bytes of one value. Brackets must match in number only; whoever
    /// parses the result judges the rest.
    fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        let mut depth = 0;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if depth > 0 => self.at += 1,
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' | b'}' | b']' => return None,
                _ => {
                    while !matches!(
                        self.peek(),
                        None | Some(
                            b',' | b':' | b'}' | b']' | b'"' | b' ' | b'\t' | b'\r' | b'\n'
                        )
                    ) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return self.text.get(start..self.at);
            }
            if depth > DEPTH_MAX {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Option<String> {
        let names = ["errorMessage", "errorType", "stackTrace"];
        let kept = keep_members(text.as_bytes(), &names)?;
        Some(String::from_utf8(kept).expect("UTF-8"))
    }

    #[test]
    fn only_the_named_members_remain_in_their_order() {
        let text = r#" {"errorCause":{"a":["}",{}]}, "errorType" : "E\"x" ,"errorMessage":"m","n":1.5e3,"stackTrace":[ "a", [] ]} "#;
        let expected = r#"{"errorMessage":"m","errorType":"E\"x","stackTrace":[ "a", [] ]}"#;
        assert_eq!(kept(text).as_deref(), Some(expected));
        assert_eq!(kept("{}").as_deref(), Some("{}"));
        assert_eq!(kept(r#"{"errorType":null}"#).as_deref(), Some(r#"{"errorType":null}"#));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let deep = format!(r#"{{"a":{}1}}"#, "[".repeat(1000));
        for text in [
            "",
            "[]",
            "1",
            "{",
            r#"{"a""#,
            r#"{"a":}"#,
            r#"{"a":1"#,
            r#"{"a":"x}"#,
            r#"{"a":1}x"#,
            r#"{"a\"#,
            r#"{"a":"\"#,
            &deep,
        ] {
            assert_eq!(kept(text), None, "{text}");
        }
    }
}

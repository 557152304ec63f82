//! The one thing init does to a function's JSON: leave members out of an
//! object. The members that stay are the bytes they came as.
//!
//! Not here: reading JSON (`value`).

use crate::value::{Json, push_text};

/// The object with only the members named, in that order; `None` if `text` is
/// no JSON object that can be read. A name that is not there is left out.
pub fn keep_members(text: &[u8], names: &[&str]) -> Option<Vec<u8>> {
    let object = Json::parse(text).filter(|json| json.is_object())?;
    let mut out = vec![b'{'];
    for name in names {
        let Some(value) = object.get(name) else { continue };
        if out.len() > 1 {
            out.push(b',');
        }
        push_text(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value.bytes());
    }
    out.push(b'}');
    Some(out)
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

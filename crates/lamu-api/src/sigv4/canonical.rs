//! The canonical form of a request, which is what is signed.
//!
//! Not here: keys and signatures (`sign`).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::RequestParts;

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// Encodes everything but letters, digits, `-`, `.`, `_` and `~`.
pub fn uri_encode(text: &str) -> Cow<'_, str> {
    percent_encode(text.as_bytes(), UNRESERVED).into()
}

/// The same, leaving slashes: an object's key as a path.
pub fn encode_path(text: &str) -> Cow<'_, str> {
    percent_encode(text.as_bytes(), PATH).into()
}

/// The canonical request over the headers named in `signed`, which is sorted
/// and in lower case. The query leaves out `X-Amz-Signature`.
///
/// `None` when a signed header is not there. Paths of `s3` are taken as they
/// are; for every other service they are normalised and encoded once more.
pub fn canonical_request(
    parts: &RequestParts<'_>,
    signed: &[&str],
    payload: &str,
    service: &str,
) -> Option<String> {
    let mut out = format!(
        "{}\n{}\n{}\n",
        parts.method,
        canonical_path(parts.path, service),
        canonical_query(parts.query)
    );
    for name in signed {
        out.push_str(name);
        out.push(':');
        canonical_header(parts, name, &mut out)?;
        out.push('\n');
    }
    out.push('\n');
    out.push_str(&signed.join(";"));
    out.push('\n');
    out.push_str(payload);
    Some(out)
}

fn canonical_path(path: &str, service: &str) -> String {
    if service == "s3" {
        return if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    }
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    let mut normal = format!("/{}", kept.join("/"));
    if path.ends_with('/') && !kept.is_empty() {
        normal.push('/');
    }
    encode_path(&normal).into_owned()
}

fn canonical_query(query: &str) -> String {
    let encode = |text: &str| {
        let bytes: Cow<'_, [u8]> = percent_decode_str(text).into();
        percent_encode(&bytes, UNRESERVED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .filter(|(name, _)| name != "X-Amz-Signature")
        .collect();
    pairs.sort();
    let pairs: Vec<String> =
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Values in their order, each trimmed and with single blanks.
fn canonical_header(parts: &RequestParts<'_>, name: &str, out: &mut String) -> Option<()> {
    let mut values = parts.headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        out.push_str(parts.authority.filter(|_| name == "host")?);
        return Some(());
    }
    for (at, value) in values.enumerate() {
        out.push_str(if at > 0 { "," } else { "" });
        let text = String::from_utf8_lossy(value.as_bytes());
        for (at, word) in text.split_ascii_whitespace().enumerate() {
            out.push_str(if at > 0 { " " } else { "" });
            out.push_str(word);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_encoded_once_more() {
        for (path, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("/a/./b/../c//d/", "/a/c/d/"),
            ("/../..", "/"),
            ("/functions/arn%3Aaws", "/functions/arn%253Aaws"),
            ("/functions/arn:aws", "/functions/arn%3Aaws"),
        ] {
            assert_eq!(canonical_path(path, "lambda"), canonical, "{path}");
        }
        assert_eq!(canonical_path("/a//b%20c", "s3"), "/a//b%20c");
    }

    #[test]
    fn queries_are_sorted_by_name_and_value() {
        for (query, canonical) in [
            ("", ""),
            ("b=2&a=2&a=1", "a=1&a=2&b=2"),
            ("flag", "flag="),
            ("a=x%2fy&b=x+y", "a=x%2Fy&b=x%2By"),
            ("a=1&X-Amz-Signature=00", "a=1"),
            ("a1=1&a=2", "a=2&a1=1"),
        ] {
            assert_eq!(canonical_query(query), canonical, "{query}");
        }
    }
}

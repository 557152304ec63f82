//! Patterns of words: required, optional (`?`) and excluded (`-`), each bare
//! or a "quoted phrase". A word matches anywhere in the message, in its case.
//!
//! Not here: JSON patterns (`condition`).

use super::{LogPatternError, form};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    required: Vec<String>,
    /// One of these must be there, unless something is required anyway.
    optional: Vec<String>,
    excluded: Vec<String>,
}

impl Terms {
    pub fn matches(&self, message: &str) -> bool {
        let has = |term: &String| message.contains(term.as_str());
        let wanted = if self.required.is_empty() {
            self.optional.is_empty() || self.optional.iter().any(has)
        } else {
            self.required.iter().all(has)
        };
        wanted && !self.excluded.iter().any(has)
    }
}

pub fn parse(text: &str) -> Result<Terms, LogPatternError> {
    let mut terms = Terms::default();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let kind = match first {
            '?' => &mut terms.optional,
            '-' => &mut terms.excluded,
            _ => &mut terms.required,
        };
        if matches!(first, '?' | '-') {
            rest = &rest[1..];
        }
        let (term, after) = match rest.strip_prefix('"') {
            Some(quoted) => phrase(quoted)?,
            None => word(rest)?,
        };
        if !term.is_empty() {
            kind.push(term);
        }
        rest = after.trim_start();
    }
    Ok(terms)
}

/// What stands before the closing quote, with `\"` and `\\` taken as written.
pub fn phrase(text: &str) -> Result<(String, &str), LogPatternError> {
    let mut phrase = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((phrase, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => phrase.push(escaped),
                Some((_, other)) => phrase.extend(['\\', other]),
                None => break,
            },
            c => phrase.push(c),
        }
    }
    Err(form("a quoted phrase has no end"))
}

fn word(text: &str) -> Result<(String, &str), LogPatternError> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    if word.starts_with('%') {
        return Err(form("regular expressions between % are not supported"));
    }
    if word.is_empty() || !word.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(LogPatternError::Characters { term: word.to_owned() });
    }
    Ok((word.to_owned(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_phrases_choose_events() {
        let bad_request = "[ERROR 400] BAD REQUEST";
        let missing = "[ERROR 419] MISSING ARGUMENTS";
        let warning = "[WARN] a \"quoted\" back\\slash";
        // Pattern, and which of the three it takes.
        for (pattern, taken) in [
            ("ERROR", [true, true, false]),
            ("error", [false, false, false]),
            ("ERROR ARGUMENTS", [false, true, false]),
            ("ERR", [true, true, false]),
            ("\"BAD REQUEST\"", [true, false, false]),
            ("\"REQUEST BAD\"", [false, false, false]),
            ("?ERROR ?WARN", [true, true, true]),
            ("?BAD ?WARN", [true, false, true]),
            ("ERROR -ARGUMENTS", [true, false, false]),
            ("-ERROR", [false, false, true]),
            ("-\"BAD REQUEST\" -WARN", [false, true, false]),
            ("?BAD ?WARN -\"400\"", [false, false, true]),
            ("ERROR ?BAD", [true, true, false]),
            (r#""\"quoted\" back\\slash""#, [false, false, true]),
            ("\"[ERROR\"", [true, true, false]),
        ] {
            let terms = parse(pattern).unwrap();
            let found = [bad_request, missing, warning].map(|message| terms.matches(message));
            assert_eq!(found, taken, "{pattern}");
        }
    }

    #[test]
    fn what_is_no_word_needs_quotes() {
        for (bad, why) in [
            ("a.b", "Invalid character(s) in term 'a.b'"),
            ("ok foo-bar", "Invalid character(s) in term 'foo-bar'"),
            ("-", "Invalid character(s) in term ''"),
            ("? x", "Invalid character(s) in term ''"),
            ("\"open", "Invalid filter pattern: a quoted phrase has no end"),
            ("\"open\\", "Invalid filter pattern: a quoted phrase has no end"),
        ] {
            assert_eq!(parse(bad).unwrap_err().to_string(), why, "{bad}");
        }
        assert!(parse("größe_1").unwrap().matches("die größe_1"));
    }
}

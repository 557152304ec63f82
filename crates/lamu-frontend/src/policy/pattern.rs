//! Text with `*`, `?` and `${variables}`, as IAM writes actions, resources and
//! the values of conditions, read once and matched often.
//!
//! Matching costs at most the product of both lengths, whatever the pattern.
//!
//! Not here: what a variable stands for (`context`).

use std::borrow::Cow;

/// How the letters of a pattern are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Exact,
    Ignored,
}

/// Whether `*` and `?` mean more than themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wildcards {
    Matched,
    Literal,
}

/// Whether `${…}` is a variable; it is not before version 2012-10-17.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variables {
    Replaced,
    Literal,
}

/// What variables stand for.
pub type Resolve<'a> = &'a dyn Fn(&str) -> Option<String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Box<[Part]>,
    variables: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// `*`
    Any,
    /// `?`
    One,
    /// The key in lower case, and what stands for it when it has no value.
    Variable(Box<str>, Option<Box<str>>),
}

impl Pattern {
    /// The error is for the person who wrote the policy.
    pub fn parse(
        text: &str,
        wildcards: Wildcards,
        variables: Variables,
    ) -> Result<Pattern, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let wild = match c {
                '*' if wildcards == Wildcards::Matched => Some(Part::Any),
                '?' if wildcards == Wildcards::Matched => Some(Part::One),
                '$' if variables == Variables::Replaced && rest.starts_with("${") => {
                    let Some(end) = rest.find('}') else {
                        return Err(format!("a variable in {text:?} is not closed"));
                    };
                    let name = &rest[2..end];
                    rest = &rest[end + 1..];
                    match name {
                        "*" | "?" | "$" => literal.push_str(name),
                        _ => {
                            flush(&mut parts, &mut literal);
                            parts.push(variable(name, text)?);
                        }
                    }
                    continue;
                }
                _ => None,
            };
            rest = &rest[c.len_utf8()..];
            match wild {
                None => literal.push(c),
                Some(part) => {
                    flush(&mut parts, &mut literal);
                    // A second star in a row matches nothing more.
                    if part != Part::Any || parts.last() != Some(&Part::Any) {
                        parts.push(part);
                    }
                }
            }
        }
        flush(&mut parts, &mut literal);
        let variables = parts.iter().any(|part| matches!(part, Part::Variable(..)));
        Ok(Pattern { parts: parts.into(), variables })
    }

    /// Whether it matches everything.
    pub fn is_any(&self) -> bool {
        *self.parts == [Part::Any]
    }

    /// Whether it is one text, known beforehand.
    pub fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// A variable without a value, and without a default, matches nothing.
    pub fn matches(&self, text: &str, case: Case, resolve: Resolve<'_>) -> bool {
        if !self.variables {
            return matches(&self.parts, text, case);
        }
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            match part {
                Part::Variable(key, default) => match (resolve(key), default) {
                    // Stars in a value are no wildcards.
                    (Some(value), _) => parts.push(Part::Text(value.into())),
                    (None, Some(default)) => parts.push(Part::Text(default.clone())),
                    (None, None) => return false,
                },
                part => parts.push(part.clone()),
            }
        }
        matches(&parts, text, case)
    }
}

fn flush(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Text(std::mem::take(literal).into()));
    }
}

/// `key` or `key, 'default'`.
fn variable(text: &str, whole: &str) -> Result<Part, String> {
    let (key, default) = match text.split_once(',') {
        None => (text, None),
        Some((key, default)) => {
            let quoted = default.trim();
            let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
            let Some(inner) = inner else {
                return Err(format!("the default of a variable in {whole:?} needs single quotes"));
            };
            (key, Some(inner.into()))
        }
    };
    let key = key.trim();
    if !key.contains(':') {
        return Err(format!("{whole:?} has a variable {key:?}, which is no key of a condition"));
    }
    Ok(Part::Variable(key.to_ascii_lowercase().into(), default))
}

/// Greedy, going back to the last star only.
fn matches(parts: &[Part], text: &str, case: Case) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let rest = &text[at..];
        match parts.get(part) {
            Some(Part::Any) => {
                part += 1;
                star = Some((part, at));
                continue;
            }
            Some(Part::One) => {
                if let Some(c) = rest.chars().next() {
                    at += c.len_utf8();
                    part += 1;
                    continue;
                }
            }
            Some(Part::Text(literal)) => {
                if begins(rest, literal, case) {
                    at += literal.len();
                    part += 1;
                    continue;
                }
            }
            None if rest.is_empty() => return true,
            // What ends in a star matches whatever follows.
            None if star.is_some_and(|(after, _)| after == parts.len()) => return true,
            // Variables were replaced.
            Some(Part::Variable(..)) | None => {}
        }
        let Some((after, from)) = star else { return false };
        let Some(c) = text[from..].chars().next() else { return false };
        let from = from + c.len_utf8();
        star = Some((after, from));
        (part, at) = (after, from);
    }
}

fn begins(text: &str, literal: &str, case: Case) -> bool {
    match case {
        Case::Exact => text.starts_with(literal),
        Case::Ignored => text
            .as_bytes()
            .get(..literal.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(literal.as_bytes())),
    }
}

/// An ARN with wildcards in any of its six parts, none of which reaches beyond
/// its colon, or `*`. Parts that are left out match anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArnPattern {
    /// None is `*`.
    parts: Option<Box<[Pattern; 6]>>,
}

impl ArnPattern {
    pub fn parse(text: &str, variables: Variables) -> Result<ArnPattern, String> {
        if text == "*" {
            return Ok(ArnPattern { parts: None });
        }
        if !text.starts_with("arn:") {
            return Err(format!("{text:?} must be in ARN format or \"*\""));
        }
        let given = split(text);
        let mut patterns = Vec::with_capacity(6);
        for at in 0..6 {
            let part = given.get(at).map_or("*", |part| part.as_ref());
            patterns.push(Pattern::parse(part, Wildcards::Matched, variables)?);
        }
        match <[Pattern; 6]>::try_from(patterns) {
            Ok(parts) => Ok(ArnPattern { parts: Some(Box::new(parts)) }),
            Err(_) => Err(format!("{text:?} has more parts than an ARN")),
        }
    }

    pub fn is_any(&self) -> bool {
        self.parts.is_none()
    }

    /// Whether it is one ARN, or those of one account.
    pub fn is_fixed(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| {
            let account = &parts[4];
            account.is_literal() && !account.parts.is_empty()
                || parts.iter().all(Pattern::is_literal)
        })
    }

    pub fn matches(&self, arn: &str, resolve: Resolve<'_>) -> bool {
        let Some(patterns) = &self.parts else { return true };
        let mut parts = arn.splitn(6, ':');
        patterns.iter().all(|pattern| {
            parts.next().is_some_and(|part| pattern.matches(part, Case::Exact, resolve))
        })
    }
}

/// At the first five colons, of which those inside a variable are none.
fn split(text: &str) -> Vec<Cow<'_, str>> {
    let (mut parts, mut begin, mut inside) = (Vec::with_capacity(6), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '{' if text[..at].ends_with('$') => inside = true,
            '}' => inside = false,
            ':' if !inside && parts.len() < 5 => {
                parts.push(Cow::Borrowed(&text[begin..at]));
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(Cow::Borrowed(&text[begin..]));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(key: &str) -> Option<String> {
        match key {
            "aws:username" => Some("al*ce".to_owned()),
            _ => None,
        }
    }

    fn like(pattern: &str, text: &str) -> bool {
        let pattern = Pattern::parse(pattern, Wildcards::Matched, Variables::Replaced).unwrap();
        pattern.matches(text, Case::Exact, &resolve)
    }

    #[test]
    fn stars_match_any_run_and_question_marks_one_character() {
        let table = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "a", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "ab ab a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("?", "λ", true),
            ("??", "λ", false),
            ("*λ", "aλλ", true),
            ("a**b", "ab", true),
            ("*?", "", false),
            ("lambda:Get*", "lambda:GetFunction", true),
            ("lambda:Get*", "lambda:PutFunction", false),
            ("f-${aws:username}", "f-al*ce", true),
            ("f-${aws:username}", "f-alice", false),
            ("f-${aws:userid}", "f-", false),
            ("f-${aws:userid, 'none'}*", "f-none-1", true),
            ("${*}x${?}${$}", "*x?$", true),
            ("${*}", "x", false),
        ];
        for (pattern, text, matches) in table {
            assert_eq!(like(pattern, text), matches, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn the_matcher_agrees_with_the_plain_definition_of_wildcards() {
        // Every pattern and text over a small alphabet.
        fn plain(pattern: &[u8], text: &[u8]) -> bool {
            match pattern {
                [] => text.is_empty(),
                [b'*', rest @ ..] => (0..=text.len()).any(|at| plain(rest, &text[at..])),
                [b'?', rest @ ..] => !text.is_empty() && plain(rest, &text[1..]),
                [c, rest @ ..] => text.first() == Some(c) && plain(rest, &text[1..]),
            }
        }
        fn words(letters: &[u8], length: u32) -> Vec<String> {
            let all = (0..=length).flat_map(|length| {
                (0..letters.len().pow(length)).map(move |mut number| {
                    let letter = |_| {
                        let letter = letters[number % letters.len()];
                        number /= letters.len();
                        letter as char
                    };
                    (0..length).map(letter).collect()
                })
            });
            all.collect()
        }
        let texts = words(b"ab", 5);
        let mut matched = 0;
        for pattern in words(b"ab*?", 4) {
            for text in &texts {
                let expected = plain(pattern.as_bytes(), text.as_bytes());
                assert_eq!(like(&pattern, text), expected, "{pattern:?} {text:?}");
                matched += usize::from(expected);
            }
        }
        assert!(matched > 1_000, "{matched}");
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_the_product_of_the_lengths() {
        let pattern = "*a".repeat(5_000) + "b";
        // Exponential backtracking would not come back.
        assert!(!like(&pattern, &"a".repeat(2_000)));
    }

    #[test]
    fn wildcards_of_an_arn_stay_between_their_colons() {
        let table = [
            ("*", "arn:aws:lambda:us-east-1:1:function:f", true),
            ("arn:aws:lambda:*:*:function:f", "arn:aws:lambda:us-east-1:1:function:f", true),
            ("arn:aws:lambda:*:function:f", "arn:aws:lambda:us-east-1:1:function:f", false),
            ("arn:aws:lambda:*:*:function:f", "arn:aws:lambda:us-east-1:1:function:f:2", false),
            ("arn:aws:lambda:*:*:function:f*", "arn:aws:lambda:us-east-1:1:function:f:2", true),
            ("arn:aws:lambda", "arn:aws:lambda:us-east-1:1:function:f", true),
            ("arn:aws:s3:::b/*", "arn:aws:s3:::b/key:with:colons", true),
            ("arn:aws:lambda:*:*:function:?", "arn:aws:lambda:r:1:function:fg", false),
            (
                "arn:aws:lambda:*:*:function:${aws:username}-*",
                "arn:aws:lambda:r:1:function:al*ce-1",
                true,
            ),
            ("arn:aws:lambda:*:*:*", "*", false),
        ];
        for (pattern, arn, matches) in table {
            let read = ArnPattern::parse(pattern, Variables::Replaced).unwrap();
            assert_eq!(read.matches(arn, &resolve), matches, "{pattern} {arn}");
        }
        assert!(ArnPattern::parse("function:f", Variables::Replaced).is_err());
    }

    #[test]
    fn before_2012_a_variable_is_text() {
        let old = Pattern::parse("${aws:username}", Wildcards::Matched, Variables::Literal);
        assert!(old.unwrap().matches("${aws:username}", Case::Exact, &resolve));
        for broken in ["${aws:username", "${username}", "${aws:username, x}"] {
            let read = Pattern::parse(broken, Wildcards::Matched, Variables::Replaced);
            assert!(read.is_err(), "{broken}");
        }
    }
}

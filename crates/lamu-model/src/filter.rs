//! Filter patterns of event source mappings: the pattern language of
//! EventBridge as Lambda takes it ("Filters" of the event source reference).
//!
//! ```text
//! {"a": ["x", {"prefix": "y"}], "b": {"c": [{"numeric": [">", 0]}]}}
//!        └── one of these ──┘         └── and, below b, this ──────┘
//! ```
//!
//! Members of an object are ANDed, what stands in an array is ORed, and so are
//! the alternatives of `$or` and the patterns of one mapping. A value of the
//! event that is an array matches by any of its elements; fields below an
//! array of objects match on one and the same element.
//!
//! Not here: which part of a record a pattern is held against, but for
//! [`content`]; what becomes of records that do not match (the poller).

mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Number, Value};

/// A pattern that has been read.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern(Fields);

/// What is wrong with a pattern. The API says no more than that something is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

/// What one object of the event must have.
#[derive(Clone, Debug, Default, PartialEq)]
struct Fields {
    all: BTreeMap<String, Rule>,
    /// Each `$or`: one of its alternatives must match too.
    either: Vec<Vec<Fields>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Below(Fields),
    OneOf(Vec<Test>),
}

/// What one value of the event must be.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Is(Literal),
    Text(TextTest),
    Numeric(Range),
    Exists(bool),
    /// Of the kind of its list, and none of it.
    AnythingBut(Vec<Literal>),
    NotText(Vec<TextTest>),
}

#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
}

/// Letters in `…IgnoreCase` are lower case already.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TextTest {
    Prefix(String),
    PrefixIgnoreCase(String),
    Suffix(String),
    SuffixIgnoreCase(String),
    EqualsIgnoreCase(String),
    /// The texts between the stars; one text is no wildcard at all.
    Wildcard(Vec<String>),
}

/// `None` is no bound; the flag says whether the bound itself is in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Range {
    low: Option<(f64, bool)>,
    high: Option<(f64, bool)>,
}

impl Pattern {
    /// Reads a pattern and refuses every form that matches nothing by mistake.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        parse::pattern(text).map(Pattern)
    }

    pub fn matches(&self, event: &Value) -> bool {
        self.0.match_at(event, &[event])
    }
}

/// The content of a record as a pattern sees it: JSON objects and arrays as
/// such, everything else as the text it is. So a JSON pattern never matches
/// plain content, and a plain one never JSON.
pub fn content(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

impl Fields {
    /// `beside` is every value of the event at this path, `here` among them:
    /// what must not exist must not exist in any.
    fn match_at(&self, here: &Value, beside: &[&Value]) -> bool {
        if let Value::Array(items) = here
            && !items.is_empty()
        {
            return items.iter().any(|item| self.match_at(item, beside));
        }
        let all = self.all.iter().all(|(name, rule)| {
            let value = match here {
                Value::Object(members) => members.get(name),
                _ => None,
            };
            let mut everywhere = Vec::new();
            for value in beside {
                collect(value, name, &mut everywhere);
            }
            match rule {
                Rule::Below(fields) => fields.match_at(value.unwrap_or(&Value::Null), &everywhere),
                Rule::OneOf(tests) => tests.iter().any(|test| match test {
                    Test::Exists(wanted) => match wanted {
                        true => value.is_some_and(has_leaf),
                        false => !everywhere.iter().any(|value| has_leaf(value)),
                    },
                    test => value.is_some_and(|value| test.holds_for_any(value)),
                }),
            }
        });
        all && self
            .either
            .iter()
            .all(|alternatives| alternatives.iter().any(|fields| fields.match_at(here, beside)))
    }
}

/// Every member `name` of an object, or of the objects in arrays.
fn collect<'a>(value: &'a Value, name: &str, into: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => into.extend(members.get(name)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, name, into)),
        _ => {}
    }
}

/// Whether there is a leaf right here; what only lies deeper is none.
fn has_leaf(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(items) => items.iter().any(has_leaf),
        _ => true,
    }
}

impl Test {
    fn holds_for_any(&self, value: &Value) -> bool {
        match value {
            Value::Array(items) => items.iter().any(|item| self.holds_for_any(item)),
            Value::Object(_) => false,
            leaf => self.holds(leaf),
        }
    }

    fn holds(&self, leaf: &Value) -> bool {
        match self {
            Test::Is(literal) => literal.is(leaf),
            Test::Text(test) => leaf.as_str().is_some_and(|text| test.holds(text)),
            Test::Numeric(range) => leaf.as_f64().is_some_and(|number| range.holds(number)),
            Test::AnythingBut(list) => !list.iter().any(|literal| literal.is(leaf)),
            Test::NotText(tests) => {
                leaf.as_str().is_some_and(|text| !tests.iter().any(|test| test.holds(text)))
            }
            Test::Exists(wanted) => *wanted,
        }
    }
}

impl Literal {
    fn is(&self, leaf: &Value) -> bool {
        match (self, leaf) {
            (Literal::Null, Value::Null) => true,
            (Literal::Bool(wanted), Value::Bool(got)) => wanted == got,
            (Literal::Text(wanted), Value::String(got)) => wanted == got,
            // 5 is 5.0; and two large integers are not the same for being
            // the same as floats.
            (Literal::Number(wanted), Value::Number(got)) => {
                let integers = !wanted.is_f64() && !got.is_f64();
                if integers { wanted == got } else { wanted.as_f64() == got.as_f64() }
            }
            _ => false,
        }
    }
}

impl TextTest {
    fn holds(&self, text: &str) -> bool {
        match self {
            TextTest::Prefix(prefix) => text.starts_with(prefix),
            TextTest::PrefixIgnoreCase(prefix) => text.to_lowercase().starts_with(prefix),
            TextTest::Suffix(suffix) => text.ends_with(suffix),
            TextTest::SuffixIgnoreCase(suffix) => text.to_lowercase().ends_with(suffix),
            TextTest::EqualsIgnoreCase(wanted) => text.to_lowercase() == *wanted,
            TextTest::Wildcard(pieces) => is_like(pieces, text),
        }
    }
}

/// First and last piece are anchored; each between them is taken where it
/// comes first, which loses nothing.
fn is_like(pieces: &[String], text: &str) -> bool {
    let [first, rest @ ..] = pieces else { return false };
    let [middle @ .., last] = rest else { return text == first };
    let Some(mut text) = text.strip_prefix(first.as_str()) else { return false };
    for piece in middle {
        let Some(at) = text.find(piece.as_str()) else { return false };
        text = &text[at + piece.len()..];
    }
    text.ends_with(last.as_str())
}

impl Range {
    fn holds(&self, number: f64) -> bool {
        let above = self.low.is_none_or(|(low, inside)| number > low || (inside && number == low));
        let below =
            self.high.is_none_or(|(high, inside)| number < high || (inside && number == high));
        above && below
    }
}

//! JSON patterns: comparisons of members, joined by `&&` (binds tighter),
//! `||` and parentheses.
//!
//! ```text
//!  any     = all { "||" all }
//!  all     = one { "&&" one }
//!  one     = "(" any ")" | selector comparison
//!  comparison = ( = != < <= > >= ) value | IS NULL | IS TRUE | IS FALSE
//!             | NOT EXISTS
//! ```
//!
//! A comparison with a member that is not there does not hold. Not here:
//! patterns of words (`terms`).

use serde_json::Value;

use super::terms::phrase;
use super::{LogPatternError, form};

#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    Any(Vec<Condition>),
    All(Vec<Condition>),
    One { path: Vec<Step>, test: Test },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Member(String),
    Element(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    Compare { operator: Operator, operand: Operand },
    IsNull,
    Is(bool),
    NotExists,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    text: String,
    /// When it stands without quotes and is one.
    number: Option<f64>,
}

/// Parentheses within each other; a pattern is short, its parser recursive.
const DEPTH_MAX: usize = 64;

impl Condition {
    pub fn holds(&self, event: &Value) -> bool {
        match self {
            Condition::Any(parts) => parts.iter().any(|part| part.holds(event)),
            Condition::All(parts) => parts.iter().all(|part| part.holds(event)),
            Condition::One { path, test } => test.holds(find(event, path)),
        }
    }
}

fn find<'a>(event: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(event, |value, step| match step {
        Step::Member(name) => value.get(name),
        Step::Element(at) => value.get(at),
    })
}

impl Test {
    fn holds(&self, found: Option<&Value>) -> bool {
        match (self, found) {
            (Test::NotExists, found) => found.is_none(),
            (_, None) => false,
            (Test::IsNull, Some(value)) => value.is_null(),
            (Test::Is(wanted), Some(value)) => value.as_bool() == Some(*wanted),
            (Test::Compare { operator, operand }, Some(value)) => operand.holds(*operator, value),
        }
    }
}

impl Operand {
    fn holds(&self, operator: Operator, value: &Value) -> bool {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let numbers = value.as_f64().zip(self.number);
        match operator {
            Equal => self.equals(value),
            NotEqual => !self.equals(value),
            Less => numbers.is_some_and(|(left, right)| left < right),
            LessOrEqual => numbers.is_some_and(|(left, right)| left <= right),
            Greater => numbers.is_some_and(|(left, right)| left > right),
            GreaterOrEqual => numbers.is_some_and(|(left, right)| left >= right),
        }
    }

    fn equals(&self, value: &Value) -> bool {
        // `= *` asks whether it is there at all.
        if self.text == "*" {
            return true;
        }
        match value {
            Value::String(text) => fits(&self.text, text),
            Value::Number(number) => match self.number {
                Some(wanted) => number.as_f64() == Some(wanted),
                None => fits(&self.text, &number.to_string()),
            },
            Value::Bool(value) => self.text == if *value { "true" } else { "false" },
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        }
    }
}

/// Whether `text` is `pattern`, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        // The first place is as good as any later one.
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    true
}

pub fn parse(text: &str) -> Result<Condition, LogPatternError> {
    let inner = text.strip_prefix('{').and_then(|text| text.trim_end().strip_suffix('}'));
    let mut reader = Reader { rest: inner.ok_or_else(|| form("{ has no }"))?, depth: 0 };
    let condition = reader.any()?;
    reader.space();
    if reader.rest.is_empty() { Ok(condition) } else { Err(form("&& or || is missing")) }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn any(&mut self) -> Result<Condition, LogPatternError> {
        let mut parts = vec![self.all()?];
        while self.take("||") {
            parts.push(self.all()?);
        }
        Ok(join(parts, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, LogPatternError> {
        let mut parts = vec![self.one()?];
        while self.take("&&") {
            parts.push(self.one()?);
        }
        Ok(join(parts, Condition::All))
    }

    fn one(&mut self) -> Result<Condition, LogPatternError> {
        if self.take("(") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(form("too many parentheses"));
            }
            let inner = self.any()?;
            self.depth -= 1;
            return if self.take(")") { Ok(inner) } else { Err(form("( has no )")) };
        }
        Ok(Condition::One { path: self.path()?, test: self.test()? })
    }

    fn path(&mut self) -> Result<Vec<Step>, LogPatternError> {
        if !self.take("$") {
            return Err(form("a member begins with $"));
        }
        let mut path = Vec::new();
        loop {
            // No space inside a selector.
            if let Some(rest) = self.rest.strip_prefix('[') {
                let (inside, after) =
                    rest.split_once(']').ok_or_else(|| form("[ has no ] in a selector"))?;
                path.push(step(inside.trim())?);
                self.rest = after;
            } else if let Some(rest) = self.rest.strip_prefix('.') {
                self.rest = rest;
                if rest.starts_with('[') {
                    continue;
                }
                let name = self.name(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '#'));
                if name.is_empty() {
                    return Err(form("a member has no name"));
                }
                path.push(Step::Member(name));
            } else if path.is_empty() {
                return Err(form("a member begins with $."));
            } else {
                return Ok(path);
            }
        }
    }

    fn test(&mut self) -> Result<Test, LogPatternError> {
        if self.word("IS") {
            for (word, test) in
                [("NULL", Test::IsNull), ("TRUE", Test::Is(true)), ("FALSE", Test::Is(false))]
            {
                if self.word(word) {
                    return Ok(test);
                }
            }
            return Err(form("IS is followed by NULL, TRUE or FALSE"));
        }
        if self.word("NOT") {
            return if self.word("EXISTS") {
                Ok(Test::NotExists)
            } else {
                Err(form("NOT is followed by EXISTS"))
            };
        }
        // The longer ones first.
        for (sign, operator) in [
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ] {
            if self.take(sign) {
                let operand = self.operand()?;
                let equality = matches!(operator, Operator::Equal | Operator::NotEqual);
                if !equality && operand.number.is_none() {
                    return Err(form("only numbers are less or greater"));
                }
                return Ok(Test::Compare { operator, operand });
            }
        }
        Err(form("a member is followed by a comparison"))
    }

    fn operand(&mut self) -> Result<Operand, LogPatternError> {
        self.space();
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let (text, rest) = phrase(quoted)?;
            self.rest = rest;
            return Ok(Operand { text, number: None });
        }
        if self.rest.starts_with('%') {
            return Err(form("regular expressions between % are not supported"));
        }
        let text = self.name(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.' | '*'));
        if text.is_empty() {
            return Err(form("a comparison has no value; texts stand in double quotes"));
        }
        // Not `inf` or `nan`, which Rust would take for numbers.
        let numeric = text.bytes().any(|b| b.is_ascii_digit());
        let number = text.parse::<f64>().ok().filter(|number| numeric && number.is_finite());
        Ok(Operand { text, number })
    }

    fn name(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name.to_owned()
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, sign: &str) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// A keyword, which ends where its letters do.
    fn word(&mut self, word: &str) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(word);
        let rest = rest.filter(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()));
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

/// `0`, `'name'` or `"name"` between brackets.
fn step(inside: &str) -> Result<Step, LogPatternError> {
    for quote in ['\'', '"'] {
        if let Some(name) = inside.strip_prefix(quote).and_then(|name| name.strip_suffix(quote)) {
            return Ok(Step::Member(name.to_owned()));
        }
    }
    inside.parse().map(Step::Element).map_err(|_| form("[ ] holds a number or a quoted name"))
}

fn join(mut parts: Vec<Condition>, many: fn(Vec<Condition>) -> Condition) -> Condition {
    if parts.len() > 1 { many(parts) } else { parts.remove(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(pattern: &str, event: &Value) -> bool {
        parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).holds(event)
    }

    #[test]
    fn members_are_compared_by_their_kind() {
        let event = json!({
            "level": "ERROR", "ms": 120.5, "code": 404, "text": "404", "ok": true, "no": false,
            "none": null, "user": {"id": 7, "e-mail": "a@b.example"}, "a.b": "dotted",
            "list": [{"flag": "x"}, "y"], "negative": -3, "big": 1e12
        });
        for (pattern, expected) in [
            ("{ $.level = \"ERROR\" }", true),
            ("{$.level=ERROR}", true),
            ("{ $.level = \"error\" }", false),
            ("{ $.level != \"ERROR\" }", false),
            ("{ $.level != \"WARN\" }", true),
            ("{ $.missing != \"WARN\" }", false),
            ("{ $.level = \"ERR*\" }", true),
            ("{ $.level = *R*R }", true),
            ("{ $.level = \"*X*\" }", false),
            ("{ $.missing = * }", false),
            ("{ $.user = * }", true),
            ("{ $.ms > 120 }", true),
            ("{ $.ms >= 120.5 }", true),
            ("{ $.ms < 120.5 }", false),
            ("{ $.ms <= 1.205e2 }", true),
            ("{ $.negative < -2 }", true),
            ("{ $.big = 1e12 }", true),
            ("{ $.code = 404 }", true),
            ("{ $.code = 404.0 }", true),
            ("{ $.code = \"404\" }", true),
            ("{ $.code = 4* }", true),
            ("{ $.text = 404 }", true),
            ("{ $.text > 400 }", false),
            ("{ $.level > 1 }", false),
            ("{ $.ok IS TRUE }", true),
            ("{ $.ok IS FALSE }", false),
            ("{ $.no IS FALSE }", true),
            ("{ $.ok = true }", true),
            ("{ $.none IS NULL }", true),
            ("{ $.level IS NULL }", false),
            ("{ $.missing IS NULL }", false),
            ("{ $.missing NOT EXISTS }", true),
            ("{ $.none NOT EXISTS }", false),
            ("{ $.user.id = 7 }", true),
            ("{ $.user.e-mail = \"a@b.example\" }", true),
            ("{ $.['a.b'] = \"dotted\" }", true),
            ("{ $[\"a.b\"] = \"dotted\" }", true),
            ("{ $.list[0].flag = x }", true),
            ("{ $.list[1] = y }", true),
            ("{ $.list[2] NOT EXISTS }", true),
            ("{ $.list = y }", false),
        ] {
            assert_eq!(holds(pattern, &event), expected, "{pattern}");
        }
    }

    #[test]
    fn and_binds_tighter_than_or_and_parentheses_than_both() {
        let event = json!({"a": 1, "b": 2, "c": 3});
        for (pattern, expected) in [
            ("{ $.a = 1 && $.b = 2 }", true),
            ("{ $.a = 1 && $.b = 3 }", false),
            ("{ $.a = 9 || $.b = 2 }", true),
            ("{ $.a = 1 || $.b = 9 && $.c = 9 }", true),
            ("{ ($.a = 1 || $.b = 9) && $.c = 9 }", false),
            ("{ ( ( $.a = 1 ) ) && ($.b = 2) && ($.c = 3) }", true),
            ("{($.a=9)||($.b=9)||($.c=3)}", true),
        ] {
            assert_eq!(holds(pattern, &event), expected, "{pattern}");
        }
    }

    #[test]
    fn a_star_stands_for_anything_anywhere() {
        for (pattern, text, expected) in [
            ("a*", "a", true),
            ("*a", "ba", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcdef", false),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "ab", false),
            ("**", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for bad in [
            "{",
            "{}",
            "{ }",
            "{ $.a }",
            "{ a = 1 }",
            "{ $ = 1 }",
            "{ $. = 1 }",
            "{ $.a = }",
            "{ $.a = 1 $.b = 2 }",
            "{ $.a = 1 && }",
            "{ ($.a = 1 }",
            "{ $.a = 1) }",
            "{ $.a > x }",
            "{ $.a > inf }",
            "{ $.a > \"1\" }",
            "{ $.a IS }",
            "{ $.a ISNULL }",
            "{ $.a NOT }",
            "{ $.a[x] = 1 }",
            "{ $.a[0 = 1 }",
            "{ $.a = \"open }",
            "{ $.a == 1 }",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let deep = format!("{{ {} $.a = 1 {} }}", "(".repeat(300), ")".repeat(300));
        assert!(parse(&deep).is_err());
    }
}

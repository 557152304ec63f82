//! From the text of a pattern to the pattern, or to what is wrong with it.

use serde_json::{Map, Value};

use super::{Fields, Literal, PatternError, Range, Rule, Test, TextTest};

/// The bounds of EventBridge's numbers.
const NUMBER_MAX: f64 = 5e9;

pub fn pattern(text: &str) -> Result<Fields, PatternError> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| wrong(format!("not JSON: {error}")))?;
    match value {
        Value::Object(members) => fields(&members),
        _ => Err(wrong("a pattern is an object")),
    }
}

fn wrong(what: impl Into<String>) -> PatternError {
    PatternError(what.into())
}

fn fields(members: &Map<String, Value>) -> Result<Fields, PatternError> {
    if members.is_empty() {
        return Err(wrong("an empty object matches nothing in particular"));
    }
    let mut read = Fields::default();
    for (name, value) in members {
        if name == "$or" {
            read.either.push(alternatives(value)?);
            continue;
        }
        let rule = match value {
            Value::Object(members) => Rule::Below(fields(members)?),
            Value::Array(values) if values.is_empty() => {
                return Err(wrong(format!("{name} has an empty array")));
            }
            Value::Array(values) => Rule::OneOf(values.iter().map(test).collect::<Result<_, _>>()?),
            _ => return Err(wrong(format!("{name} is neither an object nor an array"))),
        };
        read.all.insert(name.clone(), rule);
    }
    Ok(read)
}

fn alternatives(value: &Value) -> Result<Vec<Fields>, PatternError> {
    match value {
        Value::Array(values) if values.len() >= 2 => {
            let read = values.iter().map(|value| match value {
                Value::Object(members) => fields(members),
                _ => Err(wrong("an alternative of $or is an object")),
            });
            read.collect()
        }
        _ => Err(wrong("$or takes an array of two objects or more")),
    }
}

fn test(value: &Value) -> Result<Test, PatternError> {
    match value {
        Value::Object(members) => operator(members),
        Value::Array(_) => Err(wrong("an array inside an array")),
        leaf => literal(leaf).map(Test::Is),
    }
}

fn literal(value: &Value) -> Result<Literal, PatternError> {
    match value {
        Value::Null => Ok(Literal::Null),
        Value::Bool(bool) => Ok(Literal::Bool(*bool)),
        Value::Number(number) => Ok(Literal::Number(number.clone())),
        Value::String(text) => Ok(Literal::Text(text.clone())),
        Value::Array(_) | Value::Object(_) => Err(wrong("a value must be a leaf")),
    }
}

fn operator(members: &Map<String, Value>) -> Result<Test, PatternError> {
    let (name, value) = only_member(members)?;
    match name {
        "exists" => match value {
            Value::Bool(wanted) => Ok(Test::Exists(*wanted)),
            _ => Err(wrong("exists takes true or false")),
        },
        "numeric" => range(value).map(Test::Numeric),
        "anything-but" => anything_but(value),
        _ => text_test(name, value).map(Test::Text),
    }
}

fn only_member(members: &Map<String, Value>) -> Result<(&str, &Value), PatternError> {
    let mut all = members.iter();
    match (all.next(), all.next()) {
        (Some((name, value)), None) => Ok((name, value)),
        _ => Err(wrong("an operator is an object of one member")),
    }
}

fn text_test(name: &str, value: &Value) -> Result<TextTest, PatternError> {
    match (name, value) {
        ("prefix", Value::String(text)) => Ok(TextTest::Prefix(text.clone())),
        ("suffix", Value::String(text)) => Ok(TextTest::Suffix(text.clone())),
        ("equals-ignore-case", Value::String(text)) => {
            Ok(TextTest::EqualsIgnoreCase(text.to_lowercase()))
        }
        ("wildcard", Value::String(text)) => wildcard(text).map(TextTest::Wildcard),
        ("prefix" | "suffix", Value::Object(members)) => match (name, only_member(members)?) {
            ("prefix", ("equals-ignore-case", Value::String(text))) => {
                Ok(TextTest::PrefixIgnoreCase(text.to_lowercase()))
            }
            (_, ("equals-ignore-case", Value::String(text))) => {
                Ok(TextTest::SuffixIgnoreCase(text.to_lowercase()))
            }
            _ => Err(wrong(format!("{name} takes a text or equals-ignore-case"))),
        },
        ("prefix" | "suffix" | "equals-ignore-case" | "wildcard", _) => {
            Err(wrong(format!("{name} takes a text")))
        }
        _ => Err(wrong(format!("there is no operator {name}"))),
    }
}

/// The texts between the stars. A backslash takes a star or itself literally.
fn wildcard(text: &str) -> Result<Vec<String>, PatternError> {
    let mut pieces = vec![String::new()];
    let mut chars = text.chars();
    let mut after_star = false;
    while let Some(c) = chars.next() {
        let literal = match c {
            '*' if after_star => return Err(wrong("two stars in a row")),
            '*' => {
                pieces.push(String::new());
                after_star = true;
                continue;
            }
            '\\' => match chars.next() {
                Some(escaped @ ('*' | '\\')) => escaped,
                _ => return Err(wrong("a backslash takes a star or a backslash")),
            },
            other => other,
        };
        after_star = false;
        if let Some(piece) = pieces.last_mut() {
            piece.push(literal);
        }
    }
    Ok(pieces)
}

/// A value, a list of one kind, or one operator over texts with one or more.
fn anything_but(value: &Value) -> Result<Test, PatternError> {
    match value {
        Value::Object(members) => {
            let (name, value) = only_member(members)?;
            let tests = match value {
                Value::Array(values) if values.is_empty() => {
                    return Err(wrong("anything-but takes no empty array"));
                }
                Value::Array(values) => {
                    values.iter().map(|value| text_test(name, value)).collect::<Result<_, _>>()?
                }
                value => vec![text_test(name, value)?],
            };
            Ok(Test::NotText(tests))
        }
        Value::Array(values) if values.is_empty() => {
            Err(wrong("anything-but takes no empty array"))
        }
        Value::Array(values) => {
            let texts = values.iter().all(Value::is_string);
            let numbers = values.iter().all(Value::is_number);
            if !texts && !numbers {
                return Err(wrong("anything-but takes texts only or numbers only"));
            }
            values.iter().map(literal).collect::<Result<_, _>>().map(Test::AnythingBut)
        }
        Value::String(_) | Value::Number(_) => Ok(Test::AnythingBut(vec![literal(value)?])),
        Value::Null | Value::Bool(_) => Err(wrong("anything-but takes texts or numbers")),
    }
}

/// `["=", n]`, `[">", n]`, `["<=", n]`, `[">", low, "<=", high]`.
fn range(value: &Value) -> Result<Range, PatternError> {
    let Value::Array(parts) = value else { return Err(wrong("numeric takes an array")) };
    let mut range = Range::default();
    match parts.as_slice() {
        [Value::String(operator), bound] if operator == "=" => {
            let bound = Some((number(bound)?, true));
            Ok(Range { low: bound, high: bound })
        }
        [operator, bound] => {
            put_bound(&mut range, operator, bound)?;
            Ok(range)
        }
        [low, low_bound, high, high_bound] => {
            put_bound(&mut range, low, low_bound)?;
            if range.low.is_none() {
                return Err(wrong("numeric names its lower bound first"));
            }
            put_bound(&mut range, high, high_bound)?;
            match (range.low, range.high) {
                (Some((low, _)), Some((high, _))) if low < high => Ok(range),
                _ => Err(wrong("numeric takes a lower bound below a higher one")),
            }
        }
        _ => Err(wrong("numeric takes one comparison or two")),
    }
}

fn put_bound(range: &mut Range, operator: &Value, bound: &Value) -> Result<(), PatternError> {
    let bound = number(bound)?;
    match operator.as_str() {
        Some(">") => range.low = Some((bound, false)),
        Some(">=") => range.low = Some((bound, true)),
        Some("<") => range.high = Some((bound, false)),
        Some("<=") => range.high = Some((bound, true)),
        _ => return Err(wrong("numeric compares by =, <, <=, > or >=")),
    }
    Ok(())
}

fn number(value: &Value) -> Result<f64, PatternError> {
    match value.as_f64() {
        Some(number) if number.abs() <= NUMBER_MAX => Ok(number),
        _ => Err(wrong("numeric compares with numbers from -5e9 to 5e9")),
    }
}

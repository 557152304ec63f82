//! Holds a request against the constraint tables and words what fails, all of
//! it at once, as the service does (Lambda API reference, "Validation").
//!
//! A member of the wrong JSON type cannot be held against anything: the first
//! of those ends the check with a `SerializationException`.
//!
//! Not here: checks that need more than the request (the frontend).

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

use crate::constraint::{Kind, Member, Place, Shape, Structure};
use crate::generated::constraints::RUNTIMES;
use crate::{ApiError, ErrorCode, Timestamp};

/// Violations that are listed. A body of megabytes could hold millions.
const VIOLATIONS_MAX: usize = 100;

/// Bytes of a refused value that are repeated, so that an answer stays small
/// beside the request.
const ECHO_BYTES_MAX: usize = 10_000;

/// Whether every member of `object` is what the tables ask for.
pub fn validate(
    structure: &'static Structure,
    object: &Map<String, Value>,
) -> Result<(), ApiError> {
    let mut checker = Checker::default();
    checker.structure(structure, object, &Path::Root)?;
    checker.finish()
}

/// The same for one member that is text, without a request around it.
pub fn validate_text(
    structure: &'static Structure,
    member: &str,
    value: &str,
) -> Result<(), ApiError> {
    let Some(member) = structure.member(member) else { return Ok(()) };
    let mut failures = Vec::new();
    text_failures(member.shape, value, &mut failures);
    if failures.is_empty() {
        return Ok(());
    }
    let mut checker = Checker::default();
    let path = Path::Member { parent: &Path::Root, name: member.name };
    checker.violations(member.shape, &Value::from(value), &path, failures);
    checker.finish()
}

/// Whether `runtime` is one the service knows. This is checked behind the
/// constraints and worded in its own way.
pub fn check_runtime(runtime: &str) -> Result<(), ApiError> {
    if RUNTIMES.contains(&runtime) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{}] or be a valid ARN",
        RUNTIMES.join(", ")
    )))
}

#[derive(Default)]
struct Checker {
    /// Finished sentences.
    found: Vec<String>,
}

/// Where in the request we are. Lives on the stack; written out only when
/// something is wrong there.
enum Path<'a> {
    Root,
    Member { parent: &'a Path<'a>, name: &'static str },
    Item { parent: &'a Path<'a>, at: usize },
    Entry { parent: &'a Path<'a>, key: &'a str },
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Member { parent, name } => {
                if !matches!(parent, Path::Root) {
                    write!(f, "{parent}.")?;
                }
                f.write_str(&lower_camel(name))
            }
            Path::Item { parent, at } => write!(f, "{parent}.{}.member", at + 1),
            Path::Entry { parent, key } => write!(f, "{parent}.{key}.member"),
        }
    }
}

impl Checker {
    fn finish(self) -> Result<(), ApiError> {
        let errors = match self.found.len() {
            0 => return Ok(()),
            1 => "1 validation error detected".to_owned(),
            n => format!("{n} validation errors detected"),
        };
        let text = format!("{errors}: {}", self.found.join("; "));
        Err(ApiError::new(ErrorCode::Validation, text))
    }

    fn structure(
        &mut self,
        structure: &'static Structure,
        object: &Map<String, Value>,
        path: &Path<'_>,
    ) -> Result<(), ApiError> {
        for member in structure.members {
            if self.found.len() >= VIOLATIONS_MAX {
                break;
            }
            let path = Path::Member { parent: path, name: member.name };
            match object.get(member.name) {
                // Bytes travel beside the object; none of them is some.
                None if member.place == Place::Payload && is_blob(member.shape) => {}
                None | Some(Value::Null) => self.absent(member, &path),
                Some(value) => self.value(member.shape, value, &path)?,
            }
        }
        Ok(())
    }

    fn absent(&mut self, member: &Member, path: &Path<'_>) {
        if member.required {
            self.found.push(format!(
                "Value null at '{path}' failed to satisfy constraint: Member must not be null"
            ));
        }
    }

    fn value(&mut self, shape: &Shape, value: &Value, path: &Path<'_>) -> Result<(), ApiError> {
        if let Kind::Structure(structure) = shape.kind {
            let object = value.as_object().ok_or_else(|| mismatch(value, "a structure", path))?;
            return self.structure(structure, object, path);
        }
        let mut failures = Vec::new();
        collect(shape, value, path, &mut failures)?;
        self.violations(shape, value, path, failures);
        match (&shape.kind, value) {
            (Kind::List { member, .. }, Value::Array(items)) if is_structure(member) => {
                for (at, item) in items.iter().enumerate() {
                    if self.found.len() >= VIOLATIONS_MAX {
                        break;
                    }
                    if !item.is_null() {
                        self.value(member, item, &Path::Item { parent: path, at })?;
                    }
                }
            }
            (Kind::Map { value: member, .. }, Value::Object(entries)) if is_structure(member) => {
                for (key, item) in entries {
                    if self.found.len() >= VIOLATIONS_MAX {
                        break;
                    }
                    if !item.is_null() {
                        self.value(member, item, &Path::Entry { parent: path, key })?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn violations(&mut self, shape: &Shape, value: &Value, path: &Path<'_>, texts: Vec<String>) {
        for text in texts {
            let mut echoed = Echo(String::new());
            // Full is not an error here: what fits is repeated.
            let _ = echo(shape, value, &mut echoed);
            self.found.push(format!(
                "Value '{}' at '{path}' failed to satisfy constraint: {text}",
                echoed.0
            ));
        }
    }
}

fn is_structure(shape: &Shape) -> bool {
    matches!(shape.kind, Kind::Structure(_))
}

fn is_blob(shape: &Shape) -> bool {
    matches!(shape.kind, Kind::Blob { .. })
}

/// The constraints that `value` itself fails, without the structures in it.
fn collect(
    shape: &Shape,
    value: &Value,
    path: &Path<'_>,
    failures: &mut Vec<String>,
) -> Result<(), ApiError> {
    match (&shape.kind, value) {
        (Kind::Text { .. }, Value::String(text)) => text_failures(shape, text, failures),
        (Kind::Text { .. }, _) => return Err(mismatch(value, "a String", path)),
        (Kind::Integer { min, max, wide }, Value::Number(number)) => {
            let range = if *wide { i64::MIN..=i64::MAX } else { i32::MIN as i64..=i32::MAX as i64 };
            let wanted = if *wide { "a Long" } else { "an Integer" };
            let number = number.as_i64().filter(|n| range.contains(n));
            let number = number.ok_or_else(|| mismatch(value, wanted, path))?;
            bounds("value", number, *min, *max, failures);
        }
        (Kind::Integer { wide, .. }, _) => {
            return Err(mismatch(value, if *wide { "a Long" } else { "an Integer" }, path));
        }
        (Kind::Double { min, max }, Value::Number(number)) => {
            let number = number.as_f64().ok_or_else(|| mismatch(value, "a Double", path))?;
            let (min, max) = (min.map(Decimal), max.map(Decimal));
            bounds("value", Decimal(number), min, max, failures);
        }
        (Kind::Double { .. }, _) => return Err(mismatch(value, "a Double", path)),
        (Kind::Boolean, Value::Bool(_)) => {}
        (Kind::Boolean, _) => return Err(mismatch(value, "a Boolean", path)),
        (Kind::Timestamp, _) => {
            let time = match value {
                Value::Number(number) => number.as_f64().and_then(Timestamp::from_secs),
                Value::String(text) => Timestamp::parse(text),
                _ => None,
            };
            time.ok_or_else(|| mismatch(value, "a Timestamp", path))?;
        }
        (Kind::Blob { .. }, Value::String(text)) if is_base64(text) => {}
        (Kind::Blob { .. }, Value::String(_)) => {
            let text = format!("The blob at '{path}' is not base64");
            return Err(ApiError::new(ErrorCode::Serialization, text));
        }
        (Kind::Blob { .. }, _) => return Err(mismatch(value, "a Blob", path)),
        (Kind::List { min, max, member }, Value::Array(items)) => {
            bounds("length", items.len() as u64, *min, *max, failures);
            if any_fails(member, items.iter(), path)? {
                failures.push(format!("Member must satisfy constraint: [{}]", demands(member)));
            }
        }
        (Kind::List { .. }, _) => return Err(mismatch(value, "a list", path)),
        (Kind::Map { min, max, key, value: member }, Value::Object(entries)) => {
            bounds("length", entries.len() as u64, *min, *max, failures);
            let mut wrong = Vec::new();
            entries.keys().for_each(|name| text_failures(key, name, &mut wrong));
            if !wrong.is_empty() {
                failures.push(format!("Map keys must satisfy constraint: [{}]", demands(key)));
            }
            if any_fails(member, entries.values(), path)? {
                failures.push(format!("Map value must satisfy constraint: [{}]", demands(member)));
            }
        }
        (Kind::Map { .. }, _) => return Err(mismatch(value, "a map", path)),
        (Kind::Structure(_), _) => {}
    }
    Ok(())
}

/// Whether an item of a list or map is null or fails its constraints.
fn any_fails<'v>(
    shape: &Shape,
    items: impl Iterator<Item = &'v Value>,
    path: &Path<'_>,
) -> Result<bool, ApiError> {
    let mut failures = Vec::new();
    for item in items {
        if item.is_null() {
            return Ok(true);
        }
        collect(shape, item, path, &mut failures)?;
        if !failures.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn text_failures(shape: &Shape, text: &str, failures: &mut Vec<String>) {
    let Kind::Text { min, max, pattern, one_of } = &shape.kind else { return };
    if min.is_some() || max.is_some() {
        let units = if text.is_ascii() { text.len() } else { text.encode_utf16().count() };
        bounds("length", units as u64, *min, *max, failures);
    }
    if let Some(pattern) = pattern
        && !pattern.matches(text)
    {
        failures.push(pattern_demand(pattern.text));
    }
    if !one_of.is_empty() && !one_of.contains(&text) {
        failures.push(enum_demand(one_of));
    }
}

fn bounds<N: PartialOrd + fmt::Display>(
    what: &str,
    n: N,
    min: Option<N>,
    max: Option<N>,
    failures: &mut Vec<String>,
) {
    if let Some(max) = max
        && n > max
    {
        failures.push(format!("Member must have {what} less than or equal to {max}"));
    } else if let Some(min) = min
        && n < min
    {
        failures.push(format!("Member must have {what} greater than or equal to {min}"));
    }
}

/// A double as Java prints it: always with a fraction.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Decimal(f64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

fn pattern_demand(pattern: &str) -> String {
    format!("Member must satisfy regular expression pattern: {pattern}")
}

fn enum_demand(values: &[&str]) -> String {
    format!("Member must satisfy enum value set: [{}]", values.join(", "))
}

/// Everything asked of an item, whichever part it fails.
fn demands(shape: &Shape) -> String {
    let mut all: Vec<String> = Vec::new();
    let mut both = |what: &str, min: Option<String>, max: Option<String>| {
        if let Some(max) = max {
            all.push(format!("Member must have {what} less than or equal to {max}"));
        }
        if let Some(min) = min {
            all.push(format!("Member must have {what} greater than or equal to {min}"));
        }
    };
    let words = |n: Option<u64>| n.map(|n| n.to_string());
    match &shape.kind {
        Kind::Text { min, max, pattern, one_of } => {
            both("length", words(*min), words(*max));
            all.extend(pattern.map(|pattern| pattern_demand(pattern.text)));
            if !one_of.is_empty() {
                all.push(enum_demand(one_of));
            }
        }
        Kind::Integer { min, max, .. } => {
            both("value", min.map(|n| n.to_string()), max.map(|n| n.to_string()));
        }
        Kind::Double { min, max } => {
            let words = |n: &Option<f64>| n.map(|n| Decimal(n).to_string());
            both("value", words(min), words(max));
        }
        Kind::List { min, max, member } => {
            both("length", words(*min), words(*max));
            all.push(format!("Member must satisfy constraint: [{}]", demands(member)));
        }
        Kind::Map { min, max, .. } | Kind::Blob { min, max } => {
            both("length", words(*min), words(*max));
        }
        Kind::Boolean | Kind::Timestamp | Kind::Structure(_) => {}
    }
    all.push("Member must not be null".to_owned());
    all.join(", ")
}

fn mismatch(found: &Value, wanted: &str, path: &Path<'_>) -> ApiError {
    let found = match found {
        Value::Null => "NULL_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(n) if n.is_f64() => "DECIMAL_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
        Value::Array(_) => "START_ARRAY",
        Value::Object(_) => "START_OBJECT",
    };
    let text = format!("{found} can not be converted to {wanted} at '{path}'");
    ApiError::new(ErrorCode::Serialization, text)
}

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    text.len() - digits.len() <= 2
        && digits.len() % 4 != 1
        && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

/// Text up to a bound; writing beyond it fails.
struct Echo(String);

impl fmt::Write for Echo {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = ECHO_BYTES_MAX.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        Err(fmt::Error)
    }
}

/// A value as Java's `toString` has it, which is what messages repeat.
fn echo(shape: &Shape, value: &Value, out: &mut Echo) -> fmt::Result {
    if shape.sensitive {
        return out.write_str("***");
    }
    match (&shape.kind, value) {
        (_, Value::Null) => out.write_str("null"),
        (_, Value::String(text)) => out.write_str(text),
        (Kind::Double { .. }, Value::Number(number)) => {
            write!(out, "{}", Decimal(number.as_f64().unwrap_or_default()))
        }
        (Kind::List { member, .. }, Value::Array(items)) => {
            out.write_str("[")?;
            for (at, item) in items.iter().enumerate() {
                out.write_str(if at > 0 { ", " } else { "" })?;
                echo(member, item, out)?;
            }
            out.write_str("]")
        }
        (Kind::Map { key, value: member, .. }, Value::Object(entries)) => {
            out.write_str("{")?;
            for (at, (name, item)) in entries.iter().enumerate() {
                out.write_str(if at > 0 { ", " } else { "" })?;
                out.write_str(if key.sensitive { "***" } else { name })?;
                out.write_str("=")?;
                echo(member, item, out)?;
            }
            out.write_str("}")
        }
        (Kind::Structure(structure), Value::Object(object)) => {
            write!(out, "{}(", structure.name)?;
            for (at, member) in structure.members.iter().enumerate() {
                out.write_str(if at > 0 { ", " } else { "" })?;
                write!(out, "{}=", lower_camel(member.name))?;
                echo(member.shape, object.get(member.name).unwrap_or(&Value::Null), out)?;
            }
            out.write_str(")")
        }
        (_, other) => write!(out, "{other}"),
    }
}

/// `KMSKeyArn` reads `kMSKeyArn`, as the service has it.
fn lower_camel(name: &str) -> String {
    let mut chars = name.chars();
    match chars.next() {
        Some(first) => first.to_ascii_lowercase().to_string() + chars.as_str(),
        None => String::new(),
    }
}

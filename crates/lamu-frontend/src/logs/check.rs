//! Holds members of requests against the service model's constraints and
//! words what fails, all of it at once, as the service does.
//!
//! Not here: what needs more than the request.

use std::fmt::Display;

use super::LogsError;

/// Longest name of a group or a stream.
const NAME_LENGTH_MAX: usize = 512;
const IDENTIFIER_LENGTH_MAX: usize = 2048;

#[derive(Debug, Default)]
pub struct Check(Vec<String>);

/// Runs checks and answers with all that failed.
pub fn all(checks: impl FnOnce(&mut Check)) -> Result<(), LogsError> {
    let mut check = Check::default();
    checks(&mut check);
    let Check(failed) = check;
    let count = failed.len();
    let errors = if count == 1 { "error" } else { "errors" };
    match count {
        0 => Ok(()),
        _ => Err(LogsError::invalid(format!(
            "{count} validation {errors} detected: {}",
            failed.join("; ")
        ))),
    }
}

impl Check {
    fn fail(&mut self, at: &str, value: impl Display, constraint: impl Display) {
        self.0
            .push(format!("Value '{value}' at '{at}' failed to satisfy constraint: {constraint}"));
    }

    /// A member that must be there.
    pub fn required<T>(&mut self, at: &str, value: Option<&T>) {
        if value.is_none() {
            self.0.push(format!(
                "Value null at '{at}' failed to satisfy constraint: Member must not be null"
            ));
        }
    }

    pub fn length(&mut self, at: &str, value: &str, min: usize, max: usize) {
        // As Java counts.
        let length = value.encode_utf16().count();
        if length < min {
            let least = format!("Member must have length greater than or equal to {min}");
            self.fail(at, value, least);
        }
        if length > max {
            let most = format!("Member must have length less than or equal to {max}");
            self.fail(at, value, most);
        }
    }

    fn form(&mut self, at: &str, value: &str, pattern: &str, fits: impl Fn(char) -> bool) {
        if !value.chars().all(fits) {
            let form = format!("Member must satisfy regular expression pattern: {pattern}");
            self.fail(at, value, form);
        }
    }

    pub fn group(&mut self, at: &str, name: Option<&str>) {
        self.required(at, name.as_ref());
        let Some(name) = name else { return };
        self.length(at, name, 1, NAME_LENGTH_MAX);
        self.form(at, name, r"[\.\-_/#A-Za-z0-9]+", is_of_group);
    }

    /// A name's part, which may be empty.
    pub fn group_part(&mut self, at: &str, name: &str) {
        self.length(at, name, 0, NAME_LENGTH_MAX);
        self.form(at, name, r"[\.\-_/#A-Za-z0-9]*", is_of_group);
    }

    pub fn identifier(&mut self, at: &str, identifier: &str) {
        self.length(at, identifier, 1, IDENTIFIER_LENGTH_MAX);
        self.form(at, identifier, r"[\w#+=/:,.@*-]*", |c| {
            c.is_ascii_alphanumeric() || "_#+=/:,.@*-".contains(c)
        });
    }

    pub fn stream(&mut self, at: &str, name: Option<&str>) {
        self.required(at, name.as_ref());
        let Some(name) = name else { return };
        self.length(at, name, 1, NAME_LENGTH_MAX);
        self.form(at, name, "[^:*]*", |c| c != ':' && c != '*');
    }

    pub fn range(&mut self, at: &str, value: Option<i64>, min: i64, max: i64) {
        let Some(value) = value else { return };
        if value < min {
            self.fail(at, value, format!("Member must have value greater than or equal to {min}"));
        }
        if value > max {
            self.fail(at, value, format!("Member must have value less than or equal to {max}"));
        }
    }

    pub fn one_of(&mut self, at: &str, value: &str, known: &[&str]) {
        if !known.contains(&value) {
            let set = known.join(", ");
            self.fail(at, value, format!("Member must satisfy enum value set: [{set}]"));
        }
    }

    pub fn tags<'a>(&mut self, at: &str, keys: impl Iterator<Item = (&'a String, &'a str)>) {
        let fits = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
        for (key, value) in keys {
            self.length(at, key, 1, 128);
            self.form(at, key, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$", fits);
            self.length(at, value, 0, 256);
            self.form(at, value, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$", fits);
        }
    }
}

fn is_of_group(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-/#".contains(c)
}

/// How many of a list; the default when nothing was asked.
pub fn count(asked: Option<i64>, max: usize) -> usize {
    asked.and_then(|asked| usize::try_from(asked).ok()).unwrap_or(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(checks: impl FnOnce(&mut Check)) -> String {
        all(checks).map_or_else(|error| error.message, |()| String::new())
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let text = said(|check| {
            check.group("logGroupName", Some("a b"));
            check.range("limit", Some(51), 1, 50);
            check.stream("logStreamName", None);
        });
        assert_eq!(
            text,
            "3 validation errors detected: Value 'a b' at 'logGroupName' failed to satisfy \
             constraint: Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+; \
             Value '51' at 'limit' failed to satisfy constraint: Member must have value less \
             than or equal to 50; Value null at 'logStreamName' failed to satisfy constraint: \
             Member must not be null"
        );
    }

    #[test]
    fn names_are_as_long_and_made_of_what_the_service_allows() {
        for (good, name) in
            [(true, "/aws/lambda/f"), (true, "a.b-c_d#1"), (false, "ü"), (false, "")]
        {
            let text = said(|check| check.group("g", Some(name)));
            assert_eq!(text.is_empty(), good, "{name}: {text}");
        }
        assert!(said(|check| check.group("g", Some(&"x".repeat(512)))).is_empty());
        assert!(!said(|check| check.group("g", Some(&"x".repeat(513)))).is_empty());
        assert!(said(|check| check.stream("s", Some("2026/11/25/[$LATEST]ü"))).is_empty());
        for bad in ["a:b", "a*"] {
            assert!(!said(|check| check.stream("s", Some(bad))).is_empty(), "{bad}");
        }
        let tags = [("Größe 1".to_owned(), "½"), ("bad;".to_owned(), "x")];
        let text = said(|check| check.tags("tags", tags.iter().map(|(key, value)| (key, *value))));
        assert!(text.starts_with("1 validation error detected: Value 'bad;' at 'tags'"), "{text}");
    }
}

//! The filter patterns of CloudWatch Logs: which events a reader wants.
//!
//! ```text
//!  ERROR "time out" -retry        all of these, none of those
//!  ?ERROR ?WARN                   any of these
//!  { $.level = "ERROR" && $.ms > 100 }   JSON events with such members
//! ```
//!
//! Source: CloudWatch Logs, "Filter pattern syntax". Regular expressions
//! between `%` and space-delimited fields in `[ ]` are refused rather than
//! misread. Not here: where the events come from.

mod condition;
mod terms;

use condition::Condition;
use terms::Terms;

/// Longest pattern, in characters: the service's limit.
pub const LOG_PATTERN_LENGTH_MAX: usize = 1024;

/// A pattern that was understood. The empty one matches every event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogPattern(Kind);

#[derive(Clone, Debug, Default, PartialEq)]
enum Kind {
    #[default]
    All,
    Terms(Terms),
    Json(Condition),
}

/// Why a text is no pattern, in the service's words where they are known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogPatternError {
    #[error("Invalid character(s) in term '{term}'")]
    Characters { term: String },
    #[error("Invalid filter pattern: {why}")]
    Form { why: &'static str },
}

impl LogPattern {
    pub fn parse(text: &str) -> Result<LogPattern, LogPatternError> {
        let text = text.trim();
        let kind = match text.as_bytes().first() {
            None => Kind::All,
            Some(b'{') => Kind::Json(condition::parse(text)?),
            Some(b'[') => {
                return Err(form("space-delimited patterns in [ ] are not supported"));
            }
            Some(_) => Kind::Terms(terms::parse(text)?),
        };
        Ok(LogPattern(kind))
    }

    pub fn matches(&self, message: &str) -> bool {
        match &self.0 {
            Kind::All => true,
            Kind::Terms(terms) => terms.matches(message),
            Kind::Json(condition) => {
                // Only objects have members; the rest need not be parsed.
                message.trim_start().starts_with('{')
                    && serde_json::from_str(message).is_ok_and(|event| condition.holds(&event))
            }
        }
    }
}

fn form(why: &'static str) -> LogPatternError {
    LogPatternError::Form { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_for_is_everything() {
        for empty in ["", "  ", "\"\""] {
            assert!(LogPattern::parse(empty).unwrap().matches("anything"), "{empty:?}");
        }
    }

    #[test]
    fn a_json_pattern_wants_a_json_object() {
        let pattern = LogPattern::parse("{ $.a = 1 }").unwrap();
        assert!(pattern.matches(r#"  {"a": 1}"#));
        for other in ["a = 1", "[1]", r#"{"a": 1"#, ""] {
            assert!(!pattern.matches(other), "{other}");
        }
    }

    #[test]
    fn what_is_not_served_is_refused_and_not_misread() {
        for refused in ["[ip, user]", "%ERR.*%", "{ $.a = %x% }"] {
            assert!(LogPattern::parse(refused).is_err(), "{refused}");
        }
    }
}

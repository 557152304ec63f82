//! The form of the constraint tables: what a member of a request must be.
//!
//! Not here: the tables themselves (`generated::constraints`) and their
//! interpreter (`validate`).

use std::sync::OnceLock;

use lamu_model::{FunctionRef, NameFamily};
use regex::Regex;

/// A structure: its members in the model's order.
#[derive(Debug)]
pub struct Structure {
    pub name: &'static str,
    pub members: &'static [Member],
}

#[derive(Debug)]
pub struct Member {
    /// As on the wire.
    pub name: &'static str,
    pub place: Place,
    pub required: bool,
    pub shape: &'static Shape,
}

/// Where a member of an input travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Body,
    /// A label of the path.
    Label,
    /// The query string, under this name.
    Query(&'static str),
    /// A header, under this name.
    Header(&'static str),
    /// The whole body.
    Payload,
}

#[derive(Debug)]
pub struct Shape {
    pub kind: Kind,
    /// Never repeated in a message.
    pub sensitive: bool,
}

#[derive(Debug)]
pub enum Kind {
    Text {
        /// UTF-16 units, as Java counts.
        min: Option<u64>,
        max: Option<u64>,
        pattern: Option<&'static Pattern>,
        one_of: &'static [&'static str],
    },
    Integer {
        min: Option<i64>,
        max: Option<i64>,
        /// 64 bits rather than 32.
        wide: bool,
    },
    Double {
        min: Option<f64>,
        max: Option<f64>,
    },
    Boolean,
    Timestamp,
    /// Base64 in JSON; raw as a payload.
    Blob {
        /// Bytes.
        min: Option<u64>,
        max: Option<u64>,
    },
    List {
        min: Option<u64>,
        max: Option<u64>,
        member: &'static Shape,
    },
    Map {
        min: Option<u64>,
        max: Option<u64>,
        key: &'static Shape,
        value: &'static Shape,
    },
    Structure(&'static Structure),
}

impl Structure {
    pub fn member(&self, name: &str) -> Option<&'static Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

/// A pattern of the model. Matches whole values only.
#[derive(Debug)]
pub struct Pattern {
    /// As the model has it, for messages.
    pub text: &'static str,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    /// Compiled when first needed.
    Regex { source: &'static str, compiled: OnceLock<Regex> },
    /// A function name in all its forms.
    Name(NameFamily),
}

impl Pattern {
    /// A pattern the regex crate reads as Java does.
    pub(crate) const fn same(text: &'static str) -> Pattern {
        Pattern::new(text, text)
    }

    /// A pattern with its translation.
    pub(crate) const fn new(text: &'static str, source: &'static str) -> Pattern {
        Pattern { text, rule: Rule::Regex { source, compiled: OnceLock::new() } }
    }

    pub(crate) const fn name(text: &'static str, family: NameFamily) -> Pattern {
        Pattern { text, rule: Rule::Name(family) }
    }

    pub fn matches(&self, value: &str) -> bool {
        match &self.rule {
            Rule::Name(family) => FunctionRef::parse(value, *family).is_ok(),
            Rule::Regex { source, compiled } => compiled
                .get_or_init(|| {
                    // A test compiles every pattern there is.
                    Regex::new(&format!(r"\A(?:{source})\z")).expect("pattern of the model")
                })
                .is_match(value),
        }
    }

    /// Which family of function names this is, if it is one.
    pub(crate) fn name_family(&self) -> Option<NameFamily> {
        match self.rule {
            Rule::Name(family) => Some(family),
            Rule::Regex { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::generated::constraints::PATTERNS;

    fn pattern(text: &str) -> &'static super::Pattern {
        PATTERNS.iter().find(|pattern| pattern.text == text).expect(text)
    }

    #[test]
    fn every_pattern_of_the_model_compiles() {
        for pattern in PATTERNS {
            pattern.matches("x");
        }
    }

    #[test]
    fn look_around_is_rewritten_with_the_same_meaning() {
        let alias = pattern("(?!^[0-9]+$)([a-zA-Z0-9-_]+)");
        let url = pattern(r"((?!^\d+$)^[0-9a-zA-Z-_]+$)");
        for (value, fits) in
            [("prod", true), ("1a", true), ("a1", true), ("12", false), ("", false), ("a!", false)]
        {
            assert_eq!(alias.matches(value), fits, "{value}");
            assert_eq!(url.matches(value), fits, "{value}");
        }
        let bucket = pattern(r"[0-9A-Za-z\.\-_]*(?<!\.)");
        for (value, fits) in [("my.bucket", true), ("", true), ("bucket.", false), ("a/b", false)] {
            assert_eq!(bucket.matches(value), fits, "{value}");
        }
        let collection = pattern(r"(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)");
        for (value, fits) in [
            ("orders", true),
            ("s", true),
            ("system", true),
            ("systems.x", true),
            ("system.", false),
            ("system.users", false),
            ("a$b", false),
            ("-a", false),
            ("", false),
        ] {
            assert_eq!(collection.matches(value), fits, "{value}");
        }
        let url_name = PATTERNS.iter().find(|p| p.text.contains(r"(?!\d+$)[0-9a-z")).unwrap();
        for (value, fits) in [("fn", true), ("fn:prod", true), ("fn:1", false), ("fn:1a", true)] {
            assert_eq!(url_name.matches(value), fits, "{value}");
        }
    }

    #[test]
    fn classes_and_dots_mean_what_java_means() {
        let handler = pattern(r"[^\s]+");
        assert!(handler.matches("index.handler\u{a0}"), "a no-break space is no \\s in Java");
        assert!(!handler.matches("index handler"));
        let any = pattern(".*");
        assert!(any.matches("") && any.matches("a b"));
        assert!(!any.matches("a\r") && !any.matches("a\u{2028}"));
        assert!(pattern(r"[\s\S]*").matches("a\nb"));
        let tag = pattern(r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)");
        assert!(tag.matches("Größe 1 = ½") && !tag.matches("a;b"));
    }
}

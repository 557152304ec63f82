//! Function references and ARNs: the forms of `lambda-api` section 2.
//!
//! A reference is read in two steps, as the service does: form first (this
//! file, pure), then region, account, qualifier and existence (the frontend).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{AccountId, FunctionName, Qualifier, Region};

/// An ARN in its finished textual form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Arn(String);

impl Arn {
    pub fn new(text: impl Into<String>) -> Arn {
        Arn(text.into())
    }

    pub fn function(region: &Region, account: &AccountId, name: &FunctionName) -> Arn {
        Arn(format!("arn:aws:lambda:{region}:{account}:function:{name}"))
    }

    /// This ARN followed by `:qualifier`.
    pub fn qualified(&self, qualifier: impl fmt::Display) -> Arn {
        Arn(format!("{}:{qualifier}", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The two families of the FunctionName constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFamily {
    /// At most 140 characters, no dots.
    Strict,
    /// At most 256 characters, dots and `$LATEST.PUBLISHED` allowed.
    Namespaced,
}

/// A function as a caller may name it: bare name to full ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRef {
    pub region: Option<Region>,
    pub account: Option<AccountId>,
    pub name: FunctionName,
    pub qualifier: Option<Qualifier>,
}

/// The text has no form of a function reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefError;

impl FunctionRef {
    /// Reads `fn`, `fn:qual`, `function:fn`, `123456789012:function:fn`,
    /// `us-east-1:123456789012:function:fn` and full ARNs, each optionally
    /// followed by `:qual`. Lengths are the model's business, not this one's.
    ///
    /// As the service's pattern has it, `arn:aws:lambda:R:A:function` names a
    /// function called `function`.
    pub fn parse(text: &str, family: NameFamily) -> Result<FunctionRef, RefError> {
        let mut parts: Vec<&str> = text.split(':').collect();
        if parts.first() == Some(&"arn") {
            let whole = parts.len() >= 6
                && is_partition(parts[1])
                && parts[2] == "lambda"
                && is_region(parts[3])
                && is_account(parts[4]);
            if !whole {
                return Err(RefError);
            }
            parts.drain(..3);
        }
        let mut rest = parts.as_slice();
        let mut region = None;
        let mut account = None;
        if let [first, tail @ ..] = rest
            && !tail.is_empty()
            && is_region(first)
            && tail.first().is_some_and(|next| is_account(next))
            && tail.len() > 1
        {
            region = Some(Region::new(*first));
            rest = tail;
        }
        if let [first, tail @ ..] = rest
            && !tail.is_empty()
            && is_account(first)
            && (region.is_some() || tail.first() == Some(&"function"))
        {
            account = Some(AccountId::new(*first));
            rest = tail;
        }
        if let [first, tail @ ..] = rest
            && *first == "function"
            && !tail.is_empty()
        {
            rest = tail;
        }
        let (name, qualifier) = match rest {
            [name] => (*name, None),
            [name, qualifier] => (*name, Some(*qualifier)),
            _ => return Err(RefError),
        };
        if name.is_empty() || !name.bytes().all(|b| is_name_byte(b, family)) {
            return Err(RefError);
        }
        let qualifier = match qualifier {
            None => None,
            Some(text) => {
                let known = text == "$LATEST"
                    || (family == NameFamily::Namespaced && text == "$LATEST.PUBLISHED")
                    || (!text.is_empty()
                        && text.bytes().all(|b| is_name_byte(b, NameFamily::Strict)));
                if !known {
                    return Err(RefError);
                }
                Some(Qualifier::parse(text))
            }
        };
        Ok(FunctionRef { region, account, name: FunctionName::new(name), qualifier })
    }
}

fn is_name_byte(byte: u8, family: NameFamily) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_')
        || (family == NameFamily::Namespaced && byte == b'.')
}

fn is_partition(text: &str) -> bool {
    text.strip_prefix("aws")
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-'))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}`
fn is_region(text: &str) -> bool {
    let text = text.strip_prefix("eusc-").unwrap_or(text);
    let parts: Vec<&str> = text.split('-').collect();
    let lower = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_lowercase());
    let tail = match parts.as_slice() {
        [area, tail @ ..] if area.len() == 2 && lower(area) => tail,
        _ => return false,
    };
    let (middle, digit) = match tail {
        [middle, digit] => (middle, digit),
        [partition, middle, digit]
            if *partition == "gov"
                || (partition.starts_with("iso") && partition.len() <= 4 && lower(partition)) =>
        {
            (middle, digit)
        }
        _ => return false,
    };
    lower(middle) && digit.len() == 1 && digit.as_bytes()[0].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FunctionRef, RefError> {
        FunctionRef::parse(text, NameFamily::Strict)
    }

    #[test]
    fn every_accepted_form_names_the_same_function() {
        for form in [
            "fn",
            "function:fn",
            "123456789012:function:fn",
            "us-east-1:123456789012:function:fn",
            "arn:aws:lambda:us-east-1:123456789012:function:fn",
            "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:fn",
        ] {
            let bare = read(form).unwrap_or_else(|_| panic!("{form}"));
            assert_eq!((bare.name.as_str(), bare.qualifier), ("fn", None), "{form}");
            let qualified = read(&format!("{form}:prod")).unwrap_or_else(|_| panic!("{form}"));
            assert_eq!(qualified.qualifier, Some(Qualifier::Alias("prod".into())), "{form}");
        }
    }

    #[test]
    fn broken_forms_are_refused() {
        for form in [
            "",
            "fn:1:2",
            "function:fn:$LATEST:x",
            "arn:aws:lambda:123456789012:function:fn",
            "arn:aws:lambda:us-east-1:function:fn",
            "fn:$LATES",
            "invalid!",
            "a.b",
        ] {
            assert_eq!(read(form), Err(RefError), "{form}");
        }
    }

    #[test]
    fn an_arn_that_ends_in_function_names_a_function_called_function() {
        let read = read("arn:aws:lambda:us-east-1:123456789012:function").unwrap();
        assert_eq!(read.name.as_str(), "function");
        assert_eq!(read.region, Some(Region::new("us-east-1")));
    }

    #[test]
    fn dots_belong_to_the_namespaced_family() {
        let read = FunctionRef::parse("a.b:$LATEST.PUBLISHED", NameFamily::Namespaced).unwrap();
        assert_eq!(read.name.as_str(), "a.b");
    }
}

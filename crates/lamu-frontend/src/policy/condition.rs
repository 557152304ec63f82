//! One condition of a statement: operator, key, values, and whether a request
//! fulfils it.
//!
//! ```text
//!  ForAllValues:StringNotLikeIfExists
//!  quantifier   test  negated  when the key is missing
//! ```
//!
//! Not here: the values a request has (`context`), the JSON around a condition
//! (`document`).

use std::cmp::Ordering;
use std::net::IpAddr;

use chrono::{DateTime, NaiveDate, Utc};

use super::context::Context;
use super::pattern::{ArnPattern, Case, Pattern, Resolve, Variables, Wildcards};

#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    quantifier: Quantifier,
    /// A missing key fulfils it.
    if_exists: bool,
    negated: bool,
    /// In lower case: keys have none.
    key: String,
    test: Test,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    One,
    ForAll,
    ForAny,
}

/// The values of the policy, any of which may match.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Text(Vec<Pattern>, Case),
    Arn(Vec<ArnPattern>),
    Number(Compare, Vec<f64>),
    Date(Compare, Vec<DateTime<Utc>>),
    Bool(Vec<bool>),
    Address(Vec<Network>),
    Binary(Vec<String>),
    /// Whether the key must be missing.
    Null(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: u128,
    v4: bool,
    /// Bits of the address that count.
    bits: u8,
}

/// Every operator without its prefix and suffix, with how it reads values.
const OPERATORS: [(&str, Operator); 27] = [
    ("StringEquals", Operator::text(Wildcards::Literal, Case::Exact)),
    ("StringNotEquals", Operator::text(Wildcards::Literal, Case::Exact).not()),
    ("StringEqualsIgnoreCase", Operator::text(Wildcards::Literal, Case::Ignored)),
    ("StringNotEqualsIgnoreCase", Operator::text(Wildcards::Literal, Case::Ignored).not()),
    ("StringLike", Operator::text(Wildcards::Matched, Case::Exact)),
    ("StringNotLike", Operator::text(Wildcards::Matched, Case::Exact).not()),
    ("ArnEquals", Operator::new(Read::Arn)),
    ("ArnNotEquals", Operator::new(Read::Arn).not()),
    ("ArnLike", Operator::new(Read::Arn)),
    ("ArnNotLike", Operator::new(Read::Arn).not()),
    ("NumericEquals", Operator::new(Read::Number(Compare::Equal))),
    ("NumericNotEquals", Operator::new(Read::Number(Compare::Equal)).not()),
    ("NumericLessThan", Operator::new(Read::Number(Compare::Less))),
    ("NumericLessThanEquals", Operator::new(Read::Number(Compare::LessOrEqual))),
    ("NumericGreaterThan", Operator::new(Read::Number(Compare::Greater))),
    ("NumericGreaterThanEquals", Operator::new(Read::Number(Compare::GreaterOrEqual))),
    ("DateEquals", Operator::new(Read::Date(Compare::Equal))),
    ("DateNotEquals", Operator::new(Read::Date(Compare::Equal)).not()),
    ("DateLessThan", Operator::new(Read::Date(Compare::Less))),
    ("DateLessThanEquals", Operator::new(Read::Date(Compare::LessOrEqual))),
    ("DateGreaterThan", Operator::new(Read::Date(Compare::Greater))),
    ("DateGreaterThanEquals", Operator::new(Read::Date(Compare::GreaterOrEqual))),
    ("Bool", Operator::new(Read::Bool)),
    ("BinaryEquals", Operator::new(Read::Binary)),
    ("IpAddress", Operator::new(Read::Address)),
    ("NotIpAddress", Operator::new(Read::Address).not()),
    ("Null", Operator::new(Read::Null)),
];

#[derive(Clone, Copy, Debug)]
struct Operator {
    read: Read,
    negated: bool,
}

#[derive(Clone, Copy, Debug)]
enum Read {
    Text(Wildcards, Case),
    Arn,
    Number(Compare),
    Date(Compare),
    Bool,
    Binary,
    Address,
    Null,
}

impl Operator {
    const fn new(read: Read) -> Operator {
        Operator { read, negated: false }
    }

    const fn text(wildcards: Wildcards, case: Case) -> Operator {
        Operator::new(Read::Text(wildcards, case))
    }

    const fn not(self) -> Operator {
        Operator { negated: true, ..self }
    }
}

impl Condition {
    /// The error is for the person who wrote the policy.
    pub fn parse(
        operator: &str,
        key: &str,
        values: &[String],
        variables: Variables,
    ) -> Result<Condition, String> {
        let (quantifier, rest) = match operator.split_once(':') {
            None => (Quantifier::One, operator),
            Some(("ForAllValues", rest)) => (Quantifier::ForAll, rest),
            Some(("ForAnyValue", rest)) => (Quantifier::ForAny, rest),
            Some((prefix, _)) => {
                return Err(format!(
                    "{prefix} is no prefix of an operator; ForAllValues and ForAnyValue are"
                ));
            }
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let known = OPERATORS.iter().find(|(known, _)| *known == name);
        let Some((_, Operator { read, negated })) = known else {
            return Err(format!("{operator} is no operator of a condition"));
        };
        if matches!(read, Read::Null) && if_exists {
            return Err("Null takes no IfExists".to_owned());
        }
        if values.is_empty() {
            return Err(format!("{operator} of {key} has no value"));
        }
        let test = read_values(*read, values, variables)
            .map_err(|value| format!("{operator} of {key} cannot be {value:?}"))?;
        let key = key.to_ascii_lowercase();
        Ok(Condition { quantifier, if_exists, negated: *negated, key, test })
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it ties a request to what nobody can choose at will: a fixed
    /// account, organization, source or address.
    ///
    /// Fixed are values without wildcards and variables; of an ARN its account
    /// is enough. Networks are fixed when none is wider than an IPv4 /8 or an
    /// IPv6 /32 and all together are no more than sixteen of those.
    pub fn narrows(&self) -> bool {
        const FIXED: [&str; 9] = [
            "aws:sourcearn",
            "aws:sourceaccount",
            "aws:sourceorgid",
            "aws:principalorgid",
            "aws:principalaccount",
            "aws:principalarn",
            "aws:sourceip",
            "aws:sourcevpc",
            "aws:sourcevpce",
        ];
        let fixed = FIXED.contains(&self.key.as_str()) || self.key == "lambda:eventsourcetoken";
        let values_fixed = match &self.test {
            Test::Text(patterns, _) => patterns.iter().all(Pattern::is_literal),
            Test::Arn(patterns) => patterns.iter().all(ArnPattern::is_fixed),
            Test::Address(networks) => Network::are_few(networks),
            _ => false,
        };
        fixed
            && values_fixed
            && !self.negated
            && !self.if_exists
            && self.quantifier != Quantifier::ForAll
    }

    pub fn holds(&self, context: &Context<'_>) -> bool {
        let values = context.values(&self.key);
        if let Test::Null(missing) = self.test {
            return values.is_none_or(|values| values.is_empty()) == missing;
        }
        let resolve = |key: &str| match context.values(key) {
            // Only what has one value can stand in a text.
            Some(values) if values.len() == 1 => values.into_iter().next(),
            _ => None,
        };
        let Some(values) = values.filter(|values| !values.is_empty()) else {
            return match self.quantifier {
                Quantifier::ForAll => true,
                Quantifier::ForAny => self.if_exists,
                Quantifier::One => self.if_exists || self.negated,
            };
        };
        let fits = |value: &String| self.test.matches(value, &resolve) != self.negated;
        match self.quantifier {
            Quantifier::ForAll => values.iter().all(fits),
            Quantifier::ForAny => values.iter().any(fits),
            // A negation is of the whole: no value may match.
            Quantifier::One if self.negated => values.iter().all(fits),
            Quantifier::One => values.iter().any(fits),
        }
    }
}

impl Test {
    fn matches(&self, value: &str, resolve: Resolve<'_>) -> bool {
        match self {
            Test::Text(patterns, case) => {
                patterns.iter().any(|pattern| pattern.matches(value, *case, resolve))
            }
            Test::Arn(patterns) => patterns.iter().any(|pattern| pattern.matches(value, resolve)),
            Test::Number(compare, numbers) => value
                .parse::<f64>()
                .is_ok_and(|value| numbers.iter().any(|number| compare.holds(&value, number))),
            Test::Date(compare, dates) => date(value)
                .is_some_and(|value| dates.iter().any(|date| compare.holds(&value, date))),
            Test::Bool(flags) => flag(value).is_some_and(|value| flags.contains(&value)),
            Test::Binary(texts) => texts.iter().any(|text| text == value),
            Test::Address(networks) => value
                .parse::<IpAddr>()
                .is_ok_and(|address| networks.iter().any(|network| network.has(address))),
            Test::Null(_) => false,
        }
    }
}

impl Compare {
    fn holds<T: PartialOrd>(self, value: &T, bound: &T) -> bool {
        let ordering = value.partial_cmp(bound);
        match self {
            Compare::Equal => ordering == Some(Ordering::Equal),
            Compare::Less => ordering == Some(Ordering::Less),
            Compare::LessOrEqual => ordering.is_some_and(Ordering::is_le),
            Compare::Greater => ordering == Some(Ordering::Greater),
            Compare::GreaterOrEqual => ordering.is_some_and(Ordering::is_ge),
        }
    }
}

impl Network {
    /// `10.0.0.0/8`, or an address alone.
    fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        };
        let (address, v4) = number(address.parse().ok()?);
        let width = if v4 { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Network { address, v4, bits })
    }

    /// Counted in 65,536ths of the widest that is taken, so that many narrow
    /// ones do not add up to everyone.
    fn are_few(networks: &[Network]) -> bool {
        const WHOLE: u64 = 1 << 16;
        let mut parts = 0_u64;
        for network in networks {
            let widest = if network.v4 { 8 } else { 32 };
            let Some(narrower) = network.bits.checked_sub(widest) else { return false };
            parts = parts.saturating_add((WHOLE >> narrower.min(16)).max(1));
        }
        parts <= 16 * WHOLE
    }

    fn has(&self, address: IpAddr) -> bool {
        let (address, v4) = number(address.to_canonical());
        let width: u32 = if self.v4 { 32 } else { 128 };
        let ignored = width - u32::from(self.bits);
        let high = |address: u128| address.checked_shr(ignored).unwrap_or(0);
        v4 == self.v4 && high(address) == high(self.address)
    }
}

fn number(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(address) => (u32::from(address).into(), true),
        IpAddr::V6(address) => (address.into(), false),
    }
}

/// The error is the value that cannot be read.
fn read_values(read: Read, values: &[String], variables: Variables) -> Result<Test, String> {
    fn all<T>(values: &[String], read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
        values.iter().map(|value| read(value).ok_or_else(|| value.clone())).collect()
    }
    Ok(match read {
        Read::Text(wildcards, case) => {
            Test::Text(all(values, |value| Pattern::parse(value, wildcards, variables).ok())?, case)
        }
        Read::Arn => Test::Arn(all(values, |value| ArnPattern::parse(value, variables).ok())?),
        Read::Number(compare) => Test::Number(
            compare,
            all(values, |value| value.parse::<f64>().ok().filter(|number| number.is_finite()))?,
        ),
        Read::Date(compare) => Test::Date(compare, all(values, date)?),
        Read::Bool => Test::Bool(all(values, flag)?),
        Read::Binary => Test::Binary(values.to_vec()),
        Read::Address => Test::Address(all(values, Network::parse)?),
        Read::Null => match all(values, flag)?.as_slice() {
            [missing] => Test::Null(*missing),
            _ => return Err(values.join(", ")),
        },
    })
}

fn flag(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

/// ISO 8601 or seconds since the epoch.
fn date(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(seconds) = text.parse::<i64>() {
        return DateTime::from_timestamp(seconds, 0);
    }
    if let Ok(date) = DateTime::parse_from_rfc3339(text) {
        return Some(date.to_utc());
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::principal::Principal;
    use lamu_model::AccountId;

    /// Of a request whose key `k:k` has these values, or is missing.
    fn holds(operator: &str, policy: &[&str], request: Option<&[&str]>) -> bool {
        let values: Vec<String> = policy.iter().map(|value| (*value).to_owned()).collect();
        let condition = Condition::parse(operator, "K:K", &values, Variables::Replaced).unwrap();
        let alice = Principal::user(AccountId::new("111122223333"), "alice", Vec::new());
        let mut context = Context::new(&alice, Utc::now());
        if let Some(values) = request {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            context.more.push(("k:k".to_owned(), values));
        }
        condition.holds(&context)
    }

    #[test]
    fn operators_compare_as_iam_documents_them() {
        let table: &[(&str, &[&str], &str, bool)] = &[
            ("StringEquals", &["a"], "a", true),
            ("StringEquals", &["a"], "A", false),
            ("StringEquals", &["a*"], "ab", false),
            ("StringEquals", &["a*"], "a*", true),
            ("StringEquals", &["x", "a"], "a", true),
            ("StringEquals", &["${aws:username}"], "alice", true),
            ("StringEquals", &["${aws:userid}-${aws:username}"], "alice-alice", true),
            ("StringNotEquals", &["a", "b"], "b", false),
            ("StringNotEquals", &["a", "b"], "c", true),
            ("StringEqualsIgnoreCase", &["aB"], "Ab", true),
            ("StringNotEqualsIgnoreCase", &["aB"], "Ab", false),
            ("StringLike", &["a*"], "ab", true),
            ("StringLike", &["a?"], "abc", false),
            ("StringNotLike", &["a*"], "ab", false),
            ("ArnLike", &["arn:aws:s3:::b*"], "arn:aws:s3:::bucket", true),
            ("ArnEquals", &["arn:aws:s3:::b*"], "arn:aws:s3:::bucket", true),
            ("ArnLike", &["arn:aws:sns:*:*:t"], "arn:aws:sns:us-east-1:1:t", true),
            ("ArnLike", &["arn:aws:sns:*:t"], "arn:aws:sns:us-east-1:1:t", false),
            ("ArnNotLike", &["arn:aws:s3:::b*"], "arn:aws:s3:::other", true),
            ("NumericEquals", &["3"], "3.0", true),
            ("NumericNotEquals", &["3"], "4", true),
            ("NumericLessThan", &["3"], "3", false),
            ("NumericLessThanEquals", &["3"], "3", true),
            ("NumericGreaterThan", &["3"], "4", true),
            ("NumericGreaterThanEquals", &["3"], "2.9", false),
            ("NumericLessThan", &["3"], "few", false),
            ("DateLessThan", &["2026-01-02"], "2026-01-01T23:59:59Z", true),
            ("DateGreaterThan", &["2026-01-02T00:00:00Z"], "1767312001", true),
            ("DateEquals", &["1767312000"], "2026-01-02T00:00:00Z", true),
            ("DateNotEquals", &["2026-01-02"], "2026-01-02T00:00:00Z", false),
            ("Bool", &["true"], "TRUE", true),
            ("Bool", &["true"], "false", false),
            ("Bool", &["true"], "yes", false),
            ("BinaryEquals", &["QUJD"], "QUJD", true),
            ("IpAddress", &["10.0.0.0/8"], "10.1.2.3", true),
            ("IpAddress", &["10.0.0.0/8"], "11.1.2.3", false),
            ("IpAddress", &["10.1.2.3"], "10.1.2.4", false),
            ("IpAddress", &["0.0.0.0/0"], "10.1.2.3", true),
            ("IpAddress", &["0.0.0.0/0"], "::1", false),
            ("IpAddress", &["::ffff:0:0/96", "10.0.0.0/8"], "::ffff:10.0.0.1", true),
            ("IpAddress", &["2001:db8::/32"], "2001:db8:1::1", true),
            ("NotIpAddress", &["10.0.0.0/8"], "10.1.2.3", false),
            ("Null", &["true"], "x", false),
            ("Null", &["false"], "x", true),
        ];
        for (operator, policy, request, expected) in table {
            let got = holds(operator, policy, Some(&[request]));
            assert_eq!(got, *expected, "{operator} {policy:?} of {request}");
        }
    }

    #[test]
    fn a_missing_key_fails_what_asks_for_it_and_fulfils_what_forbids_it() {
        let table = [
            ("StringEquals", false),
            ("StringNotEquals", true),
            ("StringEqualsIfExists", true),
            ("StringNotEqualsIfExists", true),
            ("ForAllValues:StringEquals", true),
            ("ForAllValues:StringNotEquals", true),
            ("ForAnyValue:StringEquals", false),
            ("ForAnyValue:StringEqualsIfExists", true),
        ];
        for (operator, expected) in table {
            assert_eq!(holds(operator, &["a"], None), expected, "{operator}");
            assert_eq!(holds(operator, &["a"], Some(&[])), expected, "{operator} of no values");
        }
        assert!(holds("Null", &["true"], None));
        assert!(!holds("Null", &["false"], None));
        assert!(!holds("StringEqualsIfExists", &["a"], Some(&["b"])));
        assert!(!holds("StringNotEqualsIfExists", &["a"], Some(&["a"])));
    }

    #[test]
    fn quantifiers_range_over_the_values_of_the_request() {
        let table: &[(&str, &[&str], &[&str], bool)] = &[
            ("ForAllValues:StringEquals", &["a", "b"], &["a", "b"], true),
            ("ForAllValues:StringEquals", &["a", "b"], &["a", "c"], false),
            ("ForAnyValue:StringEquals", &["a", "b"], &["c", "b"], true),
            ("ForAnyValue:StringEquals", &["a", "b"], &["c", "d"], false),
            ("ForAllValues:StringNotEquals", &["a"], &["b", "c"], true),
            ("ForAllValues:StringNotEquals", &["a"], &["b", "a"], false),
            ("ForAnyValue:StringNotEquals", &["a"], &["a", "b"], true),
            ("ForAnyValue:StringNotEquals", &["a"], &["a"], false),
            ("StringEquals", &["a"], &["b", "a"], true),
            ("StringNotEquals", &["a"], &["b", "a"], false),
            ("ForAllValues:StringLike", &["team-*"], &["team-a", "team-b"], true),
        ];
        for (operator, policy, request, expected) in table {
            let got = holds(operator, policy, Some(request));
            assert_eq!(got, *expected, "{operator} {policy:?} of {request:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_value() {
        let read = |operator: &str, value: &str| {
            let values = [value.to_owned()];
            Condition::parse(operator, "k:k", &values, Variables::Replaced).map(|_| ())
        };
        let table = [
            ("StringLikes", "a", "StringLikes is no operator of a condition"),
            ("ForSome:StringLike", "a", "ForSome is no prefix"),
            ("NumericEquals", "three", "NumericEquals of k:k cannot be \"three\""),
            ("NumericEquals", "inf", "NumericEquals of k:k cannot be \"inf\""),
            ("DateLessThan", "tomorrow", "cannot be \"tomorrow\""),
            ("Bool", "yes", "cannot be \"yes\""),
            ("IpAddress", "10.0.0.0/33", "cannot be \"10.0.0.0/33\""),
            ("ArnLike", "bucket", "cannot be \"bucket\""),
            ("StringLike", "${open", "cannot be \"${open\""),
            ("NullIfExists", "true", "Null takes no IfExists"),
        ];
        for (operator, value, text) in table {
            let error = read(operator, value).unwrap_err();
            assert!(error.contains(text), "{operator} {value}: {error}");
        }
        assert!(Condition::parse("Bool", "k:k", &[], Variables::Replaced).is_err());
    }
}

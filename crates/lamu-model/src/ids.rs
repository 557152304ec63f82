//! Names and ids as types, so that one cannot be handed over as another.
//!
//! Not here: parsing of function references and ARNs (`arn`).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name!(/** An AWS account: twelve digits. */ AccountId);
name!(/** An AWS region, such as `us-east-1`. */ Region);
name!(/** A function's bare name, case sensitive, unique per account and region. */ FunctionName);
name!(/** One host that runs environments. */ WorkerId);
name!(/** The id of one invocation as caller, function and logs see it. */ RequestId);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.simple())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.simple())
            }
        }
    };
}

uuid_id!(
    /// One immutable code and configuration. A published version keeps its id
    /// for ever; `$LATEST` gets a new one with every update, so an environment
    /// never serves code it was not made for.
    VersionId
);
uuid_id!(
    /// One sandbox, and the execution environment that lives in it. Never
    /// reused.
    SandboxId
);

/// One loan of one environment to one invocation. Unique within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

/// The reign of one manager. Workers refuse commands of an older one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

/// `$LATEST`, or a published number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    Latest,
    Number(u64),
}

impl Version {
    /// The version that `text` names, or `None` when it names none (an alias).
    pub fn parse(text: &str) -> Option<Version> {
        if text == "$LATEST" {
            return Some(Version::Latest);
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        text.parse().ok().map(Version::Number)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Latest => f.write_str("$LATEST"),
            Version::Number(n) => write!(f, "{n}"),
        }
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Version::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a version")))
    }
}

/// What stands behind the name in a call: a version or an alias.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Qualifier {
    Version(Version),
    Alias(String),
}

impl Qualifier {
    pub fn parse(text: &str) -> Qualifier {
        match Version::parse(text) {
            Some(version) => Qualifier::Version(version),
            None => Qualifier::Alias(text.to_owned()),
        }
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Qualifier::Version(version) => version.fmt(f),
            Qualifier::Alias(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_versions_and_everything_else_is_an_alias() {
        assert_eq!(Qualifier::parse("$LATEST"), Qualifier::Version(Version::Latest));
        assert_eq!(Qualifier::parse("12"), Qualifier::Version(Version::Number(12)));
        assert_eq!(Qualifier::parse("prod"), Qualifier::Alias("prod".into()));
        assert_eq!(Qualifier::parse("$latest"), Qualifier::Alias("$latest".into()));
        assert_eq!(Qualifier::parse("1a"), Qualifier::Alias("1a".into()));
    }
}

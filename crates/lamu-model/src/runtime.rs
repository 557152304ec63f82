//! Lambda's runtime identifiers: which language and version each asks for.
//!
//! Not here: which interpreter of a host serves it (`lamu_worker`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Arn, Digest, Region};

/// A runtime identifier as the API takes it, for example `python3.12`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Runtime(String);

/// What an identifier asks the host for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    /// `bootstrap` in the package is the runtime.
    Provided,
    /// CPython of this major and minor version.
    Python { minor: u32 },
    /// Node.js of this major version.
    Node { major: u32 },
    /// Known to Lambda and not served here: Java, .NET, Ruby, Go.
    Other,
}

impl Runtime {
    pub fn new(identifier: impl Into<String>) -> Runtime {
        Runtime(identifier.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn language(&self) -> Language {
        let id = self.0.as_str();
        if id.starts_with("provided") {
            return Language::Provided;
        }
        if let Some(minor) = id.strip_prefix("python3.").and_then(|minor| minor.parse().ok()) {
            return Language::Python { minor };
        }
        let node = id.strip_prefix("nodejs").and_then(|rest| rest.strip_suffix(".x"));
        if let Some(major) = node.and_then(|major| major.parse().ok()) {
            return Language::Node { major };
        }
        Language::Other
    }

    /// The ARN of the runtime's version: what API answers and INIT_START show.
    ///
    /// Lambda names each patch of a runtime by 64 hex digits. A host has one
    /// build of each, which only its owner changes, and hosts may differ, so
    /// the identifier is all there is to name.
    pub fn version_arn(&self, region: &Region) -> Arn {
        Arn::new(format!("arn:aws:lambda:{region}::runtime:{}", Digest::of(self.0.as_bytes())))
    }

    /// Whether Lambda ships the runtime (and so logs INIT_START and sets
    /// AWS_EXECUTION_ENV) rather than the package.
    pub fn is_managed(&self) -> bool {
        self.language() != Language::Provided
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_names_its_language_and_version() {
        assert_eq!(Runtime::new("python3.12").language(), Language::Python { minor: 12 });
        assert_eq!(Runtime::new("nodejs20.x").language(), Language::Node { major: 20 });
        assert_eq!(Runtime::new("provided.al2023").language(), Language::Provided);
        assert_eq!(Runtime::new("java21").language(), Language::Other);
    }

    #[test]
    fn a_version_arn_names_runtime_and_region_by_sixty_four_hex_digits() {
        let arn = |id: &str, region: &str| Runtime::new(id).version_arn(&Region::new(region));
        let python = arn("python3.12", "eu-west-1");
        let hex = python.as_str().strip_prefix("arn:aws:lambda:eu-west-1::runtime:").unwrap();
        assert!(hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "{hex}");
        assert_ne!(python, arn("python3.11", "eu-west-1"));
        assert_eq!(python, arn("python3.12", "eu-west-1"));
    }
}

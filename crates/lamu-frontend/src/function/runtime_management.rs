//! When a version takes a newer build of its runtime ("other configuration"
//! of the API reference).
//!
//! A host has one build of each runtime and it is the host's owner who
//! changes it, so there is one runtime version to pin: the one there is. What
//! was asked for is kept and shown; another version is refused.

use lamu_model::{Arn, Region, Runtime};
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuntimeManagement {
    #[default]
    Auto,
    FunctionUpdate,
    Manual,
}

impl RuntimeManagement {
    /// Reads a request about a function with this runtime.
    pub fn read(
        update_on: &str,
        version_arn: Option<&str>,
        region: &Region,
        runtime: &Runtime,
    ) -> Result<RuntimeManagement, Refusal> {
        let asked = version_arn.filter(|arn| !arn.is_empty());
        let unpinned = |mode: RuntimeManagement| match asked {
            None => Ok(mode),
            Some(_) => Err(Refusal::invalid(
                "RuntimeVersionArn is only supported when UpdateRuntimeOn is set to Manual.",
            )),
        };
        match update_on {
            "FunctionUpdate" => unpinned(RuntimeManagement::FunctionUpdate),
            "Manual" => match asked {
                None => Err(Refusal::invalid(
                    "RuntimeVersionArn is required when UpdateRuntimeOn is set to Manual.",
                )),
                Some(arn) if arn == runtime.version_arn(region).as_str() => {
                    Ok(RuntimeManagement::Manual)
                }
                Some(arn) => Err(Refusal::invalid(format!(
                    "Runtime version {arn} is not available for runtime {runtime}. The version available is {}.",
                    runtime.version_arn(region)
                ))),
            },
            _ => unpinned(RuntimeManagement::Auto),
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            RuntimeManagement::Auto => "Auto",
            RuntimeManagement::FunctionUpdate => "FunctionUpdate",
            RuntimeManagement::Manual => "Manual",
        }
    }

    /// The version that is pinned, when one is.
    pub fn pinned(self, region: &Region, runtime: &Runtime) -> Option<Arn> {
        (self == RuntimeManagement::Manual).then(|| runtime.version_arn(region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_build_there_is_can_be_pinned() {
        let (region, runtime) = (Region::new("us-east-1"), Runtime::new("python3.12"));
        let here = runtime.version_arn(&region).to_string();
        let other = Runtime::new("python3.11").version_arn(&region).to_string();
        let table = [
            ("Auto", None, Some(RuntimeManagement::Auto)),
            ("FunctionUpdate", None, Some(RuntimeManagement::FunctionUpdate)),
            ("Manual", Some(here.as_str()), Some(RuntimeManagement::Manual)),
            ("Manual", None, None),
            ("Manual", Some(other.as_str()), None),
            ("Auto", Some(here.as_str()), None),
            ("FunctionUpdate", Some(here.as_str()), None),
        ];
        for (mode, arn, expected) in table {
            let read = RuntimeManagement::read(mode, arn, &region, &runtime);
            match expected {
                Some(mode) => assert_eq!(read.unwrap(), mode),
                None => assert!(matches!(read, Err(Refusal::Invalid(_))), "{mode} {arn:?}"),
            }
        }
    }

    #[test]
    fn only_a_pin_shows_a_version() {
        let (region, runtime) = (Region::new("us-east-1"), Runtime::new("python3.12"));
        assert_eq!(RuntimeManagement::Auto.pinned(&region, &runtime), None);
        let pinned = RuntimeManagement::Manual.pinned(&region, &runtime);
        assert_eq!(pinned, Some(runtime.version_arn(&region)));
    }
}

//! What layers and their versions are called ("Other ARNs and ids" of the API
//! reference).
//!
//! Form comes before (`lamu_api`), existence after (`store`).

use lamu_model::{AccountId, Arn, Region};

use crate::function::refusal::Refusal;
use crate::function::resolve::Caller;

const NAME_CHARS_MAX: usize = 140;

/// A layer: unique in its account and region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerKey {
    pub account: AccountId,
    pub region: Region,
    pub name: String,
}

/// One version of a layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerVersionKey {
    pub layer: LayerKey,
    pub number: u64,
}

impl LayerKey {
    /// The layer that a caller names, by its name or its ARN.
    pub fn named(text: &str, caller: &Caller) -> LayerKey {
        let whole: Vec<&str> = text.split(':').collect();
        match whole[..] {
            [_, _, _, region, account, "layer", name] => LayerKey {
                account: AccountId::new(account),
                region: Region::new(region),
                name: name.to_owned(),
            },
            _ => LayerKey {
                account: caller.account.clone(),
                region: caller.region.clone(),
                name: text.to_owned(),
            },
        }
    }

    pub fn version(&self, number: u64) -> LayerVersionKey {
        LayerVersionKey { layer: self.clone(), number }
    }

    /// The same from the number of a request.
    pub fn numbered(&self, number: i64) -> Result<LayerVersionKey, Refusal> {
        match u64::try_from(number) {
            Ok(number) if number > 0 => Ok(self.version(number)),
            _ => Err(Refusal::invalid("Layer Version Cannot be less than 1")),
        }
    }

    pub fn arn(&self) -> Arn {
        Arn::new(format!("arn:aws:lambda:{}:{}:layer:{}", self.region, self.account, self.name))
    }
}

impl LayerVersionKey {
    /// Reads the ARN of a version; `None` for the one form that has no number,
    /// which is of layers that AWS alone keeps.
    pub fn parse(arn: &str) -> Result<Option<LayerVersionKey>, Refusal> {
        let whole: Vec<&str> = arn.split(':').collect();
        let [_, _, _, region, account, "layer", name, number] = whole[..] else { return Ok(None) };
        // The form of an ARN allows more than any layer is called.
        if name.len() > NAME_CHARS_MAX {
            return Ok(None);
        }
        let layer = LayerKey {
            account: AccountId::new(account),
            region: Region::new(region),
            name: name.to_owned(),
        };
        // Only digits come here. More of them than fit name nothing.
        match number.parse::<u64>() {
            Ok(0) => Err(Refusal::invalid("Layer Version Cannot be less than 1")),
            Ok(number) => Ok(Some(layer.version(number))),
            Err(_) => Ok(None),
        }
    }

    pub fn arn(&self) -> Arn {
        self.layer.arn().qualified(self.number)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn caller() -> Caller {
        Caller { account: AccountId::new("000000000000"), region: Region::new("us-east-1") }
    }

    pub(crate) fn layer(name: &str) -> LayerKey {
        LayerKey::named(name, &caller())
    }

    #[test]
    fn a_layer_is_named_by_its_name_or_its_arn() {
        let arn = "arn:aws:lambda:us-east-1:000000000000:layer:tools";
        assert_eq!(layer("tools"), layer(arn));
        assert_eq!(layer("tools").arn().as_str(), arn);
        let other = layer("arn:aws:lambda:eu-west-1:999999999999:layer:tools");
        assert_eq!((other.account.as_str(), other.region.as_str()), ("999999999999", "eu-west-1"));
    }

    #[test]
    fn a_version_reads_back_from_its_arn() {
        let version = layer("tools").version(12);
        assert_eq!(LayerVersionKey::parse(version.arn().as_str()).unwrap(), Some(version));
        let of_aws = LayerVersionKey::parse("arn:aws:lambda:::awslayer:AmazonLinux1803");
        assert_eq!(of_aws.unwrap(), None);
        let beyond = format!("{}:99999999999999999999", layer("tools").arn());
        assert_eq!(LayerVersionKey::parse(&beyond).unwrap(), None);
        let long = format!("arn:aws:lambda:us-east-1:000000000000:layer:{}:1", "x".repeat(141));
        assert_eq!(LayerVersionKey::parse(&long).unwrap(), None);
    }

    #[test]
    fn versions_count_from_one() {
        for number in [0, -1, i64::MIN] {
            assert!(
                matches!(layer("tools").numbered(number), Err(Refusal::Invalid(_))),
                "{number}"
            );
        }
        assert_eq!(layer("tools").numbered(1).unwrap().number, 1);
        let zero = format!("{}:0", layer("tools").arn());
        assert!(matches!(LayerVersionKey::parse(&zero), Err(Refusal::Invalid(_))));
    }
}

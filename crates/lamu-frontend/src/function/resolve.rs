//! Which function a caller means: region, account, qualifier, in the order of
//! "Names and ARNs" of the API reference.
//!
//! Form comes before (`lamu_api::function_ref`), existence after (`catalog`).

use lamu_model::{AccountId, Arn, FunctionRef, Qualifier, Region};

use super::document::FunctionKey;
use super::refusal::Refusal;

/// Whose request it is and where it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    pub account: AccountId,
    pub region: Region,
}

/// A function as named, perhaps with a version or alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub key: FunctionKey,
    pub qualifier: Option<Qualifier>,
}

impl Target {
    /// The ARN exactly as asked for.
    pub fn arn(&self) -> Arn {
        match &self.qualifier {
            None => self.key.arn(),
            Some(qualifier) => self.key.arn().qualified(qualifier),
        }
    }

    /// For operations that take the function only.
    pub fn unqualified(self) -> Result<FunctionKey, Refusal> {
        match self.qualifier {
            None => Ok(self.key),
            Some(_) => Err(Refusal::NotTheFunction),
        }
    }
}

/// `action` is the IAM action, for the refusal of another account.
pub fn resolve(
    named: FunctionRef,
    qualifier: Option<&str>,
    caller: &Caller,
    action: &'static str,
) -> Result<Target, Refusal> {
    if let Some(asked) = named.region
        && asked != caller.region
    {
        return Err(Refusal::OtherRegion { asked, here: caller.region.clone() });
    }
    if let Some(account) = named.account
        && account != caller.account
    {
        let arn = Arn::function(&caller.region, &account, &named.name);
        return Err(Refusal::OtherAccount { caller: caller.account.clone(), action, arn });
    }
    let qualifier = match (named.qualifier, qualifier.map(Qualifier::parse)) {
        (Some(derived), Some(given)) if derived != given => return Err(Refusal::TwoQualifiers),
        (derived, given) => derived.or(given),
    };
    let key = FunctionKey {
        account: caller.account.clone(),
        region: caller.region.clone(),
        name: named.name,
    };
    Ok(Target { key, qualifier })
}

#[cfg(test)]
mod tests {
    use lamu_model::{NameFamily, Version};

    use super::*;

    fn ask(name: &str, qualifier: Option<&str>) -> Result<Target, Refusal> {
        let caller =
            Caller { account: AccountId::new("123456789012"), region: Region::new("us-east-1") };
        let named = FunctionRef::parse(name, NameFamily::Strict).unwrap();
        resolve(named, qualifier, &caller, "lambda:GetFunction")
    }

    #[test]
    fn name_and_parameter_may_both_carry_the_qualifier_if_they_agree() {
        let one = Some(Qualifier::Version(Version::Number(1)));
        assert_eq!(ask("fn:1", Some("1")).unwrap().qualifier, one);
        assert_eq!(ask("fn:1", None).unwrap().qualifier, one);
        assert_eq!(ask("fn", Some("1")).unwrap().qualifier, one);
        assert!(matches!(ask("fn:$LATEST", Some("1")), Err(Refusal::TwoQualifiers)));
    }

    #[test]
    fn another_region_is_refused_before_another_account() {
        let both = "arn:aws:lambda:eu-west-1:999999999999:function:fn";
        assert!(matches!(ask(both, None), Err(Refusal::OtherRegion { .. })));
        let account = "arn:aws:lambda:us-east-1:999999999999:function:fn:$LATEST";
        assert!(matches!(ask(account, Some("1")), Err(Refusal::OtherAccount { .. })));
    }

    #[test]
    fn the_arn_is_as_asked_for() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:fn:prod";
        assert_eq!(ask(arn, None).unwrap().arn().as_str(), arn);
        assert_eq!(ask("fn", Some("prod")).unwrap().arn().as_str(), arn);
        assert_eq!(
            ask("fn", None).unwrap().arn().as_str(),
            "arn:aws:lambda:us-east-1:123456789012:function:fn"
        );
    }

    #[test]
    fn an_operation_of_the_function_refuses_its_versions() {
        assert!(ask("fn", None).unwrap().unqualified().is_ok());
        assert!(matches!(ask("fn:1", None).unwrap().unqualified(), Err(Refusal::NotTheFunction)));
    }
}

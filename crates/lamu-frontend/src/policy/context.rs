//! What is known about a request when a policy asks: the values of the
//! condition keys, worked out only when a condition names them.
//!
//! Not here: who fills in what an operation adds (`crate::access`).

use std::net::IpAddr;

use chrono::{DateTime, SecondsFormat, Utc};

use super::principal::{Kind, Principal};

/// One request, as conditions see it.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    pub principal: &'a Principal,
    pub now: DateTime<Utc>,
    pub region: &'a str,
    /// The owner of what is asked for; none of what nobody owns.
    pub resource_account: Option<&'a str>,
    pub source_ip: Option<IpAddr>,
    pub user_agent: Option<&'a str>,
    /// Keys in lower case that the operation adds, each with all its values.
    pub more: Vec<(String, Vec<String>)>,
}

impl<'a> Context<'a> {
    pub fn new(principal: &'a Principal, now: DateTime<Utc>) -> Context<'a> {
        Context {
            principal,
            now,
            region: "",
            resource_account: None,
            source_ip: None,
            user_agent: None,
            more: Vec::new(),
        }
    }

    /// Adds one value of a key.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let key = key.into().to_ascii_lowercase();
        match self.more.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value.into()),
            None => self.more.push((key, vec![value.into()])),
        }
    }

    /// The values of a key, which is in lower case. None when the request has
    /// no such key.
    pub fn values(&self, key: &str) -> Option<Vec<String>> {
        let one = |value: String| Some(vec![value]);
        let flag = |value: bool| Some(vec![value.to_string()]);
        if let Some((_, values)) = self.more.iter().find(|(known, _)| known == key) {
            return Some(values.clone());
        }
        let principal = self.principal;
        match key {
            "aws:currenttime" => one(self.now.to_rfc3339_opts(SecondsFormat::Secs, true)),
            "aws:epochtime" => one(self.now.timestamp().to_string()),
            "aws:requestedregion" => one(self.region.to_owned()),
            // The listener speaks plain HTTP.
            "aws:securetransport" => flag(false),
            "aws:viaawsservice" => flag(false),
            "aws:sourceip" => one(self.source_ip?.to_canonical().to_string()),
            "aws:useragent" => one(self.user_agent?.to_owned()),
            "aws:resourceaccount" => one(self.resource_account?.to_owned()),
            "aws:principalarn" => one(principal.policy_arn()?.to_owned()),
            "aws:principalaccount" => one(principal.account.as_ref()?.to_string()),
            "aws:principalorgid" => one(principal.organization.clone()?),
            "aws:principalisawsservice" => flag(matches!(principal.kind, Kind::Service)),
            "aws:principalservicename" => match principal.kind {
                Kind::Service => one(principal.arn.clone()),
                _ => None,
            },
            "aws:principaltype" => one(principal.kind.type_name().to_owned()),
            "aws:username" => match principal.kind {
                Kind::User => one(principal.name()?.to_owned()),
                _ => None,
            },
            "aws:userid" => one(principal.user_id()?),
            _ => None,
        }
    }
}

/// Whether AWS has such a key, as far as lamu can tell: those of other services
/// are theirs to know. A key that does not exist is most likely misspelled.
pub fn is_known(key: &str) -> bool {
    let Some((service, name)) = key.split_once(':') else { return false };
    match service {
        "aws" => match name.split_once('/') {
            Some((family, tag)) => {
                ["requesttag", "resourcetag", "principaltag"].contains(&family) && !tag.is_empty()
            }
            None => GLOBAL.contains(&name),
        },
        "lambda" => LAMBDA.contains(&name),
        _ => !name.is_empty(),
    }
}

/// After `aws:`.
const GLOBAL: [&str; 48] = [
    "calledvia",
    "calledviafirst",
    "calledvialast",
    "chatbotsourcearn",
    "currenttime",
    "ec2instancesourceprivateipv4",
    "ec2instancesourcevpc",
    "epochtime",
    "federatedprovider",
    "multifactorauthage",
    "multifactorauthpresent",
    "principalaccount",
    "principalarn",
    "principalisawsservice",
    "principalorgid",
    "principalorgpaths",
    "principalservicename",
    "principalservicenameslist",
    "principaltype",
    "referer",
    "requestedregion",
    "resourceaccount",
    "resourceorgid",
    "resourceorgpaths",
    "securetransport",
    "sourceaccount",
    "sourcearn",
    "sourceidentity",
    "sourceip",
    "sourceorgid",
    "sourceorgpaths",
    "sourceowner",
    "sourcevpc",
    "sourcevpcarn",
    "sourcevpce",
    "tagkeys",
    "tokenissuetime",
    "useragent",
    "userid",
    "username",
    "viaawsservice",
    "vpceaccount",
    "vpceorgid",
    "vpceorgpaths",
    "vpcsourceip",
    "assumedroot",
    "isemrserverless",
    "signinsessionarn",
];

/// After `lambda:`.
const LAMBDA: [&str; 12] = [
    "codesigningconfigarn",
    "eventsourcetoken",
    "functionarn",
    "functionurlauthtype",
    "invokedviafunctionurl",
    "layer",
    "principal",
    "securitygroupids",
    "sourcefunctionarn",
    "subnetids",
    "vpcids",
    "loggingconfig",
];

#[cfg(test)]
mod tests {
    use lamu_model::AccountId;

    use super::*;

    #[test]
    fn keys_are_answered_from_the_principal_and_from_what_was_added() {
        let account = AccountId::new("111122223333");
        let alice = Principal::user(account, "team/alice", Vec::new());
        let mut context = Context::new(&alice, DateTime::from_timestamp(1_762_161_327, 0).unwrap());
        context.add("lambda:Layer", "arn:1");
        context.add("lambda:layer", "arn:2");
        let one = |key: &str| context.values(key).map(|values| values.join(","));
        assert_eq!(one("aws:username").as_deref(), Some("alice"));
        assert_eq!(
            one("aws:principalarn").as_deref(),
            Some("arn:aws:iam::111122223333:user/team/alice")
        );
        assert_eq!(one("aws:currenttime").as_deref(), Some("2025-11-03T09:15:27Z"));
        assert_eq!(one("lambda:layer").as_deref(), Some("arn:1,arn:2"));
        assert_eq!(one("aws:sourceip"), None);
        assert_eq!(one("aws:principalorgid"), None);
    }

    #[test]
    fn misspelled_keys_are_told_from_those_that_are_merely_absent() {
        for known in
            ["aws:sourcearn", "aws:requesttag/team", "lambda:functionurlauthtype", "s3:prefix"]
        {
            assert!(is_known(known), "{known}");
        }
        for unknown in ["aws:sourcearns", "aws:requesttag/", "lambda:functions", "sourcearn"] {
            assert!(!is_known(unknown), "{unknown}");
        }
    }
}

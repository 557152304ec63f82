//! Who asks: an account's root, a user, a session of a role, a service, or
//! nobody in particular; and which policies are attached to them.
//!
//! Not here: which key belongs to whom (`crate::identity`).

use std::sync::Arc;

use lamu_model::AccountId;

use super::document::Policy;

#[derive(Clone, Debug)]
pub struct Principal {
    pub kind: Kind,
    /// None of a service and of nobody.
    pub account: Option<AccountId>,
    /// As refusals name it: of a role the session's, of a service its name.
    pub arn: String,
    /// Of a role the role's own.
    role: Option<String>,
    pub organization: Option<String>,
    pub policies: Vec<Arc<Policy>>,
    /// May do anything in its account without its policies being read.
    full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Root,
    User,
    Role,
    Service,
    Anonymous,
}

impl Kind {
    /// The value of `aws:PrincipalType`.
    pub fn type_name(self) -> &'static str {
        match self {
            Kind::Root => "Account",
            Kind::User => "User",
            Kind::Role => "AssumedRole",
            Kind::Service => "Service",
            Kind::Anonymous => "Anonymous",
        }
    }
}

impl Principal {
    /// The account itself, which may do anything in it.
    pub fn root(account: AccountId) -> Principal {
        let arn = format!("arn:aws:iam::{account}:root");
        Principal { full: true, ..Principal::of(Kind::Root, Some(account), arn) }
    }

    /// `name` may have a path, such as `team/alice`.
    pub fn user(account: AccountId, name: &str, policies: Vec<Arc<Policy>>) -> Principal {
        let arn = format!("arn:aws:iam::{account}:user/{name}");
        Principal::of(Kind::User, Some(account), arn).with(policies)
    }

    /// A session of a role, whose name may have a path.
    pub fn role(
        account: AccountId,
        name: &str,
        session: &str,
        policies: Vec<Arc<Policy>>,
    ) -> Principal {
        let role = format!("arn:aws:iam::{account}:role/{name}");
        // A session's ARN leaves the path of its role out.
        let short = name.rsplit('/').next().unwrap_or(name);
        let arn = format!("arn:aws:sts::{account}:assumed-role/{short}/{session}");
        let principal = Principal::of(Kind::Role, Some(account), arn).with(policies);
        Principal { role: Some(role), ..principal }
    }

    /// A service that acts by itself, such as `s3.amazonaws.com`.
    pub fn service(name: &str) -> Principal {
        Principal::of(Kind::Service, None, name.to_owned())
    }

    /// A request that nobody signed.
    pub fn anonymous() -> Principal {
        Principal::of(Kind::Anonymous, None, "anonymous".to_owned())
    }

    pub fn in_organization(self, organization: Option<String>) -> Principal {
        Principal { organization, ..self }
    }

    fn of(kind: Kind, account: Option<AccountId>, arn: String) -> Principal {
        Principal {
            kind,
            account,
            arn,
            role: None,
            organization: None,
            policies: Vec::new(),
            full: false,
        }
    }

    fn with(self, policies: Vec<Arc<Policy>>) -> Principal {
        let full = policies.iter().any(|policy| policy.is_full())
            && !policies.iter().any(|policy| policy.has_deny());
        Principal { policies, full, ..self }
    }

    /// Whether its own policies allow whatever it may ask.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The ARN by which policies name it: of a role the role's.
    pub fn policy_arn(&self) -> Option<&str> {
        match self.kind {
            Kind::Role => self.role.as_deref(),
            Kind::Root | Kind::User => Some(&self.arn),
            Kind::Service | Kind::Anonymous => None,
        }
    }

    /// Of a user or role, without its path.
    pub fn name(&self) -> Option<&str> {
        self.policy_arn()?.rsplit_once('/').map(|(_, name)| name)
    }

    /// What stands for the unique id of AWS, which lamu gives to nobody.
    pub fn user_id(&self) -> Option<String> {
        match self.kind {
            Kind::Root => self.account.as_ref().map(AccountId::to_string),
            Kind::User => self.name().map(str::to_owned),
            Kind::Role => {
                let session = self.arn.rsplit_once('/').map(|(_, session)| session)?;
                Some(format!("{}:{session}", self.name()?))
            }
            Kind::Service => None,
            Kind::Anonymous => Some("anonymous".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_named_by_its_session_to_people_and_by_itself_in_policies() {
        let account = AccountId::new("111122223333");
        let role = Principal::role(account.clone(), "ci/deployer", "run-7", Vec::new());
        assert_eq!(role.arn, "arn:aws:sts::111122223333:assumed-role/deployer/run-7");
        assert_eq!(role.policy_arn(), Some("arn:aws:iam::111122223333:role/ci/deployer"));
        assert_eq!(role.user_id().as_deref(), Some("deployer:run-7"));

        let root = Principal::root(account);
        assert_eq!(root.arn, "arn:aws:iam::111122223333:root");
        assert!(root.is_full());
        assert!(!Principal::anonymous().is_full());
    }
}

//! Whether a principal may do something to something: the policies of both
//! sides put together as IAM puts them.
//!
//! ```text
//!                     an explicit deny on either side refuses
//!  same account       either side's allow is enough; but where the resource
//!                     names the account, the account's own policies decide
//!  another account    both sides must allow
//!  a service, nobody  only the resource can allow
//! ```
//!
//! Not here: which policies are attached to what (`crate::access`).

use std::sync::Arc;

use super::context::Context;
use super::document::{Effect, Named, Policy};
use super::principal::Kind;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Such as `lambda:InvokeFunction`.
    pub action: &'a str,
    /// An ARN, or `*` where the action has no resource.
    pub resource: &'a str,
    pub owner: Owner,
}

/// Whose the resource is, seen from the principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Same,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    NoIdentityPolicy,
    NoResourcePolicy,
    DenyOfIdentity,
    DenyOfResource,
}

/// `resource` is the policy of what is asked for, if it has one.
pub fn evaluate(
    question: &Question<'_>,
    context: &Context<'_>,
    resource: Option<&Policy>,
) -> Result<(), Refused> {
    let principal = context.principal;
    let identity = of_identity(&principal.policies, question, context);
    if identity == Opinion::Deny {
        return Err(Refused::DenyOfIdentity);
    }
    let resource = match resource {
        Some(policy) => of_policy(policy, question, context),
        None => Opinion::None,
    };
    if resource == Opinion::Deny {
        return Err(Refused::DenyOfResource);
    }
    let itself = resource == Opinion::Allow(Named::Itself);
    if matches!(principal.kind, Kind::Service | Kind::Anonymous) {
        return if itself { Ok(()) } else { Err(Refused::NoResourcePolicy) };
    }
    let allowed = principal.is_full() || matches!(identity, Opinion::Allow(_));
    match question.owner {
        Owner::Same if allowed || itself => Ok(()),
        Owner::Same => Err(Refused::NoIdentityPolicy),
        Owner::Other if !allowed => Err(Refused::NoIdentityPolicy),
        Owner::Other if matches!(resource, Opinion::Allow(_)) => Ok(()),
        Owner::Other => Err(Refused::NoResourcePolicy),
    }
}

/// Whether a policy of a resource denies explicitly.
pub fn denies(policy: &Policy, question: &Question<'_>, context: &Context<'_>) -> bool {
    of_policy(policy, question, context) == Opinion::Deny
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opinion {
    None,
    Allow(Named),
    Deny,
}

impl Opinion {
    /// Of two statements or policies of one side.
    fn and(self, other: Opinion) -> Opinion {
        match (self, other) {
            (Opinion::Deny, _) | (_, Opinion::Deny) => Opinion::Deny,
            (Opinion::None, other) => other,
            (own, Opinion::None) => own,
            (Opinion::Allow(Named::Account), other) => other,
            (own, Opinion::Allow(_)) => own,
        }
    }
}

fn of_identity(
    policies: &[Arc<Policy>],
    question: &Question<'_>,
    context: &Context<'_>,
) -> Opinion {
    policies
        .iter()
        .fold(Opinion::None, |opinion, policy| opinion.and(of_policy(policy, question, context)))
}

fn of_policy(policy: &Policy, question: &Question<'_>, context: &Context<'_>) -> Opinion {
    let resolve = |key: &str| match context.values(key) {
        Some(values) if values.len() == 1 => values.into_iter().next(),
        _ => None,
    };
    let mut opinion = Opinion::None;
    for statement in &policy.statements {
        let Some(named) = statement.names(context.principal) else { continue };
        let applies = statement.covers(question.action, question.resource, &resolve)
            && statement.is_fulfilled(context);
        if !applies {
            continue;
        }
        opinion = opinion.and(match statement.effect {
            Effect::Allow => Opinion::Allow(named),
            Effect::Deny => return Opinion::Deny,
        });
    }
    opinion
}

#[cfg(test)]
mod tests;

//! Whether a caller may: the policies of who asks and of what is asked for,
//! found and evaluated.
//!
//! ```text
//!  request ─▶ asked ─▶ checks ─┬─ own account, full rights, nothing denied ─▶ yes
//!                              └─ evaluate(principal, policy of the resource)
//! ```
//!
//! Without keys nobody is known, so within an account everything is allowed;
//! what belongs to another account needs its policy all the same.
//!
//! Not here: who signed (`identity`), the rules of IAM (`policy`).

pub mod asked;
pub mod logs;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use lamu_api::{ApiError, Operation};
use lamu_model::{AccountId, Qualifier, Region, Version};
use serde_json::{Map, Value};

use crate::error;
use crate::function::catalog::{Catalog, Found};
use crate::function::resolve::{Caller, Target};
use crate::function::resource_policy::ResourcePolicy;
use crate::function::url::UrlAuth;
use crate::layer::name::LayerVersionKey;
use crate::layer::store::LayerStore;
use crate::mapping::{self, Mappings};
use crate::policy::{Context, Owner, Policy, Principal, Question, Refused, denies, evaluate};
use crate::signing::SigningKey;
use crate::signing::store::SigningStore;
use asked::{Check, On, PASS_ROLE};

/// Who asks, from where, when.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub principal: &'a Principal,
    pub region: &'a Region,
    pub now: DateTime<Utc>,
    pub source_ip: Option<IpAddr>,
    pub user_agent: Option<&'a str>,
}

/// Whether signatures say who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforced {
    Yes,
    /// There are no keys: everyone is the root of the account they claim.
    OwnAccountsAreOpen,
}

#[derive(Debug)]
pub struct Access {
    pub catalog: Arc<Catalog>,
    pub layers: Arc<LayerStore>,
    pub signing: Arc<SigningStore>,
    pub mappings: Arc<Mappings>,
    pub enforced: Enforced,
}

/// What a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// In whose account the operation acts, and where.
    pub caller: Caller,
    /// Layer versions that it may use. The caller's own too: where the
    /// operation acts in another account, they are another account's.
    pub layers: Vec<LayerVersionKey>,
}

/// What was refused to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    pub principal: String,
    pub action: String,
    pub resource: String,
    pub why: Refused,
}

impl Access {
    /// Whether the caller may have `operation` done.
    pub async fn admit(
        &self,
        asker: &Asker<'_>,
        operation: Operation,
        members: &Map<String, Value>,
    ) -> Result<Admitted, ApiError> {
        let account = asker.principal.account.clone();
        let account = account.unwrap_or_else(|| AccountId::new(""));
        let caller = Caller { account, region: asker.region.clone() };
        let asked = asked::asked(operation, members, &caller).map_err(error::of_refusal)?;
        let mut layers = Vec::new();
        for Check { action, on } in &asked.checks {
            let found = match on {
                On::Function(target) => {
                    self.catalog.find(&target.key, target.qualifier.as_ref(), 1.0)
                }
                _ => None,
            };
            let policy = match on {
                On::LayerVersion(key) => self.policy_of_layer(asker, key).await?,
                _ => found.as_ref().and_then(|found| found.policy.clone()),
            };
            let tags = self.tags_of_thing(asker, on).await?;
            self.check(asker, action, on, policy.as_deref(), |context| {
                context.more.extend(asked.facts.iter().cloned());
                if *action == PASS_ROLE {
                    context.add("iam:PassedToService", "lambda.amazonaws.com");
                }
                add_tags(context, found.as_ref());
                tags.iter().for_each(|tag| add_tag(context, tag));
            })
            .map_err(|denied| error::of_denied(&denied))?;
            if let On::LayerVersion(key) = on {
                layers.push(key.clone());
            }
        }
        let owner = asked.checks.first().and_then(|check| check.on.account());
        let caller = match owner {
            Some(owner) if *owner != caller.account => Caller { account: owner.clone(), ..caller },
            _ => caller,
        };
        Ok(Admitted { caller, layers })
    }

    /// Layers are not held in memory; who has every right at home needs no
    /// look at who else may.
    async fn policy_of_layer(
        &self,
        asker: &Asker<'_>,
        key: &LayerVersionKey,
    ) -> Result<Option<Arc<ResourcePolicy>>, ApiError> {
        if self.is_plain(asker, owner(asker, &key.layer.account), None) {
            return Ok(None);
        }
        let version = self.layers.get(key).await.map_err(error::of_refusal)?;
        Ok(version.and_then(|version| version.doc.shared).map(|shared| shared.policy))
    }

    /// Of what is no function and has tags all the same. As with layers, who
    /// has every right needs no look at them.
    async fn tags_of_thing(
        &self,
        asker: &Asker<'_>,
        on: &On,
    ) -> Result<BTreeMap<String, String>, ApiError> {
        let On::Thing { account, arn } = on else { return Ok(BTreeMap::new()) };
        if self.is_plain(asker, owner(asker, account), None) {
            return Ok(BTreeMap::new());
        }
        if let Some(config) = SigningKey::parse(arn) {
            let doc = self.signing.get(&config).await.map_err(error::of_refusal)?;
            return Ok(doc.map(|doc| doc.tags).unwrap_or_default());
        }
        let row = mapping::document_of_arn(arn).and_then(|key| self.mappings.table.get(&key));
        Ok(row.map(|row| row.doc.tags.clone()).unwrap_or_default())
    }

    /// The same for an invocation, whose function was looked up already;
    /// `found` is nothing when it is not there.
    pub fn invoke(
        &self,
        asker: &Asker<'_>,
        action: &'static str,
        target: &Target,
        found: Option<&Found>,
    ) -> Result<(), ApiError> {
        let policy = found.and_then(|found| found.policy.as_deref());
        let owner = owner(asker, &target.key.account);
        if self.is_plain(asker, owner, policy) {
            return Ok(());
        }
        self.check(asker, action, &On::Function(target.clone()), policy, |context| {
            add_tags(context, found);
        })
        .map_err(|denied| error::of_denied(&denied))
    }

    /// Whether a request to a function URL may invoke. Who is not signed, and
    /// everyone where the URL is open to all, is `Principal::anonymous`.
    ///
    /// It takes two permissions: to use the URL, and to invoke through it.
    pub fn url(
        &self,
        asker: &Asker<'_>,
        auth: UrlAuth,
        target: &Target,
        found: Option<&Found>,
    ) -> Result<(), Denied> {
        if self.enforced == Enforced::OwnAccountsAreOpen {
            return Ok(());
        }
        let policy = found.and_then(|found| found.policy.as_deref());
        if self.is_plain(asker, owner(asker, &target.key.account), policy) {
            return Ok(());
        }
        for action in ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"] {
            self.check(asker, action, &On::Function(target.clone()), policy, |context| {
                context.add("lambda:FunctionUrlAuthType", auth.as_str());
                context.add("lambda:InvokedViaFunctionUrl", "true");
                add_tags(context, found);
            })?;
        }
        Ok(())
    }

    /// Whether the caller may use another thing of its own account, of this
    /// service or of another that lamu plays.
    pub fn own(&self, asker: &Asker<'_>, action: &str, arn: &str) -> Result<(), Denied> {
        let Some(account) = asker.principal.account.clone() else {
            return Err(denied(asker, action, arn, Refused::NoIdentityPolicy));
        };
        let on = On::Thing { account, arn: arn.to_owned() };
        self.check(asker, action, &on, None, |_| {})
    }

    fn check(
        &self,
        asker: &Asker<'_>,
        action: &str,
        on: &On,
        policy: Option<&ResourcePolicy>,
        more: impl FnOnce(&mut Context<'_>),
    ) -> Result<(), Denied> {
        let owner = on.account().map_or(Owner::Same, |account| owner(asker, account));
        if self.is_plain(asker, owner, policy) {
            return Ok(());
        }
        let resource = on.arn();
        let account = on.account().or(asker.principal.account.as_ref());
        let mut context = Context::new(asker.principal, asker.now);
        context.region = asker.region.as_str();
        context.resource_account = account.map(AccountId::as_str);
        context.source_ip = asker.source_ip;
        context.user_agent = asker.user_agent;
        more(&mut context);
        let question = Question { action, resource: &resource, owner };
        let policy = policy.map(ResourcePolicy::policy);
        evaluate(&question, &context, policy)
            .map_err(|why| denied(asker, action, &resource, why))?;
        // `$LATEST` is under the function's policy, which can name the function
        // alone: what it denies there is denied under the longer name too.
        if let (On::Function(target), Some(policy)) = (on, policy)
            && target.qualifier == Some(Qualifier::Version(Version::Latest))
        {
            let function = target.key.arn();
            let bare = Question { resource: function.as_str(), ..question };
            if denies(policy, &bare, &context) {
                return Err(denied(asker, action, &resource, Refused::DenyOfResource));
            }
        }
        Ok(())
    }

    /// The common case, which reads no policy: one's own things, with every
    /// right, and nothing that could take it away.
    fn is_plain(&self, asker: &Asker<'_>, owner: Owner, policy: Option<&ResourcePolicy>) -> bool {
        owner == Owner::Same
            && (self.enforced == Enforced::OwnAccountsAreOpen
                || asker.principal.is_full()
                    && !policy.map(ResourcePolicy::policy).is_some_and(Policy::has_deny))
    }
}

fn owner(asker: &Asker<'_>, account: &AccountId) -> Owner {
    match &asker.principal.account {
        Some(own) if own == account => Owner::Same,
        _ => Owner::Other,
    }
}

fn denied(asker: &Asker<'_>, action: &str, resource: &str, why: Refused) -> Denied {
    Denied {
        principal: asker.principal.arn.clone(),
        action: action.to_owned(),
        resource: resource.to_owned(),
        why,
    }
}

fn add_tags(context: &mut Context<'_>, found: Option<&Found>) {
    let live = found.and_then(Found::live);
    live.into_iter().flat_map(|live| &live.tags).for_each(|tag| add_tag(context, tag));
}

fn add_tag(context: &mut Context<'_>, (key, value): (&String, &String)) {
    context.add(format!("aws:ResourceTag/{key}"), value.as_str());
}

#[cfg(test)]
mod tests;

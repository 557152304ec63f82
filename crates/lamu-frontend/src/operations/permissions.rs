//! Add, remove and show what others may do with a function, a version or an
//! alias: each has a policy of its own, which is a part of its document.
//!
//! Not here: the policy itself (`crate::function::resource_policy`), what it
//! decides (`crate::policy`).

use std::sync::Arc;

use lamu_api::shapes::{
    AddPermissionRequest, AddPermissionResponse, DeleteResourcePolicyRequest, GetPolicyRequest,
    GetPolicyResponse, GetResourcePolicyRequest, GetResourcePolicyResponse,
    PutResourcePolicyRequest, PutResourcePolicyResponse, RemovePermissionRequest,
};
use lamu_api::{ApiError, ErrorCode};
use lamu_model::{FunctionRef, NameFamily, Qualifier, Version};
use uuid::Uuid;

use super::{Ask, Control};
use crate::function::refusal::Refusal;
use crate::function::resolve::{Target, resolve};
use crate::function::resource_policy::{Grant, ResourcePolicy};
use crate::function::store::Decision;

/// What a change makes of a policy, and what it answers.
type Changed<T> = Result<(Option<Arc<ResourcePolicy>>, T), Refusal>;

/// What is not there, for operations that word it differently.
#[derive(Clone, Copy, Debug)]
enum Missing {
    Function,
    Alias,
}

impl Control {
    pub async fn add_permission(
        &self,
        ask: &Ask,
        input: AddPermissionRequest,
    ) -> Result<AddPermissionResponse, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        refuse_latest(&target)?;
        check_url_members(&input)?;
        let grant = Grant {
            sid: &input.statement_id,
            action: &input.action,
            principal: &input.principal,
            source_arn: input.source_arn.as_deref(),
            source_account: input.source_account.as_deref(),
            event_source_token: input.event_source_token.as_deref(),
            organization: input.principal_org_id.as_deref(),
            url_auth_type: input.function_url_auth_type.as_deref(),
            via_url: input.invoked_via_function_url,
        };
        let statement = grant.statement(&target.arn())?;
        let missing = |missing| match missing {
            Missing::Function => Refusal::NoFunction(target.arn()),
            Missing::Alias => Refusal::NoAlias(target.arn()),
        };
        let add = |current: Option<&Arc<ResourcePolicy>>, revision: &Uuid| {
            check_revision(input.revision_id.as_deref(), revision, "GetPolicy")?;
            let with = ResourcePolicy::with(current.map(|policy| &**policy), statement.clone())?;
            self.refuse_public(&ResourcePolicy::with(None, statement.clone())?)?;
            Ok((Some(Arc::new(with)), ()))
        };
        self.change_policy(&target, missing, add).await?;
        Ok(AddPermissionResponse { statement: Some(statement.text()) })
    }

    pub async fn remove_permission(
        &self,
        ask: &Ask,
        input: RemovePermissionRequest,
    ) -> Result<(), Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        refuse_latest(&target)?;
        let missing = |missing| match missing {
            Missing::Function => Refusal::NoPolicyFor(target.arn()),
            Missing::Alias => Refusal::NoAlias(target.arn()),
        };
        let remove = |current: Option<&Arc<ResourcePolicy>>, revision: &Uuid| {
            let left = current.ok_or(Refusal::NoPolicy)?.without(&input.statement_id)?;
            check_revision(input.revision_id.as_deref(), revision, "GetPolicy")?;
            Ok((left.map(Arc::new), ()))
        };
        self.change_policy(&target, missing, remove).await.map(|_| ())
    }

    pub async fn get_policy(
        &self,
        ask: &Ask,
        input: GetPolicyRequest,
    ) -> Result<GetPolicyResponse, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        if let Some(Qualifier::Alias(name)) = &target.qualifier
            && let Some(function) = self.catalog.function(&target.key)
            && self.catalog.alias(function.head.uid, name).is_none()
        {
            return Err(Refusal::NoAlias(target.arn()));
        }
        let (policy, revision) = self.policy_of(&target)?;
        Ok(GetPolicyResponse {
            policy: Some(policy.text()),
            revision_id: Some(revision.to_string()),
        })
    }

    pub async fn put_resource_policy(
        &self,
        ask: &Ask,
        input: PutResourcePolicyRequest,
    ) -> Result<PutResourcePolicyResponse, Refusal> {
        let target = resource(ask, &input.resource_arn)?;
        refuse_latest(&target)?;
        let policy = Arc::new(ResourcePolicy::parse(&input.policy)?);
        if let Some(foreign) = policy.foreign_resource(target.arn().as_str()) {
            return Err(Refusal::invalid(format!(
                "The provided policy is invalid: resource {foreign:?} is not {}",
                target.arn()
            )));
        }
        self.refuse_public(&policy)?;
        let missing = |missing| match missing {
            Missing::Function => Refusal::NoFunction(target.arn()),
            Missing::Alias => Refusal::NoAlias(target.arn()),
        };
        let put = |_: Option<&Arc<ResourcePolicy>>, revision: &Uuid| {
            check_revision(input.revision_id.as_deref(), revision, "GetResourcePolicy")?;
            Ok((Some(policy.clone()), ()))
        };
        let ((), revision) = self.change_policy(&target, missing, put).await?;
        Ok(PutResourcePolicyResponse {
            policy: Some(policy.text()),
            revision_id: Some(revision.to_string()),
        })
    }

    pub async fn get_resource_policy(
        &self,
        ask: &Ask,
        input: GetResourcePolicyRequest,
    ) -> Result<GetResourcePolicyResponse, Refusal> {
        let (policy, revision) = self.policy_of(&resource(ask, &input.resource_arn)?)?;
        Ok(GetResourcePolicyResponse {
            policy: Some(policy.text()),
            revision_id: Some(revision.to_string()),
        })
    }

    pub async fn delete_resource_policy(
        &self,
        ask: &Ask,
        input: DeleteResourcePolicyRequest,
    ) -> Result<(), Refusal> {
        let target = resource(ask, &input.resource_arn)?;
        refuse_latest(&target)?;
        let delete = |current: Option<&Arc<ResourcePolicy>>, revision: &Uuid| {
            current.ok_or(Refusal::NoResource)?;
            check_revision(input.revision_id.as_deref(), revision, "GetResourcePolicy")?;
            Ok((None, ()))
        };
        self.change_policy(&target, |_| Refusal::NoResource, delete).await.map(|_| ())
    }

    /// Where the operator blocks them, policies that let anyone in.
    pub(super) fn refuse_public(&self, policy: &ResourcePolicy) -> Result<(), Refusal> {
        if self.block_public_policies && policy.policy().is_public() {
            return Err(Refusal::Request(ApiError::new(
                ErrorCode::PublicPolicy,
                "Lambda prevented your policy from being created because it would grant public access to your function. If you intended to create a public policy, have the setting block_public_policies of this platform changed.",
            )));
        }
        Ok(())
    }

    /// The policy of exactly this name, and its revision.
    fn policy_of(&self, target: &Target) -> Result<(Arc<ResourcePolicy>, Uuid), Refusal> {
        let found = self.catalog.find(&target.key, target.qualifier.as_ref(), 1.0);
        let found = found.ok_or(Refusal::NoResource)?;
        let policy = found.policy.clone().ok_or(Refusal::NoResource)?;
        let alias = match &target.qualifier {
            Some(Qualifier::Alias(name)) => {
                self.catalog.alias(found.function.head.uid, name).map(|alias| alias.doc.revision_id)
            }
            _ => None,
        };
        let version = found.version.as_ref().map(|version| version.doc.configuration.revision_id);
        let latest = found.live().map(|live| live.latest.revision_id);
        let revision = alias.or(version).or(latest).ok_or(Refusal::NoResource)?;
        Ok((policy, revision))
    }

    /// Puts what `decide` makes of the policy of the target and of its
    /// revision as they stand, under a new revision.
    async fn change_policy<T>(
        &self,
        target: &Target,
        missing: impl Fn(Missing) -> Refusal,
        decide: impl Fn(Option<&Arc<ResourcePolicy>>, &Uuid) -> Changed<T>,
    ) -> Result<(T, Uuid), Refusal> {
        let key = &target.key;
        // One for all attempts: only the one that is written is seen.
        let fresh = Uuid::new_v4();
        match &target.qualifier {
            None | Some(Qualifier::Version(Version::Latest)) => {
                self.store
                    .change(key, |current| {
                        let current = current.ok_or_else(|| missing(Missing::Function))?;
                        let live = current.live().ok_or_else(|| missing(Missing::Function))?;
                        let (policy, answer) =
                            decide(live.policy.as_ref(), &live.latest.revision_id)?;
                        let mut live = live.clone();
                        live.policy = policy;
                        live.latest.revision_id = fresh;
                        let mut head = current.head.clone();
                        head.live = Some(live);
                        Ok(Decision::head(head, (answer, fresh)))
                    })
                    .await
            }
            Some(Qualifier::Version(Version::Number(number))) => {
                self.store
                    .decide_version(key, *number, |current| {
                        let current = current.ok_or_else(|| missing(Missing::Function))?;
                        let revision = &current.configuration.revision_id;
                        let (policy, answer) = decide(current.policy.as_ref(), revision)?;
                        let mut doc = current.clone();
                        doc.policy = policy;
                        doc.configuration.revision_id = fresh;
                        Ok((Some(doc), (answer, fresh)))
                    })
                    .await
            }
            Some(Qualifier::Alias(name)) => {
                if self.catalog.function(key).is_none() {
                    return Err(missing(Missing::Function));
                }
                self.store
                    .change_alias(key, name, |_, current| {
                        let current = current.ok_or_else(|| missing(Missing::Alias))?;
                        let (policy, answer) =
                            decide(current.doc.policy.as_ref(), &current.doc.revision_id)?;
                        let mut doc = current.doc.clone();
                        doc.policy = policy;
                        doc.revision_id = fresh;
                        Ok((Some(doc), (answer, fresh)))
                    })
                    .await
            }
        }
    }
}

/// `$LATEST` moves with every update; the function itself is what is shared.
fn refuse_latest(target: &Target) -> Result<(), Refusal> {
    match target.qualifier {
        Some(Qualifier::Version(Version::Latest)) => {
            Err(Refusal::invalid("We currently do not support adding policies for $LATEST."))
        }
        _ => Ok(()),
    }
}

fn check_url_members(input: &AddPermissionRequest) -> Result<(), Refusal> {
    let only = |member: &str, action: &str| {
        Err(Refusal::invalid(format!("{member} is only supported for {action} action")))
    };
    let (through, with) = ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction");
    if input.function_url_auth_type.is_some() && input.action != through {
        return only("FunctionUrlAuthType", through);
    }
    if input.invoked_via_function_url.is_some() && input.action != with {
        return only("InvokedViaFunctionUrl", with);
    }
    Ok(())
}

/// Compare-and-set on behalf of the caller.
fn check_revision(
    asked: Option<&str>,
    current: &Uuid,
    latest: &'static str,
) -> Result<(), Refusal> {
    match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) if asked != current.to_string() => {
            Err(Refusal::PolicyRevisionMismatch { latest })
        }
        _ => Ok(()),
    }
}

/// The function behind a resource's ARN. Runtimes of one's own do not exist
/// here, and are not found.
fn resource(ask: &Ask, arn: &str) -> Result<Target, Refusal> {
    if arn.split(':').nth(5) != Some("function") {
        return Err(Refusal::NoResource);
    }
    let named = FunctionRef::parse(arn, NameFamily::Namespaced).map_err(|_| Refusal::NoResource)?;
    resolve(named, None, &ask.caller, ask.operation.iam_action())
}

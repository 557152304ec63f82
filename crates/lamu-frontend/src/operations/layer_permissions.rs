//! Add, remove and show who else may use a layer version.
//!
//! Not here: the policy itself (`crate::function::resource_policy`), where it
//! is kept (`crate::layer`), what it decides (`crate::policy`).

use std::sync::Arc;

use lamu_api::shapes::{
    AddLayerVersionPermissionRequest, AddLayerVersionPermissionResponse,
    GetLayerVersionPolicyRequest, GetLayerVersionPolicyResponse,
    RemoveLayerVersionPermissionRequest,
};
use uuid::Uuid;

use super::layers::own_layer;
use super::{Ask, Control};
use crate::function::refusal::Refusal;
use crate::function::resource_policy::{Grant, ResourcePolicy};
use crate::layer::document::Shared;
use crate::layer::name::LayerVersionKey;

impl Control {
    pub async fn add_layer_version_permission(
        &self,
        ask: &Ask,
        input: AddLayerVersionPermissionRequest,
    ) -> Result<AddLayerVersionPermissionResponse, Refusal> {
        let key = own_layer(ask, &input.layer_name)?.numbered(input.version_number)?;
        let grant = Grant {
            sid: &input.statement_id,
            action: &input.action,
            principal: &input.principal,
            organization: input.organization_id.as_deref(),
            ..Grant::default()
        };
        let statement = grant.statement(&key.arn())?;
        let fresh = Uuid::new_v4();
        let add = |current: Option<&Shared>| {
            check_revision(input.revision_id.as_deref(), current)?;
            let current = current.map(|shared| &*shared.policy);
            let policy = Arc::new(ResourcePolicy::with(current, statement.clone())?);
            self.refuse_public(&ResourcePolicy::with(None, statement.clone())?)?;
            Ok(Some(Shared { policy, revision_id: fresh }))
        };
        self.layers.share(&key, || missing(&key), add).await?;
        Ok(AddLayerVersionPermissionResponse {
            statement: Some(statement.text()),
            revision_id: Some(fresh.to_string()),
        })
    }

    pub async fn remove_layer_version_permission(
        &self,
        ask: &Ask,
        input: RemoveLayerVersionPermissionRequest,
    ) -> Result<(), Refusal> {
        let key = own_layer(ask, &input.layer_name)?.numbered(input.version_number)?;
        let remove = |current: Option<&Shared>| {
            let left = current.ok_or(Refusal::NoPolicy)?.policy.without(&input.statement_id)?;
            check_revision(input.revision_id.as_deref(), current)?;
            Ok(left.map(|policy| Shared { policy: Arc::new(policy), revision_id: Uuid::new_v4() }))
        };
        self.layers.share(&key, || missing(&key), remove).await
    }

    pub async fn get_layer_version_policy(
        &self,
        ask: &Ask,
        input: GetLayerVersionPolicyRequest,
    ) -> Result<GetLayerVersionPolicyResponse, Refusal> {
        let key = own_layer(ask, &input.layer_name)?.numbered(input.version_number)?;
        let version = self.layers.get(&key).await?.ok_or_else(|| missing(&key))?;
        let shared = version.doc.shared.ok_or(Refusal::NoPolicy)?;
        Ok(GetLayerVersionPolicyResponse {
            policy: Some(shared.policy.text()),
            revision_id: Some(shared.revision_id.to_string()),
        })
    }
}

fn missing(key: &LayerVersionKey) -> Refusal {
    Refusal::NoLayerVersion { arn: key.arn().to_string() }
}

/// Compare-and-set on behalf of the caller. What is not shared has no
/// revision that anyone could have seen.
fn check_revision(asked: Option<&str>, current: Option<&Shared>) -> Result<(), Refusal> {
    let revision = current.map(|shared| shared.revision_id.to_string());
    match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) if Some(asked) != revision.as_deref() => {
            Err(Refusal::PolicyRevisionMismatch { latest: "GetLayerPolicy" })
        }
        _ => Ok(()),
    }
}

//! Tags of functions and of code signing configurations. Other things that
//! Lambda lets be tagged do not exist here yet, and are not found.

use std::collections::BTreeMap;

use lamu_api::ApiError;
use lamu_api::shapes::{
    ListTagsRequest, ListTagsResponse, TagResourceRequest, UntagResourceRequest,
};
use lamu_model::{FunctionRef, NameFamily};
use uuid::Uuid;

use super::{Ask, Control, living, unblocked};
use crate::function::configuration::{check_tags, tags_max};
use crate::function::document::{FunctionKey, Live};
use crate::function::refusal::Refusal;
use crate::function::resolve::resolve;
use crate::function::store::Decision;
use crate::signing::SigningKey;

impl Control {
    pub async fn list_tags(
        &self,
        ask: &Ask,
        input: ListTagsRequest,
    ) -> Result<ListTagsResponse, Refusal> {
        if let Some(config) = SigningKey::parse(&input.resource) {
            let tags = self.signing_tags(ask, &config).await?;
            return Ok(ListTagsResponse { tags: Some(tags) });
        }
        let key = tagged(ask, &input.resource)?;
        let entry = self.catalog.function(&key);
        let (_, live) = living(entry.as_ref(), key.arn())?;
        Ok(ListTagsResponse { tags: Some(live.tags.clone()) })
    }

    pub async fn tag_resource(&self, ask: &Ask, input: TagResourceRequest) -> Result<(), Refusal> {
        if input.tags.is_empty() {
            return Err(Refusal::invalid("An error occurred and the request cannot be processed."));
        }
        let add = |tags: &mut BTreeMap<String, String>| {
            check_tags(input.tags.keys().map(String::as_str), tags_max())?;
            tags.extend(input.tags.clone());
            check_tags(tags.keys().map(String::as_str), tags_max())
        };
        if let Some(config) = SigningKey::parse(&input.resource) {
            return self.change_signing_tags(ask, &config, add).await;
        }
        self.change_tags(&tagged(ask, &input.resource)?, |live| add(&mut live.tags)).await
    }

    pub async fn untag_resource(
        &self,
        ask: &Ask,
        input: UntagResourceRequest,
    ) -> Result<(), Refusal> {
        let remove = |tags: &mut BTreeMap<String, String>| {
            tags.retain(|key, _| !input.tag_keys.contains(key));
            Ok(())
        };
        if let Some(config) = SigningKey::parse(&input.resource) {
            return self.change_signing_tags(ask, &config, remove).await;
        }
        self.change_tags(&tagged(ask, &input.resource)?, |live| remove(&mut live.tags)).await
    }

    async fn change_tags(
        &self,
        key: &FunctionKey,
        change: impl Fn(&mut Live) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.store
            .change(key, |current| {
                let (head, live) = living(current, key.arn())?;
                unblocked(live.status.may_tag(), || key.arn())?;
                let mut head = head.clone();
                if let Some(live) = head.live.as_mut() {
                    change(live)?;
                    live.latest.revision_id = Uuid::new_v4();
                }
                Ok(Decision::head(head, ()))
            })
            .await
    }
}

/// The function behind a resource's ARN.
fn tagged(ask: &Ask, resource: &str) -> Result<FunctionKey, Refusal> {
    let kind = resource.split(':').nth(5).unwrap_or_default();
    let missing = match kind {
        "event-source-mapping" => Some(format!("Event source mapping not found: {resource}")),
        "capacity-provider" => Some(format!("Capacity provider not found: {resource}")),
        "function" => None,
        _ => Some("The resource you requested does not exist.".to_owned()),
    };
    if let Some(text) = missing {
        return Err(Refusal::Request(ApiError::not_found(text)));
    }
    let named = FunctionRef::parse(resource, NameFamily::Strict).map_err(|_| {
        Refusal::Request(ApiError::not_found(format!("Function not found: {resource}")))
    })?;
    let target = resolve(named, None, &ask.caller, ask.operation.iam_action())?;
    match target.qualifier {
        None => Ok(target.key),
        Some(_) => Err(Refusal::invalid(
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
        )),
    }
}

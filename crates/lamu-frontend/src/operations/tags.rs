//! Tags of functions, of event source mappings and of code signing
//! configurations. Other things that Lambda lets be tagged do not exist here
//! yet, and are not found.

use std::collections::BTreeMap;

use lamu_api::ApiError;
use lamu_api::shapes::{
    ListTagsRequest, ListTagsResponse, TagResourceRequest, UntagResourceRequest,
};
use lamu_model::mapping::{Mapping, mapping_arn};
use lamu_model::{FunctionRef, NameFamily};
use uuid::Uuid;

use super::{Ask, Control, living, unblocked};
use crate::function::configuration::{check_tags, tags_max};
use crate::function::document::FunctionKey;
use crate::function::refusal::Refusal;
use crate::function::resolve::resolve;
use crate::function::store::Decision;
use crate::mapping::document;
use crate::signing::SigningKey;
use crate::table::Next;

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
        let tags = match tagged(ask, &input.resource)? {
            Tagged::Function(key) => {
                let entry = self.catalog.function(&key);
                living(entry.as_ref(), key.arn())?.1.tags.clone()
            }
            Tagged::Mapping(key) => {
                let row = self.mappings.table.get(&key);
                row.ok_or_else(|| no_mapping(&input.resource))?.doc.tags.clone()
            }
        };
        Ok(ListTagsResponse { tags: Some(tags) })
    }

    pub async fn tag_resource(&self, ask: &Ask, input: TagResourceRequest) -> Result<(), Refusal> {
        if input.tags.is_empty() {
            return Err(Refusal::invalid("An error occurred and the request cannot be processed."));
        }
        let add = |tags: &mut Tags| {
            check_tags(input.tags.keys().map(String::as_str), tags_max())?;
            tags.extend(input.tags.clone());
            check_tags(tags.keys().map(String::as_str), tags_max())
        };
        if let Some(config) = SigningKey::parse(&input.resource) {
            return self.change_signing_tags(ask, &config, add).await;
        }
        self.change_tags(&tagged(ask, &input.resource)?, &input.resource, add).await
    }

    pub async fn untag_resource(
        &self,
        ask: &Ask,
        input: UntagResourceRequest,
    ) -> Result<(), Refusal> {
        let remove = |tags: &mut Tags| {
            tags.retain(|key, _| !input.tag_keys.contains(key));
            Ok(())
        };
        if let Some(config) = SigningKey::parse(&input.resource) {
            return self.change_signing_tags(ask, &config, remove).await;
        }
        self.change_tags(&tagged(ask, &input.resource)?, &input.resource, remove).await
    }

    async fn change_tags(
        &self,
        tagged: &Tagged,
        resource: &str,
        change: impl Fn(&mut Tags) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let key = match tagged {
            Tagged::Function(key) => key,
            Tagged::Mapping(key) => {
                let decide = |current: Option<&Mapping>| {
                    let mut changed = current.ok_or_else(|| no_mapping(resource))?.clone();
                    change(&mut changed.tags)?;
                    Ok((Next::Put(changed), ()))
                };
                return self.mappings.table.change(key, decide).await;
            }
        };
        self.store
            .change(key, |current| {
                let (head, live) = living(current, key.arn())?;
                unblocked(live.status.may_tag(), || key.arn())?;
                let mut head = head.clone();
                if let Some(live) = head.live.as_mut() {
                    change(&mut live.tags)?;
                    live.latest.revision_id = Uuid::new_v4();
                }
                Ok(Decision::head(head, ()))
            })
            .await
    }
}

type Tags = BTreeMap<String, String>;

/// What carries the tags.
enum Tagged {
    Function(FunctionKey),
    /// Its document.
    Mapping(String),
}

/// What is behind a resource's ARN, whether it is there or not.
fn tagged(ask: &Ask, resource: &str) -> Result<Tagged, Refusal> {
    let kind = resource.split(':').nth(5).unwrap_or_default();
    let missing = match kind {
        "event-source-mapping" => {
            let uuid = resource.rsplit(':').next().and_then(|id| Uuid::try_parse(id).ok());
            let (account, region) = (&ask.caller.account, &ask.caller.region);
            let own = |uuid: &Uuid| mapping_arn(region, account, *uuid).as_str() == resource;
            let uuid = uuid.filter(own).ok_or_else(|| no_mapping(resource))?;
            return Ok(Tagged::Mapping(document(account, region, uuid)));
        }
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
        None => Ok(Tagged::Function(target.key)),
        Some(_) => Err(Refusal::invalid(
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
        )),
    }
}

fn no_mapping(resource: &str) -> Refusal {
    Refusal::Request(ApiError::not_found(format!("Event source mapping not found: {resource}")))
}

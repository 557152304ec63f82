//! Create, read, update, delete and list aliases.

use lamu_api::shapes::{
    AliasConfiguration, AliasRoutingConfiguration, CreateAliasRequest, DeleteAliasRequest,
    GetAliasRequest, ListAliasesRequest, ListAliasesResponse, UpdateAliasRequest,
};
use lamu_model::{Arn, Version};
use uuid::Uuid;

use super::{Ask, Control, check_revision, read_marker};
use crate::function::document::{AliasDoc, Configuration, FunctionKey, Head, Routing};
use crate::function::refusal::Refusal;
use crate::function::{paging, render, routing};

impl Control {
    pub async fn create_alias(
        &self,
        ask: &Ask,
        input: CreateAliasRequest,
    ) -> Result<AliasConfiguration, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let version = read_version(&input.function_version)?;
        let routing = routing::routing(version, weights(input.routing_config.as_ref()))?;
        self.store
            .change_alias(&key, &input.name, |function, current| {
                self.check_targets(&key, &function.head, version, routing)?;
                if current.is_some() {
                    return Err(Refusal::AliasExists(alias_arn(&key, &input.name)));
                }
                let doc = AliasDoc {
                    name: input.name.clone(),
                    version,
                    description: input.description.clone().unwrap_or_default(),
                    revision_id: Uuid::new_v4(),
                    routing,
                    policy: None,
                };
                let shown = render::alias(&key, &doc);
                Ok((Some(doc), shown))
            })
            .await
    }

    pub async fn get_alias(
        &self,
        ask: &Ask,
        input: GetAliasRequest,
    ) -> Result<AliasConfiguration, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let missing = || Refusal::NoAlias(alias_arn(&key, &input.name));
        let function = self.catalog.function(&key).ok_or_else(missing)?;
        let alias = self.catalog.alias(function.head.uid, &input.name).ok_or_else(missing)?;
        Ok(render::alias(&key, &alias.doc))
    }

    pub async fn update_alias(
        &self,
        ask: &Ask,
        input: UpdateAliasRequest,
    ) -> Result<AliasConfiguration, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let asked = input.function_version.as_deref().map(read_version).transpose()?;
        let shown =
            self.store
                .change_alias(&key, &input.name, |function, current| {
                    let current = current
                        .ok_or_else(|| Refusal::NoAliasToUpdate(alias_arn(&key, &input.name)))?;
                    check_revision(input.revision_id.as_deref(), &current.doc.revision_id)?;
                    let version = asked.unwrap_or(current.doc.version);
                    let routing = match &input.routing_config {
                        Some(config) => routing::routing(version, weights(Some(config)))?,
                        None => {
                            // What stays must still fit beside what changes.
                            let kept = current.doc.routing.map(|routing| {
                                [(routing.version.to_string(), routing.weight)].into()
                            });
                            routing::routing(version, kept.as_ref())?
                        }
                    };
                    self.check_targets(&key, &function.head, version, routing)?;
                    let doc = AliasDoc {
                        name: current.doc.name.clone(),
                        version,
                        description: input
                            .description
                            .clone()
                            .unwrap_or_else(|| current.doc.description.clone()),
                        revision_id: Uuid::new_v4(),
                        routing,
                        policy: current.doc.policy.clone(),
                    };
                    self.may_lead(function, &doc)?;
                    let shown = render::alias(&key, &doc);
                    Ok((Some(doc), shown))
                })
                .await?;
        // Its provisioned concurrency moves along.
        self.provision(&[]).await;
        Ok(shown)
    }

    pub async fn delete_alias(&self, ask: &Ask, input: DeleteAliasRequest) -> Result<(), Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        // Its provisioned concurrency first: what is left by a kill in between
        // must not come to an alias made later.
        self.unprovision(&key, &input.name).await?;
        let uid = self
            .store
            .change_alias(&key, &input.name, |function, _| {
                let live = function.live();
                match live.is_some_and(|live| live.provisioned.contains_key(&input.name)) {
                    // Given some again in between.
                    true => Err(Refusal::Contended),
                    false => Ok((None, function.head.uid)),
                }
            })
            .await?;
        self.beside.forget_qualifier(uid, &input.name).await;
        Ok(())
    }

    pub async fn list_aliases(
        &self,
        ask: &Ask,
        input: ListAliasesRequest,
    ) -> Result<ListAliasesResponse, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let after = read_marker(input.marker.as_deref())?;
        let version = input.function_version.as_deref().map(read_version).transpose()?;
        let function = self.catalog.function(&key).ok_or_else(|| Refusal::NoFunction(key.arn()))?;
        let aliases = self.catalog.aliases(function.head.uid);
        let shown = aliases
            .iter()
            .filter(|alias| match version {
                None => true,
                Some(Version::Number(number)) => alias.doc.points_at(number),
                Some(Version::Latest) => alias.doc.version == Version::Latest,
            })
            .map(|alias| (alias.doc.name.clone(), render::alias(&key, &alias.doc)));
        let page = paging::page(shown, after.as_deref(), input.max_items);
        Ok(ListAliasesResponse { aliases: Some(page.items), next_marker: page.next })
    }

    /// Whether an alias may point there: both versions exist, and a call may
    /// land on either without changing whom it runs as.
    fn check_targets(
        &self,
        key: &FunctionKey,
        head: &Head,
        version: Version,
        routing: Option<Routing>,
    ) -> Result<(), Refusal> {
        let find = |number: u64| {
            self.catalog
                .version(head, number)
                .ok_or_else(|| Refusal::NoFunction(key.arn().qualified(number)))
        };
        let Version::Number(number) = version else { return Ok(()) };
        let own = find(number)?;
        let Some(routing) = routing else { return Ok(()) };
        let other = find(routing.version)?;
        let identity = |of: &Configuration| (of.role.clone(), of.dead_letter_target.clone());
        if identity(&own.doc.configuration) != identity(&other.doc.configuration) {
            return Err(Refusal::invalid(
                "The versions of an alias must have the same execution role and the same dead-letter queue.",
            ));
        }
        Ok(())
    }
}

fn alias_arn(key: &FunctionKey, name: &str) -> Arn {
    key.arn().qualified(name)
}

fn weights(
    config: Option<&AliasRoutingConfiguration>,
) -> Option<&std::collections::BTreeMap<String, f64>> {
    config.and_then(|config| config.additional_version_weights.as_ref())
}

/// The model takes `$LATEST.PUBLISHED` too, of Managed Instances.
fn read_version(text: &str) -> Result<Version, Refusal> {
    Version::parse(text).ok_or(Refusal::Unsupported { what: "Version $LATEST.PUBLISHED" })
}

//! Provisioned concurrency of versions and aliases.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamu_api::Timestamp;
use lamu_api::shapes::{
    DeleteProvisionedConcurrencyConfigRequest, GetProvisionedConcurrencyConfigRequest,
    GetProvisionedConcurrencyConfigResponse, ListProvisionedConcurrencyConfigsRequest,
    ListProvisionedConcurrencyConfigsResponse, ProvisionedConcurrencyConfigListItem,
    PutProvisionedConcurrencyConfigRequest, PutProvisionedConcurrencyConfigResponse,
};
use lamu_link::ProvisionedRow;
use lamu_model::{Qualifier, Version, VersionId};

use super::{Ask, Control, living, read_marker};
use crate::function::catalog::HeadEntry;
use crate::function::document::{AliasDoc, FunctionKey, Head, ProvisionedConfig};
use crate::function::provisioned::{self, Progress};
use crate::function::refusal::Refusal;
use crate::function::resolve::Target;
use crate::function::store::Decision;
use crate::function::{paging, provisioned::versions_of};

const UNPUBLISHED: &str =
    "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
const NOT_PUBLISHED: &str =
    "The function resource provided must be an alias or a published version.";

/// One configuration as every operation shows it.
struct Shown {
    requested: Option<i32>,
    allocated: Option<i32>,
    available: Option<i32>,
    status: Option<String>,
    status_reason: Option<String>,
    last_modified: Option<String>,
}

impl Shown {
    fn of(config: &ProvisionedConfig, progress: &Progress) -> Shown {
        let number = |count: u32| i32::try_from(count).ok();
        Shown {
            requested: number(config.count),
            allocated: number(progress.allocated),
            available: number(progress.available),
            status: Some(progress.status.word().to_owned()),
            status_reason: progress.status.reason(),
            last_modified: Some(Timestamp::from_millis(config.modified_ms).offset_secs()),
        }
    }
}

impl Control {
    /// Answers once it is durable and the environments are being made.
    pub async fn put_provisioned_concurrency_config(
        &self,
        ask: &Ask,
        input: PutProvisionedConcurrencyConfigRequest,
    ) -> Result<PutProvisionedConcurrencyConfigResponse, Refusal> {
        let target = ask.target(&input.function_name, Some(&input.qualifier))?;
        let (key, qualifier) = published(&target, UNPUBLISHED)?;
        let count = u32::try_from(input.provisioned_concurrent_executions)
            .map_err(|_| Refusal::invalid("ProvisionedConcurrentExecutions must be positive."))?;
        let config = ProvisionedConfig { count, modified_ms: ask.now_ms() };
        let _reserving = self.reserving.lock().await;
        self.store
            .change(key, |current| {
                let entry = self.provisionable(&target, current, &qualifier)?;
                let (head, live) = living(current, key.arn())?;
                let claims = self.catalog.claims(entry);
                let others = claims.provisioned.iter().filter(|one| one.qualifier != qualifier);
                let beside = others.map(|one| u64::from(one.count)).sum();
                self.budget(key).may_provision(count, beside, live.reserved_concurrency)?;
                let mut head: Head = head.clone();
                if let Some(live) = head.live.as_mut() {
                    live.provisioned.insert(qualifier.clone(), config);
                }
                Ok(Decision::head(head, ()))
            })
            .await?;
        let versions = self.versions_of(key, &qualifier);
        self.provision(&versions).await;
        let mut progress = self.progress(&config, &versions, &self.rows().await?);
        // What is complete already is said by the next Get.
        progress.status = provisioned::Status::InProgress;
        let shown = Shown::of(&config, &progress);
        Ok(PutProvisionedConcurrencyConfigResponse {
            requested_provisioned_concurrent_executions: shown.requested,
            allocated_provisioned_concurrent_executions: shown.allocated,
            available_provisioned_concurrent_executions: shown.available,
            status: shown.status,
            status_reason: shown.status_reason,
            last_modified: shown.last_modified,
        })
    }

    pub async fn get_provisioned_concurrency_config(
        &self,
        ask: &Ask,
        input: GetProvisionedConcurrencyConfigRequest,
    ) -> Result<GetProvisionedConcurrencyConfigResponse, Refusal> {
        let target = ask.target(&input.function_name, Some(&input.qualifier))?;
        let (key, qualifier) = published(&target, NOT_PUBLISHED)?;
        let entry = self.qualified(&target, &qualifier)?;
        let config = entry.live().and_then(|live| live.provisioned.get(&qualifier).copied());
        let config = config.ok_or(Refusal::NoProvisionedConfig)?;
        let versions = self.versions_of(key, &qualifier);
        let shown = Shown::of(&config, &self.progress(&config, &versions, &self.rows().await?));
        Ok(GetProvisionedConcurrencyConfigResponse {
            requested_provisioned_concurrent_executions: shown.requested,
            allocated_provisioned_concurrent_executions: shown.allocated,
            available_provisioned_concurrent_executions: shown.available,
            status: shown.status,
            status_reason: shown.status_reason,
            last_modified: shown.last_modified,
        })
    }

    /// Deleting what is not there succeeds.
    pub async fn delete_provisioned_concurrency_config(
        &self,
        ask: &Ask,
        input: DeleteProvisionedConcurrencyConfigRequest,
    ) -> Result<(), Refusal> {
        let target = ask.target(&input.function_name, Some(&input.qualifier))?;
        let (key, qualifier) = published(&target, NOT_PUBLISHED)?;
        // One whose version is gone can be removed all the same.
        let function = self.catalog.function(key);
        let live = function.as_ref().and_then(|entry| entry.live());
        if !live.is_some_and(|live| live.provisioned.contains_key(&qualifier)) {
            self.qualified(&target, &qualifier)?;
        }
        self.unprovision(key, &qualifier).await
    }

    pub async fn list_provisioned_concurrency_configs(
        &self,
        ask: &Ask,
        input: ListProvisionedConcurrencyConfigsRequest,
    ) -> Result<ListProvisionedConcurrencyConfigsResponse, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let after = read_marker(input.marker.as_deref())?;
        let entry = self.catalog.function(&key).ok_or_else(|| Refusal::NoFunction(key.arn()))?;
        let rows = self.rows().await?;
        let configs = entry.live().into_iter().flat_map(|live| &live.provisioned);
        let shown = configs.map(|(qualifier, config)| {
            let versions = self.versions_of(&key, qualifier);
            let shown = Shown::of(config, &self.progress(config, &versions, &rows));
            let item = ProvisionedConcurrencyConfigListItem {
                function_arn: Some(key.arn().qualified(qualifier).to_string()),
                requested_provisioned_concurrent_executions: shown.requested,
                allocated_provisioned_concurrent_executions: shown.allocated,
                available_provisioned_concurrent_executions: shown.available,
                status: shown.status,
                status_reason: shown.status_reason,
                last_modified: shown.last_modified,
            };
            (qualifier.clone(), item)
        });
        let page = paging::page(shown, after.as_deref(), input.max_items);
        Ok(ListProvisionedConcurrencyConfigsResponse {
            provisioned_concurrency_configs: Some(page.items),
            next_marker: page.next,
        })
    }

    /// Removes the configuration, if there is one, and has its environments end.
    pub(super) async fn unprovision(
        &self,
        key: &FunctionKey,
        qualifier: &str,
    ) -> Result<(), Refusal> {
        self.store
            .change(key, |current| {
                let live = current.and_then(|entry| entry.live());
                if !live.is_some_and(|live| live.provisioned.contains_key(qualifier)) {
                    return Ok(Decision::nothing(()));
                }
                let (head, _) = living(current, key.arn())?;
                let mut head: Head = head.clone();
                if let Some(live) = head.live.as_mut() {
                    live.provisioned.remove(qualifier);
                }
                Ok(Decision::head(head, ()))
            })
            .await?;
        self.provision(&[]).await;
        Ok(())
    }

    /// Has the manager hear of every change before the client does.
    pub(super) async fn provision(&self, again: &[VersionId]) {
        if let Err(error) = self.provisioner.tell(again).await {
            // The provisioner goes on trying.
            tracing::warn!(%error, "could not tell what shall stand by");
        }
    }

    /// Whether an alias that has provisioned concurrency may lead to these
    /// versions.
    pub(super) fn may_lead(&self, entry: &HeadEntry, alias: &AliasDoc) -> Result<(), Refusal> {
        if !entry.live().is_some_and(|live| live.provisioned.contains_key(&alias.name)) {
            return Ok(());
        }
        let versions = versions_of(alias);
        if versions.is_empty() {
            return Err(Refusal::invalid(UNPUBLISHED));
        }
        let claims = self.catalog.claims(entry);
        let others = claims.provisioned.iter().filter(|one| one.qualifier != alias.name);
        let taken = |number: &u64| others.clone().any(|one| one.versions.contains(number));
        match versions.iter().any(taken) {
            true => Err(Refusal::AliasOfProvisionedVersion),
            false => Ok(()),
        }
    }

    /// The living function of a target whose version or alias is there.
    fn qualified(&self, target: &Target, qualifier: &str) -> Result<Arc<HeadEntry>, Refusal> {
        let missing = || match &target.qualifier {
            Some(Qualifier::Alias(_)) => Refusal::NoAlias(target.arn()),
            _ => Refusal::NoFunction(target.arn()),
        };
        let entry = self.catalog.function(&target.key).ok_or_else(missing)?;
        let there = match Qualifier::parse(qualifier) {
            Qualifier::Alias(name) => self.catalog.alias(entry.head.uid, &name).is_some(),
            Qualifier::Version(Version::Number(number)) => {
                self.catalog.version(&entry.head, number).is_some()
            }
            Qualifier::Version(Version::Latest) => false,
        };
        if there { Ok(entry) } else { Err(missing()) }
    }

    /// The function, if this version or alias of it may have a configuration.
    fn provisionable<'a>(
        &self,
        target: &Target,
        current: Option<&'a Arc<HeadEntry>>,
        qualifier: &str,
    ) -> Result<&'a HeadEntry, Refusal> {
        self.qualified(target, qualifier)?;
        let entry = current.ok_or_else(|| Refusal::NoFunction(target.arn()))?;
        let claims = self.catalog.claims(entry);
        let others = || claims.provisioned.iter().filter(|one| one.qualifier != qualifier);
        match Qualifier::parse(qualifier) {
            Qualifier::Alias(name) => {
                let alias = self.catalog.alias(entry.head.uid, &name);
                let alias = alias.ok_or_else(|| Refusal::NoAlias(target.arn()))?;
                let versions = versions_of(&alias.doc);
                if versions.is_empty() {
                    return Err(Refusal::invalid(UNPUBLISHED));
                }
                if alias.doc.routing.is_some() {
                    return Err(Refusal::invalid(
                        "Invalid alias configuration for Provisioned Concurrency",
                    ));
                }
                if others().any(|one| one.versions.iter().any(|v| versions.contains(v))) {
                    return Err(Refusal::AliasOfProvisionedVersion);
                }
            }
            Qualifier::Version(Version::Number(number)) => {
                if others().any(|one| one.versions.contains(&number)) {
                    return Err(Refusal::VersionOfProvisionedAlias);
                }
            }
            Qualifier::Version(Version::Latest) => return Err(Refusal::invalid(UNPUBLISHED)),
        }
        Ok(entry)
    }

    /// The ids of the versions that calls of the qualifier may run.
    fn versions_of(&self, key: &FunctionKey, qualifier: &str) -> Vec<VersionId> {
        let Some(entry) = self.catalog.function(key) else { return Vec::new() };
        let claims = self.catalog.claims(&entry);
        let claim = claims.provisioned.iter().find(|one| one.qualifier == qualifier);
        let numbers = claim.map_or(&[][..], |one| &one.versions);
        let versions = numbers.iter().filter_map(|number| {
            self.catalog.version(&entry.head, *number).map(|version| version.spec.id)
        });
        versions.collect()
    }

    async fn rows(&self) -> Result<BTreeMap<VersionId, ProvisionedRow>, Refusal> {
        let rows = self.manager.provisioned().await;
        let rows = rows.map_err(|error| Refusal::Internal(error.to_string()))?;
        Ok(rows.into_iter().map(|row| (row.spec.id, row)).collect())
    }

    fn progress(
        &self,
        config: &ProvisionedConfig,
        versions: &[VersionId],
        rows: &BTreeMap<VersionId, ProvisionedRow>,
    ) -> Progress {
        provisioned::progress(config.count, versions, rows)
    }
}

/// Function and qualifier of a target that is not `$LATEST`.
fn published<'a>(
    target: &'a Target,
    text: &'static str,
) -> Result<(&'a FunctionKey, String), Refusal> {
    match &target.qualifier {
        None | Some(Qualifier::Version(Version::Latest)) => Err(Refusal::invalid(text)),
        Some(qualifier) => Ok((&target.key, qualifier.to_string())),
    }
}

//! Create, read, update, delete and list functions.

use std::ops::Bound;
use std::sync::Arc;

use lamu_api::shapes::{
    Concurrency, CreateFunctionRequest, DeleteFunctionRequest, DeleteFunctionResponse,
    FunctionCodeLocation, FunctionConfiguration, GetFunctionConfigurationRequest,
    GetFunctionRequest, GetFunctionResponse, ListFunctionsRequest, ListFunctionsResponse,
    UpdateFunctionCodeRequest, UpdateFunctionConfigurationRequest,
};
use lamu_model::{Arn, Qualifier, Version};
use uuid::Uuid;

use super::{Ask, Control, check_revision, living, read_marker, unblocked};
use crate::code::Asked;
use crate::function::catalog::{Found, HeadEntry};
use crate::function::document::{Configuration, FunctionKey, Head, Live, RecursiveLoop, Uid};
use crate::function::publish::Fresh;
use crate::function::refusal::Refusal;
use crate::function::state::{Status, VersionState};
use crate::function::store::Decision;
use crate::function::{configuration, paging, publish, render};
use crate::layer::select;

impl Control {
    pub async fn create_function(
        &self,
        ask: &Ask,
        mut input: CreateFunctionRequest,
    ) -> Result<FunctionConfiguration, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        configuration::check_create(&key.name, &input)?;
        let exists = || Refusal::FunctionExists { name: key.name.to_string() };
        if self.catalog.function(&key).is_some() {
            return Err(exists());
        }
        let code = std::mem::take(&mut input.code);
        let source = Asked {
            zip_file: code.zip_file,
            s3_bucket: code.s3_bucket,
            s3_key: code.s3_key,
            s3_object_version: code.s3_object_version,
            s3_object_storage_mode: code.s3_object_storage_mode,
            source_kms_key_arn: code.source_kms_key_arn,
        }
        .source()?;
        let arns = input.layers.as_deref().unwrap_or_default();
        // Before the download as well as at the write.
        self.choose_layers(ask, arns).await?;
        let signing = input.code_signing_config_arn.as_deref().filter(|arn| !arn.is_empty());
        self.check_signing(ask, &key, signing).await?;
        let checked = self.intake.check(source, &key.region, ask.now).await?;
        let (_attaching, signing) = match signing {
            None => (None, None),
            Some(arn) => {
                let attaching = self.signing.attaching().await;
                // As the configuration itself is named, by which its functions
                // are found.
                let (config, doc) = self.signing_to_attach(ask, arn).await?;
                // What it asks for may have changed during the upload.
                doc.untrusted.check()?;
                (Some(attaching), Some(config.arn().to_string()))
            }
        };
        let _intake = self.sweeper.intake().await;
        let layers = self.choose_layers(ask, arns).await?;
        let code = self.intake.store(&checked).await?;
        drop(checked);
        let publish = input.publish.unwrap_or(false);
        let shown = self
            .store
            .change(&key, |current| {
                if current.is_some_and(|entry| entry.live().is_some()) {
                    return Err(exists());
                }
                let (layers, fresh, now_ms) = (layers.clone(), Fresh::new(), ask.now_ms());
                let latest = configuration::create(&key.name, &input, code, layers, fresh, now_ms)?;
                let live = Live {
                    latest,
                    status: Status::created(),
                    reserved_concurrency: None,
                    provisioned: Default::default(),
                    tags: input.tags.clone().unwrap_or_default(),
                    recursive_loop: RecursiveLoop::default(),
                    code_signing: signing.clone(),
                    policy: None,
                };
                let used = current.map_or(0, |entry| entry.head.last_version);
                let uid = Uid(Uuid::new_v4());
                if !publish {
                    let shown = render::latest(&key, &key.arn(), &live);
                    let head = Head { uid, last_version: used, live: Some(live) };
                    return Ok(Decision::head(head, shown));
                }
                let number = used + 1;
                let state = VersionState::Pending;
                let version =
                    publish::version(&key, &live.latest, number, None, state, Fresh::new());
                // The one answer that has a version under the bare ARN.
                let answer = render::version(&key, &key.arn(), &version);
                let head = Head { uid, last_version: number, live: Some(live) };
                Ok(Decision { head: Some(head), version: Some(version), answer })
            })
            .await?;
        tracing::info!(function = %key.arn(), "created a function");
        self.settler.begun(key);
        Ok(shown)
    }

    pub async fn get_function(
        &self,
        ask: &Ask,
        input: GetFunctionRequest,
    ) -> Result<GetFunctionResponse, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        let found = self.find(&target)?;
        let arn = target.arn();
        let code = match &found.version {
            Some(version) => version.doc.configuration.code,
            None => {
                found.live().map(|live| live.latest.code).ok_or(Refusal::NoFunction(arn.clone()))?
            }
        };
        let now_secs = u64::try_from(ask.now.timestamp()).unwrap_or(0);
        let location = format!("{}{}", ask.base, self.links.make(&code, now_secs));
        let live = found.live().filter(|_| target.qualifier.is_none());
        let reserved = live.and_then(|live| live.reserved_concurrency);
        Ok(GetFunctionResponse {
            code: Some(FunctionCodeLocation {
                repository_type: Some("S3".to_owned()),
                location: Some(location),
                ..FunctionCodeLocation::default()
            }),
            concurrency: reserved.map(|reserved| Concurrency {
                reserved_concurrent_executions: i32::try_from(reserved).ok(),
            }),
            tags: live.map(|live| live.tags.clone()).filter(|tags| !tags.is_empty()),
            configuration: Some(show(&found, &arn)?),
            tags_error: None,
        })
    }

    pub async fn get_function_configuration(
        &self,
        ask: &Ask,
        input: GetFunctionConfigurationRequest,
    ) -> Result<FunctionConfiguration, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        show(&self.find(&target)?, &target.arn())
    }

    pub async fn list_functions(
        &self,
        ask: &Ask,
        input: ListFunctionsRequest,
    ) -> Result<ListFunctionsResponse, Refusal> {
        let after = read_marker(input.marker.as_deref())?;
        let (account, region) = (&ask.caller.account, &ask.caller.region);
        let all = input.function_version.as_deref() == Some("ALL");
        // A page takes no more functions than it has items, and one more shows
        // whether there is another; with ALL, the first may be used up.
        let count = paging::PAGE_MAX + 2;
        let from = match (after.as_deref(), all) {
            (None, _) => Bound::Unbounded,
            (Some(after), false) => Bound::Excluded(after),
            (Some(after), true) => Bound::Included(after.split(' ').next().unwrap_or(after)),
        };
        let functions = self.catalog.functions_from(account, region, from, count);
        let page = if all {
            let all = functions.iter().flat_map(|entry| self.every_version(entry));
            paging::page(all, after.as_deref(), input.max_items)
        } else {
            let latest = functions.iter().filter_map(|entry| {
                let shown = render::latest(&entry.key, &entry.key.arn(), entry.live()?);
                Some((entry.key.name.to_string(), render::in_list(shown)))
            });
            paging::page(latest, after.as_deref(), input.max_items)
        };
        Ok(ListFunctionsResponse { functions: Some(page.items), next_marker: page.next })
    }

    pub async fn update_function_code(
        &self,
        ask: &Ask,
        input: UpdateFunctionCodeRequest,
    ) -> Result<FunctionConfiguration, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let revision = input.revision_id.as_deref();
        // Before the download as well as at the write.
        let (_, live) = {
            let current = self.catalog.head(&key);
            let (head, live) = living(current.as_ref(), key.arn())?;
            updatable(&key, live, current.as_ref(), revision)?;
            (head.clone(), live.clone())
        };
        if input.image_uri.is_some() {
            return Err(Refusal::invalid(
                "Please don't provide ImageUri when updating a function with packageType Zip.",
            ));
        }
        if input.publish_to.is_some() {
            return Err(Refusal::Unsupported { what: "PublishTo" });
        }
        let source = Asked {
            zip_file: input.zip_file,
            s3_bucket: input.s3_bucket,
            s3_key: input.s3_key,
            s3_object_version: input.s3_object_version,
            s3_object_storage_mode: input.s3_object_storage_mode,
            source_kms_key_arn: input.source_kms_key_arn,
        }
        .source()?;
        self.may_deploy(ask, live.code_signing.as_deref()).await?;
        let architectures = input.architectures.as_deref();
        let checked = self.intake.check(source, &key.region, ask.now).await?;
        if input.dry_run.unwrap_or(false) {
            let code = checked.code();
            let fresh = Fresh { id: live.latest.id, revision_id: live.latest.revision_id };
            let modified = live.latest.modified_ms;
            let would =
                configuration::update_code(&live.latest, code, architectures, fresh, modified)?;
            return Ok(render::latest(&key, &key.arn(), &Live { latest: would, ..live }));
        }
        let _intake = self.sweeper.intake().await;
        let code = self.intake.store(&checked).await?;
        drop(checked);
        // The configuration may be another since the upload began.
        let current = self.catalog.head(&key);
        let (_, live) = living(current.as_ref(), key.arn())?;
        let signing = live.code_signing.clone();
        self.check_signing(ask, &key, signing.as_deref()).await?;
        let updated = |live: &Live| {
            same_signing(live, signing.as_deref())?;
            let (fresh, now_ms) = (Fresh::new(), ask.now_ms());
            configuration::update_code(&live.latest, code, architectures, fresh, now_ms)
        };
        self.update(&key, revision, input.publish.unwrap_or(false), updated).await
    }

    pub async fn update_function_configuration(
        &self,
        ask: &Ask,
        input: UpdateFunctionConfigurationRequest,
    ) -> Result<FunctionConfiguration, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let layered = input.layers.as_ref().is_some_and(|arns| !arns.is_empty());
        // Before the intake: it may wait for the memory of an upload, which
        // waits for the intake, and that for nobody once a sweep is in line.
        let unzipped = match self.catalog.function(&key).filter(|_| layered) {
            Some(entry) => match entry.live() {
                Some(live) => Some(self.code_unzipped(&live.latest).await?),
                None => None,
            },
            None => None,
        };
        let _intake = self.sweeper.intake().await;
        let mut signing = None;
        let layers = match &input.layers {
            None => None,
            Some(arns) => {
                let layers = self.choose_layers(ask, arns).await?;
                let current = self.catalog.head(&key);
                let (_, live) = living(current.as_ref(), key.arn())?;
                if !layers.is_empty() {
                    signing.clone_from(&live.code_signing);
                    self.check_signing(ask, &key, live.code_signing.as_deref()).await?;
                }
                Some(layers)
            }
        };
        let updated = |live: &Live| {
            let latest = &live.latest;
            if let Some(layers) = layers.as_deref().filter(|layers| !layers.is_empty()) {
                same_signing(live, signing.as_deref())?;
                // Code that came meanwhile says itself what it unpacks to.
                let bytes = latest.code_unzipped_bytes.or(unzipped).ok_or(Refusal::Contended)?;
                select::check_unzipped(bytes, layers)?;
            }
            let (layers, fresh) = (layers.as_deref(), Fresh::new());
            configuration::update(&key.name, latest, &input, layers, fresh, ask.now_ms())
        };
        self.update(&key, input.revision_id.as_deref(), false, updated).await
    }

    pub async fn delete_function(
        &self,
        ask: &Ask,
        input: DeleteFunctionRequest,
    ) -> Result<DeleteFunctionResponse, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        match target.qualifier {
            None => self.delete_whole(&target.key).await?,
            Some(Qualifier::Version(Version::Number(number))) => {
                self.delete_version(&target.key, number).await?;
            }
            Some(Qualifier::Version(Version::Latest)) => {
                return Err(Refusal::invalid(
                    "$LATEST version cannot be deleted without deleting the function.",
                ));
            }
            Some(Qualifier::Alias(name)) => {
                if name.starts_with('$') || self.catalog.function(&target.key).is_none() {
                    return Err(Refusal::NoFunction(target.key.arn()));
                }
                return Err(Refusal::invalid("Deletion of aliases is not currently supported."));
            }
        }
        Ok(DeleteFunctionResponse { status_code: None })
    }

    /// Writes what `updated` makes of `$LATEST`, and publishes it if asked to.
    async fn update(
        &self,
        key: &FunctionKey,
        revision: Option<&str>,
        publish: bool,
        updated: impl Fn(&Live) -> Result<Configuration, Refusal>,
    ) -> Result<FunctionConfiguration, Refusal> {
        let shown = self
            .store
            .change(key, |current| {
                let (head, live) = living(current, key.arn())?;
                let status = updatable(key, live, current, revision)?;
                let mut head = head.clone();
                let latest = updated(live)?;
                let live = Live { latest, status, ..live.clone() };
                let mut version = None;
                let mut answer = render::latest(key, &key.arn(), &live);
                if publish {
                    let last = self.catalog.version(&head, head.last_version);
                    let arn = |number: u64| key.arn().qualified(number);
                    match last.filter(|last| publish::unchanged(&live.latest, &last.doc)) {
                        Some(last) => {
                            answer = render::version(key, &arn(last.doc.number), &last.doc);
                        }
                        None => {
                            head.last_version += 1;
                            let number = head.last_version;
                            let state = VersionState::Pending;
                            let fresh = Fresh::new();
                            let made =
                                publish::version(key, &live.latest, number, None, state, fresh);
                            answer = render::version(key, &arn(number), &made);
                            version = Some(made);
                        }
                    }
                }
                head.live = Some(live);
                Ok(Decision { head: Some(head), version, answer })
            })
            .await?;
        self.settler.begun(key.clone());
        Ok(shown)
    }

    async fn delete_whole(&self, key: &FunctionKey) -> Result<(), Refusal> {
        let gone: Arc<HeadEntry> = self
            .store
            .change(key, |current| {
                living(current, key.arn())?;
                let current = current.ok_or_else(|| Refusal::NoFunction(key.arn()))?;
                let head = Head { live: None, ..current.head.clone() };
                Ok(Decision::head(head, current.clone()))
            })
            .await?;
        tracing::info!(function = %key.arn(), "deleted a function");
        let versions = self.catalog.versions(&gone.head);
        for url in self.catalog.urls(gone.head.uid) {
            self.store.sweep(&url.uid.url_document(url.doc.slot()), url.revision).await;
        }
        for alias in self.catalog.aliases(gone.head.uid) {
            self.store.sweep(&alias.uid.alias_document(&alias.doc.name), alias.revision).await;
        }
        for version in &versions {
            let document = version.uid.version_document(version.doc.number);
            self.store.sweep(&document, version.revision).await;
            self.settler.retire(version.spec.id).await;
        }
        self.beside.forget_function(gone.head.uid).await;
        if let Some(live) = gone.live() {
            self.settler.retire(live.latest.id).await;
            if let Some(serving) = live.status.serving() {
                self.settler.retire(serving.id).await;
            }
        }
        Ok(())
    }

    async fn delete_version(&self, key: &FunctionKey, number: u64) -> Result<(), Refusal> {
        let qualifier = number.to_string();
        let unaliased = |head: &Head| {
            let aliases = self.catalog.aliases(head.uid);
            match aliases.iter().any(|alias| alias.doc.points_at(number)) {
                true => Err(Refusal::VersionHasAlias { version: number }),
                false => Ok(()),
            }
        };
        if let Some(function) = self.catalog.function(key) {
            unaliased(&function.head)?;
        }
        // Its provisioned concurrency first, whether the version is still there
        // or not: what is left by a kill in between would be claimed for ever.
        self.unprovision(key, &qualifier).await?;
        let may = |head: &Head| {
            unaliased(head)?;
            match head.live.as_ref().is_some_and(|live| live.provisioned.contains_key(&qualifier)) {
                // Given some again in between.
                true => Err(Refusal::Contended),
                false => Ok(()),
            }
        };
        if let Some(gone) = self.store.delete_version(key, number, may).await? {
            self.beside.forget_qualifier(gone.uid, &qualifier).await;
            self.settler.retire(gone.spec.id).await;
        }
        Ok(())
    }

    /// `$LATEST` and every version of a function, under qualified ARNs, with
    /// keys in that order.
    pub(super) fn every_version(&self, entry: &HeadEntry) -> Vec<(String, FunctionConfiguration)> {
        let (key, arn) = (&entry.key, entry.key.arn());
        // A blank sorts before whatever a name may go on with.
        let order = |number: u64| format!("{} {number:020}", key.name);
        let latest = entry.live().map(|live| {
            let shown = render::latest(key, &arn.qualified(Version::Latest), live);
            (order(0), render::in_list(shown))
        });
        let versions = self.catalog.versions(&entry.head);
        let versions = versions.iter().map(|version| {
            let number = version.doc.number;
            let shown = render::version(key, &arn.qualified(number), &version.doc);
            (order(number), render::in_list(shown))
        });
        latest.into_iter().chain(versions).collect()
    }
}

/// The configuration of what was found, under the ARN it was asked for.
fn show(found: &Found, arn: &Arn) -> Result<FunctionConfiguration, Refusal> {
    let key = &found.function.key;
    match (&found.version, found.live()) {
        (Some(version), _) => Ok(render::version(key, arn, &version.doc)),
        (None, Some(live)) => Ok(render::latest(key, arn, live)),
        (None, None) => Err(Refusal::NoFunction(arn.clone())),
    }
}

/// Whether the function still has the code signing configuration that what is
/// deployed was held against.
fn same_signing(live: &Live, checked: Option<&str>) -> Result<(), Refusal> {
    match live.code_signing.as_deref() == checked {
        true => Ok(()),
        false => Err(Refusal::Contended),
    }
}

/// The status of a function with an update begun, if one may begin.
fn updatable(
    key: &FunctionKey,
    live: &Live,
    current: Option<&Arc<HeadEntry>>,
    revision: Option<&str>,
) -> Result<Status, Refusal> {
    let spec = current.and_then(|entry| entry.latest_spec());
    let spec = spec.ok_or_else(|| Refusal::NoFunction(key.arn()))?;
    let status = unblocked(live.status.updating(spec), || key.arn())?;
    check_revision(revision, &live.latest.revision_id)?;
    Ok(status)
}

//! Layers: published, listed, read, deleted, and chosen for a function.
//!
//! Whether a layer of another account may be used was decided before
//! (`crate::access`); [`Control::allow_layer`] sees to it that it was.

use lamu_api::shapes::{
    DeleteLayerVersionRequest, GetLayerVersionByArnRequest, GetLayerVersionRequest,
    GetLayerVersionResponse, LayersListItem, ListLayerVersionsRequest, ListLayerVersionsResponse,
    ListLayersRequest, ListLayersResponse, PublishLayerVersionRequest, PublishLayerVersionResponse,
};

use super::{Ask, Control, read_marker};
use crate::code::Asked;
use crate::function::document::{Configuration, LayerRef};
use crate::function::paging;
use crate::function::refusal::Refusal;
use crate::layer::document::LayerVersionDoc;
use crate::layer::name::{LayerKey, LayerVersionKey};
use crate::layer::store::{Filter, LayerVersion};
use crate::layer::{render, select};

/// Of a layer's name in a marker.
const MARKER_BYTES_MAX: usize = 200;

impl Control {
    pub async fn publish_layer_version(
        &self,
        ask: &Ask,
        input: PublishLayerVersionRequest,
    ) -> Result<PublishLayerVersionResponse, Refusal> {
        let layer = own_layer(ask, &input.layer_name)?;
        let source = Asked {
            zip_file: input.content.zip_file,
            s3_bucket: input.content.s3_bucket,
            s3_key: input.content.s3_key,
            s3_object_version: input.content.s3_object_version,
            s3_object_storage_mode: input.content.s3_object_storage_mode,
            source_kms_key_arn: None,
        }
        .source()?;
        let checked = self.intake.check(source, &layer.region, ask.now).await?;
        let _intake = self.sweeper.intake().await;
        let code = self.intake.store(&checked).await?;
        drop(checked);
        let doc = LayerVersionDoc {
            created_ms: ask.now_ms(),
            description: input.description.unwrap_or_default(),
            license: input.license_info,
            runtimes: input.compatible_runtimes,
            architectures: input.compatible_architectures,
            code: code.digest,
            code_bytes: code.bytes,
            unzipped_bytes: code.unzipped_bytes,
            shared: None,
        };
        let version = self.layers.publish(&layer, doc).await?;
        tracing::info!(layer = %version.key.arn(), "published a layer version");
        Ok(render::published(&version, self.layer_location(ask, &version)))
    }

    pub async fn get_layer_version(
        &self,
        ask: &Ask,
        input: GetLayerVersionRequest,
    ) -> Result<GetLayerVersionResponse, Refusal> {
        let layer = LayerKey::named(&input.layer_name, &ask.caller);
        self.show_layer_version(ask, &layer.numbered(input.version_number)?).await
    }

    pub async fn get_layer_version_by_arn(
        &self,
        ask: &Ask,
        input: GetLayerVersionByArnRequest,
    ) -> Result<GetLayerVersionResponse, Refusal> {
        let missing = || Refusal::NoLayerVersion { arn: input.arn.clone() };
        let key = LayerVersionKey::parse(&input.arn)?.ok_or_else(missing)?;
        self.show_layer_version(ask, &key).await
    }

    pub async fn list_layer_versions(
        &self,
        ask: &Ask,
        input: ListLayerVersionsRequest,
    ) -> Result<ListLayerVersionsResponse, Refusal> {
        let layer = own_layer(ask, &input.layer_name)?;
        let filter = Filter {
            runtime: input.compatible_runtime,
            architecture: input.compatible_architecture,
        };
        let after = read_layer_marker(input.marker.as_deref())?;
        let max = paging::items_max(input.max_items);
        let page = self.layers.versions(&layer, &filter, after.as_deref(), max).await?;
        Ok(ListLayerVersionsResponse {
            layer_versions: Some(page.items.iter().map(render::item).collect()),
            next_marker: page.next,
        })
    }

    pub async fn list_layers(
        &self,
        ask: &Ask,
        input: ListLayersRequest,
    ) -> Result<ListLayersResponse, Refusal> {
        let filter = Filter {
            runtime: input.compatible_runtime,
            architecture: input.compatible_architecture,
        };
        let after = read_layer_marker(input.marker.as_deref())?;
        let max = paging::items_max(input.max_items);
        let (account, region) = (&ask.caller.account, &ask.caller.region);
        let page = self.layers.layers(account, region, &filter, after.as_deref(), max).await?;
        let shown = page.items.iter().map(|version| LayersListItem {
            latest_matching_version: Some(render::item(version)),
            layer_arn: Some(version.key.layer.arn().to_string()),
            layer_name: Some(version.key.layer.name.clone()),
        });
        Ok(ListLayersResponse { layers: Some(shown.collect()), next_marker: page.next })
    }

    /// Functions that have it keep it: their documents name the package.
    pub async fn delete_layer_version(
        &self,
        ask: &Ask,
        input: DeleteLayerVersionRequest,
    ) -> Result<(), Refusal> {
        let key = own_layer(ask, &input.layer_name)?.numbered(input.version_number)?;
        self.layers.delete(&key).await?;
        tracing::info!(layer = %key.arn(), "deleted a layer version");
        Ok(())
    }

    /// What a function is to have for the ARNs of a request. Hold the
    /// sweeper's intake guard until the function is written.
    pub(super) async fn choose_layers(
        &self,
        ask: &Ask,
        arns: &[String],
    ) -> Result<Vec<LayerRef>, Refusal> {
        let keys = select::read(arns, &ask.caller.region)?;
        let mut layers = Vec::with_capacity(keys.len());
        for key in &keys {
            let found = self.layers.get(key).await?;
            self.allow_layer(ask, key)?;
            let version = found.ok_or_else(|| select::missing(key.arn()))?;
            layers.push(LayerRef {
                arn: key.arn(),
                code: version.doc.code,
                code_bytes: version.doc.code_bytes,
                unzipped_bytes: version.doc.unzipped_bytes,
            });
        }
        select::check_once(&keys)?;
        Ok(layers)
    }

    /// What the code of a function unpacks to. Documents from before layers
    /// do not say; then the package is asked.
    pub(super) async fn code_unzipped(&self, of: &Configuration) -> Result<u64, Refusal> {
        match of.code_unzipped_bytes {
            Some(bytes) => Ok(bytes),
            None => self.intake.unzipped_bytes(&of.code).await,
        }
    }

    async fn show_layer_version(
        &self,
        ask: &Ask,
        key: &LayerVersionKey,
    ) -> Result<GetLayerVersionResponse, Refusal> {
        here(ask, &key.layer)?;
        let found = self.layers.get(key).await?;
        self.allow_layer(ask, key)?;
        let version =
            found.ok_or_else(|| Refusal::NoLayerVersion { arn: key.arn().to_string() })?;
        Ok(render::whole(&version, self.layer_location(ask, &version)))
    }

    /// Whether the caller may read this layer version, and so use it. Whether
    /// one of another account exists is no stranger's business.
    fn allow_layer(&self, ask: &Ask, key: &LayerVersionKey) -> Result<(), Refusal> {
        if key.layer.account == ask.caller.account || ask.layers.contains(key) {
            return Ok(());
        }
        Err(Refusal::OtherAccount {
            caller: ask.caller.account.clone(),
            action: "lambda:GetLayerVersion",
            arn: key.arn(),
        })
    }

    fn layer_location(&self, ask: &Ask, version: &LayerVersion) -> String {
        let now_secs = u64::try_from(ask.now.timestamp()).unwrap_or(0);
        format!("{}{}", ask.base, self.links.make(&version.doc.code, now_secs))
    }
}

/// A layer of the caller's own, for what nobody else may do.
pub(super) fn own_layer(ask: &Ask, name: &str) -> Result<LayerKey, Refusal> {
    let layer = LayerKey::named(name, &ask.caller);
    here(ask, &layer)?;
    if layer.account != ask.caller.account {
        return Err(Refusal::OtherAccount {
            caller: ask.caller.account.clone(),
            action: ask.operation.iam_action(),
            arn: layer.arn(),
        });
    }
    Ok(layer)
}

fn here(ask: &Ask, layer: &LayerKey) -> Result<(), Refusal> {
    if layer.region == ask.caller.region {
        return Ok(());
    }
    let here = ask.caller.region.clone();
    Err(Refusal::OtherRegionsLayer { asked: layer.region.clone(), here })
}

fn read_layer_marker(marker: Option<&str>) -> Result<Option<String>, Refusal> {
    let after = read_marker(marker)?;
    match &after {
        Some(after) if after.len() > MARKER_BYTES_MAX => {
            Err(Refusal::invalid("The Marker parameter is invalid."))
        }
        _ => Ok(after),
    }
}

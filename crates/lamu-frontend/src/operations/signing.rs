//! Code signing configurations: made, changed, deleted, given to functions,
//! and asked when code is deployed.

use std::collections::BTreeMap;

use lamu_api::Output;
use lamu_api::shapes::{
    CreateCodeSigningConfigRequest, CreateCodeSigningConfigResponse,
    DeleteCodeSigningConfigRequest, DeleteCodeSigningConfigResponse,
    DeleteFunctionCodeSigningConfigRequest, GetCodeSigningConfigRequest,
    GetCodeSigningConfigResponse, GetFunctionCodeSigningConfigRequest,
    GetFunctionCodeSigningConfigResponse, ListCodeSigningConfigsRequest,
    ListCodeSigningConfigsResponse, ListFunctionsByCodeSigningConfigRequest,
    ListFunctionsByCodeSigningConfigResponse, PutFunctionCodeSigningConfigRequest,
    PutFunctionCodeSigningConfigResponse, UpdateCodeSigningConfigRequest,
    UpdateCodeSigningConfigResponse,
};
use serde::Serialize;

use super::{Ask, Control, living, read_marker};
use crate::function::configuration::{check_tags, tags_max};
use crate::function::document::FunctionKey;
use crate::function::paging;
use crate::function::refusal::Refusal;
use crate::function::store::Decision;
use crate::signing::{SigningDoc, SigningKey, Untrusted, render};

/// The configuration of a function. One that has none answers without members.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum OfFunction {
    Some(GetFunctionCodeSigningConfigResponse),
    None {},
}

impl Output for OfFunction {
    const HAS_BODY: bool = true;
}

impl Control {
    pub async fn create_code_signing_config(
        &self,
        ask: &Ask,
        input: CreateCodeSigningConfigRequest,
    ) -> Result<CreateCodeSigningConfigResponse, Refusal> {
        let tags = input.tags.unwrap_or_default();
        check_tags(tags.keys().map(String::as_str), tags_max())?;
        let key = SigningKey::fresh(&ask.caller.account, &ask.caller.region);
        let doc = SigningDoc {
            description: input.description,
            publishers: input.allowed_publishers.signing_profile_version_arns,
            untrusted: Untrusted::read(input.code_signing_policies.as_ref()).unwrap_or_default(),
            modified_ms: ask.now_ms(),
            tags,
        };
        self.signing.create(&key, &doc).await?;
        Ok(CreateCodeSigningConfigResponse { code_signing_config: render(&key, &doc) })
    }

    pub async fn get_code_signing_config(
        &self,
        ask: &Ask,
        input: GetCodeSigningConfigRequest,
    ) -> Result<GetCodeSigningConfigResponse, Refusal> {
        let (key, doc) = self.signing_config(ask, &input.code_signing_config_arn).await?;
        Ok(GetCodeSigningConfigResponse { code_signing_config: render(&key, &doc) })
    }

    pub async fn update_code_signing_config(
        &self,
        ask: &Ask,
        input: UpdateCodeSigningConfigRequest,
    ) -> Result<UpdateCodeSigningConfigResponse, Refusal> {
        let missing = || Refusal::NoSigningConfig { arn: input.code_signing_config_arn.clone() };
        let key = own(ask, &input.code_signing_config_arn).ok_or_else(missing)?;
        let changed = self.signing.change(&key, |doc| {
            if let Some(publishers) = &input.allowed_publishers {
                doc.publishers.clone_from(&publishers.signing_profile_version_arns);
            }
            if let Some(untrusted) = Untrusted::read(input.code_signing_policies.as_ref()) {
                doc.untrusted = untrusted;
            }
            if input.description.is_some() {
                doc.description.clone_from(&input.description);
            }
            doc.modified_ms = ask.now_ms();
            Ok(())
        });
        let doc = changed.await?.ok_or_else(missing)?;
        Ok(UpdateCodeSigningConfigResponse { code_signing_config: render(&key, &doc) })
    }

    pub async fn delete_code_signing_config(
        &self,
        ask: &Ask,
        input: DeleteCodeSigningConfigRequest,
    ) -> Result<DeleteCodeSigningConfigResponse, Refusal> {
        let _attaching = self.signing.attaching().await;
        let (key, _) = self.signing_config(ask, &input.code_signing_config_arn).await?;
        if self.functions_signed_by(ask, &key).next().is_some() {
            return Err(Refusal::SigningConfigInUse { arn: key.arn().to_string() });
        }
        self.signing.delete(&key).await?;
        Ok(DeleteCodeSigningConfigResponse {})
    }

    pub async fn list_code_signing_configs(
        &self,
        ask: &Ask,
        input: ListCodeSigningConfigsRequest,
    ) -> Result<ListCodeSigningConfigsResponse, Refusal> {
        let after = read_marker(input.marker.as_deref())?;
        let (account, region) = (&ask.caller.account, &ask.caller.region);
        let max = paging::items_max(input.max_items);
        let page = self.signing.list(account, region, after.as_deref(), max).await?;
        Ok(ListCodeSigningConfigsResponse {
            code_signing_configs: Some(
                page.items.iter().map(|(key, doc)| render(key, doc)).collect(),
            ),
            next_marker: page.next,
        })
    }

    pub async fn list_functions_by_code_signing_config(
        &self,
        ask: &Ask,
        input: ListFunctionsByCodeSigningConfigRequest,
    ) -> Result<ListFunctionsByCodeSigningConfigResponse, Refusal> {
        let after = read_marker(input.marker.as_deref())?;
        let (key, _) = self.signing_config(ask, &input.code_signing_config_arn).await?;
        let functions = self
            .functions_signed_by(ask, &key)
            .map(|function| (function.name.to_string(), function.arn().to_string()));
        let page = paging::page(functions, after.as_deref(), input.max_items);
        Ok(ListFunctionsByCodeSigningConfigResponse {
            function_arns: Some(page.items),
            next_marker: page.next,
        })
    }

    pub async fn put_function_code_signing_config(
        &self,
        ask: &Ask,
        input: PutFunctionCodeSigningConfigRequest,
    ) -> Result<PutFunctionCodeSigningConfigResponse, Refusal> {
        let function = ask.target(&input.function_name, None)?.unqualified()?;
        let _attaching = self.signing.attaching().await;
        let (key, _) = self.signing_to_attach(ask, &input.code_signing_config_arn).await?;
        self.attach(&function, Some(key.arn().to_string())).await?;
        Ok(PutFunctionCodeSigningConfigResponse {
            code_signing_config_arn: key.arn().to_string(),
            function_name: function.name.to_string(),
        })
    }

    pub async fn get_function_code_signing_config(
        &self,
        ask: &Ask,
        input: GetFunctionCodeSigningConfigRequest,
    ) -> Result<OfFunction, Refusal> {
        let function = ask.target(&input.function_name, None)?.unqualified()?;
        let entry = self.catalog.function(&function);
        let (_, live) = living(entry.as_ref(), function.arn())?;
        Ok(match live.code_signing.clone() {
            None => OfFunction::None {},
            Some(arn) => OfFunction::Some(GetFunctionCodeSigningConfigResponse {
                code_signing_config_arn: arn,
                function_name: function.name.to_string(),
            }),
        })
    }

    pub async fn delete_function_code_signing_config(
        &self,
        ask: &Ask,
        input: DeleteFunctionCodeSigningConfigRequest,
    ) -> Result<(), Refusal> {
        let function = ask.target(&input.function_name, None)?.unqualified()?;
        self.attach(&function, None).await
    }

    pub(super) async fn signing_tags(
        &self,
        ask: &Ask,
        config: &SigningKey,
    ) -> Result<BTreeMap<String, String>, Refusal> {
        let (_, doc) = self.signing_config(ask, config.arn().as_str()).await?;
        Ok(doc.tags)
    }

    pub(super) async fn change_signing_tags(
        &self,
        ask: &Ask,
        config: &SigningKey,
        change: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let arn = config.arn().to_string();
        let key = own(ask, &arn);
        let changed = match &key {
            Some(key) => self.signing.change(key, |doc| change(&mut doc.tags)).await?,
            None => None,
        };
        changed.map(|_| ()).ok_or(Refusal::NoSigningConfig { arn })
    }

    /// Whether code or layers may be deployed to a function that has this
    /// configuration. Nothing here is signed, so its policy alone decides.
    pub(super) async fn may_deploy(&self, ask: &Ask, config: Option<&str>) -> Result<(), Refusal> {
        let Some(arn) = config else { return Ok(()) };
        let (_, doc) = self.signing_to_attach(ask, arn).await?;
        doc.untrusted.check()
    }

    /// The same of what will now be deployed, which the log says.
    pub(super) async fn check_signing(
        &self,
        ask: &Ask,
        function: &FunctionKey,
        config: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some(arn) = config else { return Ok(()) };
        self.may_deploy(ask, config).await?;
        tracing::warn!(function = %function.arn(), config = arn, "unsigned code is deployed, as its code signing configuration allows");
        Ok(())
    }

    /// The configuration that a function has or is to have.
    pub(super) async fn signing_to_attach(
        &self,
        ask: &Ask,
        arn: &str,
    ) -> Result<(SigningKey, SigningDoc), Refusal> {
        match self.signing_config(ask, arn).await {
            Err(Refusal::NoSigningConfig { arn }) => Err(Refusal::CodeSigningConfigMissing { arn }),
            other => other,
        }
    }

    async fn signing_config(
        &self,
        ask: &Ask,
        arn: &str,
    ) -> Result<(SigningKey, SigningDoc), Refusal> {
        let missing = || Refusal::NoSigningConfig { arn: arn.to_owned() };
        let key = own(ask, arn).ok_or_else(missing)?;
        let doc = self.signing.get(&key).await?.ok_or_else(missing)?;
        Ok((key, doc))
    }

    fn functions_signed_by(
        &self,
        ask: &Ask,
        key: &SigningKey,
    ) -> impl Iterator<Item = FunctionKey> {
        let arn = key.arn().to_string();
        let functions = self.catalog.functions(&ask.caller.account, &ask.caller.region);
        functions.into_iter().filter_map(move |entry| {
            let of_function = entry.live()?.code_signing.as_deref()?;
            (of_function == arn).then(|| entry.key.clone())
        })
    }

    async fn attach(&self, function: &FunctionKey, config: Option<String>) -> Result<(), Refusal> {
        self.store
            .change(function, |current| {
                let (head, live) = living(current, function.arn())?;
                if live.code_signing == config {
                    return Ok(Decision::nothing(()));
                }
                let mut head = head.clone();
                if let Some(live) = head.live.as_mut() {
                    live.code_signing.clone_from(&config);
                }
                Ok(Decision::head(head, ()))
            })
            .await
    }
}

/// The caller's own configuration of that ARN; nobody else's can be had.
fn own(ask: &Ask, arn: &str) -> Option<SigningKey> {
    let key = SigningKey::parse(arn)?;
    (key.account == ask.caller.account && key.region == ask.caller.region).then_some(key)
}

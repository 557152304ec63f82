//! Create, read, update, delete and list the URLs of functions and aliases.
//!
//! Not here: requests to a URL (`crate::url`).

use lamu_api::shapes::{
    CreateFunctionUrlConfigRequest, CreateFunctionUrlConfigResponse,
    DeleteFunctionUrlConfigRequest, FunctionUrlConfig, GetFunctionUrlConfigRequest,
    GetFunctionUrlConfigResponse, ListFunctionUrlConfigsRequest, ListFunctionUrlConfigsResponse,
    UpdateFunctionUrlConfigRequest, UpdateFunctionUrlConfigResponse,
};
use lamu_model::Qualifier;

use super::{Ask, Control, read_marker};
use crate::function::catalog::HeadEntry;
use crate::function::paging;
use crate::function::refusal::Refusal;
use crate::function::resolve::Target;
use crate::function::url::{CorsRules, InvokeMode, LATEST, UrlAuth, UrlDoc, UrlId};

impl Control {
    pub async fn create_function_url_config(
        &self,
        ask: &Ask,
        input: CreateFunctionUrlConfigRequest,
    ) -> Result<CreateFunctionUrlConfigResponse, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        let alias = alias_of(&target)?;
        let invoke_mode = input.invoke_mode.as_deref().map(InvokeMode::read);
        let cors = match &input.cors {
            Some(given) => CorsRules::read(given)?,
            None => None,
        };
        let made = self
            .store
            .change_url(&target.key, slot(alias), |function, current| {
                self.check_there(function, alias)?;
                if current.is_some() {
                    return Err(Refusal::UrlExists(target.arn()));
                }
                let doc = UrlDoc {
                    function: target.key.clone(),
                    alias: alias.map(str::to_owned),
                    id: self.fresh_id(),
                    auth: UrlAuth::read(&input.auth_type),
                    cors: cors.clone(),
                    invoke_mode,
                    created_ms: ask.now_ms(),
                    modified_ms: ask.now_ms(),
                };
                Ok((Some(doc.clone()), doc))
            })
            .await?;
        tracing::info!(function = %made.arn(), auth = made.auth.as_str(), "made a function URL");
        Ok(made.shown_created(self.address(&made)))
    }

    pub async fn get_function_url_config(
        &self,
        ask: &Ask,
        input: GetFunctionUrlConfigRequest,
    ) -> Result<GetFunctionUrlConfigResponse, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        let alias = alias_of(&target)?;
        let function = self.catalog.function(&target.key);
        let url = function.and_then(|function| self.catalog.url(function.head.uid, slot(alias)));
        let shown = self.show(&url.ok_or(Refusal::NoResource)?.doc);
        Ok(GetFunctionUrlConfigResponse {
            auth_type: shown.auth_type,
            cors: shown.cors,
            creation_time: shown.creation_time,
            function_arn: shown.function_arn,
            function_url: shown.function_url,
            invoke_mode: shown.invoke_mode,
            last_modified_time: shown.last_modified_time,
        })
    }

    pub async fn update_function_url_config(
        &self,
        ask: &Ask,
        input: UpdateFunctionUrlConfigRequest,
    ) -> Result<UpdateFunctionUrlConfigResponse, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        let alias = alias_of(&target)?;
        let invoke_mode = input.invoke_mode.as_deref().map(InvokeMode::read);
        let cors = input.cors.as_ref().map(CorsRules::read).transpose()?;
        let doc = self
            .store
            .change_url(&target.key, slot(alias), |function, current| {
                self.check_there(function, alias)?;
                let mut doc = current.ok_or(Refusal::NoResource)?.doc.clone();
                if let Some(auth) = &input.auth_type {
                    doc.auth = UrlAuth::read(auth);
                }
                if let Some(cors) = &cors {
                    doc.cors = cors.clone();
                }
                doc.invoke_mode = invoke_mode.or(doc.invoke_mode);
                doc.modified_ms = ask.now_ms();
                Ok((Some(doc.clone()), doc))
            })
            .await?;
        let shown = self.show(&doc);
        Ok(UpdateFunctionUrlConfigResponse {
            auth_type: shown.auth_type,
            cors: shown.cors,
            creation_time: shown.creation_time,
            function_arn: shown.function_arn,
            function_url: shown.function_url,
            invoke_mode: shown.invoke_mode,
            last_modified_time: shown.last_modified_time,
        })
    }

    pub async fn delete_function_url_config(
        &self,
        ask: &Ask,
        input: DeleteFunctionUrlConfigRequest,
    ) -> Result<(), Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        let alias = alias_of(&target)?;
        self.store
            .change_url(&target.key, slot(alias), |_, current| match current {
                Some(_) => Ok((None, ())),
                None => Err(Refusal::NoResource),
            })
            .await
    }

    /// Those of the function and of its aliases; of one alias when the name
    /// says one.
    pub async fn list_function_url_configs(
        &self,
        ask: &Ask,
        input: ListFunctionUrlConfigsRequest,
    ) -> Result<ListFunctionUrlConfigsResponse, Refusal> {
        let target = ask.target(&input.function_name, None)?;
        let alias = alias_of(&target)?;
        let after = read_marker(input.marker.as_deref())?;
        let function = self.catalog.function(&target.key);
        self.check_there(function.as_ref(), alias)?;
        let urls = function.map(|function| self.catalog.urls(function.head.uid));
        let shown = urls
            .iter()
            .flatten()
            .filter(|url| alias.is_none_or(|alias| url.doc.slot() == alias))
            .map(|url| (url.doc.slot().to_owned(), self.show(&url.doc)));
        let page = paging::page(shown, after.as_deref(), input.max_items);
        Ok(ListFunctionUrlConfigsResponse {
            function_url_configs: page.items,
            next_marker: page.next,
        })
    }

    fn show(&self, doc: &UrlDoc) -> FunctionUrlConfig {
        doc.shown(self.address(doc))
    }

    fn address(&self, doc: &UrlDoc) -> String {
        self.url_base.address(doc.id.as_str(), doc.function.region.as_str())
    }

    /// Whether what a URL shall lead to is there.
    fn check_there(
        &self,
        function: Option<&std::sync::Arc<HeadEntry>>,
        alias: Option<&str>,
    ) -> Result<(), Refusal> {
        let there = function.is_some_and(|function| {
            alias.is_none_or(|alias| self.catalog.alias(function.head.uid, alias).is_some())
        });
        if there { Ok(()) } else { Err(Refusal::NoUrlFunction) }
    }

    fn fresh_id(&self) -> UrlId {
        loop {
            let id = UrlId::random();
            if !self.catalog.is_url_id(&id) {
                return id;
            }
        }
    }
}

fn slot(alias: Option<&str>) -> &str {
    alias.unwrap_or(LATEST)
}

/// The model's pattern lets neither versions nor `$LATEST` through.
fn alias_of(target: &Target) -> Result<Option<&str>, Refusal> {
    match &target.qualifier {
        None => Ok(None),
        Some(Qualifier::Alias(name)) => Ok(Some(name)),
        Some(Qualifier::Version(_)) => Err(Refusal::NoUrlFunction),
    }
}

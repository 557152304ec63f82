//! Put, update, read, list and delete event invoke configs.

use lamu_api::shapes::{
    DeleteFunctionEventInvokeConfigRequest, FunctionEventInvokeConfig,
    GetFunctionEventInvokeConfigRequest, ListFunctionEventInvokeConfigsRequest,
    ListFunctionEventInvokeConfigsResponse, PutFunctionEventInvokeConfigRequest,
    UpdateFunctionEventInvokeConfigRequest,
};
use lamu_model::{Arn, FunctionName, Qualifier, Version};

use super::{Ask, Control, read_marker};
use crate::function::beside::{invoke_config, invoke_configs_of};
use crate::function::document::FunctionKey;
use crate::function::invoke_config::{InvokeConfig, Wanted, render};
use crate::function::refusal::Refusal;
use crate::function::resolve::Target;
use crate::function::{beside, paging};
use crate::table::Next;

impl Control {
    pub async fn put_function_event_invoke_config(
        &self,
        ask: &Ask,
        input: PutFunctionEventInvokeConfigRequest,
    ) -> Result<FunctionEventInvokeConfig, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        let wanted = Wanted {
            retries_max: input.maximum_retry_attempts,
            age_secs_max: input.maximum_event_age_in_seconds,
            destinations: input.destination_config.as_ref(),
        };
        self.write_config(&target, wanted, |_| Ok(wanted.made(ask.now_ms()))).await
    }

    pub async fn update_function_event_invoke_config(
        &self,
        ask: &Ask,
        input: UpdateFunctionEventInvokeConfigRequest,
    ) -> Result<FunctionEventInvokeConfig, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        let wanted = Wanted {
            retries_max: input.maximum_retry_attempts,
            age_secs_max: input.maximum_event_age_in_seconds,
            destinations: input.destination_config.as_ref(),
        };
        let arn = qualified(&target);
        self.write_config(&target, wanted, |current| match current {
            Some(current) => Ok(wanted.merged(current, ask.now_ms())),
            None => Err(Refusal::NoInvokeConfig(arn.clone())),
        })
        .await
    }

    pub async fn get_function_event_invoke_config(
        &self,
        ask: &Ask,
        input: GetFunctionEventInvokeConfigRequest,
    ) -> Result<FunctionEventInvokeConfig, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        let arn = qualified(&target);
        let found = self.find(&target).ok();
        let key = found.map(|found| invoke_config(found.function.head.uid, &qualifier(&target)));
        let config = key.and_then(|key| self.beside.invoke_configs.get(&key));
        let config = config.ok_or_else(|| Refusal::NoInvokeConfig(arn.clone()))?;
        Ok(render(&arn, &config.doc))
    }

    pub async fn delete_function_event_invoke_config(
        &self,
        ask: &Ask,
        input: DeleteFunctionEventInvokeConfigRequest,
    ) -> Result<(), Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        let missing = || Refusal::NoInvokeConfig(qualified(&target));
        let found = self.find(&target).map_err(|_| missing())?;
        let key = invoke_config(found.function.head.uid, &qualifier(&target));
        let decide = |current: Option<&InvokeConfig>| match current {
            Some(_) => Ok((Next::Delete, ())),
            None => Err(missing()),
        };
        self.beside.invoke_configs.change(&key, decide).await
    }

    pub async fn list_function_event_invoke_configs(
        &self,
        ask: &Ask,
        input: ListFunctionEventInvokeConfigsRequest,
    ) -> Result<ListFunctionEventInvokeConfigsResponse, Refusal> {
        let target = ask.target(&input.function_name, None)?;
        let after = read_marker(input.marker.as_deref())?;
        let function = self.catalog.function(&target.key).ok_or(Refusal::NothingToConfigure)?;
        let prefix = invoke_configs_of(function.head.uid);
        let after = after.map(|after| format!("{prefix}{after}"));
        // One more than a page shows whether there is another.
        let count = paging::PAGE_MAX + 1;
        let rows = self.beside.invoke_configs.range(&prefix, after.as_deref(), count);
        let shown = rows.into_iter().map(|(key, row)| {
            let qualifier = key[prefix.len()..].to_owned();
            let arn = target.key.arn().qualified(&qualifier);
            (qualifier, render(&arn, &row.doc))
        });
        let page = paging::page(shown, None, input.max_items);
        Ok(ListFunctionEventInvokeConfigsResponse {
            function_event_invoke_configs: Some(page.items),
            next_marker: page.next,
        })
    }

    /// Writes the config of something that is there, and shows it.
    async fn write_config(
        &self,
        target: &Target,
        wanted: Wanted<'_>,
        decide: impl Fn(Option<&InvokeConfig>) -> Result<InvokeConfig, Refusal>,
    ) -> Result<FunctionEventInvokeConfig, Refusal> {
        // Held, so that the function is not deleted between look and write.
        let _turn = self.store.hold(&target.key).await;
        let found = self.find(target).map_err(|_| Refusal::NothingToConfigure)?;
        wanted.check(&target.key, |name| self.is_function(&target.key, name))?;
        let arn = qualified(target);
        let key = beside::invoke_config(found.function.head.uid, &qualifier(target));
        let write = |current: Option<&InvokeConfig>| {
            let config = decide(current)?;
            let shown = render(&arn, &config);
            Ok((Next::Put(config), shown))
        };
        self.beside.invoke_configs.change(&key, write).await
    }

    /// Whether there is a function of this name beside `key`.
    fn is_function(&self, key: &FunctionKey, name: &FunctionName) -> bool {
        let other = FunctionKey { name: name.clone(), ..key.clone() };
        self.catalog.function(&other).is_some()
    }
}

/// What a target is called here: never without a qualifier.
fn qualifier(target: &Target) -> String {
    let latest = Qualifier::Version(Version::Latest);
    target.qualifier.as_ref().unwrap_or(&latest).to_string()
}

fn qualified(target: &Target) -> Arn {
    target.key.arn().qualified(qualifier(target))
}

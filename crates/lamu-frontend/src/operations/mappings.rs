//! Create, read, update, delete and list event source mappings.

use lamu_api::shapes::{
    CreateEventSourceMappingRequest, DeleteEventSourceMappingRequest,
    EventSourceMappingConfiguration, GetEventSourceMappingRequest, ListEventSourceMappingsRequest,
    ListEventSourceMappingsResponse, UpdateEventSourceMappingRequest,
};
use lamu_model::mapping::{Mapping, MappingState, Source};
use uuid::Uuid;

use super::{Ask, Control, read_marker};
use crate::function::configuration::{check_tags, tags_max};
use crate::function::paging;
use crate::function::refusal::Refusal;
use crate::function::resolve::Target;
use crate::mapping::{self, asked, document, of_account, render};
use crate::table::Next;

/// The service returns at most this many, whatever is asked.
const PAGE_MAX: usize = 100;

/// Mappings looked at together when a list is filtered.
const CHUNK: usize = 256;

impl Control {
    /// Everything is checked before a source that nobody polls is refused: a
    /// mapping that would do nothing is worse than none.
    pub async fn create_event_source_mapping(
        &self,
        ask: &Ask,
        input: CreateEventSourceMappingRequest,
    ) -> Result<EventSourceMappingConfiguration, Refusal> {
        let target = self.mapped_function(ask, &input.function_name)?;
        let (kind, source) = asked::source(&input)?;
        check_region(ask, &source)?;
        let settings = asked::create(kind, &source, &input, ask.now_ms())?;
        let tags = input.tags.clone().unwrap_or_default();
        check_tags(tags.keys().map(String::as_str), tags_max())?;
        if !self.mappings.is_polled(kind) {
            return Err(Refusal::NotPolled { kind });
        }
        let made = Mapping {
            uuid: Uuid::new_v4(),
            account: target.key.account.clone(),
            region: target.key.region.clone(),
            function: target.key.name.clone(),
            qualifier: target.qualifier.as_ref().map(ToString::to_string),
            kind,
            source,
            state: MappingState::Creating,
            enabled: input.enabled.unwrap_or(true),
            modified_ms: ask.now_ms(),
            settings,
            tags,
        };
        let _pairing = self.mappings.pairing.lock().await;
        self.check_twins(&made)?;
        let key = document(&made.account, &made.region, made.uuid);
        let shown = render::mapping(&made);
        let write = |_: Option<&Mapping>| Ok((Next::Put(made.clone()), ()));
        self.mappings.table.change(&key, write).await?;
        tracing::info!(mapping = %made.arn(), function = %made.function_arn(), "created an event source mapping");
        self.mappings.begun(&key);
        Ok(shown)
    }

    pub async fn get_event_source_mapping(
        &self,
        ask: &Ask,
        input: GetEventSourceMappingRequest,
    ) -> Result<EventSourceMappingConfiguration, Refusal> {
        let key = self.mapping_key(ask, &input.uuid)?;
        let row = self.mappings.table.get(&key).ok_or(Refusal::NoMapping)?;
        Ok(render::mapping(&row.doc))
    }

    pub async fn update_event_source_mapping(
        &self,
        ask: &Ask,
        input: UpdateEventSourceMappingRequest,
    ) -> Result<EventSourceMappingConfiguration, Refusal> {
        let key = self.mapping_key(ask, &input.uuid)?;
        self.mappings.table.get(&key).ok_or(Refusal::NoMapping)?;
        let target = input.function_name.as_deref().filter(|name| !name.is_empty());
        let target = target.map(|name| self.mapped_function(ask, name)).transpose()?;
        let _pairing = self.mappings.pairing.lock().await;
        let update = |current: Option<&Mapping>| {
            let current = current.ok_or(Refusal::NoMapping)?;
            let settings = asked::update(current.kind, &current.source, &current.settings, &input)?;
            let enabled = input.enabled.unwrap_or(current.enabled);
            let in_use = |_| Refusal::MappingInUse { doing: "update" };
            let mut updated = Mapping {
                state: current.updating(enabled).map_err(in_use)?,
                enabled,
                settings,
                modified_ms: ask.now_ms(),
                ..current.clone()
            };
            if let Some(target) = &target {
                updated.function = target.key.name.clone();
                updated.qualifier = target.qualifier.as_ref().map(ToString::to_string);
                self.check_twins(&updated)?;
            }
            let shown = render::mapping(&updated);
            Ok((Next::Put(updated), shown))
        };
        let shown = self.mappings.table.change(&key, update).await?;
        self.mappings.begun(&key);
        Ok(shown)
    }

    pub async fn delete_event_source_mapping(
        &self,
        ask: &Ask,
        input: DeleteEventSourceMappingRequest,
    ) -> Result<EventSourceMappingConfiguration, Refusal> {
        let key = self.mapping_key(ask, &input.uuid)?;
        let delete = |current: Option<&Mapping>| {
            let current = current.ok_or(Refusal::NoMapping)?;
            let in_use = |_| Refusal::MappingInUse { doing: "delete" };
            let state = current.deleting().map_err(in_use)?;
            let deleted = Mapping { state, ..current.clone() };
            let shown = render::mapping(&deleted);
            Ok((Next::Put(deleted), shown))
        };
        let shown = self.mappings.table.change(&key, delete).await?;
        self.mappings.begun(&key);
        Ok(shown)
    }

    pub async fn list_event_source_mappings(
        &self,
        ask: &Ask,
        input: ListEventSourceMappingsRequest,
    ) -> Result<ListEventSourceMappingsResponse, Refusal> {
        let target = input.function_name.as_deref().filter(|name| !name.is_empty());
        let target = target.map(|name| ask.target(name, None)).transpose()?;
        let source = input.event_source_arn.as_deref().filter(|arn| !arn.is_empty());
        let wanted = |of: &Mapping| {
            let function = target.as_ref().is_none_or(|target| {
                let qualifier = target.qualifier.as_ref().map(ToString::to_string);
                of.function == target.key.name && (qualifier.is_none() || qualifier == of.qualifier)
            });
            let from = source.is_none_or(|arn| of.source == Source::Arn(arn.to_owned()));
            function && from
        };
        let prefix = of_account(&ask.caller.account, &ask.caller.region);
        let mut after = read_marker(input.marker.as_deref())?.map(|uuid| format!("{prefix}{uuid}"));
        let mut shown = Vec::new();
        // One more than a page shows whether there is another.
        while shown.len() <= PAGE_MAX {
            let rows = self.mappings.table.range(&prefix, after.as_deref(), CHUNK);
            after = rows.last().map(|(key, _)| key.clone());
            let wanted = rows.iter().filter(|(_, row)| wanted(&row.doc));
            shown.extend(
                wanted
                    .map(|(key, row)| (key[prefix.len()..].to_owned(), render::in_list(&row.doc))),
            );
            if rows.len() < CHUNK {
                break;
            }
        }
        let page = paging::page_of(shown.into_iter(), None, input.max_items, PAGE_MAX);
        Ok(ListEventSourceMappingsResponse {
            event_source_mappings: Some(page.items),
            next_marker: page.next,
        })
    }

    /// The document of a mapping of the caller's, whether it is there or not.
    fn mapping_key(&self, ask: &Ask, uuid: &str) -> Result<String, Refusal> {
        let uuid = Uuid::try_parse(uuid).map_err(|_| Refusal::NoMapping)?;
        Ok(mapping::document(&ask.caller.account, &ask.caller.region, uuid))
    }

    /// The function, version or alias that is to get the records.
    fn mapped_function(&self, ask: &Ask, name: &str) -> Result<Target, Refusal> {
        let target = ask.target(name, None)?;
        match self.find(&target) {
            Ok(_) => Ok(target),
            Err(_) => Err(Refusal::invalid("Function does not exist")),
        }
    }

    fn check_twins(&self, made: &Mapping) -> Result<(), Refusal> {
        let all = self.mappings.table.all(&of_account(&made.account, &made.region));
        let twin =
            all.iter().find(|(_, row)| row.doc.uuid != made.uuid && row.doc.is_twin_of(made));
        match twin {
            Some((_, twin)) => Err(Refusal::MappingExists(Box::new(twin.doc.clone()))),
            None => Ok(()),
        }
    }
}

/// A source is polled from its own region.
fn check_region(ask: &Ask, source: &Source) -> Result<(), Refusal> {
    let Source::Arn(arn) = source else { return Ok(()) };
    match arn.split(':').nth(3) {
        Some(region) if region == ask.caller.region.as_str() => Ok(()),
        _ => Err(Refusal::invalid(format!(
            "The event source arn {arn} must be in the same region as the function."
        ))),
    }
}

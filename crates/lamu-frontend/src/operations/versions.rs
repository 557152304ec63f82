//! Publish and list versions.

use lamu_api::shapes::{
    FunctionConfiguration, ListVersionsByFunctionRequest, ListVersionsByFunctionResponse,
    PublishVersionRequest,
};
use uuid::Uuid;

use super::{Ask, Control, check_revision, living, read_marker, unblocked};
use crate::function::publish::{self, Fresh};
use crate::function::refusal::Refusal;
use crate::function::state::VersionState;
use crate::function::store::Decision;
use crate::function::{paging, render};

impl Control {
    /// Of an unchanged `$LATEST` answers the version there is.
    pub async fn publish_version(
        &self,
        ask: &Ask,
        input: PublishVersionRequest,
    ) -> Result<FunctionConfiguration, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        if input.publish_to.is_some() {
            return Err(Refusal::Unsupported { what: "PublishTo" });
        }
        let arn = |number: u64| key.arn().qualified(number);
        self.store
            .change(&key, |current| {
                let (head, live) = living(current, key.arn())?;
                unblocked(live.status.may_publish(), || key.arn())?;
                check_revision(input.revision_id.as_deref(), &live.latest.revision_id)?;
                check_code(input.code_sha256.as_deref(), &render::code_sha256(&live.latest.code))?;
                let last = self.catalog.version(head, head.last_version);
                if let Some(last) = last.filter(|last| publish::unchanged(&live.latest, &last.doc))
                {
                    let shown = render::version(&key, &arn(last.doc.number), &last.doc);
                    return Ok(Decision::nothing(shown));
                }
                let number = head.last_version + 1;
                let description = input.description.as_deref();
                let state = VersionState::Active;
                let fresh = Fresh::new();
                let version =
                    publish::version(&key, &live.latest, number, description, state, fresh);
                let answer = render::version(&key, &arn(number), &version);
                let mut head = head.clone();
                head.last_version = number;
                if let Some(live) = head.live.as_mut() {
                    live.latest.revision_id = Uuid::new_v4();
                }
                Ok(Decision { head: Some(head), version: Some(version), answer })
            })
            .await
    }

    pub async fn list_versions_by_function(
        &self,
        ask: &Ask,
        input: ListVersionsByFunctionRequest,
    ) -> Result<ListVersionsByFunctionResponse, Refusal> {
        let target = ask.target(&input.function_name, None)?;
        let after = read_marker(input.marker.as_deref())?;
        let entry = self
            .catalog
            .function(&target.key)
            .ok_or_else(|| Refusal::NoFunction(target.key.arn()))?;
        let versions = self.every_version(&entry).into_iter();
        let page = paging::page(versions, after.as_deref(), input.max_items);
        Ok(ListVersionsByFunctionResponse { versions: Some(page.items), next_marker: page.next })
    }
}

fn check_code(asked: Option<&str>, current: &str) -> Result<(), Refusal> {
    match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) if asked != current => Err(Refusal::invalid(format!(
            "CodeSHA256 ({asked}) is different from current CodeSHA256 in $LATEST ({current}). Please try again with the CodeSHA256 in $LATEST."
        ))),
        _ => Ok(()),
    }
}

//! When a version takes a newer runtime, and what becomes of calls that go
//! round in a circle.

use lamu_api::shapes::{
    GetFunctionRecursionConfigRequest, GetFunctionRecursionConfigResponse,
    GetRuntimeManagementConfigRequest, GetRuntimeManagementConfigResponse,
    PutFunctionRecursionConfigRequest, PutFunctionRecursionConfigResponse,
    PutRuntimeManagementConfigRequest, PutRuntimeManagementConfigResponse,
};
use lamu_model::Runtime;

use super::{Ask, Control, living};
use crate::function::beside::runtime_management;
use crate::function::catalog::Found;
use crate::function::document::RecursiveLoop;
use crate::function::refusal::Refusal;
use crate::function::runtime_management::RuntimeManagement;
use crate::function::store::Decision;
use crate::table::Next;

impl Control {
    pub async fn put_runtime_management_config(
        &self,
        ask: &Ask,
        input: PutRuntimeManagementConfigRequest,
    ) -> Result<PutRuntimeManagementConfigResponse, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        // Held, so that the function is not deleted between look and write.
        let _turn = self.store.hold(&target.key).await;
        let found = self.find(&target)?;
        let runtime = runtime_of(&found).ok_or_else(|| Refusal::NoFunction(target.arn()))?;
        let region = &target.key.region;
        let asked = input.runtime_version_arn.as_deref();
        let mode = RuntimeManagement::read(&input.update_runtime_on, asked, region, runtime)?;
        let key = runtime_management(found.function.head.uid, &version_of(&found));
        let change = |current: Option<&RuntimeManagement>| match current {
            Some(current) if *current == mode => Ok((Next::Keep, ())),
            _ => Ok((Next::Put(mode), ())),
        };
        self.beside.runtime_management.change(&key, change).await?;
        Ok(PutRuntimeManagementConfigResponse {
            function_arn: target.arn().to_string(),
            runtime_version_arn: mode.pinned(region, runtime).map(|arn| arn.to_string()),
            update_runtime_on: mode.as_str().to_owned(),
        })
    }

    pub async fn get_runtime_management_config(
        &self,
        ask: &Ask,
        input: GetRuntimeManagementConfigRequest,
    ) -> Result<GetRuntimeManagementConfigResponse, Refusal> {
        let target = ask.target(&input.function_name, input.qualifier.as_deref())?;
        let found = self.find(&target)?;
        let runtime = runtime_of(&found).ok_or_else(|| Refusal::NoFunction(target.arn()))?;
        let key = runtime_management(found.function.head.uid, &version_of(&found));
        let mode = self.beside.runtime_management.get(&key).map(|row| row.doc).unwrap_or_default();
        let pinned = mode.pinned(&target.key.region, runtime);
        Ok(GetRuntimeManagementConfigResponse {
            function_arn: Some(target.arn().to_string()),
            runtime_version_arn: pinned.map(|arn| arn.to_string()),
            update_runtime_on: Some(mode.as_str().to_owned()),
        })
    }

    pub async fn put_function_recursion_config(
        &self,
        ask: &Ask,
        input: PutFunctionRecursionConfigRequest,
    ) -> Result<PutFunctionRecursionConfigResponse, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let wanted = match input.recursive_loop.as_str() {
            "Allow" => RecursiveLoop::Allow,
            _ => RecursiveLoop::Terminate,
        };
        self.store
            .change(&key, |current| {
                let (head, live) = living(current, key.arn())?;
                if live.recursive_loop == wanted {
                    return Ok(Decision::nothing(()));
                }
                let mut head = head.clone();
                if let Some(live) = head.live.as_mut() {
                    live.recursive_loop = wanted;
                }
                Ok(Decision::head(head, ()))
            })
            .await?;
        let recursive_loop = Some(wanted.as_str().to_owned());
        Ok(PutFunctionRecursionConfigResponse { recursive_loop })
    }

    pub async fn get_function_recursion_config(
        &self,
        ask: &Ask,
        input: GetFunctionRecursionConfigRequest,
    ) -> Result<GetFunctionRecursionConfigResponse, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let entry = self.catalog.function(&key);
        let (_, live) = living(entry.as_ref(), key.arn())?;
        let recursive_loop = Some(live.recursive_loop.as_str().to_owned());
        Ok(GetFunctionRecursionConfigResponse { recursive_loop })
    }
}

fn runtime_of(found: &Found) -> Option<&Runtime> {
    match &found.version {
        Some(version) => Some(&version.doc.configuration.runtime),
        None => found.live().map(|live| &live.latest.runtime),
    }
}

/// An alias leads to its version: builds are a version's business.
fn version_of(found: &Found) -> String {
    match &found.version {
        Some(version) => version.doc.number.to_string(),
        None => "$LATEST".to_owned(),
    }
}

//! The account's limits and what is used of them.

use lamu_api::shapes::{
    AccountLimit, AccountUsage, GetAccountSettingsRequest, GetAccountSettingsResponse,
};
use lamu_model::{UNZIPPED_BYTES_MAX, ZIP_INLINE_BYTES_MAX};

use super::{Ask, Control};
use crate::function::refusal::Refusal;

/// What the service grants. Nothing here enforces it: the disk is the user's
/// own.
const CODE_BYTES_MAX: i64 = 300 * 1024 * 1024 * 1024;

impl Control {
    pub async fn get_account_settings(
        &self,
        ask: &Ask,
        _: GetAccountSettingsRequest,
    ) -> Result<GetAccountSettingsResponse, Refusal> {
        let functions = self.catalog.functions(&ask.caller.account, &ask.caller.region);
        let (account, region) = (&ask.caller.account, &ask.caller.region);
        let mut code_bytes = self.layers.code_bytes(account, region).await?;
        let mut claimed = 0_u64;
        for entry in &functions {
            let Some(live) = entry.live() else { continue };
            claimed += u64::from(self.catalog.claims(entry).concurrency());
            code_bytes += live.latest.code_bytes;
            let versions = self.catalog.versions(&entry.head);
            code_bytes +=
                versions.iter().map(|version| version.doc.configuration.code_bytes).sum::<u64>();
        }
        let unreserved = u64::from(self.account_concurrency).saturating_sub(claimed);
        Ok(GetAccountSettingsResponse {
            account_limit: Some(AccountLimit {
                total_code_size: Some(CODE_BYTES_MAX),
                code_size_unzipped: i64::try_from(UNZIPPED_BYTES_MAX).ok(),
                code_size_zipped: i64::try_from(ZIP_INLINE_BYTES_MAX).ok(),
                concurrent_executions: i32::try_from(self.account_concurrency).ok(),
                unreserved_concurrent_executions: i32::try_from(unreserved).ok(),
            }),
            account_usage: Some(AccountUsage {
                total_code_size: i64::try_from(code_bytes).ok(),
                function_count: i64::try_from(functions.len()).ok(),
            }),
        })
    }
}

//! Reserved concurrency.

use lamu_api::shapes::{
    Concurrency, DeleteFunctionConcurrencyRequest, GetFunctionConcurrencyRequest,
    GetFunctionConcurrencyResponse, PutFunctionConcurrencyRequest,
};
use lamu_model::Version;

use super::{Ask, Control, living};
use crate::function::document::{FunctionKey, Head};
use crate::function::provisioned::Budget;
use crate::function::refusal::Refusal;
use crate::function::store::Decision;

impl Control {
    pub async fn put_function_concurrency(
        &self,
        ask: &Ask,
        input: PutFunctionConcurrencyRequest,
    ) -> Result<Concurrency, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let reserved = u32::try_from(input.reserved_concurrent_executions)
            .map_err(|_| Refusal::invalid("ReservedConcurrentExecutions must not be negative."))?;
        let _reserving = self.reserving.lock().await;
        self.set_reserved(&key, Some(reserved), || {
            let entry = self.catalog.function(&key);
            let provisioned =
                entry.map_or(0, |entry| self.catalog.claims(&entry).provisioned_sum());
            self.budget(&key).may_reserve(reserved, provisioned)
        })
        .await?;
        Ok(Concurrency {
            reserved_concurrent_executions: Some(input.reserved_concurrent_executions),
        })
    }

    pub async fn get_function_concurrency(
        &self,
        ask: &Ask,
        input: GetFunctionConcurrencyRequest,
    ) -> Result<GetFunctionConcurrencyResponse, Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let entry = self.catalog.function(&key);
        let (_, live) = living(entry.as_ref(), key.arn())?;
        let reserved = live.reserved_concurrency.and_then(|reserved| i32::try_from(reserved).ok());
        Ok(GetFunctionConcurrencyResponse { reserved_concurrent_executions: reserved })
    }

    pub async fn delete_function_concurrency(
        &self,
        ask: &Ask,
        input: DeleteFunctionConcurrencyRequest,
    ) -> Result<(), Refusal> {
        let key = ask.target(&input.function_name, None)?.unqualified()?;
        let _reserving = self.reserving.lock().await;
        self.set_reserved(&key, None, || Ok(())).await
    }

    /// The account's concurrency as this function finds it.
    pub(super) fn budget(&self, key: &FunctionKey) -> Budget {
        let functions = self.catalog.functions(&key.account, &key.region);
        let others = functions.iter().filter(|entry| entry.key != *key);
        let claimed = others.map(|entry| u64::from(self.catalog.claims(entry).concurrency()));
        Budget { account: self.account_concurrency, others: claimed.sum() }
    }

    async fn set_reserved(
        &self,
        key: &FunctionKey,
        reserved: Option<u32>,
        may: impl Fn() -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        // The service names `$LATEST` here, as it does for invocations.
        let arn = || key.arn().qualified(Version::Latest);
        self.store
            .change(key, |current| {
                let (head, live) = living(current, arn())?;
                may()?;
                if live.reserved_concurrency == reserved {
                    return Ok(Decision::nothing(()));
                }
                let mut head: Head = head.clone();
                if let Some(live) = head.live.as_mut() {
                    live.reserved_concurrency = reserved;
                }
                Ok(Decision::head(head, ()))
            })
            .await
    }
}

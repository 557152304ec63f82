//! The control plane as clients call it: one method per operation of Lambda
//! that is served, from the model's input to the model's output.
//!
//! Not here: HTTP (`service`), what errors look like (`crate::error`), the
//! invocation (`invoke`), and every rule that is a pure decision
//! (`crate::function`).

mod account;
mod aliases;
mod concurrency;
mod functions;
mod invoke_configs;
mod layer_permissions;
mod layers;
mod mappings;
mod permissions;
mod provisioned;
mod runtimes;
mod signing;
mod tags;
mod urls;
mod versions;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lamu_api::{Operation, function_ref};
use lamu_link::ManagerHandle;
use lamu_model::Arn;
use uuid::Uuid;

use crate::code::Intake;
use crate::code_link::CodeLinks;
use crate::function::beside::Beside;
use crate::function::catalog::{Catalog, Found, HeadEntry};
use crate::function::document::{Head, Live};
use crate::function::paging;
use crate::function::provisioner::Provisioner;
use crate::function::refusal::Refusal;
use crate::function::resolve::{Caller, Target, resolve};
use crate::function::settle::Settler;
use crate::function::state::Blocked;
use crate::function::store::Store;
use crate::function::sweep::Sweeper;
use crate::layer::name::LayerVersionKey;
use crate::layer::store::LayerStore;
use crate::mapping::Mappings;
use crate::signing::store::SigningStore;
use crate::url::address::UrlBase;

#[derive(Debug)]
pub struct Control {
    pub catalog: Arc<Catalog>,
    pub store: Arc<Store>,
    pub settler: Arc<Settler>,
    pub sweeper: Arc<Sweeper>,
    pub beside: Arc<Beside>,
    pub provisioner: Arc<Provisioner>,
    /// Asked for what stands by.
    pub manager: ManagerHandle,
    pub mappings: Arc<Mappings>,
    pub intake: Intake,
    pub links: CodeLinks,
    pub layers: Arc<LayerStore>,
    pub signing: Arc<SigningStore>,
    pub url_base: UrlBase,
    /// Concurrent invocations of an account in a region.
    pub account_concurrency: u32,
    /// Whether policies that let anyone in are refused.
    pub block_public_policies: bool,
    /// Claims are counted over all functions of an account, so they are made one
    /// at a time.
    pub reserving: tokio::sync::Mutex<()>,
}

/// What an operation knows beside its input.
#[derive(Clone, Debug)]
pub struct Ask {
    pub operation: Operation,
    pub caller: Caller,
    /// Layer versions that the caller may use, whoever's they are.
    pub layers: Vec<LayerVersionKey>,
    /// Scheme and authority that the caller reached us by.
    pub base: String,
    pub now: DateTime<Utc>,
}

impl Ask {
    /// The function that a request names.
    fn target(&self, name: &str, qualifier: Option<&str>) -> Result<Target, Refusal> {
        let named = function_ref(self.operation, name)?;
        resolve(named, qualifier, &self.caller, self.operation.iam_action())
    }

    fn now_ms(&self) -> i64 {
        self.now.timestamp_millis()
    }
}

impl Control {
    /// What a target leads to; of an alias, its own version.
    fn find(&self, target: &Target) -> Result<Found, Refusal> {
        self.catalog
            .find(&target.key, target.qualifier.as_ref(), 1.0)
            .ok_or_else(|| Refusal::NoFunction(target.arn()))
    }
}

/// The living function of a head, or the refusal.
fn living(current: Option<&Arc<HeadEntry>>, arn: Arn) -> Result<(&Head, &Live), Refusal> {
    current
        .and_then(|entry| entry.live().map(|live| (&entry.head, live)))
        .ok_or(Refusal::NoFunction(arn))
}

fn unblocked<T>(result: Result<T, Blocked>, arn: impl FnOnce() -> Arn) -> Result<T, Refusal> {
    result.map_err(|why| Refusal::Blocked { arn: arn(), why })
}

/// Compare-and-set on behalf of the caller.
fn check_revision(asked: Option<&str>, current: &Uuid) -> Result<(), Refusal> {
    match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) if asked != current.to_string() => Err(Refusal::RevisionMismatch),
        _ => Ok(()),
    }
}

fn read_marker(marker: Option<&str>) -> Result<Option<String>, Refusal> {
    paging::read_marker(marker).map_err(|_| Refusal::invalid("The Marker parameter is invalid."))
}

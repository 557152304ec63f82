//! Event source mappings: stored, shown, and brought from each begun state to
//! its end.
//!
//! ```text
//! mapping/<account>/<region>/<uuid>   lamu_model::mapping::Mapping
//! ```
//!
//! Not here: operations as clients call them (`operations::mappings`), polling
//! (nobody yet: which kinds of sources are polled is
//! `FrontendConfig::polled_sources`).

pub mod asked;
pub mod render;
mod takes;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lamu_model::mapping::{Mapping, Settled, SourceKind};
use lamu_model::{AccountId, Region};
use lamu_store::Metadata;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::function::refusal::Refusal;
use crate::table::{Next, Table};

const PREFIX: &str = "mapping/";

/// Between attempts to settle when the store did not take it.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Mappings {
    pub table: Arc<Table<Mapping>>,
    /// What somebody polls; the others are refused at creation.
    polled: Vec<SourceKind>,
    /// A source is mapped to a function once, which is looked at over all
    /// mappings, so they are made and pointed elsewhere one at a time.
    pub pairing: tokio::sync::Mutex<()>,
    /// At most one entry a mapping.
    waiting: Mutex<BTreeSet<String>>,
    more: Notify,
}

impl Mappings {
    pub fn new(metadata: Arc<dyn Metadata>, polled: Vec<SourceKind>) -> Mappings {
        Mappings {
            table: Arc::new(Table::new(PREFIX, metadata)),
            polled,
            pairing: tokio::sync::Mutex::new(()),
            waiting: Mutex::new(BTreeSet::new()),
            more: Notify::new(),
        }
    }

    pub fn is_polled(&self, kind: SourceKind) -> bool {
        self.polled.contains(&kind)
    }

    /// Something of this mapping was begun.
    pub fn begun(&self, key: &str) {
        self.waiting().insert(key.to_owned());
        self.more.notify_one();
    }

    /// Settles whatever is begun, until dropped. What a kill interrupted is
    /// found at the start.
    pub async fn run(self: Arc<Self>) {
        let all = self.table.all(PREFIX).into_iter();
        let begun = all.filter(|(_, row)| row.doc.settled() != Settled::Already);
        self.waiting().extend(begun.map(|(key, _)| key));
        loop {
            let next = self.waiting().pop_first();
            let Some(key) = next else {
                self.more.notified().await;
                continue;
            };
            if let Err(error) = self.settle(&key).await {
                tracing::error!(key, ?error, "could not settle an event source mapping");
                tokio::time::sleep(AGAIN).await;
                self.waiting().insert(key);
            }
        }
    }

    async fn settle(&self, key: &str) -> Result<(), Refusal> {
        let settle = |current: Option<&Mapping>| {
            let Some(current) = current else { return Ok((Next::Keep, ())) };
            Ok(match current.settled() {
                Settled::Already => (Next::Keep, ()),
                Settled::As(state) => (Next::Put(Mapping { state, ..current.clone() }), ()),
                Settled::Gone => (Next::Delete, ()),
            })
        };
        self.table.change(key, settle).await
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The prefix of an account's mappings in a region; the rest of a key is the
/// UUID.
pub fn of_account(account: &AccountId, region: &Region) -> String {
    format!("{PREFIX}{account}/{region}/")
}

/// The document of the mapping with this ARN, whether it is there or not.
pub fn document_of_arn(arn: &str) -> Option<String> {
    let whole: Vec<&str> = arn.split(':').collect();
    let [_, _, _, region, account, "event-source-mapping", uuid] = whole[..] else { return None };
    let (account, region) = (AccountId::new(account), Region::new(region));
    Some(document(&account, &region, Uuid::try_parse(uuid).ok()?))
}

pub fn document(account: &AccountId, region: &Region, uuid: Uuid) -> String {
    format!("{}{uuid}", of_account(account, region))
}

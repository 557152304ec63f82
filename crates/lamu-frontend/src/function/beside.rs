//! What is settled beside a function for one of its qualifiers, in documents
//! of its own:
//!
//! ```text
//! invoke-config/<uid>/<qualifier>        InvokeConfig
//! runtime-management/<uid>/<qualifier>   RuntimeManagement
//! ```
//!
//! Such a document counts while its function lives under `uid` and the
//! qualifier is there. Whoever writes one holds the function's turn
//! ([`Store::hold`](super::store::Store::hold)) and has looked; whoever deletes
//! the function, version or alias forgets it here afterwards; what a kill
//! between the two leaves is swept at the next start.
//!
//! Not here: what is in them (`invoke_config`, `runtime_management`).

use std::collections::HashMap;
use std::sync::Arc;

use lamu_model::Version;
use lamu_store::Metadata;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::catalog::{Catalog, HeadEntry};
use super::document::Uid;
use super::invoke_config::InvokeConfig;
use super::runtime_management::RuntimeManagement;
use crate::table::Table;

const INVOKE_CONFIGS: &str = "invoke-config/";
const RUNTIME_MANAGEMENT: &str = "runtime-management/";

#[derive(Debug)]
pub struct Beside {
    pub invoke_configs: Arc<Table<InvokeConfig>>,
    pub runtime_management: Arc<Table<RuntimeManagement>>,
}

impl Beside {
    pub fn new(metadata: &Arc<dyn Metadata>) -> Beside {
        Beside {
            invoke_configs: Arc::new(Table::new(INVOKE_CONFIGS, metadata.clone())),
            runtime_management: Arc::new(Table::new(RUNTIME_MANAGEMENT, metadata.clone())),
        }
    }

    /// Follows the store; each receiver turns true when its table is read.
    pub fn follow(&self, tasks: &mut JoinSet<()>) -> Vec<watch::Receiver<bool>> {
        vec![self.invoke_configs.follow(tasks), self.runtime_management.follow(tasks)]
    }

    /// Removes everything of a function that is gone.
    pub async fn forget_function(&self, uid: Uid) {
        let (configs, management) = (invoke_configs_of(uid), runtime_management_of(uid));
        for (key, _) in self.invoke_configs.all(&configs) {
            self.invoke_configs.sweep(&key).await;
        }
        for (key, _) in self.runtime_management.all(&management) {
            self.runtime_management.sweep(&key).await;
        }
    }

    /// Removes everything of a version or alias that is gone.
    pub async fn forget_qualifier(&self, uid: Uid, qualifier: &str) {
        self.invoke_configs.sweep(&invoke_config(uid, qualifier)).await;
        self.runtime_management.sweep(&runtime_management(uid, qualifier)).await;
    }

    /// Removes what a kill left beside things that are gone.
    pub async fn sweep(&self, catalog: &Catalog) {
        let living = catalog.living();
        let orphan = |key: &str| match parse(key) {
            Some((uid, qualifier)) => !is_there(catalog, &living, uid, qualifier),
            None => false,
        };
        for (key, _) in self.invoke_configs.all(INVOKE_CONFIGS) {
            if orphan(&key) {
                self.invoke_configs.sweep(&key).await;
            }
        }
        for (key, _) in self.runtime_management.all(RUNTIME_MANAGEMENT) {
            if orphan(&key) {
                self.runtime_management.sweep(&key).await;
            }
        }
    }
}

/// The prefix of a function's invoke configs; the rest of a key is the
/// qualifier, `$LATEST` first.
pub fn invoke_configs_of(uid: Uid) -> String {
    format!("{INVOKE_CONFIGS}{uid}/")
}

pub fn invoke_config(uid: Uid, qualifier: &str) -> String {
    format!("{INVOKE_CONFIGS}{uid}/{qualifier}")
}

pub fn runtime_management(uid: Uid, qualifier: &str) -> String {
    format!("{RUNTIME_MANAGEMENT}{uid}/{qualifier}")
}

fn runtime_management_of(uid: Uid) -> String {
    format!("{RUNTIME_MANAGEMENT}{uid}/")
}

fn parse(key: &str) -> Option<(Uid, &str)> {
    let mut parts = key.splitn(3, '/').skip(1);
    let (uid, qualifier) = (parts.next()?, parts.next()?);
    Some((Uid(Uuid::try_parse(uid).ok()?), qualifier))
}

fn is_there(
    catalog: &Catalog,
    living: &HashMap<Uid, Arc<HeadEntry>>,
    uid: Uid,
    qualifier: &str,
) -> bool {
    let Some(function) = living.get(&uid) else { return false };
    match Version::parse(qualifier) {
        Some(Version::Latest) => true,
        Some(Version::Number(number)) => catalog.version(&function.head, number).is_some(),
        None => catalog.alias(uid, qualifier).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_to_whose_it_is() {
        let uid = Uid(Uuid::from_u128(7));
        assert_eq!(parse(&invoke_config(uid, "$LATEST")), Some((uid, "$LATEST")));
        assert_eq!(parse(&runtime_management(uid, "12")), Some((uid, "12")));
        assert_eq!(parse("invoke-config/nobody/prod"), None);
        assert_eq!(parse("invoke-config"), None);
    }
}

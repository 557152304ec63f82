//! Keeping code signing configurations.
//!
//! They are read when functions are made and changed, never by an invocation,
//! so nothing of them is held in memory.

use std::sync::Arc;

use bytes::Bytes;
use lamu_model::{AccountId, Region};
use lamu_store::{Document, Expect, Metadata, MetadataError};
use tokio::sync::{Mutex, MutexGuard};

use super::{SigningDoc, SigningKey, of_account};
use crate::function::paging::{self, Page};
use crate::function::refusal::Refusal;

/// Attempts to write over others who write the same document.
const ATTEMPTS_MAX: usize = 8;

#[derive(Debug)]
pub struct SigningStore {
    metadata: Arc<dyn Metadata>,
    attaching: Mutex<()>,
}

impl SigningStore {
    pub fn new(metadata: Arc<dyn Metadata>) -> SigningStore {
        SigningStore { metadata, attaching: Mutex::new(()) }
    }

    /// While this is held no configuration is deleted: who gives a function
    /// one holds it from the look at the configuration to the function's write,
    /// and so does who deletes.
    pub async fn attaching(&self) -> MutexGuard<'_, ()> {
        self.attaching.lock().await
    }

    pub async fn create(&self, key: &SigningKey, doc: &SigningDoc) -> Result<(), Refusal> {
        self.metadata.put(&key.document(), encode(doc)?, Expect::Absent).await?;
        Ok(())
    }

    pub async fn get(&self, key: &SigningKey) -> Result<Option<SigningDoc>, Refusal> {
        match self.metadata.get(&key.document()).await? {
            None => Ok(None),
            Some(document) => read(&document).map(Some),
        }
    }

    /// Changes a configuration; what it is then, or nothing if there is none.
    pub async fn change(
        &self,
        key: &SigningKey,
        change: impl Fn(&mut SigningDoc) -> Result<(), Refusal>,
    ) -> Result<Option<SigningDoc>, Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(current) = self.metadata.get(&key.document()).await? else { return Ok(None) };
            let mut doc = read(&current)?;
            change(&mut doc)?;
            let expect = Expect::At(current.revision);
            match self.metadata.put(&key.document(), encode(&doc)?, expect).await {
                Ok(_) => return Ok(Some(doc)),
                Err(MetadataError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    pub async fn delete(&self, key: &SigningKey) -> Result<(), Refusal> {
        Ok(self.metadata.delete(&key.document(), Expect::Anything).await?)
    }

    /// Configurations in the order of their ids.
    pub async fn list(
        &self,
        account: &AccountId,
        region: &Region,
        after: Option<&str>,
        max: usize,
    ) -> Result<Page<(SigningKey, SigningDoc)>, Refusal> {
        let prefix = of_account(account, region);
        let after = after.map(|id| format!("{prefix}{id}"));
        let mut documents = self.metadata.scan(&prefix, after.as_deref(), max + 1).await?;
        let more = documents.len() > max;
        documents.truncate(max);
        let mut page = Page { items: Vec::new(), next: None };
        for document in &documents {
            let id = document.key[prefix.len()..].to_owned();
            if more {
                page.next = Some(paging::marker(&id));
            }
            let key = SigningKey { account: account.clone(), region: region.clone(), id };
            page.items.push((key, read(document)?));
        }
        Ok(page)
    }
}

fn read(document: &Document) -> Result<SigningDoc, Refusal> {
    serde_json::from_slice(&document.value)
        .map_err(|error| Refusal::Internal(format!("{} cannot be read: {error}", document.key)))
}

fn encode(doc: &SigningDoc) -> Result<Bytes, Refusal> {
    serde_json::to_vec(doc)
        .map(Bytes::from)
        .map_err(|error| Refusal::Internal(format!("a document does not serialize: {error}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lamu_store::SqliteMetadata;

    use super::*;
    use crate::signing::Untrusted;
    use crate::signing::tests::key;

    fn doc() -> SigningDoc {
        SigningDoc {
            description: None,
            publishers: vec!["arn".into()],
            untrusted: Untrusted::Enforce,
            modified_ms: 1,
            tags: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn a_configuration_is_kept_changed_and_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let metadata = SqliteMetadata::open(directory.path().join("m.db")).unwrap();
        let store = SigningStore::new(Arc::new(metadata));
        let key = key();
        let change = |doc: &mut SigningDoc| {
            doc.untrusted = Untrusted::Warn;
            Ok(())
        };
        assert_eq!(store.change(&key, change).await.unwrap(), None);
        store.create(&key, &doc()).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap(), Some(doc()));

        let changed = store.change(&key, change).await.unwrap();

        assert_eq!(changed.map(|doc| doc.untrusted), Some(Untrusted::Warn));
        store.delete(&key).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap(), None);
    }

    #[tokio::test]
    async fn configurations_are_listed_in_pages_each_once() {
        let directory = tempfile::tempdir().unwrap();
        let metadata = SqliteMetadata::open(directory.path().join("m.db")).unwrap();
        let store = SigningStore::new(Arc::new(metadata));
        let mut made = Vec::new();
        for _ in 0..5 {
            made.push(key());
            store.create(made.last().unwrap(), &doc()).await.unwrap();
        }
        made.sort_by(|a, b| a.id.cmp(&b.id));
        let (account, region) = (&made[0].account, &made[0].region);
        for max in [1, 2, 5, 50] {
            let mut seen = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let page = store.list(account, region, after.as_deref(), max).await.unwrap();
                assert!(page.items.len() <= max);
                seen.extend(page.items.into_iter().map(|(key, _)| key));
                after = paging::read_marker(page.next.as_deref()).unwrap();
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(seen, made, "{max}");
        }
    }
}

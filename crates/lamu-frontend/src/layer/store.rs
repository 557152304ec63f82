//! Keeping layers, and reading them a page at a time.
//!
//! Layers are read when functions are made and when somebody looks, never by
//! an invocation, so nothing of them is held in memory.
//!
//! Not here: what is in a layer (`crate::code`), who may use one
//! (`operations`).

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use lamu_model::{AccountId, Digest, Region};
use lamu_store::{Document, Expect, Metadata, MetadataError};
use serde::Serialize;
use tokio::sync::Mutex;

use super::document::{LayerHead, LayerVersionDoc, Shared, VERSIONS, of_account};
use super::name::{LayerKey, LayerVersionKey};
use crate::function::paging::{self, Page};
use crate::function::refusal::Refusal;

/// Attempts to take a number while other processes publish the same layer.
const ATTEMPTS_MAX: usize = 8;

/// Documents read at a time where not all of them are wanted: some hundred
/// kilobytes at most.
const SCAN_COUNT: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub struct LayerVersion {
    pub key: LayerVersionKey,
    pub doc: LayerVersionDoc,
}

/// What a list is narrowed to. A version that names no runtimes or no
/// architectures fits none in particular.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub runtime: Option<String>,
    pub architecture: Option<String>,
}

#[derive(Debug)]
pub struct LayerStore {
    metadata: Arc<dyn Metadata>,
    /// Publishers and those who share take turns in this process, so that
    /// attempts are lost to other processes only.
    turn: Mutex<()>,
}

impl Filter {
    fn takes(&self, doc: &LayerVersionDoc) -> bool {
        let fits = |asked: &Option<String>, named: &Option<Vec<String>>| match asked {
            None => true,
            Some(asked) => named.iter().flatten().any(|one| one == asked),
        };
        fits(&self.runtime, &doc.runtimes) && fits(&self.architecture, &doc.architectures)
    }

    fn takes_all(&self) -> bool {
        self.runtime.is_none() && self.architecture.is_none()
    }
}

impl LayerStore {
    pub fn new(metadata: Arc<dyn Metadata>) -> LayerStore {
        LayerStore { metadata, turn: Mutex::new(()) }
    }

    /// Keeps `doc` as the next version of `layer`.
    pub async fn publish(
        &self,
        layer: &LayerKey,
        doc: LayerVersionDoc,
    ) -> Result<LayerVersion, Refusal> {
        let key = layer.version(self.take_number(layer).await?);
        self.metadata.put(&key.document(), encode(&doc)?, Expect::Absent).await?;
        Ok(LayerVersion { key, doc })
    }

    async fn take_number(&self, layer: &LayerKey) -> Result<u64, Refusal> {
        let _turn = self.turn.lock().await;
        let document = layer.document();
        for _ in 0..ATTEMPTS_MAX {
            let current = self.metadata.get(&document).await?;
            let (head, expect) = match &current {
                None => (LayerHead::default(), Expect::Absent),
                Some(current) => {
                    let head = serde_json::from_slice(&current.value).map_err(|error| {
                        Refusal::Internal(format!("{document} cannot be read: {error}"))
                    })?;
                    (head, Expect::At(current.revision))
                }
            };
            let last_version = head.last_version + 1;
            match self.metadata.put(&document, encode(&LayerHead { last_version })?, expect).await {
                Ok(_) => return Ok(last_version),
                Err(MetadataError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    pub async fn get(&self, key: &LayerVersionKey) -> Result<Option<LayerVersion>, Refusal> {
        let document = self.metadata.get(&key.document()).await?;
        Ok(document.as_ref().and_then(read))
    }

    /// Changes who may use a version by what `decide` makes of it as it stands.
    pub async fn share(
        &self,
        key: &LayerVersionKey,
        missing: impl Fn() -> Refusal,
        decide: impl Fn(Option<&Shared>) -> Result<Option<Shared>, Refusal>,
    ) -> Result<(), Refusal> {
        let _turn = self.turn.lock().await;
        let document = key.document();
        for _ in 0..ATTEMPTS_MAX {
            let current = self.metadata.get(&document).await?.ok_or_else(&missing)?;
            let mut version = read(&current).ok_or_else(&missing)?;
            version.doc.shared = decide(version.doc.shared.as_ref())?;
            let expect = Expect::At(current.revision);
            match self.metadata.put(&document, encode(&version.doc)?, expect).await {
                Ok(_) => return Ok(()),
                Err(MetadataError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    /// Removing what is not there succeeds.
    pub async fn delete(&self, key: &LayerVersionKey) -> Result<(), Refusal> {
        Ok(self.metadata.delete(&key.document(), Expect::Anything).await?)
    }

    /// Versions of a layer, the newest first.
    pub async fn versions(
        &self,
        layer: &LayerKey,
        filter: &Filter,
        after: Option<&str>,
        max: usize,
    ) -> Result<Page<LayerVersion>, Refusal> {
        let prefix = layer.versions();
        let after = after.map(|place| format!("{prefix}{place}"));
        let mut items = self.matching(&prefix, after, filter, max + 1).await?;
        let more = items.len() > max;
        items.truncate(max);
        let last = items.last().filter(|_| more);
        let next = last.map(|version| paging::marker(&version.key.place()));
        Ok(Page { items, next })
    }

    /// Of each layer that has one, the newest version that fits.
    pub async fn layers(
        &self,
        account: &AccountId,
        region: &Region,
        filter: &Filter,
        after: Option<&str>,
        max: usize,
    ) -> Result<Page<LayerVersion>, Refusal> {
        let prefix = of_account(account, region);
        let behind = |name: &str| {
            let (account, region) = (account.clone(), region.clone());
            LayerKey { account, region, name: name.to_owned() }.behind_versions()
        };
        let mut after = after.map(behind);
        let mut items: Vec<LayerVersion> = Vec::new();
        loop {
            let mut found = self.matching(&prefix, after, filter, 1).await?;
            let Some(version) = found.pop() else { return Ok(Page { items, next: None }) };
            if items.len() == max {
                let next = items.last().map(|last| paging::marker(&last.key.layer.name));
                return Ok(Page { items, next });
            }
            after = Some(version.key.layer.behind_versions());
            items.push(version);
        }
    }

    /// Every package that a layer version refers to.
    pub async fn packages(&self) -> Result<HashSet<Digest>, Refusal> {
        let mut packages = HashSet::new();
        self.each(VERSIONS, |document| {
            // What it refers to would be missing.
            let unread = || Refusal::Internal(format!("{} cannot be read", document.key));
            packages.insert(read(document).ok_or_else(unread)?.doc.code);
            Ok(())
        })
        .await?;
        Ok(packages)
    }

    /// What the zips of all layer versions of an account take.
    pub async fn code_bytes(&self, account: &AccountId, region: &Region) -> Result<u64, Refusal> {
        let mut bytes = 0;
        self.each(&of_account(account, region), |document| {
            bytes += read(document).map_or(0, |version| version.doc.code_bytes);
            Ok(())
        })
        .await?;
        Ok(bytes)
    }

    async fn each(
        &self,
        prefix: &str,
        mut see: impl FnMut(&Document) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut after: Option<String> = None;
        loop {
            let documents = self.metadata.scan(prefix, after.as_deref(), SCAN_COUNT).await?;
            documents.iter().try_for_each(&mut see)?;
            match documents.last() {
                Some(last) if documents.len() == SCAN_COUNT => after = Some(last.key.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// The first `max` versions behind `after` that fit.
    async fn matching(
        &self,
        prefix: &str,
        mut after: Option<String>,
        filter: &Filter,
        max: usize,
    ) -> Result<Vec<LayerVersion>, Refusal> {
        let count = if filter.takes_all() { max } else { SCAN_COUNT };
        let mut found = Vec::new();
        loop {
            let documents = self.metadata.scan(prefix, after.as_deref(), count).await?;
            let fitting =
                documents.iter().filter_map(read).filter(|version| filter.takes(&version.doc));
            found.extend(fitting.take(max - found.len()));
            match documents.last() {
                Some(last) if documents.len() == count && found.len() < max => {
                    after = Some(last.key.clone());
                }
                _ => return Ok(found),
            }
        }
    }
}

/// One that cannot be read is left out and said loudly; the others go on.
fn read(document: &Document) -> Option<LayerVersion> {
    let key = LayerVersionKey::of_document(&document.key)?;
    let doc = serde_json::from_slice(&document.value).inspect_err(|error| {
        tracing::error!(key = document.key, %error, "a document cannot be read");
    });
    Some(LayerVersion { key, doc: doc.ok()? })
}

fn encode<T: Serialize>(document: &T) -> Result<Bytes, Refusal> {
    serde_json::to_vec(document)
        .map(Bytes::from)
        .map_err(|error| Refusal::Internal(format!("a document does not serialize: {error}")))
}

#[cfg(test)]
mod tests {
    use lamu_store::SqliteMetadata;

    use super::*;
    use crate::layer::document::tests::doc;
    use crate::layer::name::tests::layer;

    fn store() -> (tempfile::TempDir, LayerStore) {
        let directory = tempfile::tempdir().unwrap();
        let metadata = SqliteMetadata::open(directory.path().join("m.db")).unwrap();
        (directory, LayerStore::new(Arc::new(metadata)))
    }

    fn for_runtimes(runtimes: &[&str]) -> LayerVersionDoc {
        let runtimes = runtimes.iter().map(|runtime| (*runtime).to_owned()).collect();
        LayerVersionDoc { runtimes: Some(runtimes), ..doc(b"zip") }
    }

    fn numbers(page: &Page<LayerVersion>) -> Vec<u64> {
        page.items.iter().map(|version| version.key.number).collect()
    }

    #[tokio::test]
    async fn numbers_go_on_when_versions_go() {
        let (_directory, store) = store();
        let tools = layer("tools");
        for number in 1..=3 {
            assert_eq!(store.publish(&tools, doc(b"zip")).await.unwrap().key.number, number);
        }
        for number in 1..=3 {
            store.delete(&tools.version(number)).await.unwrap();
        }
        store.delete(&tools.version(3)).await.unwrap();
        assert_eq!(store.get(&tools.version(3)).await.unwrap(), None);

        let next = store.publish(&tools, doc(b"zip")).await.unwrap();

        assert_eq!(next.key.number, 4);
        assert_eq!(store.get(&next.key).await.unwrap(), Some(next));
        assert_eq!(store.publish(&layer("other"), doc(b"zip")).await.unwrap().key.number, 1);
    }

    #[tokio::test]
    async fn publishers_at_once_get_a_number_each() {
        let (_directory, store) = store();
        let store = Arc::new(store);
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let store = store.clone();
            running.spawn(async move { store.publish(&layer("tools"), doc(b"zip")).await });
        }
        let published = running.join_all().await;
        let mut numbers: Vec<u64> =
            published.into_iter().map(|version| version.unwrap().key.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn versions_are_listed_in_pages_newest_first() {
        let (_directory, store) = store();
        let tools = layer("tools");
        for _ in 0..5 {
            store.publish(&tools, doc(b"zip")).await.unwrap();
        }
        // Its name begins alike, and it must not be taken for one of ours.
        store.publish(&layer("tools-more"), doc(b"zip")).await.unwrap();
        let all = Filter::default();

        let first = store.versions(&tools, &all, None, 2).await.unwrap();
        assert_eq!(numbers(&first), [5, 4]);
        let after = paging::read_marker(first.next.as_deref()).unwrap();
        let rest = store.versions(&tools, &all, after.as_deref(), 3).await.unwrap();

        assert_eq!((numbers(&rest), rest.next), (vec![3, 2, 1], None));
        let none = store.versions(&layer("absent"), &all, None, 50).await.unwrap();
        assert_eq!((numbers(&none), none.next), (vec![], None));
    }

    #[tokio::test]
    async fn layers_are_listed_by_their_newest_version_that_fits() {
        let (_directory, store) = store();
        for name in ["a", "a-b", "b", "c"] {
            store.publish(&layer(name), for_runtimes(&["python3.12"])).await.unwrap();
            store.publish(&layer(name), for_runtimes(&["nodejs22.x"])).await.unwrap();
        }
        // More versions that do not fit than are read at a time.
        for _ in 0..SCAN_COUNT + 1 {
            store.publish(&layer("b"), for_runtimes(&["nodejs22.x"])).await.unwrap();
        }
        let here = &layer("a");
        let list = async |runtime: Option<&str>, max: usize| {
            let filter = Filter { runtime: runtime.map(str::to_owned), architecture: None };
            let mut seen = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let page = store
                    .layers(&here.account, &here.region, &filter, after.as_deref(), max)
                    .await
                    .unwrap();
                assert!(page.items.len() <= max);
                seen.extend(page.items.iter().map(|v| (v.key.layer.name.clone(), v.key.number)));
                after = paging::read_marker(page.next.as_deref()).unwrap();
                if after.is_none() {
                    return seen;
                }
            }
        };
        let named = |seen: Vec<(String, u64)>| {
            let mut seen = seen;
            seen.sort();
            seen
        };
        let of = |list: [(&str, u64); 4]| list.map(|(name, number)| (name.to_owned(), number));

        let last = 2 + SCAN_COUNT as u64 + 1;
        for max in [1, 2, 3, 50] {
            let newest = of([("a", 2), ("a-b", 2), ("b", last), ("c", 2)]);
            assert_eq!(named(list(None, max).await), newest, "{max}");
            let python = of([("a", 1), ("a-b", 1), ("b", 1), ("c", 1)]);
            assert_eq!(named(list(Some("python3.12"), max).await), python, "{max}");
        }
        assert_eq!(list(Some("ruby3.4"), 50).await, []);
        let stranger = AccountId::new("111111111111");
        let theirs =
            store.layers(&stranger, &here.region, &Filter::default(), None, 50).await.unwrap();
        assert_eq!(theirs.items, []);
    }

    #[tokio::test]
    async fn packages_are_all_there_or_an_error() {
        let (_directory, store) = store();
        let made = store.publish(&layer("tools"), doc(b"zip")).await.unwrap();
        assert_eq!(store.packages().await.unwrap(), HashSet::from([made.doc.code]));
        let damaged = layer("tools").version(2).document();
        let value = Bytes::from_static(b"{");
        store.metadata.put(&damaged, value, Expect::Absent).await.unwrap();

        assert!(
            matches!(store.packages().await, Err(Refusal::Internal(text)) if text.contains(&damaged))
        );
    }

    #[tokio::test]
    async fn every_version_counts_until_it_is_deleted() {
        let (_directory, store) = store();
        let tools = layer("tools");
        store.publish(&tools, doc(b"one")).await.unwrap();
        store.publish(&tools, doc(b"three")).await.unwrap();
        let bytes = store.code_bytes(&tools.account, &tools.region).await.unwrap();
        assert_eq!(bytes, 3 + 5);
        store.delete(&tools.version(1)).await.unwrap();
        let left = store.packages().await.unwrap();
        assert_eq!(left, HashSet::from([Digest::of(b"three")]));
    }
}

//! Writing functions: each change is decided over what the catalog holds, put
//! with the revision it was decided over, and decided again when someone else
//! was faster.
//!
//! Writers of one function in this process also take turns, so that attempts
//! are lost to other processes only.
//!
//! Not here: the decisions (`operations`, `settle`), reading (`catalog`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use lamu_store::{Document, Expect, Metadata, MetadataError, Revision};
use serde::Serialize;
use tokio::sync::{Mutex, MutexGuard};

use super::catalog::{AliasEntry, Catalog, HeadEntry, Kind, UrlEntry, VersionEntry};
use super::document::{AliasDoc, FunctionKey, Head, Uid, VersionDoc};
use super::refusal::Refusal;
use super::url::UrlDoc;
use super::watch;

/// Attempts to write over others who write the same document. Each lost one
/// means another writer won, so more than a few in a row are a storm.
const ATTEMPTS_MAX: usize = 8;

/// Turns are taken per stripe: enough that two functions seldom share one.
const STRIPES: usize = 64;

/// What is to be written.
#[derive(Debug)]
pub struct Decision<T> {
    /// Nothing to write when absent.
    pub head: Option<Head>,
    /// Written before the head, and there once the head counts it.
    pub version: Option<VersionDoc>,
    pub answer: T,
}

impl<T> Decision<T> {
    pub fn head(head: Head, answer: T) -> Decision<T> {
        Decision { head: Some(head), version: None, answer }
    }

    pub fn nothing(answer: T) -> Decision<T> {
        Decision { head: None, version: None, answer }
    }
}

#[derive(Debug)]
pub struct Store {
    metadata: Arc<dyn Metadata>,
    catalog: Arc<Catalog>,
    turns: Vec<Mutex<()>>,
}

impl Store {
    pub fn new(metadata: Arc<dyn Metadata>, catalog: Arc<Catalog>) -> Store {
        let turns = (0..STRIPES).map(|_| Mutex::new(())).collect();
        Store { metadata, catalog, turns }
    }

    /// Changes a head by what `decide` makes of it as it stands.
    pub async fn change<T>(
        &self,
        key: &FunctionKey,
        mut decide: impl FnMut(Option<&Arc<HeadEntry>>) -> Result<Decision<T>, Refusal>,
    ) -> Result<T, Refusal> {
        let _turn = self.turn(key).await;
        for _ in 0..ATTEMPTS_MAX {
            let current = self.catalog.head(key);
            let Decision { head, version, answer } = decide(current.as_ref())?;
            let Some(head) = head else { return Ok(answer) };
            let uid = head.uid;
            let mut published = None;
            if let Some(doc) = version {
                let revision = self.put_unpublished(uid, &doc).await?;
                published = Some(VersionEntry::new(uid, revision, doc));
            }
            let expect = current.as_ref().map_or(Expect::Absent, |at| Expect::At(at.revision));
            match self.metadata.put(&key.document(), encode(&head)?, expect).await {
                Ok(revision) => {
                    if let Some(entry) = published {
                        self.catalog.put_version(entry);
                    }
                    self.catalog.put_head(HeadEntry::new(key.clone(), revision, head));
                    return Ok(answer);
                }
                Err(MetadataError::Conflict { .. }) => {
                    self.refresh(Kind::Heads, &key.document()).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    /// Changes the document of a version that is published.
    pub async fn change_version(
        &self,
        key: &FunctionKey,
        number: u64,
        mut decide: impl FnMut(&VersionDoc) -> Option<VersionDoc>,
    ) -> Result<(), Refusal> {
        let decide = |current: Option<&VersionDoc>| Ok((current.and_then(&mut decide), ()));
        self.decide_version(key, number, decide).await
    }

    /// The same with an answer, which a version that is not there can refuse.
    pub async fn decide_version<T>(
        &self,
        key: &FunctionKey,
        number: u64,
        mut decide: impl FnMut(Option<&VersionDoc>) -> Result<(Option<VersionDoc>, T), Refusal>,
    ) -> Result<T, Refusal> {
        let _turn = self.turn(key).await;
        for _ in 0..ATTEMPTS_MAX {
            let head = self.catalog.function(key);
            let current = head.and_then(|head| self.catalog.version(&head.head, number));
            let (doc, answer) = decide(current.as_ref().map(|current| &current.doc))?;
            let (Some(doc), Some(current)) = (doc, current) else { return Ok(answer) };
            let document = current.uid.version_document(number);
            let expect = Expect::At(current.revision);
            match self.metadata.put(&document, encode(&doc)?, expect).await {
                Ok(revision) => {
                    self.catalog.put_version(VersionEntry::new(current.uid, revision, doc));
                    return Ok(answer);
                }
                Err(MetadataError::Conflict { .. }) => {
                    self.refresh(Kind::Versions, &document).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    /// Changes an alias by what `decide` makes of it and its function as they
    /// stand. `Ok(None)` deletes it, or leaves it absent.
    pub async fn change_alias<T>(
        &self,
        key: &FunctionKey,
        name: &str,
        mut decide: impl FnMut(
            &Arc<HeadEntry>,
            Option<&Arc<AliasEntry>>,
        ) -> Result<(Option<AliasDoc>, T), Refusal>,
    ) -> Result<T, Refusal> {
        let _turn = self.turn(key).await;
        for _ in 0..ATTEMPTS_MAX {
            let Some(function) = self.catalog.function(key) else {
                return Err(Refusal::NoFunction(key.arn()));
            };
            let uid = function.head.uid;
            let current = self.catalog.alias(uid, name);
            let (doc, answer) = decide(&function, current.as_ref())?;
            let document = uid.alias_document(name);
            let written = match (doc, &current) {
                (Some(doc), current) => {
                    let expect =
                        current.as_ref().map_or(Expect::Absent, |at| Expect::At(at.revision));
                    self.metadata.put(&document, encode(&doc)?, expect).await.map(|revision| {
                        self.catalog.put_alias(AliasEntry { revision, uid, doc });
                    })
                }
                (None, Some(current)) => {
                    // First, so that no URL waits for an alias of this name to
                    // be made again.
                    self.drop_url(uid, name).await?;
                    self.remove(&document, current.revision).await
                }
                (None, None) => Ok(()),
            };
            match written {
                Ok(()) => return Ok(answer),
                Err(MetadataError::Conflict { .. }) => {
                    self.refresh(Kind::Aliases, &document).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    /// Changes a function's or alias's URL by what `decide` makes of it and of
    /// the living function. `Ok(None)` deletes it, or leaves it absent.
    pub async fn change_url<T>(
        &self,
        key: &FunctionKey,
        slot: &str,
        mut decide: impl FnMut(
            Option<&Arc<HeadEntry>>,
            Option<&Arc<UrlEntry>>,
        ) -> Result<(Option<UrlDoc>, T), Refusal>,
    ) -> Result<T, Refusal> {
        let _turn = self.turn(key).await;
        for _ in 0..ATTEMPTS_MAX {
            let function = self.catalog.function(key);
            let uid = function.as_ref().map(|function| function.head.uid);
            let current = uid.and_then(|uid| self.catalog.url(uid, slot));
            let (doc, answer) = decide(function.as_ref(), current.as_ref())?;
            let Some(uid) = uid else { return Ok(answer) };
            let document = uid.url_document(slot);
            let written = match (doc, &current) {
                (Some(doc), current) => {
                    let expect =
                        current.as_ref().map_or(Expect::Absent, |at| Expect::At(at.revision));
                    self.metadata.put(&document, encode(&doc)?, expect).await.map(|revision| {
                        self.catalog.put_url(UrlEntry { revision, uid, doc });
                    })
                }
                (None, Some(current)) => self.remove(&document, current.revision).await,
                (None, None) => Ok(()),
            };
            match written {
                Ok(()) => return Ok(answer),
                Err(MetadataError::Conflict { .. }) => {
                    self.refresh(Kind::Urls, &document).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    /// Deletes one version if `may` allows it. What it was, if it was there.
    pub async fn delete_version(
        &self,
        key: &FunctionKey,
        number: u64,
        may: impl Fn(&Head) -> Result<(), Refusal>,
    ) -> Result<Option<Arc<VersionEntry>>, Refusal> {
        let _turn = self.turn(key).await;
        for _ in 0..ATTEMPTS_MAX {
            let Some(function) = self.catalog.function(key) else {
                return Err(Refusal::NoFunction(key.arn()));
            };
            may(&function.head)?;
            let Some(current) = self.catalog.version(&function.head, number) else {
                return Ok(None);
            };
            let document = current.uid.version_document(number);
            match self.remove(&document, current.revision).await {
                Ok(()) => return Ok(Some(current)),
                Err(MetadataError::Conflict { .. }) => {
                    self.refresh(Kind::Versions, &document).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    /// A function's turn: while it is held, nobody else in this process
    /// changes or deletes the function.
    pub async fn hold(&self, key: &FunctionKey) -> MutexGuard<'_, ()> {
        self.turn(key).await
    }

    /// Removes a document that nothing leads to any more. What fails is left
    /// for the sweep of the next start.
    pub async fn sweep(&self, document: &str, revision: Revision) {
        if let Err(error) = self.remove(document, revision).await {
            tracing::warn!(document, %error, "could not remove what a deleted function left");
        }
    }

    async fn drop_url(&self, uid: Uid, slot: &str) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(current) = self.catalog.url(uid, slot) else { return Ok(()) };
            let document = uid.url_document(slot);
            match self.remove(&document, current.revision).await {
                Ok(()) => return Ok(()),
                Err(MetadataError::Conflict { .. }) => {
                    self.refresh(Kind::Urls, &document).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    async fn remove(&self, document: &str, revision: Revision) -> Result<(), MetadataError> {
        self.metadata.delete(document, Expect::At(revision)).await?;
        self.catalog.bury(document, revision);
        Ok(())
    }

    /// Writes a version that no head counts yet. One that is there already is
    /// what an interrupted publish left: nobody has seen it.
    async fn put_unpublished(&self, uid: Uid, doc: &VersionDoc) -> Result<Revision, Refusal> {
        let document = uid.version_document(doc.number);
        let value = encode(doc)?;
        let mut expect = Expect::Absent;
        for _ in 0..ATTEMPTS_MAX {
            match self.metadata.put(&document, value.clone(), expect).await {
                Ok(revision) => return Ok(revision),
                Err(MetadataError::Conflict { .. }) => {
                    let there = self.metadata.get(&document).await?;
                    expect = there.map_or(Expect::Absent, |there| Expect::At(there.revision));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    /// Reads a document again that someone else changed.
    async fn refresh(&self, kind: Kind, document: &str) -> Result<(), Refusal> {
        let there: Option<Document> = self.metadata.get(document).await?;
        match there {
            Some(there) => watch::apply(&self.catalog, kind, &there),
            // Whatever is known of it is older than now.
            None => self.catalog.deleted(document, Revision(u64::MAX)),
        }
        Ok(())
    }

    async fn turn(&self, key: &FunctionKey) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let stripe = (hasher.finish() as usize) % self.turns.len();
        self.turns[stripe].lock().await
    }
}

fn encode<T: Serialize>(document: &T) -> Result<Bytes, Refusal> {
    serde_json::to_vec(document)
        .map(Bytes::from)
        .map_err(|error| Refusal::Internal(format!("a document does not serialize: {error}")))
}

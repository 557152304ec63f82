//! Keeps the catalog what the store is: one watch per kind of document, begun
//! anew whenever it ends.
//!
//! A document that cannot be read is left out and said loudly; the others go
//! on. The catalog notes it, so that nothing is swept for its absence.

use std::sync::Arc;
use std::time::Duration;

use lamu_store::{Change, Document, Metadata, MetadataError};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::catalog::{AliasEntry, Catalog, HeadEntry, KINDS, Kind, UrlEntry, VersionEntry};
use super::document::{FunctionKey, Uid};

/// Between attempts to watch anew: soon enough not to serve old functions for
/// long, seldom enough not to load a store in trouble.
pub const AGAIN_FIRST: Duration = Duration::from_millis(50);
pub const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Which kinds have been read whole at least once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught([bool; KINDS.len()]);

impl Caught {
    pub fn all(self) -> bool {
        self.0.iter().all(|caught| *caught)
    }
}

/// Watches until dropped; the tasks end when their handles are aborted.
pub fn spawn(
    metadata: &Arc<dyn Metadata>,
    catalog: &Arc<Catalog>,
    caught: &watch::Sender<Caught>,
    tasks: &mut tokio::task::JoinSet<()>,
) {
    for kind in KINDS {
        let (metadata, catalog, caught) = (metadata.clone(), catalog.clone(), caught.clone());
        tasks.spawn(async move {
            let mut again = AGAIN_FIRST;
            loop {
                match watch_once(&*metadata, &catalog, kind, &caught).await {
                    Ok(true) => again = AGAIN_FIRST,
                    Ok(false) => {}
                    Err(error) => tracing::warn!(?kind, %error, "could not watch the store"),
                }
                tokio::time::sleep(again).await;
                again = (again * 2).min(AGAIN_MAX);
            }
        });
    }
}

/// Follows one watch to its end. Whether it ever caught up.
async fn watch_once(
    metadata: &dyn Metadata,
    catalog: &Catalog,
    kind: Kind,
    caught: &watch::Sender<Caught>,
) -> Result<bool, MetadataError> {
    catalog.watching(kind);
    let mut changes = metadata.watch(kind.prefix()).await?;
    let mut ever = false;
    while let Some(change) = changes.recv().await {
        match change {
            Change::Put(document) => apply(catalog, kind, &document),
            Change::Deleted { key, revision } => catalog.deleted(&key, revision),
            Change::Caught => {
                catalog.caught(kind);
                caught.send_modify(|caught| caught.0[kind as usize] = true);
                ever = true;
            }
        }
    }
    tracing::debug!(?kind, "a watch ended");
    Ok(ever)
}

/// Puts one document into the catalog.
pub fn apply(catalog: &Catalog, kind: Kind, document: &Document) {
    let key = document.key.as_str();
    if catalog.knows(key, document.revision) {
        return;
    }
    let revision = document.revision;
    let known = match kind {
        Kind::Heads => FunctionKey::parse(key).zip(read(document)).map(|(key, head)| {
            catalog.put_head(HeadEntry::new(key, revision, head));
        }),
        Kind::Versions => Uid::parse_version(key).zip(read(document)).map(|((uid, _), doc)| {
            catalog.put_version(VersionEntry::new(uid, revision, doc));
        }),
        Kind::Aliases => Uid::parse_alias(key).zip(read(document)).map(|((uid, _), doc)| {
            catalog.put_alias(AliasEntry { revision, uid, doc });
        }),
        Kind::Urls => Uid::parse_url(key).zip(read(document)).map(|((uid, _), doc)| {
            catalog.put_url(UrlEntry { revision, uid, doc });
        }),
    };
    catalog.note_read(kind, key, known.is_some());
}

fn read<T: DeserializeOwned>(document: &Document) -> Option<T> {
    serde_json::from_slice(&document.value)
        .inspect_err(|error| {
            tracing::error!(key = document.key, %error, "a document cannot be read");
        })
        .ok()
}

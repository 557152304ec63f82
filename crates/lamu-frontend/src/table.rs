//! Documents of one kind, all of them in memory: what is asked for often and
//! changed seldom. One table a prefix of the store.
//!
//! Fed twice, as the catalog is: by the watch of the store and by this
//! process's own writes, so that a write is seen before its answer is sent. A
//! revision decides between the two; an older one never replaces a newer one.
//!
//! Not here: what the documents mean, and which of them a deleted thing leaves
//! to be swept (`function::beside`).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use lamu_store::{Change, Document, Expect, Metadata, MetadataError, Revision};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::function::refusal::Refusal;
use crate::function::watch::{AGAIN_FIRST, AGAIN_MAX};

/// Attempts to write over other processes that write the same document. Each
/// lost one means another won, so more than a few in a row are a storm.
const ATTEMPTS_MAX: usize = 8;

/// Writers of one document in this process take turns, per stripe: enough
/// that two documents seldom share one.
const STRIPES: usize = 64;

/// What a document becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<T> {
    Keep,
    Put(T),
    Delete,
}

#[derive(Debug)]
pub struct Row<T> {
    pub revision: Revision,
    pub doc: T,
}

pub struct Table<T> {
    prefix: &'static str,
    metadata: Arc<dyn Metadata>,
    rows: RwLock<Rows<T>>,
    turns: Vec<Mutex<()>>,
}

struct Rows<T> {
    by_key: BTreeMap<String, Aged<T>>,
    /// Deleted by this process and not yet by the watch: a Put up to this
    /// revision is older than the deletion. Bounded by how far the watch is
    /// behind.
    buried: HashMap<String, (Revision, u64)>,
    /// Which watch it is, counted from the first.
    generation: u64,
}

struct Aged<T> {
    row: Arc<Row<T>>,
    generation: u64,
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Table<T> {
    pub fn new(prefix: &'static str, metadata: Arc<dyn Metadata>) -> Table<T> {
        let rows = Rows { by_key: BTreeMap::new(), buried: HashMap::new(), generation: 0 };
        let turns = (0..STRIPES).map(|_| Mutex::new(())).collect();
        Table { prefix, metadata, rows: RwLock::new(rows), turns }
    }

    pub fn get(&self, key: &str) -> Option<Arc<Row<T>>> {
        self.read().by_key.get(key).map(|aged| aged.row.clone())
    }

    /// Up to `count` rows under `prefix` in key order, those after `after`.
    pub fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        count: usize,
    ) -> Vec<(String, Arc<Row<T>>)> {
        let from = match after.filter(|after| *after >= prefix) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        self.read()
            .by_key
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(count)
            .map(|(key, aged)| (key.clone(), aged.row.clone()))
            .collect()
    }

    /// Every row under `prefix` in key order.
    pub fn all(&self, prefix: &str) -> Vec<(String, Arc<Row<T>>)> {
        self.range(prefix, None, usize::MAX)
    }

    /// Changes a document to what `decide` makes of it as it stands, durably.
    pub async fn change<A>(
        &self,
        key: &str,
        mut decide: impl FnMut(Option<&T>) -> Result<(Next<T>, A), Refusal>,
    ) -> Result<A, Refusal> {
        debug_assert!(key.starts_with(self.prefix), "{key}");
        let _turn = self.turn(key).await;
        for _ in 0..ATTEMPTS_MAX {
            let current = self.get(key);
            let (next, answer) = decide(current.as_ref().map(|row| &row.doc))?;
            let written = match (next, &current) {
                (Next::Keep, _) | (Next::Delete, None) => return Ok(answer),
                (Next::Put(doc), current) => {
                    let expect =
                        current.as_ref().map_or(Expect::Absent, |row| Expect::At(row.revision));
                    let value = encode(&doc)?;
                    let written = self.metadata.put(key, value, expect).await;
                    written.map(|revision| self.put(key, Row { revision, doc }))
                }
                (Next::Delete, Some(row)) => self.remove(key, row.revision).await,
            };
            match written {
                Ok(()) => return Ok(answer),
                Err(MetadataError::Conflict { .. }) => self.refresh(key).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    /// Removes what nothing leads to any more. What fails is left for the
    /// sweep of the next start.
    pub async fn sweep(&self, key: &str) {
        let removed = self.change(key, |_| Ok((Next::Delete, ()))).await;
        if let Err(error) = removed {
            tracing::warn!(key, ?error, "could not remove what a deleted thing left");
        }
    }

    /// Watches the store until `tasks` are dropped. The receiver turns true
    /// once everything there was has been read.
    pub fn follow(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> watch::Receiver<bool> {
        let (caught, catching_up) = watch::channel(false);
        let table = self.clone();
        tasks.spawn(async move {
            let mut again = AGAIN_FIRST;
            loop {
                match table.follow_once(&caught).await {
                    Ok(true) => again = AGAIN_FIRST,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(table = table.prefix, %error, "could not watch the store");
                    }
                }
                tokio::time::sleep(again).await;
                again = (again * 2).min(AGAIN_MAX);
            }
        });
        catching_up
    }

    async fn follow_once(&self, caught: &watch::Sender<bool>) -> Result<bool, MetadataError> {
        self.write().generation += 1;
        let mut changes = self.metadata.watch(self.prefix).await?;
        let mut ever = false;
        while let Some(change) = changes.recv().await {
            match change {
                Change::Put(document) => self.apply(&document),
                Change::Deleted { key, revision } => self.deleted(&key, revision),
                Change::Caught => {
                    self.write().confirm();
                    caught.send_replace(true);
                    ever = true;
                }
            }
        }
        Ok(ever)
    }

    /// A document that cannot be read is left out and said loudly.
    fn apply(&self, document: &Document) {
        if self.knows(&document.key, document.revision) {
            return;
        }
        match serde_json::from_slice(&document.value) {
            Ok(doc) => self.put(&document.key, Row { revision: document.revision, doc }),
            Err(error) => {
                tracing::error!(key = document.key, %error, "a document cannot be read");
            }
        }
    }

    /// Whether this or a newer state is here already; the watch has then
    /// confirmed it. Most of what it shows is this process's own.
    fn knows(&self, key: &str, revision: Revision) -> bool {
        let mut rows = self.write();
        let generation = rows.generation;
        match rows.by_key.get_mut(key) {
            Some(known) if known.row.revision >= revision => {
                known.generation = generation;
                true
            }
            _ => false,
        }
    }

    fn put(&self, key: &str, row: Row<T>) {
        let mut rows = self.write();
        let generation = rows.generation;
        if rows.buried.get(key).is_some_and(|(at, _)| row.revision <= *at) {
            return;
        }
        match rows.by_key.get_mut(key) {
            Some(known) if known.row.revision >= row.revision => known.generation = generation,
            _ => {
                rows.by_key.insert(key.to_owned(), Aged { row: Arc::new(row), generation });
            }
        }
    }

    /// The watch showed a deletion.
    fn deleted(&self, key: &str, revision: Revision) {
        let mut rows = self.write();
        rows.buried.remove(key);
        if rows.by_key.get(key).is_some_and(|known| known.row.revision < revision) {
            rows.by_key.remove(key);
        }
    }

    async fn remove(&self, key: &str, revision: Revision) -> Result<(), MetadataError> {
        self.metadata.delete(key, Expect::At(revision)).await?;
        let mut rows = self.write();
        let known = rows.by_key.get(key).is_some_and(|known| known.row.revision <= revision);
        // When it is gone already, the watch has shown the deletion.
        if known {
            rows.by_key.remove(key);
            let generation = rows.generation;
            rows.buried.insert(key.to_owned(), (revision, generation));
        }
        Ok(())
    }

    /// Reads a document again that someone else changed.
    async fn refresh(&self, key: &str) -> Result<(), Refusal> {
        match self.metadata.get(key).await? {
            Some(document) => self.apply(&document),
            // Whatever is known of it is older than now.
            None => self.deleted(key, Revision(u64::MAX)),
        }
        Ok(())
    }

    async fn turn(&self, key: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.turns[(hasher.finish() as usize) % self.turns.len()].lock().await
    }

    fn read(&self) -> RwLockReadGuard<'_, Rows<T>> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Rows<T>> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Rows<T> {
    /// The watch has delivered everything there was: the rest is gone.
    fn confirm(&mut self) {
        let current = self.generation;
        self.by_key.retain(|_, aged| aged.generation == current);
        self.buried.retain(|_, (_, generation)| *generation == current);
    }
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

fn encode<T: Serialize>(doc: &T) -> Result<Bytes, Refusal> {
    serde_json::to_vec(doc)
        .map(Bytes::from)
        .map_err(|error| Refusal::Internal(format!("a document does not serialize: {error}")))
}

#[cfg(test)]
mod tests {
    use lamu_store::SqliteMetadata;

    use super::*;

    struct Stage {
        table: Arc<Table<u32>>,
        metadata: Arc<dyn Metadata>,
        _directory: tempfile::TempDir,
    }

    fn stage() -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let metadata: Arc<dyn Metadata> =
            Arc::new(SqliteMetadata::open(directory.path().join("m.db")).unwrap());
        let table = Arc::new(Table::new("t/", metadata.clone()));
        Stage { table, metadata, _directory: directory }
    }

    impl Stage {
        async fn set(&self, key: &str, value: u32) {
            self.table.change(key, |_| Ok((Next::Put(value), ()))).await.unwrap();
        }

        fn keys(&self, prefix: &str, after: Option<&str>, count: usize) -> Vec<String> {
            self.table.range(prefix, after, count).into_iter().map(|(key, _)| key).collect()
        }
    }

    #[tokio::test]
    async fn a_write_is_seen_at_once_and_durable() {
        let stage = stage();
        stage.set("t/a", 1).await;
        assert_eq!(stage.table.get("t/a").unwrap().doc, 1);
        assert_eq!(stage.metadata.get("t/a").await.unwrap().unwrap().value, "1");

        stage.table.sweep("t/a").await;
        assert!(stage.table.get("t/a").is_none());
        assert!(stage.metadata.get("t/a").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn ranges_page_through_one_prefix() {
        let stage = stage();
        for key in ["t/a/1", "t/a/2", "t/a/3", "t/b/1"] {
            stage.set(key, 1).await;
        }
        assert_eq!(stage.keys("t/a/", None, 2), ["t/a/1", "t/a/2"]);
        assert_eq!(stage.keys("t/a/", Some("t/a/2"), 2), ["t/a/3"]);
        assert_eq!(stage.keys("t/b/", Some("t/a/2"), 9), ["t/b/1"], "a marker from before");
    }

    #[tokio::test]
    async fn a_change_is_decided_again_over_what_another_process_wrote() {
        let stage = stage();
        stage.set("t/a", 1).await;
        let value = Bytes::from_static(b"10");
        stage.metadata.put("t/a", value, Expect::Anything).await.unwrap();

        let mut seen = Vec::new();
        let decide = |current: Option<&u32>| {
            seen.extend(current.copied());
            Ok((Next::Put(current.unwrap_or(&0) + 1), ()))
        };
        stage.table.change("t/a", decide).await.unwrap();

        assert_eq!(seen, [1, 10]);
        assert_eq!(stage.table.get("t/a").unwrap().doc, 11);
    }

    #[tokio::test]
    async fn a_table_follows_what_others_write_and_delete() {
        let stage = stage();
        let put = |key: &'static str, text: &'static str| {
            let metadata = stage.metadata.clone();
            async move { metadata.put(key, Bytes::from(text), Expect::Anything).await.unwrap() }
        };
        put("t/a", "1").await;
        put("t/broken", "{").await;
        let mut tasks = JoinSet::new();
        let mut caught = stage.table.follow(&mut tasks);
        caught.wait_for(|caught| *caught).await.unwrap();
        assert_eq!(stage.keys("t/", None, 9), ["t/a"], "what cannot be read is left out");

        put("t/b", "2").await;
        stage.metadata.delete("t/a", Expect::Anything).await.unwrap();
        while stage.keys("t/", None, 9) != ["t/b"] {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_late_put_of_the_watch_does_not_bring_back_what_was_deleted() {
        let stage = stage();
        stage.set("t/a", 1).await;
        let row = stage.table.get("t/a").unwrap();
        stage.table.sweep("t/a").await;
        stage.table.put("t/a", Row { revision: row.revision, doc: 1 });
        assert!(stage.table.get("t/a").is_none());
        stage.set("t/a", 2).await;
        assert_eq!(stage.table.get("t/a").unwrap().doc, 2, "a newer one does come");
    }
}

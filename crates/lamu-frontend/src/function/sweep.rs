//! Removes what nothing refers to any more: documents of deleted functions
//! once at the start, packages every few minutes.
//!
//! A package goes only after it was seen unreferenced for a grace period,
//! because links to it were handed out, and while nobody is about to refer to
//! it: who stores a package holds [`Sweeper::intake`] until the function that
//! needs it is written.
//!
//! Nothing goes while a document cannot be read: it may be what refers to it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamu_model::Digest;
use lamu_store::Packages;
use tokio::sync::{Mutex, RwLock, RwLockReadGuard};

use super::beside::Beside;
use super::catalog::Catalog;
use super::store::Store;
use crate::layer::store::LayerStore;

/// Longer than the ten minutes that a code link lives.
pub const GRACE: Duration = Duration::from_secs(15 * 60);

/// Packages are few and large; a pass lists names only.
const EVERY: Duration = Duration::from_secs(5 * 60);

#[derive(Debug)]
pub struct Sweeper {
    store: Arc<Store>,
    catalog: Arc<Catalog>,
    beside: Arc<Beside>,
    layers: Arc<LayerStore>,
    packages: Arc<dyn Packages>,
    intake: RwLock<()>,
    /// Since when each stored package has been unreferenced.
    unreferenced: Mutex<HashMap<Digest, Instant>>,
}

impl Sweeper {
    pub fn new(
        store: Arc<Store>,
        catalog: Arc<Catalog>,
        beside: Arc<Beside>,
        layers: Arc<LayerStore>,
        packages: Arc<dyn Packages>,
    ) -> Sweeper {
        Sweeper {
            store,
            catalog,
            beside,
            layers,
            packages,
            intake: RwLock::new(()),
            unreferenced: Mutex::new(HashMap::new()),
        }
    }

    /// While this is held no package goes.
    pub async fn intake(&self) -> RwLockReadGuard<'_, ()> {
        self.intake.read().await
    }

    /// Sweeps until dropped.
    pub async fn run(self: Arc<Self>) {
        self.sweep_documents().await;
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            self.sweep_packages(Instant::now(), GRACE).await;
        }
    }

    async fn sweep_documents(&self) {
        if self.is_unsure() {
            return;
        }
        let (versions, aliases) = self.catalog.orphans();
        for version in versions {
            let document = version.uid.version_document(version.doc.number);
            self.store.sweep(&document, version.revision).await;
        }
        for alias in aliases {
            self.store.sweep(&alias.uid.alias_document(&alias.doc.name), alias.revision).await;
        }
        self.beside.sweep(&self.catalog).await;
        for url in self.catalog.orphan_urls() {
            self.store.sweep(&url.uid.url_document(url.doc.slot()), url.revision).await;
        }
    }

    /// Whether something is there that nobody knows what it refers to.
    fn is_unsure(&self) -> bool {
        let unread = self.catalog.unread();
        if let Some(key) = &unread {
            tracing::error!(key, "nothing is swept while a document cannot be read");
        }
        unread.is_some()
    }

    pub async fn sweep_packages(&self, now: Instant, grace: Duration) {
        let stored = match self.packages.list().await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%error, "could not list the packages");
                return;
            }
        };
        let mut since = self.unreferenced.lock().await;
        let intake = self.intake.write().await;
        if self.is_unsure() {
            return;
        }
        let mut referenced = match self.layers.packages().await {
            Ok(packages) => packages,
            Err(error) => {
                tracing::error!(?error, "no package is removed: the layers could not be read");
                return;
            }
        };
        referenced.extend(self.catalog.packages());
        let due = due(&mut since, &stored, &referenced, now, grace);
        for digest in due {
            match self.packages.delete(&digest).await {
                Ok(()) => {
                    tracing::info!(%digest, "removed a package that nothing refers to");
                    since.remove(&digest);
                }
                Err(error) => tracing::warn!(%digest, %error, "could not remove a package"),
            }
        }
        drop(intake);
    }
}

/// Notes since when packages are unreferenced, and says whose grace is over.
fn due(
    since: &mut HashMap<Digest, Instant>,
    stored: &[Digest],
    referenced: &HashSet<Digest>,
    now: Instant,
    grace: Duration,
) -> Vec<Digest> {
    let unreferenced: HashSet<Digest> =
        stored.iter().filter(|digest| !referenced.contains(*digest)).copied().collect();
    since.retain(|digest, _| unreferenced.contains(digest));
    for digest in unreferenced {
        since.entry(digest).or_insert(now);
    }
    let over = |from: Instant| now.saturating_duration_since(from) >= grace;
    since.iter().filter(|(_, from)| over(**from)).map(|(digest, _)| *digest).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lamu_store::{DirPackages, SqliteMetadata};

    use super::*;
    use crate::admission::{Admission, Limits};
    use crate::function::catalog::HeadEntry;
    use crate::function::catalog::Kind;
    use crate::function::document::VersionDoc;
    use crate::function::document::tests::{configuration, key};
    use crate::function::document::{Head, Live, Uid};
    use crate::function::state::Status;
    use crate::function::state::VersionState;
    use crate::function::watch;
    use lamu_store::Expect;

    #[tokio::test]
    async fn packages_of_functions_stay_and_others_go() {
        let directory = tempfile::tempdir().unwrap();
        let metadata: Arc<dyn lamu_store::Metadata> =
            Arc::new(SqliteMetadata::open(directory.path().join("m.db")).unwrap());
        let packages = Arc::new(DirPackages::open(directory.path().join("p")).unwrap());
        let admission = Arc::new(Admission::new(Limits::default(), Instant::now()));
        let catalog = Arc::new(Catalog::new(admission));
        let beside = Arc::new(Beside::new(&metadata));
        let layers = Arc::new(LayerStore::new(metadata.clone()));
        let store = Arc::new(Store::new(metadata, catalog.clone()));
        let (all, packed) = (catalog.clone(), packages.clone());
        let sweeper = Sweeper::new(store, all, beside, layers.clone(), packed);
        let kept = packages.put(Bytes::from_static(b"zip")).await.unwrap();
        let lost = packages.put(Bytes::from_static(b"lost")).await.unwrap();
        let layered = packages.put(Bytes::from_static(b"layer")).await.unwrap();
        let tools = crate::layer::name::tests::layer("tools");
        let published = layers.publish(&tools, crate::layer::document::tests::doc(b"layer"));
        assert_eq!(published.await.unwrap().doc.code, layered);
        let live = Live {
            latest: configuration(),
            status: Status::created(),
            reserved_concurrency: None,
            provisioned: Default::default(),
            tags: Default::default(),
            recursive_loop: Default::default(),
            code_signing: None,
            policy: None,
        };
        assert_eq!(live.latest.code, kept);
        let head = Head { uid: Uid(uuid::Uuid::from_u128(7)), last_version: 0, live: Some(live) };
        catalog.put_head(HeadEntry::new(key("f"), lamu_store::Revision(1), head));
        let (start, grace) = (Instant::now(), Duration::from_secs(10));

        let about_to_refer = sweeper.intake().await;
        let swept = sweeper.sweep_packages(start, grace);
        assert!(tokio::time::timeout(Duration::from_millis(50), swept).await.is_err());
        drop(about_to_refer);
        sweeper.sweep_packages(start, grace).await;
        assert_eq!(packages.list().await.unwrap().len(), 3, "within its grace");
        sweeper.sweep_packages(start + grace, grace).await;

        assert_eq!(packages.size(&lost).await.unwrap(), None);
        for kept in [kept, layered] {
            assert!(packages.size(&kept).await.unwrap().is_some());
        }
        layers.delete(&tools.version(1)).await.unwrap();
        sweeper.sweep_packages(start + grace, grace).await;
        sweeper.sweep_packages(start + grace * 2, grace).await;
        assert_eq!(packages.list().await.unwrap(), [kept], "a deleted version needs nothing");
    }

    #[tokio::test]
    async fn nothing_goes_while_a_document_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let metadata: Arc<dyn lamu_store::Metadata> =
            Arc::new(SqliteMetadata::open(directory.path().join("m.db")).unwrap());
        let packages = Arc::new(DirPackages::open(directory.path().join("p")).unwrap());
        let admission = Arc::new(Admission::new(Limits::default(), Instant::now()));
        let catalog = Arc::new(Catalog::new(admission));
        let beside = Arc::new(Beside::new(&metadata));
        let layers = Arc::new(LayerStore::new(metadata.clone()));
        let store = Arc::new(Store::new(metadata.clone(), catalog.clone()));
        let (all, packed) = (catalog.clone(), packages.clone());
        let sweeper = Sweeper::new(store, all, beside, layers, packed);
        let package = packages.put(Bytes::from_static(b"lost")).await.unwrap();
        let uid = Uid(uuid::Uuid::from_u128(7));
        let version = VersionDoc {
            function: key("f"),
            number: 1,
            configuration: configuration(),
            source_description: String::new(),
            state: VersionState::Active,
            policy: None,
        };
        // The version of a function, and the function itself damaged.
        let head = key("f").document();
        let written = [
            (uid.version_document(1), Kind::Versions, serde_json::to_vec(&version).unwrap()),
            (head.clone(), Kind::Heads, b"{\"uid\": 7".to_vec()),
        ];
        for (key, kind, value) in written {
            metadata.put(&key, value.into(), Expect::Absent).await.unwrap();
            let document = metadata.get(&key).await.unwrap().unwrap();
            watch::apply(&catalog, kind, &document);
        }
        let (start, grace) = (Instant::now(), Duration::from_secs(10));
        let sweep = async || {
            sweeper.sweep_documents().await;
            sweeper.sweep_packages(start, grace).await;
            sweeper.sweep_packages(start + grace, grace).await;
        };

        sweep().await;

        let left = async || {
            let version = metadata.get(&uid.version_document(1)).await.unwrap();
            (version.is_some(), packages.size(&package).await.unwrap().is_some())
        };
        assert_eq!(left().await, (true, true));
        catalog.deleted(&head, lamu_store::Revision(u64::MAX));
        sweep().await;
        assert_eq!(left().await, (false, false), "once it is away, nothing refers to them");
    }

    #[test]
    fn a_package_goes_only_after_its_grace_without_any_reference() {
        let (kept, lost) = (Digest::of(b"kept"), Digest::of(b"lost"));
        let stored = [kept, lost];
        let referenced = HashSet::from([kept]);
        let mut since = HashMap::new();
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let grace = Duration::from_secs(10);

        assert!(due(&mut since, &stored, &referenced, start, grace).is_empty());
        assert!(due(&mut since, &stored, &referenced, after(9), grace).is_empty());
        assert_eq!(due(&mut since, &stored, &referenced, after(10), grace), [lost]);
    }

    #[test]
    fn a_new_reference_begins_the_grace_anew() {
        let digest = Digest::of(b"x");
        let mut since = HashMap::new();
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let grace = Duration::from_secs(10);
        let none = HashSet::new();

        due(&mut since, &[digest], &none, start, grace);
        due(&mut since, &[digest], &HashSet::from([digest]), after(5), grace);
        assert!(due(&mut since, &[digest], &none, after(11), grace).is_empty());
        assert_eq!(due(&mut since, &[digest], &none, after(21), grace), [digest]);
    }
}

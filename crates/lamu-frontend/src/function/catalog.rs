//! Every function this process may be asked for, in memory: what an invoke
//! resolves its name in, without touching the store.
//!
//! Fed twice, by the watches of the store and by this process's own writes, so
//! that a write is visible here before its answer is sent. Revisions decide
//! between the two; an older one never replaces a newer one.
//!
//! ```text
//!  watch ──Put, Deleted──▶ catalog ◀──own writes── store
//!                             │
//!                             └──find──▶ invoke, Get*, List*
//! ```
//!
//! Not here: the watching task (`watch`), writing (`store`).

mod lists;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use lamu_model::{Digest, Qualifier, Version, VersionId, VersionSpec};
use lamu_store::Revision;
use tokio::sync::Notify;

use crate::admission::{Admission, Claims};

use super::document::{AliasDoc, FunctionKey, Head, Live, Uid, VersionDoc};
use super::provisioned;
use super::provisioner::Wish;
use super::resource_policy::ResourcePolicy;
use super::routing;
use super::state::Blocked;
use super::url::UrlId;

mod urls;

pub use urls::UrlEntry;

/// The kinds of documents, each watched by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Heads,
    Versions,
    Aliases,
    Urls,
}

pub const KINDS: [Kind; 4] = [Kind::Heads, Kind::Versions, Kind::Aliases, Kind::Urls];

#[derive(Debug)]
pub struct HeadEntry {
    pub key: FunctionKey,
    pub revision: Revision,
    pub head: Head,
    /// `$LATEST` ready to run, if the function lives.
    latest: Option<Arc<VersionSpec>>,
}

#[derive(Debug)]
pub struct VersionEntry {
    pub revision: Revision,
    pub uid: Uid,
    pub doc: VersionDoc,
    pub spec: Arc<VersionSpec>,
}

#[derive(Debug)]
pub struct AliasEntry {
    pub revision: Revision,
    pub uid: Uid,
    pub doc: AliasDoc,
}

/// What a name and qualifier lead to.
#[derive(Clone, Debug)]
pub struct Found {
    pub function: Arc<HeadEntry>,
    /// None when it is `$LATEST`.
    pub version: Option<Arc<VersionEntry>>,
    /// Of the name as it was given: the alias's own, where it is an alias.
    pub policy: Option<Arc<ResourcePolicy>>,
}

#[derive(Debug)]
pub struct Catalog {
    inner: RwLock<Inner>,
    /// Told of every change of a claim.
    admission: Arc<Admission>,
    /// Something of provisioned concurrency may have changed.
    provisioning: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    heads: HashMap<FunctionKey, Aged<HeadEntry>>,
    /// The living functions in the order of their names, for lists.
    names: BTreeSet<FunctionKey>,
    families: HashMap<Uid, Family>,
    /// Those of the heads that have provisioned concurrency.
    provisioned: HashMap<Uid, FunctionKey>,
    /// Where in its family the URL with an id is.
    url_slots: HashMap<UrlId, (Uid, String)>,
    /// Documents this process deleted whose deletion the watch has not shown
    /// yet: a Put up to this revision is older than the deletion. Bounded by
    /// how far the watch is behind.
    buried: HashMap<String, (Revision, Generation)>,
    /// Documents that are there and cannot be read, by their keys.
    unread: HashMap<String, Generation>,
    /// Of each kind's watch.
    generations: [Generation; KINDS.len()],
}

/// Versions, aliases and URLs of one function's life.
#[derive(Debug, Default)]
struct Family {
    versions: BTreeMap<u64, Aged<VersionEntry>>,
    aliases: BTreeMap<String, Aged<AliasEntry>>,
    /// By slot.
    urls: BTreeMap<String, Aged<UrlEntry>>,
}

/// Which watch, counted from the first, has confirmed an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Generation(u64);

#[derive(Debug)]
struct Aged<T> {
    entry: Arc<T>,
    generation: Generation,
}

impl HeadEntry {
    pub fn new(key: FunctionKey, revision: Revision, head: Head) -> HeadEntry {
        let latest =
            head.live.as_ref().map(|live| Arc::new(live.latest.spec(&key, Version::Latest)));
        HeadEntry { key, revision, head, latest }
    }

    /// The function, if it was not deleted.
    pub fn live(&self) -> Option<&Live> {
        self.head.live.as_ref()
    }

    /// Whether it claims anything of its account's concurrency.
    fn claims(&self) -> bool {
        self.live()
            .is_some_and(|live| live.reserved_concurrency.is_some() || !live.provisioned.is_empty())
    }

    /// `$LATEST` ready to run, if the function lives.
    pub fn latest_spec(&self) -> Option<&Arc<VersionSpec>> {
        self.latest.as_ref()
    }
}

impl VersionEntry {
    pub fn new(uid: Uid, revision: Revision, doc: VersionDoc) -> VersionEntry {
        let number = Version::Number(doc.number);
        let spec = Arc::new(doc.configuration.spec(&doc.function, number));
        VersionEntry { revision, uid, doc, spec }
    }
}

impl Found {
    pub fn live(&self) -> Option<&Live> {
        self.function.live()
    }

    /// What a call of it runs now.
    pub fn runnable(&self) -> Result<&Arc<VersionSpec>, Blocked> {
        match (&self.version, self.function.live(), self.function.latest_spec()) {
            (Some(version), _, _) => version.doc.state.runnable().map(|()| &version.spec),
            (None, Some(live), Some(latest)) => live.status.runnable(latest),
            (None, _, _) => Err(Blocked::State("Inactive")),
        }
    }
}

impl Catalog {
    pub fn new(admission: Arc<Admission>) -> Catalog {
        Catalog { inner: RwLock::default(), admission, provisioning: Notify::new() }
    }

    pub fn head(&self, key: &FunctionKey) -> Option<Arc<HeadEntry>> {
        self.read().heads.get(key).map(|aged| aged.entry.clone())
    }

    /// The living function.
    pub fn function(&self, key: &FunctionKey) -> Option<Arc<HeadEntry>> {
        self.head(key).filter(|entry| entry.live().is_some())
    }

    /// What a name leads to. `draw`, uniform in `0.0..1.0`, chooses between
    /// the versions of an alias; 1.0 always chooses its own version.
    pub fn find(
        &self,
        key: &FunctionKey,
        qualifier: Option<&Qualifier>,
        draw: f64,
    ) -> Option<Found> {
        let inner = self.read();
        let function = inner.heads.get(key)?.entry.clone();
        let mut policy = function.live()?.policy.clone();
        let version = match qualifier {
            None => Version::Latest,
            Some(Qualifier::Version(version)) => *version,
            Some(Qualifier::Alias(name)) => {
                let family = inner.families.get(&function.head.uid)?;
                let alias = &family.aliases.get(name)?.entry.doc;
                policy.clone_from(&alias.policy);
                routing::choose(alias, draw)
            }
        };
        let version = match version {
            Version::Latest => None,
            Version::Number(number) => Some(inner.version(&function.head, number)?),
        };
        if let (Some(Qualifier::Version(_)), Some(version)) = (qualifier, &version) {
            policy.clone_from(&version.doc.policy);
        }
        Some(Found { function, version, policy })
    }

    pub fn version(&self, head: &Head, number: u64) -> Option<Arc<VersionEntry>> {
        self.read().version(head, number)
    }

    pub fn alias(&self, uid: Uid, name: &str) -> Option<Arc<AliasEntry>> {
        let inner = self.read();
        inner.families.get(&uid)?.aliases.get(name).map(|aged| aged.entry.clone())
    }

    /// Published versions in the order of their numbers.
    pub fn versions(&self, head: &Head) -> Vec<Arc<VersionEntry>> {
        let inner = self.read();
        let Some(family) = inner.families.get(&head.uid) else { return Vec::new() };
        family.versions.range(..=head.last_version).map(|(_, aged)| aged.entry.clone()).collect()
    }

    /// Aliases in the order of their names.
    pub fn aliases(&self, uid: Uid) -> Vec<Arc<AliasEntry>> {
        let inner = self.read();
        let Some(family) = inner.families.get(&uid) else { return Vec::new() };
        family.aliases.values().map(|aged| aged.entry.clone()).collect()
    }

    /// What the function claims of its account.
    pub fn claims(&self, entry: &HeadEntry) -> Claims {
        self.read().claims(entry)
    }

    /// What shall stand by, by version. One that cannot run yet comes when it
    /// can.
    pub fn wishes(&self) -> HashMap<VersionId, Wish> {
        let inner = self.read();
        let mut wishes = HashMap::new();
        for (uid, key) in &inner.provisioned {
            let Some(entry) = inner.heads.get(key).map(|aged| &aged.entry) else { continue };
            for claim in inner.claims(entry).provisioned {
                let versions = claim.versions.iter();
                let versions = versions.filter_map(|number| inner.version(&entry.head, *number));
                for version in versions.filter(|version| version.doc.state.runnable().is_ok()) {
                    let (spec, qualifier) = (version.spec.clone(), claim.qualifier.clone());
                    let wish = Wish { uid: *uid, qualifier, spec, count: claim.count };
                    wishes.entry(version.spec.id).or_insert(wish);
                }
            }
        }
        wishes
    }

    /// Returns when `wishes` may have changed since it returned last.
    pub async fn provisioning_changed(&self) {
        self.provisioning.notified().await;
    }

    /// Functions with something begun and not ended.
    pub fn unsettled(&self) -> Vec<FunctionKey> {
        let inner = self.read();
        let living = inner.heads.values().map(|aged| &aged.entry);
        living
            .filter(|entry| {
                let begun = entry.live().is_some_and(|live| !live.status.is_settled());
                let pending = || {
                    let family = inner.families.get(&entry.head.uid);
                    family.is_some_and(|family| {
                        let mut versions = family.versions.range(..=entry.head.last_version);
                        versions.any(|(_, aged)| aged.entry.doc.state.runnable().is_err())
                    })
                };
                entry.live().is_some() && (begun || pending())
            })
            .map(|entry| entry.key.clone())
            .collect()
    }

    /// Every package that a function, version or running spec refers to.
    pub fn packages(&self) -> Vec<Digest> {
        let inner = self.read();
        let heads = inner.heads.values().flat_map(|aged| aged.entry.head.packages());
        let versions = inner
            .families
            .values()
            .flat_map(|family| family.versions.values())
            .flat_map(|aged| aged.entry.doc.configuration.packages());
        heads.chain(versions).collect()
    }

    /// The living functions by their lives.
    pub fn living(&self) -> HashMap<Uid, Arc<HeadEntry>> {
        let inner = self.read();
        let heads = inner.heads.values().map(|aged| &aged.entry);
        let living = heads.filter(|entry| entry.live().is_some());
        living.map(|entry| (entry.head.uid, entry.clone())).collect()
    }

    /// Versions and aliases whose function is gone.
    pub fn orphans(&self) -> (Vec<Arc<VersionEntry>>, Vec<Arc<AliasEntry>>) {
        let inner = self.read();
        let living: std::collections::HashSet<Uid> = inner
            .heads
            .values()
            .filter(|aged| aged.entry.live().is_some())
            .map(|aged| aged.entry.head.uid)
            .collect();
        let dead = || inner.families.iter().filter(|(uid, _)| !living.contains(uid));
        let versions = dead().flat_map(|(_, family)| family.versions.values());
        let aliases = dead().flat_map(|(_, family)| family.aliases.values());
        (
            versions.map(|aged| aged.entry.clone()).collect(),
            aliases.map(|aged| aged.entry.clone()).collect(),
        )
    }

    /// Notes whether a document could be read.
    pub fn note_read(&self, kind: Kind, document: &str, read: bool) {
        let mut inner = self.write();
        let generation = inner.generation(kind);
        match read {
            true => inner.unread.remove(document),
            false => inner.unread.insert(document.to_owned(), generation),
        };
    }

    /// A document that is there and cannot be read: whatever it refers to must
    /// not be taken for something that nothing refers to.
    pub fn unread(&self) -> Option<String> {
        self.read().unread.keys().next().cloned()
    }

    pub fn put_head(&self, entry: HeadEntry) -> Arc<HeadEntry> {
        let mut inner = self.write();
        let generation = inner.generation(Kind::Heads);
        let known = inner.heads.get_mut(&entry.key);
        if let Some(known) = known {
            known.generation = generation;
            if known.entry.revision >= entry.revision {
                return known.entry.clone();
            }
        }
        let entry = Arc::new(entry);
        match entry.live() {
            Some(_) => inner.names.insert(entry.key.clone()),
            None => inner.names.remove(&entry.key),
        };
        let aged = Aged { entry: entry.clone(), generation };
        let before = inner.heads.insert(entry.key.clone(), aged);
        if let Some(before) = &before {
            inner.provisioned.remove(&before.entry.head.uid);
        }
        if entry.live().is_some_and(|live| !live.provisioned.is_empty()) {
            inner.provisioned.insert(entry.head.uid, entry.key.clone());
        }
        if entry.claims() || before.is_some_and(|before| before.entry.claims()) {
            self.tell(&inner, &entry);
        }
        entry
    }

    pub fn put_version(&self, entry: VersionEntry) -> Arc<VersionEntry> {
        let mut inner = self.write();
        let generation = inner.generation(Kind::Versions);
        let entry = Arc::new(entry);
        if inner.is_buried(&entry.uid.version_document(entry.doc.number), entry.revision) {
            return entry;
        }
        let versions = &mut inner.families.entry(entry.uid).or_default().versions;
        put(versions, entry.doc.number, entry.clone(), |entry| entry.revision, generation);
        self.tell_provisioned(&inner, entry.uid);
        entry
    }

    pub fn put_alias(&self, entry: AliasEntry) -> Arc<AliasEntry> {
        let mut inner = self.write();
        let generation = inner.generation(Kind::Aliases);
        let entry = Arc::new(entry);
        if inner.is_buried(&entry.uid.alias_document(&entry.doc.name), entry.revision) {
            return entry;
        }
        let aliases = &mut inner.families.entry(entry.uid).or_default().aliases;
        put(aliases, entry.doc.name.clone(), entry.clone(), |entry| entry.revision, generation);
        self.tell_provisioned(&inner, entry.uid);
        entry
    }

    /// This process deleted the document, which was at `revision`.
    pub fn bury(&self, document: &str, revision: Revision) {
        let mut inner = self.write();
        let removed = inner.remove(document, |known| known <= revision);
        // When it is gone already, the watch has shown the deletion.
        if let Some(kind) = removed {
            let generation = inner.generation(kind);
            inner.buried.insert(document.to_owned(), (revision, generation));
        }
        self.tell_provisioned_of(&inner, document);
    }

    /// The watch showed a deletion.
    pub fn deleted(&self, document: &str, revision: Revision) {
        let mut inner = self.write();
        let removed = inner.remove(document, |known| known < revision);
        inner.buried.remove(document);
        inner.unread.remove(document);
        if let (Some(Kind::Heads), Some(key)) = (removed, FunctionKey::parse(document)) {
            inner.provisioned.retain(|_, known| *known != key);
            self.claim(&key, &Claims::default());
        }
        self.tell_provisioned_of(&inner, document);
    }

    /// A watch begins: what it does not confirm is gone when it has caught up.
    pub fn watching(&self, kind: Kind) {
        self.write().generations[kind as usize].0 += 1;
    }

    /// The watch has delivered everything there was.
    pub fn caught(&self, kind: Kind) {
        let mut guard = self.write();
        let inner = &mut *guard;
        let current = inner.generation(kind);
        match kind {
            Kind::Heads => {
                let Inner { heads, names, provisioned, .. } = &mut *inner;
                heads.retain(|key, aged| {
                    let kept = aged.generation == current;
                    if !kept {
                        names.remove(key);
                    }
                    if !kept && aged.entry.claims() {
                        provisioned.remove(&aged.entry.head.uid);
                        self.claim(key, &Claims::default());
                    }
                    kept
                });
            }
            Kind::Versions => {
                for family in inner.families.values_mut() {
                    family.versions.retain(|_, aged| aged.generation == current);
                }
            }
            Kind::Aliases => {
                for family in inner.families.values_mut() {
                    family.aliases.retain(|_, aged| aged.generation == current);
                }
            }
            Kind::Urls => inner.retain_urls(),
        }
        inner.families.retain(|_, family| !family.is_empty());
        let prefix = kind.prefix();
        inner.buried.retain(|document, (_, generation)| {
            !document.starts_with(prefix) || *generation == current
        });
        inner
            .unread
            .retain(|document, generation| !document.starts_with(prefix) || *generation == current);
        let provisioned: Vec<Uid> = inner.provisioned.keys().copied().collect();
        provisioned.into_iter().for_each(|uid| self.tell_provisioned(inner, uid));
    }

    /// Told while the lock is held, so that the last word is the newest.
    fn tell(&self, inner: &Inner, entry: &HeadEntry) {
        self.claim(&entry.key, &inner.claims(entry));
    }

    /// A version or alias of this function's life has changed.
    fn tell_provisioned(&self, inner: &Inner, uid: Uid) {
        let key = inner.provisioned.get(&uid);
        if let Some(known) = key.and_then(|key| inner.heads.get(key)) {
            self.tell(inner, &known.entry);
        }
    }

    fn tell_provisioned_of(&self, inner: &Inner, document: &str) {
        let version = Uid::parse_version(document).map(|(uid, _)| uid);
        let uid = version.or_else(|| Uid::parse_alias(document).map(|(uid, _)| uid));
        if let Some(uid) = uid {
            self.tell_provisioned(inner, uid);
        }
    }

    fn claim(&self, key: &FunctionKey, claims: &Claims) {
        self.admission.claim(&key.account, &key.region, &key.name, claims);
        self.provisioning.notify_one();
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Heads => super::document::HEADS,
            Kind::Versions => super::document::VERSIONS,
            Kind::Aliases => super::document::ALIASES,
            Kind::Urls => super::url::URLS,
        }
    }
}

impl Inner {
    fn generation(&self, kind: Kind) -> Generation {
        self.generations[kind as usize]
    }

    fn version(&self, head: &Head, number: u64) -> Option<Arc<VersionEntry>> {
        // A document above the counter is an unfinished publish.
        if number > head.last_version {
            return None;
        }
        self.families.get(&head.uid)?.versions.get(&number).map(|aged| aged.entry.clone())
    }

    fn claims(&self, entry: &HeadEntry) -> Claims {
        let Some(live) = entry.live() else { return Claims::default() };
        let family = self.families.get(&entry.head.uid);
        provisioned::claims(live, |name| {
            family.and_then(|family| family.aliases.get(name)).map(|aged| &aged.entry.doc)
        })
    }

    fn is_buried(&self, document: &str, revision: Revision) -> bool {
        self.buried.get(document).is_some_and(|(at, _)| revision <= *at)
    }

    fn remove(&mut self, document: &str, older: impl Fn(Revision) -> bool) -> Option<Kind> {
        if let Some(key) = FunctionKey::parse(document) {
            let known = self.heads.get(&key)?.entry.revision;
            older(known).then(|| self.heads.remove(&key))?;
            self.names.remove(&key);
            return Some(Kind::Heads);
        }
        let (uid, kind) = if let Some((uid, number)) = Uid::parse_version(document) {
            let family = self.families.get_mut(&uid)?;
            let known = family.versions.get(&number)?.entry.revision;
            older(known).then(|| family.versions.remove(&number))?;
            (uid, Kind::Versions)
        } else if let Some((uid, slot)) = Uid::parse_url(document) {
            self.remove_url(uid, slot, older)?;
            (uid, Kind::Urls)
        } else {
            let (uid, name) = Uid::parse_alias(document)?;
            let family = self.families.get_mut(&uid)?;
            let known = family.aliases.get(name)?.entry.revision;
            older(known).then(|| family.aliases.remove(name))?;
            (uid, Kind::Aliases)
        };
        if self.families.get(&uid).is_some_and(Family::is_empty) {
            self.families.remove(&uid);
        }
        Some(kind)
    }
}

impl Family {
    fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.aliases.is_empty() && self.urls.is_empty()
    }
}

/// Puts unless a newer one is there.
fn put<K: Ord, T>(
    into: &mut BTreeMap<K, Aged<T>>,
    key: K,
    entry: Arc<T>,
    revision: impl Fn(&T) -> Revision,
    generation: Generation,
) {
    match into.get_mut(&key) {
        Some(known) if revision(&known.entry) >= revision(&entry) => known.generation = generation,
        _ => {
            into.insert(key, Aged { entry, generation });
        }
    }
}

#[cfg(test)]
mod tests;

//! Function URLs in the catalog: by function and slot as the control plane
//! names them, and by id as requests do.

use std::sync::Arc;

use lamu_store::Revision;

use super::{Aged, Catalog, Inner, Kind, put};
use crate::function::document::Uid;
use crate::function::url::{UrlDoc, UrlId};

#[derive(Debug)]
pub struct UrlEntry {
    pub revision: Revision,
    pub uid: Uid,
    pub doc: UrlDoc,
}

impl Catalog {
    pub fn url(&self, uid: Uid, slot: &str) -> Option<Arc<UrlEntry>> {
        let inner = self.read();
        inner.families.get(&uid)?.urls.get(slot).map(|aged| aged.entry.clone())
    }

    /// What a request's host or path names, if what it leads to is there.
    pub fn url_of_id(&self, id: &str) -> Option<Arc<UrlEntry>> {
        let inner = self.read();
        let (uid, slot) = inner.url_slots.get(id)?;
        let entry = &inner.families.get(uid)?.urls.get(slot)?.entry;
        inner.leads_somewhere(entry).then(|| entry.clone())
    }

    pub fn is_url_id(&self, id: &UrlId) -> bool {
        self.read().url_slots.contains_key(id)
    }

    /// In the order of their slots, the function's own first.
    pub fn urls(&self, uid: Uid) -> Vec<Arc<UrlEntry>> {
        let inner = self.read();
        let Some(family) = inner.families.get(&uid) else { return Vec::new() };
        family.urls.values().map(|aged| aged.entry.clone()).collect()
    }

    /// URLs whose function or alias is gone.
    pub fn orphan_urls(&self) -> Vec<Arc<UrlEntry>> {
        let inner = self.read();
        let urls = inner.families.values().flat_map(|family| family.urls.values());
        urls.map(|aged| &aged.entry)
            .filter(|entry| !inner.leads_somewhere(entry))
            .cloned()
            .collect()
    }

    pub fn put_url(&self, entry: UrlEntry) -> Arc<UrlEntry> {
        let mut inner = self.write();
        let generation = inner.generation(Kind::Urls);
        let entry = Arc::new(entry);
        let slot = entry.doc.slot().to_owned();
        if inner.is_buried(&entry.uid.url_document(&slot), entry.revision) {
            return entry;
        }
        let urls = &mut inner.families.entry(entry.uid).or_default().urls;
        let before = urls.get(&slot).map(|aged| aged.entry.doc.id.clone());
        put(urls, slot.clone(), entry.clone(), |entry| entry.revision, generation);
        let kept = urls.get(&slot).map(|aged| aged.entry.doc.id.clone());
        if before != kept
            && let Some(before) = before
        {
            inner.url_slots.remove(&before);
        }
        if let Some(kept) = kept {
            inner.url_slots.insert(kept, (entry.uid, slot));
        }
        entry
    }
}

impl Inner {
    /// Whether function and alias of a URL are there.
    fn leads_somewhere(&self, entry: &UrlEntry) -> bool {
        let head = self.heads.get(&entry.doc.function).map(|aged| &aged.entry);
        let lives = head.is_some_and(|head| head.live().is_some() && head.head.uid == entry.uid);
        lives
            && entry.doc.alias.as_ref().is_none_or(|alias| {
                self.families
                    .get(&entry.uid)
                    .is_some_and(|family| family.aliases.contains_key(alias))
            })
    }

    /// Forgets a URL whose document is gone.
    pub(super) fn remove_url(
        &mut self,
        uid: Uid,
        slot: &str,
        older: impl Fn(Revision) -> bool,
    ) -> Option<()> {
        let family = self.families.get_mut(&uid)?;
        let known = &family.urls.get(slot)?.entry;
        let id = older(known.revision).then(|| known.doc.id.clone())?;
        family.urls.remove(slot);
        self.url_slots.remove(&id);
        Some(())
    }

    /// Forgets what the newest watch did not confirm.
    pub(super) fn retain_urls(&mut self) {
        let current = self.generation(Kind::Urls);
        let families = self.families.values_mut();
        let slots = &mut self.url_slots;
        for family in families {
            family.urls.retain(|_, aged: &mut Aged<UrlEntry>| {
                let kept = aged.generation == current;
                if !kept {
                    slots.remove(&aged.entry.doc.id);
                }
                kept
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use uuid::Uuid;

    use super::*;
    use crate::admission::{Admission, Limits};
    use crate::function::catalog::{HeadEntry, tests};
    use crate::function::document::Head;
    use crate::function::document::tests::key;
    use crate::function::url::LATEST;
    use crate::function::url::tests::url;

    const UID: Uid = Uid(Uuid::from_u128(7));

    fn catalog() -> Catalog {
        Catalog::new(Arc::new(Admission::new(Limits::default(), Instant::now())))
    }

    fn head(revision: u64, uid: Uid, lives: bool) -> HeadEntry {
        let live = tests::head(revision, 1).head.live.filter(|_| lives);
        HeadEntry::new(key("f"), Revision(revision), Head { uid, last_version: 1, live })
    }

    fn entry(revision: u64, alias: Option<&str>, id: &str) -> UrlEntry {
        UrlEntry { revision: Revision(revision), uid: UID, doc: url(alias, id) }
    }

    #[test]
    fn a_url_is_found_by_its_id_while_its_function_lives() {
        let catalog = catalog();
        catalog.put_url(entry(1, None, "a"));
        assert!(catalog.url_of_id("a").is_none(), "no function yet");
        catalog.put_head(head(2, UID, true));
        assert_eq!(catalog.url_of_id("a").unwrap().doc.slot(), LATEST);
        assert!(catalog.url_of_id("b").is_none());
        assert!(catalog.orphan_urls().is_empty());

        catalog.put_head(head(3, UID, false));
        assert!(catalog.url_of_id("a").is_none());
        assert_eq!(catalog.orphan_urls().len(), 1);
        catalog.put_head(head(4, Uid(Uuid::from_u128(8)), true));
        assert!(catalog.url_of_id("a").is_none(), "another function under the same name");
    }

    #[test]
    fn the_url_of_an_alias_needs_the_alias() {
        let catalog = catalog();
        catalog.put_head(head(1, UID, true));
        catalog.put_url(entry(2, Some("prod"), "a"));
        assert!(catalog.url_of_id("a").is_none());
        catalog.put_alias(tests::alias(3, 1));
        assert!(catalog.url_of_id("a").is_some());
        catalog.bury(&UID.alias_document("prod"), Revision(3));
        assert!(catalog.url_of_id("a").is_none());
        assert_eq!(catalog.orphan_urls().len(), 1);
    }

    #[test]
    fn a_url_made_anew_has_only_its_new_id() {
        let catalog = catalog();
        catalog.put_head(head(1, UID, true));
        catalog.put_url(entry(2, None, "a"));
        catalog.put_url(entry(4, None, "b"));
        catalog.put_url(entry(2, None, "a"));
        assert!(catalog.url_of_id("a").is_none(), "a late echo");
        assert_eq!(catalog.url_of_id("b").unwrap().revision, Revision(4));
        assert!(!catalog.is_url_id(&UrlId::of("a")));
    }

    #[test]
    fn a_deleted_url_is_found_in_no_way() {
        let catalog = catalog();
        catalog.put_head(head(1, UID, true));
        catalog.put_url(entry(2, None, "a"));
        catalog.bury(&UID.url_document(LATEST), Revision(2));
        catalog.put_url(entry(2, None, "a"));
        assert!(catalog.url_of_id("a").is_none() && catalog.url(UID, LATEST).is_none());
        assert!(catalog.urls(UID).is_empty());

        catalog.put_url(entry(5, None, "b"));
        catalog.deleted(&UID.url_document(LATEST), Revision(6));
        assert!(catalog.url_of_id("b").is_none());
    }

    #[test]
    fn what_a_new_watch_does_not_confirm_is_gone() {
        let catalog = catalog();
        catalog.put_head(head(1, UID, true));
        catalog.put_alias(tests::alias(2, 1));
        catalog.watching(Kind::Urls);
        catalog.put_url(entry(3, None, "a"));
        catalog.put_url(entry(4, Some("prod"), "b"));
        catalog.watching(Kind::Urls);
        catalog.put_url(entry(4, Some("prod"), "b"));
        catalog.caught(Kind::Urls);
        assert!(catalog.url_of_id("a").is_none());
        assert!(catalog.url_of_id("b").is_some());
    }
}

//! Pages of functions out of the catalog, and what it knows before a document
//! is read.

use std::ops::Bound;
use std::sync::Arc;

use lamu_model::{AccountId, FunctionName, Region};
use lamu_store::Revision;

use super::super::document::{FunctionKey, Uid};
use super::{Aged, Catalog, Generation, HeadEntry, Kind};

impl Catalog {
    /// Living functions in the order of their names.
    pub fn functions(&self, account: &AccountId, region: &Region) -> Vec<Arc<HeadEntry>> {
        self.functions_from(account, region, Bound::Unbounded, usize::MAX)
    }

    /// The first `count` of them that are called `from` or come after it.
    pub fn functions_from(
        &self,
        account: &AccountId,
        region: &Region,
        from: Bound<&str>,
        count: usize,
    ) -> Vec<Arc<HeadEntry>> {
        let key = |name: &str| FunctionKey {
            account: account.clone(),
            region: region.clone(),
            name: FunctionName::new(name),
        };
        let from = match from {
            Bound::Included(name) => Bound::Included(key(name)),
            Bound::Excluded(name) => Bound::Excluded(key(name)),
            // No name sorts before the empty one.
            Bound::Unbounded => Bound::Included(key("")),
        };
        let inner = self.read();
        inner
            .names
            .range((from, Bound::Unbounded))
            .take_while(|key| key.account == *account && key.region == *region)
            .filter_map(|key| inner.heads.get(key).map(|aged| aged.entry.clone()))
            .take(count)
            .collect()
    }

    /// Whether this or a newer state of the document is known already, which
    /// its watch has thereby confirmed: most of what a watch shows is this
    /// process's own.
    pub fn knows(&self, document: &str, revision: Revision) -> bool {
        let mut inner = self.write();
        let generations = inner.generations;
        let generation = |kind: Kind| generations[kind as usize];
        if let Some(key) = FunctionKey::parse(document) {
            let known = inner.heads.get_mut(&key);
            return confirm(known, generation(Kind::Heads), |entry| entry.revision >= revision);
        }
        if let Some((uid, number)) = Uid::parse_version(document) {
            let family = inner.families.get_mut(&uid);
            let known = family.and_then(|family| family.versions.get_mut(&number));
            return confirm(known, generation(Kind::Versions), |entry| entry.revision >= revision);
        }
        let Some((uid, name)) = Uid::parse_alias(document) else { return false };
        let family = inner.families.get_mut(&uid);
        let known = family.and_then(|family| family.aliases.get_mut(name));
        confirm(known, generation(Kind::Aliases), |entry| entry.revision >= revision)
    }
}

/// Notes that a watch has shown what is known, if that is new enough.
fn confirm<T>(
    known: Option<&mut Aged<T>>,
    generation: Generation,
    is_new_enough: impl Fn(&T) -> bool,
) -> bool {
    match known {
        Some(aged) if is_new_enough(&aged.entry) => {
            aged.generation = generation;
            true
        }
        _ => false,
    }
}

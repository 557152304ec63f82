//! Versions that were replaced or deleted. A call that raced the update may
//! still ask for one: it is served, and its environment ends afterwards.

use std::collections::{HashSet, VecDeque};

use lamu_model::VersionId;

/// How many are remembered. A call that comes after this many later updates
/// finds its version forgotten; its environment then ends by idle time.
const REMEMBERED_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Retired {
    versions: HashSet<VersionId>,
    order: VecDeque<VersionId>,
}

impl Retired {
    pub(super) fn add(&mut self, version: VersionId) {
        if !self.versions.insert(version) {
            return;
        }
        self.order.push_back(version);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, version: VersionId) -> bool {
        // Most fleets have none for long stretches; then no hash is made.
        !self.versions.is_empty() && self.versions.contains(&version)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_so_many_retired_versions_are_remembered() {
        let mut retired = Retired::default();
        let version = |n: usize| VersionId(Uuid::from_u128(n as u128));

        (0..=REMEMBERED_MAX).for_each(|n| retired.add(version(n)));

        assert!(!retired.contains(version(0)));
        assert!(retired.contains(version(1)));
        assert!(retired.contains(version(REMEMBERED_MAX)));
        assert_eq!(retired.order.len(), retired.versions.len());
    }
}

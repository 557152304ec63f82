//! Keeps the manager told of what shall stand by: every provisioned version,
//! and how many environments of it.
//!
//! What is asked for is read in the catalog and held against what was told;
//! only differences are sent. A change that a client asked for is told before
//! its answer. After a restart everything is told anew.
//!
//! Not here: which versions a configuration leads to (`provisioned`), making
//! environments (`lamu_fleet`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lamu_link::{ManagerHandle, RoleGone};
use lamu_model::{VersionId, VersionSpec};
use tokio::sync::Mutex;

use super::catalog::Catalog;
use super::document::Uid;

/// Before a manager that did not listen is spoken to again.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Provisioner {
    catalog: Arc<Catalog>,
    manager: ManagerHandle,
    /// What the manager was told, by version.
    told: Mutex<HashMap<VersionId, Told>>,
}

/// Which configuration a version has its environments from: the function's
/// life, and the qualifier.
type Owner = (Uid, String);

#[derive(Clone, Debug)]
struct Told {
    owner: Owner,
    count: u32,
}

/// What one version shall have.
#[derive(Clone, Debug)]
pub struct Wish {
    pub uid: Uid,
    pub qualifier: String,
    pub spec: Arc<VersionSpec>,
    pub count: u32,
}

/// One message for the manager.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Provision { version: VersionId, count: u32 },
    Unprovision { version: VersionId, after: Option<VersionId> },
}

impl Provisioner {
    pub fn new(catalog: Arc<Catalog>, manager: ManagerHandle) -> Provisioner {
        Provisioner { catalog, manager, told: Mutex::default() }
    }

    /// Follows the catalog until dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            while let Err(error) = self.tell(&[]).await {
                tracing::debug!(%error, "could not tell what shall stand by");
                tokio::time::sleep(AGAIN).await;
            }
            self.catalog.provisioning_changed().await;
        }
    }

    /// Tells what has changed, and what is asked for `again`: the manager then
    /// tries at once what failed before.
    pub async fn tell(&self, again: &[VersionId]) -> Result<(), RoleGone> {
        // One at a time, so that the last word is the newest.
        let mut told = self.told.lock().await;
        let wishes = self.catalog.wishes();
        for step in steps(&told, &wishes, again) {
            match step {
                Step::Provision { version, count } => {
                    let Some(wish) = wishes.get(&version) else { continue };
                    self.manager.provision(&wish.spec, count).await?;
                    let owner = (wish.uid, wish.qualifier.clone());
                    told.insert(version, Told { owner, count });
                }
                Step::Unprovision { version, after } => {
                    self.manager.unprovision(version, after).await?;
                    told.remove(&version);
                }
            }
        }
        Ok(())
    }
}

/// What is new first; then what goes, after what its configuration now leads
/// to, if it leads anywhere.
fn steps(
    told: &HashMap<VersionId, Told>,
    wishes: &HashMap<VersionId, Wish>,
    again: &[VersionId],
) -> Vec<Step> {
    let mut steps = Vec::new();
    for (version, wish) in wishes {
        let known = told.get(version).is_some_and(|told| told.count == wish.count);
        if !known || again.contains(version) {
            steps.push(Step::Provision { version: *version, count: wish.count });
        }
    }
    for (version, told) in told {
        if wishes.contains_key(version) {
            continue;
        }
        let heir = wishes.iter().find(|(_, wish)| {
            (wish.uid, wish.qualifier.as_str()) == (told.owner.0, told.owner.1.as_str())
        });
        let after = heir.map(|(version, _)| *version);
        steps.push(Step::Unprovision { version: *version, after });
    }
    steps
}

#[cfg(test)]
mod tests {
    use lamu_model::Version;
    use uuid::Uuid;

    use super::*;
    use crate::function::document::tests::{configuration, key};

    const UID: Uid = Uid(Uuid::from_u128(7));

    fn id(number: u128) -> VersionId {
        VersionId(Uuid::from_u128(number))
    }

    fn wishes(of: &[(u128, &str, u32)]) -> HashMap<VersionId, Wish> {
        let wishes = of.iter().map(|(number, qualifier, count)| {
            let mut configuration = configuration();
            configuration.id = id(*number);
            let spec = Arc::new(configuration.spec(&key("f"), Version::Number(1)));
            let qualifier = (*qualifier).to_owned();
            (id(*number), Wish { uid: UID, qualifier, spec, count: *count })
        });
        wishes.collect()
    }

    fn told(of: &[(u128, &str, u32)]) -> HashMap<VersionId, Told> {
        let told = of.iter().map(|(number, qualifier, count)| {
            (id(*number), Told { owner: (UID, (*qualifier).to_owned()), count: *count })
        });
        told.collect()
    }

    #[test]
    fn only_differences_are_told() {
        let known = [(1, "prod", 3)];
        assert_eq!(steps(&told(&known), &wishes(&known), &[]), []);
        assert_eq!(
            steps(&told(&known), &wishes(&[(1, "prod", 5)]), &[]),
            [Step::Provision { version: id(1), count: 5 }]
        );
        assert_eq!(
            steps(&told(&known), &wishes(&known), &[id(1)]),
            [Step::Provision { version: id(1), count: 3 }],
            "asked for again"
        );
        assert_eq!(
            steps(&told(&known), &wishes(&[]), &[]),
            [Step::Unprovision { version: id(1), after: None }]
        );
    }

    #[test]
    fn an_alias_that_moved_gives_up_the_old_version_after_the_new_one_stands() {
        assert_eq!(
            steps(&told(&[(1, "prod", 3)]), &wishes(&[(2, "prod", 3)]), &[]),
            [
                Step::Provision { version: id(2), count: 3 },
                Step::Unprovision { version: id(1), after: Some(id(2)) },
            ]
        );
        assert_eq!(
            steps(&told(&[(1, "prod", 3)]), &wishes(&[(2, "beta", 3)]), &[])[1],
            Step::Unprovision { version: id(1), after: None },
            "another configuration's is no heir"
        );
    }
}

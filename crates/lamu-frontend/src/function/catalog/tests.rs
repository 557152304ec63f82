//! What the catalog keeps when its two sources disagree.

use std::ops::Bound;
use std::time::Instant;

use lamu_model::AccountId;
use uuid::Uuid;

use super::*;
use crate::admission::Limits;
use crate::function::document::ProvisionedConfig;
use crate::function::document::tests::{configuration, key};
use crate::function::publish::{self, Fresh};
use crate::function::state::{Status, VersionState};

fn catalog() -> Catalog {
    Catalog::new(Arc::new(Admission::new(Limits::default(), Instant::now())))
}

const UID: Uid = Uid(Uuid::from_u128(7));

pub(super) fn head(revision: u64, last_version: u64) -> HeadEntry {
    let live = Live {
        latest: configuration(),
        status: Status::created().settled(Ok(())),
        reserved_concurrency: None,
        provisioned: Default::default(),
        tags: BTreeMap::new(),
        recursive_loop: Default::default(),
        code_signing: None,
        policy: None,
    };
    let head = Head { uid: UID, last_version, live: Some(live) };
    HeadEntry::new(key("f"), Revision(revision), head)
}

fn version(revision: u64, number: u64) -> VersionEntry {
    let state = VersionState::Active;
    let doc = publish::version(&key("f"), &configuration(), number, None, state, Fresh::new());
    VersionEntry::new(UID, Revision(revision), doc)
}

pub(super) fn alias(revision: u64, version: u64) -> AliasEntry {
    let doc = AliasDoc {
        name: "prod".into(),
        version: Version::Number(version),
        description: String::new(),
        revision_id: Uuid::from_u128(1),
        routing: None,
        policy: None,
    };
    AliasEntry { revision: Revision(revision), uid: UID, doc }
}

fn qualifier(text: &str) -> Qualifier {
    Qualifier::parse(text)
}

#[test]
fn an_older_document_never_replaces_a_newer_one() {
    let catalog = catalog();
    catalog.put_head(head(5, 1));
    catalog.put_head(head(4, 0));
    assert_eq!(catalog.function(&key("f")).unwrap().revision, Revision(5));
    catalog.put_head(head(6, 2));
    assert_eq!(catalog.function(&key("f")).unwrap().head.last_version, 2);
}

#[test]
fn a_version_above_the_counter_is_not_there_yet() {
    let catalog = catalog();
    catalog.put_version(version(1, 1));
    catalog.put_head(head(2, 0));
    assert!(catalog.find(&key("f"), Some(&qualifier("1")), 1.0).is_none());
    catalog.put_head(head(3, 1));
    let found = catalog.find(&key("f"), Some(&qualifier("1")), 1.0).unwrap();
    assert_eq!(found.runnable().unwrap().version, Version::Number(1));
    assert_eq!(catalog.versions(&found.function.head).len(), 1);
}

#[test]
fn an_alias_leads_to_its_version() {
    let catalog = catalog();
    catalog.put_head(head(1, 1));
    catalog.put_version(version(2, 1));
    assert!(catalog.find(&key("f"), Some(&qualifier("prod")), 1.0).is_none());
    catalog.put_alias(alias(3, 1));
    let found = catalog.find(&key("f"), Some(&qualifier("prod")), 1.0).unwrap();
    assert_eq!(found.version.unwrap().doc.number, 1);
}

#[test]
fn a_late_echo_of_a_deleted_document_does_not_bring_it_back() {
    let catalog = catalog();
    catalog.put_alias(alias(3, 1));
    catalog.bury(&UID.alias_document("prod"), Revision(3));
    assert!(catalog.alias(UID, "prod").is_none());

    catalog.put_alias(alias(3, 1));
    assert!(catalog.alias(UID, "prod").is_none(), "the echo of the write");
    catalog.put_alias(alias(5, 2));
    assert!(catalog.alias(UID, "prod").is_some(), "created again");
    catalog.deleted(&UID.alias_document("prod"), Revision(4));
    assert!(catalog.alias(UID, "prod").is_some(), "the echo of the deletion");
    assert!(catalog.read().buried.is_empty());
}

#[test]
fn a_deletion_that_the_watch_showed_first_leaves_no_note() {
    let catalog = catalog();
    catalog.put_alias(alias(3, 1));
    catalog.deleted(&UID.alias_document("prod"), Revision(4));
    catalog.bury(&UID.alias_document("prod"), Revision(3));
    assert!(catalog.read().buried.is_empty());
    assert!(catalog.read().families.is_empty());
}

#[test]
fn what_a_new_watch_does_not_confirm_is_gone_when_it_has_caught_up() {
    let catalog = catalog();
    for kind in KINDS {
        catalog.watching(kind);
    }
    catalog.put_head(head(1, 1));
    catalog.put_version(version(2, 1));
    catalog.put_alias(alias(3, 1));

    for kind in KINDS {
        catalog.watching(kind);
    }
    catalog.put_head(head(1, 1));
    catalog.put_version(version(2, 1));
    for kind in KINDS {
        catalog.caught(kind);
    }

    assert!(catalog.find(&key("f"), Some(&qualifier("1")), 1.0).is_some());
    assert!(catalog.alias(UID, "prod").is_none());
}

#[test]
fn admission_knows_every_reservation() {
    let admission = Arc::new(Admission::new(Limits::default(), Instant::now()));
    let catalog = Catalog::new(admission.clone());
    let key = key("f");
    let admitted = || {
        let now = Instant::now();
        admission.admit(&key.account, &key.region, &key.name, Version::Latest, now).is_ok()
    };
    let mut stopped = head(1, 0);
    stopped.head.live.as_mut().unwrap().reserved_concurrency = Some(0);
    catalog.put_head(stopped);
    assert!(!admitted());
    catalog.put_head(HeadEntry::new(key.clone(), Revision(2), head(1, 0).head));
    assert!(admitted());
}

#[test]
fn what_is_provisioned_follows_function_alias_and_version() {
    let admission = Arc::new(Admission::new(Limits::default(), Instant::now()));
    let catalog = Catalog::new(admission.clone());
    let key = key("f");
    let claimed = || admission.in_use(&key.account, &key.region).claimed;
    let wished = |catalog: &Catalog| {
        let mut wishes: Vec<_> = catalog
            .wishes()
            .into_values()
            .map(|wish| (wish.spec.version.to_string(), wish.count))
            .collect();
        wishes.sort();
        wishes
    };
    let mut provisioned = head(1, 2);
    let config = ProvisionedConfig { count: 3, modified_ms: 0 };
    let live = provisioned.head.live.as_mut().unwrap();
    live.provisioned = BTreeMap::from([("prod".to_owned(), config)]);
    let stored = provisioned.head.clone();
    catalog.put_head(HeadEntry::new(key.clone(), Revision(1), stored.clone()));
    assert_eq!((claimed(), wished(&catalog)), (3, vec![]), "claimed before the alias is known");

    catalog.put_version(version(2, 1));
    catalog.put_version(version(3, 2));
    catalog.put_alias(alias(4, 1));
    assert_eq!(wished(&catalog), [("1".to_owned(), 3)]);
    catalog.put_alias(alias(5, 2));
    assert_eq!(wished(&catalog), [("2".to_owned(), 3)]);
    let mut split = alias(6, 2);
    split.doc.routing = Some(crate::function::document::Routing { version: 1, weight: 0.1 });
    catalog.put_alias(split);
    assert_eq!(wished(&catalog), [("1".to_owned(), 3), ("2".to_owned(), 3)]);
    assert_eq!(claimed(), 3, "the calls share one count");

    catalog.bury(&UID.alias_document("prod"), Revision(6));
    assert_eq!(wished(&catalog), []);
    catalog.put_head(HeadEntry::new(key.clone(), Revision(7), head(1, 2).head));
    assert_eq!(claimed(), 0);
    catalog.put_head(HeadEntry::new(key.clone(), Revision(8), stored));
    assert_eq!(claimed(), 3);
    catalog.deleted(&key.document(), Revision(9));
    assert_eq!((claimed(), wished(&catalog)), (0, vec![]));
}

#[test]
fn versions_of_a_deleted_function_are_orphans() {
    let catalog = catalog();
    catalog.put_head(head(1, 1));
    catalog.put_version(version(2, 1));
    assert!(catalog.orphans().0.is_empty());
    let gone = Head { uid: UID, last_version: 1, live: None };
    catalog.put_head(HeadEntry::new(key("f"), Revision(3), gone));
    assert_eq!(catalog.orphans().0.len(), 1);
    assert!(catalog.function(&key("f")).is_none());
    assert!(catalog.find(&key("f"), None, 1.0).is_none());
}

#[test]
fn lists_begin_anywhere_and_hold_the_living_in_order() {
    let catalog = catalog();
    let put = |name: &str, revision: u64, live: bool| {
        let mut head = head(revision, 0).head;
        if !live {
            head.live = None;
        }
        catalog.put_head(HeadEntry::new(key(name), Revision(revision), head));
    };
    for (nth, name) in ["c", "a", "b-1", "b", "d"].into_iter().enumerate() {
        put(name, nth as u64 + 1, true);
    }
    put("c", 10, false);
    let elsewhere = FunctionKey { account: AccountId::new("111111111111"), ..key("a") };
    catalog.put_head(HeadEntry::new(elsewhere, Revision(11), head(11, 0).head));
    let names = |from: Bound<&str>, count: usize| -> Vec<String> {
        let (account, region) = (key("a").account, key("a").region);
        let found = catalog.functions_from(&account, &region, from, count);
        found.iter().map(|entry| entry.key.name.to_string()).collect()
    };
    assert_eq!(names(Bound::Unbounded, 9), ["a", "b", "b-1", "d"]);
    assert_eq!(names(Bound::Excluded("a"), 2), ["b", "b-1"]);
    assert_eq!(names(Bound::Included("b-1"), 9), ["b-1", "d"]);
    assert_eq!(names(Bound::Excluded("c"), 9), ["d"], "a marker of what is gone");

    catalog.deleted(&key("b").document(), Revision(20));
    put("c", 21, true);
    assert_eq!(names(Bound::Unbounded, 9), ["a", "b-1", "c", "d"]);
    for _ in 0..2 {
        catalog.watching(Kind::Heads);
    }
    put("d", 5, true);
    catalog.caught(Kind::Heads);
    assert_eq!(names(Bound::Unbounded, 9), ["d"], "what the watch did not confirm");
}

#[test]
fn what_a_watch_shows_again_is_confirmed_unread() {
    let catalog = catalog();
    catalog.put_head(head(3, 1));
    catalog.put_version(version(4, 1));
    catalog.put_alias(alias(5, 1));
    let (head, version) = (key("f").document(), UID.version_document(1));
    let alias = UID.alias_document("prod");
    for kind in KINDS {
        catalog.watching(kind);
    }
    for (document, known) in [(&head, 3), (&version, 4), (&alias, 5)] {
        assert!(!catalog.knows(document, Revision(known + 1)), "{document}");
        assert!(catalog.knows(document, Revision(known)), "{document}");
    }
    assert!(!catalog.knows(&UID.version_document(2), Revision(1)));
    for kind in KINDS {
        catalog.caught(kind);
    }
    assert!(catalog.find(&key("f"), Some(&qualifier("prod")), 1.0).is_some(), "all were confirmed");
}

//! What stands by: the decisions of provisioned concurrency, one by one.
//!
//! Not here: calls without it (`decisions`), chance (`simulation`).

use std::time::Duration;

use lamu_link::{BootError, EnvironmentReport, ProvisionFailure, Start, WorkerEvent};
use lamu_model::{Epoch, InitializationType, WorkerId};

use super::config::ManagerConfig;
use super::core::Effect;
use super::desk::{Desk, booting, ended, granted, spec};
use super::limiter::Rate;

fn init_failed() -> BootError {
    BootError::InitFailed { what: "Runtime.ExitError".into() }
}

#[test]
fn what_is_asked_for_is_made_before_any_call_and_the_first_call_is_warm() {
    let mut desk = Desk::new();
    let effects = desk.provision(1, 3);
    let begun = booting(&effects);
    assert_eq!(begun.len(), 3);
    assert!(effects.iter().all(|effect| matches!(
        effect,
        Effect::Boot { initialization: InitializationType::ProvisionedConcurrency, .. }
    )));
    assert_eq!(desk.counts(1), (3, 0, 0));

    for sandbox in &begun {
        assert!(desk.boot(*sandbox).is_empty());
    }

    assert_eq!(desk.counts(1), (3, 3, 3));
    let ((_, sandbox), start) = granted(&desk.acquire("a", 1), "a");
    assert!(begun.contains(&sandbox));
    assert_eq!(start, Start::Warm, "nobody waited for it");
    assert_eq!(desk.counts(1), (3, 3, 2), "a busy one is still allocated");
}

#[test]
fn beyond_them_calls_spill_over_and_both_are_counted() {
    let mut desk = Desk::new();
    desk.standing(1, 1);
    let lease = granted(&desk.acquire("a", 1), "a").0;

    let spilled = booting(&desk.acquire("b", 1))[0];
    let (on_demand, start) = granted(&desk.boot(spilled), "b");

    assert!(matches!(start, Start::Cold(_)));
    desk.give_back(lease);
    desk.give_back(on_demand);
    let first = granted(&desk.acquire("c", 1), "c").0.1;
    assert_eq!(first, lease.1, "the provisioned one first, though the other was used later");
    let row = desk.row(1).unwrap();
    assert_eq!((row.invocations, row.spilled), (2, 1));
}

#[test]
fn they_do_not_end_from_idleness_and_make_no_room_for_others() {
    let mut desk = Desk::with(|config| {
        config.age_max = Duration::from_secs(100_000);
        config.idle_max = 1;
    });
    desk.standing(1, 2);
    let idle = desk.warm(2);

    assert_eq!(ended(&desk.after(Duration::from_secs(3_600))), [idle]);

    let wanting = booting(&desk.acquire("a", 3))[0];
    assert!(ended(&desk.full(wanting)).is_empty());
    assert!(ended(&desk.after(Duration::from_millis(500))).is_empty());
    assert_eq!(desk.counts(1), (2, 2, 2));
}

#[test]
fn one_that_ends_is_made_again() {
    let mut desk = Desk::new();
    let standing = desk.standing(1, 2);
    let lease = granted(&desk.acquire("a", 1), "a").0;

    let effects = desk.event(WorkerEvent::Gone { sandbox: lease.1 });

    let again = booting(&effects);
    assert_eq!(again.len(), 1, "one that had served: at once");
    desk.boot(again[0]);
    assert_eq!(desk.counts(1), (2, 2, 2));
    let left = standing.into_iter().find(|sandbox| *sandbox != lease.1).unwrap();
    desk.core.placed(left, WorkerId::new("w"));
    let effects = desk.event(WorkerEvent::Lost { worker: WorkerId::new("w") });
    assert_eq!(booting(&effects).len(), 2, "a lost host is no fault of the function");
}

#[test]
fn an_init_that_fails_is_told_and_tried_again_ever_more_seldom() {
    let mut desk = Desk::new();
    let begun = booting(&desk.provision(1, 3));
    for sandbox in begun {
        assert!(desk.fail(sandbox, init_failed()).is_empty(), "never at once");
    }
    let failure = desk.row(1).unwrap().failure;
    assert_eq!(failure, Some(ProvisionFailure::Init { what: "Runtime.ExitError".into() }));

    // After how many seconds the next try comes.
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert!(desk.after(Duration::from_secs(pause) - Duration::from_millis(1)).is_empty());
        let again = booting(&desk.after(Duration::from_millis(1)));
        assert_eq!(again.len(), 1, "one shows whether it still fails, after {pause} s");
        desk.fail(again[0], init_failed());
    }

    let again = booting(&desk.after(Duration::from_secs(60)))[0];
    let rest = booting(&desk.boot(again));
    assert_eq!(rest.len(), 2, "it works: the others follow at once");
    assert_eq!(desk.row(1).unwrap().failure, None);
    rest.into_iter().for_each(|sandbox| drop(desk.boot(sandbox)));
    assert_eq!(desk.counts(1), (3, 3, 3));
}

#[test]
fn one_that_ends_unused_is_not_made_again_without_pause() {
    let mut desk = Desk::new();
    let mut sandbox = desk.standing(1, 1)[0];
    let mut paused = Duration::ZERO;
    for pause in [1, 2, 4] {
        assert!(desk.event(WorkerEvent::Gone { sandbox }).is_empty());
        assert!(matches!(desk.row(1).unwrap().failure, Some(ProvisionFailure::Init { .. })));
        let pause = Duration::from_secs(pause);
        assert!(desk.after(pause - Duration::from_millis(1)).is_empty());
        sandbox = booting(&desk.after(Duration::from_millis(1)))[0];
        desk.boot(sandbox);
        paused += pause;
    }
    assert_eq!(paused, Duration::from_secs(7));

    desk.now += Duration::from_secs(600);
    desk.event(WorkerEvent::Gone { sandbox });
    assert_eq!(booting(&desk.after(Duration::from_secs(1))).len(), 1, "long ago is forgotten");
}

#[test]
fn asking_again_tries_again_at_once() {
    let mut desk = Desk::new();
    let begun = booting(&desk.provision(1, 1))[0];
    desk.fail(begun, init_failed());

    assert_eq!(booting(&desk.provision(1, 1)).len(), 1);
    assert_eq!(desk.row(1).unwrap().failure, None);
}

#[test]
fn an_old_one_goes_when_a_fresh_one_stands_in_its_place() {
    let mut desk = Desk::with(|config| config.age_jitter = Duration::ZERO);
    let old = desk.standing(1, 1)[0];
    let age_max = ManagerConfig::new(Epoch(1)).age_max;

    let effects = desk.after(age_max);
    let fresh = booting(&effects)[0];
    assert!(ended(&effects).is_empty());
    let lease = granted(&desk.acquire("a", 1), "a").0;
    assert_eq!(lease.1, old, "it serves until then");
    assert!(ended(&desk.give_back(lease)).is_empty());
    desk.fail(fresh, init_failed());
    assert_eq!(desk.counts(1), (1, 1, 1), "and on, when its successor fails");

    let fresh = booting(&desk.after(Duration::from_secs(1)))[0];
    assert_eq!(ended(&desk.boot(fresh)), [old]);
    assert_eq!(granted(&desk.acquire("b", 1), "b").0.1, fresh);
}

#[test]
fn an_old_one_that_is_busy_goes_when_it_comes_back() {
    let mut desk = Desk::with(|config| config.age_jitter = Duration::ZERO);
    let old = desk.standing(1, 1)[0];
    let lease = granted(&desk.acquire("a", 1), "a").0;
    let fresh = booting(&desk.after(ManagerConfig::new(Epoch(1)).age_max))[0];
    assert!(ended(&desk.boot(fresh)).is_empty());

    assert_eq!(ended(&desk.give_back(lease)), [old]);
    assert_eq!(desk.counts(1), (1, 1, 1));
}

#[test]
fn fewer_are_asked_for_and_the_least_recently_used_end() {
    let mut desk = Desk::new();
    desk.standing(1, 3);
    let lease = granted(&desk.acquire("a", 1), "a").0;

    let effects = desk.provision(1, 1);
    assert_eq!(ended(&effects).len(), 2);
    assert_eq!(desk.counts(1), (1, 1, 0), "the busy one stays");
    assert!(ended(&desk.give_back(lease)).is_empty());
    assert_eq!(desk.counts(1), (1, 1, 1));
}

#[test]
fn none_are_asked_for_and_all_end_the_busy_when_they_come_back() {
    let mut desk = Desk::new();
    desk.standing(1, 2);
    let lease = granted(&desk.acquire("a", 1), "a").0;
    let starting = booting(&desk.provision(1, 3))[0];

    assert_eq!(ended(&desk.unprovision(1, None)).len(), 1);
    assert!(desk.row(1).is_none());
    assert_eq!(ended(&desk.give_back(lease)), [lease.1]);
    assert_eq!(ended(&desk.boot(starting)), [starting], "also one that was on its way");
}

#[test]
fn one_that_was_to_leave_stays_when_asked_for_again() {
    let mut desk = Desk::new();
    desk.standing(1, 1);
    let lease = granted(&desk.acquire("a", 1), "a").0;
    desk.unprovision(1, None);

    assert!(booting(&desk.provision(1, 1)).is_empty());
    assert!(ended(&desk.give_back(lease)).is_empty());
    assert_eq!(desk.counts(1), (1, 1, 1));
}

#[test]
fn a_version_keeps_what_it_has_until_its_successor_has_all() {
    let mut desk = Desk::new();
    let old = desk.standing(1, 2);
    let begun = booting(&desk.provision(2, 2));

    assert!(desk.unprovision(1, Some(2)).is_empty());
    assert!(desk.row(1).unwrap().leaving);
    assert!(ended(&desk.boot(begun[0])).is_empty());
    let mut gone = ended(&desk.boot(begun[1]));

    gone.sort();
    let mut expected = old;
    expected.sort();
    assert_eq!(gone, expected);
    assert!(desk.row(1).is_none());
}

#[test]
fn a_version_on_its_way_out_makes_nothing_new() {
    let mut desk = Desk::new();
    let old = desk.standing(1, 2);
    let begun = booting(&desk.provision(2, 1))[0];
    desk.unprovision(1, Some(2));

    assert!(booting(&desk.event(WorkerEvent::Gone { sandbox: old[0] })).is_empty());
    desk.fail(begun, init_failed());
    assert_eq!(desk.counts(1).1, 1, "what is left stays while its successor fails");
    assert_eq!(ended(&desk.unprovision(2, None)), [old[1]], "and ends with it");
}

#[test]
fn a_chain_of_successors_is_given_up_at_once() {
    let mut desk = Desk::new();
    desk.standing(1, 1);
    let mut last = Vec::new();
    for version in 2..=5 {
        last = booting(&desk.provision(version, 1));
        desk.unprovision(version - 1, Some(version));
    }

    assert_eq!(ended(&desk.boot(last[0])).len(), 1);
    assert!((1..5).all(|version| desk.row(version).is_none()));
}

#[test]
fn a_successor_that_is_complete_already_leaves_nothing_to_wait_for() {
    let mut desk = Desk::new();
    desk.standing(1, 1);
    desk.standing(2, 1);

    assert_eq!(ended(&desk.unprovision(1, Some(2))).len(), 1);
}

#[test]
fn boots_for_it_are_bounded_and_shared_in_turn_and_keep_no_call_waiting() {
    let mut desk = Desk::with(|config| {
        config.provisions_max = 3;
        config.provisions_per_version_max = 2;
        config.starts_max = 1;
    });
    let first = booting(&desk.provision(1, 5));
    let second = booting(&desk.provision(2, 5));
    assert_eq!((first.len(), second.len()), (2, 1));

    let call = booting(&desk.acquire("a", 3));
    assert_eq!(call.len(), 1, "calls have their own bound");

    let next = booting(&desk.boot(first[0]));
    assert_eq!(next.len(), 1);
    let under_way = [1, 2].map(|version| desk.core.starts.provisioned_of(spec(version).id));
    assert_eq!(under_way, [1, 2], "the other's turn");
}

#[test]
fn it_is_given_no_faster_than_the_rate() {
    let rate = Rate { burst: 2, per: Duration::from_secs(2) };
    let mut desk = Desk::with(|config| config.provisioning = rate);
    let begun = booting(&desk.provision(1, 3));
    assert_eq!(begun.len(), 2);
    begun.into_iter().for_each(|sandbox| drop(desk.boot(sandbox)));
    assert_eq!(desk.row(1).unwrap().failure, None);

    assert!(desk.after(Duration::from_millis(999)).is_empty());
    assert_eq!(booting(&desk.after(Duration::from_millis(1))).len(), 1);
}

#[test]
fn where_no_host_has_room_idle_ones_go_and_then_it_is_told() {
    let mut desk = Desk::new();
    let idle = desk.warm(2);
    let mut sandbox = booting(&desk.provision(1, 1))[0];
    assert_eq!(ended(&desk.full(sandbox)), [idle]);

    for _ in 0..1_000 {
        if desk.row(1).unwrap().failure.is_some() {
            break;
        }
        if let [again] = booting(&desk.after(Duration::from_millis(10)))[..] {
            sandbox = again;
            desk.full(sandbox);
        }
    }

    assert_eq!(desk.row(1).unwrap().failure, Some(ProvisionFailure::NoRoom));
    let again = booting(&desk.after(Duration::from_secs(1)))[0];
    desk.boot(again);
    assert_eq!(desk.counts(1), (1, 1, 1));
}

#[test]
fn a_waiting_call_takes_one_that_was_made_to_stand_by() {
    let mut desk = Desk::new();
    let begun = booting(&desk.provision(1, 1))[0];
    desk.acquire("a", 1);

    let (lease, start) = granted(&desk.boot(begun), "a");

    assert_eq!((lease.1, start), (begun, Start::Warm));
    assert_eq!(desk.counts(1), (1, 1, 0));
}

#[test]
fn a_deleted_version_has_none_and_gets_none() {
    let mut desk = Desk::new();
    let standing = desk.standing(1, 1);

    assert_eq!(ended(&desk.retire(1)), standing);
    assert!(desk.row(1).is_none());
    assert!(desk.provision(1, 1).is_empty());
    assert!(desk.row(1).is_none());
}

#[test]
fn what_a_former_reign_had_standing_by_is_taken_over() {
    let mut desk = Desk::with(|config| config.age_jitter = Duration::ZERO);
    let provisioned = |report: EnvironmentReport| EnvironmentReport {
        initialization: InitializationType::ProvisionedConcurrency,
        ..report
    };
    let reports: Vec<_> = (101..=103).map(|n| provisioned(desk.report(n, 1, n == 103))).collect();
    let mut effects = Vec::new();
    desk.core.adopt(desk.now, reports, &mut effects);
    assert!(effects.is_empty(), "they stay until it is told what shall be");

    assert!(desk.provision(1, 3).is_empty());
    assert_eq!(desk.counts(1), (3, 3, 2));
    let keep = ManagerConfig::new(Epoch(1)).idle_keep;
    assert!(desk.after(keep + keep).is_empty());
}

//! The core's decisions, one by one.
//!
//! Not here: what stands by (`standing`), chance (`simulation`), tasks
//! (`tests/storm.rs`).

use std::time::Duration;

use lamu_link::{
    AcquireError, BootError, EnvironmentReport, EnvironmentState, PlaceError, Start, WorkerEvent,
};
use lamu_model::{Digest, Epoch, SandboxId, WorkerId};
use uuid::Uuid;

use super::config::ManagerConfig;
use super::core::Effect;
use super::desk::{Desk, booting, ended, granted, refused, spec};
use super::limiter::Rate;

#[test]
fn the_first_lease_of_an_environment_is_cold_and_the_next_is_warm() {
    let mut desk = Desk::new();
    let sandbox = booting(&desk.acquire("a", 1))[0];

    let (lease, start) = granted(&desk.boot(sandbox), "a");
    desk.give_back(lease);
    let (again, second) = granted(&desk.acquire("b", 1), "b");

    assert!(matches!(start, Start::Cold(timings) if timings.init == Duration::from_millis(7)));
    assert_eq!(second, Start::Warm);
    assert_eq!(again.1, sandbox);
    assert_ne!(again.0, lease.0);
}

#[test]
fn the_last_used_is_the_first_reused() {
    let mut desk = Desk::new();
    let first = booting(&desk.acquire("a", 1))[0];
    let second = booting(&desk.acquire("b", 1))[0];
    let one = granted(&desk.boot(first), "a").0;
    let two = granted(&desk.boot(second), "b").0;
    desk.give_back(two);
    desk.give_back(one);

    assert_eq!(granted(&desk.acquire("c", 1), "c").0.1, first);
    assert_eq!(granted(&desk.acquire("d", 1), "d").0.1, second);
}

#[test]
fn an_environment_never_serves_another_version() {
    let mut desk = Desk::new();
    desk.warm(1);

    let effects = desk.acquire("other", 2);

    assert_eq!(booting(&effects).len(), 1);
}

#[test]
fn the_longest_waiter_takes_whatever_comes_first() {
    let mut desk = Desk::new();
    let first = booting(&desk.acquire("a", 1))[0];
    let second = booting(&desk.acquire("b", 1))[0];

    let effects = desk.boot(second);

    assert_eq!(granted(&effects, "a").0.1, second, "a waited longer");
    assert_eq!(granted(&desk.boot(first), "b").0.1, first);
}

#[test]
fn a_boot_whose_waiter_was_served_otherwise_becomes_idle() {
    let mut desk = Desk::new();
    let busy = booting(&desk.acquire("a", 1))[0];
    let lease = granted(&desk.boot(busy), "a").0;
    let spare = booting(&desk.acquire("b", 1))[0];
    let back = desk.give_back(lease);
    assert_eq!(granted(&back, "b").0.1, busy);

    assert!(desk.boot(spare).is_empty());

    let (lease, start) = granted(&desk.acquire("c", 1), "c");
    assert_eq!(lease.1, spare);
    assert!(matches!(start, Start::Cold(_)), "no invocation ran in it before");
}

#[test]
fn a_start_under_way_covers_the_next_caller_of_a_cancelled_one() {
    let mut desk = Desk::new();
    let (ticket, effects) = desk.queue("a", 1);
    let sandbox = booting(&effects)[0];
    desk.core.cancel(ticket.unwrap());

    assert!(booting(&desk.acquire("b", 1)).is_empty());

    assert_eq!(granted(&desk.boot(sandbox), "b").0.1, sandbox);
}

#[test]
fn an_environment_that_has_answered_is_awaited_for_a_moment() {
    let mut desk = Desk::new();
    let sandbox = booting(&desk.acquire("a", 1))[0];
    let lease = granted(&desk.boot(sandbox), "a").0;
    desk.inboxes[&sandbox].0.set_answered(true);

    assert!(desk.acquire("b", 1).is_empty(), "it is about to come back");
    assert_eq!(booting(&desk.acquire("c", 1)).len(), 1, "but only for one");

    assert_eq!(granted(&desk.give_back(lease), "b").0.1, sandbox);
}

#[test]
fn patience_ends_and_a_start_begins() {
    let mut desk = Desk::new();
    let sandbox = booting(&desk.acquire("a", 1))[0];
    granted(&desk.boot(sandbox), "a");
    desk.inboxes[&sandbox].0.set_answered(true);
    desk.acquire("b", 1);

    let patience = ManagerConfig::new(Epoch(1)).patience;
    assert!(desk.after(patience / 2).is_empty());
    assert_eq!(booting(&desk.after(patience / 2)).len(), 1);
}

#[test]
fn a_deadline_ends_the_wait() {
    let mut desk = Desk::new();
    desk.acquire("a", 1);

    let effects = desk.after(Duration::from_secs(10));

    let ended = refused(&effects);
    assert!(matches!(
        ended[..],
        [("a", AcquireError::Late { waited })] if *waited == Duration::from_secs(10)
    ));
}

#[test]
fn a_full_line_refuses_at_once() {
    let mut desk = Desk::with(|config| config.waiting_max = 2);
    desk.acquire("a", 1);
    desk.acquire("b", 2);

    let effects = desk.acquire("c", 1);

    assert!(matches!(refused(&effects)[..], [("c", AcquireError::Crowded)]));
}

#[test]
fn starts_are_bounded_per_version_and_in_all_and_shared_in_turn() {
    let mut desk = Desk::with(|config| {
        config.starts_max = 3;
        config.starts_per_version_max = 2;
    });
    let first: Vec<_> = (0..5).flat_map(|_| booting(&desk.acquire("one", 1))).collect();
    let second: Vec<_> = (0..5).flat_map(|_| booting(&desk.acquire("two", 2))).collect();
    assert_eq!((first.len(), second.len()), (2, 1));

    let third: Vec<_> = (0..5).flat_map(|_| booting(&desk.acquire("three", 3))).collect();
    assert!(third.is_empty());

    desk.boot(first[0]);
    desk.boot(first[1]);

    let under_way = [1, 2, 3].map(|version| desk.core.starts.of(spec(version).id));
    assert_eq!(under_way, [0, 2, 1], "two and three wished first");
    assert!(desk.core.starts.wants(spec(1).id), "one has its turn again");
}

#[test]
fn a_failed_boot_is_tried_again_elsewhere_and_then_fails_one_waiter() {
    let mut desk = Desk::new();
    let mut sandbox = booting(&desk.acquire("a", 1))[0];
    desk.acquire("b", 1);
    let broken = || BootError::Sandbox { what: "broken".into() };

    for _ in 1..3 {
        assert!(desk.fail(sandbox, broken()).is_empty(), "the retry is not at once");
        let effects = desk.after(Duration::from_millis(50));
        let [Effect::Boot { sandbox: again, avoid, .. }] = &effects[..] else {
            panic!("no retry: {effects:?}");
        };
        assert_eq!(avoid[..], [WorkerId::new("w")]);
        assert_ne!(*again, sandbox, "an id is never used twice");
        sandbox = *again;
    }
    let effects = desk.fail(sandbox, broken());

    assert!(matches!(
        refused(&effects)[..],
        [("a", AcquireError::Boot(BootError::Sandbox { .. }))]
    ));
    assert_eq!(desk.core.line.len(spec(1).id), 1, "b still waits");
}

#[test]
fn a_missing_package_fails_all_that_wait_for_the_version() {
    let mut desk = Desk::new();
    let sandbox = booting(&desk.acquire("a", 1))[0];
    desk.acquire("b", 1);
    desk.acquire("other", 2);

    let effects = desk.fail(sandbox, BootError::PackageMissing { digest: Digest([0; 32]) });

    let callers: Vec<_> = refused(&effects).iter().map(|(to, _)| *to).collect();
    assert_eq!(callers, ["a", "b"]);
    assert_eq!(desk.core.line.len(spec(2).id), 1);
}

#[test]
fn full_hosts_give_up_the_least_recently_used_idle_environment() {
    let mut desk = Desk::new();
    let older = desk.warm(1);
    desk.warm(2);
    let sandbox = booting(&desk.acquire("a", 3))[0];

    let effects = desk.full(sandbox);
    assert_eq!(ended(&effects), [older]);
    let effects = desk.event(WorkerEvent::Gone { sandbox: older });
    assert!(effects.is_empty());

    let again = booting(&desk.after(Duration::from_millis(1)));
    assert_eq!(again.len(), 1, "the room is asked for as soon as it is there");
    assert_eq!(granted(&desk.boot(again[0]), "a").0.1, again[0]);
}

#[test]
fn one_full_host_does_not_empty_the_pool() {
    let mut desk = Desk::new();
    (1..=5).for_each(|version| assert!(desk.warm(version).0 != Uuid::nil()));
    let mut sandbox = booting(&desk.acquire("a", 9))[0];
    let mut evicted = ended(&desk.full(sandbox)).len();

    // The room is slow to show.
    for _ in 0..4 {
        let effects = desk.after(Duration::from_millis(10));
        if let [again] = booting(&effects)[..] {
            sandbox = again;
            evicted += ended(&desk.full(sandbox)).len();
        }
    }

    assert_eq!(evicted, 1);
}

#[test]
fn full_hosts_refuse_those_that_waited_long_enough_and_only_those() {
    let mut desk = Desk::new();
    let mut sandbox = booting(&desk.acquire("a", 1))[0];
    desk.full(sandbox);
    let room_wait_max = ManagerConfig::new(Epoch(1)).room_wait_max;
    let mut effects = desk.after(room_wait_max - Duration::from_millis(1));
    desk.acquire("b", 1);
    effects.extend(desk.after(Duration::from_millis(1)));
    sandbox = *booting(&effects).first().unwrap_or(&sandbox);

    let effects = desk.full(sandbox);

    let refusals = refused(&effects);
    assert!(matches!(refusals[..], [("a", AcquireError::Place(PlaceError::Full))]), "{effects:?}");
    assert_eq!(desk.core.line.len(spec(1).id), 1);
}

#[test]
fn a_busy_version_cannot_keep_full_hosts_to_itself() {
    let mut desk = Desk::new();
    let hog = booting(&desk.acquire("hog", 1))[0];
    let mut lease = granted(&desk.boot(hog), "hog").0;
    let mut sandbox = booting(&desk.acquire("small", 2))[0];
    desk.full(sandbox);
    for _ in 0..10 {
        desk.acquire("hog", 1);
        let back = desk.give_back(lease);
        if ended(&back) == [hog] {
            desk.event(WorkerEvent::Gone { sandbox: hog });
            return;
        }
        lease = granted(&back, "hog").0;
        for sandbox_again in booting(&desk.after(Duration::from_millis(80))) {
            desk.full(sandbox_again);
            sandbox = sandbox_again;
        }
    }
    panic!("{sandbox} never got its turn");
}

#[test]
fn a_lease_of_a_dead_environment_is_ignored() {
    let mut desk = Desk::new();
    let sandbox = booting(&desk.acquire("a", 1))[0];
    let lease = granted(&desk.boot(sandbox), "a").0;
    desk.event(WorkerEvent::Gone { sandbox });

    assert!(desk.give_back(lease).is_empty());

    assert!(desk.core.pool.is_bare());
}

#[test]
fn an_environment_that_ended_unheard_is_not_lent() {
    let mut desk = Desk::new();
    let sandbox = desk.warm(1);
    desk.inboxes.remove(&sandbox);

    let effects = desk.acquire("a", 1);

    assert_eq!(booting(&effects).len(), 1);
    assert!(ended(&effects).is_empty(), "there is nothing to end");
}

#[test]
fn a_retired_version_ends_when_idle_now_and_when_busy_on_return() {
    let mut desk = Desk::new();
    let busy = booting(&desk.acquire("a", 1))[0];
    let lease = granted(&desk.boot(busy), "a").0;
    let idle = booting(&desk.acquire("b", 1))[0];
    let (other, _) = granted(&desk.boot(idle), "b");
    desk.give_back(other);

    assert_eq!(ended(&desk.retire(1)), [idle]);
    assert_eq!(ended(&desk.give_back(lease)), [busy]);
}

#[test]
fn a_call_that_raced_the_update_is_served_and_its_environment_ends() {
    let mut desk = Desk::new();
    desk.retire(1);
    let sandbox = booting(&desk.acquire("late", 1))[0];
    let lease = granted(&desk.boot(sandbox), "late").0;

    assert_eq!(ended(&desk.give_back(lease)), [sandbox]);
}

#[test]
fn idle_environments_end_after_their_time_and_the_used_stay() {
    let mut desk = Desk::new();
    let surplus = desk.warm(1);
    let keep = ManagerConfig::new(Epoch(1)).idle_keep;
    assert!(desk.after(keep - Duration::from_secs(1)).is_empty());
    let used = desk.warm(2);
    assert_eq!(desk.core.wake_at(), Some(desk.now + Duration::from_secs(1)));

    assert_eq!(ended(&desk.after(Duration::from_secs(1))), [surplus]);
    assert_eq!(granted(&desk.acquire("a", 2), "a").0.1, used);
}

#[test]
fn no_invocation_begins_in_an_environment_past_its_age() {
    let mut desk = Desk::with(|config| config.age_jitter = Duration::ZERO);
    let sandbox = booting(&desk.acquire("a", 1))[0];
    let lease = granted(&desk.boot(sandbox), "a").0;
    let age_max = ManagerConfig::new(Epoch(1)).age_max;
    assert!(desk.after(age_max).is_empty(), "the busy one is left alone");

    assert_eq!(ended(&desk.give_back(lease)), [sandbox]);
}

#[test]
fn ages_are_spread_within_the_jitter() {
    let config = ManagerConfig::new(Epoch(1));
    let ages: Vec<_> = (0..1_000)
        .map(|n| super::core::age_limit(&config, SandboxId(Uuid::from_u128(n))))
        .collect();

    let (low, high) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());

    assert!(*low >= config.age_max - config.age_jitter);
    assert!(*high <= config.age_max + config.age_jitter);
    assert!(*high - *low > config.age_jitter, "they are spread");
    let again = super::core::age_limit(&config, SandboxId(Uuid::from_u128(5)));
    assert_eq!(again, ages[5], "the same whoever asks");
}

#[test]
fn idle_environments_are_bounded_in_all() {
    let mut desk = Desk::with(|config| config.idle_max = 2);
    let oldest = desk.warm(1);
    desk.warm(2);
    let sandbox = booting(&desk.acquire("a", 3))[0];
    let lease = granted(&desk.boot(sandbox), "a").0;

    assert_eq!(ended(&desk.give_back(lease)), [oldest]);
}

#[test]
fn a_new_reign_takes_over_what_workers_report() {
    let mut desk = Desk::new();
    let idle = desk.report(101, 1, false);
    let busy = desk.report(102, 1, true);
    let mut effects = Vec::new();
    desk.core.adopt(desk.now, vec![idle.clone(), busy.clone()], &mut effects);
    assert!(effects.is_empty());

    let (lease, start) = granted(&desk.acquire("a", 1), "a");
    assert_eq!((lease.1, start), (idle.environment.sandbox, Start::Warm));
    let booting = booting(&desk.acquire("b", 1));
    assert_eq!(booting.len(), 1, "the busy one is not lent");

    let freed = desk.event(WorkerEvent::Idle(busy.clone()));
    assert_eq!(granted(&freed, "b").0.1, busy.environment.sandbox);
}

#[test]
fn a_report_that_is_older_than_its_event_changes_nothing() {
    let mut desk = Desk::new();
    let report = desk.report(101, 1, false);
    desk.event(WorkerEvent::Idle(report.clone()));
    let lease = granted(&desk.acquire("a", 1), "a").0;

    let mut effects = Vec::new();
    let stale = EnvironmentReport { busy: true, ..report };
    desk.core.adopt(desk.now, vec![stale.clone()], &mut effects);
    assert!(effects.is_empty());
    assert!(desk.event(WorkerEvent::Idle(stale)).is_empty(), "it is leased in this reign");

    desk.give_back(lease);
    granted(&desk.acquire("b", 1), "b");
}

#[test]
fn a_lost_worker_takes_its_environments_along() {
    let mut desk = Desk::new();
    desk.warm(1);
    let sandbox = booting(&desk.acquire("a", 2))[0];
    granted(&desk.boot(sandbox), "a");

    desk.event(WorkerEvent::Lost { worker: WorkerId::new("w") });

    assert!(desk.core.census(desk.now).is_empty());
    assert_eq!(booting(&desk.acquire("b", 1)).len(), 1);
}

#[test]
fn the_census_tells_every_state() {
    let mut desk = Desk::new();
    let busy = booting(&desk.acquire("a", 1))[0];
    granted(&desk.boot(busy), "a");
    let idle = desk.warm(2);
    let drained = desk.warm(3);
    desk.retire(3);
    let starting = booting(&desk.acquire("b", 4))[0];
    desk.core.placed(starting, WorkerId::new("w"));
    desk.now += Duration::from_secs(5);

    let census = desk.core.census(desk.now);

    let state = |id| census.iter().find(|row| row.sandbox == id).unwrap().state;
    assert_eq!(state(busy), EnvironmentState::Busy);
    assert_eq!(state(idle), EnvironmentState::Idle);
    assert_eq!(state(drained), EnvironmentState::Draining);
    assert_eq!(state(starting), EnvironmentState::Starting);
    assert!(census.iter().all(|row| row.age == Duration::from_secs(5)));
}

#[test]
fn a_function_scales_no_faster_than_it_may_and_warm_calls_are_not_counted() {
    let rate = Rate { burst: 2, per: Duration::from_secs(2) };
    let mut desk = Desk::with(|config| config.scaling = rate);
    let first = booting(&desk.acquire("a", 1))[0];
    let second = booting(&desk.acquire("b", 1))[0];

    let effects = desk.acquire("c", 1);
    assert!(
        matches!(refused(&effects)[..], [("c", AcquireError::ScalingRate { retry_after })]
            if *retry_after == Duration::from_secs(1)),
        "the latest is refused, those before it wait: {effects:?}"
    );
    assert_eq!(booting(&desk.acquire("other", 2)).len(), 1, "another function has its own");

    let lease = granted(&desk.boot(first), "a").0;
    granted(&desk.boot(second), "b");
    desk.give_back(lease);
    granted(&desk.acquire("d", 1), "d");
    desk.now += Duration::from_secs(1);
    assert_eq!(booting(&desk.acquire("e", 1)).len(), 1, "one more a second");
    assert_eq!(refused(&desk.acquire("f", 1)).len(), 1);
}

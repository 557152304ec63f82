//! Counting, by hand and by many threads.

use std::thread;
use std::time::Duration;

use super::*;

struct Desk {
    admission: Admission,
    now: Instant,
    account: AccountId,
    region: Region,
}

impl Desk {
    fn of(concurrency: u32, rate: RateRule) -> Desk {
        let now = Instant::now();
        Desk {
            admission: Admission::new(Limits { concurrency, rate }, now),
            now,
            account: AccountId::new("000000000000"),
            region: Region::new("us-east-1"),
        }
    }

    fn admit(&self, function: &str) -> Result<Permit, Throttle> {
        let function = FunctionName::new(function);
        self.admission.admit(&self.account, &self.region, &function, Version::Latest, self.now)
    }

    fn admit_version(&self, function: &str, version: u64) -> Result<Permit, Throttle> {
        let (function, version) = (FunctionName::new(function), Version::Number(version));
        self.admission.admit(&self.account, &self.region, &function, version, self.now)
    }

    fn reserve(&self, function: &str, reserved: Option<u32>) {
        let function = FunctionName::new(function);
        let claims = Claims { reserved, ..Claims::default() };
        self.admission.claim(&self.account, &self.region, &function, &claims);
    }

    /// Beside a reservation, so many for each qualifier and its versions.
    fn provision(&self, function: &str, reserved: Option<u32>, places: &[(&str, u32, &[u64])]) {
        let function = FunctionName::new(function);
        let provisioned = places.iter().map(|(qualifier, count, versions)| Provisioned {
            qualifier: (*qualifier).to_owned(),
            count: *count,
            versions: versions.to_vec(),
        });
        let claims = Claims { reserved, provisioned: provisioned.collect() };
        self.admission.claim(&self.account, &self.region, &function, &claims);
    }

    fn in_use(&self) -> InUse {
        self.admission.in_use(&self.account, &self.region)
    }

    /// How many calls get in, all held, and why the next does not.
    fn fill(&self, function: &str) -> (Vec<Permit>, ThrottleReason) {
        self.fill_with(|| self.admit(function))
    }

    fn fill_version(&self, function: &str, version: u64) -> (Vec<Permit>, ThrottleReason) {
        self.fill_with(|| self.admit_version(function, version))
    }

    fn fill_with(
        &self,
        admit: impl Fn() -> Result<Permit, Throttle>,
    ) -> (Vec<Permit>, ThrottleReason) {
        let mut held = Vec::new();
        loop {
            match admit() {
                Ok(permit) => held.push(permit),
                Err(throttle) => return (held, throttle.reason),
            }
        }
    }
}

const POOL_FULL: ThrottleReason = ThrottleReason::ConcurrentInvocationLimitExceeded;
const RESERVED_FULL: ThrottleReason =
    ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded;

#[test]
fn an_account_runs_up_to_its_limit_and_a_dropped_permit_is_free_again() {
    let desk = Desk::of(5, RateRule::Unlimited);
    let (mut held, reason) = desk.fill("f");
    assert_eq!((held.len(), reason), (5, POOL_FULL));

    held.pop();

    assert!(desk.admit("g").is_ok());
    drop(held);
    assert_eq!(desk.in_use(), InUse::default());
}

#[test]
fn a_reservation_is_carved_out_of_the_pool() {
    let desk = Desk::of(10, RateRule::Unlimited);
    desk.reserve("f", Some(4));

    let (others, reason) = desk.fill("g");
    assert_eq!((others.len(), reason), (6, POOL_FULL));

    let (own, reason) = desk.fill("f");
    assert_eq!((own.len(), reason), (4, RESERVED_FULL), "floor and ceiling");
    assert_eq!(desk.in_use(), InUse { pool: 6, total: 10, claimed: 10 });
}

#[test]
fn a_reservation_of_zero_refuses_every_call() {
    let desk = Desk::of(10, RateRule::Unlimited);
    desk.reserve("f", Some(0));

    let refused = desk.admit("f").unwrap_err();

    assert_eq!(refused.reason, RESERVED_FULL);
    assert_eq!(refused.retry_after_secs, None);
    assert_eq!(desk.fill("g").0.len(), 10);
}

#[test]
fn a_changed_reservation_holds_for_the_very_next_call() {
    let desk = Desk::of(10, RateRule::Unlimited);
    desk.reserve("f", Some(1));
    let first = desk.admit("f").unwrap();
    assert!(desk.admit("f").is_err());

    desk.reserve("f", Some(2));
    let second = desk.admit("f").unwrap();
    desk.reserve("f", None);
    let (held, reason) = desk.fill("f");

    assert_eq!((held.len(), reason), (8, POOL_FULL), "the two still count for the account");
    drop((first, second, held));
    assert_eq!(desk.in_use(), InUse::default());
    assert_eq!(desk.fill("g").0.len(), 10, "nothing stays reserved");
}

#[test]
fn calls_from_before_a_reservation_count_towards_it() {
    let desk = Desk::of(10, RateRule::Unlimited);
    let before: Vec<_> = (0..3).map(|_| desk.admit("f").unwrap()).collect();

    desk.reserve("f", Some(2));

    assert_eq!(desk.admit("f").unwrap_err().reason, RESERVED_FULL);
    drop(before);
    assert_eq!(desk.fill("f").0.len(), 2);
}

#[test]
fn a_late_reservation_is_honoured_and_the_pool_waits() {
    let desk = Desk::of(10, RateRule::Unlimited);
    let (mut pool, _) = desk.fill("g");
    desk.reserve("f", Some(4));

    let (reserved, _) = desk.fill("f");
    assert_eq!(reserved.len(), 4);
    pool.truncate(7);
    assert!(desk.admit("g").is_err(), "the pool has 6 now");
    pool.truncate(5);
    assert!(desk.admit("g").is_ok());
}

#[test]
fn accounts_and_regions_do_not_share() {
    let desk = Desk::of(1, RateRule::Unlimited);
    let _held = desk.admit("f").unwrap();
    let f = FunctionName::new("f");
    let (account, region) = (AccountId::new("111111111111"), Region::new("eu-west-1"));

    assert!(desk.admission.admit(&account, &desk.region, &f, Version::Latest, desk.now).is_ok());
    assert!(desk.admission.admit(&desk.account, &region, &f, Version::Latest, desk.now).is_ok());
    assert!(desk.admit("f").is_err());
}

#[test]
fn ten_requests_a_second_for_each_unit_of_concurrency() {
    let mut desk = Desk::of(2, RateRule::TenPerConcurrency);
    let burst = (0..100).take_while(|_| desk.admit("f").is_ok()).count();
    assert_eq!(burst, 20);

    let refused = desk.admit("f").unwrap_err();
    assert_eq!(refused.reason, ThrottleReason::FunctionInvocationRateLimitExceeded);
    assert_eq!(refused.retry_after_secs, Some(1));
    assert_eq!(desk.in_use(), InUse::default(), "a refused call holds nothing");

    let mut admitted = 0;
    for _ in 0..1_000 {
        desk.now += Duration::from_millis(1);
        admitted += usize::from(desk.admit("f").is_ok());
    }
    assert_eq!(admitted, 20);
}

#[test]
fn a_reservation_has_a_rate_of_its_own() {
    let desk = Desk::of(100, RateRule::TenPerConcurrency);
    desk.reserve("f", Some(1));

    let burst = (0..100).take_while(|_| desk.admit("f").is_ok()).count();

    assert_eq!(burst, 10);
    let refused = desk.admit("f").unwrap_err();
    assert_eq!(refused.reason, ThrottleReason::ReservedFunctionInvocationRateLimitExceeded);
    assert!(refused.retry_after_secs.is_some());
    assert!(desk.admit("g").is_ok());
}

#[test]
fn functions_without_calls_are_forgotten_and_reservations_are_not() {
    let desk = Desk::of(10, RateRule::Unlimited);
    desk.reserve("kept", Some(3));
    let held = desk.admit("held").unwrap();
    for n in 0..10 * FUNCTIONS_KEPT_MIN {
        drop(desk.admit(&format!("f{n}")));
    }

    let account = desk.admission.account(&desk.account, &desk.region);
    let functions = read(&account.functions);
    assert!(functions.by_name.len() <= FUNCTIONS_KEPT_MIN);
    assert!(functions.by_name.contains_key(&FunctionName::new("held")));
    drop(functions);
    assert_eq!(desk.fill("kept").0.len(), 3);
    drop(held);
    assert_eq!(desk.fill("g").0.len(), 7);
}

#[test]
fn threads_never_get_above_a_limit() {
    let desk = Desk::of(7, RateRule::Unlimited);
    desk.reserve("reserved", Some(2));
    let running = [AtomicU32::new(0), AtomicU32::new(0)];
    let admitted = AtomicU64::new(0);
    thread::scope(|scope| {
        for n in 0..8 {
            let (desk, running, admitted) = (&desk, &running, &admitted);
            scope.spawn(move || {
                let (function, limit) = [("reserved", 2), ("pool", 5)][n % 2];
                let mut held = Vec::new();
                for _ in 0..20_000 {
                    if let Ok(permit) = desk.admit(function) {
                        let now = running[n % 2].fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(now <= limit, "{now} run of {limit}");
                        admitted.fetch_add(1, Ordering::Relaxed);
                        held.push(permit);
                    }
                    if held.len() == 2 {
                        running[n % 2].fetch_sub(2, Ordering::SeqCst);
                        held.clear();
                    }
                }
                running[n % 2].fetch_sub(held.len() as u32, Ordering::SeqCst);
            });
        }
    });
    assert!(admitted.load(Ordering::Relaxed) > 1_000);
    assert_eq!((desk.in_use().pool, desk.in_use().total), (0, 0));
}

#[test]
fn threads_are_never_refused_while_there_is_room() {
    let desk = Desk::of(8, RateRule::Unlimited);
    desk.reserve("reserved", Some(4));
    thread::scope(|scope| {
        for n in 0..8 {
            let desk = &desk;
            scope.spawn(move || {
                // Four for four places each.
                let function = ["reserved", "pool"][n % 2];
                for _ in 0..20_000 {
                    drop(desk.admit(function).expect("a place is free"));
                }
            });
        }
    });
    assert_eq!((desk.in_use().pool, desk.in_use().total), (0, 0));
}

#[test]
fn a_permit_travels_as_a_hold() {
    let desk = Desk::of(1, RateRule::Unlimited);
    let hold: lamu_link::Hold = Box::new(desk.admit("f").unwrap());
    assert!(desk.admit("f").is_err());

    thread::spawn(move || drop(hold)).join().unwrap();

    assert!(desk.admit("f").is_ok());
}

#[test]
fn a_provisioned_version_runs_when_the_pool_is_empty() {
    let desk = Desk::of(10, RateRule::Unlimited);
    desk.provision("f", None, &[("1", 3, &[1])]);

    let (pool, reason) = desk.fill("g");
    assert_eq!((pool.len(), reason), (7, POOL_FULL), "three are carved out");
    assert_eq!(desk.in_use(), InUse { pool: 7, total: 7, claimed: 10 });
    assert!(desk.admit_version("f", 2).is_err(), "and not for another version");
    assert!(desk.admit("f").is_err());

    let (own, reason) = desk.fill_version("f", 1);
    assert_eq!((own.len(), reason), (3, POOL_FULL));
    assert_eq!(desk.in_use(), InUse { pool: 7, total: 10, claimed: 10 });
    drop((pool, own));
    assert_eq!(desk.in_use(), InUse { pool: 0, total: 0, claimed: 3 });
}

#[test]
fn beyond_what_is_provisioned_calls_come_from_the_pool() {
    let desk = Desk::of(10, RateRule::Unlimited);
    desk.provision("f", None, &[("1", 3, &[1])]);

    let (all, _) = desk.fill_version("f", 1);

    assert_eq!(all.len(), 10);
    assert_eq!(desk.in_use(), InUse { pool: 7, total: 10, claimed: 10 });
}

#[test]
fn within_a_reservation_the_provisioned_part_is_its_versions_own() {
    let desk = Desk::of(20, RateRule::Unlimited);
    desk.provision("f", Some(5), &[("1", 2, &[1])]);

    let (others, reason) = desk.fill_version("f", 2);
    assert_eq!((others.len(), reason), (3, RESERVED_FULL));
    let (own, reason) = desk.fill_version("f", 1);
    assert_eq!((own.len(), reason), (2, RESERVED_FULL));
    assert_eq!(desk.fill("g").0.len(), 15, "the reservation is claimed, and nothing twice");
}

#[test]
fn an_alias_that_divides_has_one_room_for_both_versions() {
    let desk = Desk::of(10, RateRule::Unlimited);
    desk.provision("f", Some(2), &[("prod", 2, &[1, 2])]);

    let _one = desk.admit_version("f", 1).unwrap();
    let _two = desk.admit_version("f", 2).unwrap();

    assert_eq!(desk.admit_version("f", 1).unwrap_err().reason, RESERVED_FULL);
}

#[test]
fn calls_stay_counted_while_the_configuration_changes() {
    let desk = Desk::of(10, RateRule::Unlimited);
    desk.provision("f", None, &[("prod", 2, &[1])]);
    let (pool, _) = desk.fill("g");
    let held = [desk.admit_version("f", 1).unwrap(), desk.admit_version("f", 1).unwrap()];

    // More, and another version behind the same alias.
    desk.provision("f", None, &[("prod", 3, &[2])]);
    let third = desk.admit_version("f", 2).unwrap();
    assert!(desk.admit_version("f", 2).is_err(), "two still run");
    drop(held);
    assert!(desk.admit_version("f", 2).is_ok());
    assert!(desk.admit_version("f", 1).is_err(), "it has none any more");

    desk.provision("f", None, &[]);
    let last = desk.admit_version("f", 2).unwrap();
    assert!(desk.admit_version("f", 2).is_err(), "nine of the pool and one that stays counted");
    drop((pool, third, last));
    assert_eq!(desk.in_use(), InUse::default());
    assert_eq!(desk.fill("g").0.len(), 10, "nothing stays claimed");
}

#[test]
fn what_is_provisioned_again_and_again_stays_within_the_reservation() {
    let desk = Desk::of(100, RateRule::Unlimited);
    desk.provision("f", Some(4), &[("1", 3, &[1])]);
    let (mut held, _) = desk.fill_version("f", 1);
    assert_eq!(held.len(), 4, "three of its own and what is shared");
    for _ in 0..3 {
        desk.provision("f", Some(4), &[]);
        assert_eq!(desk.admit("f").unwrap_err().reason, RESERVED_FULL);
        desk.provision("f", Some(4), &[("2", 3, &[2])]);
        assert_eq!(desk.admit_version("f", 2).unwrap_err().reason, RESERVED_FULL);
        desk.provision("f", Some(4), &[("1", 1, &[1])]);
        assert_eq!(desk.admit_version("f", 1).unwrap_err().reason, RESERVED_FULL);
    }
    desk.provision("f", Some(4), &[("2", 3, &[2])]);
    // The oldest were in the room that is gone.
    drop(held.drain(..2));
    let (new, reason) = desk.fill_version("f", 2);
    assert_eq!((new.len(), reason), (2, RESERVED_FULL));
    drop((held, new));
    assert_eq!(desk.in_use().total, 0);
    assert_eq!(desk.fill_version("f", 2).0.len(), 4, "all of it is there again");
    assert_eq!(desk.fill("f").0.len(), 1, "and the others' part only");
}

#[test]
fn a_provisioned_version_has_a_rate_of_its_own_and_spills_over() {
    let desk = Desk::of(100, RateRule::TenPerConcurrency);
    desk.provision("f", Some(2), &[("1", 1, &[1])]);

    let admitted = (0..200).take_while(|_| desk.admit_version("f", 1).is_ok()).count();

    // Ten of its own, twenty of the reservation's.
    assert_eq!(admitted, 30);
}

#[test]
fn threads_never_get_above_what_is_provisioned() {
    let desk = Desk::of(5, RateRule::Unlimited);
    desk.provision("f", None, &[("1", 2, &[1])]);
    let (pool, _) = desk.fill("g");
    assert_eq!(pool.len(), 3);
    let running = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..20_000_u32 {
                    if n % 64 == 0 {
                        // The same again changes nothing.
                        desk.provision("f", None, &[("1", 2, &[1])]);
                    }
                    if let Ok(permit) = desk.admit_version("f", 1) {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(now <= 2, "{now} run of 2");
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                }
            });
        }
    });
    drop(pool);
    assert_eq!(desk.in_use(), InUse { pool: 0, total: 0, claimed: 2 });
}

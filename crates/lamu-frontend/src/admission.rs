//! Who may run how much at once, and how fast: the concurrency of an account
//! in a region, what functions have reserved of it, and the rule of ten
//! requests a second for each unit of concurrency ("Concurrency and
//! throttling" of the invocation reference).
//!
//! ```text
//! account limit 1,000 = reserved by f (100) + reserved by g (0) + pool (900)
//! ```
//!
//! Counting is exact: never above a limit, never refused while there is room.
//! A permit lasts until the invocation's END, not until its answer.
//!
//! Not here: the 429 itself (`error`), who keeps the reservations (the
//! function documents; `reserve` is told of them), the rate of new
//! environments (`lamu_fleet`).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use lamu_api::ThrottleReason;
use lamu_model::{ACCOUNT_CONCURRENCY_DEFAULT, AccountId, FunctionName, Region};

/// Requests a second for each unit of concurrency.
pub const REQUESTS_PER_SEC_PER_CONCURRENCY: u32 = 10;

/// What a rate may run ahead: a second's requests may come at once.
const BURST: Duration = Duration::from_secs(1);

/// Functions of an account remembered before those without calls and without
/// reservation are forgotten.
const FUNCTIONS_KEPT_MIN: usize = 1_024;

/// What every account may use in every region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub concurrency: u32,
    pub rate: RateRule,
}

/// Whether requests a second are limited along with concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateRule {
    /// As Lambda: ten for each unit, so 10,000 for 1,000.
    TenPerConcurrency,
    Unlimited,
}

/// Refused with 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .reason.as_str())]
pub struct Throttle {
    pub reason: ThrottleReason,
    /// For rates only: when there will be room again.
    pub retry_after_secs: Option<u32>,
}

/// The right to run one invocation. Dropping it gives it back; it goes along
/// as the lease's `Hold`.
#[must_use]
pub struct Permit {
    function: Arc<Function>,
    from: Source,
}

/// Calls under way in one account and region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Those without a reservation.
    pub pool: u32,
    pub total: u32,
}

#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    /// Rates count nanoseconds from here.
    began: Instant,
    /// One row for each account and region that ever had a call or a
    /// reservation, so bounded by the functions that ever existed.
    accounts: RwLock<HashMap<AccountId, HashMap<Region, Arc<Account>>>>,
}

#[derive(Debug)]
struct Account {
    in_use: Count,
    reserved_sum: AtomicU32,
    rate: Rate,
    functions: RwLock<Functions>,
}

#[derive(Debug)]
struct Functions {
    by_name: HashMap<FunctionName, Arc<Function>>,
    prune_at: usize,
}

#[derive(Debug)]
struct Function {
    account: Arc<Account>,
    /// All its calls, whether reserved or from the pool, so that a reservation
    /// made while calls run counts them.
    in_use: AtomicU32,
    /// A `u32`, or `UNRESERVED`.
    reserved: AtomicU64,
    rate: Rate,
}

const UNRESERVED: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Pool,
    Reservation,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { concurrency: ACCOUNT_CONCURRENCY_DEFAULT, rate: RateRule::TenPerConcurrency }
    }
}

impl Admission {
    pub fn new(limits: Limits, now: Instant) -> Admission {
        Admission { limits, began: now, accounts: RwLock::default() }
    }

    /// What the function has reserved from now on; `None` for nothing, also
    /// when it was deleted. Calls under way are not touched.
    pub fn reserve(
        &self,
        account: &AccountId,
        region: &Region,
        function: &FunctionName,
        reserved: Option<u32>,
    ) {
        if reserved.is_none() && self.find(account, region, function).is_none() {
            return;
        }
        let account = self.account(account, region);
        let function = account.function(function);
        // One writer at a time, so that the sum stays the sum.
        let _functions = write(&account.functions);
        let after = reserved.map_or(UNRESERVED, u64::from);
        let before = function.reserved.swap(after, Ordering::Relaxed);
        let amount = |reserved: u64| u32::try_from(reserved).unwrap_or(0);
        let sum = account.reserved_sum.load(Ordering::Relaxed) - amount(before) + amount(after);
        account.reserved_sum.store(sum, Ordering::Relaxed);
    }

    /// Lets one invocation in, or says why not. Never waits.
    pub fn admit(
        &self,
        account: &AccountId,
        region: &Region,
        function: &FunctionName,
        now: Instant,
    ) -> Result<Permit, Throttle> {
        let function = match self.find(account, region, function) {
            Some(function) => function,
            None => self.account(account, region).function(function),
        };
        let reserved = u32::try_from(function.reserved.load(Ordering::Relaxed)).ok();
        let permit = match reserved {
            Some(reserved) => Permit::reserved(function, reserved)?,
            None => Permit::of_pool(function, self.limits.concurrency)?,
        };
        // From here on, leaving gives back.
        if self.limits.rate == RateRule::TenPerConcurrency {
            let function = &permit.function;
            let (rate, concurrency, reason) = match reserved {
                Some(reserved) => (
                    &function.rate,
                    reserved,
                    ThrottleReason::ReservedFunctionInvocationRateLimitExceeded,
                ),
                None => (
                    &function.account.rate,
                    self.limits.concurrency,
                    ThrottleReason::FunctionInvocationRateLimitExceeded,
                ),
            };
            let now = now.saturating_duration_since(self.began);
            let per_sec = concurrency.saturating_mul(REQUESTS_PER_SEC_PER_CONCURRENCY);
            rate.take(now, per_sec)
                .map_err(|wait| Throttle { reason, retry_after_secs: Some(whole_secs(wait)) })?;
        }
        Ok(permit)
    }

    pub fn in_use(&self, account: &AccountId, region: &Region) -> InUse {
        let accounts = read(&self.accounts);
        let account = accounts.get(account).and_then(|regions| regions.get(region));
        account.map_or(InUse::default(), |account| account.in_use.now())
    }

    fn find(
        &self,
        account: &AccountId,
        region: &Region,
        function: &FunctionName,
    ) -> Option<Arc<Function>> {
        let accounts = read(&self.accounts);
        let account = accounts.get(account)?.get(region)?;
        let functions = read(&account.functions);
        functions.by_name.get(function).cloned()
    }

    fn account(&self, account: &AccountId, region: &Region) -> Arc<Account> {
        let mut accounts = write(&self.accounts);
        let regions = accounts.entry(account.clone()).or_default();
        regions.entry(region.clone()).or_insert_with(|| Arc::new(Account::new())).clone()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        // Functions lead back to their account.
        for account in read(&self.accounts).values().flat_map(HashMap::values) {
            write(&account.functions).by_name.clear();
        }
    }
}

impl Account {
    fn new() -> Account {
        Account {
            in_use: Count::default(),
            reserved_sum: AtomicU32::new(0),
            rate: Rate::default(),
            functions: RwLock::new(Functions {
                by_name: HashMap::new(),
                prune_at: FUNCTIONS_KEPT_MIN,
            }),
        }
    }

    fn function(self: &Arc<Self>, name: &FunctionName) -> Arc<Function> {
        let mut functions = write(&self.functions);
        if let Some(function) = functions.by_name.get(name) {
            return function.clone();
        }
        if functions.by_name.len() >= functions.prune_at {
            // Whoever else holds one holds it for a call, or is about to: a
            // function that only the map knows has no call under way.
            functions.by_name.retain(|_, function| {
                Arc::strong_count(function) > 1
                    || function.reserved.load(Ordering::Relaxed) != UNRESERVED
            });
            functions.prune_at = (functions.by_name.len() * 2).max(FUNCTIONS_KEPT_MIN);
        }
        let function = Arc::new(Function {
            account: self.clone(),
            in_use: AtomicU32::new(0),
            reserved: AtomicU64::new(UNRESERVED),
            rate: Rate::default(),
        });
        functions.by_name.insert(name.clone(), function.clone());
        function
    }
}

impl Throttle {
    fn of(reason: ThrottleReason) -> Throttle {
        Throttle { reason, retry_after_secs: None }
    }
}

impl Permit {
    fn reserved(function: Arc<Function>, reserved: u32) -> Result<Permit, Throttle> {
        if !take_below(&function.in_use, reserved) {
            return Err(Throttle::of(
                ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded,
            ));
        }
        function.account.in_use.take();
        Ok(Permit { function, from: Source::Reservation })
    }

    fn of_pool(function: Arc<Function>, limit: u32) -> Result<Permit, Throttle> {
        let account = &function.account;
        let pool = limit.saturating_sub(account.reserved_sum.load(Ordering::Relaxed));
        if !account.in_use.take_from_pool(pool, limit) {
            return Err(Throttle::of(ThrottleReason::ConcurrentInvocationLimitExceeded));
        }
        function.in_use.fetch_add(1, Ordering::Relaxed);
        Ok(Permit { function, from: Source::Pool })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.function.in_use.fetch_sub(1, Ordering::Relaxed);
        self.function.account.in_use.give_back(self.from);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Pool and total in one word, so that both are compared and changed at once.
#[derive(Debug, Default)]
struct Count(AtomicU64);

/// One call of the total; one of the pool is that and one more in the high
/// half.
const ONE: u64 = 1;
const ONE_OF_POOL: u64 = (1 << 32) | ONE;

impl Count {
    /// A reserved call is always let in: its place was carved out. Only while
    /// calls from before the reservation still run, the total may be higher
    /// than the limit; the pool then waits.
    fn take(&self) {
        self.0.fetch_add(ONE, Ordering::Relaxed);
    }

    fn take_from_pool(&self, pool_max: u32, total_max: u32) -> bool {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let InUse { pool, total } = split(word);
            (pool < pool_max && total < total_max).then_some(word + ONE_OF_POOL)
        });
        taken.is_ok()
    }

    fn give_back(&self, from: Source) {
        let one = match from {
            Source::Pool => ONE_OF_POOL,
            Source::Reservation => ONE,
        };
        self.0.fetch_sub(one, Ordering::Relaxed);
    }

    fn now(&self) -> InUse {
        split(self.0.load(Ordering::Relaxed))
    }
}

fn split(word: u64) -> InUse {
    InUse { pool: (word >> 32) as u32, total: word as u32 }
}

fn take_below(count: &AtomicU32, limit: u32) -> bool {
    let taken = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
        (count < limit).then_some(count + 1)
    });
    taken.is_ok()
}

/// A token bucket as one number: the time at which it would be full again
/// (the generic cell rate algorithm).
#[derive(Debug, Default)]
struct Rate(AtomicU64);

impl Rate {
    /// Takes a token, or says how long until there is one. `now` counts from
    /// any fixed moment.
    fn take(&self, now: Duration, per_sec: u32) -> Result<(), Duration> {
        let now = nanos(now);
        let step = 1_000_000_000 / u64::from(per_sec.max(1));
        let mut wait = 0;
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let next = full_at.max(now) + step;
            wait = (next - now).saturating_sub(nanos(BURST));
            (wait == 0).then_some(next)
        });
        taken.map(drop).map_err(|_| Duration::from_nanos(wait))
    }
}

fn nanos(duration: Duration) -> u64 {
    // 584 years.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Rounded up, and never "at once".
fn whole_secs(wait: Duration) -> u32 {
    let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(secs).unwrap_or(u32::MAX).max(1)
}

// A panic while one of these locks was held cannot have left a map half
// changed: each change is one insert or retain.

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

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
            self.admission.admit(&self.account, &self.region, &function, self.now)
        }

        fn reserve(&self, function: &str, reserved: Option<u32>) {
            let function = FunctionName::new(function);
            self.admission.reserve(&self.account, &self.region, &function, reserved);
        }

        fn in_use(&self) -> InUse {
            self.admission.in_use(&self.account, &self.region)
        }

        /// How many calls get in, all held, and why the next does not.
        fn fill(&self, function: &str) -> (Vec<Permit>, ThrottleReason) {
            let mut held = Vec::new();
            loop {
                match self.admit(function) {
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
        assert_eq!(desk.in_use(), InUse { pool: 6, total: 10 });
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

        assert!(desk.admission.admit(&account, &desk.region, &f, desk.now).is_ok());
        assert!(desk.admission.admit(&desk.account, &region, &f, desk.now).is_ok());
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
        assert_eq!(desk.in_use(), InUse::default());
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
        assert_eq!(desk.in_use(), InUse::default());
    }

    #[test]
    fn a_permit_travels_as_a_hold() {
        let desk = Desk::of(1, RateRule::Unlimited);
        let hold: lamu_link::Hold = Box::new(desk.admit("f").unwrap());
        assert!(desk.admit("f").is_err());

        thread::spawn(move || drop(hold)).join().unwrap();

        assert!(desk.admit("f").is_ok());
    }
}

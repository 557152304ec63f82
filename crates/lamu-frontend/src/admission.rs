//! Who may run how much at once, and how fast: the concurrency of an account
//! in a region, what functions have claimed of it, and the rule of ten
//! requests a second for each unit of concurrency ("Concurrency and
//! throttling" of the invocation reference).
//!
//! ```text
//! account limit 1,000 = reserved by f (100) + reserved by g (0)
//!                     + provisioned for h, which reserves nothing (50)
//!                     + pool (850)
//! ```
//!
//! What is provisioned for a version is its calls' own: they are let in when
//! the pool is empty. What is provisioned for a function that reserves is part
//! of the reservation.
//!
//! Counting is exact: never above a limit, never refused while there is room.
//! A permit lasts until the invocation's END, not until its answer.
//!
//! Not here: the 429 itself (`error`), who keeps the claims (the function
//! documents; `claim` is told of them), the rate of new environments
//! (`lamu_fleet`).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use lamu_api::ThrottleReason;
use lamu_model::{ACCOUNT_CONCURRENCY_DEFAULT, AccountId, FunctionName, Region, Version};

use crate::rate::{Rate, whole_secs};

/// Requests a second for each unit of concurrency.
pub const REQUESTS_PER_SEC_PER_CONCURRENCY: u32 = 10;

/// Functions of an account remembered before those without calls and without
/// claims are forgotten.
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

/// What a function has claimed of its account's concurrency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub reserved: Option<u32>,
    pub provisioned: Vec<Provisioned>,
}

/// The provisioned concurrency of one version or alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    pub qualifier: String,
    pub count: u32,
    /// Whose calls use it: one, or the two between which an alias divides.
    pub versions: Vec<u64>,
}

impl Claims {
    /// What of it no other function can use.
    pub fn concurrency(&self) -> u32 {
        self.reserved.unwrap_or_else(|| self.provisioned_sum())
    }

    pub fn provisioned_sum(&self) -> u32 {
        self.provisioned.iter().fold(0, |sum, one| sum.saturating_add(one.count))
    }
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
    /// Those that nothing was claimed for.
    pub pool: u32,
    pub total: u32,
    /// AWS's ClaimedAccountConcurrency: the pool's, and all that is claimed.
    pub claimed: u32,
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
    /// Of all functions' claims.
    claimed: AtomicU32,
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
    /// All its calls but those in provisioned places, whether reserved or from
    /// the pool, so that a reservation made while calls run counts them.
    in_use: AtomicU32,
    /// A `u32`, or `UNRESERVED`.
    reserved: AtomicU64,
    /// Of all its places; most functions have none, and then nobody looks.
    provisioned: AtomicU32,
    places: RwLock<Vec<Place>>,
    /// A room was taken away or made smaller, and calls may still be in it.
    crowded: AtomicBool,
    rate: Rate,
}

/// Where the calls of some versions find room.
#[derive(Clone, Debug)]
struct Place {
    versions: Vec<u64>,
    room: Arc<Room>,
}

/// Stays the same while its configuration changes, so that no call is counted
/// twice or not at all.
#[derive(Debug)]
struct Room {
    qualifier: String,
    count: AtomicU32,
    in_use: AtomicU32,
    rate: Rate,
}

const UNRESERVED: u64 = u64::MAX;

#[derive(Debug)]
enum Source {
    Pool,
    Reservation,
    Provisioned(Arc<Room>),
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

    /// What the function has claimed from now on; nothing when it was deleted.
    /// Calls under way are not touched.
    pub fn claim(
        &self,
        account: &AccountId,
        region: &Region,
        function: &FunctionName,
        claims: &Claims,
    ) {
        if *claims == Claims::default() && self.find(account, region, function).is_none() {
            return;
        }
        let account = self.account(account, region);
        let function = account.function(function);
        // One writer at a time, so that the sum stays the sum.
        let _functions = write(&account.functions);
        let before = function.claimed();
        function.reserved.store(claims.reserved.map_or(UNRESERVED, u64::from), Ordering::Relaxed);
        function.provide(&claims.provisioned);
        let sum = account.claimed.load(Ordering::Relaxed) - before;
        account.claimed.store(sum.saturating_add(function.claimed()), Ordering::Relaxed);
    }

    /// Lets one invocation in, or says why not. Never waits.
    pub fn admit(
        &self,
        account: &AccountId,
        region: &Region,
        function: &FunctionName,
        version: Version,
        now: Instant,
    ) -> Result<Permit, Throttle> {
        let function = match self.find(account, region, function) {
            Some(function) => function,
            None => self.account(account, region).function(function),
        };
        let now = now.saturating_duration_since(self.began);
        let rate = |rate: &Rate, concurrency: u32| match self.limits.rate {
            RateRule::TenPerConcurrency => {
                rate.take(now, concurrency.saturating_mul(REQUESTS_PER_SEC_PER_CONCURRENCY))
            }
            RateRule::Unlimited => Ok(()),
        };
        let reserved = u32::try_from(function.reserved.load(Ordering::Relaxed)).ok();
        let room = function.room(version);
        let of_function = function.clone();
        let _in_turn = match reserved {
            Some(reserved) => of_function.within(reserved)?,
            None => None,
        };
        if let Some(room) = room {
            let count = room.count.load(Ordering::Relaxed);
            if let Some(permit) = Permit::provisioned(&function, room, count)
                && let Source::Provisioned(room) = &permit.from
                && rate(&room.rate, count).is_ok()
            {
                return Ok(permit);
            }
            // The rest spills over.
        }
        let permit = match reserved {
            Some(reserved) => Permit::reserved(function, reserved)?,
            None => Permit::of_pool(function, self.limits.concurrency)?,
        };
        // From here on, leaving gives back.
        let function = &permit.function;
        let taken = match reserved {
            Some(reserved) => rate(&function.rate, reserved).map_err(|wait| {
                (wait, ThrottleReason::ReservedFunctionInvocationRateLimitExceeded)
            }),
            None => rate(&function.account.rate, self.limits.concurrency)
                .map_err(|wait| (wait, ThrottleReason::FunctionInvocationRateLimitExceeded)),
        };
        match taken {
            Ok(()) => Ok(permit),
            Err((wait, reason)) => {
                Err(Throttle { reason, retry_after_secs: Some(whole_secs(wait)) })
            }
        }
    }

    pub fn in_use(&self, account: &AccountId, region: &Region) -> InUse {
        let accounts = read(&self.accounts);
        let account = accounts.get(account).and_then(|regions| regions.get(region));
        account.map_or(InUse::default(), |account| account.now())
    }

    /// Of every account and region that ever had a call or a claim.
    pub fn census(&self) -> Vec<(AccountId, Region, InUse)> {
        let accounts = read(&self.accounts);
        let rows = accounts.iter().flat_map(|(account, regions)| {
            regions.iter().map(|(region, row)| (account.clone(), region.clone(), row.now()))
        });
        rows.collect()
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
            claimed: AtomicU32::new(0),
            rate: Rate::default(),
            functions: RwLock::new(Functions {
                by_name: HashMap::new(),
                prune_at: FUNCTIONS_KEPT_MIN,
            }),
        }
    }

    fn now(&self) -> InUse {
        let (pool, total) = self.in_use.now();
        InUse { pool, total, claimed: pool.saturating_add(self.claimed.load(Ordering::Relaxed)) }
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
                    || function.provisioned.load(Ordering::Relaxed) > 0
            });
            functions.prune_at = (functions.by_name.len() * 2).max(FUNCTIONS_KEPT_MIN);
        }
        let function = Arc::new(Function {
            account: self.clone(),
            in_use: AtomicU32::new(0),
            reserved: AtomicU64::new(UNRESERVED),
            provisioned: AtomicU32::new(0),
            places: RwLock::default(),
            crowded: AtomicBool::new(false),
            rate: Rate::default(),
        });
        functions.by_name.insert(name.clone(), function.clone());
        function
    }
}

impl Function {
    fn claimed(&self) -> u32 {
        let reserved = u32::try_from(self.reserved.load(Ordering::Relaxed));
        reserved.unwrap_or_else(|_| self.provisioned.load(Ordering::Relaxed))
    }

    /// Rooms keep their calls from one configuration to the next. One that is
    /// no longer wanted stays, with room for nobody, while calls are in it:
    /// they are part of what is reserved.
    fn provide(&self, provisioned: &[Provisioned]) {
        let mut places = write(&self.places);
        let mut sum = 0_u32;
        let mut crowded = false;
        let after = provisioned.iter().map(|one| {
            sum = sum.saturating_add(one.count);
            let known = places.iter().find(|place| place.room.qualifier == one.qualifier);
            let room = known.map_or_else(
                || Arc::new(Room::new(one.qualifier.clone())),
                |place| place.room.clone(),
            );
            crowded |= room.count.swap(one.count, Ordering::Relaxed) > one.count;
            Place { versions: one.versions.clone(), room }
        });
        let after: Vec<Place> = after.collect();
        let mut emptied = std::mem::replace(&mut *places, after);
        emptied.retain(|place| {
            let goes_on = places.iter().any(|kept| Arc::ptr_eq(&kept.room, &place.room));
            // Who else holds it has a call in it, or is about to.
            !goes_on && Arc::strong_count(&place.room) > 1
        });
        for place in &mut emptied {
            place.versions.clear();
            place.room.count.store(0, Ordering::Relaxed);
        }
        crowded |= !emptied.is_empty();
        places.append(&mut emptied);
        if crowded {
            self.crowded.store(true, Ordering::Relaxed);
        }
        self.provisioned.store(sum, Ordering::Relaxed);
    }

    /// While calls are in rooms that were taken away or made smaller, the whole
    /// function is counted, one call at a time: what is returned is held until
    /// the call is in.
    fn within(&self, reserved: u32) -> Result<Option<RwLockWriteGuard<'_, Vec<Place>>>, Throttle> {
        if !self.crowded.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut places = write(&self.places);
        places.retain(|place| {
            place.room.count.load(Ordering::Relaxed) > 0 || Arc::strong_count(&place.room) > 1
        });
        let mut total = self.in_use.load(Ordering::Relaxed);
        let mut crowded = false;
        for Place { room, .. } in &*places {
            let (count, in_use) =
                (room.count.load(Ordering::Relaxed), room.in_use.load(Ordering::Relaxed));
            total = total.saturating_add(in_use);
            crowded |= count == 0 || in_use > count;
        }
        self.crowded.store(crowded, Ordering::Relaxed);
        match total < reserved {
            true => Ok(Some(places)),
            false => {
                Err(Throttle::of(ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded))
            }
        }
    }

    fn room(&self, version: Version) -> Option<Arc<Room>> {
        if self.provisioned.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let Version::Number(number) = version else { return None };
        let places = read(&self.places);
        let mine = places.iter().find(|place| place.versions.contains(&number))?;
        Some(mine.room.clone())
    }
}

impl Room {
    fn new(qualifier: String) -> Room {
        let (count, in_use) = (AtomicU32::new(0), AtomicU32::new(0));
        Room { qualifier, count, in_use, rate: Rate::default() }
    }
}

impl Throttle {
    fn of(reason: ThrottleReason) -> Throttle {
        Throttle { reason, retry_after_secs: None }
    }
}

impl Permit {
    fn provisioned(function: &Arc<Function>, room: Arc<Room>, count: u32) -> Option<Permit> {
        if !take_below(&room.in_use, count) {
            return None;
        }
        function.account.in_use.take();
        Some(Permit { function: function.clone(), from: Source::Provisioned(room) })
    }

    fn reserved(function: Arc<Function>, reserved: u32) -> Result<Permit, Throttle> {
        // What is provisioned is kept for its versions.
        let shared = reserved.saturating_sub(function.provisioned.load(Ordering::Relaxed));
        if !take_below(&function.in_use, shared) {
            return Err(Throttle::of(
                ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded,
            ));
        }
        function.account.in_use.take();
        Ok(Permit { function, from: Source::Reservation })
    }

    fn of_pool(function: Arc<Function>, limit: u32) -> Result<Permit, Throttle> {
        let account = &function.account;
        let pool = limit.saturating_sub(account.claimed.load(Ordering::Relaxed));
        if !account.in_use.take_from_pool(pool, limit) {
            return Err(Throttle::of(ThrottleReason::ConcurrentInvocationLimitExceeded));
        }
        function.in_use.fetch_add(1, Ordering::Relaxed);
        Ok(Permit { function, from: Source::Pool })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let of_account = &self.function.account.in_use;
        match &self.from {
            Source::Provisioned(room) => {
                room.in_use.fetch_sub(1, Ordering::Relaxed);
                of_account.give_back(ONE);
            }
            Source::Reservation => {
                self.function.in_use.fetch_sub(1, Ordering::Relaxed);
                of_account.give_back(ONE);
            }
            Source::Pool => {
                self.function.in_use.fetch_sub(1, Ordering::Relaxed);
                of_account.give_back(ONE_OF_POOL);
            }
        }
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
    /// A call with a claim is always let in: its place was carved out. Only
    /// while calls from before the claim still run, the total may be higher
    /// than the limit; the pool then waits.
    fn take(&self) {
        self.0.fetch_add(ONE, Ordering::Relaxed);
    }

    fn take_from_pool(&self, pool_max: u32, total_max: u32) -> bool {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (pool, total) = split(word);
            (pool < pool_max && total < total_max).then_some(word + ONE_OF_POOL)
        });
        taken.is_ok()
    }

    fn give_back(&self, one: u64) {
        self.0.fetch_sub(one, Ordering::Relaxed);
    }

    fn now(&self) -> (u32, u32) {
        split(self.0.load(Ordering::Relaxed))
    }
}

/// Of the pool, and in all.
fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn take_below(count: &AtomicU32, limit: u32) -> bool {
    let taken = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
        (count < limit).then_some(count + 1)
    });
    taken.is_ok()
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
mod tests;

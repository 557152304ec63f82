//! How often one account may ask the control plane in a region: 15 requests a
//! second over all operations, 100 for GetFunction and 15 for GetPolicy, each
//! counted by itself ("Wire protocol" of the API reference).
//!
//! Off unless asked for: one's own machine serves its own user as fast as it
//! can.
//!
//! Not here: invocations (`admission`).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use lamu_api::Operation;
use lamu_model::{AccountId, Region};

use crate::function::resolve::Caller;
use crate::rate::{Rate, whole_secs};

/// Whether callers are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerRate {
    Unlimited,
    Lambda,
}

/// Callers remembered. Without keys anyone may say to be any account; the
/// rest then shares one count.
const CALLERS_MAX: usize = 4_096;

#[derive(Debug)]
pub struct Callers {
    rule: CallerRate,
    began: Instant,
    rates: RwLock<HashMap<(AccountId, Region), Arc<Rates>>>,
    rest: Arc<Rates>,
}

#[derive(Debug, Default)]
struct Rates {
    get_function: Rate,
    get_policy: Rate,
    others: Rate,
}

impl Callers {
    pub fn new(rule: CallerRate, now: Instant) -> Callers {
        Callers { rule, began: now, rates: RwLock::default(), rest: Arc::default() }
    }

    /// Counts a request, or says after how many seconds to ask again.
    pub fn take(&self, caller: &Caller, operation: Operation, now: Instant) -> Result<(), u32> {
        if self.rule == CallerRate::Unlimited {
            return Ok(());
        }
        let rates = self.rates(caller);
        let (rate, per_sec) = match operation {
            Operation::GetFunction => (&rates.get_function, 100),
            Operation::GetPolicy => (&rates.get_policy, 15),
            _ => (&rates.others, 15),
        };
        rate.take(now.saturating_duration_since(self.began), per_sec).map_err(whole_secs)
    }

    fn rates(&self, caller: &Caller) -> Arc<Rates> {
        let key = (caller.account.clone(), caller.region.clone());
        let known = self.rates.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(rates) = known.get(&key) {
            return rates.clone();
        }
        drop(known);
        let mut rates = self.rates.write().unwrap_or_else(PoisonError::into_inner);
        if rates.len() >= CALLERS_MAX && !rates.contains_key(&key) {
            return self.rest.clone();
        }
        rates.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn caller(account: &str) -> Caller {
        Caller { account: AccountId::new(account), region: Region::new("us-east-1") }
    }

    #[test]
    fn a_caller_has_lambdas_rates_and_each_is_its_own() {
        let begun = Instant::now();
        let callers = Callers::new(CallerRate::Lambda, begun);
        let at_once = |account: &str, operation, now| {
            let caller = caller(account);
            (0..500).take_while(|_| callers.take(&caller, operation, now).is_ok()).count()
        };
        assert_eq!(at_once("1", Operation::ListFunctions, begun), 15);
        assert_eq!(at_once("1", Operation::CreateFunction, begun), 0, "summed over operations");
        assert_eq!(at_once("1", Operation::GetFunction, begun), 100);
        assert_eq!(at_once("1", Operation::GetPolicy, begun), 15);
        assert_eq!(at_once("2", Operation::ListFunctions, begun), 15, "another account");
        assert_eq!(callers.take(&caller("1"), Operation::ListTags, begun), Err(1));
        let later = begun + Duration::from_secs(1);
        assert_eq!(at_once("1", Operation::ListFunctions, later), 15);
    }

    #[test]
    fn without_the_rule_nobody_is_counted() {
        let callers = Callers::new(CallerRate::Unlimited, Instant::now());
        let now = Instant::now();
        assert!((0..1_000).all(|_| callers.take(&caller("1"), Operation::GetAlias, now).is_ok()));
        assert!(callers.rates.read().unwrap().is_empty());
    }

    #[test]
    fn callers_beyond_the_bound_share_a_count() {
        let callers = Callers::new(CallerRate::Lambda, Instant::now());
        let now = Instant::now();
        for n in 0..CALLERS_MAX {
            callers.take(&caller(&n.to_string()), Operation::GetAlias, now).unwrap();
        }
        let strangers = (0..100)
            .filter(|n| callers.take(&caller(&format!("x{n}")), Operation::GetAlias, now).is_ok());
        assert_eq!(strangers.count(), 15);
        assert_eq!(callers.rates.read().unwrap().len(), CALLERS_MAX);
    }
}

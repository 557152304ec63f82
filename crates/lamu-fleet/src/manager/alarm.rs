//! What the core wants to be woken for, in the order of time.

use std::collections::BTreeSet;
use std::time::Instant;

use lamu_model::{SandboxId, VersionId};

use super::line::Ticket;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// The waiter's deadline.
    Late(Ticket),
    /// The waiter has waited long enough for an environment that finishes.
    Impatient(Ticket),
    /// The start is to be tried again.
    Retry(SandboxId),
    /// The environment has reached its age.
    Old(SandboxId),
    /// The version's provisioned concurrency is to be tried again.
    Provision(VersionId),
    /// Nobody confirmed the environment's end.
    Forget(SandboxId),
}

#[derive(Debug, Default)]
pub(super) struct Alarms {
    set: BTreeSet<(Instant, Alarm)>,
}

impl Alarms {
    pub(super) fn set(&mut self, at: Instant, alarm: Alarm) {
        self.set.insert((at, alarm));
    }

    pub(super) fn clear(&mut self, at: Instant, alarm: Alarm) {
        self.set.remove(&(at, alarm));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.set.first().map(|(at, _)| *at)
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        self.set.pop_first().map(|(_, alarm)| alarm)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.set.len()
    }
}

//! The manager's settings, each bound with its reason.

use std::time::Duration;

use lamu_model::Epoch;

use super::limiter::Rate;

#[derive(Clone, Debug)]
pub struct ManagerConfig {
    /// This reign. Must be above that of every manager before; nanoseconds
    /// since 1970 do.
    pub epoch: Epoch,

    /// How long an environment may stay idle. AWS keeps them some five to
    /// fifteen minutes.
    pub idle_keep: Duration,
    /// No invocation begins in an environment older than this, give or take
    /// `age_jitter`: leaks of functions and stale hosts' files end with it.
    /// Provisioned ones serve on until a fresh one stands in their place.
    pub age_max: Duration,
    /// Spread of the age, so that environments made in one burst do not all
    /// end in one.
    pub age_jitter: Duration,
    /// Idle environments in all but the provisioned; the least recently used goes first. Bounds
    /// memory when no host ever reports itself full.
    pub idle_max: usize,

    /// Calls that may wait in all. Admission lets at most the account's
    /// concurrency (1,000) in, so this is ten accounts at their limit.
    pub waiting_max: usize,
    /// How long a call waits for an environment that has answered and only
    /// lacks the runtime's next request. That takes some 0.1 ms, a boot takes
    /// milliseconds: waiting longer than this means it will not come.
    pub patience: Duration,

    /// Boots in flight in all. Far above what a host's cores can do at once,
    /// since an Init may sleep its ten seconds away and must not keep others
    /// from starting.
    pub starts_max: usize,
    /// Boots in flight for one version, so that one cannot take all.
    pub starts_per_version_max: usize,
    /// New environments of one function, made on demand. Lambda's own rate.
    pub scaling: Rate,

    /// Boots in flight for provisioned concurrency, in all and for one
    /// version. Apart from the others, since an Init of minutes must not hold
    /// up calls; few, since nobody waits for any single one.
    pub provisions_max: usize,
    pub provisions_per_version_max: usize,
    /// Environments that one function's provisioned concurrency may be given.
    /// Lambda's own rate.
    pub provisioning: Rate,
    /// Before provisioned concurrency that failed is tried again; doubles up
    /// to the maximum, so that a function whose Init always fails is run once
    /// a minute and no more.
    pub provision_pause: Duration,
    pub provision_pause_max: Duration,

    /// Tries for one environment, each on another host where there is one.
    pub attempts_max: u32,
    /// Before the second try; doubles with each.
    pub retry_pause: Duration,
    /// A host that has not chosen by then is not there.
    pub place_wait_max: Duration,
    /// Unpacking the largest package and Init's ten seconds, with room.
    /// Provisioned concurrency has as much more as its Init may take longer.
    pub boot_wait_max: Duration,

    /// How long a call waits for room on full hosts: long enough for an
    /// eviction and for most invocations to end, short enough that the caller
    /// may still retry within its own timeout.
    pub room_wait_max: Duration,
    /// Between two looks for room; doubles up to eight times this.
    pub room_pause: Duration,
    /// After an eviction its room is awaited this long before another idle
    /// environment has to go.
    pub evict_pause: Duration,

    /// A start that found no room and nothing idle for this long gets the next
    /// environment of another version that comes back, so that a busy version
    /// cannot keep full hosts to itself.
    pub room_claim_after: Duration,

    /// An ended environment that no worker confirms is forgotten after this.
    pub drain_keep: Duration,
    /// How long workers may take to report at the start of a reign; those
    /// that take longer are adopted when they answer.
    pub adopt_wait_max: Duration,
}

impl ManagerConfig {
    pub fn new(epoch: Epoch) -> ManagerConfig {
        ManagerConfig {
            epoch,
            idle_keep: Duration::from_secs(600),
            age_max: Duration::from_secs(7_200),
            age_jitter: Duration::from_secs(600),
            idle_max: 4_096,
            waiting_max: 10_000,
            patience: Duration::from_millis(3),
            starts_max: 128,
            starts_per_version_max: 64,
            scaling: Rate { burst: 1_000, per: Duration::from_secs(10) },
            provisions_max: 32,
            provisions_per_version_max: 8,
            provisioning: Rate { burst: 6_000, per: Duration::from_secs(60) },
            provision_pause: Duration::from_secs(1),
            provision_pause_max: Duration::from_secs(60),
            attempts_max: 3,
            retry_pause: Duration::from_millis(10),
            place_wait_max: Duration::from_secs(2),
            boot_wait_max: Duration::from_secs(30),
            room_wait_max: Duration::from_secs(2),
            room_pause: Duration::from_millis(10),
            evict_pause: Duration::from_millis(50),
            room_claim_after: Duration::from_millis(100),
            drain_keep: Duration::from_secs(60),
            adopt_wait_max: Duration::from_secs(2),
        }
    }
}

//! What every [`Driver`] promises, as one suite that each passes.
//!
//! The init that the driver starts must write a byte to its channel as soon
//! as it runs, and then wait for the channel's end; [`crate::fake`] lets a
//! test play such an init.
//!
//! Not here: what the inside of one kind of sandbox looks like.

use std::path::PathBuf;
use std::time::Duration;

use lamu_model::{AccountId, SandboxId};
use tokio::io::AsyncReadExt;

use crate::{Driver, DriverError, Machine, SandboxSpec, ShellClass};

/// A step that takes longer than this hangs.
const STEP_SECS_MAX: u64 = 20;

/// Machines at once: more than a host has cores, as in a burst.
const MACHINES: usize = 50;

/// Runs the suite. `live` counts the driver's machines and what is left of
/// former ones (processes, cgroups), from outside the driver.
///
/// # Panics
///
/// When the driver breaks a promise.
pub async fn driver(driver: &dyn Driver, live: &(dyn Fn() -> usize + Sync)) {
    let before = live();
    a_machine_greets_and_ends(driver).await;
    freezing_and_thawing_twice_succeeds(driver).await;
    the_end_of_a_machine_that_is_gone_succeeds(driver).await;
    use_never_runs_backwards(driver).await;
    a_dropped_machine_is_ended(driver, live, before).await;
    dropped_futures_leave_nothing(driver, live, before).await;
    many_at_once(driver, live, before).await;
    settled(live, before).await;
}

async fn a_machine_greets_and_ends(driver: &dyn Driver) {
    let mut machine = start(driver).await;
    let mut channel = machine.channel.take().expect("a fresh machine has its channel");
    greeted(&mut channel).await;

    within(driver.destroy(machine.sandbox)).await.expect("destroy");

    let left = within(channel.read(&mut [0])).await;
    assert!(matches!(left, Ok(0) | Err(_)), "the channel ends with the machine: {left:?}");
}

async fn freezing_and_thawing_twice_succeeds(driver: &dyn Driver) {
    let mut machine = start(driver).await;
    greeted(machine.channel.as_mut().expect("channel")).await;
    for _ in 0..2 {
        within(driver.freeze(machine.sandbox)).await.expect("freeze");
    }
    for _ in 0..2 {
        within(driver.thaw(machine.sandbox)).await.expect("thaw");
    }
    within(driver.freeze(machine.sandbox)).await.expect("freeze again");
    // What stands still can be ended.
    within(driver.destroy(machine.sandbox)).await.expect("destroy a frozen machine");
}

async fn the_end_of_a_machine_that_is_gone_succeeds(driver: &dyn Driver) {
    let machine = start(driver).await;
    let sandbox = machine.sandbox;
    within(driver.destroy(sandbox)).await.expect("destroy");
    within(driver.destroy(sandbox)).await.expect("destroy again");
    within(driver.destroy(new_id())).await.expect("destroy what never was");

    let gone = |result: Result<(), DriverError>| {
        assert!(matches!(result, Err(DriverError::Gone { .. })), "{result:?}");
    };
    gone(within(driver.freeze(sandbox)).await);
    gone(within(driver.thaw(sandbox)).await);
    gone(driver.memory_bytes_max(sandbox).map(drop));
    gone(driver.stats(sandbox).map(drop));
    gone(driver.reset_memory_max(sandbox));
}

async fn use_never_runs_backwards(driver: &dyn Driver) {
    let mut machine = start(driver).await;
    greeted(machine.channel.as_mut().expect("channel")).await;
    let mut last = driver.stats(machine.sandbox).expect("stats");
    for _ in 0..10 {
        let now = driver.stats(machine.sandbox).expect("stats");
        assert!(now.cpu_ns >= last.cpu_ns, "{last:?} {now:?}");
        assert!(now.oom_kills >= last.oom_kills, "{last:?} {now:?}");
        assert!(now.memory_bytes_max >= last.memory_bytes_max, "{last:?} {now:?}");
        assert!(now.memory_bytes_max >= now.memory_bytes, "{now:?}");
        last = now;
    }
    driver.reset_memory_max(machine.sandbox).expect("reset");
    driver.hold_cpu(machine.sandbox).expect("hold CPU");
    within(driver.destroy(machine.sandbox)).await.expect("destroy");
}

async fn a_dropped_machine_is_ended(
    driver: &dyn Driver,
    live: &(dyn Fn() -> usize + Sync),
    before: usize,
) {
    let mut machine = start(driver).await;
    let mut channel = machine.channel.take().expect("channel");
    greeted(&mut channel).await;
    drop(machine);
    let left = within(channel.read(&mut [0])).await;
    assert!(matches!(left, Ok(0) | Err(_)), "{left:?}");
    settled(live, before).await;
}

async fn dropped_futures_leave_nothing(
    driver: &dyn Driver,
    live: &(dyn Fn() -> usize + Sync),
    before: usize,
) {
    // A shell nobody claims.
    drop(within(driver.prepare(&class())).await.expect("prepare"));
    // Cut off after ever more progress, so that each stage is met.
    for micros in [0u64, 20, 100, 200, 300, 400, 500, 700, 900, 1_200, 1_600, 2_200, 3_000] {
        let patience = Duration::from_micros(micros);
        let shell = match tokio::time::timeout(patience, driver.prepare(&class())).await {
            Ok(shell) => shell.expect("prepare"),
            Err(_) => within(driver.prepare(&class())).await.expect("prepare"),
        };
        let spec = spec();
        let claimed = tokio::time::timeout(patience, driver.claim(shell, &spec)).await;
        drop(claimed);
        let machine = start(driver).await;
        let cut = tokio::time::timeout(patience, driver.destroy(machine.sandbox)).await;
        drop((cut, machine));
    }
    settled(live, before).await;
}

async fn many_at_once(driver: &dyn Driver, live: &(dyn Fn() -> usize + Sync), before: usize) {
    let mut machines = Vec::new();
    for _ in 0..MACHINES {
        machines.push(start(driver).await);
    }
    assert!(live() >= before + MACHINES, "{} of {MACHINES} live", live() - before);
    for machine in &mut machines {
        greeted(machine.channel.as_mut().expect("channel")).await;
    }
    drop(machines);
    settled(live, before).await;
}

async fn start(driver: &dyn Driver) -> Machine {
    let shell = within(driver.prepare(&class())).await.expect("prepare");
    let spec = spec();
    let machine = within(driver.claim(shell, &spec)).await.expect("claim");
    assert_eq!(machine.sandbox, spec.sandbox);
    machine
}

async fn greeted(channel: &mut tokio::net::UnixStream) {
    let mut byte = [0];
    within(channel.read_exact(&mut byte)).await.expect("init's first byte");
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(STEP_SECS_MAX), future)
        .await
        .expect("a step of the driver hangs")
}

/// Waits for what happens in the background.
async fn settled(live: &(dyn Fn() -> usize + Sync), before: usize) {
    for _ in 0..STEP_SECS_MAX * 100 {
        if live() <= before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} machines or parts of them are left", live() - before);
}

fn class() -> ShellClass {
    ShellClass { account: AccountId::new("000000000000") }
}

fn spec() -> SandboxSpec {
    SandboxSpec {
        sandbox: new_id(),
        memory_mib: 128,
        cpu_millis: 1_000,
        cpu_millis_max: Some(1_000),
        init_secs_max: 10,
        pids_max: 64,
        tmp_mib: 16,
        mounts: vec![crate::Mount {
            sources: vec![PathBuf::from("/usr/share")],
            target: PathBuf::from("/var/task"),
        }],
    }
}

fn new_id() -> SandboxId {
    SandboxId(uuid::Uuid::new_v4())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use crate::fake::FakeDriver;

    #[tokio::test]
    async fn fake_driver_conforms() {
        let (fake, mut births) = FakeDriver::new();
        let counted = fake.clone();
        tokio::spawn(async move {
            while let Some(mut birth) = births.recv().await {
                tokio::spawn(async move {
                    let _ = birth.channel.write_all(b"!").await;
                    let _ = tokio::io::AsyncReadExt::read(&mut birth.channel, &mut [0]).await;
                });
            }
        });
        super::driver(&fake, &|| counted.machines().len() + counted.shells()).await;
    }
}

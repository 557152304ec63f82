//! The real loops under storms of callers that go away at any moment.
//!
//! Not here: single decisions (`manager::decisions`), the pure simulation.

mod fake;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use fake::{Chance, FakeWorker, Habits, call, calm, fleet, soon, spec};
use lamu_fleet::{Manager, ManagerConfig, Placement};
use lamu_link::{AcquireError, EnvironmentState, InvokeError, ManagerHandle, Start};
use lamu_model::{Epoch, VersionSpec};

/// Drives `future` and drops it after so many polls.
async fn for_polls<F: Future>(future: F, mut polls: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// One call as the frontend makes it.
async fn invoke(manager: &ManagerHandle, spec: &Arc<VersionSpec>) -> Result<Start, String> {
    let mut hold: lamu_link::Hold = Box::new(());
    for _ in 0..5 {
        let lease = manager.acquire(spec, soon()).await.map_err(|error| format!("{error:?}"))?;
        let start = lease.start;
        match lease.invoke(call(spec), hold).await {
            Ok(_) => return Ok(start),
            Err(InvokeError::NotStarted { hold: back, .. }) => hold = back,
            Err(InvokeError::Lost) => return Err("lost".into()),
        }
    }
    Err("never started".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_cold_once_and_warm_after() {
    let (manager, _placement, workers) = fleet(&[Habits::quick(4)], |_| {}).await;
    let spec = spec(1);

    let first = invoke(&manager, &spec).await.unwrap();
    calm(&manager).await;
    let second = invoke(&manager, &spec).await.unwrap();

    assert!(matches!(first, Start::Cold(timings) if timings.placed > Duration::ZERO));
    assert_eq!(second, Start::Warm);
    assert_eq!(workers[0].shared.boots.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_callers_that_vanish_anywhere_leaks_no_lease() {
    let habits = Habits {
        boot_max: Duration::from_millis(3),
        handler_max: Duration::from_millis(1),
        end_max: Duration::from_micros(200),
        boot_fails_one_in: 20,
        dies_one_in: 50,
        ..Habits::quick(24)
    };
    let (manager, _placement, workers) = fleet(&[habits.clone(), habits], |_| {}).await;
    let specs: Vec<_> = (1..=8).map(spec).collect();
    let chance = Arc::new(Chance::new(42));

    let mut callers = tokio::task::JoinSet::new();
    for n in 0..6_000 {
        let (manager, spec, chance) = (manager.clone(), specs[n % 8].clone(), chance.clone());
        callers.spawn(async move {
            let pause = chance.up_to(Duration::from_millis(300));
            tokio::time::sleep(pause).await;
            let one = invoke(&manager, &spec);
            match chance.below(4) {
                0 => for_polls(one, chance.below(6)).await.map(drop),
                1 => {
                    let limit = chance.up_to(Duration::from_millis(20));
                    tokio::time::timeout(limit, one).await.ok().map(drop)
                }
                2 => manager.acquire(&spec, soon()).await.ok().map(drop),
                _ => one.await.ok().map(drop),
            }
        });
    }
    let mut ended = 0;
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
        ended += 1;
    }

    assert_eq!(ended, 6_000);
    // The manager's books become the workers' truth: the last to die may be
    // told of after its lease came back.
    let living = || workers.iter().map(FakeWorker::living).sum::<usize>();
    let mut looks = 0;
    while calm(&manager).await.len() != living() {
        looks += 1;
        assert!(looks < 200, "{} known, {} living", calm(&manager).await.len(), living());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for worker in &workers {
        assert_eq!(worker.shared.broken.load(Ordering::SeqCst), 0);
    }
    // All places are usable again: none is held by a reservation or a lease.
    for spec in &specs {
        manager.retire(spec.id).await.unwrap();
    }
    while !calm(&manager).await.is_empty() {}
    let fresh = spec(99);
    let mut leases = Vec::new();
    for _ in 0..32 {
        leases.push(acquire_patiently(&manager, &fresh).await);
    }
    let busy = manager.census().await.unwrap();
    assert_eq!(busy.iter().filter(|row| row.state == EnvironmentState::Busy).count(), 32);
    drop(leases);
    calm(&manager).await;
}

/// Boots fail by chance here; a caller tries again.
async fn acquire_patiently(manager: &ManagerHandle, spec: &Arc<VersionSpec>) -> lamu_link::Lease {
    for _ in 0..20 {
        if let Ok(lease) = manager.acquire(spec, soon()).await {
            return lease;
        }
    }
    panic!("no lease in twenty tries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_one_version_is_served_by_fewer_boots_than_calls() {
    let habits = Habits { boot_max: Duration::from_millis(5), ..Habits::quick(1_000) };
    let (manager, _placement, workers) = fleet(&[habits], |_| {}).await;
    let spec = spec(1);

    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..2_000 {
        let (manager, spec) = (manager.clone(), spec.clone());
        callers.spawn(async move { invoke(&manager, &spec).await.unwrap() });
    }
    let starts = callers.join_all().await;

    // Boots that nobody waits for any more end as idle environments.
    let idle = calm(&manager).await.len();
    let boots = workers[0].shared.boots.load(Ordering::SeqCst);
    let cold = starts.iter().filter(|start| **start != Start::Warm).count();
    assert!(boots < 1_000, "{boots} boots");
    assert!(cold <= boots);
    assert_eq!(idle, boots);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_hosts_make_room_for_another_version() {
    let (manager, _placement, workers) = fleet(&[Habits::quick(4)], |_| {}).await;
    let (old, new) = (spec(1), spec(2));
    let leases = [
        manager.acquire(&old, soon()).await.unwrap(),
        manager.acquire(&old, soon()).await.unwrap(),
        manager.acquire(&old, soon()).await.unwrap(),
        manager.acquire(&old, soon()).await.unwrap(),
    ];
    drop(leases);
    calm(&manager).await;

    let lease = manager.acquire(&new, soon()).await.unwrap();

    assert_eq!(workers[0].living(), 4, "one idle environment went, one came");
    drop(lease);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_host_stays_full_the_caller_hears_it() {
    let room = Duration::from_millis(100);
    let (manager, _placement, _workers) =
        fleet(&[Habits::quick(1)], |config| config.room_wait_max = room).await;
    let _held = manager.acquire(&spec(1), soon()).await.unwrap();

    let refused = manager.acquire(&spec(2), soon()).await.unwrap_err();

    assert!(matches!(refused, AcquireError::Place(lamu_link::PlaceError::Full)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_manager_takes_over_while_calls_run() {
    let habits = Habits { handler_max: Duration::from_millis(20), ..Habits::quick(64) };
    let placement = Placement::start(7);
    let worker = FakeWorker::join("w0", habits, &placement).await;
    let workers = || vec![worker.handle.clone()];
    let reign = |epoch| ManagerConfig::new(Epoch(epoch));
    let (old, task) = Manager::new(reign(1), placement.clone(), workers());
    let task = tokio::spawn(task.run());
    let specs: Vec<_> = (1..=3).map(spec).collect();
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..30 {
        let (manager, spec) = (old.clone(), specs[n % 3].clone());
        callers.spawn(async move {
            let lease = manager.acquire(&spec, soon()).await.unwrap();
            lease.invoke(call(&spec), Box::new(())).await.map(drop)
        });
    }
    let mut ended = 0;
    while ended < 3 {
        callers.join_next().await.unwrap().unwrap().unwrap();
        ended += 1;
    }

    task.abort();
    let _ = task.await;
    let new = Manager::start(reign(2), placement, workers());
    let census = new.census().await.unwrap();
    assert!(census.iter().any(|row| row.state == EnvironmentState::Busy), "{census:?}");
    while let Some(caller) = callers.join_next().await {
        // A running call ends as if nothing had happened; one that waited at
        // the old manager is told.
        if let Err(error) = caller {
            assert!(error.is_panic());
        }
    }
    let idle = calm(&new).await;
    let boots = worker.shared.boots.load(Ordering::SeqCst);
    assert_eq!(idle.len(), worker.living());

    for spec in &specs {
        assert_eq!(invoke(&new, spec).await.unwrap(), Start::Warm);
    }
    assert_eq!(worker.shared.boots.load(Ordering::SeqCst), boots, "nothing was made anew");
    assert_eq!(worker.shared.broken.load(Ordering::SeqCst), 0);
    assert!(matches!(old.acquire(&specs[0], soon()).await, Err(AcquireError::ManagerGone)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_leaves_what_shall_stand_by_standing() {
    let habits = Habits {
        boot_max: Duration::from_millis(2),
        handler_max: Duration::from_millis(1),
        boot_fails_one_in: 20,
        init_fails_one_in: 10,
        dies_one_in: 20,
        ..Habits::quick(40)
    };
    let (manager, _placement, workers) = fleet(&[habits.clone(), habits], |config| {
        config.provision_pause = Duration::from_millis(1);
        config.provision_pause_max = Duration::from_millis(8);
        config.age_max = Duration::from_millis(40);
        config.age_jitter = Duration::from_millis(20);
    })
    .await;
    let specs: Vec<_> = (1..=4).map(spec).collect();
    let chance = Arc::new(Chance::new(7));
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..3_000 {
        let (manager, specs, chance) = (manager.clone(), specs.clone(), chance.clone());
        callers.spawn(async move {
            tokio::time::sleep(chance.up_to(Duration::from_millis(400))).await;
            let spec = &specs[n % 4];
            match chance.below(40) {
                0 => manager.provision(spec, chance.below(6) as u32).await.unwrap(),
                1 => {
                    let after = specs[chance.below(4) as usize].id;
                    manager.unprovision(spec.id, Some(after)).await.unwrap();
                }
                2..=9 => drop(for_polls(invoke(&manager, spec), chance.below(6)).await),
                _ => drop(invoke(&manager, spec).await),
            }
        });
    }
    callers.join_all().await;
    for spec in &specs {
        manager.unprovision(spec.id, None).await.unwrap();
    }
    for spec in &specs[..2] {
        manager.provision(spec, 5).await.unwrap();
    }

    let mut looks = 0;
    loop {
        let rows = manager.provisioned().await.unwrap();
        assert_eq!(rows.len(), 2);
        if rows.iter().all(|row| (row.allocated, row.available) == (5, 5)) {
            break;
        }
        looks += 1;
        assert!(looks < 2_000, "{rows:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(workers.iter().all(|worker| worker.shared.broken.load(Ordering::SeqCst) == 0));
    for spec in &specs[..2] {
        manager.unprovision(spec.id, None).await.unwrap();
    }
    for spec in &specs {
        manager.retire(spec.id).await.unwrap();
    }
    while workers.iter().any(|worker| worker.living() > 0) {
        looks += 1;
        assert!(looks < 4_000, "{:?}", manager.census().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_placement_names_first_is_adopted_first() {
    let placement = Placement::start(7);
    let worker = FakeWorker::join("w0", Habits::quick(4), &placement).await;
    let manager = Manager::start(ManagerConfig::new(Epoch(1)), placement, Vec::new());
    let spec = spec(1);

    invoke(&manager, &spec).await.unwrap();
    calm(&manager).await;
    manager.retire(spec.id).await.unwrap();

    // Its end is heard, so events reach this manager.
    while !calm(&manager).await.is_empty() {}
    assert_eq!(worker.living(), 0);
}

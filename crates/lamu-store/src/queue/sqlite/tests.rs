//! What this queue promises beyond the suite: what a restart finds, damage,
//! full disks, bounds, its calendar.

use std::sync::atomic::{AtomicU32, Ordering};

use lamu_model::RequestId;
use rusqlite::Connection;

use super::*;
use crate::conformance;
use crate::queue::SeenState;
use crate::sqlite::hold::Hold;

const SHARD: Shard = Shard(0);
const LONG: Duration = Duration::from_secs(60);

fn event(id: &str, body: impl Into<Bytes>) -> NewEvent {
    let (id, lane) = (RequestId::new(id), "lane".to_owned());
    NewEvent { id, lane, body: body.into(), delay: Duration::ZERO }
}

fn open(home: &tempfile::TempDir, limits: QueueLimits) -> SqliteQueue {
    SqliteQueue::open(home.path().join("queue.sqlite"), limits).unwrap()
}

fn two_shards() -> QueueLimits {
    QueueLimits { shards: 2, ..QueueLimits::default() }
}

async fn receive(queue: &SqliteQueue, count: usize) -> Vec<Delivery> {
    queue.receive(SHARD, count, LONG, Duration::ZERO).await.unwrap()
}

/// Runs code on the writer's connection, between two groups.
async fn on_writer(queue: &SqliteQueue, work: impl FnOnce(&Connection) + Send + 'static) {
    let (done, finished) = oneshot::channel();
    let hold = Hold::new(move |connection| {
        work(connection);
        let _ = done.send(());
    });
    queue.requests.as_ref().unwrap().send(Request::Hold(hold)).await.unwrap();
    finished.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let home = tempfile::tempdir().unwrap();
    let number = AtomicU32::new(0);
    conformance::queue(async || {
        let name = format!("{}.sqlite", number.fetch_add(1, Ordering::Relaxed));
        let queue = SqliteQueue::open(home.path().join(name), two_shards()).unwrap();
        Arc::new(queue) as Arc<dyn Queue>
    })
    .await;
}

#[tokio::test]
async fn a_restart_finds_everything_but_who_held_what() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    for id in ["a", "b", "c", "d", "e"] {
        queue.send(SHARD, event(id, "x")).await.unwrap();
    }
    // a is done with, b comes again, c is put aside, d is held, e was never
    // received.
    let held = receive(&queue, 4).await;
    queue.ack(&held[0].receipt).await.unwrap();
    queue.retry(&held[1].receipt, Duration::ZERO, Bytes::from_static(b"note")).await.unwrap();
    queue.bury(&held[2].receipt, "why").await.unwrap();
    drop(queue);

    let queue = open(&home, two_shards());

    assert_eq!(queue.backlog(SHARD), 3);
    // b fell due again a moment later than the others.
    let mut found = Vec::new();
    while found.len() < 3 {
        for delivery in queue.receive(SHARD, 10, LONG, LONG).await.unwrap() {
            found.push((delivery.event.id.to_string(), delivery.event.note));
        }
    }
    found.sort();
    let note = |id: &str, note: &'static [u8]| (id.to_owned(), Bytes::from_static(note));
    assert_eq!(found, [note("b", b"note"), note("d", b""), note("e", b"")]);
    let dead = queue.look(Which::Dead, None, None, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(matches!(&dead[0].state, SeenState::Dead { why, .. } if why == "why"));
}

#[tokio::test]
async fn fewer_shards_than_before_strand_nothing() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, QueueLimits { shards: 5, ..QueueLimits::default() });
    for shard in 0..5 {
        queue.send(Shard(shard), event(&shard.to_string(), "x")).await.unwrap();
    }
    drop(queue);
    let queue = open(&home, two_shards());
    assert_eq!((queue.backlog(Shard(0)), queue.backlog(Shard(1))), (3, 2));
    assert_eq!(receive(&queue, 10).await.len(), 3);
}

#[tokio::test]
async fn a_damaged_event_is_put_aside_and_holds_up_nobody() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    queue.send(SHARD, event("a", "what was sent")).await.unwrap();
    queue.send(SHARD, event("b", "x")).await.unwrap();
    on_writer(&queue, |connection| {
        let changed = connection.execute("UPDATE body SET body = x'00' WHERE event = 1", []);
        assert_eq!(changed.unwrap(), 1);
    })
    .await;

    let received = receive(&queue, 10).await;

    assert_eq!(received.len(), 1);
    assert_eq!(received[0].event.id.as_str(), "b");
    let dead = queue.look(Which::Dead, None, None, 10).await.unwrap();
    assert!(
        matches!(&dead[0].state, SeenState::Dead { why, .. } if why.contains("not what was sent"))
    );
}

#[tokio::test]
async fn an_event_without_its_body_is_put_aside_and_seen_as_damaged() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    for id in ["a", "b", "c"] {
        queue.send(SHARD, event(id, "x")).await.unwrap();
    }
    on_writer(&queue, |connection| {
        assert_eq!(connection.execute("DELETE FROM body WHERE event = 1", []).unwrap(), 1);
        let flipped = "UPDATE body SET body = x'00' WHERE event = 3";
        assert_eq!(connection.execute(flipped, []).unwrap(), 1);
    })
    .await;
    let looked = async |which| -> Vec<(String, bool)> {
        let seen = queue.look(which, None, None, 10).await.unwrap();
        seen.into_iter().map(|seen| (seen.event.id.to_string(), seen.damaged)).collect()
    };
    let entry = |id: &str, damaged| (id.to_owned(), damaged);
    assert_eq!(looked(Which::Live).await, [entry("a", true), entry("b", false), entry("c", true)]);

    assert_eq!(receive(&queue, 10).await.len(), 1);

    assert_eq!(looked(Which::Live).await, [entry("b", false)]);
    assert_eq!(looked(Which::Dead).await, [entry("a", true), entry("c", true)]);
    let depth = queue.depths().await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.held, depth.dead), (0, 1, 2));
    assert_eq!(queue.backlog(SHARD), 1);
}

#[test]
fn a_file_that_is_damaged_or_not_ours_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("queue.sqlite");
    std::fs::write(&path, [7; 8192]).unwrap();
    let error = SqliteQueue::open(&path, two_shards()).unwrap_err();
    assert!(matches!(error, QueueError::Damaged { .. }), "{error}");

    let metadata = home.path().join("metadata.sqlite");
    drop(crate::SqliteMetadata::open(&metadata).unwrap());
    let error = SqliteQueue::open(&metadata, two_shards()).unwrap_err();
    assert!(matches!(error, QueueError::Invalid { .. }), "{error}");
}

#[test]
fn one_process_opens_it_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let first = open(&home, two_shards());
    let error = SqliteQueue::open(home.path().join("queue.sqlite"), two_shards()).unwrap_err();
    assert!(matches!(error, QueueError::Unavailable { .. }), "{error}");
    drop(first);
    open(&home, two_shards());
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    queue.send(SHARD, event("kept", "x")).await.unwrap();
    on_writer(&queue, |connection| {
        let pages: i64 =
            connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update_and_check(None, "max_page_count", pages + 4, |_| Ok(())).unwrap();
    })
    .await;

    let large = vec![b'x'; 64 << 10];
    let refused = queue.send(SHARD, event("large", large.clone())).await.unwrap_err();
    assert!(matches!(refused, QueueError::Unavailable { .. }), "{refused}");

    on_writer(&queue, |connection| {
        connection
            .pragma_update_and_check(None, "max_page_count", i64::from(i32::MAX), |_| Ok(()))
            .unwrap();
    })
    .await;
    queue.send(SHARD, event("large", large)).await.unwrap();
    let received = receive(&queue, 10).await;
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].event.id.as_str(), "kept");
}

#[tokio::test]
async fn its_bytes_and_its_dead_are_bounded() {
    let home = tempfile::tempdir().unwrap();
    let limits = QueueLimits { bytes_max: 12_000, dead_max: 2, ..two_shards() };
    let queue = open(&home, limits);
    queue.send(SHARD, event("a", vec![0; 11_000])).await.unwrap();
    let full = queue.send(SHARD, event("b", vec![0; 1_000])).await.unwrap_err();
    assert!(matches!(full, QueueError::Full { .. }), "{full}");
    let held = receive(&queue, 1).await.remove(0);
    queue.ack(&held.receipt).await.unwrap();
    for id in ["b", "c", "d"] {
        queue.send(SHARD, event(id, vec![0; 1_000])).await.unwrap();
        let held = receive(&queue, 1).await.remove(0);
        queue.bury(&held.receipt, "why").await.unwrap();
    }
    let dead = queue.look(Which::Dead, None, None, 10).await.unwrap();
    let dead: Vec<_> = dead.iter().map(|seen| seen.event.id.as_str()).collect();
    assert_eq!(dead, ["c", "d"]);
    // What the oldest took is free again, and is counted the same afresh.
    drop(queue);
    let queue = open(&home, limits);
    assert_eq!(queue.purge(Which::Dead, "lane").await.unwrap(), 2);
    queue.send(SHARD, event("e", vec![0; 11_000])).await.unwrap();
}

/// Sends an event, receives it and puts it aside.
async fn bury(queue: &SqliteQueue, id: &str, bytes: usize) {
    queue.send(SHARD, event(id, vec![0; bytes])).await.unwrap();
    let held = receive(queue, 1).await.remove(0);
    queue.bury(&held.receipt, "why").await.unwrap();
}

async fn dead(queue: &SqliteQueue) -> Vec<String> {
    let dead = queue.look(Which::Dead, None, None, 10).await.unwrap();
    dead.iter().map(|seen| seen.event.id.to_string()).collect()
}

#[tokio::test]
async fn the_dead_have_a_share_of_the_bytes_and_make_room_for_the_living() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, QueueLimits { bytes_max: 40_000, ..two_shards() });
    for id in ["a", "b", "c"] {
        bury(&queue, id, 4_000).await;
    }
    assert_eq!(dead(&queue).await, ["b", "c"], "a quarter of the bytes, the oldest gone");

    let refused = queue.send(SHARD, event("large", vec![0; 40_000])).await;
    assert!(matches!(refused, Err(QueueError::Full { .. })));
    assert_eq!(dead(&queue).await, ["b", "c"], "nothing goes for one that has no room anyway");

    queue.send(SHARD, event("d", vec![0; 34_000])).await.unwrap();
    assert_eq!(dead(&queue).await, ["c"]);
    queue.send(SHARD, event("e", vec![0; 3_000])).await.unwrap();
    assert!(dead(&queue).await.is_empty());
}

#[tokio::test]
async fn the_oldest_of_the_dead_is_the_first_that_died() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, QueueLimits { dead_max: 1, ..two_shards() });
    queue.send(SHARD, event("early", "x")).await.unwrap();
    queue.send(SHARD, event("late", "x")).await.unwrap();
    let held = receive(&queue, 2).await;
    queue.bury(&held[1].receipt, "why").await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    queue.bury(&held[0].receipt, "why").await.unwrap();
    assert_eq!(dead(&queue).await, ["early"]);
}

#[tokio::test]
async fn notes_and_reasons_count_as_long_as_they_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let limits = QueueLimits { bytes_max: 100_000, lane_bytes_max: 30_000, ..two_shards() };
    let queue = open(&home, limits);
    queue.send(SHARD, event("a", vec![0; 1_000])).await.unwrap();
    let note = |bytes| Bytes::from(vec![b'n'; bytes]);
    // Each note takes the place of the one before.
    for bytes in [25_000, 10_000, 20_000] {
        let held = queue.receive(SHARD, 1, LONG, LONG).await.unwrap().remove(0);
        queue.retry(&held.receipt, Duration::ZERO, note(bytes)).await.unwrap();
    }
    let full = async |queue: &SqliteQueue, bytes| {
        matches!(
            queue.send(Shard(1), event("b", vec![0; bytes])).await,
            Err(QueueError::Full { .. })
        )
    };
    assert!(full(&queue, 9_000).await);
    // The dead have a quarter: a reason counts among it.
    let held = queue.receive(SHARD, 1, LONG, LONG).await.unwrap().remove(0);
    queue.bury(&held.receipt, &"w".repeat(3_000)).await.unwrap();
    assert_eq!(dead(&queue).await, ["a"]);
    drop(queue);
    let queue = open(&home, limits);
    bury(&queue, "c", 1_000).await;
    assert_eq!(dead(&queue).await, ["c"], "both are more than a quarter");
    // One that lives again has left its note and its reason behind.
    assert_eq!(queue.redrive("lane").await.unwrap(), 1);
    let bytes = 30_000 - 2 * 256 - 1_000;
    assert!(full(&queue, bytes + 1).await);
    assert!(!full(&queue, bytes).await);
}

#[tokio::test]
async fn one_lane_cannot_fill_the_queue() {
    let home = tempfile::tempdir().unwrap();
    let limits = QueueLimits { bytes_max: 10_000, lane_bytes_max: 4_000, ..two_shards() };
    let queue = open(&home, limits);
    queue.send(SHARD, event("a", vec![0; 3_000])).await.unwrap();
    let full = queue.send(SHARD, event("b", vec![0; 1_000])).await.unwrap_err();
    assert!(matches!(&full, QueueError::Full { what } if what.starts_with("lane lane")), "{full}");
    let other = NewEvent { lane: "other".into(), ..event("c", vec![0; 3_000]) };
    queue.send(SHARD, other).await.unwrap();
    // What is counted is found again, and what is done with counts no more.
    drop(queue);
    let queue = open(&home, limits);
    assert!(queue.send(SHARD, event("b", vec![0; 1_000])).await.is_err());
    let held = receive(&queue, 1).await.remove(0);
    queue.ack(&held.receipt).await.unwrap();
    queue.send(SHARD, event("b", vec![0; 3_000])).await.unwrap();
}

#[tokio::test]
async fn where_all_that_may_be_is_held_receivers_wait_for_room() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, QueueLimits { held_max: 2, ..two_shards() });
    for id in ["a", "b"] {
        queue.send(SHARD, event(id, "x")).await.unwrap();
    }
    for id in ["c", "d"] {
        queue.send(Shard(1), event(id, "x")).await.unwrap();
    }
    let short = Duration::from_millis(20);
    assert_eq!(queue.receive(SHARD, 10, short, LONG).await.unwrap().len(), 2);
    // The holds of the other shard end, though nobody receives there.
    let held = queue.receive(Shard(1), 10, LONG, LONG).await.unwrap();
    assert_eq!(held.len(), 2);
    assert!(receive(&queue, 1).await.is_empty());
    // And an acknowledgement there makes room here.
    let (received, acked) =
        tokio::join!(queue.receive(SHARD, 1, LONG, LONG), queue.ack(&held[0].receipt));
    acked.unwrap();
    assert_eq!(received.unwrap()[0].event.id.as_str(), "a");
}

#[tokio::test]
async fn what_a_clock_that_was_ahead_wrote_is_put_right_at_the_next_start() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    bury(&queue, "dead", 1).await;
    queue.send(SHARD, event("a", "x")).await.unwrap();
    let year_ms = 365 * 24 * 60 * 60 * 1_000_u64;
    on_writer(&queue, move |connection| {
        for update in [
            "UPDATE event SET due_ms = due_ms + ?1, sent_ms = sent_ms + ?1",
            "UPDATE dead SET died_ms = died_ms + ?1, sent_ms = sent_ms + ?1",
        ] {
            assert_eq!(connection.execute(update, [year_ms]).unwrap(), 1);
        }
    })
    .await;
    drop(queue);

    let queue = open(&home, two_shards());

    let now_ms = Calendar::default().now_ms();
    let live = queue.look(Which::Live, None, None, 10).await.unwrap().remove(0);
    assert!(live.event.sent_ms <= now_ms);
    let latest_ms = now_ms + whole_ms(DELAY_MAX);
    assert!(matches!(live.state, SeenState::Waiting { due_ms } if due_ms <= latest_ms));
    let dead = queue.look(Which::Dead, None, None, 10).await.unwrap().remove(0);
    assert!(matches!(dead.state, SeenState::Dead { since_ms, .. } if since_ms <= now_ms));
    // It is whole all the same.
    queue.redrive("lane").await.unwrap();
    assert_eq!(receive(&queue, 10).await[0].event.id.as_str(), "dead");
}

#[tokio::test]
async fn nothing_is_put_off_for_longer_than_a_month() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    let late = NewEvent { delay: DELAY_MAX + Duration::from_secs(1), ..event("a", "x") };
    assert!(matches!(queue.send(SHARD, late).await, Err(QueueError::Invalid { .. })));
    queue.send(SHARD, NewEvent { delay: DELAY_MAX, ..event("a", "x") }).await.unwrap();
}

#[tokio::test]
async fn large_events_are_read_a_few_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    for at in 0..10 {
        queue.send(SHARD, event(&at.to_string(), vec![at; 1 << 20])).await.unwrap();
    }
    let first = queue.look(Which::Live, None, None, 10).await.unwrap();
    assert_eq!(first.len(), 8);
    let rest = queue.look(Which::Live, None, Some(first[7].position), 10).await.unwrap();
    assert_eq!(rest.len(), 2);
    assert_eq!(receive(&queue, 10).await.len(), 8);
    assert_eq!(receive(&queue, 10).await.len(), 2);
    assert_eq!(queue.purge(Which::Live, "lane").await.unwrap(), 10, "in pieces, but all");
}

#[tokio::test]
async fn senders_wait_where_much_is_on_its_way() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    let all = queue.sending.clone().acquire_many_owned(SENDING_BYTES_MAX as u32).await.unwrap();
    let send = queue.send(SHARD, event("a", "x"));
    tokio::pin!(send);
    let waits = tokio::time::timeout(Duration::from_millis(20), &mut send).await;
    assert!(waits.is_err());
    drop(all);
    send.await.unwrap();
    // Given back before the writer takes anything else.
    on_writer(&queue, |_| ()).await;
    assert_eq!(queue.sending.available_permits(), SENDING_BYTES_MAX);
}

#[tokio::test]
async fn receipts_of_another_queue_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    let other = Receipt { shard: Shard(7), event: 1, hold: 1 };
    assert!(matches!(queue.ack(&other).await, Err(QueueError::NotHeld)));
    let retried = queue.retry(&other, Duration::ZERO, Bytes::new()).await;
    assert!(matches!(retried, Err(QueueError::NotHeld)));
    assert!(matches!(queue.bury(&other, "why").await, Err(QueueError::NotHeld)));
    assert!(matches!(queue.extend(&other, LONG).await, Err(QueueError::NotHeld)));
    queue.send(SHARD, event("a", "x")).await.unwrap();
}

#[tokio::test]
async fn patience_and_visibility_may_be_without_end() {
    let home = tempfile::tempdir().unwrap();
    let queue = Arc::new(open(&home, two_shards()));
    let receiver = queue.clone();
    let waiting = tokio::spawn(async move {
        receiver.receive(SHARD, 1, Duration::MAX, Duration::MAX).await.unwrap()
    });
    queue.send(SHARD, event("a", "x")).await.unwrap();
    let held = waiting.await.unwrap().remove(0);
    assert!(receive(&queue, 1).await.is_empty());
    queue.extend(&held.receipt, Duration::MAX).await.unwrap();
    queue.ack(&held.receipt).await.unwrap();
}

#[test]
fn a_writer_that_panics_says_so_at_once() {
    let said = Said::default();
    let counter = said.clone();
    let thread = std::thread::spawn(move || {
        tracing::subscriber::with_default(counter, || {
            let _death = Death;
            panic!("as a test wants it");
        })
    });
    assert!(thread.join().is_err());
    assert_eq!(said.0.load(Ordering::Relaxed), 1);
}

/// Counts errors in the log of one thread.
#[derive(Clone, Default)]
struct Said(Arc<AtomicU32>);

impl tracing::Subscriber for Said {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn what_nobody_read_goes_back_at_once() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    queue.send(SHARD, event("a", "x")).await.unwrap();
    let received = queue.receive(SHARD, 1, LONG, LONG);
    let mut received = Box::pin(received);
    // It has asked; then the answer is there, and nobody comes for it.
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(received.as_mut().poll(cx)));
    assert!(polled.await.is_pending());
    on_writer(&queue, |_| ()).await;
    assert_eq!(queue.depths().await.unwrap()[0].held, 1);

    drop(received);

    assert_eq!(receive(&queue, 1).await[0].event.id.as_str(), "a");
}

#[tokio::test]
async fn what_the_disk_keeps_free_is_for_acknowledgements() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    queue.send(SHARD, event("a", "x")).await.unwrap();
    drop(queue);
    let queue = open(&home, QueueLimits { free_bytes_min: u64::MAX, ..two_shards() });
    let full = queue.send(SHARD, event("b", "x")).await.unwrap_err();
    assert!(matches!(&full, QueueError::Full { what } if what.starts_with("its disk")), "{full}");
    let held = receive(&queue, 10).await.remove(0);
    queue.ack(&held.receipt).await.unwrap();
}

#[tokio::test]
async fn a_file_becomes_smaller_when_a_backlog_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(&home, two_shards());
    for at in 0..24 {
        queue.send(SHARD, event(&at.to_string(), vec![at; 1 << 20])).await.unwrap();
    }
    assert_eq!(queue.purge(Which::Live, "lane").await.unwrap(), 24);
    let free = async || {
        let (tell, told) = oneshot::channel();
        on_writer(&queue, |connection| {
            let free: u32 =
                connection.pragma_query_value(None, "freelist_count", |row| row.get(0)).unwrap();
            tell.send(free).unwrap();
        })
        .await;
        told.await.unwrap()
    };
    let until = Instant::now() + LONG;
    while free().await > 4_096 {
        assert!(Instant::now() < until, "{} pages are free", free().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What a burst may need soon is kept.
    assert_eq!(free().await, 4_096);
}

#[test]
fn the_calendar_never_goes_back() {
    let mut calendar = Calendar::default();
    assert_eq!(calendar.at(1_000), 1_000);
    // Set back by 400 ms: time goes on from where it was.
    assert_eq!(calendar.at(600), 1_000);
    assert_eq!(calendar.at(650), 1_050);
    // Set right again.
    assert_eq!(calendar.at(1_100), 1_500);
    assert_eq!(calendar.at(5_000), 5_400);
}

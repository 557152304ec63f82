//! What every [`Queue`] promises, one function a promise. Times are short and
//! real: another implementation's clock is not ours to move.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamu_model::RequestId;

use crate::queue::{Delivery, NewEvent, Queue, QueueError, SeenState, Shard, Which};

const SHARD: Shard = Shard(0);
const LONG: Duration = Duration::from_secs(60);
/// Long enough that a busy machine does not lose a held event by accident.
const SHORT: Duration = Duration::from_millis(300);
const NO_WAIT: Duration = Duration::ZERO;

fn event(id: &str, lane: &str) -> NewEvent {
    let body = Bytes::from(format!("body of {id}"));
    NewEvent { id: RequestId::new(id), lane: lane.into(), body, delay: Duration::ZERO }
}

async fn send(queue: &Arc<dyn Queue>, id: &str) {
    queue.send(SHARD, event(id, "lane")).await.expect("an event is kept");
}

async fn receive(queue: &Arc<dyn Queue>, count: usize) -> Vec<Delivery> {
    queue.receive(SHARD, count, LONG, SHORT).await.expect("events are received")
}

async fn one(queue: &Arc<dyn Queue>) -> Delivery {
    let mut received = receive(queue, 1).await;
    assert_eq!(received.len(), 1, "one event is there");
    received.remove(0)
}

async fn nothing(queue: &Arc<dyn Queue>) {
    let received = queue.receive(SHARD, 10, LONG, NO_WAIT).await.expect("an empty answer");
    assert!(received.is_empty(), "{received:?} should not be there");
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.event.id.as_str()).collect()
}

pub async fn an_event_is_received_as_it_was_sent(queue: Arc<dyn Queue>) {
    send(&queue, "a").await;
    let delivery = one(&queue).await;
    assert_eq!(delivery.event.id.as_str(), "a");
    assert_eq!(delivery.event.lane, "lane");
    assert_eq!(delivery.event.body, "body of a");
    assert!(delivery.event.note.is_empty());
    assert!(delivery.event.sent_ms > 1_700_000_000_000);
}

pub async fn a_held_event_is_hidden_and_an_acknowledged_one_gone(queue: Arc<dyn Queue>) {
    send(&queue, "a").await;
    let delivery = one(&queue).await;
    nothing(&queue).await;
    queue.ack(&delivery.receipt).await.expect("a held event is acknowledged");
    nothing(&queue).await;
    assert!(matches!(queue.ack(&delivery.receipt).await, Err(QueueError::NotHeld)));
    assert_eq!(queue.backlog(SHARD), 0);
}

pub async fn events_come_in_the_order_in_which_they_fall_due(queue: Arc<dyn Queue>) {
    for id in ["a", "b", "c"] {
        send(&queue, id).await;
    }
    let mut later = event("late", "lane");
    later.delay = LONG;
    queue.send(SHARD, later).await.expect("a late event is kept");
    assert_eq!(ids(&receive(&queue, 10).await), ["a", "b", "c"]);
    nothing(&queue).await;
}

pub async fn shards_are_apart(queue: Arc<dyn Queue>) {
    assert!(queue.shards() >= 2, "the suite needs two shards");
    send(&queue, "a").await;
    queue.send(Shard(1), event("b", "lane")).await.expect("kept");
    assert_eq!((queue.backlog(SHARD), queue.backlog(Shard(1))), (1, 1));
    assert_eq!(ids(&receive(&queue, 10).await), ["a"]);
    let other = queue.receive(Shard(1), 10, LONG, SHORT).await.expect("received");
    assert_eq!(ids(&other), ["b"]);
    let beyond = Shard(queue.shards());
    let refused = queue.send(beyond, event("c", "lane")).await;
    assert!(matches!(refused, Err(QueueError::Invalid { .. })));
}

pub async fn an_event_whose_visibility_ended_comes_again(queue: Arc<dyn Queue>) {
    send(&queue, "a").await;
    let first = queue.receive(SHARD, 1, SHORT, SHORT).await.expect("received").remove(0);
    let second = queue.receive(SHARD, 1, LONG, LONG).await.expect("received").remove(0);
    assert_eq!(second.event, first.event);
    assert!(matches!(queue.ack(&first.receipt).await, Err(QueueError::NotHeld)));
    queue.ack(&second.receipt).await.expect("the new holder acknowledges");
}

pub async fn an_extended_event_stays_hidden(queue: Arc<dyn Queue>) {
    send(&queue, "a").await;
    let held = queue.receive(SHARD, 1, SHORT, SHORT).await.expect("received").remove(0);
    queue.extend(&held.receipt, LONG).await.expect("a held event is extended");
    let received = queue.receive(SHARD, 1, LONG, SHORT * 2).await.expect("an empty answer");
    assert!(received.is_empty());
    queue.ack(&held.receipt).await.expect("still held");
}

pub async fn a_retried_event_comes_again_after_its_delay(queue: Arc<dyn Queue>) {
    send(&queue, "a").await;
    let first = one(&queue).await;
    let note = Bytes::from_static(b"1 attempt");
    queue.retry(&first.receipt, SHORT, note.clone()).await.expect("given back");
    nothing(&queue).await;
    let again = queue.receive(SHARD, 1, LONG, LONG).await.expect("received").remove(0);
    assert_eq!(again.event.note, note);
    assert_eq!((&again.event.id, &again.event.body), (&first.event.id, &first.event.body));
    assert_eq!(again.event.sent_ms, first.event.sent_ms);
    assert!(matches!(queue.ack(&first.receipt).await, Err(QueueError::NotHeld)));
    // At once is a delay too.
    queue.retry(&again.receipt, Duration::ZERO, Bytes::new()).await.expect("given back");
    assert_eq!(one(&queue).await.event.note, Bytes::new());
}

pub async fn a_receiver_waits_for_what_comes(queue: Arc<dyn Queue>) {
    let receiver = queue.clone();
    let waiting =
        tokio::spawn(
            async move { receiver.receive(SHARD, 10, LONG, LONG).await.expect("received") },
        );
    tokio::time::sleep(Duration::from_millis(20)).await;
    send(&queue, "a").await;
    assert_eq!(ids(&waiting.await.expect("it ends")), ["a"]);
}

pub async fn a_buried_event_is_kept_apart(queue: Arc<dyn Queue>) {
    send(&queue, "a").await;
    send(&queue, "b").await;
    let delivery = one(&queue).await;
    queue.bury(&delivery.receipt, "nobody could").await.expect("buried");
    assert_eq!(ids(&receive(&queue, 10).await), ["b"]);
    let dead = queue.look(Which::Dead, None, None, 10).await.expect("looked at");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].event.body, "body of a");
    assert!(
        matches!(&dead[0].state, SeenState::Dead { why, since_ms } if why == "nobody could" && *since_ms > 0)
    );
    assert_eq!(queue.backlog(SHARD), 1);
}

pub async fn a_redriven_event_waits_again(queue: Arc<dyn Queue>) {
    for (id, lane) in [("a", "one"), ("b", "two")] {
        queue.send(SHARD, event(id, lane)).await.expect("kept");
        let delivery = one(&queue).await;
        queue.retry(&delivery.receipt, Duration::ZERO, Bytes::from_static(b"x")).await.unwrap();
        let delivery = one(&queue).await;
        queue.bury(&delivery.receipt, "why").await.expect("buried");
    }
    assert_eq!(queue.redrive("one").await.expect("redriven"), 1);
    assert_eq!(queue.redrive("one").await.expect("redriven"), 0);
    let again = one(&queue).await;
    assert_eq!((again.event.id.as_str(), again.event.note.len()), ("a", 0));
    assert_eq!(queue.look(Which::Dead, None, None, 10).await.expect("looked at").len(), 1);
}

pub async fn a_purge_takes_one_lane_and_voids_its_receipts(queue: Arc<dyn Queue>) {
    for at in 0..600 {
        queue.send(SHARD, event(&format!("gone-{at}"), "gone")).await.expect("kept");
    }
    queue.send(SHARD, event("kept", "kept")).await.expect("kept");
    let held = one(&queue).await;
    assert_eq!(queue.purge(Which::Live, "gone").await.expect("purged"), 600);
    assert!(matches!(queue.ack(&held.receipt).await, Err(QueueError::NotHeld)));
    assert_eq!(ids(&receive(&queue, 10).await), ["kept"]);
}

pub async fn depths_tell_each_lane(queue: Arc<dyn Queue>) {
    for id in ["a", "b", "c"] {
        queue.send(SHARD, event(id, "one")).await.expect("kept");
    }
    queue.send(Shard(1), event("d", "two")).await.expect("kept");
    let first = one(&queue).await;
    let second = one(&queue).await;
    queue.bury(&first.receipt, "why").await.expect("buried");
    let depths = queue.depths().await.expect("counted");
    let lanes: Vec<_> = depths
        .iter()
        .map(|depth| (depth.lane.as_str(), depth.waiting, depth.held, depth.dead))
        .collect();
    assert_eq!(lanes, [("one", 1, 1, 1), ("two", 1, 0, 0)]);
    assert_eq!(depths[0].oldest_sent_ms, Some(second.event.sent_ms));
    queue.ack(&second.receipt).await.expect("acknowledged");
}

pub async fn a_look_pages_in_the_order_of_sending_and_holds_nothing(queue: Arc<dyn Queue>) {
    for at in 0..5 {
        let lane = if at % 2 == 0 { "even" } else { "odd" };
        let shard = Shard(at % 2);
        queue.send(shard, event(&at.to_string(), lane)).await.expect("kept");
    }
    let held = one(&queue).await;
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = queue.look(Which::Live, None, after, 2).await.expect("looked at");
        let Some(last) = page.last() else { break };
        after = Some(last.position);
        seen.extend(page);
    }
    let found: Vec<_> = seen.iter().map(|seen| seen.event.id.as_str()).collect();
    assert_eq!(found, ["0", "1", "2", "3", "4"]);
    assert_eq!(seen[0].state, SeenState::Held);
    assert!(matches!(seen[1].state, SeenState::Waiting { .. }));
    assert_eq!(held.event.id.as_str(), "0");
    let odd = queue.look(Which::Live, Some("odd"), None, 10).await.expect("looked at");
    assert_eq!(odd.len(), 2);
    assert_eq!(ids(&receive(&queue, 10).await), ["2", "4"]);
}

pub async fn many_receivers_get_each_event_once(queue: Arc<dyn Queue>) {
    const EVENTS: usize = 500;
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..10 {
        let queue = queue.clone();
        tasks.spawn(async move {
            for at in 0..EVENTS / 10 {
                send(&queue, &format!("{sender}-{at}")).await;
            }
            Vec::new()
        });
    }
    for _ in 0..4 {
        let queue = queue.clone();
        tasks.spawn(async move {
            let mut seen = Vec::new();
            loop {
                let received = receive(&queue, 7).await;
                if received.is_empty() {
                    return seen;
                }
                for delivery in received {
                    queue.ack(&delivery.receipt).await.expect("acknowledged");
                    seen.push(delivery.event.id.as_str().to_owned());
                }
            }
        });
    }
    let seen: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
    // One that came after its receiver's patience is still there.
    let rest = receive(&queue, EVENTS).await;
    assert_eq!(seen.len() + rest.len(), EVENTS);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len() + rest.len(), EVENTS);
}

pub async fn a_dropped_receive_keeps_nothing(queue: Arc<dyn Queue>) {
    send(&queue, "a").await;
    for _ in 0..50 {
        let receive = queue.receive(SHARD, 1, LONG, LONG);
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            received = receive => {
                let delivery = received.expect("received").remove(0);
                queue.retry(&delivery.receipt, Duration::ZERO, Bytes::new()).await.expect("back");
            }
        }
    }
    assert_eq!(one(&queue).await.event.id.as_str(), "a");
}

pub async fn limits_are_kept_exactly(queue: Arc<dyn Queue>) {
    let mut largest = event("a", &"l".repeat(512));
    largest.body = Bytes::from(vec![b'x'; 1 << 20]);
    queue.send(SHARD, largest.clone()).await.expect("1 MiB is kept");
    assert_eq!(one(&queue).await.event.body, largest.body);
    let mut too_large = event("b", "lane");
    too_large.body = Bytes::from(vec![b'x'; 2 << 20]);
    assert!(matches!(queue.send(SHARD, too_large).await, Err(QueueError::Invalid { .. })));
    let refused = queue.send(SHARD, event("c", &"l".repeat(513))).await;
    assert!(matches!(refused, Err(QueueError::Invalid { .. })));
}

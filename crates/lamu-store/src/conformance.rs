//! The promises of [`Metadata`], [`Queue`] and [`Packages`] as suites that every
//! implementation passes. Each promise gets a store of its own: `make` returns
//! an empty one whenever it is called. A broken promise panics and says which.
//!
//! Not here: what one implementation promises beyond the trait (beside it).

mod metadata;
mod packages;
mod queue;

use std::sync::Arc;

use crate::{Metadata, Packages, Queue};

/// Holds every promise of [`Metadata`] against the stores `make` returns.
pub async fn metadata(make: impl AsyncFn() -> Arc<dyn Metadata>) {
    metadata::a_put_is_read_back(make().await).await;
    metadata::revisions_grow_over_all_keys(make().await).await;
    metadata::absent_admits_only_the_first(make().await).await;
    metadata::a_revision_admits_only_itself(make().await).await;
    metadata::a_refused_write_changes_nothing(make().await).await;
    metadata::a_delete_removes_and_may_be_repeated(make().await).await;
    metadata::a_delete_holds_to_what_it_expects(make().await).await;
    metadata::what_is_made_anew_has_a_new_revision(make().await).await;
    metadata::of_many_who_race_one_wins(make().await).await;
    metadata::concurrent_counting_loses_nothing(make().await).await;
    metadata::a_scan_is_in_key_order_and_within_its_prefix(make().await).await;
    metadata::a_scan_takes_its_prefix_literally(make().await).await;
    metadata::pages_join_to_the_whole(make().await).await;
    metadata::limits_are_kept_exactly(make().await).await;
    metadata::a_watch_begins_with_what_is_there(make().await).await;
    metadata::a_watch_hears_every_change_in_order(make().await).await;
    metadata::a_watch_hears_only_its_prefix(make().await).await;
    metadata::a_watch_amid_writes_has_no_gap_and_no_repeat(make().await).await;
    metadata::a_watcher_that_sleeps_is_cut_off_and_holds_up_nobody(make().await).await;
    metadata::a_dropped_write_is_whole_or_absent(make().await).await;
}

/// Holds every promise of [`Packages`] against the stores `make` returns.
///
/// Not checked here: damage, which only an implementation knows how to do.
pub async fn packages(make: impl AsyncFn() -> Arc<dyn Packages>) {
    packages::a_package_is_read_back_by_its_digest(make().await).await;
    packages::an_empty_package_is_a_package(make().await).await;
    packages::putting_twice_keeps_one(make().await).await;
    packages::many_may_put_the_same_at_once(make().await).await;
    packages::a_range_is_clipped_to_the_package(make().await).await;
    packages::what_is_missing_is_said_to_be(make().await).await;
    packages::a_copy_has_all_bytes(make().await).await;
    packages::a_copy_never_overwrites(make().await).await;
    packages::a_delete_removes_and_may_be_repeated(make().await).await;
    packages::the_list_is_what_is_stored(make().await).await;
}

/// Holds every promise of [`Queue`] against the queues `make` returns, which
/// have two shards at least.
///
/// Not checked here: crashes and damage, which only an implementation knows
/// how to make.
pub async fn queue(make: impl AsyncFn() -> Arc<dyn Queue>) {
    queue::an_event_is_received_as_it_was_sent(make().await).await;
    queue::a_held_event_is_hidden_and_an_acknowledged_one_gone(make().await).await;
    queue::events_come_in_the_order_in_which_they_fall_due(make().await).await;
    queue::shards_are_apart(make().await).await;
    queue::an_event_whose_visibility_ended_comes_again(make().await).await;
    queue::an_extended_event_stays_hidden(make().await).await;
    queue::a_retried_event_comes_again_after_its_delay(make().await).await;
    queue::a_receiver_waits_for_what_comes(make().await).await;
    queue::a_buried_event_is_kept_apart(make().await).await;
    queue::a_redriven_event_waits_again(make().await).await;
    queue::a_purge_takes_one_lane_and_voids_its_receipts(make().await).await;
    queue::depths_tell_each_lane(make().await).await;
    queue::a_look_pages_in_the_order_of_sending_and_holds_nothing(make().await).await;
    queue::many_receivers_get_each_event_once(make().await).await;
    queue::a_dropped_receive_keeps_nothing(make().await).await;
    queue::limits_are_kept_exactly(make().await).await;
}

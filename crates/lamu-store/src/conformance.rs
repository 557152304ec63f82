//! The promises of [`Metadata`] and [`Packages`] as suites that every
//! implementation passes. Each promise gets a store of its own: `make` returns
//! an empty one whenever it is called. A broken promise panics and says which.
//!
//! Not here: what one implementation promises beyond the trait (beside it).

mod metadata;
mod packages;

use std::sync::Arc;

use crate::{Metadata, Packages};

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

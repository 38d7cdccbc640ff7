//! The cases: what the documentation of [`Store`](session_core::Store) says, sentence by sentence.

mod abandoned;
mod admission;
mod block_races;
mod blocks;
mod bounds;
mod change;
mod commit;
mod damage;
mod ending;
mod events;
mod fleet;
mod forgetting;
mod history;
mod history_pages;
mod leases;
mod listing;
mod log;
mod log_pages;
mod names;
mod policies;
mod races;
mod reads;
mod records;
mod shared;
mod sweeping;
mod touching;
mod trimming;
mod update;
mod version;
mod walks;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::Namespace;

/// One thing that a store must do.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it is about, in words.
    pub name: &'static str,
    pub(crate) run: fn(Arc<dyn Namespace>) -> Running,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! cases {
    ($($module:ident :: { $($case:ident),+ $(,)? })+) => {
        /// Every case, in the order in which they run.
        pub const CASES: &[Case] = &[
            $($(Case {
                name: concat!(stringify!($module), "::", stringify!($case)),
                run: |namespace| Box::pin($module::$case(namespace)),
            }),+),+
        ];
    };
}

cases![
    records::{
        every_field_comes_back_at_its_limits,
        data_comes_back_byte_for_byte,
        far_times_come_back,
        a_session_without_anything_comes_back,
        ids_keep_sixty_four_random_bits,
    }
    commit::{
        a_commit_needs_the_version_it_was_made_for,
        every_kind_of_change_needs_the_version,
        a_commit_is_all_or_nothing,
        a_commit_made_twice_is_a_conflict,
        an_id_inserted_twice_is_a_conflict,
        limits_are_refused_and_nothing_happens,
        the_largest_commit_is_told_in_order,
        an_end_of_what_is_gone_is_passed_over,
        an_end_of_anothers_session_is_passed_over,
        changed_claims_of_what_is_gone_are_passed_over,
        what_is_passed_over_does_not_stop_the_rest,
    }
    update::{
        an_update_is_read_on_every_node,
        details_are_replaced_whole,
        an_update_moves_the_deadline_later_only,
        an_update_changes_nothing_else,
        an_update_raises_the_version,
        an_update_is_told_as_its_kind,
        an_update_of_anothers_session_is_a_conflict,
        an_update_of_what_is_gone_is_a_conflict,
        no_update_is_lost,
    }
    version::{
        every_kind_of_change_raises_the_version,
        no_older_version_comes_back,
        end_many_raises_the_version_of_every_user,
        a_sweep_raises_the_version_of_every_user,
        every_read_answers_the_same_version,
    }
    change::{
        users_and_tenants_do_not_disturb_one_another,
        selections_end_what_they_select,
        a_sweep_takes_only_what_is_overdue,
    }
    names::{
        separators_do_not_join_names,
        a_prefix_is_another_name,
        signs_of_a_query_language_are_letters,
        long_names_are_told_apart_by_their_last_byte,
        policies_and_events_keep_every_name,
    }
    touching::{
        a_touch_moves_forward_merges_and_never_creates,
        a_session_that_stands_twice_in_a_batch_gets_both,
        the_later_deadline_holds_and_a_claim_stays,
        a_batch_beyond_the_most_is_refused,
        a_touch_raises_no_version_and_is_not_told,
        what_is_gone_is_answered_once,
    }
    ending::{
        a_limit_smaller_than_the_candidates_reaches_all,
        signed_in_before_is_met_to_the_microsecond,
        last_accessed_before_is_met_to_the_microsecond,
        what_was_used_since_stays,
        a_second_walk_finds_only_what_is_left,
        an_id_that_is_selected_twice_ends_once,
        a_selection_by_ids_is_one_call,
        more_ids_than_the_most_are_refused,
        a_malformed_continuation_is_refused,
        a_limit_of_none_counts_as_one,
        a_limit_beyond_the_largest_counts_as_the_largest,
        an_exception_is_spared_on_every_call,
        sessions_that_begin_beside_a_walk_do_not_hide_others,
        each_end_is_told_once,
    }
    sweeping::{
        a_walk_is_told_once,
        a_malformed_continuation_is_refused,
        a_session_in_use_is_passed_over_and_the_walk_goes_on,
        a_limit_of_none_counts_as_one,
        a_limit_beyond_the_largest_counts_as_the_largest,
        a_walk_with_sessions_in_use_comes_to_its_end,
        sweeps_side_by_side_end_each_session_once,
    }
    walks::{
        every_filter_walks_to_the_end,
        a_users_own_pages_go_on,
        a_filtered_walk_beside_changes_misses_nothing,
        a_touch_moves_no_session_to_another_page,
        a_limit_of_none_counts_as_one,
        a_limit_beyond_the_largest_counts_as_the_largest,
        deadlines_are_met_to_the_microsecond,
    }
    bounds::{
        what_stands_behind_many_is_found,
    }
    listing::{
        pages_are_stable_while_sessions_come_and_go,
        filters_select_what_they_say,
    }
    events::{
        every_kind_of_change_is_told_whole,
        every_cause_and_actor_is_told,
        what_end_many_and_sweep_do_is_told_whole,
        what_only_a_newer_version_knows_stops_no_reader,
        policies_are_told_whole,
        far_times_are_told,
    }
    log::{
        entries_come_in_order_to_every_reader,
        concurrent_writers_lose_no_entry,
        a_cut_log_is_noticed,
        a_foreign_cursor_is_a_gap,
        a_node_that_was_cut_off_catches_up,
    }
    log_pages::{
        invalidations_leave_out_the_rest,
        a_reader_passes_over_what_it_does_not_want,
        readers_of_both_kinds_share_positions,
        limits_are_kept,
        every_users_entries_stand_in_their_order,
        reading_at_the_end_moves_nothing,
        without_a_cursor_nothing_is_read,
    }
    trimming::{
        a_young_entry_keeps_the_older_ones_behind_it,
        only_a_prefix_goes,
        the_newest_entry_stays,
        an_entry_goes_by_its_age_on_the_stores_clock,
        a_limit_of_none_counts_as_one,
        a_limit_beyond_the_largest_counts_as_the_largest,
        a_reader_in_what_is_left_misses_nothing,
    }
    policies::{
        policies_layer_and_inherit,
        a_policy_that_is_unset_inherits_again,
        a_policy_of_one_place_reaches_no_other,
        the_last_of_several_calls_wins,
        a_policy_raises_no_version_and_ends_nothing,
    }
    history::{
        every_way_of_ending_is_remembered,
        a_record_is_remembered_as_it_was_last,
        every_cause_and_actor_is_remembered,
        what_lives_and_what_never_was_is_not_in_it,
        an_id_does_not_come_back,
        it_can_be_switched_off,
        an_end_is_one_step,
        of_several_ends_the_one_that_was_told_is_remembered,
        a_write_back_in_time_is_remembered,
        a_session_that_it_knows_already_ends,
    }
    history_pages::{
        every_filter_walks_to_the_end,
        since_is_met_to_the_microsecond,
        a_walk_beside_changes_misses_nothing,
        a_page_goes_on_behind_what_is_forgotten,
        limits_are_kept,
        names_are_told_apart,
    }
    damage::{
        a_damaged_session_hides_no_other,
        a_damaged_session_ends_as_others_do,
        a_commit_beside_a_damaged_session_happens_or_fails_whole,
        a_damaged_end_hides_no_other,
        a_damaged_log_entry_is_a_gap,
        a_damaged_policy_or_block_is_not_overlooked,
    }
    forgetting::{
        what_is_old_goes_the_oldest_first,
        a_users_history_goes_and_no_other,
        limits_are_kept,
        nodes_side_by_side_forget_each_once,
        zero_says_that_none_is_left,
    }
    blocks::{
        a_beginning_is_refused_and_nothing_else,
        a_block_of_one_place_reaches_no_other,
        a_block_comes_back_whole,
        a_block_ends_at_its_time,
        a_block_goes_by_the_stores_clock,
        a_block_and_a_policy_of_one_place_are_apart,
        blocks_are_told_whole,
        a_block_raises_no_version_and_ends_nothing,
    }
    block_races::{
        no_sign_in_of_a_user_outlives_a_block,
        no_sign_in_of_a_tenant_outlives_a_block,
        no_sign_in_outlives_a_block_of_the_deployment,
        a_sign_in_beside_a_block_is_whole_or_nothing,
        changes_go_on_beside_a_block,
    }
    fleet::{
        of_many_proposals_one_becomes_the_key,
        every_read_of_the_log_tells_the_time,
        the_clock_moves_on,
    }
    leases::{
        a_lease_has_one_holder,
        leases_go_by_their_names,
        long_names_and_holders_are_told_apart,
        a_renewed_lease_lasts_longer,
        of_many_who_ask_one_gets_it,
    }
    reads::{
        every_node_reads_what_was_acknowledged,
        a_user_with_hundreds_of_sessions_is_read_whole,
        an_unknown_user_has_nothing,
        a_report_is_plausible,
        a_store_that_is_opened_again_has_everything,
        a_copy_from_the_past_is_a_gap,
    }
    races::{
        a_rotation_races_a_revocation,
        a_touch_races_a_revocation,
        a_touch_races_a_rotation,
        of_two_rotations_one_wins,
        a_sweep_races_touches,
        an_end_of_what_is_unused_races_touches,
        a_sweep_races_rotations,
        end_many_races_sign_ins,
        two_walks_end_each_session_once,
    }
    abandoned::{
        a_change_happens_whole_or_not_at_all,
        each_end_of_many_happens_whole_or_not_at_all,
        a_setting_changes_whole_or_not_at_all,
        the_next_call_gets_its_own_answer,
        the_next_setting_is_read_for_itself,
        the_next_end_is_read_for_itself,
    }
    admission::{
        no_limit_is_exceeded_by_concurrent_sign_ins,
        reject_admits_exactly_the_limit,
        one_user_with_many_sessions,
    }
    shared::{
        nodes_open_at_the_same_moment,
        a_push_comes_of_another_nodes_change,
        a_revocation_reaches_every_node,
    }
];

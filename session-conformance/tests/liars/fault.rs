//! What a store may get wrong, and the case that has to find it.

macro_rules! faults {
    ($($(#[$doc:meta])+ $fault:ident: $case:literal,)+) => {
        /// One broken guarantee.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            /// An honest store.
            None,
            $($(#[$doc])+ $fault,)+
        }

        impl Fault {
            /// Every fault, and the case that has to find it.
            pub(crate) const ALL: &[(Self, &'static str)] = &[$((Self::$fault, $case)),+];
        }
    };
}

faults! {
    /// A commit goes through whatever the version: the lost admission race.
    CommitIgnoresVersion: "commit::a_commit_needs_the_version_it_was_made_for",
    /// A change of data is committed although its version no longer holds.
    ChangedDataIgnoresVersion: "commit::every_kind_of_change_needs_the_version",
    /// A commit that fails half-way leaves its first half.
    CommitInPart: "commit::a_commit_is_all_or_nothing",
    /// A commit makes one change after the other.
    CommitInSteps: "abandoned::a_change_happens_whole_or_not_at_all",
    /// What a walk or the cleanup ends is gone first and in the history later.
    WalksEndInTwoSteps: "abandoned::each_end_of_many_happens_whole_or_not_at_all",
    /// A block is told first and holds later.
    BlocksAreToldFirst: "abandoned::a_setting_changes_whole_or_not_at_all",
    /// A policy whose call is given up stays locked for a while.
    PoliciesStayLocked: "abandoned::a_setting_changes_whole_or_not_at_all",
    /// A commit ends sessions of other users.
    CommitCrossesUsers: "change::users_and_tenants_do_not_disturb_one_another",
    /// A commit takes its changes in another order.
    CommitReorders: "commit::the_largest_commit_is_told_in_order",
    /// A second try is taken for the first.
    CommitTwiceIsDone: "commit::a_commit_made_twice_is_a_conflict",
    /// More changes than the most go through.
    CommitTakesTooMany: "commit::limits_are_refused_and_nothing_happens",
    /// Two changes of one session go through.
    CommitTakesASessionTwice: "commit::limits_are_refused_and_nothing_happens",
    /// A new session of another owner goes through.
    CommitTakesForeignSessions: "commit::limits_are_refused_and_nothing_happens",
    /// As many changes as there may be are too many.
    LargestCommitFails: "commit::the_largest_commit_is_told_in_order",
    /// An id that exists begins again, of the same user.
    InsertTwiceIsDone: "commit::an_id_inserted_twice_is_a_conflict",
    /// An id that another user has is taken.
    InsertTakesFromOthers: "commit::an_id_inserted_twice_is_a_conflict",
    /// An end of what is gone is a conflict.
    PassedOverIsAConflict: "commit::an_end_of_what_is_gone_is_passed_over",
    /// An end of what is gone is told.
    PassedOverIsTold: "commit::an_end_of_what_is_gone_is_passed_over",
    /// An end of another's session raises the version of the one who tried.
    PassedOverRaisesVersion: "commit::an_end_of_anothers_session_is_passed_over",
    /// Changed claims of what is gone are a conflict.
    ClaimsOfGoneAreAConflict: "commit::changed_claims_of_what_is_gone_are_passed_over",
    /// What follows a change that is passed over is passed over, too.
    PassedOverStopsTheRest: "commit::what_is_passed_over_does_not_stop_the_rest",
    /// An update stores nothing.
    UpdateStoresNothing: "update::an_update_is_read_on_every_node",
    /// An update is merged into the details, so that nothing of them goes.
    UpdateMerges: "update::details_are_replaced_whole",
    /// An update drops what a newer version has written.
    UpdateDropsUnknown: "update::details_are_replaced_whole",
    /// An update sets an earlier deadline.
    UpdateMovesDeadlineBack: "update::an_update_moves_the_deadline_later_only",
    /// An update keeps the deadline.
    UpdateKeepsDeadline: "update::an_update_moves_the_deadline_later_only",
    /// An update writes the use as the node knows it.
    UpdateForgetsUse: "update::an_update_changes_nothing_else",
    /// An update of what is claimed takes the claim back.
    UpdateForgetsClaim: "update::an_update_changes_nothing_else",
    /// An update writes what only a beginning may.
    UpdateWritesFields: "update::an_update_changes_nothing_else",
    /// An update keeps the version.
    UpdateKeepsVersion: "update::an_update_raises_the_version",
    /// A rotation drops the digest of the token before.
    UpdateDropsRetired: "update::an_update_is_read_on_every_node",
    /// A rotation forgets that the user has authenticated again.
    UpdateForgetsProof: "update::details_are_replaced_whole",
    /// Every update is told as a rotation.
    UpdatesAreRotations: "update::an_update_is_told_as_its_kind",
    /// An update of another user's session goes through.
    UpdateCrossesUsers: "update::an_update_of_anothers_session_is_a_conflict",
    /// An update of what is gone is passed over.
    UpdateOfGoneIsDone: "update::an_update_of_what_is_gone_is_a_conflict",
    /// An update of a session that is gone brings it back.
    UpdateResurrects: "races::a_rotation_races_a_revocation",
    /// An update reads the record first, and writes all of it later.
    UpdateWritesTheRecord: "races::a_touch_races_a_rotation",
    /// A touch reads the record first, and writes all of it later.
    TouchWritesTheRecord: "races::a_touch_races_a_rotation",
    /// An update looks at the version first, and writes later.
    UpdateLooksFirst: "races::of_two_rotations_one_wins",
    /// A rotation goes through with any version.
    UpdatesAreLost: "update::no_update_is_lost",
    /// New data goes through with any version.
    ChangesAreLost: "update::no_update_is_lost",
    /// What a commit ends is not remembered.
    HistoryMissesCommits: "history::every_way_of_ending_is_remembered",
    /// What `end_many` ends is not remembered.
    HistoryMissesSelections: "history::every_way_of_ending_is_remembered",
    /// What a sweep ends is not remembered.
    HistoryMissesSweeps: "history::every_way_of_ending_is_remembered",
    /// The history does not know from which device an end came.
    HistoryLosesWhere: "history::every_way_of_ending_is_remembered",
    /// The history drops digests of tokens.
    HistoryLosesDigests: "history::every_way_of_ending_is_remembered",
    /// The history keeps the record as it began.
    HistoryKeepsOldRecords: "history::a_record_is_remembered_as_it_was_last",
    /// A cause of a newer version cannot be read.
    HistoryRefusesTheUnknown: "history::every_cause_and_actor_is_remembered",
    /// An end that is passed over changes the cause.
    HistoryTakesTheLastEnd: "history::what_lives_and_what_never_was_is_not_in_it",
    /// A commit that conflicts leaves its ends in the history.
    HistoryKeepsConflicts: "history::what_lives_and_what_never_was_is_not_in_it",
    /// An id that the history knows begins again.
    EndedIdsComeBack: "history::an_id_does_not_come_back",
    /// A history that is switched off goes on.
    HistoryCannotBeSwitchedOff: "history::it_can_be_switched_off",
    /// A session is taken away first, and comes into the history later.
    EndsInTwoSteps: "history::an_end_is_one_step",
    /// Of several ends the history tells the last one that was tried.
    HistoryTellsTheLastToTry: "history::of_several_ends_the_one_that_was_told_is_remembered",
    /// A record is copied first, and taken away later.
    HistoryCopiesFirst: "history::a_write_back_in_time_is_remembered",
    /// A session that the history knows already cannot end.
    RememberedSessionsStay: "history::a_session_that_it_knows_already_ends",
    /// A session that the history knows already ends, and the history keeps what it knew.
    HistoryKeepsWhatItKnew: "history::a_session_that_it_knows_already_ends",
    /// A list of ended sessions reaches over the walls.
    HistoryCrossesTenants: "history_pages::every_filter_walks_to_the_end",
    /// A list of ended sessions overlooks the cause.
    HistoryOverlooksCause: "history_pages::every_filter_walks_to_the_end",
    /// A list of ended sessions overlooks the client.
    HistoryOverlooksClient: "history_pages::every_filter_walks_to_the_end",
    /// A list takes its limit before its filter, and ends where it is short.
    HistoryLimitsFirst: "history_pages::every_filter_walks_to_the_end",
    /// A page begins after all ends of the last one's time.
    HistorySkipsTies: "history_pages::every_filter_walks_to_the_end",
    /// The first page of ended sessions is the last one.
    HistoryForgetsToGoOn: "history_pages::every_filter_walks_to_the_end",
    /// A page goes on after so many sessions, not after a certain one.
    HistoryCountsOffsets: "history_pages::a_walk_beside_changes_misses_nothing",
    /// A page goes on only where its session is still remembered.
    HistoryNeedsItsSession: "history_pages::a_page_goes_on_behind_what_is_forgotten",
    /// What ended at this very time did not end since.
    SinceIsLate: "history_pages::since_is_met_to_the_microsecond",
    /// A page of 0 is the last one.
    HistoryOfNoneIsTheEnd: "history_pages::limits_are_kept",
    /// A page has as many sessions as asked for.
    HistoryIsTooLong: "history_pages::limits_are_kept",
    /// The history of `north` is also that of `northwest`.
    HistoryTakesPrefixes: "history_pages::names_are_told_apart",
    /// Nothing is forgotten by its age.
    ForgetIgnoresAges: "forgetting::what_is_old_goes_the_oldest_first",
    /// A record is forgotten when it is half as old as it has to be.
    ForgetIsEarly: "forgetting::what_is_old_goes_the_oldest_first",
    /// The newest of the old records go first.
    ForgetTakesTheNewest: "forgetting::what_is_old_goes_the_oldest_first",
    /// A user's history goes with that of the same name in other tenants.
    ForgetCrossesTenants: "forgetting::a_users_history_goes_and_no_other",
    /// More is forgotten at once than was asked for.
    ForgetIgnoresLimit: "forgetting::a_users_history_goes_and_no_other",
    /// A limit of 0 forgets nothing.
    ForgetOfNoneIsNone: "forgetting::limits_are_kept",
    /// A call counts what others have deleted.
    ForgetCountsOthers: "forgetting::nodes_side_by_side_forget_each_once",
    /// A call that finds its records deleted by another one answers zero.
    ForgetGivesUp: "forgetting::zero_says_that_none_is_left",
    /// A sign-in does not look at blocks.
    BlocksAreIgnored: "blocks::a_beginning_is_refused_and_nothing_else",
    /// Where it is blocked no session is changed.
    BlocksStopEverything: "blocks::a_beginning_is_refused_and_nothing_else",
    /// Nothing that is blocked is written back.
    BlocksStopTouches: "blocks::a_beginning_is_refused_and_nothing_else",
    /// Lifting one block lifts all of them.
    LiftingOneLiftsAll: "blocks::a_block_of_one_place_reaches_no_other",
    /// A block that is lifted stays.
    LiftedBlocksStay: "blocks::a_beginning_is_refused_and_nothing_else",
    /// `user` does not read blocks.
    UserHidesBlocks: "blocks::a_beginning_is_refused_and_nothing_else",
    /// A user's block holds for the same name in other tenants.
    BlocksCrossTenants: "blocks::a_block_of_one_place_reaches_no_other",
    /// A block loses its reason.
    BlocksLoseReasons: "blocks::a_block_comes_back_whole",
    /// A block does not end by itself.
    BlocksNeverEnd: "blocks::a_block_ends_at_its_time",
    /// A block that is set again keeps the time of the first one.
    BlocksKeepTheirTime: "blocks::a_block_ends_at_its_time",
    /// A block ends by the clock of the node that signs in.
    BlocksGoByTheNode: "blocks::a_block_goes_by_the_stores_clock",
    /// A block takes the policy of its place away.
    BlocksUnsetPolicies: "blocks::a_block_and_a_policy_of_one_place_are_apart",
    /// A policy that is unset takes the block of its place away.
    PoliciesLiftBlocks: "blocks::a_block_and_a_policy_of_one_place_are_apart",
    /// To lift what is not blocked is not told.
    LiftedBlocksAreNotTold: "blocks::blocks_are_told_whole",
    /// A block raises the version.
    BlocksRaiseVersions: "blocks::a_block_raises_no_version_and_ends_nothing",
    /// A block ends sessions.
    BlocksEndSessions: "blocks::a_block_raises_no_version_and_ends_nothing",
    /// A sign-in looks at its user's block first, and begins later.
    BlocksOfUsersComeLate: "block_races::no_sign_in_of_a_user_outlives_a_block",
    /// A sign-in looks at its tenant's block first, and begins later.
    BlocksOfTenantsComeLate: "block_races::no_sign_in_of_a_tenant_outlives_a_block",
    /// A sign-in looks at the deployment's block first, and begins later.
    BlocksOfAllComeLate: "block_races::no_sign_in_outlives_a_block_of_the_deployment",
    /// Of a sign-in that meets a block the evictions stand, and nothing else.
    BlocksLeaveEvictions: "block_races::a_sign_in_beside_a_block_is_whole_or_nothing",
    /// Where it is blocked an end is a conflict.
    BlocksStopEnds: "block_races::changes_go_on_beside_a_block",
    /// Every node gets the key that it proposes.
    EveryNodeHasAKey: "fleet::of_many_proposals_one_becomes_the_key",
    /// The key is looked for first, and written later.
    KeyLooksFirst: "fleet::of_many_proposals_one_becomes_the_key",
    /// A gap does not tell the time.
    GapsHaveNoClock: "fleet::every_read_of_the_log_tells_the_time",
    /// Readers of invalidations are told another clock.
    InvalidationsAreLate: "fleet::every_read_of_the_log_tells_the_time",
    /// The clock is that of the first read.
    ClockStandsStill: "fleet::the_clock_moves_on",
    /// A version that counts for each user and starts again when the user is forgotten.
    VersionsStartAgain: "version::no_older_version_comes_back",
    /// Changed claims keep the version.
    ClaimsKeepVersion: "version::every_kind_of_change_raises_the_version",
    /// `end_many` keeps the versions.
    EndManyKeepsVersions: "version::end_many_raises_the_version_of_every_user",
    /// A sweep keeps the versions.
    SweepKeepsVersions: "version::a_sweep_raises_the_version_of_every_user",
    /// `load` answers the version that the user had when the session was first read.
    LoadAnswersOldVersions: "version::every_read_answers_the_same_version",
    /// A read answers what it once read.
    LoadIsStale: "races::a_touch_races_a_revocation",
    /// A read remembers that there was nothing.
    LoadRemembersNone: "reads::every_node_reads_what_was_acknowledged",
    /// A read answers what the one before it asked, if nobody took that answer.
    LoadAnswersTheLastOne: "abandoned::the_next_call_gets_its_own_answer",
    /// The same, of blocks.
    BlockAnswersTheLastOne: "abandoned::the_next_setting_is_read_for_itself",
    /// The same, of what has ended.
    EndedAnswersTheLastOne: "abandoned::the_next_end_is_read_for_itself",
    /// `user` lists a hundred sessions at most.
    UserIsCut: "reads::a_user_with_hundreds_of_sessions_is_read_whole",
    /// `user` leaves out what is past its deadline.
    UserHidesExpired: "reads::a_user_with_hundreds_of_sessions_is_read_whole",
    /// A user that is not known has a version.
    UnknownUsersHaveAVersion: "reads::an_unknown_user_has_nothing",
    /// Long fields are cut.
    FieldsAreCut: "records::every_field_comes_back_at_its_limits",
    /// JSON goes through a number type.
    DataIsParsed: "records::data_comes_back_byte_for_byte",
    /// Times before 1970 are cut.
    TimesBeginIn1970: "records::far_times_come_back",
    /// No address is an empty address.
    NoAddressIsOne: "records::a_session_without_anything_comes_back",
    /// An id keeps half of the random bits that it has to.
    IdsAreShort: "records::ids_keep_sixty_four_random_bits",
    /// Names of users are compared without case.
    UsersFoldCase: "change::users_and_tenants_do_not_disturb_one_another",
    /// A user's sessions are those of the same name in any tenant.
    UserLeaksTenants: "change::users_and_tenants_do_not_disturb_one_another",
    /// Tenant and user are one text with a colon between them.
    NamesAreJoined: "names::separators_do_not_join_names",
    /// An index by name has no terminator, so `al` finds `alice`.
    NamesArePrefixes: "names::a_prefix_is_another_name",
    /// An underscore stands for any letter.
    NamesArePatterns: "names::signs_of_a_query_language_are_letters",
    /// Names are compared by their first 126 bytes.
    NamesAreCut: "names::long_names_are_told_apart_by_their_last_byte",
    /// A policy is kept under the user's name without case.
    PoliciesFoldCase: "names::policies_and_events_keep_every_name",
    /// A touch of a session that is gone brings it back.
    TouchResurrects: "races::a_touch_races_a_revocation",
    /// A touch with an earlier time moves last accessed back.
    TouchMovesBack: "touching::a_touch_moves_forward_merges_and_never_creates",
    /// A touch of an unknown session claims to have found it.
    TouchFindsEverything: "touching::a_touch_moves_forward_merges_and_never_creates",
    /// A touch replaces the addresses.
    TouchReplacesAddresses: "touching::a_touch_moves_forward_merges_and_never_creates",
    /// Of two touches of one session in a batch the last one is taken.
    TouchTakesOneOfTwo: "touching::a_session_that_stands_twice_in_a_batch_gets_both",
    /// A touch sets an earlier deadline.
    TouchMovesDeadlineBack: "touching::the_later_deadline_holds_and_a_claim_stays",
    /// A touch keeps the deadline.
    TouchKeepsDeadline: "touching::the_later_deadline_holds_and_a_claim_stays",
    /// A touch without a claim takes the claim back.
    TouchTakesClaimsBack: "touching::the_later_deadline_holds_and_a_claim_stays",
    /// A touch loses the claim.
    TouchLosesClaims: "touching::the_later_deadline_holds_and_a_claim_stays",
    /// A batch of any size is taken.
    TouchTakesTooMany: "touching::a_batch_beyond_the_most_is_refused",
    /// A touch raises the version, and is told.
    TouchIsTold: "touching::a_touch_raises_no_version_and_is_not_told",
    /// What is gone is answered as often as it was asked for.
    TouchAnswersTwice: "touching::what_is_gone_is_answered_once",
    /// A selection reaches over the walls.
    EndCrossesTenants: "change::users_and_tenants_do_not_disturb_one_another",
    /// Ending `north` ends `northwest`.
    EndTakesPrefixes: "names::a_prefix_is_another_name",
    /// A selection does not spare its exception.
    EndSparesNobody: "change::selections_end_what_they_select",
    /// A selection spares its exception in the first call only.
    EndSparesOnce: "ending::an_exception_is_spared_on_every_call",
    /// A selection ends more at once than it was allowed to.
    EndIgnoresLimit: "change::selections_end_what_they_select",
    /// A limit of 0 is no limit.
    EndOfNoneIsUnlimited: "ending::a_limit_of_none_counts_as_one",
    /// A limit of 0 is the end of the walk.
    EndOfNoneIsTheEnd: "ending::a_limit_of_none_counts_as_one",
    /// A limit beyond the largest is kept to.
    EndTakesTooMany: "ending::a_limit_beyond_the_largest_counts_as_the_largest",
    /// More ids than the most are taken.
    EndTakesTooManyIds: "ending::more_ids_than_the_most_are_refused",
    /// A continuation that cannot be read begins again.
    MalformedEndsBeginAgain: "ending::a_malformed_continuation_is_refused",
    /// A continuation behind everything is the end.
    FarEndsAreOver: "ending::a_malformed_continuation_is_refused",
    /// A continuation that cannot be read is the end.
    MalformedEndsAreOver: "ending::a_malformed_continuation_is_refused",
    /// `end_many` takes its limit before its filter, and stops when fewer ended.
    EndLimitsFirst: "ending::a_limit_smaller_than_the_candidates_reaches_all",
    /// A walk goes on after so many sessions, not after a certain one.
    EndCountsOffsets: "ending::a_limit_smaller_than_the_candidates_reaches_all",
    /// A walk is over after one call.
    EndForgetsToGoOn: "ending::a_limit_smaller_than_the_candidates_reaches_all",
    /// A walk from the beginning tells what an earlier one ended.
    EndTellsAgain: "ending::a_second_walk_finds_only_what_is_left",
    /// A session that is selected twice ends twice.
    EndCountsTwice: "ending::an_id_that_is_selected_twice_ends_once",
    /// A selection by ids needs several calls.
    EndHalvesIds: "ending::a_selection_by_ids_is_one_call",
    /// A selection overlooks the time of sign-in.
    EndOverlooksSignIn: "ending::a_limit_smaller_than_the_candidates_reaches_all",
    /// A selection takes what signed in at this very time.
    EndTakesTheLine: "ending::signed_in_before_is_met_to_the_microsecond",
    /// A selection overlooks the last use.
    EndOverlooksUse: "ending::what_was_used_since_stays",
    /// A selection goes by the last use as it was at sign-in.
    EndGoesByOldUse: "ending::what_was_used_since_stays",
    /// A selection takes what was used at this very time.
    EndTakesTheLastUse: "ending::last_accessed_before_is_met_to_the_microsecond",
    /// `end_many` looks at a session's use first, and ends it later.
    EndLooksFirst: "races::an_end_of_what_is_unused_races_touches",
    /// A walk is over once a session has begun beside it.
    EndGivesUpBesideSignIns: "ending::sessions_that_begin_beside_a_walk_do_not_hide_others",
    /// A walk ends a session that began beside it, and does not say so.
    EndTakesNewcomersUntold: "races::end_many_races_sign_ins",
    /// Of two walks each tells what the other one ended.
    EndTellsOthers: "races::two_walks_end_each_session_once",
    /// A sweep goes by what it once knew of a session's use.
    SweepDoesNotLookAgain: "change::a_sweep_takes_only_what_is_overdue",
    /// A sweep looks at a session's use first, and ends it later.
    SweepLooksFirst: "races::a_sweep_races_touches",
    /// A sweep takes what is past its deadline, however short ago.
    SweepIsEarly: "change::a_sweep_takes_only_what_is_overdue",
    /// A sweep goes by the last use.
    SweepGoesByUse: "change::a_sweep_takes_only_what_is_overdue",
    /// A sweep goes by the clock of the node that asks.
    SweepGoesByTheNode: "change::a_sweep_takes_only_what_is_overdue",
    /// A walk of sweeps is over after one call.
    SweepForgetsToGoOn: "sweeping::a_walk_is_told_once",
    /// A sweep ends a session in one call, and tells it in the next, too.
    SweepEndsTwice: "sweeping::a_walk_is_told_once",
    /// A continuation that cannot be read begins the cleanup again.
    MalformedSweepsBeginAgain: "sweeping::a_malformed_continuation_is_refused",
    /// A continuation behind everything is the end of the cleanup.
    FarSweepsAreOver: "sweeping::a_malformed_continuation_is_refused",
    /// A sweep stops where sessions are in use again.
    SweepStopsAtThoseInUse: "sweeping::a_walk_with_sessions_in_use_comes_to_its_end",
    /// A walk of sweeps goes by what it saw in its first call.
    SweepGoesByItsFirstLook: "sweeping::a_session_in_use_is_passed_over_and_the_walk_goes_on",
    /// A sweep passes over a session of which another change is made.
    SweepYieldsToRotations: "races::a_sweep_races_rotations",
    /// A limit of 0 is no limit.
    SweepOfNoneIsUnlimited: "sweeping::a_limit_of_none_counts_as_one",
    /// A limit beyond the largest is kept to.
    SweepTakesTooMany: "sweeping::a_limit_beyond_the_largest_counts_as_the_largest",
    /// Of two sweeps each tells what the other one ended.
    SweepTellsOthers: "sweeping::sweeps_side_by_side_end_each_session_once",
    /// A page that has looked at enough in vain is the last one.
    PageGivesUp: "bounds::what_stands_behind_many_is_found",
    /// A page of the history that has looked at enough in vain is the last one.
    HistoryGivesUp: "bounds::what_stands_behind_many_is_found",
    /// A walk is over where a call has ended nothing.
    EndGivesUp: "bounds::what_stands_behind_many_is_found",
    /// A page begins with the last session of the page before.
    PageRepeats: "listing::pages_are_stable_while_sessions_come_and_go",
    /// A page begins after all sessions of the last one's time.
    PageSkipsTies: "listing::pages_are_stable_while_sessions_come_and_go",
    /// A page goes on after so many sessions, not after a certain one.
    PageCountsOffsets: "listing::pages_are_stable_while_sessions_come_and_go",
    /// A page reaches over the walls.
    PageCrossesTenants: "listing::filters_select_what_they_say",
    /// A page lists what is past its deadline.
    PageListsExpired: "listing::filters_select_what_they_say",
    /// A page takes its limit before its filter, and is the last one when it is short.
    PageLimitsFirst: "walks::every_filter_walks_to_the_end",
    /// A page overlooks the client.
    PageOverlooksClient: "walks::every_filter_walks_to_the_end",
    /// The first page is the last one.
    PageForgetsToGoOn: "walks::every_filter_walks_to_the_end",
    /// A page with a filter by kind goes on behind what it has looked at in vain.
    PageSkipsUnderFilters: "walks::a_filtered_walk_beside_changes_misses_nothing",
    /// A user's page ignores where to go on.
    PageOfUserBeginsAgain: "walks::a_users_own_pages_go_on",
    /// A page goes on only where its session is still there.
    PageNeedsItsSession: "walks::a_users_own_pages_go_on",
    /// Pages go by last use.
    PageGoesByUse: "walks::a_touch_moves_no_session_to_another_page",
    /// A page of 0 is the last one.
    PageOfNoneIsTheEnd: "walks::a_limit_of_none_counts_as_one",
    /// A page has as many sessions as asked for.
    PageIsTooLong: "walks::a_limit_beyond_the_largest_counts_as_the_largest",
    /// A page lists what ends at this very moment.
    PageIsLate: "walks::deadlines_are_met_to_the_microsecond",
    /// A page leaves out what ends a microsecond later.
    PageIsEarly: "walks::deadlines_are_met_to_the_microsecond",
    /// The log loses an entry where several were committed together.
    LogSkips: "log::concurrent_writers_lose_no_entry",
    /// The log tells the last entry again.
    LogRepeats: "log::entries_come_in_order_to_every_reader",
    /// The log is told newest first.
    LogReorders: "log::entries_come_in_order_to_every_reader",
    /// A reader that was left behind is not told.
    LogHidesGaps: "log::a_cut_log_is_noticed",
    /// A cursor that cannot be read is the end of the log.
    ForeignCursorsAreTheEnd: "log::a_foreign_cursor_is_a_gap",
    /// A cursor that fell out of the log is answered as if nothing had been missed, to readers of
    /// whole pages.
    GapsAreHiddenFromNodes: "log::a_node_that_was_cut_off_catches_up",
    /// A change is acknowledged before the log shows it.
    LogLags: "log::entries_come_in_order_to_every_reader",
    /// An end is not logged.
    LogMissesEnds: "log::entries_come_in_order_to_every_reader",
    /// Events lose the actor.
    LogLosesActors: "events::every_cause_and_actor_is_told",
    /// Every end is a revocation.
    LogLosesCauses: "events::every_cause_and_actor_is_told",
    /// What `end_many` and a sweep end is told as the system's.
    LogLosesWhoEnded: "events::what_end_many_and_sweep_do_is_told_whole",
    /// Events have whole seconds.
    LogCutsTimes: "events::every_kind_of_change_is_told_whole",
    /// Events of before 1970 have no time.
    LogBeginsIn1970: "events::far_times_are_told",
    /// A policy's event loses its user.
    LogLosesPlaces: "events::policies_are_told_whole",
    /// An entry that only a newer version knows is missed.
    LogMissesTheUnknown: "events::what_only_a_newer_version_knows_stops_no_reader",
    /// An entry that only a newer version knows is no invalidation.
    InvalidationsMissTheUnknown: "events::what_only_a_newer_version_knows_stops_no_reader",
    /// An end is told twice.
    LogRepeatsEnds: "ending::each_end_is_told_once",
    /// A reader of invalidations gets everything.
    InvalidationsAreAll: "log_pages::invalidations_leave_out_the_rest",
    /// A reader of invalidations is not told of rotations.
    InvalidationsMissRotations: "log_pages::invalidations_leave_out_the_rest",
    /// A position of a reader of invalidations means nothing to others.
    PositionsAreOfTheirKind: "log_pages::readers_of_both_kinds_share_positions",
    /// Behind the end of the log there is always more.
    LogNeverEnds: "log_pages::reading_at_the_end_moves_nothing",
    /// What a reader does not want stops it.
    InvalidationsStopAtTheRest: "log_pages::a_reader_passes_over_what_it_does_not_want",
    /// A limit of 0 is no limit.
    LogOfNoneIsUnlimited: "log_pages::limits_are_kept",
    /// A page that is full is the last one.
    LogForgetsToGoOn: "log_pages::limits_are_kept",
    /// Without a cursor the log is told from its beginning.
    LogBeginsAtTheStart: "log_pages::without_a_cursor_nothing_is_read",
    /// The entries of one commit change places.
    LogShufflesCommits: "log_pages::every_users_entries_stand_in_their_order",
    /// The log trims its newest entry.
    TrimTakesAll: "log::a_cut_log_is_noticed",
    /// The end of a log that was trimmed is taken for its beginning.
    TrimmedEndsAreLost: "trimming::the_newest_entry_stays",
    /// Where the log was trimmed a reader misses the next entry.
    TrimmedLogsSkip: "trimming::a_reader_in_what_is_left_misses_nothing",
    /// The log is trimmed by time, and not as a prefix.
    TrimGoesByTime: "trimming::a_young_entry_keeps_the_older_ones_behind_it",
    /// Behind a young entry the log is trimmed by time.
    TrimGoesOnByTime: "trimming::only_a_prefix_goes",
    /// An entry goes when it is half as old as it has to be.
    TrimIsEarly: "trimming::an_entry_goes_by_its_age_on_the_stores_clock",
    /// A limit of 0 is no limit.
    TrimOfNoneIsUnlimited: "trimming::a_limit_of_none_counts_as_one",
    /// A limit beyond the largest is kept to.
    TrimTakesTooMany: "trimming::a_limit_beyond_the_largest_counts_as_the_largest",
    /// A limit of 0 trims nothing.
    TrimOfNoneIsNone: "trimming::a_limit_of_none_counts_as_one",
    /// A sign-in reads policies as they once were.
    PoliciesAreStale: "policies::policies_layer_and_inherit",
    /// A policy set for a user holds for the same name in other tenants.
    PoliciesCrossTenants: "policies::policies_layer_and_inherit",
    /// A policy that is unset stays.
    UnsetPoliciesStay: "policies::a_policy_that_is_unset_inherits_again",
    /// To unset what is not set is not told.
    UnsetPoliciesAreNotTold: "events::policies_are_told_whole",
    /// A policy of a user is set for the whole tenant, too.
    PoliciesWiden: "policies::a_policy_of_one_place_reaches_no_other",
    /// The first policy wins.
    FirstPolicyStays: "policies::the_last_of_several_calls_wins",
    /// A policy ends the sessions beyond it.
    PoliciesEndSessions: "policies::a_policy_raises_no_version_and_ends_nothing",
    /// `user` reads the sessions first and their version later.
    UserIsTorn: "admission::no_limit_is_exceeded_by_concurrent_sign_ins",
    /// `user` leaves out sessions that nobody has used.
    UserHidesUnclaimed: "admission::reject_admits_exactly_the_limit",
    /// `user` lists a thousand sessions at most.
    UserIsCutLater: "admission::one_user_with_many_sessions",
    /// Nodes are not told of ends.
    EndsAreHiddenFromNodes: "shared::a_revocation_reaches_every_node",
    /// Hints are promised and never come.
    PushIsSilent: "shared::a_push_comes_of_another_nodes_change",
    /// Hints come of ends only.
    PushIsOfEndsOnly: "shared::a_push_comes_of_another_nodes_change",
    /// A store pushes that is not configured to.
    PushIsUnexpected: "shared::a_push_comes_of_another_nodes_change",
    /// A record that cannot be read is handed on.
    DamageIsLoaded: "damage::a_damaged_session_hides_no_other",
    /// A record that cannot be read is none.
    DamageIsNone: "damage::a_damaged_session_hides_no_other",
    /// A page with a record that cannot be read fails.
    DamageStopsPages: "damage::a_damaged_session_hides_no_other",
    /// A page with a record that cannot be read is the last one.
    DamageEndsPages: "damage::a_damaged_session_hides_no_other",
    /// A batch of touches with a record that cannot be read fails.
    DamageStopsTouches: "damage::a_damaged_session_hides_no_other",
    /// A session that cannot be read is gone, says a touch.
    DamageIsGone: "damage::a_damaged_session_hides_no_other",
    /// A selection with a record that cannot be read ends nothing.
    DamageStopsEndMany: "damage::a_damaged_session_ends_as_others_do",
    /// A cleanup with a record that cannot be read ends nothing.
    DamageStopsSweeps: "damage::a_damaged_session_ends_as_others_do",
    /// A record that cannot be read ends, and the caller is not told.
    DamageEndsUntold: "damage::a_damaged_session_ends_as_others_do",
    /// A record that cannot be read ends without a trace.
    DamageIsNotRemembered: "damage::a_damaged_session_ends_as_others_do",
    /// A commit beside a record that cannot be read fails half-way and leaves its first half.
    DamageHalvesCommits: "damage::a_commit_beside_a_damaged_session_happens_or_fails_whole",
    /// A commit beside a record that cannot be read is said to be done, and is not.
    DamageLosesCommits: "damage::a_commit_beside_a_damaged_session_happens_or_fails_whole",
    /// A commit beside a record that cannot be read is a conflict, for ever.
    DamageIsAConflict: "damage::a_commit_beside_a_damaged_session_happens_or_fails_whole",
    /// An entry of the log that cannot be read is passed over.
    DamagedEntriesAreNoGap: "damage::a_damaged_log_entry_is_a_gap",
    /// An entry of the log that cannot be read stops its readers.
    DamagedEntriesStopTheLog: "damage::a_damaged_log_entry_is_a_gap",
    /// An entry of the log that cannot be read is a gap to those behind it, too.
    DamagedEntriesStayAGap: "damage::a_damaged_log_entry_is_a_gap",
    /// A page of the history with a record that cannot be read fails.
    DamageStopsHistory: "damage::a_damaged_end_hides_no_other",
    /// A page of the history with a record that cannot be read is the last one.
    DamageEndsHistory: "damage::a_damaged_end_hides_no_other",
    /// A record that cannot be read stops the cleanup of the history.
    DamageStopsForgetting: "damage::a_damaged_end_hides_no_other",
    /// A policy or a block that cannot be read is none.
    DamagedSettingsAreNone: "damage::a_damaged_policy_or_block_is_not_overlooked",
    /// `user` reads a policy that cannot be read as none.
    UserOverlooksDamagedPolicies: "damage::a_damaged_policy_or_block_is_not_overlooked",
    /// `user` reads a block that cannot be read as none.
    UserOverlooksDamagedBlocks: "damage::a_damaged_policy_or_block_is_not_overlooked",
    /// Every node gets the lease.
    LeaseForEverybody: "leases::a_lease_has_one_holder",
    /// A lease never runs out.
    LeaseNeverEnds: "leases::a_lease_has_one_holder",
    /// A holder that is late gets the lease again.
    LeaseForLateHolders: "leases::a_lease_has_one_holder",
    /// There is one lease for all names.
    LeaseIgnoresNames: "leases::leases_go_by_their_names",
    /// Names of leases are compared without case.
    LeaseFoldsCase: "leases::leases_go_by_their_names",
    /// Names of leases are compared by their first 128 bytes.
    LeaseCutsNames: "leases::long_names_and_holders_are_told_apart",
    /// Holders are compared by their first 127 bytes.
    LeaseCutsHolders: "leases::long_names_and_holders_are_told_apart",
    /// The longest names are too long.
    LeaseRefusesTheLongest: "leases::long_names_and_holders_are_told_apart",
    /// A renewal does not last longer.
    LeaseIsNotRenewed: "leases::a_renewed_lease_lasts_longer",
    /// A lease is looked at first and taken later.
    LeaseLooksFirst: "leases::of_many_who_ask_one_gets_it",
    /// Opening begins with an empty store.
    OpeningWipes: "shared::nodes_open_at_the_same_moment",
    /// Opening forgets the policies.
    OpeningForgetsPolicies: "reads::a_store_that_is_opened_again_has_everything",
    /// Opening forgets the blocks.
    OpeningForgetsBlocks: "reads::a_store_that_is_opened_again_has_everything",
    /// Opening forgets the history.
    OpeningForgetsHistory: "reads::a_store_that_is_opened_again_has_everything",
    /// A copy from the past gives the same numbers again, and they are all there is to a cursor.
    CopiesRepeatNumbers: "reads::a_copy_from_the_past_is_a_gap",
    /// The clock of a report stands still.
    ReportsHaveNoClock: "reads::a_report_is_plausible",
    /// A report does not know the log.
    ReportsHaveNoLog: "reads::a_report_is_plausible",
}

//! What a store may get wrong.

/// One broken guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A commit goes through whatever the version: the lost admission race.
    CommitIgnoresVersion,
    /// A commit that fails half-way leaves its first half.
    CommitInPart,
    /// A commit makes one change after the other.
    CommitInSteps,
    /// A commit ends sessions of other users.
    CommitCrossesUsers,
    /// A touch of a session that is gone brings it back.
    TouchResurrects,
    /// A touch with an earlier time moves last accessed back.
    TouchMovesBack,
    /// A touch of an unknown session claims to have found it.
    TouchFindsEverything,
    /// A touch replaces the addresses.
    TouchReplacesAddresses,
    /// A rotation of a session that is gone brings it back.
    RotationResurrects,
    /// A read answers what it once read.
    LoadIsStale,
    /// A read answers what the one before it asked, if nobody took that answer.
    LoadAnswersTheLastOne,
    /// Long fields are cut.
    FieldsAreCut,
    /// Names of users are compared without case.
    UsersFoldCase,
    /// A user's sessions are those of the same name in any tenant.
    UserLeaksTenants,
    /// A selection reaches over the walls.
    EndCrossesTenants,
    /// A selection does not spare its exception.
    EndSparesNobody,
    /// A selection ends more at once than it was allowed to.
    EndIgnoresLimit,
    /// A sweep goes by what it once knew of a session's use.
    SweepDoesNotLookAgain,
    /// A page begins with the last session of the page before.
    PageRepeats,
    /// A page begins after all sessions of the last one's time.
    PageSkipsTies,
    /// A page goes on after so many sessions, not after a certain one.
    PageCountsOffsets,
    /// A page reaches over the walls.
    PageCrossesTenants,
    /// A page lists what is past its timeouts.
    PageListsExpired,
    /// The log loses an entry where several were committed together.
    LogSkips,
    /// The log tells the last entry again.
    LogRepeats,
    /// The log is told newest first.
    LogReorders,
    /// A reader that was left behind is not told.
    LogHidesGaps,
    /// A change is acknowledged before the log shows it.
    LogLags,
    /// An end is not logged.
    LogMissesEnds,
    /// The log trims its newest entry.
    TrimTakesAll,
    /// Everybody gets the lease.
    LeaseForEverybody,
    /// A lease never runs out.
    LeaseNeverEnds,
    /// Whoever once had the lease gets it again.
    LeaseForLateHolders,
    /// A sign-in reads policies as they once were.
    PoliciesAreStale,
    /// A policy set for a user holds for the same name in other tenants.
    PoliciesCrossTenants,
    /// Whoever opens it begins with an empty store.
    OpeningWipes,
    /// A cursor that fell out of the log is answered as if nothing had been missed, to readers of
    /// whole pages.
    GapsAreHiddenFromNodes,
}

impl Fault {
    /// Every fault, and the case that has to find it.
    pub(crate) const ALL: [(Self, &'static str); 37] = [
        (Self::CommitIgnoresVersion, "commit::a_commit_needs_the_version_it_was_made_for"),
        (Self::CommitInPart, "commit::a_commit_is_all_or_nothing"),
        (Self::CommitInSteps, "abandoned::a_change_happens_whole_or_not_at_all"),
        (Self::CommitCrossesUsers, "change::users_and_tenants_do_not_disturb_one_another"),
        (Self::TouchResurrects, "races::a_touch_races_a_revocation"),
        (Self::TouchMovesBack, "touching::a_touch_moves_forward_merges_and_never_creates"),
        (Self::TouchFindsEverything, "touching::a_touch_moves_forward_merges_and_never_creates"),
        (Self::TouchReplacesAddresses, "touching::a_touch_moves_forward_merges_and_never_creates"),
        (Self::RotationResurrects, "races::a_rotation_races_a_revocation"),
        (Self::LoadIsStale, "races::a_touch_races_a_revocation"),
        (Self::LoadAnswersTheLastOne, "abandoned::the_next_call_gets_its_own_answer"),
        (Self::FieldsAreCut, "records::every_field_comes_back_at_its_limits"),
        (Self::UsersFoldCase, "change::users_and_tenants_do_not_disturb_one_another"),
        (Self::UserLeaksTenants, "change::users_and_tenants_do_not_disturb_one_another"),
        (Self::EndCrossesTenants, "change::users_and_tenants_do_not_disturb_one_another"),
        (Self::EndSparesNobody, "change::selections_end_what_they_select"),
        (Self::EndIgnoresLimit, "change::selections_end_what_they_select"),
        (Self::SweepDoesNotLookAgain, "change::a_sweep_takes_only_what_is_past_the_line"),
        (Self::PageRepeats, "listing::pages_are_stable_while_sessions_come_and_go"),
        (Self::PageSkipsTies, "listing::pages_are_stable_while_sessions_come_and_go"),
        (Self::PageCountsOffsets, "listing::pages_are_stable_while_sessions_come_and_go"),
        (Self::PageCrossesTenants, "listing::filters_select_what_they_say"),
        (Self::PageListsExpired, "listing::filters_select_what_they_say"),
        (Self::LogSkips, "log::concurrent_writers_lose_no_entry"),
        (Self::LogRepeats, "log::entries_come_in_order_to_every_reader"),
        (Self::LogReorders, "log::entries_come_in_order_to_every_reader"),
        (Self::LogHidesGaps, "log::a_cut_log_is_noticed"),
        (Self::LogLags, "log::entries_come_in_order_to_every_reader"),
        (Self::LogMissesEnds, "log::entries_come_in_order_to_every_reader"),
        (Self::TrimTakesAll, "log::a_cut_log_is_noticed"),
        (Self::LeaseForEverybody, "leases::a_lease_has_one_holder"),
        (Self::LeaseNeverEnds, "leases::a_lease_has_one_holder"),
        (Self::LeaseForLateHolders, "leases::a_lease_has_one_holder"),
        (Self::PoliciesAreStale, "policies::policies_layer_and_inherit"),
        (Self::PoliciesCrossTenants, "policies::policies_layer_and_inherit"),
        (Self::OpeningWipes, "shared::nodes_open_at_the_same_moment"),
        (Self::GapsAreHiddenFromNodes, "log::a_node_that_was_cut_off_catches_up"),
    ];
}

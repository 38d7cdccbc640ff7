//! Defects that a simulation plants, one at a time, to see that it finds them.
//!
//! No part of the interface. Without the feature `planted`, [`is`] is constant and false, and nothing of a
//! defect is compiled. With it, which defect is planted is a setting of the thread, because a simulation
//! runs a whole fleet on one: the only state that this crate has.

/// Makes the enum, its list and its words out of one table.
macro_rules! defects {
    ($($defect:ident, $name:literal, $means:literal;)*) => {
        /// A change of the code that breaks a guarantee.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Defect {
            $(#[doc = $means] $defect,)*
        }

        impl Defect {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$defect),*];

            /// Its name on a command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$defect => $name),*
                }
            }

            /// What the code does then.
            pub const fn means(self) -> &'static str {
                match self {
                    $(Self::$defect => $means),*
                }
            }
        }
    };
}

defects! {
    // The log.
    CursorBeforeApply, "cursor-before-apply",
        "The last entry of every page of the log is passed over.";
    HalfRead, "half-read",
        "A node counts as having read the log after one page, although there is more.";
    HintIsTruth, "hint-is-truth",
        "A hint of the store counts as having read the log, also when the log cannot be read.";
    GapIgnored, "gap-ignored",
        "A node goes on with its cache when the log does not continue where it left it.";
    EndedKept, "ended-kept",
        "A node that finds a gap in the log goes on refusing what it knows to have ended.";
    MissedUntold, "missed-untold",
        "Listeners are not told that they may have missed something.";
    BeginUntold, "begin-untold",
        "Listeners are not told that a session has begun.";
    SystemSignsOut, "system-signs-out",
        "A sign-out is told as a change that nobody has asked for.";
    GapRetells, "gap-retells",
        "A reader whose place the log has lost gets all of the log once more.";
    TrimUnseen, "trim-unseen",
        "The store does not notice that it has trimmed entries which a reader has not seen.";
    PushOnly, "push-only",
        "A node reads the log when the store hints at a change, and at no other time.";
    UnknownEventIgnored, "unknown-event-ignored",
        "An entry of a newer version is passed over, although it names a session.";
    ClaimsIgnored, "claims-ignored",
        "Other nodes keep the claims that they have cached when claims change.";
    RotationUnheard, "rotation-unheard",
        "Other nodes keep the record that they have cached when a token is rotated.";
    StreamLeftOpen, "stream-left-open",
        "A connection that waits for the end of its session is not told of one that another node ended.";
    SlowFollower, "slow-follower",
        "A node reads the log once in four propagation bounds, and requests do not read it in its place.";
    PollsMore, "polls-more",
        "A node reads the log four times as often as it has to.";

    // The cache.
    FillAfterRevoke, "fill-after-revoke",
        "A read of a session is cached, although the session has ended or changed during the read.";
    EndedForgotten, "ended-forgotten",
        "The end of a session that is not cached is passed over, also while the session is being read.";
    OwnCacheKept, "own-cache-kept",
        "The node that ends a session keeps it in its cache until it reads of the end in the log.";
    StaleTrusted, "stale-trusted",
        "A node trusts its cache, however long it has not read the log.";
    StoppedTrusted, "stopped-trusted",
        "A node that was stopped answers from its cache before it has read the log.";
    MonotonicOnly, "monotonic-only",
        "A node trusts its cache by its monotonic clock alone, which stands still while a machine sleeps.";
    OutageIsRefusal, "outage-is-refusal",
        "A token is refused as unknown when the store cannot be asked.";
    JoinedReadTrusted, "joined-read-trusted",
        "A token is refused by a read of the session that began before the request came.";

    // Time.
    WallClock, "wall-clock",
        "A node takes its own wall clock for the fleet's time.";
    IdleUnverified, "idle-unverified",
        "A cached session that looks expired is refused without asking the store.";
    IdleEndsAtOnce, "idle-ends-at-once",
        "An idle session ends at its timeout, although a use may be on its way from another node.";
    OutageForgotten, "outage-forgotten",
        "An idle session ends just after an outage, although nodes may have accepted a use of it during the outage.";
    UseUnchecked, "use-unchecked",
        "An idle session ends although it was used since it was read.";
    SweepByNode, "sweep-by-node",
        "The cleanup goes by the wall clock of the node that runs it.";
    SweepEager, "sweep-eager",
        "The cleanup leaves no time for accesses that are not written back yet.";
    NoAbsoluteExpiry, "no-absolute-expiry",
        "A session begins without its absolute timeout.";
    PassiveCounts, "passive-counts",
        "A request that is not the user's doing counts as a use.";
    NeverExpires, "never-expires",
        "The absolute timeout is ignored.";

    // Write-back.
    EmptyFlush, "empty-flush",
        "A node asks the store for a write-back also where it has nothing to write.";
    LastFlushLost, "last-flush-lost",
        "A node that stops does not write back what it has of accesses.";
    FlushLost, "flush-lost",
        "Accesses count as written back although the store did not answer.";
    EvictionLost, "eviction-lost",
        "An entry that leaves the cache for lack of room takes its unstored accesses along.";
    TouchBackwards, "touch-backwards",
        "A write-back sets last accessed and the deadline back.";
    TouchResurrects, "touch-resurrects",
        "A write-back begins a session again that has ended.";
    ClaimUnstored, "claim-unstored",
        "A write-back does not store that a session's token has been presented.";
    NoHalfIdleRule, "no-half-idle-rule",
        "An access waits for its planned write-back, also when the stored one is older than half the idle timeout.";
    HitsIgnored, "hits-ignored",
        "Accesses wait for their planned write-back, however many there are.";
    NoQuarterIdleRule, "no-quarter-idle-rule",
        "A write-back may wait for longer than a quarter of the idle timeout.";
    MaxDelayDoubled, "max-delay-doubled",
        "A write-back may wait for twice its longest delay.";

    // Rotation.
    RandomSuccessor, "random-successor",
        "Every rotation of the same token yields another next token.";
    GraceFromBegin, "grace-from-begin",
        "The grace of a replaced token counts from the time at which its successor was issued.";
    GraceFromAsked, "grace-from-asked",
        "A rotation takes the time for which its request was worked on from the grace of the token.";
    ConfirmSkipped, "confirm-skipped",
        "The first use of a new token is not stored, so that the old one stays valid.";
    TheftUnseen, "theft-unseen",
        "A replaced token that is used after its grace is refused, and its session goes on.";
    RecordRolledBack, "record-rolled-back",
        "A change of a session's data stores the token before the current one.";
    OtherSuccessorStored, "other-successor-stored",
        "A rotation answers another token than it stores.";
    StepUpStale, "step-up-stale",
        "A session whose user has proved again who they are keeps the time of the proof before.";
    FamilyInGrace, "family-in-grace",
        "While a replaced token is in its grace, every older one is accepted too.";
    StepUpLeaks, "step-up-leaks",
        "A token in its grace has the freshness of a re-authentication made after it.";
    StepUpAtOnce, "step-up-at-once",
        "A re-authentication counts for the token before it, until its own is used.";
    RetiredForever, "retired-forever",
        "A replaced token is accepted after its grace.";
    NoGrace, "no-grace",
        "A token has no grace when it is replaced.";

    // Sign-in.
    StaleDecision, "stale-decision",
        "After a conflict a sign-in reads the new version and commits the old decision.";
    OwnAttemptUnseen, "own-attempt-unseen",
        "A sign-in whose answer was lost takes its own session for another one.";
    ConflictGivesUp, "conflict-gives-up",
        "A sign-in fails when another change of the user's sessions came first.";
    OffByOne, "off-by-one",
        "A limit allows one session more.";
    RejectsAcrossScopes, "rejects-across-scopes",
        "A limit that rejects counts the user's sessions of every scope.";
    NewestEvicted, "newest-evicted",
        "A limit ends the newest or the most recently used session.";
    KindIgnored, "kind-ignored",
        "A limit for one kind of device counts sessions on every kind.";
    RecentlyUsedEvicted, "recently-used-evicted",
        "A limit that evicts the least recently used session ends the most recently used one.";
    UnclaimedStays, "unclaimed-stays",
        "A session that no client has claimed in time leaves no sooner than others.";
    AnsweredTakenBack, "answered-taken-back",
        "A session that a sign-in has begun is taken back, although its client has the answer.";
    TakenBackFirst, "taken-back-first",
        "A session that a sign-in has begun is taken back before its client has the answer.";
    TicketSparesChosen, "ticket-spares-chosen",
        "The session that a ticket's user has chosen stays where there is room again.";
    TicketElsewhere, "ticket-elsewhere",
        "A ticket is taken only by the node that has issued it.";
    BlockAfterEnds, "block-after-ends",
        "A block is set once the sessions within have ended.";
    BlockForEver, "block-for-ever",
        "A block has no end.";
    PolicyUnset, "policy-unset",
        "A change of a policy is answered, and the store has the old one.";
    UnclaimedBlocks, "unclaimed-blocks",
        "A session that no client has claimed in time counts like any other.";
    TakeBackOnce, "take-back-once",
        "A session that no client holds is ended with one try.";
    CallerGoneCommits, "caller-gone-commits",
        "A sign-in whose caller has gone goes on.";
    GoneCallerKept, "gone-caller-kept",
        "A session whose caller has gone without the answer stays.";
    TicketTwice, "ticket-twice",
        "A ticket works more than once.";
    SameDeviceAdds, "same-device-adds",
        "The session that the same browser held before takes up a place.";
    BlockUnchecked, "block-unchecked",
        "Sign-ins go on where a block holds.";
    BlockRace, "block-race",
        "The store commits a sign-in that was decided before a block.";
    BlockKeepsSessions, "block-keeps-sessions",
        "A block ends no sessions.";
    LostCountsAsDone, "lost-counts-as-done",
        "A sign-in counts as committed when the store did not answer.";
    ConflictCommits, "conflict-commits",
        "The store answers a commit that it has carried out with a conflict.";
    VersionGuessed, "version-guessed",
        "A sign-in goes by a version that it has not read, and the store takes it.";
    FormerKept, "former-kept",
        "The session that the same browser held before goes on beside a new one.";
    HeldEnds, "held-ends",
        "The session that the same browser shows ends when its user signs in again.";
    AgainAtOnce, "again-at-once",
        "A sign-in retires the token that the browser shows before its own is used.";
    TenantLost, "tenant-lost",
        "A sign-in begins a session of the user of that name outside of all tenants.";

    // Others.
    LeaseIgnored, "lease-ignored",
        "The cleanup runs on every node, also without the lease.";
    LeaseShared, "lease-shared",
        "All nodes ask for the cleanup's lease by the same name.";
    LeaseOnce, "lease-once",
        "The cleanup goes on to its next batch without asking whether the lease is still its own.";
    ToldTwice, "told-twice",
        "The node that ends a session tells its listeners at once, and again from the log.";
    DataOverwritten, "data-overwritten",
        "A change of a session's data is stored although another one came first.";
    NewerForgotten, "newer-forgotten",
        "A change of a session drops what a newer version has written into its record.";
    HistoryKept, "history-kept",
        "The cleanup deletes nothing of sessions that have ended.";
    ChangeLoses, "change-loses",
        "The store loses a session whose record changes.";
    HistoryLost, "history-lost",
        "Nothing is kept of sessions that have ended.";
    EvictionUntrue, "eviction-untrue",
        "The client of an evicted session is told that it was revoked.";
    TenantIgnored, "tenant-ignored",
        "What ends a user's sessions reaches users of that name in every tenant.";
    ClientIgnored, "client-ignored",
        "What ends the sessions of one client reaches those of every client.";
    SignOutKeeps, "sign-out-keeps",
        "A sign-out is answered, and its session goes on.";
    OthersMeansAll, "others-means-all",
        "What ends a user's other sessions ends the one from which it is asked, too.";
    EraseKeepsHistory, "erase-keeps-history",
        "What is kept of the ended sessions of a user who is erased stays.";
    WaitUntold, "wait-untold",
        "A connection that waits for the end of its session is told another cause.";
    FirstOnly, "first-only",
        "Of several sessions that are revoked, only the first ends.";
    ListCrossesTenants, "list-crosses-tenants",
        "A list of a user's sessions has those of users of that name in every tenant.";
    HistoryCrossesTenants, "history-crosses-tenants",
        "The history of a user has what has ended of users of that name in every tenant.";
    ListForgetsUnclaimed, "list-forgets-unclaimed",
        "A list leaves out sessions whose token has not been presented.";
}

/// Whether this defect is planted on this thread.
#[cfg(feature = "planted")]
pub fn is(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}

/// Whether this defect is planted: never, without the feature.
#[cfg(not(feature = "planted"))]
pub const fn is(_defect: Defect) -> bool {
    false
}

/// Plants a defect on this thread in place of the one before it, or with none takes that away.
#[cfg(feature = "planted")]
pub fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_the_defect_in_kebab_case() {
        for defect in Defect::ALL {
            let mut name = String::new();
            for letter in format!("{defect:?}").chars() {
                if letter.is_uppercase() && !name.is_empty() {
                    name.push('-');
                }
                name.extend(letter.to_lowercase());
            }
            assert_eq!(defect.name(), name);
        }
    }

    #[test]
    fn nothing_is_planted_by_itself() {
        assert!(Defect::ALL.iter().all(|defect| !is(*defect)));
    }

    #[cfg(feature = "planted")]
    #[test]
    fn one_defect_is_planted_at_a_time_and_on_one_thread() {
        let planted = || Defect::ALL.iter().copied().filter(|defect| is(*defect)).collect();
        for defect in Defect::ALL {
            plant(Some(*defect));
            assert_eq!(planted(), vec![*defect]);
        }
        std::thread::scope(|scope| {
            let elsewhere: Vec<Defect> = scope.spawn(planted).join().unwrap();
            assert_eq!(elsewhere, []);
        });
        plant(None);
        assert_eq!(planted(), []);
    }
}

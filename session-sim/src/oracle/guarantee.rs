//! The guarantees that the oracle judges, each with the word by which it is told.

/// Makes the enum, its list and its words out of one table.
macro_rules! guarantees {
    ($($guarantee:ident, $name:literal, $means:literal;)*) => {
        /// What is broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Guarantee {
            $(#[doc = $means] $guarantee,)*
        }

        impl Guarantee {
            /// All of them.
            #[cfg(feature = "planted")]
            pub(crate) const ALL: &[Self] = &[$(Self::$guarantee),*];

            const fn name(self) -> &'static str {
                match self {
                    $(Self::$guarantee => $name),*
                }
            }
        }
    };
}

guarantees! {
    Alone, "alone", "One node at a time has the cleanup's lease.";
    Another, "another", "A client has its own session.";
    Backwards, "backwards", "The store's last access does not go back.";
    Block, "block", "Where a block holds, nobody signs in and no session goes on.";
    Bound, "bound", "A node learns of an end within the propagation bound.";
    Budget, "budget", "An idle node asks the store no more than so often.";
    By, "by", "Who has ended a session is told.";
    Cause, "cause", "A client is told how its session has ended.";
    Chosen, "chosen", "A ticket ends the session that its user has chosen.";
    Claims, "claims", "Claims are as new as the propagation bound.";
    Expired, "expired", "Nothing is accepted after a timeout.";
    Freshness, "freshness", "A token has the freshness of its own authentication.";
    GoesOn, "goes on", "A sign-in goes on in the session whose valid token its client shows.";
    Grace, "grace", "A grace begins with the first use of the next token.";
    History, "history", "The client of a session that has ended is told so.";
    HistoryList, "history list", "The history has what has ended, and nothing else.";
    IdleWrite, "idle write", "An idle node writes nothing.";
    InUse, "in use", "No session ends as unused that is used.";
    LastFlush, "last flush", "A node that stops in order leaves no use unstored.";
    Late, "late", "A use is in the store within the delay of its write-back.";
    Lease, "lease", "Only the node that has the lease cleans up.";
    Limit, "limit", "No sign-in exceeds a limit.";
    Listed, "listed", "A list has the user's live sessions, and nothing else.";
    LockedOut, "locked out", "No limit and no block locks a user out.";
    Lost, "lost", "The store loses no session.";
    LostUpdate, "lost update", "No change of a session's data is lost.";
    Needless, "needless", "Nobody leaves whom every limit lets stay.";
    Newer, "newer", "What a newer version has written into a record stays there.";
    Newest, "newest", "The newest session goes on.";
    NobodyHolds, "nobody holds", "No session goes on that nobody holds.";
    NotClaimed, "not claimed", "The store knows that a token was presented.";
    NotConfirmed, "not confirmed", "The first use of a token is in the store before it is answered.";
    NotEnded, "not ended", "What was to end has ended when the call returns.";
    NotFull, "not full", "A refusal has a limit that is full.";
    NotOverdue, "not overdue", "The cleanup ends only what is overdue.";
    NotWrittenBack, "not written back", "Every use is in the store at the end.";
    Odd, "odd", "Nothing happens that cannot.";
    Order, "order", "The oldest session leaves first.";
    OwnRevocation, "own revocation", "A node accepts nothing that it has ended itself.";
    OwnerOut, "owner out", "No session ends for a copy that nobody has made.";
    Phantom, "phantom", "A sign-in that succeeds has begun a session, or goes on in one.";
    Refused, "refused", "The owner of a live session is not refused.";
    Replaced, "replaced", "A sign-in leaves no other session of its client.";
    Resurrection, "resurrection", "What has ended does not come back.";
    Retired, "retired", "A replaced token is accepted in its grace alone.";
    Revoked, "revoked", "A node accepts nothing of whose end it has read.";
    Selection, "selection", "Only that ends which was selected.";
    Set, "set", "Policies and blocks are set as was asked, and when the call returns.";
    Stale, "stale", "A node that cannot read the log trusts its cache no longer than it may.";
    Stopped, "stopped", "A node that was stopped reads the log before it answers.";
    Successor, "successor", "Every rotation of a token gives the same next one.";
    Theft, "theft", "A copied token that is used ends its session.";
    Ticket, "ticket", "A ticket works once.";
    TicketGood, "ticket good", "An unused ticket works while a session stands that the limit has counted.";
    Told, "told", "Every end is told once, as it was.";
    Unasked, "unasked", "No session ends that nobody has asked to end.";
    Unavailable, "unavailable", "Only a node that a fault has touched answers 503.";
    Unknown, "unknown", "What is accepted or ends has begun.";
    Unread, "unread", "A sign-in goes by a version that was read.";
    Wait, "wait", "A wait is told the end, and nothing else.";
}

impl std::fmt::Display for Guarantee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

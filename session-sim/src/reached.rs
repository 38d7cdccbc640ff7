//! What runs have come upon: a run in which nothing happens proves nothing.

use std::collections::BTreeMap;

/// How often each thing was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reached(BTreeMap<&'static str, u64>);

impl Reached {
    pub(crate) fn note(&mut self, what: &'static str) {
        debug_assert!(ALL.contains(&what), "{what} is in the list");
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// Everything with its count.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ALL.iter().map(|what| (*what, self.0.get(what).copied().unwrap_or_default()))
    }

    /// What was never seen.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        self.counts().filter(|(_, count)| *count == 0).map(|(what, _)| what).collect()
    }
}

/// Everything that a long run has to come upon.
pub(crate) const ALL: [&str; 85] = [
    "a call fails before it arrives",
    "a call is carried out and its answer lost",
    "a call arrives after it was given up",
    "a call gets no answer",
    "a call is slow",
    "a call is refused while the store is away",
    "a push is lost",
    "a push is late",
    "a node is killed",
    "a node stops in order",
    "a node is not scheduled for a while",
    "a machine sleeps",
    "a wall clock is wrong",
    "a wall clock stands still",
    "a store comes back older",
    "a node reads the log as an older version",
    "a node writes a record as a newer version",
    "a gap in the log that the cleanup has made",
    "a gap in the log after the store came back older",
    "entries of the log come in another order than committed",
    "a request to a node that is down",
    "a request takes long",
    "a caller goes away",
    "the caller of a sign-in goes away",
    "the caller of a revocation or a block goes away",
    "the caller of a change goes away",
    "a response does not reach its client",
    "a sign-in succeeds",
    "a sign-in goes on in the session of its client",
    "a sign-in meets another one",
    "a sign-in evicts",
    "a sign-in evicts at the ceiling of a user",
    "a sign-in is refused by a limit",
    "a sign-in is refused by a block",
    "a ticket is used",
    "a ticket is refused",
    "a ticket is used a second time",
    "a request is accepted",
    "a request is answered without the store",
    "a request is answered by a cache that is stale",
    "a node answers for more sessions than its cache holds",
    "a request that is no use is accepted",
    "a request is told how its session ended",
    "a request is refused",
    "a request is answered 503",
    "an ended session is accepted within the bound",
    "a token is replaced",
    "a token is confirmed",
    "a replaced token is accepted in its grace",
    "a stolen token ends its session",
    "a token is renewed",
    "a user proves again who they are",
    "a user signs out",
    "a session is revoked",
    "a session is revoked by its id",
    "several sessions are revoked by their ids",
    "a user's sessions are revoked",
    "a user's other sessions are revoked",
    "a user's sessions of one kind are revoked",
    "a user's older sessions are revoked",
    "a user's unused sessions are revoked",
    "the sessions of one application are revoked",
    "the sessions of a tenant are revoked",
    "all sessions are revoked",
    "a user is erased",
    "the sessions of a user are listed",
    "the history of a user is listed",
    "a session ends as idle",
    "a session looks idle while a use of it is on its way",
    "a session ends at its absolute timeout",
    "the cleanup ends a session",
    "a node cleans up after another one was given its lease",
    "a session that nobody holds is taken back",
    "a session is written back",
    "a use finds its session gone",
    "application data change",
    "claims change",
    "a policy changes",
    "a block is set",
    "a block ends sessions",
    "a wait is told the end",
    "a wait is told that nothing is known",
    "a listener is told that it missed something",
    "a page of the log is not the last",
    "the cleanup cuts the log",
];

//! Ends sessions that this node has begun and no client holds, and those that a sign-in has replaced in
//! its browser: tried again until the store has answered.
//!
//! None is dropped for lack of room. While there are [`MOST_OWED`], no sign-in begins that could add one.
//!
//! A commit whose answer was lost may still be on its way when its session is looked for and not found. So
//! the session is looked for again, a few times, for longer than a commit can be on its way
//! ([`FIRST_LOOK`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_core::planted::{self, Defect};
use session_core::store::{Selection, TenantFilter};
use session_core::{Actor, EndCause, SessionId, StoreError, TokenDigest};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::Error;
use crate::node::Node;
use crate::shared::Shared;

/// A session that has to end, with what the log will say of it.
#[derive(Clone, Debug)]
pub(crate) struct Debt {
    pub(crate) id: SessionId,
    pub(crate) cause: EndCause,
    pub(crate) by: Actor,
    /// Ends only a session whose tokens are of this family. All uses of a ticket begin a session of the
    /// same id, and only one of them has begun it.
    pub(crate) family: Option<TokenDigest>,
    /// How often it is looked for again where it is not found.
    pub(crate) looks: u32,
}

impl Debt {
    /// A session that is known to have begun.
    pub(crate) const fn of_session(id: SessionId, cause: EndCause, by: Actor) -> Self {
        Self { id, cause, by, family: None, looks: 0 }
    }

    /// A session that a commit may have begun, or may still begin.
    pub(crate) const fn of_commit(id: SessionId, family: Option<TokenDigest>) -> Self {
        Self { id, cause: EndCause::Revoked, by: Actor::System, family, looks: LOOKS }
    }
}

/// Sessions that have to end.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    debts: Mutex<VecDeque<Debt>>,
    grown: Notify,
    /// Those that were not found, by when they are looked for again.
    missed: Mutex<BTreeMap<(Instant, SessionId), Debt>>,
}

impl Owed {
    pub(crate) fn add(&self, debt: Debt) {
        self.debts().push_back(debt);
        self.grown.notify_one();
    }

    /// Refuses a sign-in while too many sessions have to end. Only those that are under way by then can
    /// still add some.
    pub(crate) fn check_room(&self) -> Result<(), Error> {
        if self.len() < MOST_OWED {
            return Ok(());
        }
        Err(StoreError::unavailable("too many sessions have to be taken back first").into())
    }

    /// How many still have to end.
    pub(crate) fn len(&self) -> usize {
        self.debts().len()
    }

    /// Whether this session has to end.
    pub(crate) fn holds(&self, id: SessionId) -> bool {
        self.debts().iter().any(|debt| debt.id == id)
    }

    /// The next one, which goes behind the others. It stays until it is removed: a call that panics loses
    /// none, and stands in no other's way.
    fn next(&self) -> Option<Debt> {
        let mut debts = self.debts();
        let next = debts.pop_front()?;
        debts.push_back(next.clone());
        Some(next)
    }

    /// All uses of a ticket owe sessions of one id, each of its own family.
    fn remove(&self, gone: &Debt) {
        let mut debts = self.debts();
        let is_it = |debt: &Debt| (debt.id, debt.family) == (gone.id, gone.family);
        let place = debts.iter().rposition(is_it);
        place.and_then(|place| debts.remove(place));
    }

    /// Looks for a session again later, where it has not been found often enough. Where many are looked
    /// for, the next one is given up: it stays unclaimed, if it begins at all.
    fn look_again(&self, mut debt: Debt) {
        if debt.looks == 0 {
            return;
        }
        let pause = FIRST_LOOK * (1 << (LOOKS - debt.looks));
        debt.looks -= 1;
        let mut missed = lock(&self.missed);
        if missed.len() == MOST_OWED {
            missed.pop_first();
        }
        missed.insert((Instant::now() + pause, debt.id), debt);
    }

    /// Waits until sessions have to be looked for again, and owes them then.
    async fn look_due(&self) {
        let next = lock(&self.missed).first_key_value().map(|((due, _), _)| *due);
        let Some(due) = next else { return std::future::pending().await };
        tokio::time::sleep_until(due).await;
        let now = Instant::now();
        let mut missed = lock(&self.missed);
        while let Some(first) = missed.first_entry().filter(|first| first.key().0 <= now) {
            self.add(first.remove());
        }
    }

    fn debts(&self) -> MutexGuard<'_, VecDeque<Debt>> {
        lock(&self.debts)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session that no client holds, or may hold: one that has begun and was not handed over yet, or one
/// that was replaced. Dropped, it is owed.
pub(crate) struct Unheld {
    shared: Arc<Shared>,
    debt: Option<Debt>,
}

impl Unheld {
    pub(crate) fn new(shared: &Arc<Shared>, debt: Debt) -> Self {
        Self { shared: Arc::clone(shared), debt: Some(debt) }
    }

    /// A client holds the session, or it has ended, or has not begun.
    pub(crate) fn release(mut self) {
        self.debt = None;
    }
}

impl Drop for Unheld {
    fn drop(&mut self) {
        if let Some(debt) = self.debt.take() {
            self.shared.owed.add(debt);
        }
    }
}

/// Ends one after another, until the node stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    let node = Node::new(Arc::clone(&shared));
    loop {
        let result = end_all(&node).await;
        let failed = result.is_err();
        shared.health.note("take-back", result.err().map(|error| error.to_string()));
        let pause = tokio::time::sleep(PAUSE);
        tokio::select! {
            biased;
            () = stopping.stopped() => return,
            () = pause, if failed => {}
            () = shared.owed.grown.notified(), if !failed => {}
            () = shared.owed.look_due() => {}
        }
    }
}

/// Tries once more: the node ends, and its workers have. A session that is left stays unclaimed, and the
/// policy and the cleanup see to it.
pub(crate) async fn last(node: &Node) {
    if let Err(error) = end_all(node).await {
        let left = node.shared().owed.len();
        tracing::warn!(%error, left, "sessions without a holder are left");
    }
}

/// Tries each once. One that cannot be ended stops no other, unless the store is away. While the node
/// stops, this takes no longer than a call may and one call more.
async fn end_all(node: &Node) -> Result<(), Error> {
    let shared = node.shared();
    let (owed, begun) = (&shared.owed, Instant::now());
    let mut result = Ok(());
    for _ in 0..owed.len() {
        if *shared.stop.borrow() && begun.elapsed() > shared.options.store_timeout {
            return Err(StoreError::unavailable("the node stops").into());
        }
        let Some(debt) = owed.next() else { break };
        match end(node, &debt).await {
            Ok(true) => owed.remove(&debt),
            Ok(false) => {
                owed.remove(&debt);
                owed.look_again(debt);
            }
            Err(error) => {
                let away = error.is_unavailable();
                result = Err(error);
                if planted::is(Defect::TakeBackOnce) {
                    owed.remove(&debt);
                } else if away {
                    break;
                }
            }
        }
    }
    result
}

/// Ends the session now, where it is there and of the family. False where it was not found.
pub(crate) async fn end(node: &Node, debt: &Debt) -> Result<bool, Error> {
    let Debt { id, cause, ref by, family, .. } = *debt;
    if let Some(family) = family {
        let shared = node.shared();
        let stored = shared.store_call("load", shared.store.load(id)).await?;
        let Some(stored) = stored else { return Ok(false) };
        if stored.session.token.family != family {
            // The id is taken: a commit that is on its way is a conflict.
            return Ok(true);
        }
    }
    let selection = Selection::session(id, TenantFilter::Any);
    Ok(node.end_all(selection, cause, by.clone(), None).await? > 0)
}

/// The most sessions that may have to end while sign-ins go on.
const MOST_OWED: usize = 10_000;
/// Between two tries while the store is away.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a session that is not found is looked for again.
const LOOKS: u32 = 5;
/// Until it is looked for again for the first time; every time after that takes twice as long. All take
/// 310 s. A commit whose caller has given up is carried out sooner or not at all: it waits for a lock for at
/// most 50 s, which is the default of MySQL and MariaDB and the longest of the stores, and TCP sends again
/// after at most 120 s what a network has lost that works again.
const FIRST_LOOK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// What panics or fails each time keeps its place among those that are owed, and takes no other's.
    #[test]
    fn one_that_cannot_be_ended_stands_in_nobodys_way() {
        let owed = Owed::default();
        let ids = [1, 2, 3].map(|n| SessionId::from_bytes([n; 16]));
        ids.iter().for_each(|id| owed.add(Debt::of_commit(*id, None)));
        let next = || owed.next().unwrap().id;
        assert_eq!([next(), next(), next(), next()], [ids[0], ids[1], ids[2], ids[0]]);
        owed.remove(&Debt::of_commit(ids[0], None));
        assert_eq!((owed.len(), next(), next(), next()), (2, ids[1], ids[2], ids[1]));
        // Two uses of one ticket.
        let family = Some(TokenDigest::from_bytes([7; 32]));
        owed.add(Debt::of_commit(ids[1], family));
        owed.remove(&Debt::of_commit(ids[1], None));
        let left: Vec<_> = owed.debts().iter().map(|debt| (debt.id, debt.family)).collect();
        assert_eq!(left, [(ids[2], None), (ids[1], family)]);
    }
}

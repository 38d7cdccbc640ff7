//! What a store is asked to change.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::time::Duration;

use crate::block::Block;
use crate::event::{Actor, EndCause, Event, EventKind};
use crate::field::{DeviceInfo, InvalidField, SessionId};
use crate::planted::{self, Defect};
use crate::policy::{Policy, PolicyScope};
use crate::session::{Session, UserKey, note_ip_address};
use crate::store::{PageCursor, Selection, StoreError, TenantFilter, Version};
use crate::time::Timestamp;

/// A change of one user's sessions.
///
/// It has at most [`Commit::MAX_CHANGES`] changes, each of a session of its own that belongs to the
/// owner: see [`Commit::check`].
#[derive(Clone, Debug)]
pub struct Commit {
    /// Whose sessions.
    pub owner: UserKey,
    /// The version that must still hold.
    pub expected: Version,
    /// What changes; applied in order.
    pub changes: Vec<Change>,
    /// When, for the log.
    pub at: Timestamp,
    /// Who, for the log.
    pub by: Actor,
    /// The device from which it was done, for the history of sessions that end.
    pub from: Option<DeviceInfo>,
}

/// One step of a [`Commit`].
#[derive(Clone, Debug)]
pub enum Change {
    /// A session begins. Its id is the commit's idempotency key: a retry after an unknown
    /// outcome finds it. An id that exists already, of any user, or that the history knows is a
    /// conflict; so is any insert for an owner who is blocked, and so may be an id that
    /// [`Store::session_id`](crate::Store::session_id) did not make for the owner.
    Insert(Box<Session>),
    /// A session ends, and goes into the history. One that is gone, or another user's, is passed
    /// over: no conflict, no entry in the log.
    End(SessionId, EndCause),
    /// A session's record is replaced: its details
    /// ([`record::details`](crate::store::record::details)), and its deadline where the new one is
    /// later. Nothing else of the session is written; what write-backs keep goes on beside it. One
    /// that is gone, or another user's, is a conflict.
    Update {
        /// The record as it is to be.
        session: Box<Session>,
        /// What the log says of it: [`EventKind::Rotated`] or [`EventKind::Changed`].
        kind: EventKind,
    },
    /// The claims of one of the user's sessions must be asked for again. One that is gone, or
    /// another user's, is passed over.
    ClaimsChanged(SessionId),
}

impl Change {
    /// What the log says of it.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Insert(_) => EventKind::Created,
            Self::End(_, cause) => EventKind::Ended(*cause),
            Self::Update { kind, .. } => *kind,
            Self::ClaimsChanged(_) => EventKind::ClaimsChanged,
        }
    }

    /// Whom it concerns.
    pub fn session(&self) -> SessionId {
        match self {
            Self::Insert(session) | Self::Update { session, .. } => session.id,
            Self::End(id, _) | Self::ClaimsChanged(id) => *id,
        }
    }
}

impl Commit {
    /// The most changes of one commit. A store that writes a session, its log entry and its
    /// history with each change, and the user's version once, stays below a hundred writes.
    pub const MAX_CHANGES: usize = 32;

    /// Refuses a commit that breaks a limit of the trait. Every store calls it first.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`](crate::StoreErrorKind::Refused) for more than
    /// [`Commit::MAX_CHANGES`] changes, for two changes of one session, and for a session of
    /// another owner.
    pub fn check(&self) -> Result<(), StoreError> {
        let count = InvalidField::check_count("changes", self.changes.len(), Self::MAX_CHANGES);
        count.map_err(StoreError::refused)?;
        let mut seen = Vec::with_capacity(self.changes.len());
        for change in &self.changes {
            if seen.contains(&change.session()) {
                let once = InvalidField::malformed("changes", "one change for each session");
                return Err(StoreError::refused(once));
            }
            seen.push(change.session());
            if let Change::Insert(session) | Change::Update { session, .. } = change
                && session.owner != self.owner
            {
                let own = InvalidField::malformed("owner", "the owner of every session");
                return Err(StoreError::refused(own));
            }
        }
        Ok(())
    }

    /// Whether it appends an entry that [invalidates](EventKind::invalidates).
    pub fn invalidates(&self) -> bool {
        self.changes.iter().any(|change| change.kind().invalidates())
    }

    /// The log entry that a change of this commit appends.
    pub fn event(&self, kind: EventKind, session: SessionId) -> Event {
        Event::of_session(kind, self.at, self.by.clone(), self.owner.clone(), session)
    }
}

impl Event {
    /// Whether it may be told within these walls. An event about the whole deployment is within no tenant,
    /// nor among the users outside all tenants.
    pub fn is_within(&self, walls: &TenantFilter) -> bool {
        let is_of_all = self.tenant.is_none() && self.user.is_none();
        if is_of_all { *walls == TenantFilter::Any } else { walls.covers(self.tenant.as_ref()) }
    }

    /// An event of one session.
    pub fn of_session(
        kind: EventKind,
        at: Timestamp,
        by: Actor,
        owner: UserKey,
        session: SessionId,
    ) -> Self {
        let UserKey { tenant, user } = owner;
        Self { kind, at, by, tenant, user: Some(user), session: Some(session) }
    }
}

/// How a [`Commit`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is durable.
    Done,
    /// None of it happened: another commit changed the user's sessions. Read and decide again.
    Conflict,
}

/// A write-back for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Which session.
    pub id: SessionId,
    /// When it was last used.
    pub last_accessed: Timestamp,
    /// When it ends if it is not used again.
    pub deadline: Timestamp,
    /// Whether its token has been presented.
    pub claimed: bool,
    /// Addresses to merge, newest last.
    pub ip_addresses: Vec<IpAddr>,
}

impl Touch {
    /// The most write-backs in one batch.
    pub const MAX_BATCH: usize = 500;

    /// One write-back for each session of a batch: the latest times, and the addresses of all that
    /// concern it, in their order. Every store calls it first, because a statement that updates one
    /// row from two values takes an arbitrary one.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`](crate::StoreErrorKind::Refused) for more than
    /// [`Touch::MAX_BATCH`].
    pub fn folded(batch: &[Self]) -> Result<Vec<Self>, StoreError> {
        let count = InvalidField::check_count("batch", batch.len(), Self::MAX_BATCH);
        count.map_err(StoreError::refused)?;
        let mut places = HashMap::with_capacity(batch.len());
        let mut folded: Vec<Self> = Vec::with_capacity(batch.len());
        for touch in batch {
            match places.entry(touch.id) {
                Entry::Vacant(place) => {
                    place.insert(folded.len());
                    folded.push(touch.clone());
                }
                Entry::Occupied(place) => folded[*place.get()].absorb(touch),
            }
        }
        // The oldest addresses would leave the session anyway.
        for touch in &mut folded {
            let addresses = std::mem::take(&mut touch.ip_addresses);
            addresses.into_iter().for_each(|ip| note_ip_address(&mut touch.ip_addresses, ip));
        }
        Ok(folded)
    }

    /// Writes it into the session's record: what [`Store::touch`](crate::Store::touch) asks of one
    /// session.
    pub fn apply(&self, session: &mut Session) {
        let Self { id: _, last_accessed, deadline, claimed, ip_addresses } = self;
        session.last_accessed = session.last_accessed.max(*last_accessed);
        session.deadline = session.deadline.max(*deadline);
        session.claimed |= *claimed && !planted::is(Defect::ClaimUnstored);
        ip_addresses.iter().for_each(|ip| note_ip_address(&mut session.ip_addresses, *ip));
    }

    fn absorb(&mut self, later: &Self) {
        self.last_accessed = self.last_accessed.max(later.last_accessed);
        self.deadline = self.deadline.max(later.deadline);
        self.claimed |= later.claimed;
        self.ip_addresses.extend(&later.ip_addresses);
    }
}

/// Where a call that ends sessions left off; only the store that made it can read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Continuation(pub Vec<u8>);

impl Continuation {
    /// The next call goes on after this place, in the order that the store walks in.
    pub fn at(place: PageCursor) -> Self {
        Self(place.to_string().into_bytes())
    }

    /// The place that [`Continuation::at`] wrote.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`](crate::StoreErrorKind::Refused) for anything else.
    pub fn place(&self) -> Result<PageCursor, StoreError> {
        let place = std::str::from_utf8(&self.0).ok().and_then(|text| text.parse().ok());
        place.ok_or_else(Self::malformed)
    }

    /// What a store answers to bytes that it did not make.
    pub fn malformed() -> StoreError {
        StoreError::refused(InvalidField::malformed("after", "a continuation of this store"))
    }
}

/// Sessions to end, and what the log says of it.
#[derive(Clone, Debug)]
pub struct EndMany {
    /// Which sessions.
    pub selection: Selection,
    /// Where the last call left off; none to begin.
    pub after: Option<Continuation>,
    /// Why the sessions end.
    pub cause: EndCause,
    /// The time of the change.
    pub at: Timestamp,
    /// Who ends them.
    pub by: Actor,
    /// The device from which it was done, for the history.
    pub from: Option<DeviceInfo>,
}

/// Sessions whose deadline has passed, to be ended as expired by the system.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Those whose deadline passed longer ago than this, by the store's clock.
    pub overdue: Duration,
    /// Where the last call left off; none to begin.
    pub after: Option<Continuation>,
    /// When, for the log.
    pub at: Timestamp,
}

/// What must hold for a session that was chosen when the statement that deletes it runs: a
/// write-back may have come in between. A selection and a sweep go by nothing else that changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recheck {
    /// It was last accessed before this: [`Selection::last_accessed_before`].
    pub accessed_before: Option<Timestamp>,
    /// Its deadline passed longer ago than this: [`Sweep::overdue`].
    pub overdue: Option<Duration>,
}

impl From<&EndMany> for Recheck {
    fn from(end: &EndMany) -> Self {
        Self { accessed_before: end.selection.last_accessed_before, overdue: None }
    }
}

impl From<&Sweep> for Recheck {
    fn from(sweep: &Sweep) -> Self {
        Self { accessed_before: None, overdue: Some(sweep.overdue) }
    }
}

/// What one call ended, and where the next goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndedBatch {
    /// The sessions that this call ended.
    pub ended: Vec<Ended>,
    /// Where to go on; none when nothing is left to look at.
    pub next: Option<Continuation>,
}

impl EndedBatch {
    /// The most sessions that one call ends.
    pub const MAX_LIMIT: u32 = 500;
}

/// A session that [`end_many`](crate::Store::end_many) or [`sweep`](crate::Store::sweep) ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub owner: UserKey,
}

/// A change of the policy at one place.
#[derive(Clone, Debug)]
pub struct PolicyChange {
    /// The user, the tenant or the deployment that it is for.
    pub scope: PolicyScope,
    /// The policy, or none to inherit again.
    pub policy: Option<Policy>,
    /// When, for the log.
    pub at: Timestamp,
    /// Who, for the log.
    pub by: Actor,
}

impl PolicyChange {
    /// The log entry that the change appends.
    pub fn event(&self) -> Event {
        let (tenant, user) = (self.scope.tenant().cloned(), self.scope.user().cloned());
        let (at, by) = (self.at, self.by.clone());
        Event { kind: EventKind::PolicyChanged, at, by, tenant, user, session: None }
    }
}

/// A change of the block at one place.
#[derive(Clone, Debug)]
pub struct BlockChange {
    /// The user, the tenant or the deployment that it is for.
    pub scope: PolicyScope,
    /// The block, or none to lift it.
    pub block: Option<Block>,
    /// When, for the log.
    pub at: Timestamp,
    /// Who, for the log.
    pub by: Actor,
}

impl BlockChange {
    /// The log entry that the change appends.
    pub fn event(&self) -> Event {
        let kind = if self.block.is_some() { EventKind::BlockSet } else { EventKind::BlockLifted };
        let (tenant, user) = (self.scope.tenant().cloned(), self.scope.user().cloned());
        Event { kind, at: self.at, by: self.by.clone(), tenant, user, session: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(id: u8, at: i64, addresses: &[u8]) -> Touch {
        Touch {
            id: SessionId::from_bytes([id; 16]),
            last_accessed: Timestamp::from_micros(at),
            deadline: Timestamp::from_micros(at + 100),
            claimed: at == 10,
            ip_addresses: addresses.iter().map(|n| IpAddr::from([10, 0, 0, *n])).collect(),
        }
    }

    #[test]
    fn a_batch_is_folded_by_session() {
        let batch = [touch(1, 20, &[1, 2]), touch(2, 5, &[]), touch(1, 10, &[1, 3])];
        let folded = Touch::folded(&batch).unwrap();
        let first = Touch { claimed: true, ..touch(1, 20, &[2, 1, 3]) };
        assert_eq!(folded, [first, touch(2, 5, &[])]);
        let many = vec![touch(1, 1, &[]); Touch::MAX_BATCH + 1];
        assert_eq!(Touch::folded(&many).unwrap_err().kind(), crate::StoreErrorKind::Refused);
    }

    #[test]
    fn a_continuation_is_the_place_that_it_was_made_of() {
        let place =
            PageCursor { at: Timestamp::from_micros(-7), id: SessionId::from_bytes([9; 16]) };
        let made = Continuation::at(place);
        assert_eq!(made.place().unwrap(), place);
        for bad in [&b""[..], b"x", &[0xff; 48], &made.0[1..]] {
            let error = Continuation(bad.to_vec()).place().unwrap_err();
            assert_eq!(error.kind(), crate::StoreErrorKind::Refused, "{bad:?}");
        }
    }

    #[test]
    fn a_commit_names_each_session_once_and_has_a_largest_size() {
        let end = |id| Change::End(SessionId::from_bytes([id; 16]), EndCause::Revoked);
        let commit = |changes| Commit {
            owner: UserKey::new("alice".parse().unwrap()),
            expected: Version::NONE,
            changes,
            at: Timestamp::EPOCH,
            by: Actor::System,
            from: None,
        };
        assert!(commit(vec![end(1), end(2)]).check().is_ok());
        assert!(commit(vec![end(1), end(1)]).check().is_err());
        let many = (0..=32).map(end).collect();
        let error = commit(many).check().unwrap_err().to_string();
        assert!(error.ends_with("changes has 33 entries, the limit is 32"), "{error}");
    }
}

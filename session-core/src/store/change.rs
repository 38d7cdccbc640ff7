//! What a store is asked to change.

use std::net::IpAddr;

use crate::event::{Actor, EndCause, Event, EventKind};
use crate::field::SessionId;
use crate::policy::{Policy, PolicyScope};
use crate::rotation::TokenState;
use crate::session::{Session, UserKey};
use crate::store::{Selection, Version};
use crate::time::Timestamp;

/// A change of one user's sessions.
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
}

/// One step of a [`Commit`].
#[derive(Clone, Debug)]
pub enum Change {
    /// A session begins. Its id is the commit's idempotency key: a retry after an unknown
    /// outcome finds it.
    Insert(Box<Session>),
    /// A session ends.
    End(SessionId, EndCause),
    /// A session's token is replaced.
    ReplaceToken {
        /// Which session.
        id: SessionId,
        /// The new digests.
        token: TokenState,
        /// The time of a re-authentication, where there was one.
        authenticated_at: Option<Timestamp>,
    },
    /// The claims of one of the user's sessions must be asked for again.
    ClaimsChanged(SessionId),
}

impl Change {
    /// Whom it concerns.
    pub fn session(&self) -> SessionId {
        match self {
            Self::Insert(session) => session.id,
            Self::End(id, _) | Self::ClaimsChanged(id) | Self::ReplaceToken { id, .. } => *id,
        }
    }
}

impl Commit {
    /// The log entry that a change of this commit appends.
    pub fn event(&self, kind: EventKind, session: SessionId) -> Event {
        Event::of_session(kind, self.at, self.by.clone(), self.owner.clone(), session)
    }
}

impl Event {
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
    /// None of it happened: somebody else changed the user's sessions. Read and decide again.
    Conflict,
}

/// A write-back for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Which session.
    pub id: SessionId,
    /// When it was last used.
    pub last_accessed: Timestamp,
    /// Addresses to merge, newest last.
    pub ip_addresses: Vec<IpAddr>,
}

/// Sessions to end, and what the log says of it.
#[derive(Clone, Debug)]
pub struct EndMany {
    /// Which sessions.
    pub selection: Selection,
    /// Why.
    pub cause: EndCause,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
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
    /// Where.
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
        let (tenant, user) = match &self.scope {
            PolicyScope::Deployment => (None, None),
            PolicyScope::Tenant(tenant) => (Some(tenant.clone()), None),
            PolicyScope::User(owner) => (owner.tenant.clone(), Some(owner.user.clone())),
        };
        let (at, by) = (self.at, self.by.clone());
        Event { kind: EventKind::PolicyChanged, at, by, tenant, user, session: None }
    }
}

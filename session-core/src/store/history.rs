//! What is kept of ended sessions.

use std::time::Duration;

use crate::event::{Actor, EndCause, Event, EventKind};
use crate::field::{ClientId, DeviceInfo, DeviceKind, UserId};
use crate::planted::{self, Defect};
use crate::session::{Session, UserKey};
use crate::store::{Commit, EndMany, Ended, PageCursor, Sweep, TenantFilter};
use crate::time::Timestamp;

/// A session that has ended, as the history keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSession {
    /// The record as it was, with the digests of its last tokens.
    pub session: Session,
    /// When it ended.
    pub ended: Timestamp,
    /// Why it ended.
    pub cause: EndCause,
    /// By whom.
    pub by: Actor,
    /// The device from which that was done, where it is known.
    pub from: Option<DeviceInfo>,
}

/// How sessions end: what the log and the history say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why it ended.
    pub cause: EndCause,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
    /// The device from which it is done, where it is known.
    pub from: Option<DeviceInfo>,
}

impl Ending {
    /// How a commit ends a session, for this reason.
    pub fn of_commit(commit: &Commit, cause: EndCause) -> Self {
        let Commit { at, by, from, .. } = commit;
        Self { cause, at: *at, by: by.clone(), from: from.clone() }
    }

    /// The record of the history for this session.
    pub fn remember(&self, session: Session) -> EndedSession {
        let Self { cause, at, by, from } = self.clone();
        EndedSession { session, ended: at, cause, by, from }
    }

    /// The log entry that tells of it.
    pub fn event(&self, ended: &Ended) -> Event {
        let (kind, owner) = (EventKind::Ended(self.cause), ended.owner.clone());
        Event::of_session(kind, self.at, self.by.clone(), owner, ended.id)
    }
}

impl From<&EndMany> for Ending {
    fn from(end: &EndMany) -> Self {
        let EndMany { cause, at, by, from, .. } = end;
        Self { cause: *cause, at: *at, by: by.clone(), from: from.clone() }
    }
}

impl From<&Sweep> for Ending {
    fn from(sweep: &Sweep) -> Self {
        Self { cause: EndCause::Expired, at: sweep.at, by: Actor::System, from: None }
    }
}

/// What to list of the history.
///
/// The fields are exhaustive on purpose, as those of [`Selection`](crate::store::Selection).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Of these tenants.
    pub tenant: TenantFilter,
    /// Of this user.
    pub user: Option<UserId>,
    /// On this kind of device.
    pub device_kind: Option<DeviceKind>,
    /// Of this client.
    pub client_id: Option<ClientId>,
    /// Ended for this reason.
    pub cause: Option<EndCause>,
    /// Ended at or after this.
    pub since: Option<Timestamp>,
    /// Where the last page ended.
    pub after: Option<PageCursor>,
    /// The most sessions, 1 to [`PageQuery::MAX_LIMIT`](crate::store::PageQuery::MAX_LIMIT).
    pub limit: u32,
}

impl HistoryQuery {
    /// Everything of these tenants, first page.
    pub const fn within(tenant: TenantFilter) -> Self {
        Self {
            tenant,
            user: None,
            device_kind: None,
            client_id: None,
            cause: None,
            since: None,
            after: None,
            limit: 50,
        }
    }

    /// Everything of one user, first page.
    pub fn user(owner: UserKey) -> Self {
        Self { user: Some(owner.user), ..Self::within(TenantFilter::Is(owner.tenant)) }
    }

    /// Whether an ended session is listed, wherever the page begins.
    pub fn covers(&self, ended: &EndedSession) -> bool {
        let Self { tenant, user, device_kind, client_id, cause, since, after: _, limit: _ } = self;
        let session = &ended.session;
        let any_tenant = planted::is(Defect::HistoryCrossesTenants) && user.is_some();
        (any_tenant || tenant.covers(session.owner.tenant.as_ref()))
            && user.as_ref().is_none_or(|user| *user == session.owner.user)
            && device_kind.as_ref().is_none_or(|kind| *kind == session.device_kind)
            && client_id.as_ref().is_none_or(|id| Some(id) == session.client_id.as_ref())
            && cause.is_none_or(|cause| cause == ended.cause)
            && since.is_none_or(|since| ended.ended >= since)
    }
}

/// A page of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// The latest end first, ties by id.
    pub sessions: Vec<EndedSession>,
    /// Where to go on; none at the end. A page that is shorter than its limit, even an empty one,
    /// is the last one only if this is none.
    pub next: Option<PageCursor>,
}

impl EndedSession {
    /// Its position in the history.
    pub const fn position(&self) -> PageCursor {
        PageCursor { at: self.ended, id: self.session.id }
    }
}

impl HistoryPage {
    /// Makes a page of `limit` out of up to `limit + 1` sessions.
    pub fn cut(mut sessions: Vec<EndedSession>, limit: u32) -> Self {
        let limit = limit as usize;
        let more = sessions.len() > limit;
        sessions.truncate(limit);
        let next = sessions.last().filter(|_| more).map(EndedSession::position);
        Self { sessions, next }
    }
}

/// What the history no longer keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forget {
    /// Sessions that ended longer ago than this, by the store's clock, the oldest first.
    OlderThan(Duration),
    /// Everything of one user.
    User(UserKey),
}

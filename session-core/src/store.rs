//! The seam that backends implement: a handful of atomic primitives without any rule.
//!
//! There is one write path per user: [`Store::user`] reads the user's sessions with a version,
//! the core decides, [`Store::commit`] applies the decision if the version still holds. Whatever
//! changes sessions raises the version of their user and appends to the log in the same atomic
//! step. Every method is cancel-safe: dropping its future leaves the change done or not done,
//! never in part.

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

use crate::admission::Standing;
use crate::checker::Timeouts;
use crate::cleanup::SweepRule;
use crate::event::{Actor, EndCause, Event, EventKind};
use crate::field::{ClientId, DeviceKind, InvalidField, SessionId, TenantId, UserId};
use crate::policy::{Policy, PolicyLayers, PolicyScope};
use crate::rotation::TokenState;
use crate::session::{Session, UserKey};
use crate::time::Timestamp;

/// A store of sessions, shared by all nodes of a fleet.
///
/// Any method may fail with [`StoreErrorKind::Unavailable`], after which the outcome of a change
/// is unknown, or with [`StoreErrorKind::Corrupt`] where a stored row cannot be read.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads a user's sessions, the version they have, and the policies that concern the user,
    /// all as of one moment. A user without sessions may be forgotten and then has version
    /// [`Version::NONE`] again.
    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError>;

    /// Applies a change to one user's sessions and appends its log entries, in one atomic step,
    /// if the user's version is still the expected one.
    ///
    /// Ending a session that is gone already is no conflict and logs nothing. Replacing the
    /// token of a session that is gone is [`Outcome::Conflict`].
    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError>;

    /// Reads one session and the version of its user. Reads see every change that was
    /// acknowledged before the call.
    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError>;

    /// Lists sessions, newest sign-in first, ties by id. A session that exists during the whole
    /// walk over all pages is seen exactly once, whatever else begins and ends meanwhile.
    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError>;

    /// Writes back last accessed and addresses of many sessions.
    ///
    /// Last accessed becomes the later of the two; addresses are merged with
    /// [`note_ip_address`](crate::session::note_ip_address). Never creates a session and does
    /// not raise versions. Returns the ids that are gone.
    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError>;

    /// Ends up to `limit` of the selected sessions and appends their log entries, in one atomic
    /// step. Returns those it ended; fewer than `limit` means that none is left.
    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<Vec<Ended>, StoreError>;

    /// Ends up to `limit` sessions that the rule covers at the moment they are deleted, and
    /// appends their log entries, in one atomic step. Returns those it ended.
    async fn sweep(
        &self,
        rule: &SweepRule,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<Ended>, StoreError>;

    /// Reads the log from a cursor on, in an order in which every user's entries stand as they
    /// were committed. Without a cursor it reads nothing and answers where the log ends now.
    ///
    /// Nothing that commits after a read, however late, is skipped by the next one. A cursor
    /// that the log no longer reaches back to, or does not know, is answered with `gap` and a
    /// cursor at the end.
    async fn log_since(&self, cursor: Option<&Cursor>, limit: u32) -> Result<LogPage, StoreError>;

    /// Resolves when the log may have grown. Only a hint: it may come late, twice or never, and
    /// the default never does.
    async fn changed(&self) {
        std::future::pending().await
    }

    /// Deletes up to `limit` log entries older than `before`; the newest entry always stays.
    /// Returns how many it deleted.
    async fn trim_log(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError>;

    /// Takes or renews a lease by the store's clock. True when `holder` holds it until `ttl`
    /// from now, false when somebody else holds it. A lease that ran out may be taken by anyone.
    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError>;

    /// The policy set at one place.
    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError>;

    /// Sets the policy at one place, or none to inherit again, and appends the log entry in the
    /// same atomic step. A sign-in that reads [`Store::user`] afterwards sees it.
    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError>;
}

/// The version of one user's sessions; any change of them changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub i64);

impl Version {
    /// The version of a user that the store has never heard of.
    pub const NONE: Self = Self(0);
}

/// A user's sessions as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserState {
    /// Changes with every change of the sessions.
    pub version: Version,
    /// All of them, also those past a timeout.
    pub sessions: Vec<Standing>,
    /// The policies that concern the user.
    pub policies: PolicyLayers,
}

/// One session with the version of its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The record.
    pub session: Session,
    /// The version of its user.
    pub version: Version,
}

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

/// Which sessions to end: all that match every given part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Selection {
    /// Within these walls.
    pub tenant: TenantFilter,
    /// Of this user.
    pub user: Option<UserId>,
    /// On this kind of device.
    pub device_kind: Option<DeviceKind>,
    /// Of this client.
    pub client_id: Option<ClientId>,
    /// Of these ids, at most [`Selection::MAX_IDS`].
    pub ids: Option<Vec<SessionId>>,
    /// But not this one.
    pub except: Option<SessionId>,
}

impl Selection {
    /// The most ids in one selection.
    pub const MAX_IDS: usize = 500;

    /// One session, within these walls.
    pub fn session(id: SessionId, tenant: TenantFilter) -> Self {
        Self { ids: Some(vec![id]), ..Self::within(tenant) }
    }

    /// All sessions of a user.
    pub fn user(owner: UserKey) -> Self {
        Self { user: Some(owner.user), ..Self::within(TenantFilter::Is(owner.tenant)) }
    }

    /// All sessions within these walls.
    pub const fn within(tenant: TenantFilter) -> Self {
        Self { tenant, user: None, device_kind: None, client_id: None, ids: None, except: None }
    }

    /// Only those on this kind of device.
    #[must_use]
    pub fn on(mut self, device_kind: DeviceKind) -> Self {
        self.device_kind = Some(device_kind);
        self
    }

    /// Only those of this client.
    #[must_use]
    pub fn of_client(mut self, client_id: ClientId) -> Self {
        self.client_id = Some(client_id);
        self
    }

    /// All but this one.
    #[must_use]
    pub const fn except(mut self, id: SessionId) -> Self {
        self.except = Some(id);
        self
    }

    /// Whether a session is selected.
    pub fn covers(&self, session: &Session) -> bool {
        let same = |wanted: &Option<_>, has| wanted.as_ref().is_none_or(|wanted| wanted == has);
        self.tenant.covers(session.owner.tenant.as_ref())
            && self.user.as_ref().is_none_or(|user| *user == session.owner.user)
            && same(&self.device_kind, &session.device_kind)
            && self.client_id.as_ref().is_none_or(|id| Some(id) == session.client_id.as_ref())
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&session.id))
            && self.except != Some(session.id)
    }
}

/// Which tenants a query or a change may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantFilter {
    /// Every tenant; for operators of the whole deployment only.
    Any,
    /// One tenant, or with `None` the users outside all tenants.
    Is(Option<TenantId>),
}

impl TenantFilter {
    /// Whether a tenant is within reach.
    pub fn covers(&self, tenant: Option<&TenantId>) -> bool {
        match self {
            Self::Any => true,
            Self::Is(wanted) => wanted.as_ref() == tenant,
        }
    }
}

/// A session that [`Store::end_many`] or [`Store::sweep`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub owner: UserKey,
}

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// Within these walls.
    pub tenant: TenantFilter,
    /// Of this user.
    pub user: Option<UserId>,
    /// On this kind of device.
    pub device_kind: Option<DeviceKind>,
    /// Of this client.
    pub client_id: Option<ClientId>,
    /// Last accessed at or after this.
    pub active_since: Option<Timestamp>,
    /// Leaves out what is past its timeouts at this time.
    pub now: Timestamp,
    /// The timeouts that hold.
    pub timeouts: Timeouts,
    /// Where the last page ended.
    pub after: Option<PageCursor>,
    /// The most sessions, 1 to [`PageQuery::MAX_LIMIT`].
    pub limit: u32,
}

impl PageQuery {
    /// The largest page.
    pub const MAX_LIMIT: u32 = 200;

    /// Everything within these walls that is live, first page.
    pub const fn live(tenant: TenantFilter, timeouts: Timeouts, now: Timestamp) -> Self {
        Self {
            tenant,
            user: None,
            device_kind: None,
            client_id: None,
            active_since: None,
            now,
            timeouts,
            after: None,
            limit: 50,
        }
    }

    /// Last accessed must be at or after this: the later of the filter and the idle timeout.
    pub fn accessed_from(&self) -> Option<Timestamp> {
        let idle = self.timeouts.idle.map(|idle| self.now.minus(idle).plus(MICROSECOND));
        self.active_since.max(idle)
    }

    /// Whether a session is listed, wherever the page begins.
    pub fn covers(&self, session: &Session) -> bool {
        self.tenant.covers(session.owner.tenant.as_ref())
            && self.user.as_ref().is_none_or(|user| *user == session.owner.user)
            && self.device_kind.as_ref().is_none_or(|kind| *kind == session.device_kind)
            && self.client_id.as_ref().is_none_or(|id| Some(id) == session.client_id.as_ref())
            && self.accessed_from().is_none_or(|from| session.last_accessed >= from)
            && session.absolute_expiry.is_none_or(|expiry| expiry > self.now)
    }
}

/// Where a page ended. Its text form goes through clients and is checked when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCursor {
    /// When the last session of the page signed in.
    pub signed_in: Timestamp,
    /// Its id.
    pub id: SessionId,
}

impl PageCursor {
    /// The position of a session.
    pub const fn of(session: &Session) -> Self {
        Self { signed_in: session.signed_in, id: session.id }
    }
}

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed_in = self.signed_in.as_micros().to_be_bytes();
        write!(f, "{}{}", const_hex::encode(signed_in), const_hex::encode(self.id.as_bytes()))
    }
}

impl std::str::FromStr for PageCursor {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let mut bytes = [0; 24];
        const_hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| InvalidField::malformed("cursor", "a cursor of an earlier page"))?;
        let (mut micros, mut id) = ([0; 8], [0; 16]);
        micros.copy_from_slice(&bytes[..8]);
        id.copy_from_slice(&bytes[8..]);
        let signed_in = Timestamp::from_micros(i64::from_be_bytes(micros));
        Ok(Self { signed_in, id: SessionId::from_bytes(id) })
    }
}

/// A page of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Newest sign-in first.
    pub sessions: Vec<Session>,
    /// Where to go on, if there may be more.
    pub next: Option<PageCursor>,
}

impl Page {
    /// Makes a page of `limit` out of up to `limit + 1` sessions.
    pub fn cut(mut sessions: Vec<Session>, limit: u32) -> Self {
        let limit = limit as usize;
        let more = sessions.len() > limit;
        sessions.truncate(limit);
        let next = sessions.last().filter(|_| more).map(PageCursor::of);
        Self { sessions, next }
    }
}

/// A position in the log; only the store that made it can read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor(pub Vec<u8>);

/// A part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// What happened since the cursor.
    pub events: Vec<Event>,
    /// Where to go on.
    pub next: Cursor,
    /// Whether there is more right now.
    pub more: bool,
    /// Whether something may have been missed: the cursor is older than the log, or newer than
    /// a store that came back from the past.
    pub gap: bool,
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

/// What a store could not do.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What to make of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached or did not answer in time; a change may or may not have
    /// happened. Worth another try.
    Unavailable,
    /// A stored row cannot be read.
    Corrupt,
    /// The store refused a statement: a defect, or a schema of another version.
    Internal,
}

impl StoreError {
    /// An error of this kind.
    pub fn new(kind: StoreErrorKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// The store did not answer in time.
    pub const fn timed_out() -> Self {
        Self { kind: StoreErrorKind::Unavailable, source: None }
    }

    /// What to make of it.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl From<InvalidField> for StoreError {
    /// A stored value that breaks its field's limit.
    fn from(source: InvalidField) -> Self {
        Self::new(StoreErrorKind::Corrupt, source)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.kind {
            StoreErrorKind::Unavailable => "the session store is unavailable",
            StoreErrorKind::Corrupt => "the session store holds a row that cannot be read",
            StoreErrorKind::Internal => "the session store refused a statement",
        };
        match &self.source {
            Some(source) => write!(f, "{text}: {source}"),
            None => f.write_str(text),
        }
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

const MICROSECOND: Duration = Duration::from_micros(1);

//! The seam that backends implement: a handful of atomic primitives without any rule.
//!
//! There is one write path per user: [`Store::user`] reads the user's sessions with a version,
//! the core decides, [`Store::commit`] applies the decision if the version still holds. Whatever
//! changes sessions raises the version of their user and appends to the log in the same atomic
//! step. Every method is cancel-safe: dropping its future leaves the change done or not done,
//! never in part.

mod change;
mod error;
mod page;
mod select;
mod tag;

use std::time::Duration;

use async_trait::async_trait;

pub use self::change::{Change, Commit, EndMany, Ended, Outcome, PolicyChange, Touch};
pub use self::error::{StoreError, StoreErrorKind};
pub use self::page::{Page, PageCursor, PageQuery};
pub use self::select::{Selection, TenantFilter};
pub use self::tag::{TagKey, UserTag};
use crate::admission::Standing;
use crate::checker::Timeouts;
use crate::cleanup::SweepRule;
use crate::event::Event;
use crate::field::SessionId;
use crate::policy::{Policy, PolicyLayers, PolicyScope};
use crate::session::{Session, UserKey};
use crate::time::Timestamp;

/// A store of sessions, shared by all nodes of a fleet.
///
/// Any method may fail with [`StoreErrorKind::Unavailable`], after which the outcome of a change
/// is unknown, or with [`StoreErrorKind::Corrupt`] where a stored row cannot be read.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Names a session that is about to begin, out of random bytes. A store that is spread over
    /// many servers puts into the id what it needs to find the record in one step; such ids keep
    /// at least 64 random bits.
    fn session_id(&self, _owner: &UserKey, random: [u8; 16]) -> SessionId {
        SessionId::from_random(random)
    }

    /// Hears, before anything else and from every node, when sessions end by themselves: a store
    /// whose records can expire lets them do so some time after that. They stay refused anyway,
    /// and the cleanup ends them properly as long as it runs.
    fn set_timeouts(&self, _timeouts: &Timeouts) {}

    /// Reads a user's sessions and the version they have as of one moment, and the policies that
    /// concern the user. A user without sessions may be forgotten and then has version
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

    /// Ends up to `limit` of the selected sessions, each in one atomic step with its log entry.
    /// Returns those it ended; fewer than `limit` means that none is left.
    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<Vec<Ended>, StoreError>;

    /// Ends up to `limit` sessions that the rule covers at the moment they are deleted, each in
    /// one atomic step with its log entry. Returns those it ended.
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

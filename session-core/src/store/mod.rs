//! The seam that backends implement: a handful of atomic primitives without any rule.
//!
//! There is one write path per user: [`Store::user`] reads the user's sessions with a version,
//! the core decides, [`Store::commit`] applies the decision if the version still holds. Whatever
//! changes sessions raises the version of their user and appends to the log in the same atomic
//! step. Every method is cancel-safe: dropping its future leaves each atomic step done or not done,
//! never in part, and holds no lock once it is gone.

mod change;
mod error;
mod format;
mod history;
mod log;
mod page;
pub mod record;
mod report;
mod select;
mod tag;

use std::time::Duration;

use async_trait::async_trait;

pub use self::change::{
    BlockChange, Change, Commit, Continuation, EndMany, Ended, EndedBatch, Outcome, PolicyChange,
    Recheck, Sweep, Touch,
};
pub use self::error::{StoreError, StoreErrorKind};
pub use self::format::check_version;
pub use self::history::{EndedSession, Ending, Forget, HistoryPage, HistoryQuery};
pub use self::log::{Cursor, Entries, LogPage, LogPosition};
pub use self::page::{Page, PageCursor, PageQuery};
pub use self::report::StoreReport;
pub use self::select::{Selection, TenantFilter};
pub use self::tag::{TagKey, UserTag};
use crate::admission::Standing;
use crate::block::Block;
use crate::field::SessionId;
use crate::policy::{Policy, PolicyLayers, PolicyScope};
use crate::session::{Session, UserKey};
use crate::time::Timestamp;
use crate::token::FleetKey;

/// A store of sessions, shared by all nodes of a fleet.
///
/// What holds for every method:
/// - **Errors.** [`StoreErrorKind::Unavailable`]: the store cannot be reached or did not answer; a
///   change may or may not have happened, or happens a little later, and the call may be made again.
///   [`StoreErrorKind::Corrupt`]: a stored value cannot be read; nothing was changed.
///   [`StoreErrorKind::Refused`]: the call breaks a limit that is stated here; nothing was changed.
///   [`StoreErrorKind::Internal`]: anything else.
/// - **Durability.** What a change of sessions, of policies, of blocks or of the fleet's key has
///   acknowledged is there after the store's process was killed, in the log and the history, too.
///   A store in memory, or a server that keeps its data there, says so on its own page.
/// - **A second call.** It finds what the first one did. Before it says so, it waits for everything
///   that the first would have waited for, such as a replica or the delivery of a log entry.
/// - **Reads.** [`Store::user`], [`Store::load`], [`Store::ended`], [`Store::policy`],
///   [`Store::block`] and [`Store::log_since`] see every change that was acknowledged before the
///   read began, on any node. [`Store::page`] and the walks of [`Store::end_many`] and
///   [`Store::sweep`] may go by a list that lags behind for a moment, but never return or end what
///   has ended.
/// - **Cost.** No call walks a table. It examines at most [`PageQuery::MAX_EXAMINED`] records and
///   says where to go on.
/// - **Limits.** A `limit` of 0 counts as 1, and one beyond the largest counts as the largest
///   ([`limit_within`]).
/// - **Time.** What a caller writes, and what it asks for by a point in time, goes by the fleet's
///   clock, which callers learn from [`LogPage::clock`]. What a store deletes by age goes by its
///   own clock. A store without a clock takes this host's.
/// - **History.** An end moves the session's record into the history, in the same atomic step,
///   unless [`Needs::history`] is zero. It replaces a record that the history has of the session
///   already, as it does after a dump was restored whose tables are of different moments.
/// - **Records that cannot be read.** [`Store::load`] and [`Store::ended`] fail with
///   [`StoreErrorKind::Corrupt`], and so does [`Store::user`] unless it lists them all the same.
///   [`Store::page`] and [`Store::history`] leave them out and go on, [`Store::touch`] passes over
///   them or writes what it can. [`Store::end_many`], [`Store::sweep`] and [`Store::forget`] end
///   and delete them all the same where the fields that they go by can be read; the record goes
///   into the history as it is. [`Store::log_since`] counts an entry as missed. Where a policy or a
///   block cannot be read, [`Store::policy`], [`Store::block`] and [`Store::user`] fail with
///   [`StoreErrorKind::Corrupt`], so that no sign-in overlooks it; ends go on, and setting it
///   replaces it.
/// - **Text is bytes.** Users and tenants that differ in case, in a trailing space or in one byte
///   are others; `north` and `northwest` have nothing in common.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Names a session that is about to begin, out of the time and random bytes. By default ids are in the
    /// order of sign-ins ([`SessionId::at`]), so that sessions which end together stand together in the
    /// indexes of a store. A store that is spread over many servers puts into the id what it needs to
    /// find the record in one step. Ids keep at least 64 random bits.
    fn session_id(&self, _owner: &UserKey, at: Timestamp, random: [u8; 16]) -> SessionId {
        SessionId::at(at, random)
    }

    /// Called once per node before any other method. A store whose records have a time to live sets
    /// it somewhat later than [`Session::deadline`], in case the cleanup never runs, and for the
    /// history to [`Needs::history`]; a store whose log is capped checks that it reaches back
    /// longer than `max_staleness` ([`StoreReport::problems`]).
    fn configure(&self, needs: &Needs);

    /// How long ended sessions are kept where the options do not say it: 30 days, or less on a
    /// store that keeps them in memory.
    fn history_by_default(&self) -> Duration {
        Duration::from_secs(30 * 24 * 3600)
    }

    /// The secret that all nodes share. Where there is none yet, `proposed` becomes it, in one
    /// atomic step: every node of the fleet gets the same.
    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError>;

    /// Reads a user's sessions and the version they have as of one moment, and the policies and
    /// blocks that concern the user.
    ///
    /// All sessions are listed, also those past their deadline, in any order. A user that the store
    /// knows nothing of has no sessions and [`Version::NONE`]; a user without sessions may be
    /// forgotten, but no other version ever comes back. The policies and blocks are those in force
    /// when the call began or later; they may be of a later moment than the sessions. A block whose
    /// time is over may be left out. A session that cannot be read is listed all the same or makes the
    /// call fail: a decision that overlooks it could exceed a limit.
    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError>;

    /// Applies a change to one user's sessions and appends its log entries, in one atomic step, if
    /// the user's version is still the expected one.
    ///
    /// Changes are applied, and logged, in order. A change that is passed over is not logged. If
    /// one of them is a conflict ([`Change`]), or the version is another, the answer is
    /// [`Outcome::Conflict`] and nothing has happened. Otherwise the user's version is a new one,
    /// unless every change was passed over. When the call returns [`Outcome::Done`], the change is
    /// durable and every read sees it. Made a second time, the commit is a conflict.
    ///
    /// An insert is a conflict where a block holds for the owner by the store's clock: once
    /// [`Store::set_block`] has returned, no commit that was under way inserts a session that the
    /// [`Store::end_many`] after it does not find. A store that finds such a block only behind the
    /// insert may end what the commit began, with cause
    /// [`EndCause::Blocked`](crate::EndCause::Blocked), and answer [`Outcome::Conflict`]: then the
    /// whole commit stands and is logged before those ends, because what else it ended was to end
    /// under the block, too.
    ///
    /// A store calls [`Commit::check`] first. Dropping the future leaves the change done or not
    /// done, never in part.
    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError>;

    /// Reads one session and the version of its user, as of one moment. None where there is no such
    /// session; its deadline is not looked at.
    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError>;

    /// Reads one session out of the history. Sees every end that was acknowledged before.
    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError>;

    /// Lists ended sessions that the query covers, the latest end first, ties by id. As
    /// [`Store::page`] in everything else.
    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError>;

    /// Deletes up to `limit` records of the history (at most [`EndedBatch::MAX_LIMIT`]). Returns
    /// how many; zero only when none is left to go: a call whose records another one deletes first goes
    /// on to others. What a node knows of them it may go on knowing for a while. A store whose records of
    /// the history end by themselves may answer zero for an age.
    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError>;

    /// Lists sessions that the query covers, newest sign-in first, ties by id.
    ///
    /// A session that the list shows and the query covers during the whole walk over all pages is
    /// seen exactly once, regardless of sessions that begin or end; none is seen twice. A page may
    /// be shorter than its limit and still not be the last one: [`Page::next`] decides.
    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError>;

    /// Writes back the use of many sessions.
    ///
    /// Last accessed and the deadline become the later of the two; a session that is claimed stays
    /// claimed; addresses are merged with
    /// [`note_ip_address`](crate::session::note_ip_address). Never creates a session, raises no
    /// version and is not told. Each session is written for itself: after an error some may have
    /// been. A session that stands twice in a batch gets both, see [`Touch::folded`], which a store
    /// calls first. Returns the ids that are gone, each once, in any order.
    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError>;

    /// Ends up to `limit` of the selected sessions (at most [`EndedBatch::MAX_LIMIT`]), each in one
    /// atomic step with its log entry and its user's new version.
    ///
    /// Returns those that this call ended, and where to go on: a walk is over when
    /// [`EndedBatch::next`] is none, however many a call ended. A session that is selected during
    /// the whole walk has ended when the walk is over; one that begins during the walk may be left
    /// out. [`Selection::last_accessed_before`] is checked in the statement that deletes: a session
    /// whose write-back comes first stays. A second walk from the beginning finds only what is left.
    /// A selection by ids is one call where `limit` is not smaller than their number.
    /// [`EndMany::after`] is what a call of the same store answered for the same selection; bytes that
    /// the store cannot have made are refused, and nothing ends.
    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError>;

    /// Ends up to `limit` sessions (at most [`EndedBatch::MAX_LIMIT`]) whose deadline passed longer
    /// ago than [`Sweep::overdue`], by the store's clock at the moment they are deleted, with cause
    /// [`EndCause::Expired`](crate::EndCause::Expired) and by
    /// [`Actor::System`](crate::Actor::System). As [`Store::end_many`] in everything else, what it
    /// refuses included; what is in use again is passed over once, not in every call.
    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError>;

    /// Reads the log from a cursor on: up to `limit` entries (at most [`LogPage::MAX_LIMIT`]), in
    /// an order in which every user's entries stand as they were committed. Without a cursor it
    /// reads nothing and answers where the log ends now.
    ///
    /// Every entry comes once to a reader that goes on from [`LogPage::next`]: nothing that commits
    /// after a read, however late, is skipped by the next one. What the reader does not want is
    /// left out and passed over, so a page can be short or empty with `more` set. A cursor that the
    /// log no longer reaches back to, or does not know, is answered with `gap` and a cursor at the
    /// end; an entry that cannot be read is left out and sets `gap` in the page that passes over it,
    /// and the reader goes on behind it. A cursor means the same to every node, and outlives
    /// connections and restarts.
    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError>;

    /// Resolves when the log may have grown by an entry that [invalidates]. Only a hint: it may come late,
    /// twice or never, and the default never does.
    ///
    /// Of other entries, as when a session begins or a policy is set, a store does better to be silent:
    /// every node would read the log for every sign-in of the fleet, and nothing that it has cached is
    /// wrong. Who listens to them hears of them with the next read.
    ///
    /// [invalidates]: crate::EventKind::invalidates
    async fn changed(&self) {
        std::future::pending().await
    }

    /// Whether [`Store::changed`] currently reports other nodes' changes soon. If false, a node
    /// reads the log twice as often.
    fn pushes(&self) -> bool {
        false
    }

    /// Whether this store is configured to push. Override it where [`Store::pushes`] can become false while
    /// the store runs: operators are warned while the two differ.
    fn expects_pushes(&self) -> bool {
        self.pushes()
    }

    /// Deletes log entries from the oldest on, up to the first whose own time is not longer ago
    /// than `older_than` by the store's clock, and at most `limit`. The largest limit is the store's
    /// own, [`PageQuery::MAX_EXAMINED`] or less. Returns how many; zero when none is left to go. Only
    /// a prefix of the log goes, and the newest entry always stays, so that a reader at the end has
    /// missed nothing; a log in parts keeps both rules in each part. One call may delete fewer than
    /// could go, and a store may keep entries longer.
    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError>;

    /// Takes or renews a lease by the store's clock. A store without a clock measures `ttl` on the
    /// waiting node's monotonic clock, from when it first saw the current renewal. True when
    /// `holder` holds it until `ttl` from now, false when another holder does. Any node may take a
    /// lease that ran out. There may be many leases, one for each ticket: a store deletes those
    /// that ran out, at the latest when others are taken, and in one call a bounded number, such as
    /// 100, of the oldest. Names and holders have at most 128 bytes; longer ones are refused or kept
    /// whole, never cut.
    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError>;

    /// The policy set at one place, or none where it inherits.
    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError>;

    /// Sets the policy at one place, or none to inherit again, and appends the log entry in the
    /// same atomic step, also where nothing changes. The last of several calls wins. A sign-in that
    /// reads [`Store::user`] afterwards sees it.
    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError>;

    /// The block set at one place, also one whose time is over; or none.
    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError>;

    /// Sets the block at one place, or none to lift it, and appends the log entry in the same
    /// atomic step. The last of several calls wins. When the call returns, [`Store::commit`]
    /// inserts nothing more there. It ends no session.
    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError>;

    /// What an operator wants to know: product, schema, clock, log, and what is wrong. Reads only,
    /// and nothing that grows with the number of sessions.
    async fn report(&self) -> Result<StoreReport, StoreError>;
}

/// What a node needs of its store: see [`Store::configure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// How long ended sessions are kept; zero for not at all.
    pub history: Duration,
    /// How long a node that cannot read the log goes by its cache: the log must reach back further.
    pub max_staleness: Duration,
}

/// Clamps a limit to 1..=`most`, as every method of [`Store`] does.
pub const fn limit_within(limit: u32, most: u32) -> u32 {
    if limit == 0 {
        1
    } else if limit > most {
        most
    } else {
        limit
    }
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
    /// All of them, also those past their deadline.
    pub sessions: Vec<Standing>,
    /// The policies that concern the user.
    pub policies: PolicyLayers,
    /// The blocks that concern the user, each with its place, in any order.
    pub blocks: Vec<(PolicyScope, Block)>,
}

/// One session with the version of its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The record.
    pub session: Session,
    /// The version of its user.
    pub version: Version,
}

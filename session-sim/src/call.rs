//! A call of the store as a value: what a node asks, what the store answers.

use std::time::Duration;

use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Outcome, Page, PageQuery, PolicyChange, StoreReport, Sweep,
    Touch, UserState,
};
use session_core::{FleetKey, SessionId, Store, StoreError, UserKey};

/// What a node asks.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    FleetKey(FleetKey),
    User(UserKey),
    Commit(Commit),
    Load(SessionId),
    Ended(SessionId),
    History(HistoryQuery),
    Forget(Forget, u32),
    Page(PageQuery),
    Touch(Vec<Touch>),
    EndMany(EndMany, u32),
    Sweep(Sweep, u32),
    LogSince(Option<Cursor>, Entries, u32),
    TrimLog(Duration, u32),
    Lease(String, String, Duration),
    Policy(PolicyScope),
    SetPolicy(PolicyChange),
    Block(PolicyScope),
    SetBlock(BlockChange),
    Report,
}

/// What the store answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    FleetKey(FleetKey),
    User(UserState),
    Outcome(Outcome),
    Loaded(Option<Box<Loaded>>),
    Ended(Option<Box<EndedSession>>),
    History(HistoryPage),
    Count(u32),
    Page(Page),
    Gone(Vec<SessionId>),
    Batch(EndedBatch),
    Log(LogPage),
    Lease(bool),
    Policy(Option<Policy>),
    Block(Option<Block>),
    Report(Box<StoreReport>),
    Done,
}

pub(crate) type Answer = Result<Reply, StoreError>;

impl Call {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::FleetKey(_) => "fleet_key",
            Self::User(_) => "user",
            Self::Commit(_) => "commit",
            Self::Load(_) => "load",
            Self::Ended(_) => "ended",
            Self::History(_) => "history",
            Self::Forget(..) => "forget",
            Self::Page(_) => "page",
            Self::Touch(_) => "touch",
            Self::EndMany(..) => "end_many",
            Self::Sweep(..) => "sweep",
            Self::LogSince(..) => "log_since",
            Self::TrimLog(..) => "trim_log",
            Self::Lease(..) => "lease",
            Self::Policy(_) => "policy",
            Self::SetPolicy(_) => "set_policy",
            Self::Block(_) => "block",
            Self::SetBlock(_) => "set_block",
            Self::Report => "report",
        }
    }

    /// Whether it belongs to the cleanup, or happens once in ten minutes.
    pub(crate) const fn is_housekeeping(&self) -> bool {
        matches!(
            self,
            Self::Forget(..) | Self::Sweep(..) | Self::TrimLog(..) | Self::Lease(..) | Self::Report
        )
    }

    /// The session that was to be ended and is not there.
    pub(crate) fn looked_for(&self, answer: &Answer) -> Option<SessionId> {
        match (self, answer) {
            (Self::EndMany(end, _), Ok(Reply::Batch(batch))) if batch.ended.is_empty() => {
                end.selection.ids.as_ref()?.first().copied()
            }
            _ => None,
        }
    }

    /// Whether the log has an entry more.
    pub(crate) fn has_appended(&self, answer: &Answer) -> bool {
        match (self, answer) {
            (_, Ok(Reply::Batch(batch))) => !batch.ended.is_empty(),
            (_, Ok(Reply::Outcome(outcome))) => *outcome == Outcome::Done,
            (Self::SetPolicy(_) | Self::SetBlock(_), Ok(_)) => true,
            _ => false,
        }
    }

    /// Makes the call.
    pub(crate) async fn perform(&self, store: &dyn Store) -> Answer {
        Ok(match self {
            Self::FleetKey(proposed) => Reply::FleetKey(store.fleet_key(proposed).await?),
            Self::User(owner) => Reply::User(store.user(owner).await?),
            Self::Commit(commit) => Reply::Outcome(store.commit(commit).await?),
            Self::Load(id) => Reply::Loaded(store.load(*id).await?.map(Box::new)),
            Self::Ended(id) => Reply::Ended(store.ended(*id).await?.map(Box::new)),
            Self::History(query) => Reply::History(store.history(query).await?),
            Self::Forget(forget, limit) => Reply::Count(store.forget(forget, *limit).await?),
            Self::Page(query) => Reply::Page(store.page(query).await?),
            Self::Touch(batch) => Reply::Gone(store.touch(batch).await?),
            Self::EndMany(end, limit) => Reply::Batch(store.end_many(end, *limit).await?),
            Self::Sweep(sweep, limit) => Reply::Batch(store.sweep(sweep, *limit).await?),
            Self::LogSince(cursor, entries, limit) => {
                Reply::Log(store.log_since(cursor.as_ref(), *entries, *limit).await?)
            }
            Self::TrimLog(age, limit) => Reply::Count(store.trim_log(*age, *limit).await?),
            Self::Lease(name, holder, ttl) => Reply::Lease(store.lease(name, holder, *ttl).await?),
            Self::Policy(scope) => Reply::Policy(store.policy(scope).await?),
            Self::SetPolicy(change) => {
                store.set_policy(change).await?;
                Reply::Done
            }
            Self::Block(scope) => Reply::Block(store.block(scope).await?),
            Self::SetBlock(change) => {
                store.set_block(change).await?;
                Reply::Done
            }
            Self::Report => Reply::Report(Box::new(store.report().await?)),
        })
    }
}

//! A session store in this process's memory: for tests, simulations and single-node tools.
//!
//! It keeps every guarantee that does not outlive the process. Several engines may share one
//! [`MemoryStore`]; clones are the same store. Iteration order is deterministic.

mod log;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    Commit, Cursor, EndMany, EndedBatch, Entries, Loaded, LogPage, Outcome, Page, PageQuery,
    PolicyChange, StoreReport, Sweep, Touch, UserState, limit_within,
};
use session_core::{Actor, EndCause, Session, SessionId, Store, StoreError, Timestamp, UserKey};
use tokio::sync::Notify;

use crate::state::{State, Why};

/// The store; clones share their content.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    written: Notify,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.shared.written.notify_waiters();
        result
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        Ok(self.state().user(owner))
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        commit.check()?;
        Ok(self.write(|state| state.commit(commit)))
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        Ok(self.state().load(id))
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        Ok(self.state().page(query))
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let batch = Touch::folded(batch)?;
        let mut state = self.state();
        Ok(batch.iter().filter(|touch| !state.touch(touch)).map(|touch| touch.id).collect())
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        end.selection.check().map_err(StoreError::refused)?;
        let why = Why { cause: end.cause, at: end.at, by: end.by.clone() };
        self.write(|state| {
            state.end_where(
                end.selection.ids.as_deref(),
                |session| end.selection.covers(session),
                &why,
                end.after.as_ref(),
                limit,
            )
        })
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        let Sweep { rule, after, at } = sweep;
        let why = Why { cause: EndCause::Expired, at: *at, by: Actor::System };
        let covers =
            |session: &Session| rule.covers(session.last_accessed, session.absolute_expiry);
        self.write(|state| state.end_where(None, covers, &why, after.as_ref(), limit))
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let limit = limit_within(limit, LogPage::MAX_LIMIT);
        Ok(self.state().log.since(cursor, entries, limit))
    }

    async fn changed(&self) {
        self.shared.written.notified().await;
    }

    fn pushes(&self) -> bool {
        true
    }

    async fn trim_log(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        Ok(self.state().log.trim(before, limit.max(1)))
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        Ok(self.state().lease(name, holder, ttl))
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        Ok(self.state().policy(scope))
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        self.write(|state| state.set_policy(change));
        Ok(())
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        let clock = Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default());
        let state = self.state();
        Ok(StoreReport {
            server: "memory of this process".to_owned(),
            clock,
            log_from: state.log.begins_at(),
            ..StoreReport::default()
        })
    }
}

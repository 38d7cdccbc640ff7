//! A session store in this process's memory: for tests, simulations and single-node tools.
//!
//! It keeps every guarantee that does not outlive the process. Several engines may share one
//! [`MemoryStore`]; clones are the same store. Iteration order is deterministic.

mod log;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use session_core::cleanup::SweepRule;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    Commit, Cursor, EndMany, Ended, Loaded, LogPage, Outcome, Page, PageQuery, PolicyChange, Touch,
    UserState,
};
use session_core::{EndCause, SessionId, Store, StoreError, Timestamp, UserKey};
use tokio::sync::Notify;

use crate::state::State;

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
        Ok(self.write(|state| state.commit(commit)))
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        Ok(self.state().load(id))
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        Ok(self.state().page(query))
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let mut state = self.state();
        Ok(batch.iter().filter(|touch| !state.touch(touch)).map(|touch| touch.id).collect())
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<Vec<Ended>, StoreError> {
        Ok(self.write(|state| {
            let covers = |session: &_| end.selection.covers(session);
            state.end_where(covers, end.cause, end.at, &end.by, limit)
        }))
    }

    async fn sweep(
        &self,
        rule: &SweepRule,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<Ended>, StoreError> {
        let by = session_core::Actor::System;
        Ok(self.write(|state| {
            let covers = |session: &session_core::Session| {
                rule.covers(session.last_accessed, session.absolute_expiry)
            };
            state.end_where(covers, EndCause::Expired, at, &by, limit)
        }))
    }

    async fn log_since(&self, cursor: Option<&Cursor>, limit: u32) -> Result<LogPage, StoreError> {
        Ok(self.state().log.since(cursor, limit))
    }

    async fn changed(&self) {
        self.shared.written.notified().await;
    }

    async fn trim_log(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        Ok(self.state().log.trim(before, limit))
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
}

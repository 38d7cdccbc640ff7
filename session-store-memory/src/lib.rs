//! A session store in this process's memory: for tests, simulations and single-node tools.
//!
//! It keeps every guarantee that does not outlive the process. Several engines may share one
//! [`MemoryStore`]; clones are the same store. Iteration order is deterministic.

mod history;
mod lease;
mod log;
mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use session_core::block::Block;
use session_core::planted::{self, Defect};
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Ending, Entries, Forget,
    HistoryPage, HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange,
    StoreReport, Sweep, Touch, UserState, limit_within,
};
use session_core::{FleetKey, Session, SessionId, Store, StoreError, Timestamp, UserKey};
use tokio::sync::Notify;

use crate::state::State;

/// The store; clones share their content.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    written: Notify,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store by this host's clock.
    pub fn new() -> Self {
        Self::with_clock(host_clock)
    }

    /// An empty store by a clock of its own, for tests and simulations. Leases go by it, too.
    pub fn with_clock(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let (state, written) = (Mutex::default(), Notify::new());
        Self { shared: Arc::new(Shared { state, written, clock: Arc::new(clock) }) }
    }

    /// Another store with the same content, as a backup that is restored has it: a node that has read on in
    /// this one finds that the log of the copy does not continue where it was.
    #[must_use]
    pub fn copy(&self) -> Self {
        let (state, written) = (Mutex::new(self.state().copy()), Notify::new());
        let clock = Arc::clone(&self.shared.clock);
        Self { shared: Arc::new(Shared { state, written, clock }) }
    }

    fn now(&self) -> Timestamp {
        (self.shared.clock)()
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
    fn configure(&self, needs: &Needs) {
        self.state().history.off = needs.history.is_zero();
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        Ok(self.state().fleet_key(proposed))
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        Ok(self.state().user(owner))
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        commit.check()?;
        let now = self.now();
        Ok(self.write(|state| state.commit(commit, now)))
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        Ok(self.state().load(id))
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        Ok(self.state().history.get(id).cloned())
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        Ok(self.state().history.page(query))
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        let (now, limit) = (self.now(), limit_within(limit, EndedBatch::MAX_LIMIT));
        Ok(self.state().history.forget(forget, now, limit))
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
        self.write(|state| {
            state.end_where(
                end.selection.ids.as_deref(),
                |session| end.selection.covers(session),
                &Ending::from(end),
                end.after.as_ref(),
                limit,
            )
        })
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        let (ending, after) = (Ending::from(sweep), sweep.after.as_ref());
        let now = if planted::is(Defect::SweepByNode) { sweep.at } else { self.now() };
        let eager = planted::is(Defect::SweepEager);
        let line = now.minus(if eager { Duration::ZERO } else { sweep.overdue });
        let covers = |session: &Session| session.deadline < line;
        self.write(|state| state.end_where(None, covers, &ending, after, limit))
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let limit = limit_within(limit, LogPage::MAX_LIMIT);
        let clock = self.now();
        Ok(self.state().log.since(cursor, entries, limit, clock))
    }

    async fn changed(&self) {
        self.shared.written.notified().await;
    }

    fn pushes(&self) -> bool {
        true
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        let before = self.now().minus(older_than);
        Ok(self.state().log.trim(before, limit_within(limit, PageQuery::MAX_EXAMINED)))
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        let now = self.now();
        Ok(self.state().lease(name, holder, ttl, now))
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        Ok(self.state().policy(scope))
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        self.write(|state| state.set_policy(change));
        Ok(())
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        Ok(self.state().block(scope))
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        self.write(|state| state.set_block(change));
        Ok(())
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        let clock = self.now();
        let state = self.state();
        Ok(StoreReport {
            server: "memory of this process".to_owned(),
            clock,
            log_from: state.log.begins_at(),
            ..StoreReport::default()
        })
    }
}

fn host_clock() -> Timestamp {
    Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

//! A node's way to the store: every call becomes a request that the world carries, delays or loses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange, StoreReport,
    Sweep, Touch, UserState,
};
use session_core::{FleetKey, SessionId, Store, StoreError, UserKey};
use tokio::sync::{Notify, oneshot};

use crate::call::{Answer, Call, Reply};

/// A call on its way.
pub(crate) struct Request {
    pub(crate) call: Box<Call>,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What leaves a node, and what makes the world look at it.
#[derive(Default)]
pub(crate) struct Outbox {
    requests: Mutex<Vec<Request>>,
    /// Something has left, or an operation is done.
    pub(crate) woken: Notify,
    /// The store's hints.
    pub(crate) hint: Notify,
    pub(crate) pushes: AtomicBool,
}

impl Outbox {
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The store as one node sees it.
pub(crate) struct Wire(pub(crate) Arc<Outbox>);

impl Wire {
    async fn ask(&self, call: Call) -> Answer {
        let (answer, wait) = oneshot::channel();
        let request = Request { call: Box::new(call), answer };
        self.0.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        self.0.woken.notify_one();
        match wait.await {
            Ok(answer) => answer,
            // The request was lost on the way: there will be no answer.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The reply of the kind that the call has.
macro_rules! asked {
    ($self:ident, $call:expr, $reply:path) => {
        match $self.ask($call).await? {
            $reply(reply) => Ok(reply),
            _ => Err(StoreError::internal("another reply")),
        }
    };
}

#[async_trait]
impl Store for Wire {
    /// The world has configured the store.
    fn configure(&self, _needs: &Needs) {}

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        asked!(self, Call::FleetKey(proposed.clone()), Reply::FleetKey)
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        asked!(self, Call::User(owner.clone()), Reply::User)
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        asked!(self, Call::Commit(commit.clone()), Reply::Outcome)
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        let loaded: Result<_, StoreError> = asked!(self, Call::Load(id), Reply::Loaded);
        Ok(loaded?.map(|loaded| *loaded))
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        let ended: Result<_, StoreError> = asked!(self, Call::Ended(id), Reply::Ended);
        Ok(ended?.map(|ended| *ended))
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        asked!(self, Call::History(query.clone()), Reply::History)
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        asked!(self, Call::Forget(forget.clone(), limit), Reply::Count)
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        asked!(self, Call::Page(query.clone()), Reply::Page)
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        asked!(self, Call::Touch(batch.to_vec()), Reply::Gone)
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        asked!(self, Call::EndMany(end.clone(), limit), Reply::Batch)
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        asked!(self, Call::Sweep(sweep.clone(), limit), Reply::Batch)
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        asked!(self, Call::LogSince(cursor.cloned(), entries, limit), Reply::Log)
    }

    async fn changed(&self) {
        self.0.hint.notified().await;
    }

    fn pushes(&self) -> bool {
        self.0.pushes.load(Ordering::Relaxed)
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        asked!(self, Call::TrimLog(older_than, limit), Reply::Count)
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        asked!(self, Call::Lease(name.to_owned(), holder.to_owned(), ttl), Reply::Lease)
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        asked!(self, Call::Policy(scope.clone()), Reply::Policy)
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        self.ask(Call::SetPolicy(change.clone())).await.map(|_| ())
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        asked!(self, Call::Block(scope.clone()), Reply::Block)
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        self.ask(Call::SetBlock(change.clone())).await.map(|_| ())
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        let report: Result<_, StoreError> = asked!(self, Call::Report, Reply::Report);
        Ok(*report?)
    }
}

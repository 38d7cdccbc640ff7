//! The store.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::Client;
use mongodb::options::ClientOptions;
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange, StoreReport,
    Sweep, Touch, UserState, limit_within,
};
use session_core::{FleetKey, SessionId, Store, StoreError, Timestamp, UserKey};
use tokio::task::JoinHandle;

use crate::collections::Collections;
use crate::error::{Failed, store_error};
use crate::options::MongoOptions;
use crate::{push, report};

/// A store in a MongoDB database. See the crate's documentation.
#[derive(Debug)]
pub struct MongoStore {
    /// For every call but reads of the log.
    pub(crate) calls: Collections,
    /// For those: over a client of their own, a node hears of revocations however busy the driver's
    /// pool is.
    log: Collections,
    listener: Option<JoinHandle<()>>,
}

impl MongoStore {
    /// [`MongoStore::connect_with`] with default options.
    ///
    /// # Errors
    /// As [`MongoStore::connect_with`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, MongoOptions::default()).await
    }

    /// Connects by a URL such as `mongodb://db/app`, makes the indexes that are missing, and finds
    /// out what the server can.
    ///
    /// # Errors
    /// [`Unavailable`] when no server can be reached, [`Internal`] for a malformed URL, an option
    /// out of bounds, or collections of a version that this one may not use.
    ///
    /// [`Unavailable`]: session_core::StoreErrorKind::Unavailable
    /// [`Internal`]: session_core::StoreErrorKind::Internal
    pub async fn connect_with(url: &str, options: MongoOptions) -> Result<Self, StoreError> {
        options.validate().map_err(StoreError::internal)?;
        let mut calls = ClientOptions::parse(url).await.map_err(store_error)?;
        calls.server_selection_timeout = Some(options.timeout);
        calls.connect_timeout = Some(options.timeout);
        let mut log = calls.clone();
        log.min_pool_size = None;
        log.max_pool_size = Some(LOG_CONNECTIONS);
        let client = |options| Client::with_options(options).map_err(store_error);
        let (calls, log) = (client(calls)?, client(log)?);
        Self::with_clients(calls, log, options).await
    }

    /// Uses the application's client, also to read the log. While all of its connections are in use,
    /// the node hears of no revocations: see [`MongoStore::with_clients`].
    ///
    /// # Errors
    /// As [`MongoStore::connect_with`].
    pub async fn with_client(client: Client, options: MongoOptions) -> Result<Self, StoreError> {
        Self::with_clients(client.clone(), client, options).await
    }

    /// Uses the application's client, and another one of it to read the log. That one should serve
    /// nothing else, and needs two connections to a server.
    ///
    /// # Errors
    /// As [`MongoStore::connect_with`].
    pub async fn with_clients(
        client: Client,
        log: Client,
        options: MongoOptions,
    ) -> Result<Self, StoreError> {
        options.validate().map_err(StoreError::internal)?;
        within("connect", options.timeout, Self::open(client, log, options.clone())).await
    }

    async fn open(client: Client, log: Client, options: MongoOptions) -> Result<Self, Failed> {
        let is_pushed = options.push;
        let calls = Collections::open(client, options).await?;
        let log = calls.over(log);
        let listen = || tokio::spawn(push::run(log.log.clone(), log.hints.clone()));
        let listener = (calls.is_set && is_pushed).then(listen);
        Ok(Self { calls, log, listener })
    }

    async fn limit<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, Failed>> + Send,
    ) -> Result<T, StoreError> {
        within(name, self.calls.options.timeout, call).await
    }
}

impl Drop for MongoStore {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

async fn within<T>(
    name: &'static str,
    timeout: Duration,
    call: impl Future<Output = Result<T, Failed>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(timeout, call).await {
        Ok(result) => result.map_err(StoreError::from),
        Err(_) => Err(StoreError::timed_out(name, timeout)),
    }
}

#[async_trait]
impl Store for MongoStore {
    fn session_id(&self, owner: &UserKey, _at: Timestamp, random: [u8; 16]) -> SessionId {
        self.calls.tags.session_id(owner, random)
    }

    fn configure(&self, needs: &Needs) {
        // Neither records nor the log end by themselves: only the cleanup ends and cuts them.
        self.calls.keeps_history.store(!needs.history.is_zero(), Ordering::Relaxed);
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        self.limit("fleet_key", self.calls.agree_on_fleet_key(proposed)).await
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        self.limit("user", self.calls.read_user(owner)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        commit.check()?;
        self.limit("commit", self.calls.write_commit(commit)).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        self.limit("load", self.calls.load_session(id)).await
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        self.limit("ended", self.calls.read_ended(id)).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.limit("history", self.calls.read_history(query)).await
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
        self.limit("forget", self.calls.forget_ended(forget, limit)).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        self.limit("page", self.calls.read_page(query)).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let batch = Touch::folded(batch)?;
        self.limit("touch", self.calls.write_accesses(&batch)).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        end.selection.check().map_err(StoreError::refused)?;
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
        self.limit("end_many", self.calls.end_selected(end, limit as usize)).await
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
        self.limit("sweep", self.calls.end_overdue(sweep, limit as usize)).await
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let limit = limit_within(limit, LogPage::MAX_LIMIT);
        self.limit("log_since", self.log.read_log(cursor, entries, limit)).await
    }

    async fn changed(&self) {
        if self.listener.is_some() {
            self.calls.hints.grown.notified().await;
        } else {
            std::future::pending().await
        }
    }

    fn pushes(&self) -> bool {
        self.calls.hints.open.load(Ordering::Relaxed)
    }

    fn expects_pushes(&self) -> bool {
        self.listener.is_some()
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        let limit = limit_within(limit, PageQuery::MAX_EXAMINED);
        self.limit("trim_log", self.calls.trim(older_than, limit)).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.limit("lease", self.calls.take_lease(name, holder, ttl)).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        self.limit("policy", self.calls.read_policy(scope)).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        self.limit("set_policy", self.calls.write_policy(change)).await
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        self.limit("block", self.calls.read_block(scope)).await
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        self.limit("set_block", self.calls.write_block(change)).await
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        self.limit("report", report::of(&self.calls, self.listener.is_some())).await
    }
}

/// One to read, and one for the change stream.
const LOG_CONNECTIONS: u32 = 2;

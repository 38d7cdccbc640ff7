//! The store and its collections.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::{ClientOptions, CollectionOptions, ReadConcern, SelectionCriteria};
use mongodb::{Client, Collection, Database};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange, StoreReport,
    Sweep, TagKey, Touch, UserState, limit_within,
};
use session_core::{FleetKey, SessionId, Store, StoreError, Timestamp, UserKey};
use tokio::task::JoinHandle;

use crate::agreement::agree;
use crate::causal::Seen;
use crate::error::{Failed, is_duplicate, store_error};
use crate::options::{MongoOptions, Transactions};
use crate::push::{self, Hints};
use crate::{record, report};

/// A store in a MongoDB database. See the crate's documentation.
#[derive(Debug)]
pub struct MongoStore {
    pub(crate) client: Client,
    /// One document for each user, with all of the user's sessions: authoritative.
    pub(crate) users: Collection<Document>,
    /// One document for each session: finds sessions for pages and for the cleanup.
    pub(crate) list: Collection<Document>,
    pub(crate) log: Collection<Document>,
    /// One document for each session that has ended.
    pub(crate) history: Collection<Document>,
    /// Policies and blocks.
    pub(crate) places: Collection<Document>,
    leases: Collection<Document>,
    /// What all nodes agree on: the keys, and the numbers of the log.
    pub(crate) agreement: Collection<Document>,
    pub(crate) tags: TagKey,
    /// The secret of the fleet, once it was asked for.
    pub(crate) fleet: OnceLock<FleetKey>,
    pub(crate) keeps_history: AtomicBool,
    pub(crate) options: MongoOptions,
    /// Whether a change of several documents can be one atomic step.
    pub(crate) transactional: bool,
    /// The number of a log entry that was there: where to look for newer ones.
    pub(crate) newest: AtomicI64,
    /// The time of the newest read of the log, by the server's logical clock.
    pub(crate) seen: Seen,
    pub(crate) hints: Hints,
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
    /// out of bounds, or collections of a newer version.
    ///
    /// [`Unavailable`]: session_core::StoreErrorKind::Unavailable
    /// [`Internal`]: session_core::StoreErrorKind::Internal
    pub async fn connect_with(url: &str, options: MongoOptions) -> Result<Self, StoreError> {
        options.validate().map_err(StoreError::internal)?;
        let mut client = ClientOptions::parse(url).await.map_err(store_error)?;
        client.server_selection_timeout = Some(options.timeout);
        client.connect_timeout = Some(options.timeout);
        Self::with_client(Client::with_options(client).map_err(store_error)?, options).await
    }

    /// Uses the application's client.
    ///
    /// # Errors
    /// As [`MongoStore::connect_with`].
    pub async fn with_client(client: Client, options: MongoOptions) -> Result<Self, StoreError> {
        options.validate().map_err(StoreError::internal)?;
        within("connect", options.timeout, Self::open(client, options.clone())).await
    }

    async fn open(client: Client, options: MongoOptions) -> Result<Self, Failed> {
        let default = client.default_database();
        let database = default.unwrap_or_else(|| client.database(&options.database));
        let hello = database.run_command(doc! { "hello": 1 }).await?;
        let is_set = hello.contains_key("setName")
            || hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
        let transactional = is_set && options.transactions == Transactions::WhereThereAre;
        let collection = |name: &str| collection(&database, &options, name);
        let agreement = collection("agreement");
        let mut key = [0; TagKey::BYTES];
        getrandom::fill(&mut key).map_err(|error| StoreError::internal(error.to_string()))?;
        let tags = agree(&agreement, &TagKey::from_bytes(key)).await?;
        let log = collection("log");
        let hints = Hints::default();
        let listener =
            (is_set && options.push).then(|| tokio::spawn(push::run(log.clone(), hints.clone())));
        let store = Self {
            users: collection("users"),
            list: collection("sessions"),
            log,
            history: collection("history"),
            places: collection("places"),
            leases: collection("leases"),
            agreement,
            client,
            tags,
            fleet: OnceLock::new(),
            keeps_history: AtomicBool::new(true),
            options,
            transactional,
            newest: AtomicI64::new(0),
            seen: Seen::default(),
            hints,
            listener,
        };
        store.make_indexes().await?;
        Ok(store)
    }

    /// Whether a change stream gives hints.
    pub(crate) const fn is_pushed(&self) -> bool {
        self.listener.is_some()
    }

    /// The server's clock.
    pub(crate) async fn clock(&self) -> Result<Timestamp, Failed> {
        let hello = self.client.database("admin").run_command(doc! { "hello": 1 }).await?;
        Ok(record::time(&hello, "localTime")?)
    }

    async fn take_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, Failed> {
        // By the server's clock, as of just before: what it then says is over is over.
        let now = self.clock().await?;
        let date = |time: Timestamp| DateTime::from_millis(time.as_micros() / 1000);
        let (now, until) = (date(now), date(now.plus(ttl)));
        let free = doc! { "_id": name, "$or": [
            { "holder": holder },
            { "until": { "$lte": now } },
        ] };
        let take = doc! { "$set": { "holder": holder, "until": until } };
        match self.leases.update_one(free, take).upsert(true).await {
            Ok(_) => {
                // There is one for each worker, and for each ticket that is good.
                let over = doc! { "_id": { "$ne": name }, "until": { "$lte": now } };
                self.leases.delete_many(over).await?;
                Ok(true)
            }
            // There is one, and it is not free.
            Err(error) if is_duplicate(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn limit<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, Failed>> + Send,
    ) -> Result<T, StoreError> {
        within(name, self.options.timeout, call).await
    }
}

impl Drop for MongoStore {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

fn collection(database: &Database, options: &MongoOptions, name: &str) -> Collection<Document> {
    let settings = CollectionOptions::builder()
        .write_concern(options.write_concern.clone())
        .read_concern(ReadConcern::majority())
        .selection_criteria(SelectionCriteria::ReadPreference(
            mongodb::options::ReadPreference::Primary,
        ))
        .build();
    database.collection_with_options(&format!("{}{name}", options.prefix), settings)
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
    fn session_id(&self, owner: &UserKey, random: [u8; 16]) -> SessionId {
        self.tags.session_id(owner, random)
    }

    fn configure(&self, needs: &Needs) {
        // Neither records nor the log end by themselves: only the cleanup ends and cuts them.
        self.keeps_history.store(!needs.history.is_zero(), Ordering::Relaxed);
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        self.limit("fleet_key", self.agree_on_fleet_key(proposed)).await
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        self.limit("user", self.read_user(owner)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        commit.check()?;
        self.limit("commit", self.write_commit(commit)).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        self.limit("load", self.load_session(id)).await
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        self.limit("ended", self.read_ended(id)).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.limit("history", self.read_history(query)).await
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
        self.limit("forget", self.forget_ended(forget, limit)).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        self.limit("page", self.read_page(query)).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let batch = Touch::folded(batch)?;
        self.limit("touch", self.write_accesses(&batch)).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        end.selection.check().map_err(StoreError::refused)?;
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
        self.limit("end_many", self.end_selected(end, limit as usize)).await
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
        self.limit("sweep", self.end_overdue(sweep, limit as usize)).await
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let limit = limit_within(limit, LogPage::MAX_LIMIT);
        self.limit("log_since", self.read_log(cursor, entries, limit)).await
    }

    async fn changed(&self) {
        if self.listener.is_some() {
            self.hints.grown.notified().await;
        } else {
            std::future::pending().await
        }
    }

    fn pushes(&self) -> bool {
        self.hints.open.load(Ordering::Relaxed)
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        self.limit("trim_log", self.trim(older_than, limit.max(1))).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.limit("lease", self.take_lease(name, holder, ttl)).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        self.limit("policy", self.read_policy(scope)).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        self.limit("set_policy", self.write_policy(change)).await
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        self.limit("block", self.read_block(scope)).await
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        self.limit("set_block", self.write_block(change)).await
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        self.limit("report", report::of(self)).await
    }
}

//! The store and its collections.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::{
    ClientOptions, CollectionOptions, IndexOptions, ReadConcern, SelectionCriteria,
};
use mongodb::{Client, Collection, Database, IndexModel};
use session_core::checker::Timeouts;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    Commit, Cursor, EndMany, EndedBatch, Entries, Loaded, LogPage, Needs, Outcome, Page, PageQuery,
    PolicyChange, StoreReport, Sweep, TagKey, Touch, UserState, limit_within,
};
use session_core::{SessionId, Store, StoreError, Timestamp, UserKey};
use tokio::task::JoinHandle;

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
    pub(crate) policies: Collection<Document>,
    leases: Collection<Document>,
    /// What all nodes agree on: the key of the tags, and the numbers of the log.
    pub(crate) agreement: Collection<Document>,
    pub(crate) tags: TagKey,
    pub(crate) options: MongoOptions,
    /// Whether a change of several documents can be one atomic step.
    pub(crate) transactional: bool,
    /// The number of a log entry that was there: where to look for newer ones.
    pub(crate) newest: AtomicI64,
    /// The time of the newest read of the log, by the server's logical clock.
    pub(crate) seen: Seen,
    pub(crate) hints: Hints,
    timeouts: RwLock<Timeouts>,
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

    /// Called where the log is gone: checks that what this node knows is still what all agree on. A
    /// database that was dropped has forgotten it, and another node may have agreed on something else.
    pub(crate) async fn agree_again(&self) -> Result<(), Failed> {
        if agree(&self.agreement, &self.tags).await? == self.tags {
            return self.make_indexes().await;
        }
        let text = "the collections were emptied, and another node has chosen another key: \
                    open the store again";
        Err(StoreError::internal(text).into())
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
            policies: collection("policies"),
            leases: collection("leases"),
            agreement,
            client,
            tags,
            options,
            transactional,
            newest: AtomicI64::new(0),
            seen: Seen::default(),
            hints,
            timeouts: RwLock::new(Timeouts::none()),
            listener,
        };
        store.make_indexes().await?;
        Ok(store)
    }

    /// Making an index that is there does nothing.
    async fn make_indexes(&self) -> Result<(), Failed> {
        for (collection, indexes) in self.indexes() {
            collection.create_indexes(indexes).await?;
        }
        Ok(())
    }

    /// The indexes of each collection, but that of the `_id`.
    pub(crate) fn indexes(&self) -> [(&Collection<Document>, Vec<IndexModel>); 3] {
        let index = |keys: Document, options: IndexOptions| {
            IndexModel::builder().keys(keys).options(options).build()
        };
        let plain = |keys| index(keys, IndexOptions::default());
        let expires = || {
            let at_once = IndexOptions::builder().expire_after(Duration::ZERO).build();
            index(doc! { "until": 1 }, at_once)
        };
        let sparse = |keys| index(keys, IndexOptions::builder().sparse(true).build());
        let numbers = IndexOptions::builder().unique(true).sparse(true).build();
        let list = vec![
            plain(doc! { "signed_in": -1, "_id": 1 }),
            plain(doc! { "tenant": 1, "signed_in": -1, "_id": 1 }),
            plain(doc! { "user_id": 1, "signed_in": -1, "_id": 1 }),
            plain(doc! { "client_id": 1, "signed_in": -1, "_id": 1 }),
            plain(doc! { "last_accessed": 1, "_id": 1 }),
            plain(doc! { "absolute_expiry": 1, "_id": 1 }),
            expires(),
        ];
        let users = vec![expires(), sparse(doc! { "due": 1 })];
        let log = vec![index(doc! { "number": 1 }, numbers), sparse(doc! { "order": 1 })];
        [(&self.list, list), (&self.users, users), (&self.log, log)]
    }

    /// When a record may expire by itself.
    pub(crate) fn until(
        &self,
        last_accessed: Timestamp,
        expiry: Option<Timestamp>,
        now: Timestamp,
    ) -> DateTime {
        let timeouts = *self.timeouts.read().unwrap_or_else(PoisonError::into_inner);
        let until = timeouts.deadline(last_accessed, expiry);
        // Never at once, even where the times of the session lie far back.
        let until = until.map(|until| until.max(now).plus(self.options.expiry_margin));
        until.map_or(NEVER, |until| DateTime::from_millis(until.as_micros() / 1000).min(NEVER))
    }

    /// Whether a change stream gives hints.
    pub(crate) const fn is_pushed(&self) -> bool {
        self.listener.is_some()
    }

    async fn take_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, Failed> {
        // By the server's clock, as of just before: what it then says is over is over.
        let hello = self.client.database("admin").run_command(doc! { "hello": 1 }).await?;
        let now = hello.get_datetime("localTime").map_err(|_| record::malformed("localTime"))?;
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX / 4);
        let until = DateTime::from_millis(now.timestamp_millis().saturating_add(ttl));
        let free = doc! { "_id": name, "$or": [
            { "holder": holder },
            { "until": { "$lte": *now } },
        ] };
        let take = doc! { "$set": { "holder": holder, "until": until } };
        match self.leases.update_one(free, take).upsert(true).await {
            Ok(_) => Ok(true),
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

/// The first node decides about the key.
async fn agree(agreement: &Collection<Document>, proposed: &TagKey) -> Result<TagKey, Failed> {
    let key = record::bytes(proposed.as_bytes());
    let first = doc! { "_id": "agreement", "version": VERSION, "key": key };
    match agreement.insert_one(first).await {
        Err(error) if !is_duplicate(&error) => return Err(error.into()),
        _ => {}
    }
    let agreed = agreement.find_one(doc! { "_id": "agreement" }).await?.unwrap_or_default();
    let version = agreed.get_i32("version").map_err(|_| record::malformed("version"))?;
    if version != VERSION {
        let text = format!("the collections have version {version}, this build knows {VERSION}");
        return Err(StoreError::internal(text).into());
    }
    let key = agreed.get_binary_generic("key").map_err(|_| record::malformed("key"))?;
    let key = key.as_slice().try_into().map_err(|_| record::malformed("key"))?;
    Ok(TagKey::from_bytes(key))
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
        // The log is not capped: only `trim_log` cuts it.
        *self.timeouts.write().unwrap_or_else(PoisonError::into_inner) = needs.timeouts;
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
        self.limit("sweep", self.end_old(sweep, limit as usize)).await
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

    async fn trim_log(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        self.limit("trim_log", self.trim(before, limit.max(1))).await
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

    async fn report(&self) -> Result<StoreReport, StoreError> {
        self.limit("report", report::of(self)).await
    }
}

/// Of the collections' format.
pub(crate) const VERSION: i32 = 2;
/// The year 9999: later than any other, so that the latest of two wins.
pub(crate) const NEVER: DateTime = DateTime::from_millis(253_370_764_800_000);

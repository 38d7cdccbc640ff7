//! The store, its options and its collections.

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, IndexOptions, ReadConcern, SelectionCriteria,
    WriteConcern,
};
use mongodb::{Client, Collection, Database, IndexModel};
use session_core::checker::Timeouts;
use session_core::cleanup::SweepRule;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    Commit, Cursor, EndMany, Ended, Loaded, LogPage, Outcome, Page, PageQuery, PolicyChange,
    TagKey, Touch, UserState,
};
use session_core::{InvalidField, SessionId, Store, StoreError, Timestamp, UserKey};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

use crate::error::{Failed, internal, is_duplicate, store_error};
use crate::{push, record};

/// A store in a MongoDB database. See the crate's documentation.
#[derive(Debug)]
pub struct MongoStore {
    pub(crate) client: Client,
    /// One document for each user, with all of the user's sessions: what they say holds.
    pub(crate) users: Collection<Document>,
    /// One document for each session: finds sessions for pages and for the cleanup.
    pub(crate) list: Collection<Document>,
    pub(crate) log: Collection<Document>,
    pub(crate) policies: Collection<Document>,
    leases: Collection<Document>,
    agreement: Collection<Document>,
    pub(crate) tags: TagKey,
    pub(crate) options: MongoOptions,
    /// Whether a change of several documents can be one atomic step.
    pub(crate) transactional: bool,
    /// Whether one command can write to several collections.
    pub(crate) bulk: bool,
    /// Whose turn it is to append to the log, of this node's transactions.
    pub(crate) turn: Arc<Mutex<()>>,
    /// The number of a log entry that was there: where to look for newer ones.
    pub(crate) seen: AtomicI64,
    timeouts: RwLock<Timeouts>,
    grown: Arc<Notify>,
    listener: Option<JoinHandle<()>>,
}

/// Whether changes are transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transactions {
    /// On a replica set or a sharded cluster; elsewhere by compare-and-swap on the user's document.
    #[default]
    WhereThereAre,
    /// Always by compare-and-swap. All nodes have to do the same.
    Never,
}

/// How a [`MongoStore`] keeps its sessions.
///
/// ```
/// let options = session_store_mongo::MongoOptions::default().with_database("app");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MongoOptions {
    /// The database, where the URL names none. Default `session_kit`.
    pub database: String,
    /// What every collection's name begins with: letters, digits and underscores, at most 32.
    /// Default `session_kit_`.
    pub prefix: String,
    /// Of changes of sessions and policies. Default a majority's journals: what is acknowledged
    /// survives deaths and failovers.
    pub write_concern: WriteConcern,
    /// Default where there are any.
    pub transactions: Transactions,
    /// Whether a change stream tells of revocations, so that they need not wait for the log's next
    /// read. It costs the server a cursor for each node. Default true; needs a replica set.
    pub push: bool,
    /// A call that takes longer counts as an outage. Default 5 s.
    pub timeout: Duration,
    /// How long after its timeouts a record expires by itself, should the cleanup never come.
    /// Default one day.
    pub expiry_margin: Duration,
}

impl Default for MongoOptions {
    fn default() -> Self {
        Self {
            database: "session_kit".to_owned(),
            prefix: "session_kit_".to_owned(),
            write_concern: WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .build(),
            transactions: Transactions::WhereThereAre,
            push: true,
            timeout: Duration::from_secs(5),
            expiry_margin: Duration::from_secs(24 * 3600),
        }
    }
}

impl MongoOptions {
    /// Sets [`MongoOptions::database`].
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// Sets [`MongoOptions::prefix`].
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets [`MongoOptions::write_concern`].
    #[must_use]
    pub fn with_write_concern(mut self, write_concern: WriteConcern) -> Self {
        self.write_concern = write_concern;
        self
    }

    /// Sets [`MongoOptions::transactions`].
    #[must_use]
    pub fn with_transactions(mut self, transactions: Transactions) -> Self {
        self.transactions = transactions;
        self
    }

    /// Sets [`MongoOptions::push`].
    #[must_use]
    pub const fn with_push(mut self, push: bool) -> Self {
        self.push = push;
        self
    }

    /// Sets [`MongoOptions::timeout`].
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`MongoOptions::expiry_margin`].
    #[must_use]
    pub const fn with_expiry_margin(mut self, expiry_margin: Duration) -> Self {
        self.expiry_margin = expiry_margin;
        self
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option and its limit.
    pub fn validate(&self) -> Result<(), InvalidField> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for (field, name) in [("prefix", &self.prefix), ("database", &self.database)] {
            if name.len() > 32 || !name.chars().all(plain) {
                let expected = "at most 32 letters, digits and underscores";
                return Err(InvalidField::malformed(field, expected));
            }
        }
        if self.database.is_empty() {
            return Err(InvalidField::malformed("database", "a name"));
        }
        if self.timeout.is_zero() {
            return Err(InvalidField::malformed("timeout", "longer than zero"));
        }
        Ok(())
    }
}

impl MongoStore {
    /// Connects by a URL, makes the indexes that are missing, and finds out what the server can.
    ///
    /// # Errors
    /// [`Unavailable`] when no server can be reached, [`Internal`] for a malformed URL, an option
    /// out of bounds, or collections of a newer version.
    ///
    /// [`Unavailable`]: session_core::StoreErrorKind::Unavailable
    /// [`Internal`]: session_core::StoreErrorKind::Internal
    pub async fn connect(url: &str, options: MongoOptions) -> Result<Self, StoreError> {
        options.validate().map_err(internal)?;
        let mut client = ClientOptions::parse(url).await.map_err(store_error)?;
        client.server_selection_timeout = Some(options.timeout);
        client.connect_timeout = Some(options.timeout);
        let client = Client::with_options(client).map_err(store_error)?;
        within(options.timeout, Self::open(client, options.clone())).await
    }

    /// Uses the application's client.
    ///
    /// # Errors
    /// As [`MongoStore::connect`].
    pub async fn with_client(client: Client, options: MongoOptions) -> Result<Self, StoreError> {
        options.validate().map_err(internal)?;
        within(options.timeout, Self::open(client, options.clone())).await
    }

    /// Whoever finds the log gone makes sure that what this node knows is still what all agree on: a
    /// database that was dropped has forgotten it, and another node may have begun anew.
    pub(crate) async fn agree_again(&self) -> Result<(), Failed> {
        if agree(&self.agreement, &self.tags).await? == self.tags {
            return self.make_indexes().await;
        }
        let text =
            "the collections were emptied, and another node has begun anew: open the store again";
        Err(internal(text).into())
    }

    async fn open(client: Client, options: MongoOptions) -> Result<Self, Failed> {
        let default = client.default_database();
        let database = default.unwrap_or_else(|| client.database(&options.database));
        let hello = database.run_command(doc! { "hello": 1 }).await?;
        let is_set = hello.contains_key("setName")
            || hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
        let wire = hello.get_i32("maxWireVersion").unwrap_or(0);
        let transactional = is_set && options.transactions == Transactions::WhereThereAre;
        let collection = |name: &str| collection(&database, &options, name);
        let agreement = collection("agreement");
        let mut key = [0; TagKey::BYTES];
        getrandom::fill(&mut key).map_err(|error| internal(error.to_string()))?;
        let tags = agree(&agreement, &TagKey::from_bytes(key)).await?;
        let log = collection("log");
        let grown = Arc::new(Notify::new());
        let listener = (is_set && options.push)
            .then(|| tokio::spawn(push::run(log.clone(), Arc::clone(&grown))));
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
            bulk: wire >= BULK_WIRE_VERSION,
            turn: Arc::default(),
            seen: AtomicI64::new(0),
            timeouts: RwLock::new(Timeouts::none()),
            grown,
            listener,
        };
        store.make_indexes().await?;
        Ok(store)
    }

    /// Making an index that is there does nothing.
    async fn make_indexes(&self) -> Result<(), Failed> {
        let index = |keys: Document| IndexModel::builder().keys(keys).build();
        let with = |keys: Document, options: IndexOptions| {
            IndexModel::builder().keys(keys).options(options).build()
        };
        let expires = || IndexOptions::builder().expire_after(Duration::ZERO).build();
        let sparse = || IndexOptions::builder().sparse(true).build();
        let unique = IndexOptions::builder().unique(true).build();
        let list = [
            index(doc! { "signed_in": -1, "_id": 1 }),
            index(doc! { "tenant": 1, "signed_in": -1, "_id": 1 }),
            index(doc! { "user": 1, "signed_in": -1, "_id": 1 }),
            index(doc! { "client_id": 1, "signed_in": -1, "_id": 1 }),
            index(doc! { "last_accessed": 1 }),
            index(doc! { "absolute_expiry": 1 }),
            with(doc! { "until": 1 }, expires()),
        ];
        self.list.create_indexes(list).await?;
        let users = [with(doc! { "until": 1 }, expires()), with(doc! { "due": 1 }, sparse())];
        self.users.create_indexes(users).await?;
        self.log.create_index(with(doc! { "number": 1 }, unique)).await?;
        Ok(())
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
        // Never at once, whatever the times of the session.
        let until = until.map(|until| until.max(now).plus(self.options.expiry_margin));
        until.map_or(NEVER, |until| DateTime::from_millis(until.as_micros() / 1000))
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
        call: impl Future<Output = Result<T, Failed>> + Send,
    ) -> Result<T, StoreError> {
        within(self.options.timeout, call).await
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

/// Whoever comes first decides about the key.
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
        return Err(internal(text).into());
    }
    let key = agreed.get_binary_generic("key").map_err(|_| record::malformed("key"))?;
    let key = key.as_slice().try_into().map_err(|_| record::malformed("key"))?;
    Ok(TagKey::from_bytes(key))
}

async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, Failed>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(timeout, call).await {
        Ok(result) => result.map_err(StoreError::from),
        Err(_) => Err(StoreError::timed_out()),
    }
}

#[async_trait]
impl Store for MongoStore {
    fn session_id(&self, owner: &UserKey, random: [u8; 16]) -> SessionId {
        self.tags.session_id(owner, random)
    }

    fn set_timeouts(&self, timeouts: &Timeouts) {
        *self.timeouts.write().unwrap_or_else(PoisonError::into_inner) = *timeouts;
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        self.limit(self.read_user(owner)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        self.limit(self.write_commit(commit)).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        self.limit(self.read_session(id)).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        self.limit(self.read_page(query)).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        self.limit(self.write_accesses(batch)).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<Vec<Ended>, StoreError> {
        self.limit(self.end_selected(end, limit)).await
    }

    async fn sweep(
        &self,
        rule: &SweepRule,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<Ended>, StoreError> {
        self.limit(self.end_old(rule, at, limit)).await
    }

    async fn log_since(&self, cursor: Option<&Cursor>, limit: u32) -> Result<LogPage, StoreError> {
        self.limit(self.read_log(cursor, limit)).await
    }

    async fn changed(&self) {
        if self.listener.is_some() {
            self.grown.notified().await;
        } else {
            std::future::pending().await
        }
    }

    async fn trim_log(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        self.limit(self.trim(before, limit)).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.limit(self.take_lease(name, holder, ttl)).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        self.limit(self.read_policy(scope)).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        self.limit(self.write_policy(change)).await
    }
}

/// Of the collections' format.
const VERSION: i32 = 1;
/// MongoDB 8.0.
const BULK_WIRE_VERSION: i32 = 25;
/// The year 9999: later than any other, so that the latest of two wins.
pub(crate) const NEVER: DateTime = DateTime::from_millis(253_370_764_800_000);

//! Namespaces for the kit, a database each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection, Database};
use session_conformance::sample::{self, PATIENCE};
use session_conformance::{Backend, Namespace, RestorePoint};
use session_core::store::Entries;
use session_core::{SessionId, Store, StoreError, StoreErrorKind, UserKey};
use session_engine::Options;
use session_store_mongo::{MongoOptions, MongoStore, Transactions};
use tokio::sync::RwLock;

/// The test server may need that long to end ten thousand sessions in one step.
const SLOW: Duration = Duration::from_secs(390);

/// Who kills servers is alone with them.
pub(crate) static ALONE: RwLock<()> = RwLock::const_new(());

/// A server, for the kit.
pub(crate) struct Mongo {
    pub(crate) url: String,
    pub(crate) transactions: Transactions,
}

/// What only this test uses.
pub(crate) struct Fresh {
    url: String,
    /// Whether the driver sends a write again whose answer is lost; none for its default.
    retry_writes: Option<bool>,
    /// Whether a case has made a record unreadable.
    is_damaged: AtomicBool,
    pub(crate) options: MongoOptions,
}

pub(crate) fn url() -> String {
    std::env::var("SESSION_KIT_MONGODB_URL")
        .expect("SESSION_KIT_MONGODB_URL names a server; `cargo xtask test` starts one")
}

impl Fresh {
    pub(crate) fn new(transactions: Transactions) -> Self {
        Self::at(url(), None, transactions)
    }

    fn at(url: String, retry_writes: Option<bool>, transactions: Transactions) -> Self {
        let mut options = MongoOptions::default();
        options.database = format!("kit_{:x}", getrandom::u64().unwrap());
        options.transactions = transactions;
        options.timeout = SLOW;
        // The test server pays dearly for every change stream.
        options.push = false;
        Self { url, retry_writes, is_damaged: AtomicBool::new(false), options }
    }

    pub(crate) async fn store(&self) -> MongoStore {
        self.open().await.unwrap()
    }

    pub(crate) async fn open(&self) -> Result<MongoStore, StoreError> {
        let client = ClientOptions::parse(&self.url).await.unwrap();
        self.open_with(client).await
    }

    /// A store whose client has these options besides.
    pub(crate) async fn open_with(
        &self,
        mut client: ClientOptions,
    ) -> Result<MongoStore, StoreError> {
        client.server_selection_timeout = Some(SLOW);
        client.connect_timeout = Some(SLOW);
        client.retry_writes = self.retry_writes;
        let [client, log] = [client.clone(), client].map(|o| Client::with_options(o).unwrap());
        MongoStore::with_clients(client, log, self.options.clone()).await
    }

    pub(crate) async fn database(&self) -> Database {
        Client::with_uri_str(&self.url).await.unwrap().database(&self.options.database)
    }

    pub(crate) fn collection(&self, database: &Database, name: &str) -> Collection<Document> {
        database.collection(&format!("{}{name}", self.options.prefix))
    }
}

/// A session's name in its user's document, and its `_id` elsewhere.
pub(crate) fn named(id: SessionId) -> String {
    id.as_uuid().simple().to_string()
}

#[async_trait]
impl Backend for Mongo {
    async fn fresh(&self) -> Box<dyn Namespace> {
        // No case loses an answer on the wire, and with each write that might be sent again the test
        // server walks through the last ten thousand.
        Box::new(Fresh::at(self.url.clone(), Some(false), self.transactions))
    }
}

#[async_trait]
impl Namespace for Fresh {
    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(self.store().await)
    }

    fn options(&self) -> Options {
        let mut options = sample::options();
        options.store_timeout = SLOW;
        options
    }

    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        let database = self.database().await;
        let mut collections = Vec::new();
        for name in database.list_collection_names().await.unwrap() {
            let collection = database.collection(&name);
            let copy = collection.find(doc! {}).await.unwrap().try_collect().await.unwrap();
            collections.push((collection, copy));
        }
        Some(Box::new(Copy { database, collections }))
    }

    /// The second run, without transactions, has as many as a user may have by default: the test server
    /// needs minutes for more.
    fn many_sessions(&self) -> usize {
        if self.options.transactions == Transactions::Never { 1_000 } else { 2_000 }
    }

    async fn damage(&self, id: SessionId) -> bool {
        let database = self.database().await;
        let collection = |name| self.collection(&database, name);
        let name = named(id);
        let session = format!("sessions.{name}");
        let live = doc! { &session: { "$exists": true } };
        let damage = doc! { "$set": { format!("{session}.ip_addresses"): "nowhere" } };
        collection("users").update_one(live, damage).await.unwrap();
        let damage = doc! { "$set": { "ip_addresses": "nowhere" } };
        collection("history").update_one(doc! { "_id": name }, damage).await.unwrap();
        self.is_damaged.store(true, Ordering::Relaxed);
        true
    }

    async fn damage_log(&self, id: SessionId) -> bool {
        let log = self.collection(&self.database().await, "log");
        let id = Binary { subtype: BinarySubtype::Generic, bytes: id.as_bytes().to_vec() };
        let damage = doc! { "$set": { "user_id": 7 } };
        log.update_many(doc! { "session_id": id }, damage).await.unwrap();
        true
    }

    async fn damage_settings(&self, owner: &UserKey) -> bool {
        let places = self.collection(&self.database().await, "places");
        let tenant = owner.tenant_text();
        let place = doc! { "_id": format!("{}:{tenant}{}", tenant.len(), owner.user.as_str()) };
        let damage = doc! { "$set": { "policy": "{", "block": "{" } };
        places.update_one(place, damage).await.unwrap().modified_count == 1
    }

    async fn remember_alive(&self, id: SessionId) -> bool {
        let database = self.database().await;
        let (users, name) = (self.collection(&database, "users"), named(id));
        let session = format!("sessions.{name}");
        let user = users.find_one(doc! { &session: { "$exists": true } }).await.unwrap().unwrap();
        let mut ended = user.get_document("sessions").unwrap().get_document(&name).unwrap().clone();
        let how = doc! { "_id": name, "ended": 0_i64, "cause": "evicted", "actor": "system" };
        ended.extend(how);
        self.collection(&database, "history").insert_one(ended).await.unwrap();
        true
    }

    /// The outbox of an abandoned call is delivered by the next reader of the log once it is due.
    async fn complaints(&self) -> Vec<String> {
        let store = self.store().await;
        let begun = Instant::now();
        loop {
            let complaints = match store.audit().await {
                Err(error) if self.is_damaged.load(Ordering::Relaxed) => {
                    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
                    return Vec::new();
                }
                audit => audit.unwrap(),
            };
            if complaints.is_empty() || begun.elapsed() > PATIENCE {
                return complaints;
            }
            store.log_since(None, Entries::All, 0).await.unwrap();
        }
    }
}

/// All documents of a database.
struct Copy {
    database: Database,
    collections: Vec<(Collection<Document>, Vec<Document>)>,
}

#[async_trait]
impl RestorePoint for Copy {
    async fn restore(self: Box<Self>) {
        for name in self.database.list_collection_names().await.unwrap() {
            let collection = self.database.collection::<Document>(&name);
            collection.delete_many(doc! {}).await.unwrap();
        }
        for (collection, copy) in self.collections {
            if !copy.is_empty() {
                collection.insert_many(copy).await.unwrap();
            }
        }
    }
}

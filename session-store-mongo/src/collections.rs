//! The collections, as one client reaches them.

use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::{CollectionOptions, ReadConcern, SelectionCriteria};
use mongodb::{Client, Collection, Database};
use session_core::store::TagKey;
use session_core::{FleetKey, StoreError, Timestamp};

use crate::agreement::agree;
use crate::causal::Seen;
use crate::clock::KnownClock;
use crate::error::{Failed, is_duplicate};
use crate::options::{MongoOptions, Transactions};
use crate::push::Hints;
use crate::record;

/// The store's collections, and what this node knows of them. Clones share what the node knows.
#[derive(Clone, Debug)]
pub(crate) struct Collections {
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
    pub(crate) leases: Collection<Document>,
    /// What all nodes agree on: the keys, and the numbers of the log.
    pub(crate) agreement: Collection<Document>,
    pub(crate) tags: TagKey,
    /// The secret of the fleet, once it was asked for.
    pub(crate) fleet: Arc<OnceLock<FleetKey>>,
    pub(crate) keeps_history: Arc<AtomicBool>,
    pub(crate) options: MongoOptions,
    /// The server's clock, as this node knows it.
    pub(crate) known_clock: Arc<KnownClock>,
    /// Whether the server is one of a set, or of a sharded cluster.
    pub(crate) is_set: bool,
    /// Whether a change of several documents can be one atomic step.
    pub(crate) transactional: bool,
    /// The number of a log entry that was there: where to look for newer ones.
    pub(crate) newest: Arc<AtomicI64>,
    /// The time of the newest read of the log, by the server's logical clock.
    pub(crate) seen: Arc<Seen>,
    pub(crate) hints: Hints,
}

impl Collections {
    /// Makes the indexes that are missing, and finds out what the server can.
    pub(crate) async fn open(client: Client, options: MongoOptions) -> Result<Self, Failed> {
        let database = database(&client, &options);
        let hello = database.run_command(doc! { "hello": 1 }).await?;
        let is_set = hello.contains_key("setName")
            || hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
        let transactional = is_set && options.transactions == Transactions::WhereThereAre;
        let collection = |name: &str| collection(&database, &options, name);
        let agreement = collection("agreement");
        let mut key = [0; TagKey::BYTES];
        getrandom::fill(&mut key).map_err(|error| StoreError::internal(error.to_string()))?;
        let tags = agree(&agreement, &TagKey::from_bytes(key)).await?;
        let collections = Self {
            users: collection("users"),
            list: collection("sessions"),
            log: collection("log"),
            history: collection("history"),
            places: collection("places"),
            leases: collection("leases"),
            agreement,
            client,
            tags,
            fleet: Arc::default(),
            keeps_history: Arc::new(AtomicBool::new(true)),
            options,
            known_clock: Arc::new(KnownClock::new(record::time(&hello, "localTime")?)),
            is_set,
            transactional,
            newest: Arc::default(),
            seen: Arc::default(),
            hints: Hints::default(),
        };
        collections.make_indexes().await?;
        Ok(collections)
    }

    /// The same ones, as another client reaches them.
    pub(crate) fn over(&self, client: Client) -> Self {
        let database = database(&client, &self.options);
        let collection = |name: &str| collection(&database, &self.options, name);
        Self {
            users: collection("users"),
            list: collection("sessions"),
            log: collection("log"),
            history: collection("history"),
            places: collection("places"),
            leases: collection("leases"),
            agreement: collection("agreement"),
            client,
            ..self.clone()
        }
    }

    /// The server's clock.
    pub(crate) async fn clock(&self) -> Result<Timestamp, Failed> {
        let hello = self.client.database("admin").run_command(doc! { "hello": 1 }).await?;
        Ok(record::time(&hello, "localTime")?)
    }

    pub(crate) async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, Failed> {
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
                // The lease is taken, whether or not others are cleared away.
                if let Err(error) = self.clear_leases(now).await {
                    tracing::debug!(?error, "leases that ran out stay for now");
                }
                Ok(true)
            }
            // There is one, and it is not free.
            Err(error) if is_duplicate(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes some of the leases that ran out before this. There is one for each worker, and one for
    /// each ticket.
    async fn clear_leases(&self, now: DateTime) -> Result<(), Failed> {
        let find = self.leases.find(over(now)).projection(doc! { "_id": 1 });
        let find = find.sort(doc! { "until": 1 }).limit(CLEARED);
        let found: Vec<Document> = find.await?.try_collect().await?;
        let names: Vec<_> = found.iter().filter_map(|lease| lease.get("_id")).collect();
        if names.is_empty() {
            return Ok(());
        }
        let mut gone = over(now);
        gone.insert("_id", doc! { "$in": names });
        self.leases.delete_many(gone).await?;
        Ok(())
    }
}

/// The leases that have run out.
pub(crate) fn over(now: DateTime) -> Document {
    doc! { "until": { "$lte": now } }
}

fn database(client: &Client, options: &MongoOptions) -> Database {
    client.default_database().unwrap_or_else(|| client.database(&options.database))
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

/// The most leases that ran out which one call deletes: more than one call makes.
const CLEARED: i64 = 100;

#[cfg(all(test, feature = "server-tests"))]
mod tests {
    use super::*;
    use crate::MongoStore;

    #[tokio::test]
    async fn a_lease_that_is_taken_clears_some_that_ran_out() {
        let url = std::env::var("SESSION_KIT_MONGODB_URL")
            .expect("SESSION_KIT_MONGODB_URL names a server; `cargo xtask test` starts one");
        let database = format!("leases_{:x}", getrandom::u64().unwrap());
        let options = MongoOptions::default().with_database(database).with_push(false);
        let store = MongoStore::connect_with(&url, options).await.unwrap().calls.clone();
        let lease = |n| doc! { "_id": format!("ticket {n}"), "holder": "one", "until": DateTime::from_millis(n) };
        store.leases.insert_many((0..150).map(lease)).await.unwrap();
        for left in [51, 1, 1] {
            let ttl = Duration::from_secs(600);
            assert!(store.take_lease("cleanup", "one", ttl).await.unwrap());
            assert_eq!(store.leases.count_documents(doc! {}).await.unwrap(), left);
        }
    }
}

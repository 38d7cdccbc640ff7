//! Ages go by the server's clock, and the fleet has one key.

use session_conformance::sample::{self, PATIENCE, now, random, user};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{BlockChange, Outcome};
use session_core::{Actor, FleetKey, Store};
use session_store_sql::{MySqlOptions, MySqlStore};
use sqlx::mysql::MySqlPoolOptions;

use crate::clocks::{self, DAY};
use crate::{Database, server, session, sign_in};

/// A store whose server is a month ahead: the connections' clock stands still there.
async fn store_a_month_ahead(database: &Database) -> MySqlStore {
    let pool = MySqlPoolOptions::new()
        .acquire_timeout(PATIENCE)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let ahead = "SET SESSION timestamp = UNIX_TIMESTAMP() + 30 * 24 * 3600";
                sqlx::query(ahead).execute(connection).await.map(drop)
            })
        })
        .connect_with(server().database(&database.0))
        .await
        .unwrap();
    MySqlStore::with_pool(pool, MySqlOptions::default()).await.unwrap()
}

#[tokio::test]
async fn ages_go_by_the_servers_clock() {
    let database = Database::create().await;
    let (store, ahead) = (database.store().await, store_a_month_ahead(&database).await);
    clocks::ages_go_by_the_servers_clock(&store, &ahead).await;
}

#[tokio::test]
async fn a_block_ends_by_the_servers_clock() {
    let database = Database::create().await;
    let (store, ahead) = (database.store().await, store_a_month_ahead(&database).await);
    let (at, by) = (now(&store).await, Actor::Application);
    let block = Block { reason: None, until: Some(at.plus(DAY)), since: at, by: by.clone() };
    let scope = PolicyScope::User(user("alice"));
    store.set_block(&BlockChange { scope, block: Some(block), at, by }).await.unwrap();
    let session = session(&store, "alice").await;
    assert_eq!(sign_in(&store, &session, None).await, Outcome::Conflict);
    assert_eq!(sign_in(&ahead, &session, None).await, Outcome::Done);
}

/// Nodes that start at once propose keys of their own.
#[tokio::test(flavor = "multi_thread")]
async fn every_node_gets_the_same_key() {
    let database = Database::create().await;
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = database.store().await;
        starting.spawn(async move {
            let proposed = FleetKey::from_bytes(random());
            store.fleet_key(&proposed).await.unwrap()
        });
    }
    let keys = starting.join_all().await;
    let other = FleetKey::from_bytes(sample::random());
    assert_eq!(database.store().await.fleet_key(&other).await.unwrap(), keys[0]);
    assert!(keys.iter().all(|key| *key == keys[0] && *key != other));
}

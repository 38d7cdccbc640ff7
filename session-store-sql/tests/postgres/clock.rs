//! Ages go by the server's clock.

use session_conformance::sample::{self, PATIENCE, now, user};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{BlockChange, Change, Outcome};
use session_core::{Actor, Store};
use session_store_sql::{PostgresOptions, PostgresStore};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::clocks::{self, DAY};
use crate::{Schema, commit, pool, url};

/// A store whose server is a month ahead: its connections find functions of the test's in the place of
/// those that tell the time.
async fn store_a_month_ahead(Schema(schema): &Schema) -> PostgresStore {
    for function in ["clock_timestamp", "statement_timestamp", "transaction_timestamp", "now"] {
        let ahead = format!(
            "CREATE FUNCTION {schema}.{function}() RETURNS timestamptz LANGUAGE sql STABLE AS \
             'SELECT pg_catalog.clock_timestamp() + interval ''30 days'''"
        );
        sqlx::query(AssertSqlSafe(ahead)).execute(&pool(1).await).await.unwrap();
    }
    let ahead: PgConnectOptions = url().parse().unwrap();
    let ahead = ahead.options([("search_path", format!("{schema},pg_catalog"))]);
    let pool = PgPoolOptions::new().acquire_timeout(PATIENCE).connect_with(ahead).await.unwrap();
    let options = PostgresOptions::default().with_schema(schema.clone());
    PostgresStore::with_pool(pool, options).await.unwrap()
}

#[tokio::test]
async fn ages_go_by_the_servers_clock() {
    let schema = Schema::create().await;
    let (store, ahead) = (schema.store().await, store_a_month_ahead(&schema).await);
    let begun = now(&store).await;
    let clock = ahead.report().await.unwrap().clock;
    assert!(clock > begun.plus(DAY * 29) && clock < begun.plus(DAY * 31));
    clocks::ages_go_by_the_servers_clock(&store, &ahead).await;
}

#[tokio::test]
async fn a_lease_and_a_block_end_by_the_servers_clock() {
    let schema = Schema::create().await;
    let (store, ahead) = (schema.store().await, store_a_month_ahead(&schema).await);
    assert!(store.lease("cleanup", "one", DAY).await.unwrap());
    assert!(!store.lease("cleanup", "another", DAY).await.unwrap());
    assert!(ahead.lease("cleanup", "another", DAY).await.unwrap());

    let (at, by) = (now(&store).await, Actor::Application);
    let block = Block { reason: None, until: Some(at.plus(DAY)), since: at, by: by.clone() };
    let scope = PolicyScope::User(user("alice"));
    store.set_block(&BlockChange { scope, block: Some(block), at, by }).await.unwrap();
    let session = sample::session(&store, &user("alice"), at);
    let begin = || vec![Change::Insert(Box::new(session.clone()))];
    assert_eq!(commit(&store, &session.owner, begin()).await, Outcome::Conflict);
    assert_eq!(commit(&ahead, &session.owner, begin()).await, Outcome::Done);
}

//! Ages go by the server's clock.

use std::time::Duration;

use session_conformance::sample::{self, PATIENCE, insert, now, revoke, user};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{BlockChange, Change, Entries, Forget, Outcome, Sweep};
use session_core::{Actor, Session, Store};
use session_store_sql::{PostgresOptions, PostgresStore};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

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

async fn session(store: &dyn Store, name: &str) -> Session {
    sample::session(store, &user(name), now(store).await)
}

#[tokio::test]
async fn ages_go_by_the_servers_clock() {
    let schema = Schema::create().await;
    let (store, ahead) = (schema.store().await, store_a_month_ahead(&schema).await);
    let begun = now(&store).await;
    for cursor in [None, Some(store.log_since(None, Entries::All, 1).await.unwrap().next)] {
        let read = ahead.log_since(cursor.as_ref(), Entries::All, 1).await.unwrap();
        assert!(read.clock > begun.plus(DAY * 29) && read.clock < begun.plus(DAY * 31));
    }
    let clock = ahead.report().await.unwrap().clock;
    assert!(clock > begun.plus(DAY * 29) && clock < begun.plus(DAY * 31));
    let (gone, mut over) = (session(&store, "alice").await, session(&store, "alice").await);
    over.deadline = begun.plus(DAY);
    for session in [&gone, &over] {
        insert(&store, session).await;
    }
    assert_eq!(revoke(&store, gone.id).await, 1);

    let sweep = Sweep { overdue: DAY, after: None, at: begun };
    assert_eq!(store.sweep(&sweep, 10).await.unwrap().ended, []);
    assert_eq!(store.trim_log(DAY, 10).await.unwrap(), 0);
    assert_eq!(store.forget(&Forget::OlderThan(DAY), 10).await.unwrap(), 0);
    assert_eq!(ahead.sweep(&sweep, 10).await.unwrap().ended[0].id, over.id);
    // The newest entry stays.
    assert_eq!(ahead.trim_log(DAY, 10).await.unwrap(), 3);
    assert_eq!(ahead.forget(&Forget::OlderThan(DAY), 10).await.unwrap(), 2);
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
    let session = session(&store, "alice").await;
    let begin = || vec![Change::Insert(Box::new(session.clone()))];
    assert_eq!(commit(&store, &session.owner, begin()).await, Outcome::Conflict);
    assert_eq!(commit(&ahead, &session.owner, begin()).await, Outcome::Done);
}

const DAY: Duration = Duration::from_secs(24 * 3600);

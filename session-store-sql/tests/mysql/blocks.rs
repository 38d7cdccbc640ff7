//! A block beside a change that is under way.

use std::sync::Arc;

use session_conformance::sample::{self, PATIENCE, end_all, insert, now, user};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{BlockChange, Outcome, Selection};
use session_core::{Actor, Store};
use session_store_sql::MySqlStore;
use sqlx::Executor;
use tokio::time::Instant;

use crate::{Database, pool, server, session, sign_in};

async fn block(store: &MySqlStore, scope: PolicyScope) {
    let (at, by) = (now(store).await, Actor::Application);
    let block = Some(Block { reason: None, until: None, since: at, by: by.clone() });
    store.set_block(&BlockChange { scope, block, at, by }).await.unwrap();
}

/// Waits until a call of the store waits for another program's lock on a table.
async fn a_call_waits(database: &Database) {
    let admin = pool(server(), 1).await;
    let waiting = "SELECT COUNT(*) FROM information_schema.processlist \
        WHERE db = ? AND state = 'Waiting for table metadata lock'";
    let begun = Instant::now();
    loop {
        let count: i64 =
            sqlx::query_scalar(waiting).bind(&database.0).fetch_one(&admin).await.unwrap();
        if count > 0 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing waits");
    }
}

/// The commit has found no block, and waits before its end. Others sign in beside the block.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_began_before_a_block_does_not_outlive_it() {
    let database = Database::create().await;
    let store = Arc::new(database.store().await);
    let (first, second) = (session(&store, "alice").await, session(&store, "alice").await);
    insert(store.as_ref(), &first).await;
    let mut other = database.connection().await;
    other.execute("LOCK TABLES session_kit_history READ").await.unwrap();
    let signing_in = tokio::spawn({
        let (store, second, first) = (Arc::clone(&store), second.clone(), first.id);
        async move { sign_in(&store, &second, Some(first)).await }
    });
    a_call_waits(&database).await;
    let scope = PolicyScope::User(user("alice"));
    let blocking = tokio::spawn({
        let (store, scope) = (Arc::clone(&store), scope.clone());
        async move { block(&store, scope).await }
    });
    let begun = Instant::now();
    while store.block(&scope).await.unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "no block is set");
    }
    for n in 0..10 {
        let session = session(&store, &format!("user {n}")).await;
        assert_eq!(sign_in(&store, &session, None).await, Outcome::Done);
    }
    assert!(!blocking.is_finished() && !signing_in.is_finished());
    other.execute("UNLOCK TABLES").await.unwrap();
    assert_eq!(signing_in.await.unwrap(), Outcome::Done);
    blocking.await.unwrap();
    let end = sample::end(store.as_ref(), Selection::user(user("alice"))).await;
    let ended = end_all(store.as_ref(), end, 1).await;
    assert_eq!(ended.iter().map(|ended| ended.id).collect::<Vec<_>>(), [second.id]);
    assert!(store.load(second.id).await.unwrap().is_none());
}

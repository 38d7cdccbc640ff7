//! Blocks beside sign-ins that are under way.

use std::sync::Arc;
use std::time::Instant;

use session_conformance::sample::{self, PATIENCE, user_in};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::record::{json_object, session_fields};
use session_core::store::{BlockChange, Change, EndMany, Outcome, Selection, TenantFilter};
use session_core::{Actor, EndCause, Session, Store, StoreErrorKind, UserKey};
use session_store_sql::PostgresStore;
use sqlx::postgres::{PgPool, Postgres};
use sqlx::{AssertSqlSafe, Transaction};

use crate::{Schema, commit, now, pool, sign_in_as};

fn owner() -> UserKey {
    user_in("north", "alice")
}

fn block(scope: &PolicyScope) -> BlockChange {
    let (at, by) = (now(), Actor::Application);
    let block = Block { reason: None, until: None, since: at, by: by.clone() };
    BlockChange { scope: scope.clone(), block: Some(block), at, by }
}

/// The first session of its owner, in a transaction that stays open: everything is done but the
/// commit.
async fn open_sign_in(
    Schema(schema): &Schema,
    pool: &PgPool,
    session: &Session,
) -> Transaction<'static, Postgres> {
    let mut insert = json_object(session_fields(session));
    insert.insert("do".to_owned(), "insert".into());
    insert.insert("kind".to_owned(), "created".into());
    let call = format!(
        "SELECT {schema}.session_kit_commit($1, $2, 0, $3::jsonb, 1, 'system', NULL, true)"
    );
    let mut open = pool.begin().await.unwrap();
    let done: bool = sqlx::query_scalar(AssertSqlSafe(call))
        .bind(session.owner.tenant_text())
        .bind(session.owner.user.as_str())
        .bind(serde_json::json!([insert]).to_string())
        .fetch_one(&mut *open)
        .await
        .unwrap();
    assert!(done);
    open
}

/// A block in a transaction that stays open.
async fn open_block(
    Schema(schema): &Schema,
    pool: &PgPool,
    scope: &PolicyScope,
) -> Transaction<'static, Postgres> {
    let call = format!(
        "SELECT {schema}.session_kit_set_block($1, $2, $3, NULL, 'block_set', 1, 'system')"
    );
    let mut open = pool.begin().await.unwrap();
    let (tenant, user) = scope.key();
    sqlx::query(AssertSqlSafe(call))
        .bind(tenant)
        .bind(user)
        .bind(block(scope).block.unwrap().to_stored())
        .execute(&mut *open)
        .await
        .unwrap();
    open
}

/// Until a call of this function waits for the lock of a place.
async fn waits(Schema(schema): &Schema, pool: &PgPool, function: &str) {
    let begun = Instant::now();
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity \
        WHERE wait_event_type = 'Lock' AND wait_event = 'advisory' AND query LIKE $1)";
    let call = format!("%{schema}.session_kit_{function}(%");
    loop {
        let waits = sqlx::query_scalar(waiting).bind(&call).fetch_one(pool).await.unwrap();
        if waits {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{function} does not wait");
        tokio::task::yield_now().await;
    }
}

async fn end_within(store: &PostgresStore, scope: &PolicyScope) -> usize {
    let selection = match scope {
        PolicyScope::User(owner) => Selection::user(owner.clone()),
        PolicyScope::Tenant(tenant) => Selection::within(TenantFilter::Is(Some(tenant.clone()))),
        PolicyScope::Deployment => Selection::within(TenantFilter::Any),
    };
    let (cause, at, by) = (EndCause::Blocked, now(), Actor::Application);
    let end = EndMany { selection, after: None, cause, at, by, from: None };
    sample::end_all(store, end, 10).await.len()
}

/// The sign-in has looked for blocks and found none; its commit comes after the call that sets one.
#[tokio::test]
async fn a_sign_in_that_began_before_a_block_is_ended_after_it() {
    for scope in PolicyScope::of(&owner()) {
        let (schema, pool) = (Schema::create().await, pool(2).await);
        let store = Arc::new(schema.store().await);
        let session = sample::session(&*store, &owner(), now());
        let sign_in = open_sign_in(&schema, &pool, &session).await;
        let change = block(&scope);
        let blocks = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.set_block(&change).await }
        });
        waits(&schema, &pool, "set_block").await;
        assert_eq!(end_within(&store, &scope).await, 0, "{scope:?}");
        assert!(!blocks.is_finished(), "the session cannot be found yet");
        sign_in.commit().await.unwrap();
        blocks.await.unwrap().unwrap();
        assert_eq!(end_within(&store, &scope).await, 1, "{scope:?}");
        assert_eq!(store.load(session.id).await.unwrap(), None);
        let another = sample::session(&*store, &owner(), now());
        let outcome = commit(&*store, &owner(), vec![Change::Insert(Box::new(another))]).await;
        assert_eq!(outcome, Outcome::Conflict);
    }
}

/// What the sign-in read before it waited is of no use.
#[tokio::test]
async fn a_sign_in_that_waits_for_a_block_sees_it() {
    for scope in PolicyScope::of(&owner()) {
        let (schema, pool) = (Schema::create().await, pool(2).await);
        let store = Arc::new(schema.store().await);
        let blocks = open_block(&schema, &pool, &scope).await;
        let sign_in = tokio::spawn({
            let store = Arc::clone(&store);
            async move {
                let session = sample::session(&*store, &owner(), now());
                commit(&*store, &owner(), vec![Change::Insert(Box::new(session))]).await
            }
        });
        waits(&schema, &pool, "commit").await;
        blocks.commit().await.unwrap();
        assert_eq!(sign_in.await.unwrap(), Outcome::Conflict, "{scope:?}");
        assert!(store.user(&owner()).await.unwrap().sessions.is_empty());
    }
}

/// Neither those of one tenant nor, where one is blocked, those of another; nor those of another
/// store.
#[tokio::test]
async fn sign_ins_do_not_wait_for_one_another() {
    let (schema, other, pool) = (Schema::create().await, Schema::create().await, pool(3).await);
    let store = schema.store().await;
    let session = sample::session(&store, &owner(), now());
    let sign_in = open_sign_in(&schema, &pool, &session).await;
    sign_in_as(&store, &user_in("north", "bob")).await;
    sign_in.commit().await.unwrap();
    let north = open_block(&schema, &pool, &PolicyScope::Tenant("north".parse().unwrap())).await;
    sign_in_as(&store, &user_in("south", "alice")).await;
    let store = other.store().await;
    let all = open_block(&schema, &pool, &PolicyScope::Deployment).await;
    sign_in_as(&store, &owner()).await;
    north.rollback().await.unwrap();
    all.rollback().await.unwrap();
}

/// A lock that someone else holds for longer than a caller waits must not keep the connection.
#[tokio::test]
async fn a_change_does_not_wait_for_a_lock_for_ever() {
    let (schema, pool) = (Schema::create().await, pool(2).await);
    let store = schema.store().await;
    let session = sign_in_as(&store, &owner()).await;
    let mut foreign = pool.begin().await.unwrap();
    let lock = format!("SELECT FROM {}.session_kit_users FOR UPDATE", schema.0);
    sqlx::query(AssertSqlSafe(lock)).execute(&mut *foreign).await.unwrap();
    let selection = Selection::session(session.id, TenantFilter::Any);
    let (cause, at, by) = (EndCause::Revoked, now(), Actor::Application);
    let end = EndMany { selection, after: None, cause, at, by, from: None };
    let error = store.end_many(&end, 1).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    foreign.rollback().await.unwrap();
    assert_eq!(store.end_many(&end, 1).await.unwrap().ended.len(), 1);
}

//! Locks that others hold, and connections that are cut.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use session_conformance::sample::{PATIENCE, insert, options, read_log, revoke, user};
use session_core::store::{Change, Commit, Entries, Outcome, Version};
use session_core::{Actor, Store, StoreErrorKind};
use session_engine::{Access, Engine, SignIn};
use session_store_sql::{MySqlOptions, MySqlStore};
use sqlx::Connection;
use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlPoolOptions};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Database, pool, server, session};

/// A store that waits a second for a lock at a time, and the connection of another program.
async fn store_beside_another() -> (Database, Arc<MySqlStore>, MySqlConnection) {
    let database = Database::create().await;
    let options = server().database(&database.0);
    let short = MySqlPoolOptions::new()
        .max_connections(4)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let short = "SET SESSION innodb_lock_wait_timeout = 1";
                sqlx::query(short).execute(connection).await.map(drop)
            })
        })
        .connect_with(options)
        .await
        .unwrap();
    let store = Arc::new(MySqlStore::with_pool(short, MySqlOptions::default()).await.unwrap());
    let other = database.connection().await;
    (database, store, other)
}

/// Another program holds a row: ours waits in vain, and tries again until it is through.
#[tokio::test(flavor = "multi_thread")]
async fn locks_of_others_are_waited_for() {
    let (database, store, mut other) = store_beside_another().await;
    let session = session(&store, "alice").await;
    insert(store.as_ref(), &session).await;
    let admin = pool(server(), 1).await;
    let mut held = other.begin().await.unwrap();
    let lock = "SELECT version FROM session_kit_users WHERE user_id = 'alice' FOR UPDATE";
    sqlx::query(lock).fetch_one(&mut *held).await.unwrap();
    // Longer than one wait for a lock, shorter than all tries together.
    let ending = tokio::spawn({
        let (store, id) = (Arc::clone(&store), session.id);
        async move { revoke(store.as_ref(), id).await }
    });
    // Both servers number statements, each in a place of its own. (MariaDB's list of waiting
    // transactions is never fresh for who asks often.)
    let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&admin).await.unwrap();
    let trying = if version.contains("MariaDB") {
        "SELECT CAST(query_id AS SIGNED) FROM information_schema.processlist \
            WHERE db = ? AND info LIKE '%session_kit_users%'"
    } else {
        "SELECT CAST(event_id AS SIGNED) FROM performance_schema.events_statements_current \
            WHERE current_schema = ? AND event_name = 'statement/sp/stmt' \
            AND sql_text LIKE '%session_kit_users%'"
    };
    // One that has waited in vain, then another: the first wait is not the end of it.
    let mut waited = HashSet::new();
    let begun = Instant::now();
    while waited.len() < 2 {
        assert!(begun.elapsed() < PATIENCE, "{waited:?}");
        let waiting: Vec<i64> =
            sqlx::query_scalar(trying).bind(&database.0).fetch_all(&admin).await.unwrap();
        waited.extend(waiting);
    }
    held.rollback().await.unwrap();
    assert_eq!(ending.await.unwrap(), 1);
}

/// A lock that is never let go is an outage, in bounded time.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_never_let_go_is_an_outage() {
    let (_database, store, mut other) = store_beside_another().await;
    let mut held = other.begin().await.unwrap();
    let lock = "SELECT gate FROM session_kit_gates FOR UPDATE";
    sqlx::query(lock).fetch_all(&mut *held).await.unwrap();
    let begun = Instant::now();
    let blocked = session(&store, "bob").await;
    let commit = Commit {
        owner: blocked.owner.clone(),
        expected: store.user(&blocked.owner).await.unwrap().version,
        changes: vec![Change::Insert(Box::new(blocked.clone()))],
        at: blocked.signed_in,
        by: Actor::Application,
        from: None,
    };
    let error = store.commit(&commit).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    held.rollback().await.unwrap();
    assert!(store.load(blocked.id).await.unwrap().is_none(), "nothing is half done");
    insert(store.as_ref(), &blocked).await;
}

/// Waits until so many statements about a table wait for a lock, or are at work.
async fn at_work(database: &Database, table: &str, count: i64) {
    let admin = pool(server(), 1).await;
    let working =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = ? AND info LIKE ?";
    let begun = Instant::now();
    loop {
        let working = sqlx::query_scalar::<_, i64>(working).bind(&database.0);
        let working =
            working.bind(format!("%session_kit_{table}%")).fetch_one(&admin).await.unwrap();
        if working == count {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{working} statements about {table}");
    }
}

/// Another program holds the oldest entry of the log, so the trim stands still in the midst of its work,
/// as one that has much to delete does: nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_trim() {
    let database = Database::create().await;
    let store = Arc::new(database.store().await);
    let mut mine = Vec::new();
    for _ in 0..4 {
        mine.push(session(&store, "alice").await);
        insert(store.as_ref(), mine.last().unwrap()).await;
    }
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    // Settled, so that the trim has something to do.
    assert_eq!(store.trim_log(Duration::ZERO, 1).await.unwrap(), 1);
    let mut other = database.connection().await;
    let mut held = other.begin().await.unwrap();
    let lock = "SELECT id FROM session_kit_log ORDER BY id LIMIT 1 FOR UPDATE";
    sqlx::query(lock).fetch_one(&mut *held).await.unwrap();
    let trimming = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.trim_log(Duration::ZERO, 10).await }
    });
    at_work(&database, "log", 1).await;
    let others = async {
        insert(store.as_ref(), &session(&store, "bob").await).await;
        insert(store.as_ref(), &session(&store, "alice").await).await;
        assert_eq!(revoke(store.as_ref(), mine[0].id).await, 1);
        assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await.len(), 3);
    };
    tokio::time::timeout(PATIENCE, others).await.expect("they wait for the trim");
    assert!(!trimming.is_finished());
    held.rollback().await.unwrap();
    assert_eq!(trimming.await.unwrap().unwrap(), 2, "all that was there but the newest");
}

/// Both stand between the row of their user and that of their session, which no one has before them.
/// Locks on the gaps there would be in the way of each other: the server would roll one back, and it
/// would be made a second time.
#[tokio::test(flavor = "multi_thread")]
async fn new_users_at_once_are_no_deadlock() {
    let database = Database::create().await;
    let mut other = database.connection().await;
    let mut stores = Vec::new();
    for _ in 0..4 {
        let one = pool(server().database(&database.0), 1).await;
        let store = MySqlStore::with_pool(one.clone(), MySqlOptions::default()).await.unwrap();
        stores.push((one, store));
    }
    for round in 0..5 {
        let mut held = other.begin().await.unwrap();
        let lock = "SELECT gate FROM session_kit_gates FOR UPDATE";
        sqlx::query(lock).fetch_all(&mut *held).await.unwrap();
        let mut signing_in = JoinSet::new();
        for (n, (one, store)) in stores.drain(..).enumerate() {
            let name = format!("user {round} {n}");
            let (mine, before) = (session(&store, &name).await, calls(&one).await);
            signing_in.spawn(async move {
                let changes = vec![Change::Insert(Box::new(mine.clone()))];
                let (expected, at, by) = (Version::NONE, mine.signed_in, Actor::Application);
                let commit = Commit { owner: mine.owner, expected, changes, at, by, from: None };
                assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
                assert_eq!(calls(&one).await, before + 1, "it is made once");
                (one, store)
            });
        }
        at_work(&database, "gates", 4).await;
        held.rollback().await.unwrap();
        stores = signing_in.join_all().await;
    }
}

/// Calls of procedures that a store's only connection has made.
async fn calls(connection: &MySqlPool) -> u64 {
    let calls = "SHOW SESSION STATUS LIKE 'Com_call_procedure'";
    let (_, calls): (String, String) = sqlx::query_as(calls).fetch_one(connection).await.unwrap();
    calls.parse().unwrap()
}

/// The server is gone without a word: a typed error at most, then everything goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_are_opened_again() {
    let database = Database::create().await;
    let node = Engine::start(database.store().await, options()).await.unwrap();
    let other = Engine::start(database.store().await, options()).await.unwrap();
    let admin = pool(server(), 1).await;
    let owner = user("alice");
    for _ in 0..3 {
        let signed_in = other.sessions().sign_in(SignIn::new(owner.clone())).await.unwrap();
        let token = signed_in.token.expose();
        let valid = node.sessions().validate(token.as_bytes(), Access::default()).await.unwrap();
        assert!(valid.session().is_some());
        let ended = node.sessions().session_ended(signed_in.session.id());
        cut(&admin, &database).await;
        other.sessions().revoke_user(owner.clone(), Actor::Application).await.unwrap();
        let told = tokio::time::timeout(PATIENCE, ended).await;
        assert!(told.is_ok(), "the log is heard again");
    }
    node.shutdown().await;
    other.shutdown().await;
}

/// Cuts every connection to a database, and waits until they are gone.
pub(crate) async fn cut(admin: &MySqlPool, database: &Database) {
    let open = async || -> HashSet<i64> {
        let open = "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = ?";
        let open = sqlx::query_scalar(open).bind(&database.0).fetch_all(admin);
        open.await.unwrap().into_iter().collect()
    };
    let (cut, begun) = (open().await, Instant::now());
    for id in &cut {
        // Some are gone already.
        let _ = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("KILL {id}"))).execute(admin).await;
    }
    while !open().await.is_disjoint(&cut) {
        assert!(begun.elapsed() < PATIENCE, "connections that were cut are there");
    }
}

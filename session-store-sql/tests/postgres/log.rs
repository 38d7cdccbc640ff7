//! The log: what a reader is told, however late it was committed, and after the server came back.

use std::time::Duration;

use session_conformance::sample::{self, read_log, trim_log};
use session_core::store::{Change, Commit, Cursor, Entries};
use session_core::{Actor, SessionId, Store, StoreErrorKind};
use session_store_sql::{PostgresOptions, PostgresStore};
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};

use crate::{Schema, pool, sign_in, url};

/// Appends an entry in a transaction that stays open.
async fn open_entry(schema: &str, pool: &PgPool) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut open = pool.begin().await.unwrap();
    // A number is drawn after this.
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *open).await.unwrap();
    append(schema, &mut open).await;
    open
}

async fn append(schema: &str, open: &mut PgConnection) {
    let append = format!(
        "INSERT INTO {schema}.session_kit_log (kind, at, actor, tenant, user_id, session_id) \
         VALUES ('revoked', 1, 'system', '', 'late', '\\x{}')",
        "07".repeat(16)
    );
    sqlx::query(sqlx::AssertSqlSafe(append)).execute(open).await.unwrap();
}

/// Whom the log tells of from here on.
async fn read(store: &PostgresStore, cursor: &mut Cursor) -> Vec<Option<SessionId>> {
    read_log(store, cursor, 3).await.iter().map(|event| event.session).collect()
}

/// Numbers are drawn before the commit: a reader that remembers the highest number never sees
/// the entry of a transaction that commits late. Ours does, once, however it comes.
#[tokio::test]
async fn an_entry_that_commits_late_is_read_once() {
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(4).await);
    let mut cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    let late = open_entry(&schema.0, &pool).await;
    let session = sign_in(&store).await;
    let early = read(&store, &mut cursor).await;
    assert_eq!(early, [Some(session.id)]);
    let highest: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "SELECT max(seq) FROM {}.session_kit_log",
        schema.0
    )))
    .fetch_one(&pool)
    .await
    .unwrap();
    late.commit().await.unwrap();
    let skipped: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "SELECT count(*) FROM {}.session_kit_log WHERE seq > {highest}",
        schema.0
    )))
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(skipped, 0, "a reader by number misses it");
    let late = read(&store, &mut cursor).await;
    assert_eq!(late, [Some(SessionId::from_bytes([7; 16]))]);
    assert_eq!(read(&store, &mut cursor).await, []);
}

/// A failover to a server that has the entry of the highest number, and not one that was committed
/// after it: the two were read one after the other, or in one page.
#[tokio::test]
async fn a_late_entry_that_is_lost_is_a_gap() {
    for pages in [2, 1] {
        let schema = Schema::create().await;
        let (store, pool) = (schema.store().await, pool(4).await);
        let mut cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
        let late = open_entry(&schema.0, &pool).await;
        sign_in(&store).await;
        let mut told = Vec::new();
        if pages == 2 {
            told.extend(read(&store, &mut cursor).await);
        }
        late.commit().await.unwrap();
        told.extend(read(&store, &mut cursor).await);
        assert_eq!(told.len(), 2);
        assert_eq!(read(&store, &mut cursor).await, []);
        schema.execute("DELETE FROM session_kit_log WHERE user_id = 'late'").await;
        assert!(store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().gap, "{pages}");
    }
}

/// A late entry that was trimmed is not lost.
#[tokio::test]
async fn a_late_entry_that_is_trimmed_is_no_gap() {
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(4).await);
    let mut cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    let late = open_entry(&schema.0, &pool).await;
    sign_in(&store).await;
    late.commit().await.unwrap();
    assert_eq!(read(&store, &mut cursor).await.len(), 2);
    trim_log(&store, 1).await;
    assert_eq!(read(&store, &mut cursor).await, []);
}

/// A foreign transaction holds the oldest snapshot back for as long as it likes.
#[tokio::test]
async fn an_unrelated_long_transaction_delays_no_reader() {
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(4).await);
    let mut cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    let mut foreign = pool.begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *foreign).await.unwrap();
    for _ in 0..5 {
        let session = sign_in(&store).await;
        let read = read(&store, &mut cursor).await;
        assert_eq!(read, [Some(session.id)]);
    }
    foreign.rollback().await.unwrap();
    assert_eq!(read(&store, &mut cursor).await, []);
}

/// Late and early commits beside a reader that goes page by page.
#[tokio::test]
async fn late_entries_come_between_the_pages_of_a_long_read() {
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(4).await);
    let mut cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    let late = open_entry(&schema.0, &pool).await;
    for _ in 0..5 {
        sign_in(&store).await;
    }
    let page = store.log_since(Some(&cursor), Entries::All, 3).await.unwrap();
    assert!(page.more && page.events.len() == 3);
    cursor = page.next;
    late.commit().await.unwrap();
    sign_in(&store).await;
    let rest = read(&store, &mut cursor).await;
    assert_eq!(rest.len(), 2 + 1 + 1, "{rest:?}");
    assert_eq!(read(&store, &mut cursor).await, []);
}

/// The cursor of a reader that has seen so many more transactions.
fn ahead(cursor: &Cursor, by: u64) -> Cursor {
    let mut seen: serde_json::Value = serde_json::from_slice(&cursor.0).unwrap();
    let snapshot = seen["all_of"]["text"].as_str().unwrap();
    let ends = snapshot.split(':').filter_map(|end| end.parse::<u64>().ok());
    let ends: Vec<_> = ends.map(|end| (end + by).to_string()).collect();
    seen["all_of"]["text"] = (ends[..2].join(":") + ":").into();
    let next = seen["all_of"]["next"].as_u64().unwrap();
    seen["all_of"]["next"] = (next + by).into();
    Cursor(serde_json::to_vec(&seen).unwrap())
}

/// A server that dies forgets transactions that failed just before, and gives their numbers to
/// others. A reader that had seen them fail has not seen what the others do.
#[tokio::test]
async fn a_number_that_a_server_gives_again_hides_nothing() {
    let schema = Schema::create().await;
    let store = schema.store().await;
    sign_in(&store).await;
    let mut cursor = ahead(&store.log_since(None, Entries::All, 1).await.unwrap().next, 5);
    let mut expected = Vec::new();
    for _ in 0..10 {
        expected.push(Some(sign_in(&store).await.id));
    }
    let told = read(&store, &mut cursor).await;
    assert_eq!(told, expected);
    assert_eq!(read(&store, &mut cursor).await, []);
}

/// What such a reader has missed may have been trimmed by the time it reads.
#[tokio::test]
async fn trimmed_entries_of_a_number_given_again_are_a_gap() {
    let schema = Schema::create().await;
    let store = schema.store().await;
    sign_in(&store).await;
    let cursor = ahead(&store.log_since(None, Entries::All, 1).await.unwrap().next, 5);
    for _ in 0..10 {
        sign_in(&store).await;
    }
    // All of them are in what it has seen.
    trim_log(&store, 4).await;
    assert!(store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().gap);
}

/// The transaction that began first drew the higher number. What a trim leaves has to be what a
/// node that starts afterwards takes for the end of the log.
#[tokio::test]
async fn a_log_trimmed_between_overlapping_transactions_has_no_gap() {
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(4).await);
    let mut first = pool.begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *first).await.unwrap();
    open_entry(&schema.0, &pool).await.commit().await.unwrap();
    append(&schema.0, &mut first).await;
    first.commit().await.unwrap();
    trim_log(&store, 1).await;
    let mut cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    for _ in 0..3 {
        assert_eq!(read(&store, &mut cursor).await, []);
    }
    let session = sign_in(&store).await;
    assert_eq!(read(&store, &mut cursor).await, [Some(session.id)]);
}

/// As after a restore without the sequence. A conflict would be tried again for ever.
#[tokio::test]
async fn a_number_that_is_taken_is_an_error_and_no_conflict() {
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(1).await);
    let session = sign_in(&store).await;
    let back = format!("SELECT setval('{}.session_kit_log_numbers', 1, false)", schema.0);
    sqlx::query(sqlx::AssertSqlSafe(back)).execute(&pool).await.unwrap();
    let new = sample::session(&store, &session.owner, session.signed_in);
    let version = store.user(&session.owner).await.unwrap().version;
    let changes = vec![Change::Insert(Box::new(new))];
    let commit = Commit {
        owner: session.owner.clone(),
        expected: version,
        changes,
        at: session.signed_in,
        by: Actor::Application,
        from: None,
    };
    let error = store.commit(&commit).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Internal, "{error}");
}

/// An entry that commits late has a lower number than some that are gone already.
#[tokio::test]
async fn a_late_entry_is_trimmed_in_its_turn() {
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(4).await);
    sign_in(&store).await;
    let late = open_entry(&schema.0, &pool).await;
    sign_in(&store).await;
    trim_log(&store, 1).await;
    assert_eq!(store.trim_log(Duration::ZERO, 10).await.unwrap(), 0, "the newest entry stays");
    let mut cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    late.commit().await.unwrap();
    assert_eq!(read(&store, &mut cursor).await, [Some(SessionId::from_bytes([7; 16]))]);
    trim_log(&store, 1).await;
    let mut cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    assert_eq!(read(&store, &mut cursor).await, []);
}

/// What the reader does not want is passed over, page by page.
#[tokio::test]
async fn a_reader_of_invalidations_passes_over_sign_ins() {
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(4).await);
    let mut cursor = store.log_since(None, Entries::Invalidations, 1).await.unwrap().next;
    for _ in 0..5 {
        sign_in(&store).await;
    }
    open_entry(&schema.0, &pool).await.commit().await.unwrap();
    let mut told = Vec::new();
    for page in 1.. {
        let read = store.log_since(Some(&cursor), Entries::Invalidations, 2).await.unwrap();
        assert!(!read.gap && page <= 4, "{read:?}");
        told.extend(read.events);
        cursor = read.next;
        if !read.more {
            break;
        }
    }
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].session, Some(SessionId::from_bytes([7; 16])));
    assert_eq!(read(&store, &mut cursor).await, []);
}

/// A dump has the numbers of the transactions of the server it is from. One that is younger has not
/// come so far, and its own are lower.
#[tokio::test]
async fn a_dump_restored_on_a_younger_server_goes_on() {
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(1).await);
    sign_in(&store).await;
    let before = ahead(&store.log_since(None, Entries::All, 1).await.unwrap().next, FAR);
    let others = before.clone();
    sign_in(&store).await;
    let restored = format!(
        "UPDATE {0}.session_kit_log SET xid = (xid::text::bigint + {FAR})::text::xid8; \
         UPDATE {0}.session_kit_meta SET trimmed_xid = '{FAR}';",
        schema.0
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(restored)).execute(&pool).await.unwrap();
    let page = store.log_since(Some(&before), Entries::All, 10).await.unwrap();
    assert!(page.gap, "{page:?}");
    let mut cursor = page.next;
    assert_eq!(read(&store, &mut cursor).await, []);
    for _ in 0..3 {
        let session = sign_in(&store).await;
        let told = read(&store, &mut cursor).await;
        assert_eq!(told, [Some(session.id)]);
        assert_eq!(read(&store, &mut cursor).await, []);
    }
    assert!(
        store.log_since(Some(&others), Entries::All, 10).await.unwrap().gap,
        "every node is told"
    );
    trim_log(&store, 4).await;
    // If a foreign transaction was open when it last read, that is a gap, too.
    let mut cursor = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().next;
    let session = sign_in(&store).await;
    let told = read(&store, &mut cursor).await;
    assert_eq!(told, [Some(session.id)]);
}

/// However long the restored log is, it is not rewritten: readers pass over it, and it is trimmed as it is.
#[tokio::test]
async fn a_long_log_of_another_server_is_left_as_it_is() {
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(1).await);
    let restored = format!(
        "INSERT INTO {0}.session_kit_log (xid, kind, at, actor, tenant) \
            SELECT (pg_current_xact_id()::text::bigint + {FAR} + n)::text::xid8, 'policy_changed', n, \
            'system', '' FROM generate_series(1, 10000) AS n; \
         ANALYZE {0}.session_kit_log;",
        schema.0
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(restored)).execute(&pool).await.unwrap();
    let rewritten = format!(
        "SELECT count(*) FROM {}.session_kit_log WHERE xid <= pg_current_xact_id()",
        schema.0
    );
    let rewritten = async || -> i64 {
        let rewritten = sqlx::query_scalar(sqlx::AssertSqlSafe(rewritten.clone()));
        rewritten.fetch_one(&pool).await.unwrap()
    };
    let mut cursor = store.log_since(None, Entries::All, 10).await.unwrap().next;
    assert_eq!(rewritten().await, 0, "in one call");
    // Another node that starts finds the same log, and so does this one.
    let other = store.log_since(None, Entries::All, 10).await.unwrap();
    let session = sign_in(&store).await;
    assert_eq!(read(&store, &mut cursor).await, [Some(session.id)]);
    assert_eq!(read(&store, &mut other.next.clone()).await, [Some(session.id)]);
    trim_log(&store, 10_000).await;
    assert_eq!(rewritten().await, 1);
    assert_eq!(read(&store, &mut cursor).await, []);
}

/// Revocations are heard while every connection of the pool is in use, also after the server has
/// closed the one on which they are.
#[tokio::test]
async fn the_log_is_read_besides_the_pool() {
    let schema = Schema::create().await;
    let named = "SET application_name = 'as the pool does'";
    let busy = PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(5));
    let busy = busy.after_connect(move |connection, _| {
        Box::pin(async move { sqlx::query(named).execute(connection).await.map(drop) })
    });
    let busy = busy.connect(&url()).await.unwrap();
    let options = PostgresOptions::default().with_schema(schema.0.clone()).with_push(false);
    let store = PostgresStore::with_pool(busy.clone(), options).await.unwrap();
    let other = schema.store().await;
    let mut cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    let held = (busy.acquire().await.unwrap(), busy.acquire().await.unwrap());
    assert!(busy.try_acquire().is_none());
    let session = sign_in(&other).await;
    assert_eq!(read(&store, &mut cursor).await, [Some(session.id)]);
    let cut = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity \
        WHERE pid <> pg_backend_pid() AND query LIKE $1 AND query LIKE '%pg_current_snapshot%' \
        AND application_name = 'as the pool does'";
    for _ in 0..2 {
        let cut = sqlx::query_scalar(cut).bind(format!("%{}%", schema.0));
        let cut: Vec<bool> = cut.fetch_all(&pool(1).await).await.unwrap();
        assert_eq!(cut, [true]);
        let session = sign_in(&other).await;
        assert_eq!(read(&store, &mut cursor).await, [Some(session.id)]);
    }
    drop(held);
}

/// Transactions, more than this server has had.
const FAR: u64 = 1 << 40;

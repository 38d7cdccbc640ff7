//! What is SQLite's own: its file, its schema, its damage.
#![cfg(feature = "sqlite")]

mod leases;
mod restored;
mod trouble;

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::Poll;
use std::time::Duration;

use session_conformance::sample::{self, PATIENCE};
use session_core::store::{
    Change, Commit, EndMany, Entries, Forget, HistoryPage, HistoryQuery, Needs, Outcome, Page,
    PageQuery, Selection, Sweep, TenantFilter,
};
use session_core::{
    Actor, EndCause, EventKind, FleetKey, Session, SessionId, Store, StoreErrorKind, Timestamp,
    Token, UserId, UserKey,
};
use session_store_sql::{Durability, SqliteOptions, SqliteStore};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

fn owner() -> UserKey {
    UserKey::new(UserId::new("alice").unwrap())
}

fn session(n: u8) -> Session {
    let at = Timestamp::from_micros(1_780_000_000_000_000);
    let key = FleetKey::from_bytes([7; 32]);
    let token = Token::new(&key, SessionId::from_random([n; 16]), [n; 12], [n; 16]);
    Session::new(owner(), &token, at)
}

async fn sign_in(store: &SqliteStore, n: u8) -> Commit {
    let session = session(n);
    Commit {
        owner: owner(),
        expected: store.user(&owner()).await.unwrap().version,
        at: session.signed_in,
        by: Actor::Application,
        from: None,
        changes: vec![Change::Insert(Box::new(session))],
    }
}

async fn insert(store: &SqliteStore, n: u8) -> SessionId {
    let commit = sign_in(store, n).await;
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    session(n).id
}

fn end_of(id: SessionId) -> EndMany {
    EndMany {
        selection: Selection::session(id, TenantFilter::Any),
        after: None,
        cause: EndCause::Revoked,
        at: Timestamp::EPOCH,
        by: Actor::Application,
        from: None,
    }
}

async fn end(store: &SqliteStore, id: SessionId) {
    assert_eq!(store.end_many(&end_of(id), 1).await.unwrap().ended.len(), 1);
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).foreign_keys(false).connect().await.unwrap()
}

async fn execute(path: &Path, statement: &'static str) {
    let mut connection = raw(path).await;
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn ask(path: &Path, question: &'static str) -> String {
    use sqlx::Row;
    let mut connection = raw(path).await;
    let row = sqlx::query(question).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    row.try_get::<String, _>(0).unwrap_or_else(|_| row.get::<i64, _>(0).to_string())
}

#[tokio::test]
async fn the_file_is_in_wal_mode_and_complete_after_a_close() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    let id = insert(&store, 1).await;
    assert_eq!(ask(&path, "PRAGMA journal_mode").await, "wal");
    store.close().await;
    assert!(!path.with_extension("db-wal").exists());
    let copy = folder.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    let store = SqliteStore::connect(&copy).await.unwrap();
    assert!(store.load(id).await.unwrap().is_some());
}

#[tokio::test]
async fn migrations_run_twice_and_a_newer_schema_says_who_may_use_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    for _ in 0..2 {
        SqliteStore::connect(&path).await.unwrap().close().await;
    }
    let steps = SqliteStore::migrations().len().to_string();
    let newest = "SELECT MAX(version) FROM session_kit_migrations";
    assert_eq!(ask(&path, newest).await, steps);
    execute(&path, "INSERT INTO session_kit_migrations (version) VALUES (1000)").await;
    let store = SqliteStore::connect(&path).await.unwrap();
    assert_eq!(store.report().await.unwrap().schema, Some(1000));
    store.close().await;
    execute(&path, "DELETE FROM session_kit_migrations WHERE version < 1000").await;
    let error = SqliteStore::connect(&path).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Internal);
    assert!(error.to_string().contains("version 1000"), "{error}");
}

#[tokio::test]
async fn printed_migrations_may_be_run_by_hand() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    for script in SqliteStore::migrations() {
        sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    let store = SqliteStore::connect(&path).await.unwrap();
    insert(&store, 1).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_unavailable() {
    let folder = TempDir::new().unwrap();
    let error = SqliteStore::connect(folder.path().join("no/such/folder.db")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
}

/// Making the call again does not help.
#[tokio::test]
async fn a_statement_that_fails_is_an_internal_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    let id = insert(&store, 1).await;
    execute(&path, "DROP TABLE session_kit_users").await;
    assert_eq!(store.load(id).await.unwrap_err().kind(), StoreErrorKind::Internal);
    assert_eq!(store.user(&owner()).await.unwrap_err().kind(), StoreErrorKind::Internal);
}

/// Stored rows are hostile too: each damage is an error that says which column, never a panic.
#[tokio::test]
async fn damaged_rows_are_typed_errors() {
    let damages = [
        "UPDATE session_kit_sessions SET device_kind = ''",
        "UPDATE session_kit_sessions SET ip_addresses = 'nowhere'",
        "UPDATE session_kit_sessions SET client_id = char(0)",
        "UPDATE session_kit_sessions SET claimed = 2",
        "UPDATE session_kit_sessions SET details = '{'",
        "UPDATE session_kit_sessions SET details = json_remove(details, '$.token')",
    ];
    for damage in damages {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("sessions.db");
        let store = SqliteStore::connect(&path).await.unwrap();
        let id = insert(&store, 1).await;
        execute(&path, damage).await;
        let error = store.load(id).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{damage}: {error}");
        let query = PageQuery::live(TenantFilter::Any, session(1).signed_in);
        assert_eq!(store.page(&query).await.unwrap(), Page::default(), "{damage}");
        // What is damaged can still be ended, and forgotten.
        end(&store, id).await;
        assert_eq!(store.ended(id).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
        let history = store.history(&HistoryQuery::user(owner())).await.unwrap();
        assert_eq!(history, HistoryPage::default());
        assert_eq!(store.forget(&Forget::User(owner()), 1).await.unwrap(), 1);
    }
}

/// An entry that cannot be read counts as missed, and the reader goes on; one of a kind that only a
/// newer version knows is handed on.
#[tokio::test]
async fn an_unreadable_log_entry_is_a_gap() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    let start = store.log_since(None, Entries::All, 0).await.unwrap().next;
    insert(&store, 1).await;
    execute(&path, "UPDATE session_kit_log SET session_id = x'00'").await;
    insert(&store, 2).await;
    let page = store.log_since(Some(&start), Entries::All, 10).await.unwrap();
    assert!(page.gap);
    assert_eq!(page.events.len(), 1);
    let third = insert(&store, 3).await;
    execute(&path, "UPDATE session_kit_log SET kind = 'of a newer version' WHERE seq = 3").await;
    let page = store.log_since(Some(&page.next), Entries::Invalidations, 10).await.unwrap();
    assert!(!page.gap);
    let [event] = &page.events[..] else { panic!("{page:?}") };
    assert_eq!((event.kind, event.session), (EventKind::Unknown, Some(third)));
}

/// What has nothing to change does not wait for another process that writes.
#[tokio::test]
async fn upkeep_without_work_takes_no_lock() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let options = SqliteOptions::default().with_busy_timeout(Duration::ZERO);
    let store = SqliteStore::connect_with(&path, options).await.unwrap();
    let key = store.fleet_key(&FleetKey::from_bytes([1; 32])).await.unwrap();
    let id = insert(&store, 1).await;
    end(&store, id).await;
    insert(&store, 2).await;
    let mut other = raw(&path).await;
    let writing = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let year = Duration::from_secs(365 * 24 * 3600);
    let age = Forget::OlderThan(year * 1_000);
    assert_eq!(store.forget(&age, 10).await.unwrap(), 0);
    assert_eq!(store.trim_log(year * 1_000, 10).await.unwrap(), 0);
    let overdue = Sweep { overdue: year, after: None, at: Timestamp::EPOCH };
    assert_eq!(store.sweep(&overdue, 10).await.unwrap().ended, []);
    assert_eq!(store.fleet_key(&FleetKey::from_bytes([2; 32])).await.unwrap(), key);
    // What has an effect has to wait.
    let age = Forget::OlderThan(Duration::ZERO);
    assert_eq!(store.forget(&age, 10).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    writing.rollback().await.unwrap();
    assert_eq!(store.forget(&age, 10).await.unwrap(), 1);
}

/// SQLite's own wait looks for the lock 328 and 428 ms after its start. Of three tries the quickest counts, because the
/// machine is shared.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_has_waited_for_long_begins_soon_after_it_can() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = Arc::new(SqliteStore::connect(&path).await.unwrap());
    let mut other = raw(&path).await;
    let mut quickest = Duration::MAX;
    for n in 1..=3 {
        let writing = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let waits = tokio::spawn({
            let store = Arc::clone(&store);
            async move { insert(&store, n).await }
        });
        tokio::time::sleep(Duration::from_millis(340)).await;
        assert!(!waits.is_finished());
        writing.rollback().await.unwrap();
        let begun = std::time::Instant::now();
        waits.await.unwrap();
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_millis(40), "{quickest:?}");
}

/// A program that has no time for a change which it has begun keeps no other process from writing.
#[test]
fn a_change_of_a_blocked_runtime_keeps_no_lock() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let (blocked, free) = (Builder::new_current_thread().enable_all().build(), Runtime::new());
    let (blocked, free) = (blocked.unwrap(), free.unwrap());
    let mine = blocked.block_on(SqliteStore::connect(&path)).unwrap();
    let other = free.block_on(SqliteStore::connect(&path)).unwrap();
    blocked.block_on(async {
        let mut taking = mine.lease("mine", "holder", PATIENCE);
        let begun = poll_fn(|context| Poll::Ready(taking.as_mut().poll(context))).await;
        assert!(begun.is_pending());
        // Nothing runs here until the other has written.
        let (done, is_done) = channel();
        free.spawn(async move { done.send(other.lease("other", "holder", PATIENCE).await) });
        assert!(is_done.recv().unwrap().unwrap());
        assert!(taking.await.unwrap());
    });
}

/// Without a history nothing is kept of an end; what has been kept before stays.
#[tokio::test]
async fn the_history_can_be_switched_off() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    let (kept, not_kept) = (insert(&store, 1).await, insert(&store, 2).await);
    end(&store, kept).await;
    let max_staleness = Duration::from_secs(30);
    store.configure(&Needs { history: Duration::ZERO, max_staleness });
    end(&store, not_kept).await;
    assert!(store.ended(kept).await.unwrap().is_some());
    assert_eq!(store.ended(not_kept).await.unwrap(), None);
    assert_eq!(ask(&path, "SELECT COUNT(*) FROM session_kit_history").await, "1");
    assert_eq!(insert(&store, 2).await, not_kept, "its id is free again");
}

#[tokio::test]
async fn a_session_that_the_history_knows_ends_all_the_same() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    restored::ends_what_the_history_knows(&store, async || {
        execute(&path, restored::KNOW_ALL).await
    })
    .await;
}

#[tokio::test]
async fn a_session_without_its_user_ends_all_the_same() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    restored::ends_what_has_no_user(&store, async || execute(&path, restored::FORGET_USERS).await)
        .await;
}

/// Another application's long read delays no revocation, and neither do writers of other tables.
#[tokio::test]
async fn an_unrelated_long_transaction_delays_no_reader() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let mut other = raw(&path).await;
    let mut long = other.begin().await.unwrap();
    sqlx::query("SELECT COUNT(*) FROM session_kit_sessions").execute(&mut *long).await.unwrap();
    for n in 1..=5 {
        let id = insert(&store, n).await;
        let page = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
        assert_eq!(page.events[0].session, Some(id));
        cursor = page.next;
    }
    long.rollback().await.unwrap();
}

/// A checkpoint starves under it: writes go on, the report says so, and afterwards the log gives back
/// what it has taken of the disk.
#[tokio::test]
async fn a_reader_that_stays_open_stops_no_write() {
    const MOST: u64 = 48 << 20;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    let log = folder.path().join("sessions.db-wal");
    let size = || std::fs::metadata(&log).unwrap().len();
    execute(&path, "CREATE TABLE orders (content BLOB)").await;
    let mut other = raw(&path).await;
    let mut long = other.begin().await.unwrap();
    sqlx::query("SELECT COUNT(*) FROM session_kit_sessions").execute(&mut *long).await.unwrap();
    let mut n = 0;
    while size() <= MOST {
        execute(&path, "INSERT INTO orders VALUES (zeroblob(4 << 20))").await;
        n += 1;
        insert(&store, n).await;
    }
    let complains = async || {
        let problems = store.report().await.unwrap().problems;
        problems.iter().any(|problem| problem.contains("write-ahead log"))
    };
    assert!(complains().await);
    long.rollback().await.unwrap();
    let begun = std::time::Instant::now();
    while size() > MOST {
        n += 1;
        insert(&store, n).await;
        assert!(begun.elapsed() < PATIENCE, "{} bytes after {n} sign-ins", size());
    }
    assert!(!complains().await);
}

#[tokio::test]
async fn a_lease_outlives_its_dead_holder_no_longer_than_its_time() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let dead = SqliteStore::connect(&path).await.unwrap();
    assert!(dead.lease("cleanup", "dead", Duration::from_millis(300)).await.unwrap());
    drop(dead);
    let next = SqliteStore::connect(&path).await.unwrap();
    let begun = std::time::Instant::now();
    while !next.lease("cleanup", "next", Duration::from_secs(30)).await.unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(60), "a dead holder's lease runs out");
    }
}

/// Each ticket has one.
#[tokio::test]
async fn leases_that_ran_out_are_deleted() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    for n in 0..20 {
        let name = format!("ticket:{n}");
        assert!(store.lease(&name, "issued", Duration::from_millis(1)).await.unwrap());
    }
    let begun = std::time::Instant::now();
    let lease = async || store.lease("cleanup", "node", Duration::from_secs(3_600)).await.unwrap();
    assert!(lease().await);
    while ask(&path, "SELECT count(*) FROM session_kit_leases").await != "1" {
        assert!(lease().await);
        assert!(begun.elapsed() < Duration::from_secs(60), "leases are kept for ever");
    }
    assert!(!store.lease("cleanup", "other", Duration::from_secs(60)).await.unwrap());
}

#[tokio::test]
async fn the_report_tells_of_the_history_and_of_missing_indexes() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    let reach = async || {
        let details = store.report().await.unwrap().details;
        details.into_iter().find(|(name, _)| name == "history from").map(|(_, value)| value)
    };
    assert_eq!(reach().await, None);
    let id = insert(&store, 1).await;
    end(&store, id).await;
    assert_eq!(reach().await, Some(Timestamp::EPOCH.to_string()));
    let report = store.report().await.unwrap();
    assert_eq!(report.problems, [""; 0]);
    let of_log = report.details.iter().find(|(name, _)| name == "sequencer").unwrap();
    assert!(of_log.1.starts_with("none: "), "{of_log:?}");
    let indexes = |there: &str| ("indexes".to_owned(), there.to_owned());
    assert!(report.details.contains(&indexes("12 of 12")), "{report:?}");
    let size = |path: &Path| std::fs::metadata(path).unwrap().len().to_string();
    for (name, value) in [
        ("durability", "power loss".to_owned()),
        ("file size", size(&path)),
        ("write-ahead log size", size(&path.with_extension("db-wal"))),
    ] {
        assert!(report.details.contains(&(name.to_owned(), value)), "{report:?}");
    }
    execute(&path, "DROP INDEX session_kit_sessions_by_due").await;
    let report = store.report().await.unwrap();
    assert_eq!(report.problems, ["the index `session_kit_sessions_by_due` is missing"]);
    assert!(report.details.contains(&indexes("11 of 12")), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_taken_in_parallel_never_fail() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = async || {
        let options = SqliteOptions::default().with_durability(Durability::ProcessDeath);
        let patient = options.with_busy_timeout(PATIENCE);
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::connect_with(&path, patient).await.unwrap());
        store
    };
    leases::taken_in_parallel([store().await, store().await]).await;
}

#[tokio::test]
async fn leases_that_ran_out_are_deleted_in_parts() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    let fill = "INSERT INTO session_kit_leases (name, holder, until) \
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 30000) \
        SELECT 'ticket ' || n, 'issued', 30001 - n FROM numbers";
    execute(&path, fill).await;
    let left = async || {
        let left = "SELECT COUNT(*), MAX(name = 'ticket 30000') FROM session_kit_leases \
            WHERE holder = 'issued'";
        sqlx::query_as(left).fetch_one(&mut raw(&path).await).await.unwrap()
    };
    leases::deleted_in_parts(&store, left).await;
}

#[tokio::test]
async fn what_a_sweep_puts_off_stays_put_off_where_nothing_ends() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    insert(&store, 1).await;
    execute(&path, "UPDATE session_kit_sessions SET due = 0, deadline = 1 << 60").await;
    assert!(sample::sweep_all(&store, Duration::ZERO, 10).await.is_empty());
    assert_eq!(ask(&path, "SELECT due = deadline FROM session_kit_sessions").await, "1");
}

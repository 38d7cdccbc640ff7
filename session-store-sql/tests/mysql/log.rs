//! The log: readers beside writers, transactions that stay open, and ids that never come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use session_conformance::sample::{PATIENCE, commit, insert, read_log, revoke, user};
use session_core::store::{Change, Cursor, Entries};
use session_core::{Actor, EndCause, Event, EventKind, SessionId, Store};
use session_store_sql::{MySqlOptions, MySqlStore};
use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Executor};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::locks::cut;
use crate::{Database, pool, server, session};

async fn end_of_log(store: &MySqlStore) -> Cursor {
    store.log_since(None, Entries::All, 0).await.unwrap().next
}

/// What happened to the sessions of each user, in the order in which it was told.
fn by_user(told: &[Event]) -> HashMap<String, Vec<(EventKind, SessionId)>> {
    let mut users: HashMap<_, Vec<_>> = HashMap::new();
    for event in told {
        let user = event.user.as_ref().unwrap().to_string();
        users.entry(user).or_default().push((event.kind, event.session.unwrap()));
    }
    users
}

/// Signs in, signs in again in place of the first session, and ends the second one.
async fn three_changes(store: &MySqlStore, name: &str) -> Vec<(EventKind, SessionId)> {
    let (first, second) = (session(store, name).await, session(store, name).await);
    insert(store, &first).await;
    let end = Change::End(first.id, EndCause::Evicted);
    let changes = vec![end, Change::Insert(Box::new(second.clone()))];
    commit(store, &user(name), changes).await;
    assert_eq!(revoke(store, second.id).await, 1);
    vec![
        (EventKind::Created, first.id),
        (EventKind::Ended(EndCause::Evicted), first.id),
        (EventKind::Created, second.id),
        (EventKind::Ended(EndCause::Revoked), second.id),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_readers_see_every_entry_once_and_each_users_in_order() {
    let database = Database::create().await;
    let (done, waiting) = watch::channel(false);
    let mut readers = JoinSet::new();
    for page in [3, 100] {
        let store = database.store().await;
        let (waiting, mut cursor) = (waiting.clone(), end_of_log(&store).await);
        readers.spawn(async move {
            let mut told = Vec::new();
            loop {
                // Asked before the read: what was acknowledged by then is in it.
                let last = *waiting.borrow();
                told.extend(read_log(&store, &mut cursor, page).await);
                if last {
                    return by_user(&told);
                }
            }
        });
    }
    let mut writers = JoinSet::new();
    for n in 0..8 {
        let store = database.store().await;
        writers.spawn(async move {
            let mut happened = Vec::new();
            for _ in 0..20 {
                happened.extend(three_changes(&store, &format!("user {n}")).await);
            }
            (format!("user {n}"), happened)
        });
    }
    let mut happened = HashMap::new();
    while let Some(writer) = writers.join_next().await {
        happened.extend([writer.unwrap()]);
    }
    done.send(true).unwrap();
    while let Some(told) = readers.join_next().await {
        assert_eq!(told.unwrap(), happened);
    }
}

/// Begins a change as the procedures do, up to where it would commit.
async fn begin_change<'c>(
    connection: &'c mut MySqlConnection,
    name: &str,
) -> sqlx::Transaction<'c, sqlx::MySql> {
    let mut change = connection.begin().await.unwrap();
    let gate = "SELECT gate FROM session_kit_gates \
        WHERE gate = (SELECT gate FROM session_kit_state) LOCK IN SHARE MODE";
    change.execute(gate).await.unwrap();
    let entry = "INSERT INTO session_kit_log (tag, kind, at, actor, tenant, user_id, session_id) \
        VALUES (7, 'created', 1, 'system', '', ?, REPEAT('x', 16))";
    sqlx::query(entry).bind(name).execute(&mut *change).await.unwrap();
    change
}

/// How many ids are open, by a cursor: it has the last position, how many others were read last, those,
/// and the open ids.
fn open_ids(cursor: &Cursor) -> usize {
    let read = usize::from(cursor.0[23]);
    (cursor.0.len() - 24) / 8 - 2 * read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_stays_open_delays_nothing_and_is_told_afterwards() {
    let database = Database::create().await;
    let store = database.store().await;
    let (mut near, mut far) = (end_of_log(&store).await, end_of_log(&store).await);
    let mut other = database.connection().await;
    let change = begin_change(&mut other, "mallory").await;
    // The log may be read and settled as often as it likes.
    for _ in 0..20 {
        insert(&store, &session(&store, "alice").await).await;
        assert_eq!(read_log(&store, &mut near, 10).await.len(), 1);
    }
    let late = end_of_log(&store).await;
    change.commit().await.unwrap();
    for mut cursor in [near, late] {
        let told = read_log(&store, &mut cursor, 10).await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].user, Some(user("mallory").user));
        assert_eq!(read_log(&store, &mut cursor, 10).await, []);
    }
    assert_eq!(read_log(&store, &mut far, 10).await.len(), 21);
}

/// A reader that begins after the trim, and before the change ends, is told of the change.
#[tokio::test(flavor = "multi_thread")]
async fn a_trim_leaves_what_came_after_a_change_that_stays_open() {
    let database = Database::create().await;
    let store = database.store().await;
    for _ in 0..3 {
        insert(&store, &session(&store, "alice").await).await;
    }
    assert_eq!(store.trim_log(Duration::ZERO, 10).await.unwrap(), 2, "all but the newest");
    let mut other = database.connection().await;
    let change = begin_change(&mut other, "mallory").await;
    for _ in 0..3 {
        insert(&store, &session(&store, "alice").await).await;
    }
    let trim = store.trim_log(Duration::ZERO, 10);
    let trimmed = tokio::time::timeout(PATIENCE, trim).await.expect("it waits for no change");
    assert_eq!(trimmed.unwrap(), 0);
    let mut cursor = end_of_log(&store).await;
    change.commit().await.unwrap();
    let told = read_log(&store, &mut cursor, 10).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].user, Some(user("mallory").user));
    assert_eq!(store.trim_log(Duration::ZERO, 10).await.unwrap(), 4, "all but the newest");
    assert_eq!(read_log(&store, &mut cursor, 10).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_were_rolled_back_are_forgotten() {
    let database = Database::create().await;
    let store = database.store().await;
    let mut cursor = end_of_log(&store).await;
    let mut other = database.connection().await;
    begin_change(&mut other, "mallory").await.rollback().await.unwrap();
    insert(&store, &session(&store, "alice").await).await;
    assert_eq!(read_log(&store, &mut cursor, 10).await.len(), 1);
    let mut reads = 0;
    while open_ids(&cursor) > 0 {
        assert!(reads < 4, "an id stays open");
        assert_eq!(read_log(&store, &mut cursor, 10).await, []);
        reads += 1;
    }
    assert!(reads > 0, "the id was open");
}

/// Another program's transaction that has seen everything, and written elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_transaction_delays_nothing() {
    let database = Database::create().await;
    let store = Arc::new(database.store().await);
    let mut cursor = end_of_log(&store).await;
    let mut other = database.connection().await;
    other.execute("CREATE TABLE orders (n INT) ENGINE = InnoDB").await.unwrap();
    let mut foreign = other.begin().await.unwrap();
    for read in ["sessions", "users", "log", "state", "gates"] {
        let read = sqlx::AssertSqlSafe(format!("SELECT * FROM session_kit_{read}"));
        foreign.execute(read).await.unwrap();
    }
    foreign.execute("INSERT INTO orders VALUES (1)").await.unwrap();
    let changes = async {
        let happened = three_changes(&store, "alice").await;
        let told = read_log(store.as_ref(), &mut cursor, 10).await;
        assert_eq!(by_user(&told)["alice"], happened);
        assert_eq!(store.trim_log(Duration::ZERO, 10).await.unwrap(), 3);
    };
    tokio::time::timeout(PATIENCE, changes).await.expect("nothing waits for the other program");
    foreign.rollback().await.unwrap();
}

/// After a long time in which no id stayed open, the end of the log is found all the same.
#[tokio::test]
async fn the_end_of_a_log_that_was_never_settled_is_found() {
    let database = Database::create().await;
    let store = database.store().await;
    let mut other = database.connection().await;
    let fill = "INSERT INTO session_kit_log (id, tag, kind, at, actor, tenant) \
        WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 9000) \
        SELECT n, n, 'created', n, 'system', '' FROM numbers";
    other.execute("SET SESSION max_recursive_iterations = 10000").await.ok();
    other.execute("SET SESSION cte_max_recursion_depth = 10000").await.ok();
    other.execute(fill).await.unwrap();
    let mut cursor = end_of_log(&store).await;
    assert_eq!(open_ids(&cursor), 0);
    assert_eq!(read_log(&store, &mut cursor, 10).await, []);
    insert(&store, &session(&store, "alice").await).await;
    assert_eq!(read_log(&store, &mut cursor, 10).await.len(), 1);
}

/// Revocations are heard while every connection of the pool is in use, also while an id stays open,
/// and after the server has closed the connection on which they are heard.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_besides_the_pool() {
    let database = Database::create().await;
    let busy = pool(server().database(&database.0), 2).await;
    let store = MySqlStore::with_pool(busy.clone(), MySqlOptions::default()).await.unwrap();
    let other = database.store().await;
    let mut cursor = end_of_log(&store).await;
    let held = (busy.acquire().await.unwrap(), busy.acquire().await.unwrap());
    assert!(busy.try_acquire().is_none());
    let mut unrelated = database.connection().await;
    let open = begin_change(&mut unrelated, "mallory").await;
    for _ in 0..3 {
        insert(&other, &session(&other, "alice").await).await;
        assert_eq!(read_log(&store, &mut cursor, 10).await.len(), 1);
    }
    open.rollback().await.unwrap();
    cut(&pool(server(), 1).await, &database).await;
    insert(&other, &session(&other, "alice").await).await;
    assert_eq!(read_log(&store, &mut cursor, 10).await.len(), 1);
    drop(held);
}

/// A failover to a server that has the newest id, and not an entry that was committed after it: the
/// two were read one after the other, or in one page.
#[tokio::test]
async fn a_late_entry_that_is_lost_is_a_gap() {
    for pages in [2, 1] {
        let database = Database::create().await;
        let store = database.store().await;
        let mut cursor = end_of_log(&store).await;
        let mut other = database.connection().await;
        let late = begin_change(&mut other, "mallory").await;
        insert(&store, &session(&store, "alice").await).await;
        let mut told = 0;
        if pages == 2 {
            told += read_log(&store, &mut cursor, 10).await.len();
        }
        late.commit().await.unwrap();
        told += read_log(&store, &mut cursor, 10).await.len();
        assert_eq!(told, 2);
        assert_eq!(read_log(&store, &mut cursor, 10).await, []);
        let lose = "DELETE FROM session_kit_log WHERE user_id = 'mallory'";
        other.execute(lose).await.unwrap();
        assert!(store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().gap, "{pages}");
    }
}

/// A late entry that was trimmed is not lost.
#[tokio::test]
async fn a_late_entry_that_is_trimmed_is_no_gap() {
    let database = Database::create().await;
    let store = database.store().await;
    let mut cursor = end_of_log(&store).await;
    let mut other = database.connection().await;
    let late = begin_change(&mut other, "mallory").await;
    for _ in 0..3 {
        insert(&store, &session(&store, "alice").await).await;
    }
    late.commit().await.unwrap();
    assert_eq!(read_log(&store, &mut cursor, 10).await.len(), 4);
    assert_eq!(store.trim_log(Duration::ZERO, 10).await.unwrap(), 3);
    assert_eq!(read_log(&store, &mut cursor, 10).await, []);
}

/// A log that came back from the past may have another entry of the same id.
#[tokio::test]
async fn another_entry_of_the_same_id_is_a_gap() {
    let database = Database::create().await;
    let store = database.store().await;
    insert(&store, &session(&store, "alice").await).await;
    let seen = end_of_log(&store).await;
    let mut other = database.connection().await;
    other.execute("UPDATE session_kit_log SET tag = tag + 1").await.unwrap();
    assert!(store.log_since(Some(&seen), Entries::All, 10).await.unwrap().gap);
    other.execute("DELETE FROM session_kit_log").await.unwrap();
    assert!(store.log_since(Some(&seen), Entries::All, 10).await.unwrap().gap);
}

/// An older node reads what a newer one tells.
#[tokio::test]
async fn an_entry_of_a_newer_version_is_told_as_unknown() {
    let database = Database::create().await;
    let store = database.store().await;
    let mut cursor = end_of_log(&store).await;
    let session = session(&store, "alice").await;
    insert(&store, &session).await;
    let newer = "UPDATE session_kit_log SET kind = 'promoted', actor = 'service:7'";
    database.connection().await.execute(newer).await.unwrap();
    let told = read_log(&store, &mut cursor, 10).await;
    assert_eq!((told[0].kind, &told[0].by), (EventKind::Unknown, &Actor::Unknown));
    assert_eq!(told[0].session, Some(session.id));
}

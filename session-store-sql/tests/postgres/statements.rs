//! What operations cost: statements and rows, counted by the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_conformance::sample::{self, PATIENCE, revoke, user};
use session_core::store::{
    Change, EndMany, Entries, Outcome, PageQuery, Selection, Sweep, TenantFilter, Touch,
};
use session_core::{Actor, EndCause, Session, SessionId, Store, Timestamp};
use session_engine::Engine;
use session_store_sql::{PostgresOptions, PostgresStore};
use sqlx::postgres::{PgConnectOptions, PgPool};
use tokio::task::JoinSet;

use crate::{Schema, commit, new_name, now, operations, owner, pool, sign_in, sign_in_as, url};

/// A database of its own, because PostgreSQL 18 counts like statements of all schemas together.
struct Counted {
    database: String,
    admin: PgPool,
}

impl Counted {
    async fn create() -> Self {
        let (database, admin) = (new_name(), pool(1).await);
        // No client is connected to template0; one would make this fail.
        let create = format!("CREATE DATABASE {database} TEMPLATE template0");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&admin).await.unwrap();
        // Two that create it at once would be in each other's way.
        let count = "SELECT pg_advisory_xact_lock(1); \
            CREATE EXTENSION IF NOT EXISTS pg_stat_statements";
        sqlx::raw_sql(count).execute(&admin).await.unwrap();
        Self { database, admin }
    }

    async fn store(&self, options: PostgresOptions) -> PostgresStore {
        let there: PgConnectOptions = url().parse().unwrap();
        let there = PgPool::connect_with(there.database(&self.database)).await.unwrap();
        PostgresStore::with_pool(there, options).await.unwrap()
    }

    /// Of statements like each of these, all at one moment.
    async fn calls<const N: usize>(&self, like: [&str; N]) -> [i64; N] {
        let count = "SELECT COALESCE(sum(calls), 0)::bigint \
            FROM unnest($2::text[]) WITH ORDINALITY AS wanted (pattern, n) LEFT JOIN \
                (SELECT query, calls FROM pg_stat_statements AS counted JOIN pg_database \
                    ON pg_database.oid = counted.dbid WHERE datname = $1) AS counted \
                ON query LIKE pattern \
            GROUP BY n ORDER BY n";
        let count = sqlx::query_scalar(count).bind(&self.database).bind(&like[..]);
        let counts: Vec<i64> = count.fetch_all(&self.admin).await.unwrap();
        counts.try_into().unwrap()
    }

    /// Repeats the measurement if the server discarded statements during it: it keeps a limited
    /// number for all databases.
    async fn undisturbed<T>(&self, mut measure: impl AsyncFnMut() -> T) -> T {
        let forgotten = async || -> i64 {
            let times = sqlx::query_scalar("SELECT dealloc FROM pg_stat_statements_info");
            times.fetch_one(&self.admin).await.unwrap()
        };
        loop {
            let before = forgotten().await;
            let measured = measure().await;
            if forgotten().await == before {
                return measured;
            }
        }
    }
}

/// Statements per operation, counted by the server.
#[tokio::test]
async fn operations_cost_few_round_trips() {
    let counted = Counted::create().await;
    let mut options = PostgresOptions::default();
    options.push = false;
    let store = counted.store(options).await;
    let spent = counted.undisturbed(async || statements(&counted, &store).await).await;
    let [sign_in, evict, load, touch, page, log, revoked] = spent;
    println!(
        "statements: sign-in {sign_in}, one that evicts {evict}, load {load}, touch of 500 {touch}, \
         page {page}, log {log}, revoke {revoked}"
    );
    assert_eq!(spent, [2, 2, 1, 1, 1, 1, 2]);
}

/// Of a sign-in, one that evicts, a load, touches, a page, a read of the log and a revocation.
async fn statements(counted: &Counted, store: &PostgresStore) -> [i64; 7] {
    let [mut before] = counted.calls(["%session_kit_%"]).await;
    let mut spent = async || {
        let [now] = counted.calls(["%session_kit_%"]).await;
        now - std::mem::replace(&mut before, now)
    };
    let evicted = sign_in(store).await;
    let sign_in = spent().await;
    let session = sample::session(store, &owner(), now());
    let insert = Change::Insert(Box::new(session.clone()));
    let changes = vec![Change::End(evicted.id, EndCause::Evicted), insert];
    assert_eq!(commit(store, &owner(), changes).await, Outcome::Done);
    let evict = spent().await;
    store.load(session.id).await.unwrap();
    let load = spent().await;
    store.touch(&(0..500).map(|n| used(&session, n)).collect::<Vec<_>>()).await.unwrap();
    let touch = spent().await;
    let query = PageQuery::live(TenantFilter::Any, session.signed_in);
    store.page(&query).await.unwrap();
    let page = spent().await;
    let cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    spent().await;
    store.log_since(Some(&cursor), Entries::All, 100).await.unwrap();
    let log = spent().await;
    let (cause, at, by) = (EndCause::Revoked, now(), Actor::Application);
    let selection = Selection::session(session.id, TenantFilter::Any);
    let end = EndMany { selection, after: None, cause, at, by, from: None };
    assert_eq!(store.end_many(&end, 10).await.unwrap().ended.len(), 1);
    let revoked = spent().await;
    [sign_in, evict, load, touch, page, log, revoked]
}

/// A write-back of a use so many microseconds after the sign-in.
fn used(session: &Session, later: u64) -> Touch {
    Touch {
        id: session.id,
        last_accessed: session.signed_in.plus(Duration::from_micros(later)),
        deadline: session.deadline,
        claimed: true,
        ip_addresses: Vec::new(),
    }
}

/// A notification that is under way covers no change that comes after it began, but the next covers
/// all of them. That a session begins is none: nobody has anything of it cached.
#[tokio::test]
async fn changes_share_notifications() {
    let counted = Counted::create().await;
    let store = Arc::new(counted.store(PostgresOptions::default().with_push(false)).await);
    let mut sign_ins = JoinSet::new();
    for n in 0..CHANGES {
        let store = Arc::clone(&store);
        sign_ins.spawn(async move { sign_in_as(&*store, &user(&format!("user {n}"))).await.id });
    }
    let begun = sign_ins.join_all().await;
    assert_eq!(counted.calls(["%pg_notify%"]).await, [0]);
    let mut ends = JoinSet::new();
    for id in begun {
        let store = Arc::clone(&store);
        ends.spawn(async move { revoke(&*store, id).await });
    }
    assert!(ends.join_all().await.iter().all(|ended| *ended == 1));
    let begun = Instant::now();
    let (mut notifications, mut same) = (0, 0);
    // Until no more come for a while: one for each change would go on coming.
    while notifications == 0 || same < 50 {
        let [now] = counted.calls(["%pg_notify%"]).await;
        same = if now == notifications { same + 1 } else { 0 };
        notifications = now;
        assert!(begun.elapsed() < PATIENCE, "no notification is sent, or they have no end");
    }
    println!("{CHANGES} changes, {notifications} notifications");
    assert!(notifications < CHANGES, "{notifications} for {CHANGES} changes");
}

const CHANGES: i64 = 100;

/// A node without work reads the log, and that is all: it goes on listening as it once began to.
#[tokio::test]
async fn an_idle_node_only_reads_the_log() {
    for push in [true, false] {
        let counted = Counted::create().await;
        let mut options = PostgresOptions::default();
        options.push = push;
        let mut often = sample::options();
        often.propagation_bound = Duration::from_millis(100);
        often.cleanup.enabled = false;
        let node = Engine::start(counted.store(options).await, often).await.unwrap();
        let spent = counted.undisturbed(async || idle(&counted, i64::from(push)).await);
        let [others, reads, listens] = spent.await;
        println!("{reads} reads of the log, {others} other statements");
        assert_eq!((others, listens), (0, 0));
        node.shutdown().await;
    }
}

/// What a node that has begun to listen this often does during twenty reads of the log: how many
/// other statements, reads, and statements that begin to listen. Now and then it looks whether the
/// connection that it listens on is there.
async fn idle(counted: &Counted, listening: i64) -> [i64; 3] {
    let begun = Instant::now();
    let until = async |reads, listens| loop {
        let counts = counted.calls(["%", "%pg_current_snapshot%", "%LISTEN%", "SELECT $1"]).await;
        let [all, reads_now, listens_now, looks] = counts;
        if reads_now >= reads && listens_now >= listens {
            break [all - reads_now - looks, reads_now, listens_now];
        }
        assert!(begun.elapsed() < PATIENCE, "{all} statements, {reads_now} reads");
    };
    let before = until(20, listening).await;
    let after = until(before[1] + 20, listening).await;
    assert_eq!(before[2], listening);
    [0, 1, 2].map(|n| after[n] - before[n])
}

/// A store with one connection, and 50,000 sessions, log entries and blocked users. So many sessions
/// were due before [`LINE`] and have been used since then, ten are past their deadline at it, the rest
/// are due later.
async fn filled(later: u32) -> (PostgresStore, PgPool, String) {
    let Schema(schema) = Schema::create().await;
    let one = pool(1).await;
    let options = PostgresOptions::default().with_schema(schema.clone()).with_push(false);
    let store = PostgresStore::with_pool(one.clone(), options).await.unwrap();
    let line = LINE.as_micros();
    let fill = format!(
        "SET search_path = {schema}; \
        INSERT INTO session_kit_sessions (id, tenant, user_id, device_kind, ip_addresses, signed_in, \
            last_accessed, due, deadline, claimed, details) \
            SELECT decode(md5(n::text), 'hex'), '', 'user ' || n % 5000, 'Web', '', n, n, \
            {line} + CASE WHEN n <= {later} + 10 THEN -1000000 ELSE n * 600000000::bigint END, \
            {line} + CASE WHEN n <= {later} THEN 500000000 WHEN n <= {later} + 10 THEN -1000000 \
                ELSE n * 600000000::bigint END, \
            0, '{{}}' FROM generate_series(1, 50000) AS n; \
        INSERT INTO session_kit_users (tenant, user_id, version) \
            SELECT '', 'user ' || n, n FROM generate_series(0, 4999) AS n; \
        INSERT INTO session_kit_policies (tenant, user_id, block) \
            SELECT '', 'blocked ' || n, '{{}}' FROM generate_series(1, 50000) AS n; \
        ANALYZE session_kit_sessions; ANALYZE session_kit_users; ANALYZE session_kit_policies;"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(&one).await.unwrap();
    append_many(&one, &schema).await;
    (store, one, schema)
}

async fn append_many(connection: &PgPool, schema: &str) {
    let append = format!(
        "INSERT INTO {schema}.session_kit_log (kind, at, actor, tenant) \
            SELECT 'created', n, 'system', '' FROM generate_series(1, 50000) AS n; \
        ANALYZE {schema}.session_kit_log;"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(append)).execute(connection).await.unwrap();
}

/// What the functions do cannot be explained from outside; the server counts the rows they read.
#[tokio::test]
async fn no_function_walks_a_table() {
    let (store, one, schema) = filled(0).await;
    let mut before = walked(&one, &schema).await;
    let check = async |what: &str, most| {
        let now = walked(&one, &schema).await;
        let rows = now - std::mem::replace(&mut before, now);
        println!("{what} reads {rows} rows");
        assert!(rows < most, "{what} reads {rows} rows");
    };
    operations::all(&store, check).await;

    let whole = "SELECT COUNT(device_kind) FROM session_kit_sessions";
    sqlx::query(whole).fetch_one(&one).await.unwrap();
    let now = walked(&one, &schema).await;
    assert!(now > before + 40_000, "the server counts what is asked for");
}

/// A foreign transaction that stays open, and a reader that is far behind.
#[tokio::test]
async fn a_read_of_the_log_reads_a_page_of_it() {
    let (store, one, schema) = filled(0).await;
    let others = pool(2).await;
    let mut foreign = others.begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *foreign).await.unwrap();
    let mut cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    append_many(&others, &schema).await;
    let mut before = walked(&one, &schema).await;
    let (mut read, mut more) = (0, true);
    while more {
        let page = store.log_since(Some(&cursor), Entries::All, 1_000).await.unwrap();
        read += page.events.len();
        (cursor, more) = (page.next, page.more);
        let now = walked(&one, &schema).await;
        let rows = now - std::mem::replace(&mut before, now);
        assert!(rows < 1_200, "{rows} rows of the log for a page of {}", page.events.len());
    }
    assert_eq!(read, 50_000);
    foreign.rollback().await.unwrap();
}

/// Sessions that were used since they were due are looked at once, at most so many in a call, and by no later
/// sweep before their deadline.
#[tokio::test]
async fn a_sweep_goes_on_where_it_left_off() {
    let (store, one, schema) = filled(5_000).await;
    let mut sweep = Sweep { overdue: now().since(LINE), after: None, at: now() };
    let (mut ended, mut calls) = (0, 0);
    let mut before = walked(&one, &schema).await;
    loop {
        let batch = store.sweep(&sweep, 100).await.unwrap();
        (ended, calls) = (ended + batch.ended.len(), calls + 1);
        let now = walked(&one, &schema).await;
        let rows = now - std::mem::replace(&mut before, now);
        println!("sweep: {rows} rows, {} ended", batch.ended.len());
        assert!(rows < 1_500, "{rows} rows in one call");
        match batch.next {
            Some(next) => sweep.after = Some(next),
            None => break,
        }
    }
    assert_eq!(ended, 10);
    assert!(calls <= 5_010 / 100 + 1, "{calls} calls");
    let again = store.sweep(&Sweep { after: None, ..sweep }, 100).await.unwrap();
    assert_eq!((again.ended, again.next), (vec![], None));
}

/// A write-back moves the deadline, and no index with it.
#[tokio::test]
async fn a_use_is_written_back_within_its_page() {
    let (store, one, schema) = filled(0).await;
    let every_hundredth = "SELECT id, deadline FROM session_kit_sessions WHERE signed_in % 100 = 0";
    let found: Vec<(Vec<u8>, i64)> = sqlx::query_as(every_hundredth).fetch_all(&one).await.unwrap();
    let month_later = |(id, deadline): &(Vec<u8>, i64)| Touch {
        id: SessionId::from_bytes(id[..].try_into().unwrap()),
        last_accessed: now(),
        deadline: Timestamp::from_micros(*deadline).plus(Duration::from_secs(30 * 24 * 3600)),
        claimed: true,
        ip_addresses: Vec::new(),
    };
    let batch: Vec<_> = found.iter().map(month_later).collect();
    assert_eq!(batch.len(), Touch::MAX_BATCH);
    store.touch(&batch).await.unwrap();
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(&one).await.unwrap();
    let updates = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables \
        WHERE schemaname = $1 AND relname = 'session_kit_sessions'";
    let updates = sqlx::query_as(updates).bind(schema);
    let (all, within): (i64, i64) = updates.fetch_one(&one).await.unwrap();
    println!("{within} of {all} updates within their page");
    assert_eq!(all, 500);
    assert!(within >= 490, "{within} of {all}");
}

/// Rows that have been read from the tables and indexes of a schema. This connection tells its own
/// before it asks.
async fn walked(connection: &PgPool, schema: &str) -> i64 {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(connection).await.unwrap();
    sqlx::query_scalar(
        "SELECT (COALESCE(SUM(seq_tup_read), 0) \
            + (SELECT COALESCE(SUM(idx_tup_read), 0) FROM pg_stat_user_indexes \
                WHERE schemaname = $1))::bigint \
        FROM pg_stat_user_tables WHERE schemaname = $1",
    )
    .bind(schema)
    .fetch_one(connection)
    .await
    .unwrap()
}

/// A time of the past.
const LINE: Timestamp = Timestamp::from_micros(600_000_000 * 1_600_000);

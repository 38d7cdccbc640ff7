//! The PostgreSQL store under the conformance kit, on a real server, and what is its own.

mod operations;

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_conformance::sample::{self, insert, now, revoke, user};
use session_conformance::{Backend, Namespace};
use session_core::checker::Timeouts;
use session_core::store::{Cursor, PageQuery, TenantFilter, Touch};
use session_core::{Actor, Session, SessionId, Store, Timestamp, UserKey};
use session_engine::{Access, Engine, Options, SignIn};
use session_store_sql::{PostgresOptions, PostgresStore};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::Mutex;

fn url() -> String {
    std::env::var("SESSION_KIT_POSTGRES_URL")
        .expect("SESSION_KIT_POSTGRES_URL names a server; `cargo xtask test` starts one")
}

async fn pool(connections: u32) -> PgPool {
    PgPoolOptions::new().max_connections(connections).connect(&url()).await.unwrap()
}

/// Open transactions of one test would hold back another's log, and its load another's delays.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Postgres;

/// Whose table of sessions is partitioned by user.
struct Partitioned;

#[async_trait::async_trait]
impl Backend for Partitioned {
    async fn fresh(&self) -> Box<dyn Namespace> {
        let schema = Schema::create().await;
        let mut options = PostgresOptions::default();
        options.schema = Some(schema.0.clone());
        let whole = ["    id bytea NOT NULL PRIMARY KEY,", ") WITH (fillfactor = 80);"];
        let mut script = PostgresStore::migrations(&options).unwrap().concat();
        assert!(whole.iter().all(|part| script.contains(part)));
        script = script.replace(whole[0], "    id bytea NOT NULL,");
        let by_user = ", PRIMARY KEY (user_id, tenant, id)) PARTITION BY HASH (user_id);";
        let mut parts = by_user.to_owned();
        let table = format!("{}.session_kit_sessions", schema.0);
        for n in 0..4 {
            parts += &format!(
                "CREATE TABLE {table}_{n} PARTITION OF {table} \
                 FOR VALUES WITH (MODULUS 4, REMAINDER {n}) WITH (fillfactor = 80);"
            );
        }
        parts += &format!("CREATE INDEX ON {table} (id);");
        script = script.replace(whole[1], &parts);
        sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&pool(1).await).await.unwrap();
        Box::new(schema)
    }
}

fn new_name() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    format!("kit_{:x}", u64::from_be_bytes(random))
}

/// A schema of its own.
struct Schema(String);

impl Schema {
    async fn create() -> Self {
        let name = new_name();
        let statement = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {name}"));
        sqlx::query(statement).execute(&pool(1).await).await.unwrap();
        Self(name)
    }

    async fn store(&self) -> PostgresStore {
        let mut options = PostgresOptions::default();
        options.schema = Some(self.0.clone());
        PostgresStore::with_pool(pool(4).await, &options).await.unwrap()
    }
}

#[async_trait::async_trait]
impl Backend for Postgres {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(Schema::create().await)
    }
}

#[async_trait::async_trait]
impl Namespace for Schema {
    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(self.store().await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let _alone = ALONE.lock().await;
    let report = session_conformance::run(Arc::new(Postgres)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

/// An operator may partition the table without a word in the code.
#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee_on_a_table_partitioned_by_user() {
    let _alone = ALONE.lock().await;
    let report = session_conformance::run(Arc::new(Partitioned)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

fn owner() -> UserKey {
    user("alice")
}

async fn sign_in(store: &PostgresStore) -> Session {
    let session = sample::session(store, &owner(), now());
    insert(store, &session).await;
    session
}

/// Appends an entry in a transaction that stays open.
async fn open_entry(schema: &str, pool: &PgPool) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut open = pool.begin().await.unwrap();
    let append = format!(
        "SELECT {schema}.session_kit_append('revoked', 1, 'system', '', 'late', '\\x{}')",
        "07".repeat(16)
    );
    sqlx::query(sqlx::AssertSqlSafe(append)).execute(&mut *open).await.unwrap();
    open
}

async fn read(store: &PostgresStore, cursor: &mut Cursor) -> Vec<session_core::Event> {
    let mut events = Vec::new();
    loop {
        let page = store.log_since(Some(cursor), 3).await.unwrap();
        assert!(!page.gap);
        events.extend(page.events);
        *cursor = page.next;
        if !page.more {
            return events;
        }
    }
}

/// Numbers are drawn before the commit: a reader that remembers the highest number never sees
/// the entry of a transaction that commits late. Ours does, once, however it comes.
#[tokio::test]
async fn an_entry_that_commits_late_is_read_once() {
    let _alone = ALONE.lock().await;
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(4).await);
    let mut cursor = store.log_since(None, 0).await.unwrap().next;
    let late = open_entry(&schema.0, &pool).await;
    let session = sign_in(&store).await;
    let early: Vec<_> = read(&store, &mut cursor).await;
    assert_eq!(early.iter().map(|event| event.session).collect::<Vec<_>>(), [Some(session.id)]);
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
    assert_eq!(
        late.iter().map(|event| event.session).collect::<Vec<_>>(),
        [Some(SessionId::from_bytes([7; 16]))]
    );
    assert_eq!(read(&store, &mut cursor).await, []);
}

/// A foreign transaction holds the oldest snapshot back for as long as it likes.
#[tokio::test]
async fn an_unrelated_long_transaction_delays_no_reader() {
    let _alone = ALONE.lock().await;
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(4).await);
    let mut cursor = store.log_since(None, 0).await.unwrap().next;
    let mut foreign = pool.begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *foreign).await.unwrap();
    for _ in 0..5 {
        let session = sign_in(&store).await;
        let read = read(&store, &mut cursor).await;
        assert_eq!(read.iter().map(|event| event.session).collect::<Vec<_>>(), [Some(session.id)]);
    }
    foreign.rollback().await.unwrap();
    assert_eq!(read(&store, &mut cursor).await, []);
}

/// Late and early commits beside a reader that goes page by page.
#[tokio::test]
async fn late_entries_come_between_the_pages_of_a_long_read() {
    let _alone = ALONE.lock().await;
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(4).await);
    let mut cursor = store.log_since(None, 0).await.unwrap().next;
    let late = open_entry(&schema.0, &pool).await;
    for _ in 0..5 {
        sign_in(&store).await;
    }
    let page = store.log_since(Some(&cursor), 3).await.unwrap();
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
    let snapshot = seen["all_of"].as_str().unwrap();
    let ends = snapshot.split(':').filter_map(|end| end.parse::<u64>().ok());
    let ends: Vec<_> = ends.map(|end| (end + by).to_string()).collect();
    seen["all_of"] = (ends[..2].join(":") + ":").into();
    Cursor(serde_json::to_vec(&seen).unwrap())
}

/// A server that dies forgets transactions that failed just before, and gives their numbers to
/// others. Whoever had seen them fail has not seen what those do.
#[tokio::test]
async fn a_number_that_a_server_gives_again_hides_nothing() {
    let _alone = ALONE.lock().await;
    let schema = Schema::create().await;
    let store = schema.store().await;
    sign_in(&store).await;
    let mut cursor = ahead(&store.log_since(None, 0).await.unwrap().next, 5);
    let mut expected = Vec::new();
    for _ in 0..10 {
        expected.push(Some(sign_in(&store).await.id));
    }
    let told = read(&store, &mut cursor).await;
    assert_eq!(told.iter().map(|event| event.session).collect::<Vec<_>>(), expected);
    assert_eq!(read(&store, &mut cursor).await, []);
}

/// A dump has the numbers of the transactions of the server it is from. One that is younger has not
/// come so far, and its own are lower.
#[tokio::test]
async fn a_dump_restored_on_a_younger_server_goes_on() {
    let _alone = ALONE.lock().await;
    let schema = Schema::create().await;
    let (store, pool) = (schema.store().await, pool(1).await);
    sign_in(&store).await;
    let before = ahead(&store.log_since(None, 0).await.unwrap().next, FAR);
    let others = before.clone();
    sign_in(&store).await;
    let restored = format!(
        "UPDATE {0}.session_kit_log SET xid = (xid::text::bigint + {FAR})::text::xid8; \
         UPDATE {0}.session_kit_meta SET trimmed_xid = '{FAR}';",
        schema.0
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(restored)).execute(&pool).await.unwrap();
    let page = store.log_since(Some(&before), 10).await.unwrap();
    assert!(page.gap, "{page:?}");
    let mut cursor = page.next;
    assert_eq!(read(&store, &mut cursor).await, []);
    for _ in 0..3 {
        let session = sign_in(&store).await;
        let told = read(&store, &mut cursor).await;
        assert_eq!(told.iter().map(|event| event.session).collect::<Vec<_>>(), [Some(session.id)]);
        assert_eq!(read(&store, &mut cursor).await, []);
    }
    assert!(store.log_since(Some(&others), 10).await.unwrap().gap, "every node is told");
    assert_eq!(store.trim_log(now().plus(Duration::from_secs(60)), 100).await.unwrap(), 4);
    let session = sign_in(&store).await;
    let told = read(&store, &mut cursor).await;
    assert_eq!(told.iter().map(|event| event.session).collect::<Vec<_>>(), [Some(session.id)]);
}

/// Transactions, more than this server has had.
const FAR: u64 = 1 << 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_makes_a_revocation_immediate() {
    let _alone = ALONE.lock().await;
    let schema = Schema::create().await;
    let here = Engine::start(schema.store().await, Options::default()).await.unwrap();
    let there = Engine::start(schema.store().await, Options::default()).await.unwrap();
    let mut delays = Vec::new();
    for _ in 0..100 {
        let signed_in = here.sessions().sign_in(SignIn::new(owner())).await.unwrap();
        let token = signed_in.token.expose();
        let valid = there.sessions().validate(token.as_bytes(), Access::default()).await.unwrap();
        assert!(valid.session().is_some());
        here.sessions().revoke_user(owner(), Actor::Application).await.unwrap();
        let revoked = Instant::now();
        while there
            .sessions()
            .validate(token.as_bytes(), Access::default())
            .await
            .unwrap()
            .session()
            .is_some()
        {
            tokio::task::yield_now().await;
        }
        delays.push(revoked.elapsed());
    }
    delays.sort();
    println!(
        "refused by the other node after: median {:?}, 99th of 100 {:?}",
        delays[50], delays[98]
    );
    assert!(delays[98] < Duration::from_millis(50), "{delays:?}");
    here.shutdown().await;
    there.shutdown().await;
}

/// A database of its own, because PostgreSQL 18 counts like statements of all schemas together.
struct Counted {
    database: String,
    admin: PgPool,
}

impl Counted {
    async fn create() -> Self {
        let (database, admin) = (new_name(), pool(1).await);
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"));
        sqlx::query(create).execute(&admin).await.unwrap();
        let count = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements";
        sqlx::query(count).execute(&admin).await.unwrap();
        Self { database, admin }
    }

    async fn store(&self, options: &PostgresOptions) -> PostgresStore {
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
}

/// Statements per operation, counted by the server.
#[tokio::test]
async fn operations_cost_few_round_trips() {
    let counted = Counted::create().await;
    let mut options = PostgresOptions::default();
    options.push = false;
    let store = counted.store(&options).await;
    let [mut before] = counted.calls(["%session_kit_%"]).await;
    let mut spent = async || {
        let [now] = counted.calls(["%session_kit_%"]).await;
        now - std::mem::replace(&mut before, now)
    };
    let session = sign_in(&store).await;
    let sign_in = spent().await;
    store.load(session.id).await.unwrap();
    let load = spent().await;
    let touch = |n: i64| Touch {
        id: session.id,
        last_accessed: Timestamp::from_micros(session.signed_in.as_micros() + n),
        ip_addresses: Vec::new(),
    };
    store.touch(&(0..500).map(touch).collect::<Vec<_>>()).await.unwrap();
    let touch = spent().await;
    let query = PageQuery::live(TenantFilter::Any, Timeouts::none(), session.signed_in);
    store.page(&query).await.unwrap();
    let page = spent().await;
    let cursor = store.log_since(None, 0).await.unwrap().next;
    spent().await;
    store.log_since(Some(&cursor), 100).await.unwrap();
    let log = spent().await;
    assert_eq!(revoke(&store, session.id).await, 1);
    let revoked = spent().await;
    println!(
        "statements: sign-in {sign_in}, load {load}, touch of 500 {touch}, page {page}, log {log}, revoke {revoked}"
    );
    assert_eq!((sign_in, load, touch, page, log, revoked), (2, 1, 1, 1, 1, 2));
}

/// A node without work reads the log, and that is all: it goes on listening as it once began to.
#[tokio::test]
async fn an_idle_node_only_reads_the_log() {
    for push in [true, false] {
        let counted = Counted::create().await;
        let mut options = PostgresOptions::default();
        options.push = push;
        let mut often = Options::default();
        often.propagation_bound = Duration::from_millis(100);
        let node = Engine::start(counted.store(&options).await, often).await.unwrap();
        let begun = Instant::now();
        let until = async |reads, listens| loop {
            let calls = counted.calls(["%", "%pg_current_snapshot%", "%LISTEN%"]).await;
            if calls[1] >= reads && calls[2] >= listens {
                break calls;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{calls:?}");
        };
        let before = until(20, i64::from(push)).await;
        let after = until(before[1] + 20, 0).await;
        let [all, reads, listens] = [0, 1, 2].map(|n| after[n] - before[n]);
        println!("{all} statements, {reads} of them read the log");
        assert_eq!((before[2], listens), (i64::from(push), 0));
        assert!(all - reads <= 2, "{all} statements, {reads} of them read the log");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn migrations_are_printed_run_twice_and_a_newer_schema_is_refused() {
    let mut options = PostgresOptions::default();
    options.prefix = "auth_".to_owned();
    let printed = PostgresStore::migrations(&options).unwrap();
    assert!(printed[0].contains("CREATE TABLE auth_sessions"));
    assert!(
        !printed[0].contains("{t}")
            && !printed[0].contains("{i}")
            && !printed[0].contains("{channel}")
    );
    let schema = Schema::create().await;
    let (one, two) = tokio::join!(schema.store(), schema.store());
    sign_in(&one).await;
    assert_eq!(two.user(&owner()).await.unwrap().sessions.len(), 1);
    let newer = format!("INSERT INTO {}.session_kit_migrations (version) VALUES (1000)", schema.0);
    sqlx::query(sqlx::AssertSqlSafe(newer)).execute(&pool(1).await).await.unwrap();
    options.prefix = "session_kit_".to_owned();
    options.schema = Some(schema.0.clone());
    let error = PostgresStore::with_pool(pool(1).await, &options).await.unwrap_err();
    assert!(error.to_string().contains("version 1000"), "{error}");
}

/// Where transactions are stricter by default, a change fails because another is made beside it.
#[tokio::test]
async fn another_isolation_is_refused() {
    let strict: PgConnectOptions = url().parse().unwrap();
    let strict = strict.options([("default_transaction_isolation", "serializable")]);
    let pool = PgPool::connect_with(strict).await.unwrap();
    let error = PostgresStore::with_pool(pool, &PostgresOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("default_transaction_isolation"), "{error}");
}

/// The server is gone without a word: a typed error, then everything goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_are_opened_again() {
    let _alone = ALONE.lock().await;
    let schema = Schema::create().await;
    let node = Engine::start(schema.store().await, Options::default()).await.unwrap();
    let other = Engine::start(schema.store().await, Options::default()).await.unwrap();
    let admin = pool(1).await;
    for _ in 0..3 {
        let signed_in = other.sessions().sign_in(SignIn::new(owner())).await.unwrap();
        let token = signed_in.token.expose();
        let valid = node.sessions().validate(token.as_bytes(), Access::default()).await.unwrap();
        assert!(valid.session().is_some());
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE pid <> pg_backend_pid() AND query LIKE $1";
        sqlx::query(cut).bind(format!("%{}%", schema.0)).execute(&admin).await.unwrap();
        other.sessions().revoke_user(owner(), Actor::Application).await.unwrap();
        let begun = Instant::now();
        while node
            .sessions()
            .validate(token.as_bytes(), Access::default())
            .await
            .is_ok_and(|v| v.session().is_some())
        {
            assert!(begun.elapsed() < Duration::from_secs(5), "the log is heard again");
            tokio::task::yield_now().await;
        }
    }
    node.shutdown().await;
    other.shutdown().await;
}

/// What the functions do cannot be explained from outside; the server counts the rows they read.
#[tokio::test]
async fn no_function_walks_a_table() {
    let Schema(schema) = Schema::create().await;
    let one = pool(1).await;
    let mut options = PostgresOptions::default();
    options.schema = Some(schema.clone());
    let store = PostgresStore::with_pool(one.clone(), &options).await.unwrap();
    let fill = format!(
        "SET search_path = {schema}; \
        INSERT INTO session_kit_sessions SELECT decode(md5(n::text), 'hex'), '', \
            'user ' || n % 5000, 'Web', NULL, NULL, '', n, n, n, n + 1000000, NULL, '\\x', '\\x', \
            NULL, NULL FROM generate_series(1, 50000) AS n; \
        INSERT INTO session_kit_users SELECT '', 'user ' || n, n FROM generate_series(0, 4999) AS n; \
        INSERT INTO session_kit_log (kind, at, actor, tenant) \
            SELECT 'created', n, 'system', '' FROM generate_series(1, 50000) AS n; \
        ANALYZE session_kit_sessions; ANALYZE session_kit_users; ANALYZE session_kit_log;"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(&one).await.unwrap();

    let mut before = walked(&one, &schema).await;
    let check = async |what: &str| {
        let now = walked(&one, &schema).await;
        let rows = now - std::mem::replace(&mut before, now);
        println!("{what} reads {rows} rows");
        assert!(rows < 200, "{what} reads {rows} rows");
    };
    operations::all(&store, check).await;

    let whole = "SELECT COUNT(device_kind) FROM session_kit_sessions";
    sqlx::query(whole).fetch_one(&one).await.unwrap();
    let now = walked(&one, &schema).await;
    assert!(now > before + 40_000, "the server counts what is asked for");
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

//! The MySQL store under the conformance kit, on a real server, and what is its own.

mod blocks;
mod clock;
#[path = "../clocks/mod.rs"]
mod clocks;
#[path = "../leases/mod.rs"]
mod leases;
mod locks;
mod log;
#[path = "../operations/mod.rs"]
mod operations;
#[path = "../restored/mod.rs"]
mod restored;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use session_conformance::sample::{self, PATIENCE, insert, now, user};
use session_conformance::{Backend, Namespace, RestorePoint};
use session_core::store::{
    Change, Commit, Entries, Outcome, PageQuery, Selection, Sweep, TenantFilter, Touch,
};
use session_core::{
    Actor, EndCause, Session, SessionId, Store, StoreErrorKind, Timestamp, UserKey,
};
use session_store_sql::{MySqlOptions, MySqlStore};
use sqlx::Connection;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};

fn server() -> MySqlConnectOptions {
    std::env::var("SESSION_KIT_MYSQL_URL")
        .expect("SESSION_KIT_MYSQL_URL names a server; `cargo xtask test` starts one")
        .parse()
        .unwrap()
}

async fn pool(options: MySqlConnectOptions, connections: u32) -> MySqlPool {
    let pool = MySqlPoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE);
    pool.connect_with(options).await.unwrap()
}

struct MySql;

/// A database of its own.
struct Database(String);

impl Database {
    async fn create() -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let name = format!("kit_{:x}", u64::from_be_bytes(random));
        let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(statement).execute(&pool(server(), 1).await).await.unwrap();
        Self(name)
    }

    async fn store(&self) -> MySqlStore {
        let pool = pool(server().database(&self.0), 4).await;
        MySqlStore::with_pool(pool, MySqlOptions::default()).await.unwrap()
    }

    /// The connection of another program.
    async fn connection(&self) -> MySqlConnection {
        MySqlConnection::connect_with(&server().database(&self.0)).await.unwrap()
    }
}

#[async_trait::async_trait]
impl Backend for MySql {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(Database::create().await)
    }
}

#[async_trait::async_trait]
impl Namespace for Database {
    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(self.store().await)
    }

    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        let mut other = self.connection().await;
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {}_copy", self.0));
        sqlx::raw_sql(create).execute(&mut other).await.unwrap();
        let all = "SELECT CONVERT(table_name USING utf8mb4) FROM information_schema.tables \
            WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'";
        let tables: Vec<String> = sqlx::query_scalar(all).fetch_all(&mut other).await.unwrap();
        for table in &tables {
            let copy = format!("CREATE TABLE {}_copy.{table} SELECT * FROM {table}", self.0);
            sqlx::raw_sql(sqlx::AssertSqlSafe(copy)).execute(&mut other).await.unwrap();
        }
        Some(Box::new(Copy { database: Self(self.0.clone()), tables }))
    }

    async fn remember_alive(&self, id: SessionId) -> bool {
        let remember = sqlx::AssertSqlSafe(format!("{}?", restored::REMEMBER_ALIVE));
        let remember = sqlx::query(remember).bind(id.as_bytes().to_vec());
        remember.execute(&mut self.connection().await).await.unwrap();
        true
    }

    async fn damage(&self, id: SessionId) -> bool {
        let mut other = self.connection().await;
        for table in ["session_kit_sessions", "session_kit_history"] {
            let damage = format!("UPDATE {table} SET ip_addresses = 'nowhere' WHERE id = ?");
            let damage = sqlx::query(sqlx::AssertSqlSafe(damage)).bind(id.as_bytes().to_vec());
            damage.execute(&mut other).await.unwrap();
        }
        true
    }

    async fn damage_settings(&self, owner: &UserKey) -> bool {
        let damage = "UPDATE session_kit_policies SET policy = '{', block = '{' \
            WHERE tenant = ? AND user_id = ?";
        let damage = sqlx::query(damage).bind(owner.tenant_text()).bind(owner.user.as_str());
        damage.execute(&mut self.connection().await).await.unwrap().rows_affected() == 1
    }

    async fn damage_log(&self, id: SessionId) -> bool {
        let damage = "UPDATE session_kit_log SET user_id = '' WHERE session_id = ?";
        let damage = sqlx::query(damage).bind(id.as_bytes().to_vec());
        damage.execute(&mut self.connection().await).await.unwrap();
        true
    }
}

/// What a dump has of a database.
struct Copy {
    database: Database,
    tables: Vec<String>,
}

#[async_trait::async_trait]
impl RestorePoint for Copy {
    /// As into an empty database: the ids of the log go on from those of the copy.
    async fn restore(self: Box<Self>) {
        let mut other = self.database.connection().await;
        for table in &self.tables {
            let name = &self.database.0;
            let restore =
                format!("TRUNCATE {table}; INSERT INTO {table} SELECT * FROM {name}_copy.{table}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(restore)).execute(&mut other).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let report = session_conformance::run(Arc::new(MySql)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

async fn session(store: &MySqlStore, name: &str) -> Session {
    sample::session(store, &user(name), now(store).await)
}

fn touch(id: SessionId, micros: i64) -> Touch {
    let at = Timestamp::from_micros(micros);
    Touch { id, last_accessed: at, deadline: at, claimed: true, ip_addresses: Vec::new() }
}

/// Reads and commits once, as an engine does.
async fn sign_in(store: &MySqlStore, session: &Session, ends: Option<SessionId>) -> Outcome {
    let expected = store.user(&session.owner).await.unwrap().version;
    let end = ends.map(|id| Change::End(id, EndCause::Evicted));
    let begin = Change::Insert(Box::new(session.clone()));
    let commit = Commit {
        owner: session.owner.clone(),
        expected,
        changes: end.into_iter().chain([begin]).collect(),
        at: session.signed_in,
        by: Actor::System,
        from: None,
    };
    store.commit(&commit).await.unwrap()
}

/// Statements per operation, counted by the server on the store's only connection.
#[tokio::test]
async fn operations_cost_a_known_number_of_round_trips() {
    let database = Database::create().await;
    let one = pool(server().database(&database.0), 1).await;
    let store = MySqlStore::with_pool(one.clone(), MySqlOptions::default()).await.unwrap();
    let mut asked = 0;
    let mut before = 0;
    let mut spent = async || -> u64 {
        let (_, now): (String, String) =
            sqlx::query_as("SHOW SESSION STATUS LIKE 'Questions'").fetch_one(&one).await.unwrap();
        asked += 1;
        let now = now.parse::<u64>().unwrap() - asked;
        now - std::mem::replace(&mut before, now)
    };
    let (first, mine) = (session(&store, "alice").await, session(&store, "alice").await);
    let carol = session(&store, "carol").await;
    // What a connection asks for once is not a cost of an operation.
    insert(&store, &session(&store, "bob").await).await;
    spent().await;
    assert_eq!(sign_in(&store, &first, None).await, Outcome::Done);
    let begun = spent().await;
    assert_eq!(sign_in(&store, &mine, Some(first.id)).await, Outcome::Done);
    let evicted = spent().await;
    store.load(mine.id).await.unwrap();
    let load = spent().await;
    let at = mine.last_accessed.as_micros();
    store.touch(&(0..500).map(|n| touch(mine.id, at + n)).collect::<Vec<_>>()).await.unwrap();
    let touch = spent().await;
    let query = PageQuery::live(TenantFilter::Any, mine.signed_in);
    assert_eq!(store.page(&query).await.unwrap().sessions.len(), 2);
    let page = spent().await;
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    spent().await;
    store.log_since(Some(&cursor), Entries::All, 100).await.unwrap();
    let idle = spent().await;
    insert(&store, &carol).await;
    spent().await;
    let read = store.log_since(Some(&cursor), Entries::All, 100).await.unwrap();
    assert_eq!(read.events.len(), 1);
    let log = spent().await;
    let end = sample::end(&store, Selection::session(mine.id, TenantFilter::Any)).await;
    spent().await;
    assert_eq!(store.end_many(&end, 10).await.unwrap().ended.len(), 1);
    let revoked = spent().await;
    assert_eq!(store.ended(mine.id).await.unwrap().unwrap().session.id, mine.id);
    let ended = spent().await;
    println!(
        "statements: sign-in {begun}, sign-in that evicts {evicted}, load {load}, \
            touch of 500 {touch}, page {page}, idle log {idle}, log {log}, revoke {revoked}, \
            ended {ended}"
    );
    assert_eq!((begun, evicted, load, touch, page), (2, 2, 1, 1, 1));
    assert_eq!((idle, log, revoked, ended), (1, 1, 2, 1));
}

/// What is compared is bytes, also where the server's collation folds case and trailing spaces.
#[tokio::test]
async fn names_that_a_collation_would_fold_are_different_users() {
    let database = Database::create().await;
    let store = database.store().await;
    let names = ["alice", "ALICE", "alice ", "\u{e1}lice", "a\u{301}lice", "\u{1F511}"];
    for name in names {
        insert(&store, &session(&store, name).await).await;
    }
    for name in names {
        assert_eq!(store.user(&user(name)).await.unwrap().sessions.len(), 1, "{name}");
    }
}

#[tokio::test]
async fn times_keep_their_microseconds() {
    let database = Database::create().await;
    let store = database.store().await;
    let mut session = session(&store, "alice").await;
    session.signed_in = Timestamp::from_micros(1_780_000_000_123_457);
    session.last_accessed = session.signed_in;
    insert(&store, &session).await;
    let to = session.signed_in.as_micros() + 1;
    assert_eq!(store.touch(&[touch(session.id, to)]).await.unwrap(), []);
    let loaded = store.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(loaded.signed_in, session.signed_in);
    assert_eq!(loaded.last_accessed.as_micros(), to);
}

#[tokio::test]
async fn a_session_that_the_history_knows_ends_all_the_same() {
    let database = Database::create().await;
    let mut other = database.connection().await;
    let know_all = async || {
        sqlx::query(restored::KNOW_ALL).execute(&mut other).await.unwrap();
    };
    restored::ends_what_the_history_knows(&database.store().await, know_all).await;
}

#[tokio::test]
async fn a_session_without_its_user_ends_all_the_same() {
    let database = Database::create().await;
    let mut other = database.connection().await;
    let forget_users = async || {
        sqlx::query(restored::FORGET_USERS).execute(&mut other).await.unwrap();
    };
    restored::ends_what_has_no_user(&database.store().await, forget_users).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_taken_in_parallel_never_fail() {
    let database = Database::create().await;
    leases::taken_in_parallel([database.connect().await, database.connect().await]).await;
}

#[tokio::test]
async fn leases_that_ran_out_are_deleted_in_parts() {
    let database = Database::create().await;
    let one = pool(server().database(&database.0), 1).await;
    let store = MySqlStore::with_pool(one.clone(), MySqlOptions::default()).await.unwrap();
    let fill = "INSERT INTO session_kit_leases (name, holder, until) \
        WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 30000) \
        SELECT CONCAT('ticket ', n), 'issued', UTC_TIMESTAMP(6) - INTERVAL n SECOND FROM numbers";
    sqlx::raw_sql("SET SESSION max_recursive_iterations = 100000").execute(&one).await.ok();
    sqlx::raw_sql("SET SESSION cte_max_recursion_depth = 100000").execute(&one).await.ok();
    sqlx::raw_sql(fill).execute(&one).await.unwrap();
    let left = async || {
        let left = "SELECT COUNT(*), COUNT(IF(name = 'ticket 30000', 1, NULL)) > 0 \
            FROM session_kit_leases WHERE until <= UTC_TIMESTAMP(6)";
        sqlx::query_as(left).fetch_one(&one).await.unwrap()
    };
    leases::deleted_in_parts(&store, left).await;
    let before = walked(&one).await;
    assert!(store.lease("another", "node", PATIENCE).await.unwrap());
    let rows = walked(&one).await - before;
    assert!(rows < 500, "a lease reads {rows} rows one after the other");
}

/// Where the server is not strict, the column would cut them.
#[tokio::test]
async fn names_of_leases_are_refused_and_not_cut() {
    let database = Database::create().await;
    let lax = MySqlPoolOptions::new().after_connect(|connection, _| {
        Box::pin(async { sqlx::query("SET sql_mode = ''").execute(connection).await.map(drop) })
    });
    let lax = lax.connect_with(server().database(&database.0)).await.unwrap();
    let store = MySqlStore::with_pool(lax, MySqlOptions::default()).await.unwrap();
    let [longest, too_long] = [128, 129].map(|length| "n".repeat(length));
    assert!(store.lease(&longest, "one", PATIENCE).await.unwrap());
    for (name, holder) in [(&too_long, "two"), (&longest, &*too_long)] {
        let error = store.lease(name, holder, PATIENCE).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Refused, "{error}");
    }
    assert!(!store.lease(&longest, "two", PATIENCE).await.unwrap());
}

/// What the procedures do cannot be explained from outside; the server counts the rows they read.
#[tokio::test]
async fn no_procedure_walks_a_table() {
    let database = Database::create().await;
    let one = pool(server().database(&database.0), 1).await;
    let store = MySqlStore::with_pool(one.clone(), MySqlOptions::default()).await.unwrap();
    let fill = format!(
        "{} INSERT INTO session_kit_sessions SELECT UNHEX(LEFT(SHA2(n, 256), 32)), '', \
            CONCAT('user ', n % 1000), 'Web', NULL, '', n, n, n, 0, '{{}}', n FROM numbers; \
        INSERT INTO session_kit_history SELECT UNHEX(LEFT(SHA2(-1 - n, 256), 32)), '', \
            CONCAT('gone ', n % 1000), 'Web', NULL, '', n, n, n, 0, '{{}}', n, 'evicted', 'system', \
            NULL FROM numbers; \
        INSERT INTO session_kit_users SELECT '', CONCAT('user ', n), n FROM numbers WHERE n < 1000; \
        INSERT INTO session_kit_log SELECT n + 1, n, 'created', n, 'system', '', NULL, NULL \
            FROM numbers; \
        UPDATE session_kit_state SET settled = 10000; \
        ANALYZE TABLE session_kit_sessions, session_kit_history, session_kit_users, \
            session_kit_log;",
        ten_thousand()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(&one).await.unwrap();

    let asking = walked(&one).await;
    let asking = walked(&one).await - asking;
    let mut before = walked(&one).await;
    let check = async |what: &str, most| {
        let now = walked(&one).await;
        let rows = now - std::mem::replace(&mut before, now) - asking;
        println!("{what} reads {rows} rows one after the other");
        assert!(rows < most, "{what} reads {rows} rows one after the other");
    };
    operations::all(&store, check).await;

    let whole = "SELECT COUNT(details) FROM session_kit_sessions";
    sqlx::query(whole).fetch_one(&one).await.unwrap();
    assert!(walked(&one).await > before + 9_000, "the server counts what is asked for");
}

/// Sessions that began long ago and are in use: the cleanup does not pass over them in each call.
#[tokio::test]
async fn a_cleanup_reads_what_it_ends() {
    let database = Database::create().await;
    let one = pool(server().database(&database.0), 1).await;
    let store = MySqlStore::with_pool(one.clone(), MySqlOptions::default()).await.unwrap();
    // One of twenty is not in use.
    let fill = format!(
        "{} INSERT INTO session_kit_sessions SELECT UNHEX(LEFT(SHA2(n, 256), 32)), '', \
            CONCAT('user ', n), 'Web', NULL, '', n, n, IF(n % 20 = 0, n + 1, 1 << 60), 0, '{{}}', \
            IF(n % 20 = 0, n + 1, 1 << 60) FROM numbers; \
        INSERT INTO session_kit_users SELECT '', CONCAT('user ', n), n FROM numbers; \
        ANALYZE TABLE session_kit_sessions, session_kit_users;",
        ten_thousand()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(&one).await.unwrap();
    let (overdue, at) = (Duration::from_secs(30 * 24 * 3600), now(&store).await);
    let (mut after, mut before) = (None, walked(&one).await);
    for n in 0..6 {
        let batch = store.sweep(&Sweep { overdue, after, at }, 100).await.unwrap();
        let read = walked(&one).await - before;
        println!("call {n} reads {read} rows one after the other");
        let (ended, most) = if n < 5 { (100, 100 * 30) } else { (0, 200) };
        assert_eq!(batch.ended.len(), ended, "call {n}");
        assert!(read < most, "call {n} reads {read} rows one after the other");
        after = batch.next;
        before = walked(&one).await;
    }
    assert_eq!(after, None);
}

/// The table `numbers`, from 0 on.
fn ten_thousand() -> String {
    let digits = "(SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 \
        UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    format!(
        "CREATE TABLE numbers SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS n \
            FROM {digits} AS a, {digits} AS b, {digits} AS c, {digits} AS e;"
    )
}

/// Rows that this connection has read in the order of a table or an index.
async fn walked(connection: &MySqlPool) -> i64 {
    let counters: Vec<(String, String)> = sqlx::query_as(
        "SHOW SESSION STATUS WHERE Variable_name IN \
        ('Handler_read_next', 'Handler_read_prev', 'Handler_read_rnd_next')",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    assert_eq!(counters.len(), 3);
    counters.iter().map(|(_, value)| value.parse::<i64>().unwrap()).sum()
}

//! The MySQL store under the conformance kit, on a real server, and what is its own.

mod operations;

use std::collections::HashSet;
use std::sync::Arc;

use session_conformance::sample::{self, PATIENCE, insert, now, options, revoke, user};
use session_conformance::{Backend, Namespace};
use session_core::checker::Timeouts;
use session_core::store::{Change, Commit, Entries, PageQuery, TenantFilter, Touch};
use session_core::{Actor, Session, SessionId, Store, StoreErrorKind, Timestamp};
use session_engine::{Access, Engine, SignIn};
use session_store_sql::{MySqlOptions, MySqlStore};
use sqlx::Connection;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use tokio::time::Instant;

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
        MySqlStore::with_pool(pool, &MySqlOptions::default()).await.unwrap()
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
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let report = session_conformance::run(Arc::new(MySql)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

fn session(store: &MySqlStore, name: &str) -> Session {
    sample::session(store, &user(name), now())
}

fn touch(id: SessionId, micros: i64) -> Touch {
    Touch { id, last_accessed: Timestamp::from_micros(micros), ip_addresses: Vec::new() }
}

/// Statements per operation, counted by the server on the store's only connection.
#[tokio::test]
async fn operations_cost_a_known_number_of_round_trips() {
    let database = Database::create().await;
    let one = pool(server().database(&database.0), 1).await;
    let store = MySqlStore::with_pool(one.clone(), &MySqlOptions::default()).await.unwrap();
    let mut asked = 0;
    let mut before = 0;
    let mut spent = async || -> u64 {
        let (_, now): (String, String) =
            sqlx::query_as("SHOW SESSION STATUS LIKE 'Questions'").fetch_one(&one).await.unwrap();
        asked += 1;
        let now = now.parse::<u64>().unwrap() - asked;
        now - std::mem::replace(&mut before, now)
    };
    let mine = session(&store, "alice");
    // What a connection asks for once is not a cost of an operation.
    insert(&store, &session(&store, "bob")).await;
    spent().await;
    insert(&store, &mine).await;
    let sign_in = spent().await;
    store.load(mine.id).await.unwrap();
    let load = spent().await;
    let at = mine.last_accessed.as_micros();
    store.touch(&(0..500).map(|n| touch(mine.id, at + n)).collect::<Vec<_>>()).await.unwrap();
    let touch = spent().await;
    let query = PageQuery::live(TenantFilter::Any, Timeouts::none(), mine.signed_in);
    assert_eq!(store.page(&query).await.unwrap().sessions.len(), 2);
    let page = spent().await;
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    spent().await;
    store.log_since(Some(&cursor), Entries::All, 100).await.unwrap();
    let log = spent().await;
    assert_eq!(revoke(&store, mine.id).await, 1);
    let revoked = spent().await;
    println!(
        "statements: sign-in {sign_in}, load {load}, touch of 500 {touch}, page {page}, log {log}, revoke {revoked}"
    );
    assert_eq!((sign_in, load, touch, page, log, revoked), (2, 1, 1, 1, 1, 2));
}

/// What is compared is bytes, also where the server's collation folds case and trailing spaces.
#[tokio::test]
async fn names_that_a_collation_would_fold_are_different_users() {
    let database = Database::create().await;
    let store = database.store().await;
    let names = ["alice", "ALICE", "alice ", "\u{e1}lice", "a\u{301}lice", "\u{1F511}"];
    for name in names {
        insert(&store, &session(&store, name)).await;
    }
    for name in names {
        assert_eq!(store.user(&user(name)).await.unwrap().sessions.len(), 1, "{name}");
    }
}

#[tokio::test]
async fn times_keep_their_microseconds() {
    let database = Database::create().await;
    let store = database.store().await;
    let mut session = session(&store, "alice");
    session.signed_in = Timestamp::from_micros(1_780_000_000_123_457);
    session.last_accessed = session.signed_in;
    insert(&store, &session).await;
    let to = session.signed_in.as_micros() + 1;
    assert_eq!(store.touch(&[touch(session.id, to)]).await.unwrap(), []);
    let loaded = store.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(loaded.signed_in, session.signed_in);
    assert_eq!(loaded.last_accessed.as_micros(), to);
}

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
        .connect_with(options.clone())
        .await
        .unwrap();
    let store = Arc::new(MySqlStore::with_pool(short, &MySqlOptions::default()).await.unwrap());
    let other = MySqlConnection::connect_with(&options).await.unwrap();
    (database, store, other)
}

/// Another program holds a row: ours waits in vain, and tries again until it is through.
#[tokio::test(flavor = "multi_thread")]
async fn locks_of_others_are_waited_for() {
    let (database, store, mut other) = store_beside_another().await;
    let session = session(&store, "alice");
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
    let lock = "SELECT last FROM session_kit_counter FOR UPDATE";
    sqlx::query(lock).fetch_one(&mut *held).await.unwrap();
    let begun = Instant::now();
    let blocked = session(&store, "bob");
    let commit = Commit {
        owner: blocked.owner.clone(),
        expected: store.user(&blocked.owner).await.unwrap().version,
        changes: vec![Change::Insert(Box::new(blocked.clone()))],
        at: blocked.signed_in,
        by: Actor::Application,
    };
    let error = store.commit(&commit).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    held.rollback().await.unwrap();
    assert!(store.load(blocked.id).await.unwrap().is_none(), "nothing is half done");
    insert(store.as_ref(), &blocked).await;
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
async fn cut(admin: &MySqlPool, database: &Database) {
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

/// What the client program sends at once. Between `DELIMITER` lines that is one statement, and no
/// other holds a semicolon in its middle.
fn as_the_client_cuts(script: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for (n, part) in script.split("DELIMITER ").enumerate() {
        let (delimiter, body) = if n == 0 { (";", part) } else { part.split_once('\n').unwrap() };
        let statements = body.split(delimiter).map(str::trim);
        parts.extend(statements.filter(|text| !text.is_empty()).map(str::to_owned));
    }
    parts
}

#[tokio::test]
async fn printed_migrations_may_be_run_by_hand_and_a_newer_schema_is_refused() {
    let database = Database::create().await;
    let options = server().database(&database.0);
    let mut connection = MySqlConnection::connect_with(&options).await.unwrap();
    for script in MySqlStore::migrations(&MySqlOptions::default()).unwrap() {
        assert!(!script.contains('{'), "{script}");
        for part in as_the_client_cuts(&script) {
            sqlx::raw_sql(sqlx::AssertSqlSafe(part)).execute(&mut connection).await.unwrap();
        }
    }
    let store = database.store().await;
    insert(&store, &session(&store, "alice")).await;
    let newer = "INSERT INTO session_kit_migrations (version) VALUES (1000)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    let pool = pool(options, 1).await;
    let error = MySqlStore::with_pool(pool, &MySqlOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("version 1000"), "{error}");
}

/// Connections on which reads would see too much or too little.
#[tokio::test]
async fn settings_that_break_a_promise_are_refused() {
    let database = Database::create().await;
    for (set, field) in [
        ("SET autocommit = 0", "autocommit"),
        ("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", "transaction_isolation"),
    ] {
        let pool = MySqlPoolOptions::new()
            .after_connect(move |connection, _| {
                Box::pin(async move { sqlx::query(set).execute(connection).await.map(drop) })
            })
            .connect_with(server().database(&database.0))
            .await
            .unwrap();
        let error = MySqlStore::with_pool(pool, &MySqlOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[tokio::test]
async fn a_schema_of_the_first_version_is_brought_up_to_date() {
    let database = Database::create().await;
    let mut connection =
        MySqlConnection::connect_with(&server().database(&database.0)).await.unwrap();
    let first = MySqlStore::migrations(&MySqlOptions::default()).unwrap().swap_remove(0);
    sqlx::raw_sql(sqlx::AssertSqlSafe(first)).execute(&mut connection).await.unwrap();
    let version = "SELECT MAX(version) FROM session_kit_migrations";
    let before: i64 = sqlx::query_scalar(version).fetch_one(&mut connection).await.unwrap();
    let store = database.store().await;
    insert(&store, &session(&store, "alice")).await;
    let after: i64 = sqlx::query_scalar(version).fetch_one(&mut connection).await.unwrap();
    assert_eq!((before, after), (1, 2));
}

/// What the procedures do cannot be explained from outside; the server counts the rows they read.
#[tokio::test]
async fn no_procedure_walks_a_table() {
    let database = Database::create().await;
    let one = pool(server().database(&database.0), 1).await;
    let store = MySqlStore::with_pool(one.clone(), &MySqlOptions::default()).await.unwrap();
    let digits = "(SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 \
        UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    let fill = format!(
        "CREATE TABLE numbers SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS n \
            FROM {digits} AS a, {digits} AS b, {digits} AS c, {digits} AS e; \
        INSERT INTO session_kit_sessions SELECT UNHEX(LEFT(SHA2(n, 256), 32)), '', \
            CONCAT('user ', n % 1000), 'Web', NULL, NULL, '', n, n, n, n + 1000000, NULL, '', '', \
            NULL, NULL FROM numbers; \
        INSERT INTO session_kit_users SELECT '', CONCAT('user ', n), n FROM numbers WHERE n < 1000; \
        INSERT INTO session_kit_log SELECT n + 1, n, 'created', n, 'system', '', NULL, NULL \
            FROM numbers; \
        UPDATE session_kit_counter SET last = 10000; \
        ANALYZE TABLE session_kit_sessions, session_kit_users, session_kit_log;"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(&one).await.unwrap();

    let asking = walked(&one).await;
    let asking = walked(&one).await - asking;
    let mut before = walked(&one).await;
    let check = async |what: &str| {
        let now = walked(&one).await;
        let rows = now - std::mem::replace(&mut before, now) - asking;
        println!("{what} reads {rows} rows one after the other");
        assert!(rows < 200, "{what} reads {rows} rows one after the other");
    };
    operations::all(&store, check).await;

    let whole = "SELECT COUNT(device_info) FROM session_kit_sessions";
    sqlx::query(whole).fetch_one(&one).await.unwrap();
    assert!(walked(&one).await > before + 9_000, "the server counts what is asked for");
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

/// Numbers have no holes: whoever finds one that stays knows that the log was cut.
#[tokio::test]
async fn a_hole_in_the_log_is_noticed() {
    let database = Database::create().await;
    let store = database.store().await;
    let start = store.log_since(None, Entries::All, 0).await.unwrap().next;
    for name in ["alice", "bob", "carol"] {
        insert(&store, &session(&store, name)).await;
    }
    let options = server().database(&database.0);
    let mut connection = MySqlConnection::connect_with(&options).await.unwrap();
    let cut = "DELETE FROM session_kit_log WHERE seq = 2";
    assert_eq!(sqlx::query(cut).execute(&mut connection).await.unwrap().rows_affected(), 1);
    let page = store.log_since(Some(&start), Entries::All, 10).await.unwrap();
    assert!(page.gap, "{page:?}");
    insert(&store, &session(&store, "dave")).await;
    assert_eq!(store.log_since(Some(&page.next), Entries::All, 10).await.unwrap().events.len(), 1);
}

//! The PostgreSQL store under the conformance kit, on a real server, and what is its own.

mod blocks;
mod clock;
#[path = "../clocks/mod.rs"]
mod clocks;
#[path = "../leases/mod.rs"]
mod leases;
mod log;
#[path = "../operations/mod.rs"]
mod operations;
mod pooler;
#[path = "../restored/mod.rs"]
mod restored;
mod statements;
mod upkeep;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use session_conformance::sample::{self, PATIENCE, options, options_for_hints, user};
use session_conformance::{Backend, Namespace, RestorePoint};
use session_core::store::{Change, Commit, Outcome};
use session_core::{Actor, Session, SessionId, Store, StoreErrorKind, Timestamp, UserKey};
use session_engine::{Access, Engine, SignIn};
use session_store_sql::{PostgresOptions, PostgresStore};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

fn url() -> String {
    std::env::var("SESSION_KIT_POSTGRES_URL")
        .expect("SESSION_KIT_POSTGRES_URL names a server; `cargo xtask test` starts one")
}

async fn pool(connections: u32) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE);
    pool.connect(&url()).await.unwrap()
}

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

    /// Runs statements, in which this schema is `{s}`.
    async fn run(&self, script: &str) {
        let script = sqlx::AssertSqlSafe(script.replace("{s}", &self.0));
        sqlx::raw_sql(script).execute(&pool(1).await).await.unwrap();
    }

    async fn store(&self) -> PostgresStore {
        let mut options = PostgresOptions::default();
        options.schema = Some(self.0.clone());
        PostgresStore::with_pool(pool(4).await, options).await.unwrap()
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

    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        let mut script =
            "BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE SCHEMA {s}_copy;".to_owned();
        for table in TABLES {
            script +=
                &format!("CREATE TABLE {{s}}_copy.{table} AS TABLE {{s}}.session_kit_{table};");
        }
        self.run(&(script + "COMMIT")).await;
        Some(Box::new(Copy(Self(self.0.clone()))))
    }

    async fn remember_alive(&self, id: SessionId) -> bool {
        let remember =
            restored::REMEMBER_ALIVE.replace("session_kit_", &format!("{}.session_kit_", self.0));
        let remember =
            sqlx::query(sqlx::AssertSqlSafe(remember + "$1")).bind(id.as_bytes().to_vec());
        remember.execute(&pool(1).await).await.unwrap();
        true
    }

    async fn damage(&self, id: SessionId) -> bool {
        let pool = pool(1).await;
        for table in ["sessions", "history"] {
            let table = format!("{}.session_kit_{table}", self.0);
            let damage = format!("UPDATE {table} SET ip_addresses = 'nowhere' WHERE id = $1");
            let damage = sqlx::query(sqlx::AssertSqlSafe(damage)).bind(id.as_bytes().to_vec());
            damage.execute(&pool).await.unwrap();
        }
        true
    }

    async fn damage_settings(&self, owner: &UserKey) -> bool {
        let damage = format!(
            "UPDATE {}.session_kit_policies SET policy = '{{', block = '{{' \
                WHERE tenant = $1 AND user_id = $2",
            self.0
        );
        let damage = sqlx::query(sqlx::AssertSqlSafe(damage));
        let damage = damage.bind(owner.tenant_text()).bind(owner.user.as_str());
        damage.execute(&pool(1).await).await.unwrap().rows_affected() == 1
    }

    async fn damage_log(&self, id: SessionId) -> bool {
        let log = format!("{}.session_kit_log", self.0);
        let damage = format!("UPDATE {log} SET user_id = '' WHERE session_id = $1");
        let damage = sqlx::query(sqlx::AssertSqlSafe(damage)).bind(id.as_bytes().to_vec());
        damage.execute(&pool(1).await).await.unwrap();
        true
    }
}

/// All that a dump has of a schema.
struct Copy(Schema);

#[async_trait::async_trait]
impl RestorePoint for Copy {
    /// As into an empty schema: the numbers of the log go on from those of the copy.
    async fn restore(self: Box<Self>) {
        let mut script = "BEGIN;".to_owned();
        for table in TABLES.into_iter().filter(|table| *table != "log_numbers") {
            script += &RESTORE.replace("{table}", table);
        }
        script += "SELECT setval('{s}.session_kit_log_numbers', last_value, is_called) \
            FROM {s}_copy.log_numbers; COMMIT";
        self.0.run(&script).await;
    }
}

const TABLES: [&str; 9] = [
    "meta",
    "users",
    "sessions",
    "history",
    "log",
    "policies",
    "leases",
    "migrations",
    "log_numbers",
];
/// A column that is worked out cannot be written.
const RESTORE: &str = "DO $$ DECLARE columns text; BEGIN \
        SELECT string_agg(column_name, ', ') INTO columns FROM information_schema.columns \
            WHERE table_schema = '{s}' AND table_name = 'session_kit_{table}' \
            AND is_generated = 'NEVER'; \
        TRUNCATE {s}.session_kit_{table}; \
        EXECUTE format('INSERT INTO {s}.session_kit_{table} (%s) SELECT %s FROM {s}_copy.{table}', \
            columns, columns); \
    END $$;";

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let report = session_conformance::run(Arc::new(Postgres)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

/// An operator may partition the table without a word in the code.
#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee_on_a_table_partitioned_by_user() {
    let report = session_conformance::run(Arc::new(Partitioned)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

fn owner() -> UserKey {
    user("alice")
}

/// The time by this host's clock: the store's would be a statement that the tests count.
fn now() -> Timestamp {
    Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap())
}

async fn commit(store: &dyn Store, owner: &UserKey, changes: Vec<Change>) -> Outcome {
    let expected = store.user(owner).await.unwrap().version;
    let (owner, at, by) = (owner.clone(), now(), Actor::Application);
    store.commit(&Commit { owner, expected, changes, at, by, from: None }).await.unwrap()
}

async fn sign_in_as(store: &dyn Store, owner: &UserKey) -> Session {
    let session = sample::session(store, owner, now());
    let insert = Change::Insert(Box::new(session.clone()));
    assert_eq!(commit(store, owner, vec![insert]).await, Outcome::Done);
    session
}

async fn sign_in(store: &PostgresStore) -> Session {
    sign_in_as(store, &owner()).await
}

/// The nodes read the log by themselves far too rarely.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_makes_a_revocation_immediate() {
    let schema = Schema::create().await;
    let here = Engine::start(schema.store().await, options_for_hints()).await.unwrap();
    let there = Engine::start(schema.store().await, options_for_hints()).await.unwrap();
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
            assert!(revoked.elapsed() < PATIENCE, "no hint is heard");
            tokio::task::yield_now().await;
        }
        delays.push(revoked.elapsed());
    }
    delays.sort();
    println!(
        "refused by the other node after: median {:?}, 99th of 100 {:?}",
        delays[50], delays[98]
    );
    here.shutdown().await;
    there.shutdown().await;
}

#[tokio::test]
async fn migrations_are_printed_run_twice_and_a_newer_schema_says_who_may_use_it() {
    let mut options = PostgresOptions::default();
    options.prefix = "auth_".to_owned();
    let printed = PostgresStore::migrations(&options).unwrap();
    assert!(printed[0].contains("CREATE TABLE auth_sessions"));
    assert!(
        printed.iter().all(|text| !text.contains("{t}") && !text.contains("{i}")),
        "the names are written in"
    );
    let schema = Schema::create().await;
    let (one, two) = tokio::join!(schema.store(), schema.store());
    sign_in(&one).await;
    assert_eq!(two.user(&owner()).await.unwrap().sessions.len(), 1);
    schema.execute("INSERT INTO session_kit_migrations (version) VALUES (1000)").await;
    let older = schema.store().await;
    assert_eq!(older.report().await.unwrap().schema, Some(1000));
    schema.execute("DELETE FROM session_kit_migrations WHERE version < 1000").await;
    options.prefix = "session_kit_".to_owned();
    options.schema = Some(schema.0.clone());
    let error = PostgresStore::with_pool(pool(1).await, options).await.unwrap_err();
    assert!(error.to_string().contains("version 1000"), "{error}");
}

impl Schema {
    async fn execute(&self, statement: &str) {
        let statement = statement.replace("session_kit_", &format!("{}.session_kit_", self.0));
        let statement = sqlx::query(sqlx::AssertSqlSafe(statement));
        statement.execute(&pool(1).await).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_that_the_history_knows_ends_all_the_same() {
    let schema = Schema::create().await;
    let know_all = async || schema.execute(restored::KNOW_ALL).await;
    restored::ends_what_the_history_knows(&schema.store().await, know_all).await;
}

#[tokio::test]
async fn a_session_without_its_user_ends_all_the_same() {
    let schema = Schema::create().await;
    let forget_users = async || schema.execute(restored::FORGET_USERS).await;
    restored::ends_what_has_no_user(&schema.store().await, forget_users).await;
}

/// What is wrong is said, and at once: a pool says after half a minute that it timed out.
#[tokio::test]
async fn a_server_that_is_not_there_is_named_as_the_cause() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("postgres://root@127.0.0.1:{port}/none");
    let error = PostgresStore::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("refused"), "{error}");
}

/// Where transactions are stricter by default, a change fails because another is made beside it.
#[tokio::test]
async fn another_isolation_is_refused() {
    let strict: PgConnectOptions = url().parse().unwrap();
    let strict = strict.options([("default_transaction_isolation", "serializable")]);
    let pool = PgPool::connect_with(strict).await.unwrap();
    let error = PostgresStore::with_pool(pool, PostgresOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("default_transaction_isolation"), "{error}");
}

/// The server is gone without a word: a typed error, then everything goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_are_opened_again() {
    let schema = Schema::create().await;
    let node = Engine::start(schema.store().await, options()).await.unwrap();
    let other = Engine::start(schema.store().await, options()).await.unwrap();
    let admin = pool(1).await;
    for _ in 0..3 {
        let signed_in = other.sessions().sign_in(SignIn::new(owner())).await.unwrap();
        let token = signed_in.token.expose();
        let valid = node.sessions().validate(token.as_bytes(), Access::default()).await.unwrap();
        assert!(valid.session().is_some());
        // Waits until they are gone.
        let cut = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity \
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
            assert!(begun.elapsed() < PATIENCE, "the log is heard again");
            tokio::task::yield_now().await;
        }
    }
    node.shutdown().await;
    other.shutdown().await;
}

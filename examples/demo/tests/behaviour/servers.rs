//! Stores on servers, each with something of its own there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use session_kit::core::Store;
use session_kit::mongodb::{MongoOptions, MongoStore};
use session_kit::redis::{RedisOptions, RedisStore};
use session_kit::sql::{MySqlOptions, MySqlStore, PostgresOptions, PostgresStore};
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::postgres::PgPoolOptions;

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} names a server; `cargo xtask test` starts one"))
}

/// A name that no other test has.
fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("demo_{:x}_{now:x}_{next:x}", std::process::id())
}

/// In a schema of its own.
pub(crate) async fn postgres() -> Arc<dyn Store> {
    let url = variable("SESSION_KIT_POSTGRES_URL");
    let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
    let mut options = PostgresOptions::default();
    let name = new_name();
    let statement = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {name}"));
    sqlx::query(statement).execute(&pool).await.unwrap();
    options.schema = Some(name);
    Arc::new(PostgresStore::with_pool(pool, options).await.unwrap())
}

/// In a database of its own.
pub(crate) async fn mysql() -> Arc<dyn Store> {
    let server: MySqlConnectOptions = variable("SESSION_KIT_MYSQL_URL").parse().unwrap();
    let pool = async |options, connections| -> MySqlPool {
        let pool = MySqlPoolOptions::new().max_connections(connections);
        pool.connect_with(options).await.unwrap()
    };
    let name = new_name();
    let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(statement).execute(&pool(server.clone(), 1).await).await.unwrap();
    let pool = pool(server.database(&name), 4).await;
    Arc::new(MySqlStore::with_pool(pool, MySqlOptions::default()).await.unwrap())
}

/// With keys of its own.
pub(crate) async fn redis() -> Arc<dyn Store> {
    let url = variable("SESSION_KIT_REDIS_URL");
    Arc::new(RedisStore::connect_with(&url, keys()).await.unwrap())
}

/// With keys of its own.
pub(crate) async fn redis_cluster() -> Arc<dyn Store> {
    let url = variable("SESSION_KIT_REDIS_CLUSTER_URL");
    Arc::new(RedisStore::connect_with(&url, keys()).await.unwrap())
}

fn keys() -> RedisOptions {
    let mut options = RedisOptions::default();
    options.prefix = format!("{}:", new_name());
    options
}

/// In a database of its own.
pub(crate) async fn mongodb() -> Arc<dyn Store> {
    let mut options = MongoOptions::default();
    options.database = new_name();
    options.timeout = Duration::from_secs(60);
    // The test server pays dearly for every change stream.
    options.push = false;
    let url = variable("SESSION_KIT_MONGODB_URL");
    Arc::new(MongoStore::connect_with(&url, options).await.unwrap())
}

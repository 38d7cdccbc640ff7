//! The MySQL store under the conformance kit, on a real server, and what is its own.

use std::sync::Arc;

use session_conformance::{Backend, Namespace};
use session_core::Store;
use session_store_sql::{MySqlOptions, MySqlStore};
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};

fn server() -> MySqlConnectOptions {
    std::env::var("SESSION_KIT_MYSQL_URL")
        .expect("SESSION_KIT_MYSQL_URL names a server; `cargo xtask test` starts one")
        .parse()
        .unwrap()
}

async fn pool(options: MySqlConnectOptions, connections: u32) -> MySqlPool {
    MySqlPoolOptions::new().max_connections(connections).connect_with(options).await.unwrap()
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

//! The PostgreSQL store under the conformance kit, on a real server, and what is its own.
#![cfg(feature = "postgres")]

use std::sync::Arc;

use session_conformance::{Backend, Namespace};
use session_core::Store;
use session_store_sql::{PostgresOptions, PostgresStore};
use sqlx::postgres::{PgPool, PgPoolOptions};

fn url() -> String {
    std::env::var("SESSION_KIT_POSTGRES_URL")
        .expect("SESSION_KIT_POSTGRES_URL names a server; `cargo xtask test` starts one")
}

async fn pool(connections: u32) -> PgPool {
    PgPoolOptions::new().max_connections(connections).connect(&url()).await.unwrap()
}

struct Postgres;

/// A schema of its own.
struct Schema(String);

impl Schema {
    async fn create() -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let name = format!("kit_{:x}", u64::from_be_bytes(random));
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
    let report = session_conformance::run(Arc::new(Postgres)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

//! PostgreSQL and MariaDB servers that die and stop under the stores.

use std::sync::Arc;

use async_trait::async_trait;
use session_conformance::Namespace;
use session_conformance::faults::{self, Program};
use session_core::Store;
use session_store_sql::{MySqlOptions, MySqlStore, PostgresOptions, PostgresStore};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Mutex;

/// A server that dies for one test is not there for another.
static ALONE: Mutex<()> = Mutex::const_new(());

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by `cargo xtask test`"))
}

fn server(name: &str) -> Arc<Program> {
    let command = vec![variable("SESSION_KIT_XTASK"), "services".into()];
    Arc::new(Program { command, server: name.into() })
}

/// A prefix for tables of its own.
fn prefix() -> String {
    let mut random = [0; 4];
    getrandom::fill(&mut random).unwrap();
    format!("fault_{:08x}_", u32::from_be_bytes(random))
}

struct Postgres(String);

#[async_trait]
impl Namespace for Postgres {
    async fn connect(&self) -> Arc<dyn Store> {
        let mut options = PostgresOptions::default();
        options.prefix.clone_from(&self.0);
        let url = variable("SESSION_KIT_POSTGRES_URL");
        let pool = PgPoolOptions::new().max_connections(10).connect(&url).await.unwrap();
        Arc::new(PostgresStore::with_pool(pool, options).await.unwrap())
    }
}

struct MySql(String);

#[async_trait]
impl Namespace for MySql {
    async fn connect(&self) -> Arc<dyn Store> {
        let mut options = MySqlOptions::default();
        options.prefix.clone_from(&self.0);
        let url = variable("SESSION_KIT_MYSQL_URL");
        let pool = MySqlPoolOptions::new().max_connections(10).connect(&url).await.unwrap();
        Arc::new(MySqlStore::with_pool(pool, options).await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_of_postgres_loses_nothing() {
    let _alone = ALONE.lock().await;
    faults::a_death_loses_nothing(Arc::new(Postgres(prefix())), server("postgres")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_postgres_is_an_outage() {
    let _alone = ALONE.lock().await;
    faults::a_pause_is_an_outage(Arc::new(Postgres(prefix())), server("postgres")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_of_mariadb_loses_nothing() {
    let _alone = ALONE.lock().await;
    faults::a_death_loses_nothing(Arc::new(MySql(prefix())), server("mysql")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_mariadb_is_an_outage() {
    let _alone = ALONE.lock().await;
    faults::a_pause_is_an_outage(Arc::new(MySql(prefix())), server("mysql")).await;
}

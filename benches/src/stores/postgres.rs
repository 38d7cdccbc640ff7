//! PostgreSQL.

use std::any::Any;
use std::sync::Arc;

use session_core::{Session, Store, async_trait};
use session_store_sql::{PostgresOptions, PostgresStore};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::{Backend, Bare, sql};
use crate::Failure;

/// A schema.
pub(super) struct Postgres {
    server: PgConnectOptions,
    schema: String,
}

struct Writer {
    pool: PgPool,
    schema: String,
}

impl Postgres {
    pub(super) fn new(namespace: &str) -> Result<Self, Failure> {
        let server = super::url("SESSION_KIT_POSTGRES_URL")?.parse()?;
        Ok(Self { server, schema: namespace.to_owned() })
    }

    /// As many connections as a node has.
    async fn pool(&self) -> Result<PgPool, Failure> {
        let pool = PgPoolOptions::new().max_connections(10).min_connections(10);
        Ok(pool.connect_with(self.server.clone()).await?)
    }

    async fn run(&self, statement: String) -> Result<(), Failure> {
        let mut connection = self.server.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }
}

#[async_trait]
impl Backend for Postgres {
    async fn open(&self) -> Result<Arc<dyn Store>, Failure> {
        self.run(format!("CREATE SCHEMA IF NOT EXISTS {}", self.schema)).await?;
        let options = PostgresOptions::default().with_schema(self.schema.clone());
        Ok(Arc::new(PostgresStore::with_pool(self.pool().await?, options).await?))
    }

    async fn bare(&self) -> Result<Option<Arc<dyn Bare>>, Failure> {
        Ok(Some(Arc::new(Writer { pool: self.pool().await?, schema: self.schema.clone() })))
    }

    async fn foreign(&self) -> Result<Option<Box<dyn Any + Send>>, Failure> {
        let Self { schema, .. } = self;
        self.run(format!("CREATE TABLE IF NOT EXISTS {schema}.foreign_rows (n int)")).await?;
        let mut transaction = self.pool().await?.begin().await?;
        let insert = AssertSqlSafe(format!("INSERT INTO {schema}.foreign_rows VALUES (1)"));
        sqlx::query(insert).execute(&mut *transaction).await?;
        Ok(Some(Box::new(transaction)))
    }

    async fn remove(&self) -> Result<(), Failure> {
        self.run(format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema)).await
    }
}

#[async_trait]
impl Bare for Writer {
    async fn write(&self, session: &Session) -> Result<(), Failure> {
        let Self { pool, schema } = self;
        let mut transaction = pool.begin().await?;
        let (users, sessions) =
            (format!("{schema}.session_kit_users"), format!("{schema}.session_kit_sessions"));
        sql::user_row(&users, session).build().execute(&mut *transaction).await?;
        sql::session_row(&sessions, session).build().execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }
}

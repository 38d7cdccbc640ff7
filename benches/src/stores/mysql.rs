//! MySQL and MariaDB.

use std::any::Any;
use std::sync::Arc;

use session_core::{Session, Store, async_trait};
use session_store_sql::{MySqlOptions, MySqlStore};
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::{Backend, Bare, sql};
use crate::Failure;

/// A database.
pub(super) struct MySql {
    server: MySqlConnectOptions,
    database: String,
}

struct Writer(MySqlPool);

impl MySql {
    pub(super) fn new(namespace: &str) -> Result<Self, Failure> {
        let server = super::url("SESSION_KIT_MYSQL_URL")?.parse()?;
        Ok(Self { server, database: namespace.to_owned() })
    }

    /// As many connections as a node has.
    async fn pool(&self) -> Result<MySqlPool, Failure> {
        let pool = MySqlPoolOptions::new().max_connections(10).min_connections(10);
        Ok(pool.connect_with(self.server.clone().database(&self.database)).await?)
    }

    async fn run(&self, statement: String) -> Result<(), Failure> {
        let mut connection = self.server.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }
}

#[async_trait]
impl Backend for MySql {
    async fn open(&self) -> Result<Arc<dyn Store>, Failure> {
        self.run(format!("CREATE DATABASE IF NOT EXISTS {}", self.database)).await?;
        Ok(Arc::new(MySqlStore::with_pool(self.pool().await?, MySqlOptions::default()).await?))
    }

    async fn bare(&self) -> Result<Option<Arc<dyn Bare>>, Failure> {
        Ok(Some(Arc::new(Writer(self.pool().await?))))
    }

    async fn foreign(&self) -> Result<Option<Box<dyn Any + Send>>, Failure> {
        let Self { database, .. } = self;
        self.run(format!("CREATE TABLE IF NOT EXISTS {database}.foreign_rows (n int)")).await?;
        let mut transaction = self.pool().await?.begin().await?;
        sqlx::query("INSERT INTO foreign_rows VALUES (1)").execute(&mut *transaction).await?;
        Ok(Some(Box::new(transaction)))
    }

    async fn remove(&self) -> Result<(), Failure> {
        self.run(format!("DROP DATABASE IF EXISTS {}", self.database)).await
    }
}

#[async_trait]
impl Bare for Writer {
    async fn write(&self, session: &Session) -> Result<(), Failure> {
        let mut transaction = self.0.begin().await?;
        sql::user_row("session_kit_users", session).build().execute(&mut *transaction).await?;
        sql::session_row("session_kit_sessions", session)
            .build()
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}

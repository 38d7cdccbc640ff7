//! SQLite.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use session_core::{Session, Store, async_trait};
use session_store_sql::{Durability, SqliteOptions, SqliteStore};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::{Backend, Bare, sql};
use crate::Failure;

/// A file.
pub(super) struct Sqlite(PathBuf);

struct Writer(SqlitePool);

impl Sqlite {
    pub(super) fn new(namespace: &str, folder: &Path) -> Self {
        Self(folder.join(format!("{namespace}.db")))
    }

    /// One connection, as a node's writer has, and as durable as it is.
    async fn writer(&self) -> Result<SqlitePool, Failure> {
        let connect = SqliteConnectOptions::new()
            .filename(&self.0)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(30));
        Ok(SqlitePoolOptions::new().max_connections(1).connect_with(connect).await?)
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn open(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(Arc::new(SqliteStore::connect(&self.0).await?))
    }

    async fn open_to_fill(&self) -> Result<Arc<dyn Store>, Failure> {
        let options = SqliteOptions::default().with_durability(Durability::ProcessDeath);
        Ok(Arc::new(SqliteStore::connect_with(&self.0, options).await?))
    }

    async fn bare(&self) -> Result<Option<Arc<dyn Bare>>, Failure> {
        Ok(Some(Arc::new(Writer(self.writer().await?))))
    }

    /// A reader: SQLite has one writer at a time.
    async fn foreign(&self) -> Result<Option<Box<dyn Any + Send>>, Failure> {
        let mut transaction = self.writer().await?.begin().await?;
        sqlx::query("SELECT count(*) FROM session_kit_policies")
            .fetch_one(&mut *transaction)
            .await?;
        Ok(Some(Box::new(transaction)))
    }

    async fn remove(&self) -> Result<(), Failure> {
        for suffix in ["", "-wal", "-shm", "-hint"] {
            let mut path = self.0.clone().into_os_string();
            path.push(suffix);
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Bare for Writer {
    async fn write(&self, session: &Session) -> Result<(), Failure> {
        let mut transaction = self.0.begin_with("BEGIN IMMEDIATE").await?;
        sql::user_row("session_kit_users", session).build().execute(&mut *transaction).await?;
        sql::session_row("session_kit_sessions", session)
            .build()
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}

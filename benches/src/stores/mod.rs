//! The stores that are measured: connections, namespaces, and the same rows without a store.

pub mod memory;
#[cfg(feature = "mongodb")]
mod mongo;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use session_core::{Session, Store, async_trait};

use crate::Failure;

/// A store that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// In memory.
    Memory,
    /// SQLite, in a file.
    Sqlite,
    /// PostgreSQL, at `SESSION_KIT_POSTGRES_URL`.
    Postgres,
    /// MySQL or MariaDB, at `SESSION_KIT_MYSQL_URL`.
    Mysql,
    /// Redis, at `SESSION_KIT_REDIS_URL`.
    Redis,
    /// Redis Cluster, at `SESSION_KIT_REDIS_CLUSTER_URL`.
    RedisCluster,
    /// MongoDB, at `SESSION_KIT_MONGODB_URL`.
    Mongo,
}

/// One namespace of a store. Removing it leaves nothing behind.
#[async_trait]
pub trait Backend: Send + Sync {
    /// A node's store, on connections of its own.
    async fn open(&self) -> Result<Arc<dyn Store>, Failure>;

    /// A store that writes as fast as it can, without durability.
    async fn open_to_fill(&self) -> Result<Arc<dyn Store>, Failure> {
        self.open().await
    }

    /// Writes the rows of a session without the store, on as many connections as a node has. None
    /// where there is nothing to compare with.
    async fn bare(&self) -> Result<Option<Arc<dyn Bare>>, Failure> {
        Ok(None)
    }

    /// Another application's transaction, which has written a row and stays open until the answer
    /// is dropped. None where transactions of others cannot concern a store.
    async fn foreign(&self) -> Result<Option<Box<dyn Any + Send>>, Failure> {
        Ok(None)
    }

    /// Deletes the namespace.
    async fn remove(&self) -> Result<(), Failure>;
}

/// The rows of a sign-in, written without a store.
#[async_trait]
pub trait Bare: Send + Sync {
    /// Writes the user's and the session's row into the store's own tables, in one transaction, and
    /// nothing into the log.
    async fn write(&self, session: &Session) -> Result<(), Failure>;
}

impl Kind {
    /// All stores that this program was built for.
    pub fn built() -> Vec<Self> {
        Self::value_variants().iter().copied().filter(|kind| kind.is_built()).collect()
    }

    /// Its name, as the command line takes it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Opens a namespace: lower-case letters, digits and underscores. Files go into `folder`. With
    /// `fresh`, what was in it is deleted.
    ///
    /// # Errors
    /// When the server is not named by the environment or cannot be reached, or when this program
    /// was built without the store.
    pub async fn open(
        self,
        namespace: &str,
        folder: &Path,
        fresh: bool,
    ) -> Result<Box<dyn Backend>, Failure> {
        let _ = folder;
        let backend: Box<dyn Backend> = match self {
            Self::Memory => Box::new(memory::Memory::default()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite => Box::new(sqlite::Sqlite::new(namespace, folder)),
            #[cfg(feature = "postgres")]
            Self::Postgres => Box::new(postgres::Postgres::new(namespace)?),
            #[cfg(feature = "mysql")]
            Self::Mysql => Box::new(mysql::MySql::new(namespace)?),
            #[cfg(feature = "redis")]
            Self::Redis => Box::new(redis::Redis::single(namespace)?),
            #[cfg(feature = "redis")]
            Self::RedisCluster => Box::new(redis::Redis::cluster(namespace)?),
            #[cfg(feature = "mongodb")]
            Self::Mongo => Box::new(mongo::Mongo::new(namespace)?),
            #[allow(unreachable_patterns)]
            _ => return Err(format!("built without {namespace}'s store").into()),
        };
        if fresh {
            backend.remove().await?;
        }
        Ok(backend)
    }

    const fn is_built(self) -> bool {
        match self {
            Self::Memory => true,
            Self::Sqlite => cfg!(feature = "sqlite"),
            Self::Postgres => cfg!(feature = "postgres"),
            Self::Mysql => cfg!(feature = "mysql"),
            Self::Redis | Self::RedisCluster => cfg!(feature = "redis"),
            Self::Mongo => cfg!(feature = "mongodb"),
        }
    }
}

/// The URL of a server.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "redis", feature = "mongodb"))]
fn url(variable: &str) -> Result<String, Failure> {
    std::env::var(variable)
        .map_err(|_| format!("{variable} names no server; `cargo xtask bench` starts one").into())
}

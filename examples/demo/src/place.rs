//! Where the demo keeps its sessions.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use session_kit::core::{InvalidField, Store, StoreError};
use session_kit::mongodb::MongoStore;
use session_kit::redis::RedisStore;
use session_kit::sql::{MySqlStore, PostgresStore, SqliteStore};

/// Where the demo keeps its sessions. Shown without a URL's user and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database.
    Postgres(String),
    /// A MySQL or MariaDB database.
    MySql(String),
    /// A Redis server, or a cluster by some of its servers.
    Redis(String),
    /// A MongoDB database.
    MongoDb(String),
}

impl Place {
    /// Reads `sqlite:FILE`, or the URL of a server: `postgres:`, `mysql:`, `redis:`, `mongodb:`, or
    /// `redis-cluster:` with the hosts and ports of some of its servers, separated by commas.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(url: &str) -> Result<Self, InvalidField> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Self::File(path.into()));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        if url.starts_with("mysql://") || url.starts_with("mariadb://") {
            return Ok(Self::MySql(url.to_owned()));
        }
        let of_redis = ["redis://", "rediss://", "redis-cluster://", "rediss-cluster://"];
        if of_redis.iter().any(|scheme| url.starts_with(scheme)) {
            return Ok(Self::Redis(url.to_owned()));
        }
        if url.starts_with("mongodb://") || url.starts_with("mongodb+srv://") {
            return Ok(Self::MongoDb(url.to_owned()));
        }
        let expected =
            "sqlite:FILE, postgres://, mysql://, redis://, redis-cluster:// or mongodb://";
        Err(InvalidField::malformed("store", expected))
    }

    /// A file of the application beside the sessions: next to the SQLite file, or for a server in this
    /// host's folder for temporary files.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        match self {
            Self::File(path) => {
                let mut path = path.clone().into_os_string();
                path.push(format!(".{name}"));
                path.into()
            }
            _ => {
                let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
                let server: String = self.to_string().chars().map(plain).collect();
                std::env::temp_dir().join(format!("session-kit-demo-{server}.{name}"))
            }
        }
    }

    /// Opens the store.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::File(path) => Arc::new(SqliteStore::connect(path).await?),
            Self::Postgres(url) => Arc::new(PostgresStore::connect(url).await?),
            Self::MySql(url) => Arc::new(MySqlStore::connect(url).await?),
            Self::Redis(url) => Arc::new(RedisStore::connect(url).await?),
            Self::MongoDb(url) => Arc::new(MongoStore::connect(url).await?),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(url) => write!(f, "PostgreSQL at {}", host(url)),
            Self::MySql(url) => write!(f, "MySQL at {}", host(url)),
            Self::Redis(url) => write!(f, "Redis at {}", host(url)),
            Self::MongoDb(url) => write!(f, "MongoDB at {}", host(url)),
        }
    }
}

/// What of a URL may be shown: neither user nor password nor options.
fn host(url: &str) -> &str {
    let host = url.rsplit_once('@').or_else(|| url.split_once("://")).map_or("", |(_, host)| host);
    host.split('?').next().unwrap_or_default()
}

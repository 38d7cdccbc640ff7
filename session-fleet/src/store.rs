//! Where a fleet keeps its sessions.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use session_benches::Failure;

/// A store that processes can share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// SQLite, in a file.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
    /// Redis, one server.
    Redis,
    /// Redis, a cluster.
    RedisCluster,
    /// MongoDB.
    Mongo,
}

impl Store {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Redis => "redis",
            Self::RedisCluster => "redis-cluster",
            Self::Mongo => "mongo",
        }
    }

    /// What `cargo xtask services` calls its server, and the variable with the server's URL.
    pub(crate) const fn server(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some(("postgres", "SESSION_KIT_POSTGRES_URL")),
            Self::Mysql => Some(("mysql", "SESSION_KIT_MYSQL_URL")),
            Self::Redis => Some(("redis", "SESSION_KIT_REDIS_URL")),
            Self::RedisCluster => Some(("redis-cluster", "SESSION_KIT_REDIS_CLUSTER_URL")),
            Self::Mongo => Some(("mongodb", "SESSION_KIT_MONGODB_URL")),
        }
    }

    /// Whether other nodes learn of a change before they look.
    pub(crate) const fn pushes(self) -> bool {
        !matches!(self, Self::Mysql)
    }

    /// Whether pushes have a connection of their own. On Redis and MongoDB the log is read on the same.
    pub(crate) const fn listens_apart(self) -> bool {
        matches!(self, Self::Postgres)
    }

    /// The server that the tests use for MongoDB's protocol makes some ten changes a second while several
    /// nodes follow its log. With more to do its answers take longer than `propagation_bound`.
    pub(crate) const fn is_slow(self) -> bool {
        matches!(self, Self::Mongo)
    }

    /// Between two revocations that it can do beside other work.
    pub(crate) const fn revoke_every(self) -> Duration {
        Duration::from_millis(if self.is_slow() { 500 } else { 50 })
    }

    /// Whether one address leads to all of it. The servers of a cluster tell their clients further ones.
    pub(crate) const fn is_one_server(self) -> bool {
        !matches!(self, Self::Sqlite | Self::RedisCluster)
    }

    /// What the demo's `--store` takes. A file is made in `folder`.
    pub(crate) fn url(self, folder: &Path) -> Result<String, Failure> {
        match self.server() {
            None => Ok(format!("sqlite:{}", folder.join("fleet.db").display())),
            Some((_, variable)) => std::env::var(variable)
                .map_err(|_| format!("{variable} does not name a server").into()),
        }
    }
}

/// The host and port of a URL, and the same URL with another host and port.
pub(crate) struct Server<'u> {
    before: &'u str,
    pub(crate) address: &'u str,
    after: &'u str,
}

impl<'u> Server<'u> {
    pub(crate) fn of(url: &'u str) -> Result<Self, Failure> {
        let authority = url.find("://").map(|at| at + 3).ok_or("the URL has no host")?;
        let end = url[authority..].find(['/', '?']).map_or(url.len(), |at| authority + at);
        let begin = url[authority..end].rfind('@').map_or(authority, |at| authority + at + 1);
        Ok(Self { before: &url[..begin], address: &url[begin..end], after: &url[end..] })
    }

    pub(crate) fn at(&self, address: SocketAddr) -> String {
        format!("{}{address}{}", self.before, self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_can_lead_to_a_proxy() {
        let proxy = "127.0.0.1:9".parse().unwrap();
        for (url, address, proxied) in [
            ("postgres://me@h:1/db", "h:1", "postgres://me@127.0.0.1:9/db"),
            ("redis://h:1", "h:1", "redis://127.0.0.1:9"),
            ("mongodb://h:1/?a=b", "h:1", "mongodb://127.0.0.1:9/?a=b"),
        ] {
            let server = Server::of(url).unwrap();
            assert_eq!((server.address, server.at(proxy).as_str()), (address, proxied));
        }
        assert!(Server::of("sqlite:file").is_err());
    }
}

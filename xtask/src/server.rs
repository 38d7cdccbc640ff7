//! The kinds of servers that tests need.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::run::{Failure, has};
use crate::{mongo, packages};

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// PostgreSQL.
    Postgres,
    /// MariaDB, or MySQL where only that is there.
    Mysql,
    /// Redis, one server.
    Redis,
    /// Redis Cluster: three masters, and a replica of each.
    RedisCluster,
    /// MongoDB's protocol, on a replica set of one.
    Mongodb,
    /// A second one: the kit runs twice on MongoDB, and its test server takes longest of all.
    MongodbBeside,
}

impl Server {
    pub(crate) const ALL: [Self; 6] = [
        Self::Postgres,
        Self::Mysql,
        Self::Redis,
        Self::RedisCluster,
        Self::Mongodb,
        Self::MongodbBeside,
    ];

    /// The variable that names a server.
    pub(crate) const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "SESSION_KIT_POSTGRES_URL",
            Self::Mysql => "SESSION_KIT_MYSQL_URL",
            Self::Redis => "SESSION_KIT_REDIS_URL",
            Self::RedisCluster => "SESSION_KIT_REDIS_CLUSTER_URL",
            Self::Mongodb => "SESSION_KIT_MONGODB_URL",
            Self::MongodbBeside => "SESSION_KIT_MONGODB_BESIDE_URL",
        }
    }

    /// The user that the server has to run as where this runs as root.
    pub(crate) const fn user(self) -> Option<&'static str> {
        match self {
            Self::Postgres => Some("postgres"),
            Self::Mysql => Some("mysql"),
            Self::Redis | Self::RedisCluster | Self::Mongodb | Self::MongodbBeside => None,
        }
    }

    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Redis => "redis",
            Self::RedisCluster => "redis-cluster",
            Self::Mongodb => "mongodb",
            Self::MongodbBeside => "mongodb-beside",
        }
    }

    /// Debian's packages.
    pub(crate) const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["postgresql"],
            Self::Mysql => &["mariadb-server"],
            Self::Redis | Self::RedisCluster => &["redis-server", "redis-tools"],
            Self::Mongodb | Self::MongodbBeside => &["python3", "python3-venv"],
        }
    }

    pub(crate) const fn pid_file(self) -> &'static str {
        match self {
            Self::Postgres => "data/postmaster.pid",
            _ => "pid",
        }
    }

    /// Its processes.
    pub(crate) const fn processes(self) -> usize {
        if matches!(self, Self::RedisCluster) { 6 } else { 1 }
    }

    pub(crate) fn install(self) -> Result<(), Failure> {
        match self {
            Self::Mongodb | Self::MongodbBeside => mongo::install(),
            _ => packages::install(self.packages()),
        }
    }

    /// Where its programs are: on the path, or in Debian's places.
    pub(crate) fn programs(self) -> Option<PathBuf> {
        let on_path = |program: &str| has(program).then(PathBuf::new);
        match self {
            Self::Postgres => {
                let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
                let folders = versions.flatten().map(|version| version.path().join("bin"));
                let newest = folders.filter(|folder| folder.join("initdb").is_file()).max();
                newest.or_else(|| on_path("initdb"))
            }
            Self::Mysql => {
                let debian = Path::new("/usr/sbin");
                let find = |program: &str| {
                    let there = debian.join(program).is_file();
                    there.then(|| debian.to_owned()).or_else(|| on_path(program))
                };
                find("mariadbd").or_else(|| find("mysqld"))
            }
            Self::Redis | Self::RedisCluster => on_path("redis-server"),
            Self::Mongodb | Self::MongodbBeside => mongo::programs(),
        }
    }
}

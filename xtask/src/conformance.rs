//! The conformance kit on one store.

use std::process::Command;

use clap::ValueEnum;

use crate::run::{Failure, cargo, hear};
use crate::server::Server;
use crate::services;

/// A store that the kit is run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// In memory.
    Memory,
    /// SQLite, in a file.
    Sqlite,
    /// PostgreSQL, on a server.
    Postgres,
    /// MySQL or MariaDB, on a server.
    Mysql,
    /// Redis, on one server.
    Redis,
    /// Redis, on a cluster.
    RedisCluster,
    /// MongoDB, on a server.
    Mongo,
}

impl Store {
    /// The server that it needs.
    pub(crate) const fn server(self) -> Option<Server> {
        match self {
            Self::Memory | Self::Sqlite => None,
            Self::Postgres => Some(Server::Postgres),
            Self::Mysql => Some(Server::Mysql),
            Self::Redis => Some(Server::Redis),
            Self::RedisCluster => Some(Server::RedisCluster),
            Self::Mongo => Some(Server::Mongodb),
        }
    }

    /// The package, the test and the name within it that run the kit.
    const fn kit(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Memory => ("session-store-memory", "conformance", "keeps_every_guarantee"),
            Self::Sqlite => ("session-store-sql", "sqlite_conformance", "keeps_every_guarantee"),
            Self::Postgres => ("session-store-sql", "postgres", "keeps_every_guarantee"),
            Self::Mysql => ("session-store-sql", "mysql", "keeps_every_guarantee"),
            Self::Redis => ("session-store-redis", "servers", "single::keeps_every_guarantee"),
            Self::RedisCluster => {
                ("session-store-redis", "servers", "cluster::keeps_every_guarantee")
            }
            Self::Mongo => ("session-store-mongo", "servers", "keeps_every_guarantee"),
        }
    }
}

/// Runs the kit, or the cases of this name, as often as asked for, and adds up.
pub(crate) fn run(store: Store, case: Option<&str>, runs: u32) -> Result<(), Failure> {
    let server: Vec<_> = store.server().into_iter().collect();
    services::with(&server, |servers| {
        let (mut passed, mut failed, mut skipped) = (0, 0, Vec::new());
        let mut result = Ok(());
        for _ in 0..runs {
            let mut kit = kit(store);
            kit.envs(servers.variables.clone());
            kit.envs(case.map(|case| ("SESSION_KIT_CASE", case)));
            let outcome = hear(kit, |line| match line.strip_prefix("conformance ") {
                Some(line) if line.contains(" ... ok ") => passed += 1,
                Some(line) if line.contains(" ... skipped: ") => skipped.push(named(line)),
                Some(_) => failed += 1,
                None => {}
            });
            result = result.and(outcome);
        }
        let is_empty = passed + failed + skipped.len() == 0;
        println!("{passed} passed, {failed} failed, {} skipped", skipped.len());
        skipped.sort_unstable();
        skipped.dedup();
        skipped.iter().for_each(|case| println!("skipped: {case}"));
        if is_empty {
            return result.and(Err(Failure::new("no case ran")));
        }
        result
    })
}

/// The case that a line of the kit is about.
fn named(line: &str) -> String {
    line.split(' ').next().unwrap_or(line).to_owned()
}

fn kit(store: Store) -> Command {
    let (package, test, name) = store.kit();
    let mut arguments = vec!["test", "--locked", "--quiet", "--package", package];
    if store.server().is_some() {
        arguments.extend(["--features", "server-tests"]);
    }
    arguments.extend(["--test", test, "--", "--exact", name, "--nocapture"]);
    cargo(arguments)
}

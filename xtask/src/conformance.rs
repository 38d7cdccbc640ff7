//! The conformance kit on one store.

use std::process::Command;

use clap::ValueEnum;

use crate::instance::Server;
use crate::run::{Failure, cargo, hear};
use crate::services;

/// A store that the kit is run on.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// In memory.
    Memory,
    /// SQLite, in a file.
    Sqlite,
    /// PostgreSQL, on a server.
    Postgres,
    /// MySQL or MariaDB, on a server.
    Mysql,
}

/// Runs the kit as often as asked for, and adds up.
pub(crate) fn run(store: Store, runs: u32) -> Result<(), Failure> {
    let variables = match store {
        Store::Postgres => services::up(&[Server::Postgres])?,
        Store::Mysql => services::up(&[Server::Mysql])?,
        Store::Memory | Store::Sqlite => Vec::new(),
    };
    let (mut passed, mut failed) = (0, 0);
    let mut result = Ok(());
    for _ in 0..runs {
        let mut kit = kit(store);
        kit.envs(variables.clone());
        let outcome = hear(kit, |line| match line.strip_prefix("conformance ") {
            Some(line) if line.ends_with("ok") => passed += 1,
            Some(_) => failed += 1,
            None => {}
        });
        result = result.and(outcome);
    }
    if !variables.is_empty() {
        services::down()?;
    }
    println!("{passed} passed, {failed} failed");
    result
}

fn kit(store: Store) -> Command {
    let test: &[&str] = match store {
        Store::Memory => &["--package", "session-store-memory", "--test", "conformance"],
        Store::Sqlite => &["--package", "session-store-sql", "--test", "sqlite_conformance"],
        Store::Postgres => {
            &["--package", "session-store-sql", "--features", "server-tests", "--test", "postgres"]
        }
        Store::Mysql => {
            &["--package", "session-store-sql", "--features", "server-tests", "--test", "mysql"]
        }
    };
    let arguments = ["test", "--locked", "--quiet"].iter().chain(test).copied();
    cargo(arguments.chain(["keeps_every_guarantee", "--", "--nocapture"]))
}

//! The programs that measure the stores.

use std::path::Path;
use std::process::Command;

use clap::{Args, Subcommand, ValueEnum};

use crate::conformance::Store;
use crate::run::{Failure, become_it, cargo, show, show_aside, target};
use crate::server::Server;
use crate::services::{self, Servers};

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum Program {
    /// Measures sign-ins per second, reads of the log, cleanup, and the time until other nodes refuse
    /// a revoked session. Prints a table and writes `target/bench-stores.json`.
    Stores(Stores),
    /// Fills a store with sessions, and measures every call at 10,000 and at all of them. An
    /// interrupted run goes on where it stopped. Prints a table and writes
    /// `target/bench-scale-STORE.json`.
    Scale(Scale),
}

/// What `bench-stores` takes; it checks the values itself.
#[derive(Args)]
pub(crate) struct Stores {
    /// Which store; may be given more than once. Default all.
    #[arg(long)]
    store: Vec<Store>,
    /// How many sessions and log entries the cleanup has to delete. Default 1,000,000.
    #[arg(long)]
    entries: Option<String>,
    /// How often the rounds of sign-ins are repeated. Default 5.
    #[arg(long)]
    rounds: Option<String>,
    /// How many seconds a round takes. Default 3.
    #[arg(long)]
    seconds: Option<String>,
    /// How many sessions are revoked. Default 100.
    #[arg(long)]
    revocations: Option<String>,
}

/// What `bench-scale` takes; it checks the values itself.
#[derive(Args)]
pub(crate) struct Scale {
    /// Which store.
    #[arg(long)]
    store: Store,
    /// How many sessions. Default 1,000,000.
    #[arg(long)]
    sessions: Option<String>,
    /// Deletes what an earlier run has written, and begins again.
    #[arg(long)]
    fresh: bool,
    /// The most calls of one kind. Default 200.
    #[arg(long)]
    calls: Option<String>,
    /// The most seconds for the calls of one kind. Default 10.
    #[arg(long)]
    seconds: Option<String>,
}

pub(crate) fn run(program: Program) -> Result<(), Failure> {
    match program {
        Program::Stores(stores) => measure(stores),
        Program::Scale(scale) => fill(scale),
    }
}

/// Stops the servers that it had to start.
fn measure(options: Stores) -> Result<(), Failure> {
    let Stores { mut store, entries, rounds, seconds, revocations } = options;
    if store.is_empty() {
        store = Store::value_variants().to_vec();
    }
    let servers = needed(&store);
    let arguments = options_given([
        ("--entries", entries),
        ("--rounds", rounds),
        ("--seconds", seconds),
        ("--revocations", revocations),
    ]);
    build("bench-stores", &store)?;
    services::with(&servers, |servers| {
        let mut program = command("bench-stores", &store, servers);
        program.args(arguments);
        show(program)
    })
}

/// Leaves the servers as they are: they hold what the next run goes on with.
fn fill(options: Scale) -> Result<(), Failure> {
    let Scale { store, sessions, fresh, calls, seconds } = options;
    build("bench-scale", &[store])?;
    let servers = services::up(&needed(&[store]))?;
    let mut program = command("bench-scale", &[store], &servers);
    program.args(options_given([
        ("--sessions", sessions),
        ("--calls", calls),
        ("--seconds", seconds),
    ]));
    if fresh {
        program.arg("--fresh");
    }
    become_it(program)
}

fn needed(stores: &[Store]) -> Vec<Server> {
    stores.iter().filter_map(|store| store.server()).collect()
}

/// With the features of these stores only: each of them takes minutes to build.
fn build(name: &str, stores: &[Store]) -> Result<(), Failure> {
    let features: Vec<_> = stores.iter().filter_map(|store| feature(*store)).collect();
    let mut build = cargo(["build", "--release", "--locked", "--package", "session-benches"]);
    build.args(["--bin", name, "--features", &features.join(",")]);
    show_aside(build)
}

const fn feature(store: Store) -> Option<&'static str> {
    match store {
        Store::Memory => None,
        Store::Sqlite => Some("sqlite"),
        Store::Postgres => Some("postgres"),
        Store::Mysql => Some("mysql"),
        Store::Redis | Store::RedisCluster => Some("redis"),
        Store::Mongo => Some("mongodb"),
    }
}

fn command(name: &str, stores: &[Store], servers: &Servers) -> Command {
    let folder: &Path = &target();
    let mut program = Command::new(folder.join("release").join(name));
    program.envs(servers.variables.clone()).arg("--out").arg(folder);
    for store in stores.iter().filter_map(Store::to_possible_value) {
        program.args(["--store", store.get_name()]);
    }
    program
}

/// Those options that have a value, each followed by it.
fn options_given<const N: usize>(options: [(&str, Option<String>); N]) -> Vec<String> {
    let given = |(name, value): (&str, Option<String>)| Some([name.to_owned(), value?]);
    options.into_iter().filter_map(given).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_its_stores_and_what_was_given() {
        let stores = [Store::Sqlite, Store::RedisCluster];
        let program = command("bench-stores", &stores, &Servers::none());
        let arguments: Vec<_> = program.get_args().skip(2).collect();
        assert_eq!(arguments, ["--store", "sqlite", "--store", "redis-cluster"]);
        let given = options_given([("--rounds", None), ("--seconds", Some("1".to_owned()))]);
        assert_eq!(given, ["--seconds", "1"]);
    }

    #[test]
    fn servers_are_those_of_the_stores() {
        let stores = [Store::Memory, Store::Postgres, Store::Mongo];
        assert_eq!(needed(&stores), [Server::Postgres, Server::Mongodb]);
    }
}

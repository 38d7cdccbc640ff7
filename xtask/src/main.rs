//! The one entrance for demo and tests: `cargo xtask --help`.

mod browser;
mod conformance;
mod container;
mod house;
mod instance;
mod licences;
mod metadata;
mod mongo;
mod packages;
mod packaging;
mod run;
mod rust_version;
mod services;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::run::{Failure, cargo};

/// Builds, runs and checks session-kit.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds and starts the demo, with its sessions in a SQLite file.
    Demo {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:3000")]
        addr: String,
        /// The SQLite file; it is created if it is missing.
        #[arg(long, default_value = "session-kit-demo.db")]
        db: PathBuf,
        /// Another store: `sqlite:FILE`, or the URL of a server: `postgres:`, `mysql:`,
        /// `redis:`, `redis-cluster:` or `mongodb:`.
        #[arg(long, conflicts_with = "db")]
        store: Option<String>,
    },
    /// Runs every check and every test, in the order in which they tell most.
    Test(test::Choice),
    /// Runs the conformance kit on a store.
    Conformance {
        /// Which store.
        store: conformance::Store,
        /// How often in a row.
        #[arg(long, default_value_t = 1)]
        runs: u32,
    },
    /// Starts and stops the servers that tests need.
    Services {
        #[command(subcommand)]
        action: services::Action,
    },
    /// Writes the API's description into `adapters/http/openapi.json`.
    Openapi,
    /// Checks licences and sources of all dependencies against `deny.toml`.
    Licences,
    /// Checks which crate may depend on which, the tests that the guarantees name, and the oldest
    /// compiler.
    House,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { addr, db, store } => demo(&addr, &db, store.as_deref()),
        Command::Test(choice) => test::run(&choice),
        Command::Conformance { store, runs } => conformance::run(store, runs),
        Command::Services { action } => services::run(&action),
        Command::Openapi => openapi(),
        Command::Licences => licences::check(),
        Command::House => house::check(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn demo(addr: &str, db: &Path, store: Option<&str>) -> Result<(), Failure> {
    run::show(cargo(["build", "--quiet", "--package", "session-demo"]))?;
    let mut demo = std::process::Command::new(run::target().join("debug/session-demo"));
    demo.args(["--addr", addr]);
    match store {
        Some(store) => demo.args(["--store", store]),
        None => demo.arg("--db").arg(db),
    };
    run::become_it(demo)
}

fn openapi() -> Result<(), Failure> {
    let mut print = cargo(["run", "--quiet", "--package", "session-http", "--example", "openapi"]);
    let text = run::output(&mut print)?;
    let path = run::root().join("adapters/http/openapi.json");
    std::fs::write(&path, text)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

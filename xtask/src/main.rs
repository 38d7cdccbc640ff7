//! The one entrance for demo and tests: `cargo xtask --help`.

mod alerts;
mod asvs;
mod bench;
mod browser;
mod conformance;
mod container;
mod demo;
mod doctor;
mod fleet;
mod fuzz;
mod host_clock;
mod house;
mod instance;
mod licences;
mod metadata;
mod mongo;
mod mutants;
mod named_tests;
mod nginx;
mod packages;
mod packaging;
mod python;
mod run;
mod rust_version;
mod schemathesis;
mod server;
mod services;
mod sim;
mod test;
mod upgrade;

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
    Demo(demo::Options),
    /// Runs every check and every test, in the order in which they tell most.
    Test(test::Choice),
    /// Runs the conformance kit on a store.
    Conformance {
        /// Which store.
        store: conformance::Store,
        /// The case of this name only, or those whose names contain it. An unknown name lists all.
        #[arg(long)]
        case: Option<String>,
        /// How often in a row.
        #[arg(long, default_value_t = 1)]
        runs: u32,
    },
    /// Measures the stores.
    Bench {
        #[command(subcommand)]
        program: bench::Program,
    },
    /// Prints what a store says of itself: server, schema, clock, log, and what is wrong. Fails when
    /// something is wrong or the store is away.
    Doctor(doctor::Options),
    /// Plants defects into a store, and shows which the conformance kit does not notice.
    Mutants(mutants::Options),
    /// Starts and stops the servers that tests need.
    Services {
        #[command(subcommand)]
        action: services::Action,
    },
    /// Runs a node of another commit beside one of this, on one store and under load.
    Upgrade(upgrade::Options),
    /// Runs several nodes on one store: how long a revocation takes, what faults do to it, and whether it
    /// holds out. Prints a table and writes `target/fleet.json`.
    Fleet(fleet::Options),
    /// Runs many nodes on one simulated store, by seeds: simulated time, faults, and an oracle that knows
    /// what is true. A seed that fails is shown as a short history, and can be run again.
    Sim(sim::Options),
    /// Writes the API's description into `adapters/http/openapi.json`.
    Openapi,
    /// Checks licences and sources of all dependencies against `deny.toml`.
    Licences,
    /// Checks which crate may depend on which, the tests that the guarantees and the page on
    /// security name, and the oldest compiler.
    House,
    /// Runs the cases of the alert rules, as `docs/alerts-test.yml` has them.
    Alerts,
    /// Checks the tables of `docs/security.md` and counts their rows.
    Asvs,
    /// Runs the fuzz targets.
    Fuzz(fuzz::Options),
    /// Asks the demo what the API's description allows and forbids.
    Schemathesis(schemathesis::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(options),
        Command::Test(choice) => test::run(&choice),
        Command::Conformance { store, case, runs } => {
            conformance::run(store, case.as_deref(), runs)
        }
        Command::Bench { program } => bench::run(program),
        Command::Doctor(options) => doctor::run(&options),
        Command::Mutants(options) => mutants::run(&options),
        Command::Services { action } => services::run(&action),
        Command::Upgrade(options) => upgrade::run(&options),
        Command::Fleet(options) => fleet::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Openapi => openapi(),
        Command::Licences => licences::check(),
        Command::House => house::check(),
        Command::Alerts => alerts::check(),
        Command::Asvs => asvs::check(),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Schemathesis(options) => schemathesis::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn openapi() -> Result<(), Failure> {
    let mut print = cargo(["run", "--quiet", "--package", "session-http", "--example", "openapi"]);
    let text = run::output(&mut print)?;
    let path = run::root().join("adapters/http/openapi.json");
    std::fs::write(&path, text)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

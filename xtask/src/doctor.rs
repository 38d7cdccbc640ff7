//! What a store says of itself.

use std::process::Command;

use clap::Args;

use crate::run::{Failure, become_it, cargo, show_aside, target};

/// What to ask, and what to lift before.
#[derive(Args)]
pub(crate) struct Options {
    /// `sqlite:FILE`, or the URL of a server: `postgres:`, `mysql:`, `redis:`, `redis-cluster:` or
    /// `mongodb:`.
    #[arg(long)]
    store: String,
    /// Lifts the block of the deployment, or of the tenant or user that is named, before it asks: the way
    /// back where a block leaves no administrator who may sign in.
    #[arg(long)]
    lift_block: bool,
    /// The tenant, or that of the user.
    #[arg(long, requires = "lift_block")]
    tenant: Option<String>,
    /// The user.
    #[arg(long, requires = "lift_block")]
    user: Option<String>,
}

/// Builds the program that asks, and goes on as it.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let mut build = cargo(["build", "--locked", "--package", "session-demo"]);
    build.args(["--bin", "session-doctor"]);
    show_aside(build)?;
    let mut doctor = Command::new(target().join("debug/session-doctor"));
    doctor.args(["--store", &options.store]);
    if options.lift_block {
        doctor.arg("--lift-block");
    }
    for (name, value) in [("--tenant", &options.tenant), ("--user", &options.user)] {
        doctor.args(value.iter().flat_map(|value| [name, value]));
    }
    become_it(doctor)
}

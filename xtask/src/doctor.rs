//! What a store says of itself.

use std::process::Command;

use crate::run::{Failure, become_it, cargo, show_aside, target};

/// Builds the program that asks, and goes on as it.
pub(crate) fn run(store: &str) -> Result<(), Failure> {
    let mut build = cargo(["build", "--locked", "--package", "session-demo"]);
    build.args(["--bin", "session-doctor"]);
    show_aside(build)?;
    let mut doctor = Command::new(target().join("debug/session-doctor"));
    doctor.args(["--store", store]);
    become_it(doctor)
}

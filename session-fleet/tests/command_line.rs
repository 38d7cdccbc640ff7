//! What the program says where a fleet cannot be started.

use std::process::{Command, Output};

fn fleet(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Command::new(env!("CARGO_BIN_EXE_session-fleet"));
    fleet.args(arguments).arg("--out").arg(folder.path());
    fleet.output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_program_that_is_no_node_is_named() {
    let missing = fleet(&["--program", "/nowhere/demo", "--store", "sqlite"]);
    assert!(said(&missing).contains("/nowhere/demo"), "{missing:?}");
    let silent = fleet(&["--program", "true", "--store", "sqlite"]);
    assert!(said(&silent).contains("does not say where it listens"), "{silent:?}");
}

#[test]
fn a_store_that_processes_cannot_share_is_refused() {
    let memory = fleet(&["--program", "true", "--store", "memory"]);
    assert!(said(&memory).contains("possible values: sqlite, postgres"), "{memory:?}");
}

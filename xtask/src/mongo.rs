//! A server that speaks MongoDB's protocol: MongoDB itself where it is on the path, else one that
//! Python's package index has.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages;
use crate::python::Tool;
use crate::run::{Failure, has};

/// Where the programs are: an empty path for MongoDB's own, on the path.
pub(crate) fn programs() -> Option<PathBuf> {
    if has("mongod") && has("mongosh") {
        return Some(PathBuf::new());
    }
    SERVER.is_there().then(|| SERVER.programs())
}

/// Installs the package into a virtual environment of its own.
pub(crate) fn install() -> Result<(), Failure> {
    if !has(WITHOUT_SYNC) && packages::install(&[WITHOUT_SYNC]).is_err() {
        eprintln!("without {WITHOUT_SYNC} the tests on MongoDB take longer");
    }
    SERVER.install()
}

/// The command that starts it, as a replica set of one.
pub(crate) fn start(programs: &Path, port: &str, data: &Path) -> Result<Command, Failure> {
    std::fs::create_dir_all(data)
        .map_err(|error| Failure::new(format!("{}: {error}", data.display())))?;
    let server = programs.join(SERVER.program);
    let mut start = Command::new(&server);
    if programs == Path::new("") {
        start = Command::new("mongod");
        start.args(["--replSet", "rs0", "--bind_ip", "127.0.0.1", "--dbpath"]).arg(data);
    } else {
        if has(WITHOUT_SYNC) {
            start = Command::new(WITHOUT_SYNC);
            start.arg(server);
        }
        // As MongoDB does by itself: what a majority acknowledged is in the journal.
        start.arg("--sync-on-commit").arg("--storage-path").arg(data);
        // A reader was seen to wait for ever in a page that a checkpoint had been at.
        start.env("SECANTUS_CHECKPOINT_SECONDS", "0");
    }
    start.args(["--port", port]);
    Ok(start)
}

/// Runs a program whose writes are not waited for once the operating system has them, which nothing here
/// kills.
const WITHOUT_SYNC: &str = "eatmydata";
const SERVER: Tool =
    Tool { folder: "services-python", package: "secantusdb==0.7.0b3", program: "secantusd-py" };

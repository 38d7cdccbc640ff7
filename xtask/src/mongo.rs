//! A server that speaks MongoDB's protocol: MongoDB itself where it is on the path, else one that
//! Python's package index has.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages;
use crate::run::{Failure, has, show_aside, target};

/// Where the programs are: an empty path for MongoDB's own, on the path.
pub(crate) fn programs() -> Option<PathBuf> {
    if has("mongod") && has("mongosh") {
        return Some(PathBuf::new());
    }
    let programs = environment().join("bin");
    programs.join(PROGRAM).is_file().then_some(programs)
}

/// Installs the package into a virtual environment of its own.
pub(crate) fn install() -> Result<(), Failure> {
    let make = || {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(environment());
        show_aside(venv)
    };
    // Debian's Python comes without what makes environments.
    if !has("python3") || make().is_err() {
        packages::install(&["python3", "python3-venv"])?;
        make()?;
    }
    let mut install = Command::new(environment().join("bin/pip"));
    install.args(["--quiet", "--disable-pip-version-check", "install", PACKAGE]);
    show_aside(install)
}

/// The command that starts it, as a replica set of one.
pub(crate) fn start(programs: &Path, port: &str, data: &Path) -> Result<Command, Failure> {
    std::fs::create_dir_all(data)
        .map_err(|error| Failure::new(format!("{}: {error}", data.display())))?;
    let mut start = Command::new(programs.join(PROGRAM));
    if programs == Path::new("") {
        start = Command::new("mongod");
        start.args(["--replSet", "rs0", "--bind_ip", "127.0.0.1", "--dbpath"]).arg(data);
    } else {
        // As MongoDB does by itself: what a majority acknowledged is in the journal.
        start.arg("--sync-on-commit").arg("--storage-path").arg(data);
        // A reader was seen to wait for ever in a page that a checkpoint had been at.
        start.env("SECANTUS_CHECKPOINT_SECONDS", "0");
    }
    start.args(["--port", port]);
    Ok(start)
}

fn environment() -> PathBuf {
    target().join("services-python")
}

const PACKAGE: &str = "secantusdb==0.7.0b3";
const PROGRAM: &str = "secantusd-py";

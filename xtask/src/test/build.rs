//! Builds test programs, all of them at once and with one set of features.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::run::{Failure, cargo, output};
use crate::server::Server;
use crate::services::Servers;

/// Everything that has tests.
pub(crate) const ALL: [&str; 1] = ["--workspace"];
/// The rules, the engine, the stores that need no server, and an adapter.
pub(crate) const FAST: [&str; 8] = [
    "--package=session-core",
    "--package=session-engine",
    "--package=session-engine-threads",
    "--package=session-store-memory",
    "--package=session-store-sql",
    "--package=session-http",
    "--package=session-tower",
    "--package=session-axum",
];
/// The crates whose tests need servers.
const STORES: [&str; 3] = ["session-store-sql", "session-store-redis", "session-store-mongo"];

/// A test program.
pub(crate) struct Binary {
    /// Its package.
    pub(crate) package: String,
    /// The test, or the library or program whose unit tests it holds.
    pub(crate) target: String,
    program: PathBuf,
    folder: PathBuf,
}

impl Binary {
    /// Runs it as cargo does: in the package's folder.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

/// The features that bring the tests that need servers. Those that kill them need private ones.
pub(crate) fn server_features(servers: &Servers) -> String {
    if servers.variables.is_empty() {
        return String::new();
    }
    let feature = if servers.private.len() == Server::ALL.len() {
        "fault-tests"
    } else {
        println!("the tests of faults are left out: not every server is a private instance");
        "server-tests"
    };
    let stores = STORES.map(|package| format!("{package}/{feature}"));
    format!("{},session-demo/server-tests", stores.join(","))
}

/// Builds the tests of packages.
pub(crate) fn tests(packages: &[&str], features: &str) -> Result<Vec<Binary>, Failure> {
    let mut build = cargo(["test", "--locked", "--no-run"]);
    build.arg("--message-format=json-render-diagnostics");
    build.args(packages).args(["--features", features]);
    let messages = output(&mut build)?;
    messages.lines().filter_map(|line| binary(line).transpose()).collect()
}

/// What cargo says of a file that it has made.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

/// The test program that a message is about, if it is about one.
fn binary(message: &str) -> Result<Option<Binary>, Failure> {
    let message: Message = serde_json::from_str(message)
        .map_err(|error| Failure::new(format!("cargo says {message:?}: {error}")))?;
    let is_test = message.profile.is_some_and(|profile| profile.test);
    let (Some(program), Some(manifest), Some(target), true) =
        (message.executable, message.manifest_path, message.target, is_test)
    else {
        return Ok(None);
    };
    debug_assert_eq!(message.reason, "compiler-artifact");
    let package = package_name(&manifest)?;
    let folder = manifest.parent().unwrap_or(&manifest).to_owned();
    Ok(Some(Binary { package, target: target.name, program, folder }))
}

fn package_name(manifest: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(manifest).map_err(|error| error.to_string());
    let manifest_of = |text: String| toml::from_str(&text).map_err(|error| error.to_string());
    let read: Manifest = text
        .and_then(manifest_of)
        .map_err(|error| Failure::new(format!("{}: {error}", manifest.display())))?;
    Ok(read.package.name)
}

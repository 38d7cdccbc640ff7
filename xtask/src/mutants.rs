//! Mutation tests: small defects that `cargo-mutants` plants into a store, with the conformance kit as
//! the test that has to find them.
//!
//! What survives stands in `session-conformance/mutants.toml` with a reason, or is a hole in the kit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::run::{Failure, cargo, output, root, show, target};

/// What is mutated.
#[derive(Args)]
pub(crate) struct Options {
    /// The store whose code is mutated.
    #[arg(long, value_enum, default_value_t = Store::Memory)]
    store: Store,
    /// The part of the mutants to test, such as `0/4`; by default all. A listed mutant of another
    /// part is not missed.
    #[arg(long)]
    shard: Option<String>,
}

/// A store that can be mutated without a server.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    /// The memory store.
    Memory,
    /// The SQLite store, with the code that all SQL stores share.
    Sqlite,
}

/// A mutant that may survive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    file: String,
    mutant: String,
    /// Why no store can be told from it.
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    survivor: Vec<Known>,
}

/// A mutant by its file and what it does, without the line, which moves.
type Mutant = (String, String);

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let known = known(options.store)?;
    let program = install()?;
    let folder = target().join("mutants").join(options.store.package());
    std::fs::create_dir_all(&folder).map_err(|error| failure(&folder, &error))?;
    let status = command(&program, &folder, options).status();
    let status = status.map_err(|error| failure(&program, &error))?;
    // 2: some were missed; 3: some ran into their time limit, which is found, too.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        return Err(Failure::new(format!("cargo mutants failed: {status}")));
    }
    let results = folder.join("mutants.out");
    let survivors = read(&results.join("missed.txt"))?;
    let tested: BTreeSet<_> = ["caught.txt", "timeout.txt", "unviable.txt"]
        .iter()
        .map(|list| read(&results.join(list)))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .chain(survivors.iter().cloned())
        .collect();
    judge(&known, &survivors, &tested, options.shard.is_none())?;
    println!("{} mutants, {} survive as listed", tested.len(), survivors.len());
    Ok(())
}

fn judge(
    known: &BTreeSet<Mutant>,
    survivors: &BTreeSet<Mutant>,
    tested: &BTreeSet<Mutant>,
    all: bool,
) -> Result<(), Failure> {
    let mut problems: Vec<_> = survivors
        .difference(known)
        .map(|(file, mutant)| format!("the kit does not notice, in {file}: {mutant}"))
        .collect();
    let gone = known.difference(survivors).filter(|mutant| all || tested.contains(mutant));
    problems.extend(gone.map(|(file, mutant)| format!("survives no longer, in {file}: {mutant}")));
    if problems.is_empty() { Ok(()) } else { Err(Failure::new(problems.join("\n"))) }
}

fn command(program: &Path, folder: &Path, options: &Options) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command.args(["mutants", "--jobs", "1", "--no-shuffle", "--minimum-test-timeout", "30"]);
    command.args(["--package", options.store.package(), "--output"]).arg(folder);
    command.args(options.store.choice());
    command.args(options.shard.iter().flat_map(|shard| ["--shard", shard.as_str()]));
    command.args(["--", "--test", options.store.test()]);
    // One folder for all mutants, so that no build begins from nothing, and apart from the one of
    // the other commands.
    command.env("CARGO_TARGET_DIR", target().join("mutants/target"));
    // The first case that fails is enough.
    command.env("SESSION_KIT_STOP", "1");
    command
}

impl Store {
    const fn package(self) -> &'static str {
        match self {
            Self::Memory => "session-store-memory",
            Self::Sqlite => "session-store-sql",
        }
    }

    const fn test(self) -> &'static str {
        match self {
            Self::Memory => "conformance",
            Self::Sqlite => "sqlite_conformance",
        }
    }

    const fn choice(self) -> &'static [&'static str] {
        match self {
            Self::Memory => &[],
            Self::Sqlite => &[
                "--no-default-features",
                "--features",
                "sqlite",
                "--exclude",
                "session-store-sql/src/postgres/**",
                "--exclude",
                "session-store-sql/src/mysql/**",
            ],
        }
    }
}

/// The mutants of this store that may survive.
fn known(store: Store) -> Result<BTreeSet<Mutant>, Failure> {
    let path = root().join(LIST);
    let text = std::fs::read_to_string(&path).map_err(|error| failure(&path, &error))?;
    let list: List =
        toml::from_str(&text).map_err(|error| Failure::new(format!("{LIST}: {error}")))?;
    if let Some(without) = list.survivor.iter().find(|known| known.reason.trim().is_empty()) {
        return Err(Failure::new(format!("{LIST}: no reason for {}", without.mutant)));
    }
    let of_store =
        list.survivor.into_iter().filter(|known| known.file.starts_with(store.package()));
    Ok(of_store.map(|known| (known.file, known.mutant)).collect())
}

/// What a list of results names: `file:line:column: what`.
fn read(list: &Path) -> Result<BTreeSet<Mutant>, Failure> {
    let text = std::fs::read_to_string(list).map_err(|error| failure(list, &error))?;
    let parse = |line: &str| {
        let mut parts = line.splitn(4, ':');
        let file = parts.next()?.to_owned();
        Some((file, parts.nth(2)?.trim().to_owned()))
    };
    Ok(text.lines().filter_map(parse).collect())
}

/// Installs `cargo-mutants` beside what is built here, where it is not there in this version.
fn install() -> Result<PathBuf, Failure> {
    let tools = target().join("tools");
    let program = tools.join("bin").join(format!("cargo-mutants{}", std::env::consts::EXE_SUFFIX));
    let installed = program.is_file()
        && output(Command::new(&program).args(["mutants", "--version"]))?.contains(VERSION);
    if !installed {
        let mut install =
            cargo(["install", "--locked", "cargo-mutants", "--version", VERSION, "--root"]);
        install.arg(&tools);
        show(install)?;
    }
    Ok(program)
}

fn failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// The version of `cargo-mutants`: another one may plant other mutants.
const VERSION: &str = "27.1.0";
/// The mutants that survive, with reasons.
const LIST: &str = "session-conformance/mutants.toml";

#[cfg(test)]
mod tests {
    use super::*;

    fn set(mutants: &[&str]) -> BTreeSet<Mutant> {
        mutants.iter().map(|mutant| ("a.rs".to_owned(), (*mutant).to_owned())).collect()
    }

    #[test]
    fn a_new_survivor_and_one_that_is_gone_are_told() {
        let (known, tested) = (set(&["one", "two"]), set(&["one", "three"]));
        assert!(judge(&known, &set(&["one", "two"]), &tested, true).is_ok());
        let new = judge(&known, &set(&["one", "two", "three"]), &tested, true).unwrap_err();
        assert_eq!(new.to_string(), "the kit does not notice, in a.rs: three");
        let gone = judge(&known, &set(&["one"]), &tested, true).unwrap_err();
        assert_eq!(gone.to_string(), "survives no longer, in a.rs: two");
        assert!(judge(&known, &set(&["one"]), &tested, false).is_ok(), "it is of another part");
    }
}

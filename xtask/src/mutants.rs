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
    /// The store whose code is mutated; by default one after the other.
    #[arg(long, value_enum)]
    store: Option<Store>,
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

/// Mutants that are not planted, because they tell nothing of the kit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeftOut {
    /// Whole files, as patterns of paths.
    #[serde(default)]
    files: Vec<String>,
    /// What they are called, as regular expressions.
    #[serde(default)]
    mutants: Vec<String>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    survivor: Vec<Known>,
    left_out: Vec<LeftOut>,
}

/// A mutant by its file and what it does, without the line, which moves.
type Mutant = (String, String);

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let program = install()?;
    let stores = options.store.map_or(Store::value_variants().to_vec(), |store| vec![store]);
    let failures: Vec<_> = stores
        .into_iter()
        .filter_map(|store| test(&program, store, options.shard.as_deref()).err())
        .map(|failure| failure.to_string())
        .collect();
    if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("\n"))) }
}

fn test(program: &Path, store: Store, shard: Option<&str>) -> Result<(), Failure> {
    let List { survivor, left_out } = listed(store)?;
    let known = survivor.into_iter().map(|known| (known.file, known.mutant)).collect();
    let folder = target().join("mutants").join(store.package());
    std::fs::create_dir_all(&folder).map_err(|error| failure(&folder, &error))?;
    let status = command(program, &folder, store, &left_out, shard).status();
    let status = status.map_err(|error| failure(program, &error))?;
    // 2: some were missed; 3: some ran into their time limit, which is found, too.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        return Err(Failure::new(format!("cargo mutants failed: {status}")));
    }
    let results = folder.join("mutants.out");
    let list = |name: &str| read(&results.join(name));
    let results = Results {
        missed: list("missed.txt")?,
        late: list("timeout.txt")?,
        caught: &list("caught.txt")? | &list("unviable.txt")?,
    };
    judge(&known, &results, shard.is_none())?;
    let (missed, all) = (results.missed.len(), results.tested().len());
    println!("{}: {all} mutants, {missed} survive as listed", store.package());
    Ok(())
}

/// What became of the mutants.
struct Results {
    missed: BTreeSet<Mutant>,
    /// They ran into their time limit. On a busy machine this may be one that would be missed.
    late: BTreeSet<Mutant>,
    /// They were noticed, or did not compile.
    caught: BTreeSet<Mutant>,
}

impl Results {
    fn tested(&self) -> BTreeSet<&Mutant> {
        self.missed.iter().chain(&self.late).chain(&self.caught).collect()
    }
}

fn judge(known: &BTreeSet<Mutant>, results: &Results, all: bool) -> Result<(), Failure> {
    let mut problems: Vec<_> = results
        .missed
        .difference(known)
        .map(|(file, mutant)| format!("the kit does not notice, in {file}: {mutant}"))
        .collect();
    let tested = results.tested();
    let gone = known
        .difference(&results.missed)
        .filter(|mutant| !results.late.contains(*mutant) && (all || tested.contains(mutant)));
    problems.extend(gone.map(|(file, mutant)| format!("survives no longer, in {file}: {mutant}")));
    if problems.is_empty() { Ok(()) } else { Err(Failure::new(problems.join("\n"))) }
}

fn command(
    program: &Path,
    folder: &Path,
    store: Store,
    left_out: &[LeftOut],
    shard: Option<&str>,
) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command.args(["mutants", "--jobs", "1", "--no-shuffle", "--minimum-test-timeout", "30"]);
    command.args(["--timeout-multiplier", "2"]);
    command.args(["--package", store.package(), "--output"]).arg(folder);
    command.args(store.choice());
    for LeftOut { files, mutants, .. } in left_out {
        command.args(files.iter().flat_map(|files| ["--exclude", files]));
        command.args(mutants.iter().flat_map(|mutants| ["--exclude-re", mutants]));
    }
    command.args(["--exclude-re", TEXTS]);
    command.args(shard.into_iter().flat_map(|shard| ["--shard", shard]));
    // An argument of the builds as well, so that no other test of the package is built for each mutant.
    command.arg(format!("--cargo-arg=--test={}", store.test()));
    // One folder for all mutants, so that no build begins from nothing, and apart from the one of
    // the other commands.
    command.env("CARGO_TARGET_DIR", target().join("mutants/target"));
    // Linking is most of what a build takes, and nobody looks into what was built.
    command.env("CARGO_PROFILE_DEV_DEBUG", "false");
    // A store on files waits for the disk most of the time, and nothing here has to outlast a crash.
    if Path::new(IN_MEMORY).is_dir() {
        command.env("TMPDIR", IN_MEMORY);
    }
    // The first case that fails is enough.
    command.env("SESSION_KIT_STOP", "1");
    // Many times what the slowest case takes; a mutant in which one waits in vain is found sooner.
    command.env("SESSION_KIT_PATIENCE", "20");
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
            Self::Sqlite => &["--no-default-features", "--features", "sqlite"],
        }
    }
}

/// The committed list, with the survivors of this store only.
fn listed(store: Store) -> Result<List, Failure> {
    let path = root().join(LIST);
    let text = std::fs::read_to_string(&path).map_err(|error| failure(&path, &error))?;
    let mut list: List =
        toml::from_str(&text).map_err(|error| Failure::new(format!("{LIST}: {error}")))?;
    let reasons = list.survivor.iter().map(|known| &known.reason);
    let mut reasons = reasons.chain(list.left_out.iter().map(|left_out| &left_out.reason));
    if reasons.any(|reason| reason.trim().is_empty()) {
        return Err(Failure::new(format!("{LIST}: an entry has no reason")));
    }
    list.survivor.retain(|known| known.file.starts_with(store.package()));
    Ok(list)
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
/// A folder of files in memory, where the system has one.
const IN_MEMORY: &str = "/dev/shm";
/// Texts for developers, as mutants are called that change them.
const TEXTS: &str = "<impl fmt::(Debug|Display) for";
/// The mutants that survive or are not planted, with reasons.
const LIST: &str = "session-conformance/mutants.toml";

#[cfg(test)]
mod tests {
    use super::*;

    fn set(mutants: &[&str]) -> BTreeSet<Mutant> {
        mutants.iter().map(|mutant| ("a.rs".to_owned(), (*mutant).to_owned())).collect()
    }

    #[test]
    fn a_new_survivor_and_one_that_is_gone_are_told() {
        let known = set(&["one", "two"]);
        let judged = |missed: &[&str], late: &[&str], all| {
            let results = Results { missed: set(missed), late: set(late), caught: set(&["four"]) };
            judge(&known, &results, all).map_err(|failure| failure.to_string())
        };
        assert_eq!(judged(&["one", "two"], &[], true), Ok(()));
        let new = Err("the kit does not notice, in a.rs: three".to_owned());
        assert_eq!(judged(&["one", "two", "three"], &[], true), new);
        let gone = Err("survives no longer, in a.rs: two".to_owned());
        assert_eq!(judged(&["one"], &[], true), gone);
        assert_eq!(judged(&["one"], &[], false), Ok(()), "it is of another part");
        assert_eq!(judged(&["one"], &["two"], true), Ok(()), "it may survive where there is time");
    }
}

//! Runs the targets of `fuzz` with libFuzzer, side by side.
//!
//! The flags are those of `cargo fuzz run --sanitizer none`, which the stable compiler takes: without
//! `unsafe` code of our own there is little for a sanitizer to find.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use clap::Args;

use crate::packages;
use crate::run::{Failure, cargo, has, output, root, show, target};

/// What is run, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds for each target.
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,
    /// Only this target; all by default.
    #[arg(long)]
    target: Option<String>,
}

/// With one target more at a time than there are cores, all together take a minute on two.
const SECONDS: u32 = 10;

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let mut targets = targets()?;
    if let Some(only) = &options.target {
        targets.retain(|target| target == only);
    }
    if targets.is_empty() {
        return Err(Failure::new("there is no such target in fuzz/fuzz_targets"));
    }
    let programs = build()?;
    let queue = Mutex::new(VecDeque::from(targets));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..=cores() {
            scope.spawn(|| {
                while let Some(target) = next(&queue) {
                    match run_one(&programs, &target, options.seconds) {
                        Ok(runs) => println!("{target}: {runs}"),
                        Err(failure) => {
                            println!("{target}: {failure}");
                            failed.lock().unwrap_or_else(PoisonError::into_inner).push(target);
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner).as_slice() {
        [] => Ok(()),
        failed => Err(Failure::new(format!("failed: {}", failed.join(", ")))),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn next(queue: &Mutex<VecDeque<String>>) -> Option<String> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

fn folder() -> PathBuf {
    root().join("fuzz")
}

/// The names of all targets, in the order of the alphabet.
fn targets() -> Result<Vec<String>, Failure> {
    let folder = folder().join("fuzz_targets");
    let names = std::fs::read_dir(&folder).and_then(|files| {
        files.map(|file| Ok(PathBuf::from(file?.file_name()))).collect::<std::io::Result<Vec<_>>>()
    });
    let names = names.map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    let stem = |name: &PathBuf| Some(name.file_stem()?.to_string_lossy().into_owned());
    let mut names: Vec<_> = names.iter().filter_map(stem).collect();
    names.sort_unstable();
    Ok(names)
}

/// Builds all targets, and answers the folder of the programs.
fn build() -> Result<PathBuf, Failure> {
    if !has("c++") {
        packages::install(&["g++"])?;
    }
    lock()?;
    let host = host()?;
    let folder = target().join("fuzz");
    let mut build = cargo(["build", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    build.args(["--target", &host, "--target-dir"]).arg(&folder);
    build.env("RUSTFLAGS", FLAGS.join(" "));
    show(build)?;
    Ok(folder.join(host).join("release"))
}

/// Begins with the workspace's versions: what is fuzzed is what is tested.
fn lock() -> Result<(), Failure> {
    let (of_workspace, of_fuzz) = (root().join("Cargo.lock"), folder().join("Cargo.lock"));
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    if changed(&of_fuzz) < changed(&of_workspace) {
        std::fs::copy(&of_workspace, &of_fuzz)
            .map_err(|error| Failure::new(format!("{}: {error}", of_fuzz.display())))?;
    }
    Ok(())
}

/// The machine that is built on. Naming it keeps the flags away from build scripts.
fn host() -> Result<String, Failure> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let version = output(rustc.arg("-vV").current_dir(root()))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("rustc names no host"))
}

/// Runs a target on its seeds and on what earlier runs have found; answers how often.
fn run_one(programs: &Path, name: &str, seconds: u32) -> Result<String, Failure> {
    let work = target().join("fuzz");
    let (found, logs, temporary) =
        (work.join("corpus").join(name), work.join("output"), work.join("tmp"));
    let failures = folder().join("artifacts").join(name);
    for folder in [&found, &logs, &temporary, &failures] {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    }
    let log = logs.join(format!("{name}.log"));
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", log.display()));
    let out = File::create(&log).map_err(failed)?;
    let mut run = Command::new(programs.join(name));
    run.arg(format!("-max_total_time={seconds}")).args(LIMITS);
    run.arg(format!("-artifact_prefix={}/", failures.display()));
    run.arg(found).arg(folder().join("seeds").join(name)).env("TMPDIR", temporary);
    run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(out);
    let status = run.status().map_err(failed)?;
    let said = String::from_utf8_lossy(&std::fs::read(&log).map_err(failed)?).into_owned();
    let runs = said.lines().find_map(|line| line.strip_prefix("Done "));
    match runs.filter(|_| status.success()) {
        Some(runs) => Ok(runs.to_owned()),
        None => {
            let lines: Vec<_> = said.lines().collect();
            let panic = lines.iter().position(|line| line.contains(" panicked at "));
            let from = panic.unwrap_or(lines.len().saturating_sub(SHOWN));
            let to = lines.len().min(from + SHOWN);
            let shown = lines[from..to].join("\n");
            Err(Failure::new(format!("{status}; the whole log is {}\n{shown}", log.display())))
        }
    }
}

/// Lines of the log of a target that failed.
const SHOWN: usize = 20;
/// Of libFuzzer: longest input in bytes, longest run in seconds, most memory in MiB.
const LIMITS: [&str; 3] = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"];
/// Counts which branches are taken and what is compared.
const FLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];

//! The simulation of a fleet. It is built apart: with tokio's seeded scheduler, with the defects that it
//! has to find, and optimised.

use std::process::Command;

use clap::Args;

use crate::run::{Failure, cargo, show, show_aside, target};

/// What `session-sim` takes; it checks the values itself.
#[derive(Args)]
pub(crate) struct Options {
    /// How many runs, each by its seed. Default 10,000.
    #[arg(long)]
    seeds: Option<String>,
    /// The first seed. Default 0.
    #[arg(long)]
    from: Option<String>,
    /// How many nodes, 1 to 100. Default 3.
    #[arg(long)]
    nodes: Option<String>,
    /// Runs one seed, and shows what happened.
    #[arg(long, value_name = "SEED")]
    replay: Option<String>,
    /// How many lines of it, from the end. Default 400.
    #[arg(long)]
    lines: Option<String>,
    /// The store below: `memory`, which is the default, or `sqlite`.
    #[arg(long)]
    store: Option<String>,
    /// How many threads. Default one for each processor.
    #[arg(long)]
    threads: Option<String>,
    /// Plants this defect in every run.
    #[arg(long, value_name = "DEFECT")]
    plant: Option<String>,
    /// Plants one defect after the other: each that it is known to find has to be found.
    #[arg(long)]
    planted: bool,
    /// What the check of the project runs: that two processes see the same on either store, that every
    /// guarantee holds in 10,000 runs, that the planted defects are found which it is known to find, and
    /// that a run which fails is told as one.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    build()?;
    if options.check {
        return check(options);
    }
    let mut sim = program();
    sim.args(words(options));
    if options.planted {
        sim.arg("--planted");
    }
    show(sim)
}

/// What the check runs, each with the seeds and the store of its own. A fleet on SQLite takes six times
/// as long.
fn check(options: &Options) -> Result<(), Failure> {
    let own = ["--seeds", "--from", "--nodes", "--replay", "--lines", "--store", "--plant"];
    let planted = options.planted.then_some("--planted");
    let given = given(options).map(|(name, _)| name).find(|name| own.contains(name));
    if let Some(name) = given.or(planted) {
        return Err(Failure::new(format!("--check takes --threads alone, and not {name}")));
    }
    let runs = [
        &["--seeds", "100", "--twice"][..],
        &["--seeds", "100", "--twice", "--store", "sqlite"],
        &["--seeds", "10000", "--within", "300"],
        &["--planted"],
    ];
    for rest in runs {
        let mut sim = program();
        sim.args(words(options)).args(rest);
        show(sim)?;
    }
    check_failing(options)
}

/// That a run which fails is told as one: the command fails, shows a shorter history with nodes as columns,
/// and names a command that shows the same run again.
fn check_failing(options: &Options) -> Result<(), Failure> {
    let run = |arguments: &[&str]| {
        let mut sim = program();
        let output = sim.args(words(options)).args(arguments).output();
        let output = output.map_err(|error| Failure::new(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let fails = output.status.code() == Some(1);
        if fails { Ok(text) } else { Err(Failure::new(format!("{arguments:?} has not failed"))) }
    };
    let told = run(&["--plant", FAILS, "--seeds", "20"])?;
    let missing = |what: &str| Failure::new(format!("of a run that fails is not told: {what}"));
    let line = |has: &str| told.lines().find(|line| line.contains(has)).ok_or_else(|| missing(has));
    let needed = line(" steps are needed:")?;
    let mut numbers = needed.split(' ').filter_map(|word| word.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(needed), Some(all)) if needed < all => {}
        _ => return Err(missing("a shorter run")),
    }
    let columns = line("store and faults")?;
    if !["node 0", "node 1", "node 2"].iter().all(|node| columns.contains(node)) {
        return Err(missing("a column for each node"));
    }
    let digest = line(", digest ")?.split([',', ':']).nth(1).unwrap_or_default().trim();
    let again = line("again: ")?.split_whitespace().skip_while(|word| !word.starts_with("--"));
    let again = run(&again.collect::<Vec<_>>())?;
    if !again.lines().any(|line| line == digest) {
        return Err(missing("how to see it again"));
    }
    println!("a run that fails is told, made shorter and repeated: {needed} {digest}");
    Ok(())
}

fn words(options: &Options) -> impl Iterator<Item = &str> {
    given(options).flat_map(|(name, value)| [name, value])
}

fn given(options: &Options) -> impl Iterator<Item = (&'static str, &str)> {
    let named = [
        ("--seeds", &options.seeds),
        ("--from", &options.from),
        ("--nodes", &options.nodes),
        ("--replay", &options.replay),
        ("--lines", &options.lines),
        ("--store", &options.store),
        ("--threads", &options.threads),
        ("--plant", &options.plant),
    ];
    named.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
}

fn build() -> Result<(), Failure> {
    let mut build = cargo(["build", "--locked", "--quiet", "--profile", "sim"]);
    build.args(["--package", "session-sim", "--features", "planted"]);
    // Its programs are built with other flags than the rest.
    build.arg("--target-dir").arg(target().join("sim"));
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    build.env("RUSTFLAGS", format!("{flags} --cfg tokio_unstable"));
    show_aside(build)
}

fn program() -> Command {
    Command::new(target().join("sim").join("sim").join("session-sim"))
}

/// A defect that nearly every run shows.
const FAILS: &str = "told-twice";

//! Many nodes on one simulated store: the real engine and HTTP rules, with simulated time, a seeded
//! scheduler and faults, under an oracle that knows what is true. `cargo xtask sim` builds and runs it.

mod call;
mod client;
mod node;
mod oracle;
mod plan;
#[cfg(feature = "planted")]
mod planted;
mod reached;
mod shrink;
mod store;
mod trace;
mod wire;
mod world;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;

use crate::plan::{Fleet, Plan};
use crate::reached::Reached;
use crate::store::Kind;
use crate::world::Keep;

/// So that no sum of seeds overflows.
const MOST_SEEDS: u64 = u64::MAX / 4;

#[derive(Parser)]
struct Options {
    /// How many runs, each by its seed.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=MOST_SEEDS))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=MOST_SEEDS))]
    from: u64,
    /// Nodes of the fleet.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    nodes: u8,
    /// Runs one seed and shows what happened.
    #[arg(long)]
    replay: Option<u64>,
    /// How many lines of it, from the end.
    #[arg(long, default_value_t = 400)]
    lines: usize,
    /// The store below: those that need no server, and whose time can be simulated.
    #[arg(long, value_enum, default_value_t = Kind::Memory)]
    store: Kind,
    /// How many threads. By default one for each processor.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Tells the digest of all that the runs have observed.
    #[arg(long)]
    digest: bool,
    /// Runs every seed in two processes, which have to see the same.
    #[arg(long)]
    twice: bool,
    /// Plants a defect in every run.
    #[cfg(feature = "planted")]
    #[arg(long)]
    plant: Option<String>,
    /// Plants one defect after the other; each has to be found.
    #[cfg(feature = "planted")]
    #[arg(long, conflicts_with_all = ["replay", "plant", "twice"])]
    planted: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !cfg!(tokio_unstable) {
        eprintln!("this build does not repeat itself: `cargo xtask sim` builds one that does");
        return ExitCode::from(2);
    }
    if options.twice {
        return twice(&options);
    }
    #[cfg(feature = "planted")]
    if options.planted {
        return planted::find_all(options.seeds, options.fleet(), options.threads());
    }
    match options.replay {
        Some(seed) => replay(&options, seed),
        None => run_all(&options),
    }
}

impl Options {
    fn fleet(&self) -> Fleet {
        Fleet { nodes: self.nodes.into(), store: self.store }
    }

    fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(all, usize::from)
    }
}

/// Runs this program twice and compares what it prints: all that it has observed is in the digest.
fn twice(options: &Options) -> ExitCode {
    let Options { seeds, from, .. } = options;
    let run = |threads: &str| {
        let given = [("--seeds", seeds.to_string()), ("--from", from.to_string())];
        let mut program = std::process::Command::new(std::env::current_exe()?);
        program.args(given.iter().flat_map(|(name, value)| [*name, value.as_str()]));
        program.args(options.fleet().arguments()).args(["--threads", threads, "--digest"]).output()
    };
    match (run("1"), run("2")) {
        (Ok(first), Ok(second)) if first.status.success() && second.status.success() => {
            let digest = |output: &std::process::Output| {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                text.lines().find(|line| line.starts_with("digest")).map(str::to_owned)
            };
            let (first, second) = (digest(&first), digest(&second));
            let same = first.is_some() && first == second;
            println!(
                "two processes: {} and {}",
                first.unwrap_or_default(),
                second.unwrap_or_default()
            );
            if same { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        (first, second) => {
            println!("{first:?}\n{second:?}");
            ExitCode::FAILURE
        }
    }
}

fn replay(options: &Options, seed: u64) -> ExitCode {
    plant(options);
    let plan = Plan::draw(seed, options.fleet());
    let run = world::run(&plan, Keep::Trace);
    print!("{plan}\n{}", run.trace.show(options.lines));
    println!("digest {:016x}", run.digest);
    match run.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("{} s: {}: {}", violation.at as f64 / 1_000.0, violation.kind, violation.text);
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "planted")]
fn plant(options: &Options) {
    if let Some(name) = &options.plant
        && let Err(error) = planted::plant(name)
    {
        eprintln!("{error}");
        std::process::exit(2);
    }
}

#[cfg(not(feature = "planted"))]
fn plant(_options: &Options) {}

/// The planted defect, as the command takes it.
#[cfg(feature = "planted")]
fn planted_as(options: &Options) -> String {
    options.plant.as_ref().map_or(String::new(), |name| format!(" --plant {name}"))
}

#[cfg(not(feature = "planted"))]
const fn planted_as(_options: &Options) -> &str {
    ""
}

/// What the runs of one command have shown.
#[derive(Default)]
struct Shown {
    reached: Reached,
    digest: u64,
    /// By the seed.
    failed: Vec<(u64, oracle::Violation)>,
}

fn run_all(options: &Options) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let keep = if options.digest { Keep::Digest } else { Keep::Nothing };
    let (shown, stop) = (Mutex::new(Shown::default()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..options.threads() {
            scope.spawn(|| {
                plant(options);
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let run = world::run(&Plan::draw(seed, options.fleet()), keep);
                    let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                    shown.reached.add(&run.reached);
                    // The order in which threads finish does not matter.
                    shown.digest =
                        shown.digest.wrapping_add(run.digest.rotate_left(seed as u32 % 64));
                    if let Some(violation) = run.violation {
                        shown.failed.push((seed, violation));
                        stop.store(shown.failed.len() >= MOST_FAILURES, Ordering::Relaxed);
                    }
                    drop(shown);
                    progress(seed + 1 - options.from, options.seeds, begun);
                }
            });
        }
    });
    let mut shown = shown.into_inner().unwrap_or_else(PoisonError::into_inner);
    eprintln!();
    shown.failed.sort_by_key(|(seed, ..)| *seed);
    for (what, count) in shown.reached.counts() {
        println!("{count:>10}  {what}");
    }
    if options.digest {
        println!("digest {:016x}", shown.digest);
    }
    let seconds = begun.elapsed().as_secs_f64();
    plant(options);
    for (seed, violation) in &shown.failed {
        let digest = world::run(&Plan::draw(*seed, options.fleet()), Keep::Digest).digest;
        println!("seed {seed}, digest {digest:016x}: {}: {}", violation.kind, violation.text);
    }
    if let Some((seed, violation)) = shown.failed.first() {
        shrink::show(*seed, options.fleet(), violation.kind);
        let fleet = options.fleet().arguments().join(" ");
        println!("again: cargo xtask sim {fleet}{} --replay {seed}", planted_as(options));
        return ExitCode::FAILURE;
    }
    let missing = shown.reached.missing();
    if options.seeds >= ENOUGH && options.nodes > 1 && !missing.is_empty() {
        println!("never reached: {}", missing.join("; "));
        return ExitCode::FAILURE;
    }
    println!(
        "{} runs of {} nodes in {seconds:.0} s: every guarantee holds",
        options.seeds, options.nodes
    );
    ExitCode::SUCCESS
}

fn progress(done: u64, all: u64, begun: Instant) {
    use std::io::IsTerminal;
    let step = if std::io::stderr().is_terminal() { 100 } else { 2_000 };
    if done.is_multiple_of(step) {
        let seconds = begun.elapsed().as_secs_f64();
        eprint!("\r{done} of {all} runs, {seconds:.0} s");
    }
}

/// A command of so many runs has to come upon everything.
const ENOUGH: u64 = 2_000;
/// After so many violations there is enough to read.
const MOST_FAILURES: usize = 10;

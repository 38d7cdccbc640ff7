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

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

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
    #[arg(long, conflicts_with_all = ["from", "twice", "within", "digest"])]
    replay: Option<u64>,
    /// How many lines of it, from the end.
    #[arg(long, default_value_t = 400, requires = "replay")]
    lines: usize,
    /// The store below: those that need no server, and whose time can be simulated.
    #[arg(long, value_enum, default_value_t = Kind::Memory)]
    store: Kind,
    /// How many threads. By default one for each processor.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Fails where the runs take more work than two processors do in so many seconds.
    #[arg(long, value_name = "SECONDS")]
    within: Option<u64>,
    /// Tells the digest of all that each run has observed.
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

/// Runs this program twice and compares what it prints: all that it has observed is in the digest. The
/// second time it finds what it may on another machine: one processor, another time zone, nothing in the
/// environment.
fn twice(options: &Options) -> ExitCode {
    let Options { seeds, from, .. } = options;
    let run = |mut program: Command, threads: &str| {
        let given = [("--seeds", seeds.to_string()), ("--from", from.to_string())];
        program.args(given.iter().flat_map(|(name, value)| [*name, value.as_str()]));
        program.args(options.fleet().arguments()).args(["--threads", threads, "--digest"]).output()
    };
    let here = || std::env::current_exe().and_then(|this| run(Command::new(this), "1"));
    let elsewhere = || {
        let mut program = Command::new("taskset");
        program.env_clear().env("TZ", "Pacific/Kiritimati").arg("--cpu-list");
        program.arg(a_processor()?).arg(std::env::current_exe()?);
        run(program, "2")
    };
    match (here(), elsewhere()) {
        (Ok(first), Ok(second)) if first.status.success() && second.status.success() => {
            let digests = |output: &std::process::Output| -> Vec<String> {
                let text = String::from_utf8_lossy(&output.stdout);
                let lines = text.lines().filter(|line| line.starts_with("seed "));
                lines.map(str::to_owned).collect()
            };
            let (first, second) = (digests(&first), digests(&second));
            let differs = first.iter().zip(&second).find(|(first, second)| first != second);
            if let Some((first, second)) = differs {
                println!("two processes see different things: {first}, and {second}");
            } else if first.len() as u64 == *seeds && first.len() == second.len() {
                println!("two processes see the same in {seeds} runs");
                return ExitCode::SUCCESS;
            }
            ExitCode::FAILURE
        }
        (first, second) => {
            println!("{first:?}\n{second:?}");
            ExitCode::FAILURE
        }
    }
}

/// The first of those on which this process may run.
fn a_processor() -> std::io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = allowed.and_then(|list| list.trim().split(['-', ',']).next());
    first.map(str::to_owned).ok_or_else(|| std::io::Error::other("no processor is allowed"))
}

fn replay(options: &Options, seed: u64) -> ExitCode {
    plant(options);
    let plan = Plan::draw(seed, options.fleet());
    let run = world::run(&plan, Keep::Trace);
    print!("{plan}\n{}", run.trace.show(options.lines));
    println!("digest {:016x}", run.digest);
    match run.violation {
        None => {
            println!("every guarantee holds");
            ExitCode::SUCCESS
        }
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
    /// Of what each run has observed, by its seed.
    digests: BTreeMap<u64, u64>,
    /// By the seed.
    failed: Vec<(u64, oracle::Violation)>,
}

fn run_all(options: &Options) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let keep = if options.digest { Keep::Digest } else { Keep::Nothing };
    let (shown, stop) = (Mutex::new(Shown::default()), AtomicBool::new(false));
    let bar = progress(options.seeds);
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
                    shown.digests.insert(seed, run.digest);
                    if let Some(violation) = run.violation {
                        shown.failed.push((seed, violation));
                        stop.store(shown.failed.len() >= MOST_FAILURES, Ordering::Relaxed);
                    }
                    drop(shown);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let shown = shown.into_inner().unwrap_or_else(PoisonError::into_inner);
    tell(options, shown, begun.elapsed())
}

/// Prints what the runs have shown, and whether all is well.
fn tell(options: &Options, mut shown: Shown, took: Duration) -> ExitCode {
    shown.failed.sort_by_key(|(seed, ..)| *seed);
    for (what, count) in shown.reached.counts() {
        println!("{count:>10}  {what}");
    }
    if options.digest {
        for (seed, digest) in &shown.digests {
            println!("seed {seed} digest {digest:016x}");
        }
    }
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
    let (seeds, nodes, seconds) = (options.seeds, options.nodes, took.as_secs_f64());
    println!("{seeds} runs of {nodes} nodes in {seconds:.0} s: every guarantee holds");
    let Some(most) = options.within else { return ExitCode::SUCCESS };
    match worked() {
        Ok(worked) if worked <= 2 * Duration::from_secs(most) => {}
        Ok(worked) => {
            println!("they took {worked:.0?} of a processor, which two have in more than {most} s");
            return ExitCode::FAILURE;
        }
        Err(error) => {
            println!("how much work they took is not known: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// How much processor time this process has had, which other work on the machine does not change: Linux counts it in
/// hundredths of a second, behind the name of the program.
fn worked() -> std::io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    let counted = ticks.len() == 2;
    let time = counted.then(|| Duration::from_millis(10 * ticks.iter().sum::<u64>()));
    time.ok_or_else(|| std::io::Error::other("/proc/self/stat has no times"))
}

fn progress(seeds: u64) -> ProgressBar {
    let template = "{bar:40} {human_pos} of {human_len} runs, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(seeds).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A command of so many runs has to come upon everything.
const ENOUGH: u64 = 2_000;
/// After so many violations there is enough to read.
const MOST_FAILURES: usize = 10;

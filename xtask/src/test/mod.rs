//! Everything that has to hold.

mod build;
mod checks;
mod jobs;
mod tally;

use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use clap::Args;

use crate::run::{Failure, cargo, hear};
use crate::server::Server;
use crate::services::{self, Servers};
use crate::{alerts, browser, fleet, house, licences, nginx, packaging};
use build::Binary;
use jobs::Job;
use tally::Tally;

/// What is left out.
#[derive(Args)]
pub(crate) struct Choice {
    /// The checks and tests that tell most in a few minutes: no server, no browser, and of the
    /// adapters axum only.
    #[arg(long)]
    fast: bool,
    /// Leaves out what needs programs of others that cannot be had: the tests with a browser and with
    /// nginx, and the check of the alert rules by Prometheus' promtool.
    #[arg(long)]
    no_browser: bool,
    /// Leaves out the stores that need a server.
    #[arg(long)]
    embedded_only: bool,
}

/// Runs what was chosen. The last line is the sum of all tests.
pub(crate) fn run(choice: &Choice) -> Result<(), Failure> {
    let (mut tally, begun) = (Tally::default(), Instant::now());
    let result = if choice.fast { fast(&mut tally) } else { whole(choice, &mut tally) };
    println!("\n== in all: {} s\n\n{tally}", begun.elapsed().as_secs());
    result
}

fn fast(tally: &mut Tally) -> Result<(), Failure> {
    step("format", checks::format)?;
    step("house", house::check)?;
    step("licences", licences::check)?;
    step("lints", checks::lints)?;
    let binaries = built(&build::FAST, "")?;
    step("tests", || jobs::run(jobs::of(&binaries, &Servers::none()), tally))
}

fn whole(choice: &Choice, tally: &mut Tally) -> Result<(), Failure> {
    step("format", checks::format)?;
    step("house", house::check)?;
    step("licences", licences::check)?;
    step("packages", packaging::check)?;
    if !choice.no_browser {
        step("alerts", alerts::check)?;
    }
    step("lints", checks::lints)?;
    // It is long, waits for no server, and builds in a folder of its own.
    let simulation = Job::task("sim", &["--check", "--threads", "1"])?;
    thread::scope(|scope| {
        let simulation = scope.spawn(|| jobs::run(vec![simulation], &mut Tally::default()));
        step("documentation", checks::documentation)?;
        step("features", checks::features)?;
        let servers: &[Server] = if choice.embedded_only { &[] } else { &Server::ALL };
        services::with(servers, |servers| tests(choice, servers, simulation, tally))
    })
}

/// Builds all tests at once, and runs them.
fn tests(
    choice: &Choice,
    servers: &Servers,
    simulation: ScopedJoinHandle<'_, Result<(), Failure>>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut features = build::server_features(servers);
    if !choice.no_browser {
        step("programs to test with", || browser::install().and_then(|()| nginx::install()))?;
        features += ",session-demo/nginx-tests";
    }
    let binaries = built(&build::ALL, &features)?;
    let mut jobs = jobs::of(&binaries, servers);
    // While the last tests wait for their servers.
    jobs.push(Job::task("schemathesis", &["--built"])?);
    jobs.push(Job::task("fuzz", &[])?);
    step("tests", || {
        let tests = jobs::run(jobs, tally);
        // What follows measures times.
        let simulation = simulation.join().unwrap_or_else(|_| Err(Failure::new("sim: panicked")));
        tests.and(simulation)
    })?;
    step("examples in the documentation", || {
        let mut tests = cargo(["test", "--locked", "--quiet", "--doc"]);
        tests.args(build::ALL).args(["--features", &features]);
        servers.tell(&mut tests);
        hear(tests, |line| tally.count(line))
    })?;
    step("fleet", || fleet::check(servers))?;
    if choice.no_browser {
        return Ok(());
    }
    step("browser", || browser_tests(&binaries, servers, tally))
}

/// One after another: browsers want the machine for themselves. On each adapter, with a SQLite file or
/// a server.
fn browser_tests(binaries: &[Binary], servers: &Servers, tally: &mut Tally) -> Result<(), Failure> {
    for binary in binaries.iter().filter(|binary| binary.package == BROWSER_TEST) {
        for (adapter, server) in [("axum", None), ("actix", Some(Server::Postgres)), ("poem", None)]
        {
            let mut run = binary.command();
            run.env("SESSION_KIT_BROWSER_ADAPTER", adapter);
            if let Some(url) = server.and_then(|server| servers.url(server)) {
                run.env("SESSION_KIT_BROWSER_POSTGRES_URL", url);
            }
            hear(run, |line| tally.count(line))?;
        }
    }
    Ok(())
}

fn built(packages: &[&str], features: &str) -> Result<Vec<Binary>, Failure> {
    let mut binaries = Vec::new();
    step("building tests", || {
        binaries = build::tests(packages, features)?;
        Ok(())
    })?;
    Ok(binaries)
}

fn step(name: &str, run: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    println!("\n== {name}");
    let begun = Instant::now();
    // At once: what runs beside it goes on to its end.
    run().inspect_err(|failure| println!("== {name}: {failure}"))?;
    println!("== {name}: {} s", begun.elapsed().as_secs());
    Ok(())
}

/// Its tests need a browser, so they are no job among the others.
const BROWSER_TEST: &str = "session-browser-test";

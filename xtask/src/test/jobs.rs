//! Runs test programs side by side. No two use the same server at the same time, so a server that
//! one of them kills is not there for no other.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::BROWSER_TEST;
use super::build::Binary;
use super::tally::Tally;
use crate::run::{Failure, root, target};
use crate::server::Server;
use crate::services::Servers;

/// Which programs use which servers, those that take longest first; all others use none.
const USES: [(&str, &str, &[Server]); 8] = [
    ("session-store-mongo", "servers", &[Server::Mongodb]),
    ("session-store-redis", "servers", &[Server::Redis, Server::RedisCluster]),
    ("session-store-sql", "postgres", &[Server::Postgres]),
    ("session-store-sql", "mysql", &[Server::Mysql]),
    ("session-store-sql", "session_store_sql", &[Server::Postgres, Server::Mysql]),
    ("session-store-sql", "faults", &[Server::Postgres, Server::Mysql]),
    ("session-store-redis", "session_store_redis", &[Server::Redis, Server::RedisCluster]),
    ("session-store-mongo", "session_store_mongo", &[Server::Mongodb]),
];

/// The program whose tests are split: a module of its own for each server, and the rest.
const SPLIT: (&str, &str) = ("session-demo", "behaviour");
const MODULES: [(&str, Server); 5] = [
    ("mongodb::", Server::Mongodb),
    ("postgres::", Server::Postgres),
    ("mysql::", Server::Mysql),
    ("redis::", Server::Redis),
    ("redis_cluster::", Server::RedisCluster),
];

/// The test that has a server for itself, and its program.
const BESIDE: (&str, &str) = ("session-store-mongo", "servers");
const BESIDE_TEST: &str = "keeps_every_guarantee_without_transactions";

/// A program to run.
pub(crate) struct Job {
    name: String,
    command: Command,
    uses: &'static [Server],
    /// Whether it is about one test, which has to be there.
    names_a_test: bool,
}

impl Job {
    /// A task of this program, such as `fuzz`.
    pub(crate) fn task(name: &str, options: &[&str]) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::new(error.to_string()))?;
        let mut command = Command::new(program);
        // What it builds is not listed, so that a failure is all there is to read.
        command.arg(name).args(options).current_dir(root()).env("CARGO_TERM_QUIET", "true");
        Ok(Self { name: name.to_owned(), command, uses: &[], names_a_test: false })
    }
}

/// One or more for each program, but for those that need a browser.
pub(crate) fn of(binaries: &[Binary], servers: &Servers) -> Vec<Job> {
    let binaries = binaries.iter().filter(|binary| binary.package != BROWSER_TEST);
    let mut jobs: Vec<_> = binaries
        .flat_map(|binary| match (binary.package.as_str(), binary.target.as_str()) {
            SPLIT => split(binary, servers),
            BESIDE => with_one_beside(binary, servers).into(),
            _ => vec![whole(binary, servers)],
        })
        .collect();
    jobs.sort_by_key(|(place, _)| *place);
    jobs.into_iter().map(|(_, job)| job).collect()
}

/// A program as one job, and its place among them.
fn whole(binary: &Binary, servers: &Servers) -> (usize, Job) {
    let place = USES.iter().position(|(package, target, _)| {
        (*package, *target) == (binary.package.as_str(), binary.target.as_str())
    });
    let uses = place.map_or(&[][..], |place| USES[place].2);
    let mut command = binary.command();
    servers.tell(&mut command);
    let name = format!("{} {}", binary.package, binary.target);
    (place.unwrap_or(USES.len()), Job { name, command, uses, names_a_test: false })
}

/// A program as a job for each server that is there, and one for what needs none.
fn split(binary: &Binary, servers: &Servers) -> Vec<(usize, Job)> {
    let (place, mut rest) = whole(binary, servers);
    rest.command.args(MODULES.iter().flat_map(|(module, _)| ["--skip", module]));
    let of_servers = MODULES.iter().filter(|(_, server)| servers.url(*server).is_some());
    let of_servers = of_servers.map(|(module, server)| {
        let (_, mut job) = whole(binary, servers);
        job.name = format!("{} {}", job.name, module.trim_end_matches(':'));
        job.command.arg(module);
        job.uses = std::slice::from_ref(server);
        (place, job)
    });
    of_servers.chain([(0, rest)]).collect()
}

/// A program as a job without the test that has a server for itself, and one of that test.
fn with_one_beside(binary: &Binary, servers: &Servers) -> [(usize, Job); 2] {
    let (place, mut rest) = whole(binary, servers);
    let (_, mut beside) = whole(binary, servers);
    rest.command.args(["--skip", BESIDE_TEST]);
    beside.command.args(["--exact", BESIDE_TEST]);
    beside.name = format!("{} beside", beside.name);
    beside.uses = &[Server::MongodbBeside];
    beside.names_a_test = true;
    [(place, rest), (place, beside)]
}

/// Runs all of them, also where one fails, whose output is then shown.
pub(crate) fn run(jobs: Vec<Job>, tally: &mut Tally) -> Result<(), Failure> {
    let logs = target().join("test-output");
    std::fs::create_dir_all(&logs)
        .map_err(|error| Failure::new(format!("{}: {error}", logs.display())))?;
    let queue = Queue::new(jobs);
    std::thread::scope(|scope| {
        for _ in 0..width() {
            scope.spawn(|| queue.work(&logs));
        }
    });
    let state = queue.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.add(state.tally);
    match state.failed.as_slice() {
        [] => Ok(()),
        failed => Err(Failure::new(format!("failed: {}", failed.join(", ")))),
    }
}

/// Two more than the machine has cores, because those that use a server wait for it.
fn width() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) + 2
}

/// Programs that wait for their turn.
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    in_use: Vec<Server>,
    tally: Tally,
    failed: Vec<String>,
}

impl Queue {
    fn new(jobs: Vec<Job>) -> Self {
        let state = State { waiting: jobs.into(), ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn work(&self, logs: &Path) {
        while let Some(job) = self.next() {
            let (name, uses) = (job.name.clone(), job.uses);
            let begun = Instant::now();
            let outcome = run_one(job, logs);
            let mut state = self.state();
            state.in_use.retain(|server| !uses.contains(server));
            state.note(&name, outcome, begun);
            self.changed.notify_all();
        }
    }

    /// The first of those whose servers nobody uses; waits until there is one.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        while !state.waiting.is_empty() {
            if let Some(job) = state.take() {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self) -> Option<Job> {
        let is_free = |job: &Job| job.uses.iter().all(|server| !self.in_use.contains(server));
        let job = self.waiting.remove(self.waiting.iter().position(is_free)?)?;
        self.in_use.extend(job.uses);
        Some(job)
    }

    fn note(&mut self, name: &str, outcome: Result<Outcome, Failure>, begun: Instant) {
        let seconds = begun.elapsed().as_secs();
        let is_ok = outcome.as_ref().is_ok_and(|outcome| outcome.success);
        match outcome {
            Ok(Outcome { success, output }) => {
                let tally = Tally::of(&output);
                self.tally.add(tally);
                if !success {
                    println!("{output}");
                }
                println!("{name}: {tally}, {seconds} s");
            }
            Err(failure) => println!("{name}: {failure}"),
        }
        if !is_ok {
            self.failed.push(name.to_owned());
        }
    }
}

struct Outcome {
    success: bool,
    output: String,
}

/// Runs a program with all of its output in a file.
fn run_one(mut job: Job, logs: &Path) -> Result<Outcome, Failure> {
    let log = logs.join(format!("{}.log", job.name.replace(' ', "-")));
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", log.display()));
    let out = File::create(&log).map_err(failed)?;
    let err = out.try_clone().map_err(failed)?;
    job.command.stdin(Stdio::null()).stdout(out).stderr(err);
    let status = job.command.status().map_err(failed)?;
    let output = std::fs::read(&log).map_err(failed)?;
    let output = String::from_utf8_lossy(&output).into_owned();
    let is_missing = job.names_a_test && Tally::of(&output) == Tally::default();
    Ok(Outcome { success: status.success() && !is_missing, output })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, uses: &'static [Server]) -> Job {
        Job { name: name.to_owned(), command: Command::new("true"), uses, names_a_test: false }
    }

    #[test]
    fn no_two_use_the_same_server() {
        let all = [
            job("one", &[Server::Postgres]),
            job("two", &[Server::Postgres, Server::Mysql]),
            job("three", &[Server::Mysql]),
            job("four", &[]),
        ];
        let mut state = State { waiting: all.into(), ..State::default() };
        let mut take = || state.take().map(|job| job.name);
        let taken = [take(), take(), take(), take()];
        assert_eq!(taken.map(Option::unwrap_or_default), ["one", "three", "four", ""]);
        state.in_use.clear();
        assert_eq!(state.take().map(|job| job.name).as_deref(), Some("two"));
    }
}

//! Everything that has to hold.

use std::process::Command;
use std::time::Instant;

use crate::instance::Server;
use crate::run::{Failure, cargo, hear, show};
use crate::{browser, house, licences, services};

/// The facade's features, alone and together.
const FEATURES: [&str; 9] =
    ["", "memory", "sqlite", "postgres", "mysql", "redis", "mongodb", "axum", "memory,sqlite,axum"];
const STORES: [(&str, &str); 6] = [
    ("session-store-memory", ""),
    ("session-store-sql", "sqlite"),
    ("session-store-sql", "postgres"),
    ("session-store-sql", "mysql"),
    ("session-store-redis", ""),
    ("session-store-mongo", ""),
];

pub(crate) fn all(no_browser: bool, embedded_only: bool) -> Result<(), Failure> {
    let mut tests = Tests::default();
    step("format", || show(cargo(["fmt", "--all", "--check"])))?;
    step("house", house::check)?;
    step("licences", licences::check)?;
    step("lints", lints)?;
    step("documentation", documentation)?;
    step("features", features)?;
    step("tests", || tests.run(cargo(["test", "--locked"])))?;
    if !no_browser {
        step("browser", || {
            browser::install()?;
            tests.run(browser_tests())
        })?;
    }
    if !embedded_only {
        step("servers", || {
            services::with(&Server::ALL, |servers| {
                tests.run(server_tests(servers)?)?;
                if no_browser { Ok(()) } else { tests.run(browser_tests_on_postgres(servers)) }
            })
        })?;
    }
    println!("\n{} passed, {} failed", tests.passed, tests.failed);
    Ok(())
}

fn browser_tests() -> Command {
    cargo(["test", "--locked", "--package", "session-browser-test"])
}

fn browser_tests_on_postgres(servers: &services::Servers) -> Command {
    let mut command = browser_tests();
    let postgres =
        servers.variables.iter().filter(|(name, _)| *name == Server::Postgres.variable());
    command.envs(postgres.map(|(_, url)| ("SESSION_KIT_BROWSER_POSTGRES_URL", url)));
    command
}

/// The tests behind the features that need a server. Those that kill it need private instances.
fn server_tests(servers: &services::Servers) -> Result<Command, Failure> {
    let packages = ["session-store-sql", "session-store-redis", "session-store-mongo"];
    let mut arguments = vec!["test", "--locked"];
    packages.iter().for_each(|package| arguments.extend(["--package", package]));
    let mut features = "server-tests".to_owned();
    if servers.private.len() == Server::ALL.len() {
        features += ",fault-tests";
    } else {
        println!("the tests of faults are left out: not every server is a private instance");
    }
    arguments.extend(["--features", &features]);
    let mut command = cargo(arguments);
    command.envs(servers.variables.iter().map(|(name, value)| (name, value)));
    let program = std::env::current_exe();
    let program = program.map_err(|error| Failure::new(format!("this program: {error}")))?;
    command.env("SESSION_KIT_XTASK", program);
    Ok(command)
}

fn step(name: &str, run: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    println!("\n== {name}");
    let begun = Instant::now();
    run()?;
    println!("== {name}: {} s", begun.elapsed().as_secs());
    Ok(())
}

fn lints() -> Result<(), Failure> {
    let arguments = ["clippy", "--locked", "--workspace", "--all-targets", "--all-features"];
    show(cargo(arguments.into_iter().chain(["--", "-D", "warnings"])))
}

fn documentation() -> Result<(), Failure> {
    let mut document = cargo(["doc", "--locked", "--workspace", "--all-features", "--no-deps"]);
    document.env("RUSTDOCFLAGS", "-D warnings");
    show(document)
}

/// Every feature and every store builds alone: none leans on what another one happens to bring.
fn features() -> Result<(), Failure> {
    let facade = FEATURES.map(|features| ("session-kit", features));
    for (package, features) in facade.into_iter().chain(STORES) {
        let arguments = ["check", "--locked", "--package", package, "--no-default-features"];
        show(cargo(arguments.into_iter().chain(["--features", features])))?;
    }
    Ok(())
}

#[derive(Default)]
struct Tests {
    passed: u64,
    failed: u64,
}

impl Tests {
    fn run(&mut self, command: Command) -> Result<(), Failure> {
        hear(command, |line| self.count(line))
    }

    /// Adds up lines such as `test result: ok. 21 passed; 0 failed; ...`.
    fn count(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let number = |word: &str| {
            let part = result.split([';', '.']).find(|part| part.trim_end().ends_with(word));
            part.and_then(|part| part.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
    }
}

#[cfg(test)]
mod tests {
    use super::Tests;

    #[test]
    fn results_are_added_up() {
        let mut tests = Tests::default();
        tests.count("test result: ok. 21 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        tests.count("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured");
        tests.count("running 5 tests");
        assert_eq!((tests.passed, tests.failed), (23, 3));
    }
}

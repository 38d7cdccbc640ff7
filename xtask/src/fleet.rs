//! A fleet of demo processes on one real store: revocations, faults, and a soak.

use std::path::PathBuf;
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::conformance::Store;
use crate::packages;
use crate::run::{Failure, cargo, show, show_aside, target};
use crate::server::Server;
use crate::services::{self, Servers};

/// What `session-fleet` takes. It checks the names of faults itself.
#[derive(Args)]
pub(crate) struct Options {
    /// Which store; may be given more than once. Default all but the one in memory.
    #[arg(long)]
    store: Vec<Store>,
    /// How many nodes, 2 to 50. Default 5.
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..=50))]
    nodes: Option<u16>,
    /// How many sessions are revoked; 0 for no measurement. Default 1,000.
    #[arg(long)]
    revokes: Option<u32>,
    /// Connections of users to each node, 4 to 1,000. Default 4.
    #[arg(long, value_parser = clap::value_parser!(u16).range(4..=1000))]
    connections: Option<u16>,
    /// Lets faults happen, one after the other, and draws what users saw into `target/fleet`. Servers
    /// are killed where they are private instances.
    #[arg(long)]
    faults: bool,
    /// Of the faults only this one, by its name in `docs/fleet.md`; may be given more than once.
    #[arg(long, requires = "faults")]
    fault: Vec<String>,
    /// Plants one defect after the other into every node, in a build for tests, by default on PostgreSQL: each
    /// has to break a guarantee.
    #[arg(long, conflicts_with_all = ["nodes", "revokes", "connections", "faults", "fault", "soak"])]
    planted: bool,
    /// Full load for this many seconds (300 where none are given), and a revocation every 10 ms.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "300")]
    soak: Option<u32>,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let stores = stores(&options.store)?;
    if options.revokes == Some(0) && !options.faults && options.soak.is_none() {
        return Err(Failure::new(
            "--revokes 0 needs --faults or --soak: there is nothing else to do",
        ));
    }
    if options.planted {
        return planted(if options.store.is_empty() { &[Store::Postgres] } else { &stores });
    }
    build(&["--release"])?;
    let servers: Vec<_> = stores.iter().filter_map(|store| store.server()).collect();
    let faketime = if options.faults { faketime() } else { None };
    services::with(&servers, |servers| {
        let mut fleet = command("release", &stores, servers);
        fleet.args(given(options));
        if let Some(faketime) = &faketime {
            fleet.arg("--faketime").arg(faketime);
        }
        show(fleet)
    })
}

/// The short form, with the programs that the tests have built: on PostgreSQL where it is there, else on
/// a SQLite file.
pub(crate) fn check(servers: &Servers) -> Result<(), Failure> {
    let is_there = servers.url(Server::Postgres).is_some();
    let store = if is_there { Store::Postgres } else { Store::Sqlite };
    let mut fleet = command("debug", &[store], servers);
    fleet.args(["--quick", "--nodes", "3", "--revokes", "100"]);
    show(fleet)
}

/// Whether the judge finds what breaks a guarantee: one run for each defect, with a fault that shows it.
fn planted(stores: &[Store]) -> Result<(), Failure> {
    build(&["--features", "session-demo/planted"])?;
    let servers: Vec<_> = stores.iter().filter_map(|store| store.server()).collect();
    services::with(&servers, |servers| {
        for store in stores {
            for (defect, fault, breaks) in PLANTED {
                println!("{defect}, {fault}");
                let mut fleet = command("debug", &[*store], servers);
                fleet.args(["--quick", "--nodes", "3", "--revokes", "0"]);
                fleet.args(["--planted", defect, "--breaks", breaks, "--fault", fault]);
                show(fleet)?;
            }
        }
        Ok(())
    })
}

fn stores(named: &[Store]) -> Result<Vec<Store>, Failure> {
    if named.contains(&Store::Memory) {
        let why = "the memory store lives in one process: a fleet needs one that processes share";
        return Err(Failure::new(why));
    }
    let all = Store::value_variants().iter().copied();
    let all = all.filter(|store| *store != Store::Memory).collect();
    Ok(if named.is_empty() { all } else { named.to_vec() })
}

fn build(arguments: &[&str]) -> Result<(), Failure> {
    let mut build = cargo(["build", "--locked"]);
    build.args(arguments);
    build.args(["--package", "session-demo", "--bin", "session-demo"]);
    build.args(["--package", "session-fleet", "--bin", "session-fleet"]);
    show_aside(build)
}

fn command(profile: &str, stores: &[Store], servers: &Servers) -> Command {
    let folder = target().join(profile);
    let mut fleet = Command::new(folder.join("session-fleet"));
    fleet.arg("--program").arg(folder.join("session-demo")).arg("--out").arg(target());
    servers.tell(&mut fleet);
    for store in stores {
        let name = store.to_possible_value();
        let name = name.as_ref().map_or("", |value| value.get_name());
        fleet.args(["--store", name]);
        if store.server().is_some_and(|server| servers.private.contains(&server)) {
            fleet.args(["--killable", name]);
        }
    }
    fleet
}

/// Those options that were given.
fn given(options: &Options) -> Vec<String> {
    let Options { store: _, nodes, revokes, connections, faults, fault, planted: _, soak } =
        options;
    let valued = [
        ("--nodes", nodes.map(u32::from)),
        ("--revokes", *revokes),
        ("--connections", connections.map(u32::from)),
        ("--soak", *soak),
    ];
    let valued =
        valued.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?.to_string()]));
    let faults = faults.then(|| "--faults".to_owned());
    let fault = fault.iter().flat_map(|name| ["--fault".to_owned(), name.clone()]);
    valued.flatten().chain(faults).chain(fault).collect()
}

/// The library that gives a process another clock. Where it cannot be had, the faults of clocks are left out.
fn faketime() -> Option<PathBuf> {
    let there = || {
        let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library = |folder: PathBuf| folder.join("faketime/libfaketime.so.1");
        folders.map(|folder| library(folder.path())).find(|path| path.is_file())
    };
    there().or_else(|| match packages::install(&["libfaketime"]) {
        Ok(()) => there(),
        Err(failure) => {
            eprintln!("libfaketime cannot be installed: {failure}");
            None
        }
    })
}

/// Defects of the engine, and for each a fault under which it breaks a guarantee, and what the judge then says.
const PLANTED: [(&str, &str, &str); 6] = [
    ("tenant-lost", "node-paused", "shows the page of someone else"),
    ("stopped-trusted", "node-paused", ACCEPTED),
    ("stale-trusted", "node-stopped", ACCEPTED),
    ("stale-trusted", "stalled", ACCEPTED),
    ("outage-is-refusal", "stalled", "a signed-in user's page: 401"),
    ("hint-is-truth", "requests-cut", ACCEPTED),
];
const ACCEPTED: &str = "the page of a revoked session: accepted";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_needs_a_store_that_processes_share() {
        let refused = stores(&[Store::Sqlite, Store::Memory]).unwrap_err();
        assert!(refused.to_string().contains("memory"), "{refused}");
        assert_eq!(stores(&[]).unwrap().len(), 6);
        assert_eq!(stores(&[Store::Redis]).unwrap(), [Store::Redis]);
    }

    #[test]
    fn the_program_is_told_what_was_given_and_what_it_may_kill() {
        let mut servers = Servers::none();
        servers.private.push(Server::Redis);
        let fleet = command("debug", &[Store::Redis, Store::Mongo], &servers);
        let arguments: Vec<_> = fleet.get_args().skip(4).collect();
        assert_eq!(arguments, ["--store", "redis", "--killable", "redis", "--store", "mongo"]);
        let options = Options {
            store: vec![],
            nodes: Some(3),
            revokes: None,
            connections: None,
            faults: true,
            fault: vec!["stalled".to_owned()],
            planted: false,
            soak: Some(300),
        };
        let expected = ["--nodes", "3", "--soak", "300", "--faults", "--fault", "stalled"];
        assert_eq!(given(&options), expected);
    }
}

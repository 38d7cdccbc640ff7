//! A rolling upgrade: a node of another commit beside one of this, on one store and under load.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::conformance::Store;
use crate::run::{self, Failure, cargo};
use crate::services;

/// Which versions meet, and where.
#[derive(Args)]
pub(crate) struct Options {
    /// The commit of the older node.
    #[arg(long, default_value = "HEAD~1")]
    from: String,
    /// The stores; all but the one in memory, where none is named.
    #[arg(long)]
    store: Vec<Store>,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let program = build(&options.from)?;
    let all = [
        Store::Sqlite,
        Store::Postgres,
        Store::Mysql,
        Store::Redis,
        Store::RedisCluster,
        Store::Mongo,
    ];
    let stores = if options.store.is_empty() { &all[..] } else { &options.store };
    for store in stores {
        upgrade(*store, &program)?;
        println!("upgrade {store:?} ... ok");
    }
    Ok(())
}

/// Builds the demo of a commit, in a folder of its own.
fn build(commit: &str) -> Result<PathBuf, Failure> {
    let folder = run::target().join("upgrade");
    let source = folder.join("source");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(run::root()).args(arguments);
        run::show_aside(git)
    };
    let path = source.to_string_lossy();
    if source.exists() {
        git(&["-C", &path, "checkout", "--quiet", "--detach", commit])?;
    } else {
        git(&["worktree", "add", "--quiet", "--force", "--detach", &path, commit])?;
    }
    let mut build = cargo(["build", "--locked", "--package", "session-demo"]);
    build.current_dir(&source).env("CARGO_TARGET_DIR", folder.join("target"));
    run::show_aside(build)?;
    Ok(folder.join("target/debug/session-demo"))
}

fn upgrade(store: Store, program: &Path) -> Result<(), Failure> {
    let server: Vec<_> = store.server().into_iter().collect();
    services::with(&server, |servers| {
        let mut test = cargo(["test", "--locked", "--quiet", "--package", "session-demo"]);
        test.args(["--test", "processes", "--", "--exact"]);
        test.args([
            "upgrade::a_rolling_upgrade_signs_nobody_out_and_refuses_nobody",
            "--nocapture",
        ]);
        test.env("SESSION_KIT_UPGRADE_FROM", program);
        if let Some(url) = store.server().and_then(|server| servers.url(server)) {
            test.env("SESSION_KIT_UPGRADE_STORE", url);
        }
        let mut is_there = false;
        run::hear(test, |line| is_there |= line.contains(" 1 passed"))?;
        if is_there { Ok(()) } else { Err(Failure::new("the test of upgrades is not there")) }
    })
}

//! The demo.

use std::path::PathBuf;
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::run::{Failure, become_it, cargo, show, target};

/// What the demo takes; it checks the values itself.
#[derive(Args)]
pub(crate) struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3000")]
    addr: String,
    /// The framework to run on.
    #[arg(long, value_enum, default_value_t)]
    adapter: Adapter,
    /// The SQLite file; it is created if it is missing.
    #[arg(long, default_value = "session-kit-demo.db")]
    db: PathBuf,
    /// Another store: `sqlite:FILE`, or the URL of a server: `postgres:`, `mysql:`, `redis:`,
    /// `redis-cluster:` or `mongodb:`.
    #[arg(long, conflicts_with = "db")]
    store: Option<String>,
    /// A proxy whose word on the client's address is taken: an address, a range such as 10.0.0.0/8,
    /// or `unix`. May be given more than once.
    #[arg(long, value_name = "RANGE")]
    trusted_proxy: Vec<String>,
    /// Another origin whose pages may change something here, such as `https://shop.example.com`. May be
    /// given more than once.
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<String>,
    /// Options in TOML, as in docs/session-kit.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One of these options, such as `engine.renew_after=600`. May be given more than once.
    #[arg(long, value_name = "OPTION=VALUE")]
    set: Vec<String>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Adapter {
    #[default]
    Axum,
    Actix,
    Poem,
}

/// Builds the demo, which shows its progress, and goes on as it.
pub(crate) fn run(options: Options) -> Result<(), Failure> {
    eprintln!("Building the demo; the first time takes some minutes.");
    show(cargo(["build", "--locked", "--package", "session-demo"]))?;
    become_it(command(options))
}

fn command(options: Options) -> Command {
    let Options { addr, adapter, db, store, trusted_proxy, allowed_origin, config, set } = options;
    let adapter = match adapter {
        Adapter::Axum => "axum",
        Adapter::Actix => "actix",
        Adapter::Poem => "poem",
    };
    let mut demo = Command::new(target().join("debug/session-demo"));
    demo.args(["--addr", &addr, "--adapter", adapter]);
    match store {
        Some(store) => demo.args(["--store", &store]),
        None => demo.arg("--db").arg(db),
    };
    trusted_proxy.iter().for_each(|range| {
        demo.args(["--trusted-proxy", range]);
    });
    allowed_origin.iter().for_each(|origin| {
        demo.args(["--allowed-origin", origin]);
    });
    if let Some(config) = config {
        demo.arg("--config").arg(config);
    }
    set.iter().for_each(|option| {
        demo.args(["--set", option]);
    });
    demo
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn arguments(line: &[&str]) -> String {
        let line = Line::parse_from(std::iter::once(&"demo").chain(line));
        let demo = command(line.options);
        let arguments: Vec<_> = demo.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        arguments.join(" ")
    }

    #[test]
    fn every_option_reaches_the_demo() {
        let default = "--addr 127.0.0.1:3000 --adapter axum --db session-kit-demo.db";
        assert_eq!(arguments(&[]), default);
        let line = [
            "--adapter",
            "poem",
            "--store",
            "sqlite:a.db",
            "--trusted-proxy",
            "unix",
            "--trusted-proxy",
            "10.0.0.0/8",
            "--config",
            "a.toml",
            "--set",
            "http.max_accounts=2",
        ];
        let expected = "--addr 127.0.0.1:3000 --adapter poem --store sqlite:a.db --trusted-proxy unix \
            --trusted-proxy 10.0.0.0/8 --config a.toml --set http.max_accounts=2";
        assert_eq!(arguments(&line), expected);
    }
}

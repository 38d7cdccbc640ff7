//! The demo's command line.

#[cfg(feature = "planted")]
mod planted;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use session_demo::{Adapter, Demo, Place, in_words, read_config, set_option, stop_signal};
use session_kit::http::{Hooks, Origin, TrustedProxy};
use tracing_subscriber::EnvFilter;

/// A small application with session governance: sign in, list devices, administer.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3000")]
    addr: SocketAddr,
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
    trusted_proxy: Vec<TrustedProxy>,
    /// Another origin whose pages may change something here, such as `https://shop.example.com`. May be
    /// given more than once.
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<Origin>,
    /// Options in TOML, as in docs/session-kit.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One of these options, such as `engine.renew_after=600`. May be given more than once.
    #[arg(long, value_name = "OPTION=VALUE")]
    set: Vec<String>,
}

#[cfg(not(feature = "planted"))]
#[tokio::main]
async fn main() -> ExitCode {
    start().await
}

#[cfg(feature = "planted")]
fn main() -> ExitCode {
    planted::run(start())
}

async fn start() -> ExitCode {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", in_words(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { addr, adapter, db, store, trusted_proxy, allowed_origin, config, set } =
        arguments;
    let config = read_config(config.as_deref())?;
    let mut config = set.iter().try_fold(config, |config, option| set_option(config, option))?;
    config.http.client_ip.trusted_proxies.extend(trusted_proxy);
    config.http.allowed_origins.extend(allowed_origin);
    let place = match store {
        Some(url) => Place::parse(&url).map_err(|error| format!("--{error}"))?,
        None => Place::File(db),
    };
    let store = place.open().await.map_err(|error| format!("{place}: {}", in_words(&error)))?;
    let listener = TcpListener::bind(addr).map_err(|error| format!("--addr {addr}: {error}"))?;
    let addr = listener.local_addr()?;
    let pages = format!("http://{addr}{}", config.http.prefix);
    let demo = Demo::start(store, &place, config, Hooks::default()).await?;
    let notes = format!(
        "session-kit demo on http://{addr}, sessions in {place}, with {adapter:?}\n  \
         sign in     http://{addr}/login     as alice, bob or root; the password is the name\n  \
         my devices  {pages}/\n  \
         admin       {pages}/admin     as root\n\
         This is a demo: never use such passwords, nor cookies without HTTPS.\n"
    );
    // Whoever started it may not be listening.
    let _ = std::io::stdout().write_all(notes.as_bytes());
    demo.serve(adapter, listener, stop_signal()).await?;
    Ok(())
}

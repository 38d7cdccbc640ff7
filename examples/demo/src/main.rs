//! The demo's command line.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// A small application with session governance: sign in, list devices, administer.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3000")]
    addr: SocketAddr,
    /// The SQLite file; it is created if it is missing.
    #[arg(long, default_value = "session-kit-demo.db")]
    db: PathBuf,
    /// Another store: `sqlite:FILE`, or the URL of a server: `postgres:`, `mysql:`, `redis:`,
    /// `redis-cluster:` or `mongodb:`.
    #[arg(long, conflicts_with = "db")]
    store: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let Arguments { addr, db, store } = Arguments::parse();
    let store = match store {
        Some(url) => session_demo::Place::parse(&url)?,
        None => session_demo::Place::File(db),
    };
    let demo = session_demo::Demo::open(&store).await?;
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    let notes = format!(
        "session-kit demo on http://{addr}, sessions in {store}\n  \
         sign in     http://{addr}/login     as alice, bob or root; the password is the name\n  \
         my devices  http://{addr}/sessions/\n  \
         admin       http://{addr}/sessions/admin     as root\n\
         This is a demo: never use such passwords, nor cookies without HTTPS.\n"
    );
    // Whoever started it may not be listening.
    let _ = std::io::stdout().write_all(notes.as_bytes());
    demo.serve(listener, session_demo::stop_signal()).await?;
    Ok(())
}

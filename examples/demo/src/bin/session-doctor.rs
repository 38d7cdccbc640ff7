//! Asks a store how it is.

use std::process::ExitCode;

use clap::Parser;
use session_demo::{Diagnosis, Place, in_words, lift_block, lifted_in_words, place_of};
use session_kit::{TenantId, UserId};

/// Prints what a store says of itself: server, schema, clock, log, and what is wrong. It opens the
/// store as an application does, which makes tables that are missing. Fails when something is wrong, the
/// store is away, or the file of SQLite is not there.
#[derive(Parser)]
#[command(name = "cargo xtask doctor", bin_name = "cargo xtask doctor")]
struct Arguments {
    /// `sqlite:FILE`, or the URL of a server: `postgres:`, `mysql:`, `redis:`, `redis-cluster:` or
    /// `mongodb:`.
    #[arg(long)]
    store: String,
    /// Lifts the block of the deployment, or of the tenant or user that is named, before it asks: the way
    /// back where a block leaves no administrator who may sign in.
    #[arg(long)]
    lift_block: bool,
    /// The tenant, or that of the user.
    #[arg(long, requires = "lift_block")]
    tenant: Option<TenantId>,
    /// The user.
    #[arg(long, requires = "lift_block")]
    user: Option<UserId>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, String> {
    let place = Place::parse(&arguments.store).map_err(|error| format!("--{error}"))?;
    if let Place::File(path) = &place
        && !path.exists()
    {
        return Err(format!("{place}: there is no such file"));
    }
    let away = |error| format!("{place}: {}", in_words(&error));
    let store = place.open().await.map_err(away)?;
    if arguments.lift_block {
        let scope = place_of(arguments.tenant, arguments.user);
        let lifted = lift_block(&*store, scope).await.map_err(away)?;
        println!("{}\n", lifted_in_words(lifted.as_ref()));
    }
    let diagnosis = Diagnosis::of(&*store).await.map_err(away)?;
    print!("{place}\n\n{}", diagnosis.to_text());
    Ok(if diagnosis.has_problems() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

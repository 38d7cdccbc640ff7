//! Measures every call of a store at 10,000 and at many more sessions: see `--help`.

mod beside;
mod calls;
mod changes;
mod results;
mod state;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use session_benches::fill::{Written, fill};
use session_benches::people::People;
use session_benches::stores::Kind;
use session_benches::{Failure, now, table};
use session_core::Store;
use session_core::store::{Cursor, Entries, Needs};
use session_engine::Options;

use crate::results::Measured;
use crate::state::State;

/// Fills a store with generated sessions, and prints how long every call takes at 10,000 sessions and
/// at all of them, with the longest stall of a reader and of a sign-in beside it. It can be
/// interrupted: the next run with the same store goes on where it stopped.
#[derive(Clone, Parser)]
#[command(name = "cargo xtask bench scale", bin_name = "cargo xtask bench scale")]
struct Plan {
    /// Which store.
    #[arg(long, value_enum)]
    store: Kind,
    /// How many sessions.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    sessions: u64,
    /// Deletes what an earlier run has written, and begins again.
    #[arg(long)]
    fresh: bool,
    /// The most calls of one kind.
    #[arg(long, default_value_t = 200)]
    calls: u64,
    /// The most seconds for the calls of one kind.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Where the results go, the state of the run, and files of databases.
    #[arg(long, default_value = "target")]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let run = run(Plan::parse());
    let result = tokio::select! {
        result = run => result,
        _ = tokio::signal::ctrl_c() => Err("interrupted; the same command goes on from here".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(plan: Plan) -> Result<(), Failure> {
    let few = at_few(&plan).await?;
    let many = at_many(&plan).await?;
    let rows = results::rows(&plan.store.name(), &[few, many]);
    let path = plan.out.join(format!("bench-scale-{}.json", plan.store.name()));
    table::write_json(&path, &rows)
}

/// In a namespace of its own, which is filled again each time.
async fn at_few(plan: &Plan) -> Result<Measured, Failure> {
    let backend = plan.store.open("bench_scale_few", &plan.out, true).await?;
    let people = People::new(SEED, now());
    let store = configured(backend.open_to_fill().await?);
    let begin = store.log_since(None, Entries::All, 1).await?.next;
    let written = fill(&store, people, Written::default(), FEW, |_| Ok(())).await?;
    let store = configured(backend.open().await?);
    let measured = measure(plan, store, people, written, begin).await?;
    backend.remove().await?;
    Ok(measured)
}

async fn at_many(plan: &Plan) -> Result<Measured, Failure> {
    let path = plan.out.join(format!("bench-scale-{}.state.json", plan.store.name()));
    let known = if plan.fresh { None } else { State::read(&path)? };
    let backend = plan.store.open("bench_scale", &plan.out, known.is_none()).await?;
    let store = configured(backend.open_to_fill().await?);
    let mut state = match known {
        Some(state) => state,
        None => State::new(
            People::new(SEED, now()),
            &store.log_since(None, Entries::All, 1).await?.next,
        ),
    };
    state.write(&path)?;
    let (people, begin) = (state.people, state.begin()?);
    let written = fill(&store, people, state.written, plan.sessions, |written| {
        state.written = written;
        state.write(&path)
    })
    .await?;
    let store = configured(backend.open().await?);
    measure(plan, store, people, written, begin).await
}

async fn measure(
    plan: &Plan,
    store: Arc<dyn Store>,
    people: People,
    written: Written,
    begin: Cursor,
) -> Result<Measured, Failure> {
    eprintln!("{} sessions of {} users", written.sessions, written.users);
    let mut calls = calls::Calls::new(plan.clone(), store, people, written);
    calls.all(begin).await?;
    Ok(calls.measured())
}

fn configured(store: Arc<dyn Store>) -> Arc<dyn Store> {
    let max_staleness = Options::default().max_staleness;
    store.configure(&Needs { history: store.history_by_default(), max_staleness });
    store
}

const FEW: u64 = 10_000;
const SEED: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_call_is_measured_at_both_sizes() {
        let out = tempfile::tempdir().unwrap();
        let line = "bench --store memory --sessions 12000 --calls 3 --seconds 0.2 --out";
        let line = line.split_whitespace().map(str::to_owned);
        let path = out.path().to_string_lossy().into_owned();
        run(Plan::parse_from(line.chain([path]))).await.unwrap();
        let json = std::fs::read(out.path().join("bench-scale-memory.json")).unwrap();
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&json).unwrap();
        assert!(rows.len() > 100, "{}", rows.len());
        for row in &rows {
            let stalls = row["name"].as_str().unwrap().contains("stall");
            assert!(stalls || row["value"].as_f64().is_some(), "{row}");
        }
    }
}

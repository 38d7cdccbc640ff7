//! Measures the stores beside one another: see `--help`.

mod bulk;
mod nodes;
mod refusal;
mod sign_ins;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use session_benches::stores::{Backend, Kind};
use session_benches::table::{self, Row};
use session_benches::{Failure, now};

/// Measures sign-ins per second, reads of the log, cleanup, and the time until other nodes refuse
/// a revoked session.
#[derive(Parser)]
#[command(name = "cargo xtask bench stores", bin_name = "cargo xtask bench stores")]
struct Plan {
    /// Which store; may be given more than once. Default all that this program was built for.
    #[arg(long, value_enum)]
    store: Vec<Kind>,
    /// How many sessions and log entries the cleanup has to delete.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    entries: u64,
    /// How often the rounds of sign-ins are repeated.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many seconds a round takes.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How many sessions are revoked.
    #[arg(long, default_value_t = 100)]
    revocations: u64,
    /// Where `bench-stores.json` and files of databases go.
    #[arg(long, default_value = "target")]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Plan::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(plan: Plan) -> Result<(), Failure> {
    let stores = if plan.store.is_empty() { Kind::built() } else { plan.store.clone() };
    let mut rows = Vec::new();
    for store in stores {
        for part in Part::ALL {
            eprintln!("{}: {}", store.name(), part.name());
            rows.extend(measure(store, part, &plan).await);
        }
    }
    print!("{}", table::markdown(&rows));
    table::write_json(&plan.out.join("bench-stores.json"), &rows)
}

/// What is measured together, in a namespace of its own.
#[derive(Clone, Copy)]
enum Part {
    SignIns,
    Refusal,
    Bulk,
}

impl Part {
    const ALL: [Self; 3] = [Self::SignIns, Self::Refusal, Self::Bulk];

    const fn name(self) -> &'static str {
        match self {
            Self::SignIns => "sign-ins",
            Self::Refusal => "time to refusal",
            Self::Bulk => "log and cleanup",
        }
    }
}

/// A part that fails becomes a row that is not met, so that the others are measured all the same.
async fn measure(store: Kind, part: Part, plan: &Plan) -> Vec<Row> {
    let name = store.name();
    match in_namespace(store, part, plan).await {
        Ok(rows) => rows
            .into_iter()
            .map(|row| Row { name: format!("{name}: {}", row.name), ..row })
            .collect(),
        Err(failure) => {
            eprintln!("{name}: {failure}");
            vec![Row {
                met: false,
                ..Row::plain(format!("{name}: {}: {failure}", part.name()), None, "")
            }]
        }
    }
}

async fn in_namespace(store: Kind, part: Part, plan: &Plan) -> Result<Vec<Row>, Failure> {
    let namespace = format!("bench_{:x}", now().as_micros());
    let backend = store.open(&namespace, &plan.out, false).await?;
    let backend: &dyn Backend = &*backend;
    let result = match part {
        Part::SignIns => sign_ins::measure(backend, plan).await,
        Part::Refusal => refusal::measure(backend, plan.revocations).await,
        Part::Bulk => bulk::measure(backend, plan).await,
    };
    backend.remove().await?;
    result
}

impl Plan {
    fn round(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_part_measures_the_memory_store() {
        let out = tempfile::tempdir().unwrap();
        let line = "bench --store memory --entries 2000 --rounds 1 --seconds 0.05 --revocations 3 \
                    --out";
        let line = line.split_whitespace().map(str::to_owned);
        let path = out.path().to_string_lossy().into_owned();
        run(Plan::parse_from(line.chain([path]))).await.unwrap();
        let json = std::fs::read(out.path().join("bench-stores.json")).unwrap();
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&json).unwrap();
        assert_eq!(rows.len(), 15, "{rows:#?}");
        for row in &rows {
            assert!(row["value"].as_f64().is_some(), "{row}");
            assert!(row["name"].as_str().unwrap().starts_with("memory: "), "{row}");
        }
        let swept = rows.iter().find(|row| row["name"] == "memory: sessions swept").unwrap();
        assert!(swept["value"].as_f64().unwrap() >= 2_000.0, "{swept}");
    }
}

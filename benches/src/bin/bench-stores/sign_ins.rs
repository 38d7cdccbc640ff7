//! Sign-ins per second, against the same rows in a bare transaction without a log.

use std::sync::Arc;
use std::time::Duration;

use session_benches::load::{Load, interleaved, round};
use session_benches::people::newcomer;
use session_benches::random::Random;
use session_benches::stores::{Backend, Bare};
use session_benches::table::Row;
use session_benches::times::median;
use session_benches::{Failure, now};
use session_core::SessionId;
use session_engine::SessionManager;

use crate::Plan;
use crate::nodes::{self, Newcomers};

pub(crate) async fn measure(backend: &dyn Backend, plan: &Plan) -> Result<Vec<Row>, Failure> {
    let newcomers = Newcomers::default();
    let mut rows = Vec::new();
    for count in [1, 8] {
        let nodes = nodes::start(backend, count).await?;
        let managers: Vec<_> = nodes.iter().map(|node| node.sessions().clone()).collect();
        let name = format!("sign-ins, {count} {}", if count == 1 { "engine" } else { "engines" });
        let engines = || engines(managers.clone(), newcomers.clone());
        rows.push(match bare(backend, count).await? {
            Some(writers) => {
                let bare = || bare_rows(writers.clone(), newcomers.clone());
                let rates = interleaved(plan.rounds, plan.round(), engines, bare).await?;
                Row::share(name, rates, PER_SECOND, LEAST_SHARE)
            }
            None => Row::plain(name, alone(plan, engines).await?, PER_SECOND),
        });
        nodes::stop(nodes).await;
    }
    Ok(rows)
}

/// The same number of writers without a store as there are nodes.
async fn bare(backend: &dyn Backend, count: usize) -> Result<Option<Vec<Arc<dyn Bare>>>, Failure> {
    let mut writers = Vec::with_capacity(count);
    for _ in 0..count {
        writers.extend(backend.bare().await?);
    }
    Ok((!writers.is_empty()).then_some(writers))
}

async fn alone(plan: &Plan, start: impl Fn() -> Load) -> Result<Option<f64>, Failure> {
    let mut rates = Vec::new();
    for _ in 0..plan.rounds {
        rates.push(round(start(), plan.round()).await?);
    }
    Ok(median(rates))
}

fn engines(managers: Vec<SessionManager>, newcomers: Newcomers) -> Load {
    Load::start(WORKERS, Duration::ZERO, move |worker| {
        let manager = managers[worker % managers.len()].clone();
        let request = newcomers.sign_in();
        async move {
            manager.sign_in(request?).await?;
            Ok(())
        }
    })
}

fn bare_rows(writers: Vec<Arc<dyn Bare>>, newcomers: Newcomers) -> Load {
    Load::start(WORKERS, Duration::ZERO, move |worker| {
        let writer = Arc::clone(&writers[worker % writers.len()]);
        let owner = newcomers.next();
        async move {
            let at = now();
            let mut random = Random::of(worker as u64, &[at.as_micros().cast_unsigned()]);
            let id = SessionId::at(at, random.bytes());
            writer.write(&newcomer(owner?, id, &mut random, at)?).await
        }
    })
}

const WORKERS: usize = 32;
const LEAST_SHARE: f64 = 0.8;
const PER_SECOND: &str = "per second";

//! How long another node accepts a session after its revocation was acknowledged.

use std::time::{Duration, Instant};

use session_benches::Failure;
use session_benches::random::Random;
use session_benches::stores::Backend;
use session_benches::table::Row;
use session_benches::times::Times;
use session_core::Actor;
use session_engine::{Access, Check, SessionManager, SignedIn, Verdict};
use tokio::task::JoinSet;

use crate::nodes::{self, Newcomers};

pub(crate) async fn measure(backend: &dyn Backend, count: u64) -> Result<Vec<Row>, Failure> {
    let nodes = nodes::start(backend, NODES).await?;
    let managers: Vec<_> = nodes.iter().map(|node| node.sessions().clone()).collect();
    let newcomers = Newcomers::default();
    let mut random = Random::new(SEED);
    let mut times = Times::default();
    for _ in 0..count {
        let signed_in = managers[0].sign_in(newcomers.sign_in()?).await?;
        // So that revocations fall anywhere between two reads of the log.
        tokio::time::sleep(LONGEST_PAUSE.mul_f64(random.unit())).await;
        for time in revoke(&managers, &signed_in).await? {
            times.add(time);
        }
    }
    nodes::stop(nodes).await;
    let (median, p99) = if backend.open().await?.expects_pushes() { PUSHED } else { POLLED };
    Ok(vec![
        Row::at_most("time to refusal on another node, median", times.median(), "ms", median),
        Row::at_most("time to refusal on another node, p99", times.p99(), "ms", p99),
    ])
}

/// Revokes on the first node what all others have cached. How long each of them accepted it still.
async fn revoke(
    managers: &[SessionManager],
    signed_in: &SignedIn,
) -> Result<Vec<Duration>, Failure> {
    let token = signed_in.token.expose();
    let mut others = JoinSet::new();
    for manager in &managers[1..] {
        let verdict = manager.validate(token.as_bytes(), Access::default()).await?;
        if !matches!(verdict, Verdict::Active(_)) {
            return Err(format!("a session that is new is refused: {verdict:?}").into());
        }
        others.spawn(refused(manager.clone(), signed_in.clone()));
    }
    let session = &signed_in.session;
    managers[0].revoke(session.id(), session.owner(), Actor::Application).await?;
    let acknowledged = Instant::now();
    let mut times = Vec::new();
    while let Some(at) = others.join_next().await {
        times.push(at?.saturating_duration_since(acknowledged));
    }
    Ok(times)
}

/// When a node accepts a session no more. Why it has ended, it asks the store afterwards.
async fn refused(manager: SessionManager, signed_in: SignedIn) -> Instant {
    manager.session_ended(signed_in.session.id()).await;
    let token = signed_in.token.expose();
    loop {
        let check = manager.check(token.as_bytes(), Access::default());
        if !matches!(check, Check::Answered(Verdict::Active(_))) {
            return Instant::now();
        }
        tokio::task::yield_now().await;
    }
}

const NODES: usize = 3;
const LONGEST_PAUSE: Duration = Duration::from_millis(300);
const SEED: u64 = 1;
/// The most milliseconds, median and 99th percentile.
const PUSHED: (f64, f64) = (5.0, 50.0);
const POLLED: (f64, f64) = (150.0, 300.0);

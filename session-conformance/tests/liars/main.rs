//! The kit must be able to fail: stores that each break one guarantee, and the case that has to
//! find out.

mod fault;
mod liar;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use session_conformance::{Backend, CASES, Namespace};
use session_core::Store;
use tokio::task::JoinSet;

use crate::fault::Fault;
use crate::liar::{Liar, World};

struct Liars(Fault);

struct Fresh(Fault, Arc<World>);

#[async_trait]
impl Backend for Liars {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(Fresh(self.0, Arc::default()))
    }
}

#[async_trait]
impl Namespace for Fresh {
    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(Liar::new(self.0, Arc::clone(&self.1)).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_liar_is_caught_by_the_right_case() {
    let mut running = JoinSet::new();
    for (fault, case) in Fault::ALL {
        running.spawn(async move {
            let report = session_conformance::run_within(Arc::new(Liars(fault)), PATIENCE).await;
            let caught: Vec<_> =
                report.failures.iter().map(|failure| failure.name.clone()).collect();
            println!("{fault:?}: {caught:?}");
            let missed = caught.iter().all(|name| name != case);
            missed.then(|| format!("{fault:?}: not caught by {case} but by {caught:?}"))
        });
    }
    let missed: Vec<_> = running.join_all().await.into_iter().flatten().collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_liar_that_does_not_lie_passes() {
    let report = session_conformance::run(Arc::new(Liars(Fault::None))).await;
    assert!(report.passed(), "{report}");
}

#[test]
fn the_expected_cases_exist_and_the_faults_are_many() {
    let known: BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
    assert!(Fault::ALL.iter().all(|(_, case)| known.contains(case)));
    assert!(Fault::ALL.len() >= 15);
}

/// Some lies make a case wait for what never comes.
const PATIENCE: Duration = Duration::from_secs(30);

//! What a node says of itself.

use std::time::Duration;

use session_core::cleanup::Cleanup;
use session_engine::{Access, CleanupLease, Options};

use crate::probe::{Fleet, Probe, engine, sign_in, store};

#[tokio::test(start_paused = true)]
async fn health_says_how_the_node_is_without_a_call_of_the_store() {
    let probe = Probe::over(store());
    probe.complain("an index is missing");
    let node = engine(probe.clone(), Options::default()).await;
    let signed_in = sign_in(&node, "alice").await;
    let token = signed_in.token.expose();
    for _ in 0..2 {
        let _ = node.sessions().check(token.as_bytes(), Access::default());
        // The first use of a token is stored at once.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let calls = probe.total();
    let health = node.health();
    assert_eq!(probe.total(), calls);
    assert!(health.ready && health.fresh && health.store_answers && !health.stopping);
    assert!(!health.push_connected, "a probe passes nothing on");
    assert!(health.push_expected, "though its store can");
    assert!(health.log_lag <= Duration::from_secs(1), "{:?}", health.log_lag);
    assert_eq!((health.cached_sessions, health.write_backs), (1, 1));
    let said = health.store.unwrap();
    assert_eq!(said.report.problems, ["an index is missing"]);
    assert!(node.sessions().now().since(said.at) <= Duration::from_secs(3));
    assert!(health.workers.contains_key("report"));
    node.sessions().stop_streams();
    let health = node.sessions().health();
    assert!(health.stopping && !health.ready, "no more requests should come");
}

/// It goes by the silence of the log, and not by a moment without an answer.
#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_hear_the_log_is_not_ready_until_it_does() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    probe.away(true);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let health = node.sessions().health();
    assert!(health.ready && !health.store_answers);
    assert!(health.log_lag >= Duration::from_secs(19));
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(!node.sessions().health().ready);
    probe.away(false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let health = node.sessions().health();
    assert!(health.ready && !health.store_answers, "it has just failed");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(node.sessions().health().store_answers);
}

/// One node of the fleet does it, and the others say so.
#[tokio::test(start_paused = true)]
async fn health_tells_who_cleans_up_and_when() {
    let cleanup = Cleanup::default().with_period(Duration::from_secs(600));
    let fleet = Fleet::start(Options::default().with_cleanup(cleanup)).await;
    let health = || fleet.nodes.each_ref().map(|node| node.sessions().health().cleanup);
    assert!(health().iter().all(|it| it.last_run.is_none() && it.lease == CleanupLease::Unknown));
    tokio::time::sleep(Duration::from_secs(11)).await;
    let leases = health().map(|cleanup| cleanup.lease);
    assert!(leases.contains(&CleanupLease::ThisNode), "{leases:?}");
    assert!(leases.contains(&CleanupLease::AnotherNode), "{leases:?}");
    // A node that has started leaves time for uses that are on their way.
    tokio::time::sleep(Duration::from_secs(36)).await;
    let ran = health().map(|cleanup| cleanup.last_run.is_some());
    assert_eq!(ran.iter().filter(|ran| **ran).count(), 1);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(health().iter().all(|it| it.lease == CleanupLease::Unknown), "it has run out");
}

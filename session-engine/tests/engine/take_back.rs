//! Sessions that no client holds end also where the store is slow to begin them (G18).

use std::time::Duration;

use session_core::Store;
use session_engine::{Options, SignIn};
use tokio::time::Instant;

use crate::probe::{Fleet, is_active, sign_in, told, user};

async fn count(fleet: &Fleet) -> usize {
    fleet.store.user(&user("alice")).await.unwrap().sessions.len()
}

/// The commit is under way for longer than the node waits for its answer, and for longer than the first
/// tries to take its session back.
#[tokio::test(start_paused = true)]
async fn a_sign_in_that_commits_after_its_take_back_leaves_no_session() {
    for late in [Duration::from_secs(1), Duration::from_secs(120)] {
        let fleet = Fleet::start(Options::default()).await;
        let here = fleet.nodes[0].sessions();
        let mut events = fleet.nodes[1].sessions().events();
        let on_its_way = fleet.probes[0].delay_commit();
        let outcome = here.sign_in(SignIn::new(user("alice"))).await;
        assert!(outcome.is_err_and(|error| error.is_unavailable()));
        tokio::time::sleep(late).await;
        assert!(fleet.probes[0].calls()["end_many"] >= 1, "the take-back came first");
        on_its_way.open();
        told(&mut events, "created").await;
        assert_eq!((count(&fleet).await, here.health().take_backs), (1, 0));
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(count(&fleet).await, 0, "it arrived {late:?} after the take-back");
        let told = told(&mut events, "revoked").await;
        assert!(format!("{told:?}").contains("System"), "{told:?}");
    }
}

/// The store refuses every commit, so that no session ever begins.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_never_found_is_looked_for_a_few_times() {
    let fleet = Fleet::start(Options::default()).await;
    let probe = &fleet.probes[0];
    probe.fail("commit", true);
    let outcome = fleet.nodes[0].sessions().sign_in(SignIn::new(user("alice"))).await;
    assert!(outcome.is_err());
    let tries = probe.calls()["commit"];
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(probe.calls()["end_many"], tries, "each once, at once");
    tokio::time::sleep(Duration::from_secs(1_200)).await;
    assert_eq!(probe.calls()["end_many"], tries * 6, "and five times afterwards");
    assert_eq!(fleet.nodes[0].sessions().health().workers["take-back"].error, None);
}

/// The store is away by the time that the session is looked for again.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_looked_for_again_in_an_outage_is_owed() {
    let fleet = Fleet::start(Options::default()).await;
    let (here, probe) = (fleet.nodes[0].sessions(), &fleet.probes[0]);
    let on_its_way = probe.delay_commit();
    assert!(here.sign_in(SignIn::new(user("alice"))).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    probe.fail("end_many", true);
    on_its_way.open();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((count(&fleet).await, here.health().take_backs), (1, 1));
    probe.fail("end_many", false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((count(&fleet).await, here.health().take_backs), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_commit_on_its_way() {
    let fleet = Fleet::start(Options::default()).await;
    let Fleet { probes, nodes: [here, _there], .. } = fleet;
    let _on_its_way = probes[0].delay_commit();
    assert!(here.sessions().sign_in(SignIn::new(user("alice"))).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    here.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// A session has to end, a use is unstored, and the store hangs: neither last call waits for the other.
#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_a_store_that_hangs_no_longer_than_it_says() {
    let fleet = Fleet::start(Options::default()).await;
    let Fleet { probes: [probe, _], nodes: [here, _there], .. } = fleet;
    let used = sign_in(&here, "bob").await;
    for method in ["touch", "load", "end_many", "log_since", "report"] {
        probe.slow(method, Duration::from_secs(3_600));
    }
    let _on_its_way = probe.delay_commit();
    assert!(here.sessions().sign_in(SignIn::new(user("alice"))).await.is_err());
    assert!(is_active(&here, &used).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(here.health().take_backs, 1);
    let (begun, limit) = (Instant::now(), Options::default().store_timeout);
    here.shutdown().await;
    assert!(begun.elapsed() <= 4 * limit, "{:?}", begun.elapsed());
}

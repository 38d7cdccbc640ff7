//! When the store is away (G4), and when a worker breaks.

use std::time::Duration;

use session_engine::{Access, Error, Options, Refusal, SignIn, Verdict, WhenStale};

use crate::probe::{Fleet, Probe, engine, is_active, refusal, revoke, sign_in, store, user};

#[tokio::test(start_paused = true)]
async fn a_silent_log_is_trusted_for_max_staleness_and_no_longer() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let signed_in = sign_in(&node, "alice").await;
    let token = signed_in.token.expose();
    let validate = async || node.sessions().validate(token.as_bytes(), Access::default()).await;
    probe.away(true);
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(matches!(validate().await, Ok(Verdict::Active(_))));
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..3 {
        let error = validate().await.expect_err("nothing can be said");
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
        assert!(error.is_unavailable());
    }
    let health = node.sessions().health();
    assert!(!health.fresh);
    assert!(health.workers["follower"].error.is_some());
    let refused = node.sessions().sign_in(SignIn::new(user("bob"))).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    probe.away(false);
    assert!(matches!(validate().await, Ok(Verdict::Active(_))), "the store answers in its place");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let health = node.sessions().health();
    assert!(health.fresh && health.workers["follower"].error.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_node_may_be_told_to_serve_stale_up_to_a_limit() {
    let probe = Probe::over(store());
    let stale = WhenStale::ServeStale(Duration::from_secs(120));
    let options = Options::default().with_when_stale(stale);
    let node = engine(probe.clone(), options).await;
    let signed_in = sign_in(&node, "alice").await;
    probe.away(true);
    tokio::time::sleep(Duration::from_secs(110)).await;
    assert!(is_active(&node, &signed_in).await);
    // Only what is in the cache, and only good tokens.
    let mut guess = signed_in.token.expose();
    guess.replace_range(48.., &"0".repeat(56));
    let verdict = node.sessions().validate(guess.as_bytes(), Access::default()).await;
    assert!(!matches!(verdict, Ok(Verdict::Active(_))));
    tokio::time::sleep(Duration::from_secs(15)).await;
    let token = signed_in.token.expose();
    let verdict = node.sessions().validate(token.as_bytes(), Access::default()).await;
    assert!(matches!(verdict, Err(Error::Unavailable(_))), "past the limit");
}

/// The connection that brings the hints works, the one that reads the log does not.
#[tokio::test(start_paused = true)]
async fn hints_do_not_prolong_the_trust() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    assert!(is_active(there, &signed_in).await);
    // A write-back would find the session gone.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fleet.probes[1].fail("log_since", true);
    revoke(here, &signed_in).await;
    for _ in 0..31 {
        fleet.probes[1].hint();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(matches!(refusal(there, &signed_in).await, Refusal::Ended(_)));
}

/// What was revoked during the outage is refused as soon as the node hears again.
#[tokio::test(start_paused = true)]
async fn a_cut_off_node_catches_up() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    assert!(is_active(there, &signed_in).await);
    fleet.probes[1].away(true);
    revoke(here, &signed_in).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(is_active(there, &signed_in).await, "cut off, and still within max_staleness");
    fleet.probes[1].away(false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(refusal(there, &signed_in).await, Refusal::Ended(_)));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_is_seen_and_started_again() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    assert!(is_active(there, &signed_in).await);
    fleet.probes[1].panic_once("log_since");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(there.sessions().health().workers["follower"].restarts, 1);
    revoke(here, &signed_in).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!is_active(there, &signed_in).await, "the new one goes on where the old one was");
}

/// A long absence is read page by page; only the last page makes the node fresh.
#[tokio::test(start_paused = true)]
async fn a_node_is_not_fresh_before_it_has_read_to_the_end() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    fleet.probes[1].away(true);
    for n in 0..1200 {
        sign_in(here, &format!("user {n}")).await;
    }
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert!(!there.sessions().health().fresh);
    let first = fleet.probes[1].hold("log_since");
    fleet.probes[1].away(false);
    first.reached().await;
    let second = fleet.probes[1].hold("log_since");
    first.open();
    second.reached().await;
    assert!(!there.sessions().health().fresh, "there is more to read");
    second.open();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(there.sessions().health().fresh);
}

//! When the store is away (G4), and when a worker breaks.

use std::time::Duration;

use session_core::EndCause;
use session_engine::{
    Access, Engine, Error, Options, Refusal, RotateReason, Rotation, SignIn, SignedIn, Verdict,
    WhenStale,
};
use tokio::time::Instant;

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

const HOUR: Duration = Duration::from_secs(3600);

/// What a node answers to a token, and how long that takes.
async fn timed(node: &Engine, signed_in: &SignedIn) -> (Result<Verdict, Error>, Duration) {
    let (begun, token) = (Instant::now(), signed_in.token.expose());
    let answer = node.sessions().validate(token.as_bytes(), Access::default()).await;
    (answer, begun.elapsed())
}

/// Neither the log nor the session can be read: the answer comes after one time limit, not after two.
#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_store_that_hangs_no_longer_than_its_time_limit() {
    let options = Options::default();
    let fleet = Fleet::start(options.clone()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    assert!(is_active(there, &signed_in).await);
    fleet.probes[1].slow("log_since", HOUR);
    fleet.probes[1].slow("load", HOUR);
    tokio::time::sleep(options.max_staleness * 2).await;
    for _ in 0..2 {
        let (answer, waited) = timed(there, &signed_in).await;
        assert!(answer.is_err_and(|error| error.is_unavailable()));
        assert!(waited <= options.store_timeout, "{waited:?}");
    }
    // Where the session can be read, it is answered for all that.
    fleet.probes[1].slow("load", Duration::ZERO);
    tokio::time::sleep(options.store_timeout).await;
    let (answer, waited) = timed(there, &signed_in).await;
    assert!(matches!(answer, Ok(Verdict::Active(_))), "{answer:?}");
    assert!(waited <= options.store_timeout, "{waited:?}");
}

/// The session has ended, and only the history could say how: the client is refused soon, without it.
#[tokio::test(start_paused = true)]
async fn a_refusal_does_not_wait_for_its_reason() {
    let options = Options::default();
    let fleet = Fleet::start(options.clone()).await;
    let [here, there] = &fleet.nodes;
    // One that the node knows to have ended, and one that it has never seen.
    let [known, unseen] = [sign_in(here, "alice").await, sign_in(here, "bob").await];
    assert!(is_active(there, &known).await);
    revoke(here, &known).await;
    revoke(here, &unseen).await;
    tokio::time::sleep(options.propagation_bound).await;
    let hang: fn(&Probe) = |probe| probe.slow("ended", HOUR);
    for disturb in [hang, |probe| probe.fail("ended", true)] {
        disturb(&fleet.probes[1]);
        for signed_in in [&known, &unseen] {
            let (answer, waited) = timed(there, signed_in).await;
            assert!(matches!(answer, Ok(Verdict::Refused(Refusal::Unknown))), "{answer:?}");
            assert!(waited <= options.store_timeout / 4, "{waited:?}");
        }
        fleet.probes[1].slow("ended", Duration::ZERO);
    }
    fleet.probes[1].fail("ended", false);
    tokio::time::sleep(HOUR).await;
    for signed_in in [&known, &unseen] {
        let reason = refusal(there, signed_in).await.end_cause();
        assert_eq!(reason, Some(EndCause::Revoked), "the reason comes when it can be read");
    }
}

/// The first use of a new token cannot be stored: it is accepted within the same time limit.
#[tokio::test(start_paused = true)]
async fn a_new_token_waits_for_a_store_that_hangs_no_longer_than_its_time_limit() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let mut signed_in = sign_in(&node, "alice").await;
    let token = signed_in.token.expose();
    let rotated = node.sessions().rotate(token.as_bytes(), RotateReason::Renewal).await.unwrap();
    let Rotation::Rotated { token, .. } = rotated else { panic!("{rotated:?}") };
    signed_in.token = token;
    // The log is read, and invalidates nothing any more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    probe.slow("load", Duration::from_secs(3));
    probe.slow("commit", HOUR);
    let (answer, waited) = timed(&node, &signed_in).await;
    assert!(matches!(answer, Ok(Verdict::Active(_))), "{answer:?}");
    assert!(waited <= Options::default().store_timeout, "{waited:?}");
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

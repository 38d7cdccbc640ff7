//! Sign-ins that go wrong half-way, and limits that refuse (G1, G8).

use std::net::IpAddr;
use std::time::Duration;

use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, PreventConcurrentLogin, Scope};
use session_core::usage::{Timeouts, WriteBack};
use session_core::{Actor, DeviceKind, EndCause, Store};
use session_engine::{Error, Options, Proof, SignIn};

use crate::probe::{Fleet, is_active, sign_in, user};

async fn count(fleet: &Fleet) -> usize {
    fleet.store.user(&user("alice")).await.unwrap().sessions.len()
}

#[tokio::test(start_paused = true)]
async fn timeouts_beyond_any_calendar_are_refused_before_anything_is_done() {
    let fleet = Fleet::start(Options::default()).await;
    for (timeouts, name) in [
        (Timeouts::none().with_idle(Duration::MAX), "timeouts.idle"),
        (Timeouts::none().with_absolute(Duration::MAX), "timeouts.absolute"),
        (Timeouts::none().with_absolute(Duration::ZERO), "timeouts.absolute"),
    ] {
        let request = SignIn::new(user("alice")).with_timeouts(timeouts);
        match fleet.nodes[0].sessions().sign_in(request).await {
            Err(Error::Invalid(error)) => assert_eq!(error.field, name),
            outcome => panic!("{outcome:?}"),
        }
    }
    assert_eq!(fleet.probes[0].calls().get("commit"), None);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_leaves_one_session() {
    let fleet = Fleet::start(Options::default()).await;
    fleet.probes[0].lose_answers(true);
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    assert_eq!(count(&fleet).await, 1);
    assert!(is_active(&fleet.nodes[0], &signed_in).await);
    assert!(is_active(&fleet.nodes[1], &signed_in).await);
}

/// The commit happens, its answer is lost, and before the next try its session is ended.
#[tokio::test(start_paused = true)]
async fn a_retry_brings_back_no_session_that_has_ended() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    fleet.probes[0].lose_answers(true);
    let gate = fleet.probes[0].hold("commit");
    let mut events = there.sessions().events();
    let (signed_in, ended) = tokio::join!(sign_in(here, "alice"), async {
        gate.reached().await;
        let first = fleet.store.user(&user("alice")).await.unwrap().sessions[0].id;
        there.sessions().revoke_user(user("alice"), Actor::Application).await.unwrap();
        crate::probe::told(&mut events, "revoked").await;
        gate.open();
        first
    });
    assert_ne!(signed_in.session.id(), ended);
    assert!(is_active(here, &signed_in).await && is_active(there, &signed_in).await);
    assert_eq!(count(&fleet).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_that_nobody_waits_for_leaves_no_session() {
    let fleet = Fleet::start(Options::default()).await;
    let mut events = fleet.nodes[1].sessions().events();
    let gate = fleet.probes[0].hold("commit");
    let manager = fleet.nodes[0].sessions().clone();
    let waiting = tokio::spawn(async move { manager.sign_in(SignIn::new(user("alice"))).await });
    gate.reached().await;
    waiting.abort();
    assert!(waiting.await.is_err());
    gate.open();
    crate::probe::told(&mut events, "revoked").await;
    assert_eq!(count(&fleet).await, 0);
}

/// The store takes no commit, the caller goes away, and the store comes back.
#[tokio::test(start_paused = true)]
async fn a_sign_in_that_failed_and_that_nobody_waits_for_is_not_tried_again() {
    let policy = PreventConcurrentLogin::LogoutFromAllDevices;
    let fleet = Fleet::start(Options::default().with_default_policy(policy)).await;
    let ([here, there], probe) = (&fleet.nodes, &fleet.probes[0]);
    let old = sign_in(there, "alice").await;
    assert!(is_active(there, &old).await);
    probe.fail("commit", true);
    let manager = here.sessions().clone();
    let waiting = tokio::spawn(async move { manager.sign_in(SignIn::new(user("alice"))).await });
    while !probe.calls().contains_key("commit") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    waiting.abort();
    assert!(waiting.await.is_err());
    probe.fail("commit", false);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(probe.calls()["commit"], 1);
    assert!(is_active(there, &old).await, "nobody is evicted");
    assert_eq!(count(&fleet).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_limit_and_changes_nothing() {
    // Simulated days are long; slow workers keep them short.
    let write_back = WriteBack::default().with_flush_interval(Duration::from_secs(60));
    let options = Options::default()
        .with_propagation_bound(Duration::from_secs(600))
        .with_max_staleness(Duration::from_secs(1200))
        .with_write_back(write_back);
    let fleet = Fleet::start(options).await;
    let limit = Limit { max: 2, scope: Scope::User, on_exceed: OnExceed::Reject };
    let scope = PolicyScope::User(user("alice"));
    let sessions = fleet.nodes[0].sessions();
    sessions.set_policy(scope, Some(Policy::limit(limit)), Actor::Application).await.unwrap();
    let first = sign_in(&fleet.nodes[0], "alice").await;
    let second = sign_in(&fleet.nodes[1], "alice").await;
    for node in &fleet.nodes {
        let refused = node.sessions().sign_in(SignIn::new(user("alice"))).await.unwrap_err();
        assert!(matches!(refused, Error::TooManySessions(reached) if reached.limit == limit));
        assert!(is_active(node, &first).await && is_active(node, &second).await);
    }
    sign_in(&fleet.nodes[0], "bob").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The same browser signs in again: its own session takes up no place.
    let again = SignIn::new(user("alice")).with_replaces(first.session.id());
    let third = sessions.sign_in(again).await.unwrap();
    assert_eq!(third.ended, [(first.session.id(), EndCause::Replaced)]);
    assert!(!is_active(&fleet.nodes[0], &first).await);
    assert!(is_active(&fleet.nodes[1], &second).await);
    // A session past its timeout takes up no place either.
    tokio::time::sleep(Duration::from_secs(15 * 24 * 3600)).await;
    sign_in(&fleet.nodes[1], "alice").await;
    assert_eq!(count(&fleet).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_set_holds_for_the_next_sign_in_on_any_node() {
    let fleet = Fleet::start(Options::default()).await;
    let first = sign_in(&fleet.nodes[1], "alice").await;
    let all = session_core::policy::PreventConcurrentLogin::LogoutFromAllDevices;
    let scope = || PolicyScope::Deployment;
    let sessions = fleet.nodes[0].sessions();
    sessions.set_policy(scope(), Some(all.into()), Actor::Application).await.unwrap();
    assert!(is_active(&fleet.nodes[1], &first).await, "a change ends nothing by itself");
    let second = sign_in(&fleet.nodes[1], "alice").await;
    assert_eq!(second.ended, [(first.session.id(), EndCause::Evicted)]);
    sessions.set_policy(scope(), None, Actor::Application).await.unwrap();
    sign_in(&fleet.nodes[1], "alice").await;
    assert_eq!(count(&fleet).await, 2);
    let too_big = Limit { max: 0, scope: Scope::User, on_exceed: OnExceed::Reject };
    let refused = sessions.set_policy(scope(), Some(Policy::limit(too_big)), Actor::Application);
    assert!(matches!(refused.await, Err(Error::Invalid(field)) if field.field == "max"));
}

/// The state, the commit, and nothing else; also where another session has to leave.
#[tokio::test(start_paused = true)]
async fn a_sign_in_costs_two_round_trips() {
    let policy = PreventConcurrentLogin::LogoutFromAllDevices;
    let fleet = Fleet::start(Options::default().with_default_policy(policy)).await;
    for (node, evicted) in [(0, 0), (0, 1), (1, 1)] {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut before = fleet.probes[node].calls();
        let signed_in = sign_in(&fleet.nodes[node], "alice").await;
        assert_eq!(signed_in.ended.len(), evicted);
        let mut spent = fleet.probes[node].calls();
        spent.remove("log_since");
        spent.retain(|call, times| {
            *times -= before.remove(call).unwrap_or(0);
            *times > 0
        });
        assert_eq!(spent.into_iter().collect::<Vec<_>>(), [("commit", 1), ("user", 1)]);
    }
}

/// For the mail that tells of a sign-in on a new device: the sessions count that were there before,
/// also one that ends with this very sign-in.
#[tokio::test(start_paused = true)]
async fn a_sign_in_tells_whether_its_device_is_new() {
    let policy = PreventConcurrentLogin::LogoutFromAllDevices;
    let options = Options::default().with_tell_new_devices(true).with_default_policy(policy);
    let fleet = Fleet::start(options).await;
    let sign_in = async |kind: DeviceKind, address: [u8; 4]| {
        let request = SignIn::new(user("alice")).with_device_kind(kind);
        let request = request.with_ip(IpAddr::from(address));
        fleet.nodes[0].sessions().sign_in(request).await.unwrap().new_device
    };
    let (home, near, away) = ([192, 0, 2, 1], [192, 0, 2, 77], [203, 0, 113, 9]);
    assert_eq!(sign_in(DeviceKind::Web, home).await, Some(true), "the first one");
    assert_eq!(sign_in(DeviceKind::Web, near).await, Some(false));
    assert_eq!(sign_in(DeviceKind::Web, away).await, Some(true), "another network");
    assert_eq!(sign_in(DeviceKind::Mobile, away).await, Some(true), "another kind");
    assert_eq!(sign_in(DeviceKind::Mobile, away).await, Some(false));
    let silent = Fleet::start(Options::default()).await;
    let signed_in = silent.nodes[0].sessions().sign_in(SignIn::new(user("alice"))).await.unwrap();
    assert_eq!(signed_in.new_device, None);
}

/// Its last use is not stored yet, and counts.
#[tokio::test(start_paused = true)]
async fn the_least_recently_used_session_is_so_by_what_the_node_knows() {
    let limit = Limit { max: 2, scope: Scope::User, on_exceed: OnExceed::EvictLeastRecentlyUsed };
    let options = Options::default().with_default_policy(Policy::limit(limit));
    let fleet = Fleet::start(options).await;
    let node = &fleet.nodes[0];
    let older = sign_in(node, "alice").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let newer = sign_in(node, "alice").await;
    assert!(is_active(node, &older).await && is_active(node, &newer).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(is_active(node, &older).await);
    let third = sign_in(node, "alice").await;
    assert_eq!(third.ended, [(newer.session.id(), EndCause::Evicted)]);
}

/// A proof of the future, by the clock of an identity provider that is ahead, would stay fresh for longer.
#[tokio::test(start_paused = true)]
async fn a_proof_of_the_future_is_one_of_now() {
    let fleet = Fleet::start(Options::default()).await;
    let sessions = fleet.nodes[0].sessions();
    let now = sessions.now();
    let proof = Proof::default().at(now.plus(Duration::from_secs(3600)));
    let signed_in = sessions.sign_in(SignIn::new(user("alice")).with_proof(proof)).await.unwrap();
    assert_eq!(signed_in.session.authenticated_at(), now);
}

/// That it was claimed cannot be stored for a while, and counts.
#[tokio::test(start_paused = true)]
async fn a_session_that_the_node_knows_to_be_claimed_leaves_for_no_newcomer() {
    let limit = Limit { max: 1, scope: Scope::User, on_exceed: OnExceed::Reject };
    let options = Options::default().with_default_policy(Policy::limit(limit));
    let fleet = Fleet::start(options).await;
    let node = &fleet.nodes[0];
    let old = sign_in(node, "alice").await;
    fleet.probes[0].fail("touch", true);
    assert!(is_active(node, &old).await);
    tokio::time::sleep(2 * Options::default().claim_within).await;
    let outcome = node.sessions().sign_in(SignIn::new(user("alice"))).await;
    assert!(matches!(outcome, Err(Error::TooManySessions(_))), "{outcome:?}");
}

//! Every change is told (G12).

use std::time::Duration;

use session_core::policy::{Policy, PolicyScope, PreventConcurrentLogin};
use session_core::store::TenantFilter;
use session_core::{Actor, EndCause, UserId};
use session_engine::{Notice, Options, RotateReason, SignIn};

use crate::probe::{Fleet, sign_in, user};

/// What was told on one node, in words.
async fn heard(events: &mut session_engine::Events, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    while words.len() < count {
        match events.next().await.unwrap() {
            Notice::Event(event) => words.push(format!("{} by {}", event.kind, event.by)),
            notice => panic!("{notice:?}"),
        }
    }
    words
}

#[tokio::test(start_paused = true)]
async fn every_change_is_told_once_in_one_order_on_every_node() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let (mut near, mut far) = (here.sessions().events(), there.sessions().events());
    let root = Actor::User(UserId::new("root").unwrap());
    let policy = Policy::from(PreventConcurrentLogin::LogoutFromAllDevices);
    here.sessions().set_policy(PolicyScope::Deployment, Some(policy), root.clone()).await.unwrap();
    let first = sign_in(here, "alice").await;
    let token = first.token.expose();
    here.sessions().rotate(token.as_bytes(), RotateReason::Renewal).await.unwrap();
    let second = sign_in(here, "alice").await;
    let mut again = SignIn::new(user("alice"));
    again.replaces = Some(second.session.id());
    let third = there.sessions().sign_in(again).await.unwrap();
    there.sessions().claims_changed(&user("alice"), Actor::Application).await.unwrap();
    there.sessions().sign_out(&third.session).await.unwrap();
    let fourth = sign_in(there, "alice").await;
    here.sessions().revoke(fourth.session.id(), &user("alice"), root).await.unwrap();
    let expected = [
        "policy_changed by user:root",
        "created by user:alice",
        "rotated by user:alice",
        "evicted by user:alice",
        "created by user:alice",
        "replaced by user:alice",
        "created by user:alice",
        "claims_changed by application",
        "signed_out by user:alice",
        "created by user:alice",
        "revoked by user:root",
    ];
    assert_eq!(heard(&mut near, expected.len()).await, expected);
    assert_eq!(heard(&mut far, expected.len()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_long_lived_connection_hears_of_its_end_on_whichever_node() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    let id = signed_in.session.id();
    let revoke = async {
        here.sessions().revoke(id, &user("alice"), Actor::Application).await.unwrap();
        tokio::time::Instant::now()
    };
    let told = async {
        let cause = there.sessions().session_ended(id).await;
        (cause, tokio::time::Instant::now())
    };
    let ((cause, at), revoked) = tokio::join!(told, revoke);
    assert_eq!(cause, Some(EndCause::Revoked));
    assert!(at.duration_since(revoked) <= Options::default().propagation_bound);
    // Who asks afterwards is told at once.
    assert_eq!(there.sessions().session_ended(id).await, Some(EndCause::Revoked));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_hears_of_its_timeout() {
    let mut options = Options::default();
    options.timeouts.idle = Some(Duration::from_secs(600));
    let fleet = Fleet::start(options).await;
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    let begun = tokio::time::Instant::now();
    let cause = fleet.nodes[1].sessions().session_ended(signed_in.session.id()).await;
    assert_eq!(cause, Some(EndCause::Expired));
    let after = begun.elapsed();
    assert!(after >= Duration::from_secs(600) && after < Duration::from_secs(602), "{after:?}");
    let sessions = fleet.nodes[0].sessions();
    let listed = sessions.list(&sessions.query(TenantFilter::Any)).await.unwrap();
    assert_eq!(listed.sessions, []);
}

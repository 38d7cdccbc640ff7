//! Every change is told (G12).

use std::time::Duration;

use session_core::policy::{Policy, PolicyScope, PreventConcurrentLogin};
use session_core::store::TenantFilter;
use session_core::usage::Timeouts;
use session_core::{Actor, EndCause, UserKey};
use session_engine::{Notice, Options, RotateReason, SignIn, WaitEnd};

use crate::probe::{Fleet, engine, sign_in, store, told, user};

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
    let root = Actor::User(UserKey::new("root".parse().unwrap()));
    let policy = Policy::from(PreventConcurrentLogin::LogoutFromAllDevices);
    here.sessions().set_policy(PolicyScope::Deployment, Some(policy), root.clone()).await.unwrap();
    let first = sign_in(here, "alice").await;
    let token = first.token.expose();
    here.sessions().rotate(token.as_bytes(), RotateReason::Renewal).await.unwrap();
    let second = sign_in(here, "alice").await;
    let again = SignIn::new(user("alice")).with_replaces(second.session.id());
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
    assert_eq!(cause, WaitEnd::Ended(EndCause::Revoked));
    assert!(at.duration_since(revoked) <= Options::default().propagation_bound);
    // Who asks afterwards is told at once.
    assert_eq!(there.sessions().session_ended(id).await, WaitEnd::Ended(EndCause::Revoked));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_hears_of_its_timeout() {
    let timeouts = Timeouts::default().with_idle(Duration::from_secs(600));
    let options = Options::default().with_timeouts(timeouts);
    let fleet = Fleet::start(options).await;
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    let begun = tokio::time::Instant::now();
    let cause = fleet.nodes[1].sessions().session_ended(signed_in.session.id()).await;
    assert_eq!(cause, WaitEnd::Ended(EndCause::Expired));
    let after = begun.elapsed();
    // 10 minutes, and as long as a use may be on its way from another node.
    assert!(after >= Duration::from_secs(615) && after < Duration::from_secs(617), "{after:?}");
    let sessions = fleet.nodes[0].sessions();
    let listed = sessions.list(&sessions.query(TenantFilter::Any)).await.unwrap();
    assert_eq!(listed.sessions, []);
}

async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect("it ends by itself")
}

/// The kinds of what a stream still tells before it ends.
async fn rest(events: &mut session_engine::Events) -> Vec<String> {
    let mut kinds = Vec::new();
    while let Some(notice) = soon(events.next()).await {
        let Notice::Event(event) = notice else { panic!("{notice:?}") };
        kinds.push(event.kind.to_string());
    }
    kinds
}

/// Streams of a node that end when `stop` is done, after what was queued.
async fn assert_streams_end<S: Future>(
    stop: impl FnOnce(session_engine::Engine) -> S,
) -> S::Output {
    let node = engine(store(), Options::default()).await;
    let sessions = node.sessions().clone();
    let (mut early, mut queued) = (sessions.events(), sessions.events());
    let signed_in = sign_in(&node, "alice").await;
    told(&mut early, "created").await;
    let id = signed_in.session.id();
    let ended = tokio::spawn({
        let sessions = sessions.clone();
        async move { sessions.session_ended(id).await }
    });
    tokio::task::yield_now().await;
    let stopped = stop(node).await;
    assert_eq!(soon(ended).await.unwrap(), WaitEnd::Stopping);
    assert_eq!(rest(&mut early).await, [""; 0]);
    assert_eq!(rest(&mut queued).await, ["created"]);
    assert_eq!(rest(&mut sessions.events()).await, [""; 0]);
    assert_eq!(soon(sessions.session_ended(id)).await, WaitEnd::Stopping);
    stopped
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_streams_after_what_was_queued() {
    assert_streams_end(session_engine::Engine::shutdown).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_engine_ends_streams() {
    assert_streams_end(|node| async move { drop(node) }).await;
}

#[tokio::test(start_paused = true)]
async fn streams_can_be_stopped_while_the_workers_go_on() {
    let node = assert_streams_end(|node| async move {
        node.sessions().stop_streams();
        node.sessions().stop_streams();
        node
    })
    .await;
    let signed_in = sign_in(&node, "bob").await;
    let used = node.sessions().now();
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert!(node.sessions().health().heard_at > used, "the log is still followed");
    assert!(crate::probe::is_active(&node, &signed_in).await);
    node.shutdown().await;
}

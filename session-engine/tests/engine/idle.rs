//! The idle timeout, where a use of the session is on its way from another node.

use std::time::Duration;

use session_core::checker::Timeouts;
use session_core::{EndCause, Store, Timestamp};
use session_engine::{Engine, Options, SignedIn};

use crate::probe::{Fleet, is_active, sign_in};

const IDLE: Duration = Duration::from_secs(600);
const MOMENT: Duration = Duration::from_millis(1);

fn options() -> Options {
    Options::default().with_timeouts(Timeouts::none().with_idle(IDLE))
}

/// Two nodes, and a session that the second one has begun. By what the store knows, it is past its
/// idle timeout at the time that is returned.
async fn fleet() -> (Fleet, SignedIn, Timestamp) {
    let fleet = Fleet::start(options()).await;
    let signed_in = sign_in(&fleet.nodes[1], "alice").await;
    assert!(is_active(&fleet.nodes[1], &signed_in).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stored = fleet.store.load(signed_in.session.id()).await.unwrap().unwrap().session;
    assert!(stored.claimed, "what is unstored now is used later");
    (fleet, signed_in, stored.last_accessed.plus(IDLE))
}

async fn sleep_until(node: &Engine, at: Timestamp) {
    tokio::time::sleep(at.since(node.sessions().now())).await;
}

/// A request is accepted at the last moment. Its write-back takes so long that the store's time limit
/// is over, and arrives with the next try.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_used_a_moment_before_its_timeout_is_not_ended_elsewhere() {
    let (fleet, signed_in, timeout) = fleet().await;
    let ([here, there], id) = (&fleet.nodes, signed_in.session.id());
    sleep_until(there, timeout.minus(MOMENT)).await;
    let gate = fleet.probes[1].hold_before("touch");
    assert!(is_active(there, &signed_in).await, "a moment before");
    sleep_until(here, timeout).await;
    assert!(!is_active(here, &signed_in).await, "this node cannot know of it");
    gate.reached().await;
    let begun = here.sessions().now();
    while !is_active(here, &signed_in).await {
        assert!(fleet.store.load(id).await.unwrap().is_some(), "the session is in use");
        assert!(here.sessions().now().since(begun) < Duration::from_secs(6), "it arrives");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(here.sessions().now().since(begun) > Duration::from_secs(4), "it took long");
    assert!(is_active(there, &signed_in).await);
}

/// The node that was used could not write for a while. So what this node has read is old.
#[tokio::test(start_paused = true)]
async fn a_use_that_arrives_between_the_read_and_the_end_keeps_the_session() {
    let (fleet, signed_in, timeout) = fleet().await;
    let [here, there] = &fleet.nodes;
    sleep_until(there, timeout.minus(MOMENT)).await;
    fleet.probes[1].fail("touch", true);
    assert!(is_active(there, &signed_in).await);
    sleep_until(here, timeout.plus(Duration::from_secs(60))).await;
    let gate = fleet.probes[0].hold_before("end_many");
    let arrives = async {
        gate.reached().await;
        fleet.probes[1].fail("touch", false);
        tokio::time::sleep(Duration::from_secs(1)).await;
        gate.open();
    };
    let (active, ()) = tokio::join!(is_active(here, &signed_in), arrives);
    assert!(active, "it is in use by what the store knows now");
    assert!(is_active(there, &signed_in).await);
}

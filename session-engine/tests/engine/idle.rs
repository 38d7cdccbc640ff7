//! The idle timeout, where a use of the session is on its way from another node.

use std::time::Duration;

use session_core::cleanup::Cleanup;
use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, Scope};
use session_core::usage::Timeouts;
use session_core::{Actor, DeviceInfo, DeviceName, EndCause, Store, Timestamp};
use session_engine::{
    Access, Engine, Error, Options, Refusal, RotateReason, Rotation, SessionManager, SignIn,
    SignedIn, Verdict, WhenStale,
};

use crate::probe::{Fleet, is_active, sign_in, user};

const IDLE: Duration = Duration::from_secs(600);
const MOMENT: Duration = Duration::from_millis(1);

fn options() -> Options {
    Options::default().with_timeouts(Timeouts::none().with_idle(IDLE))
}

/// Two nodes, and a session that the second one has begun. By what the store knows, it is past its
/// idle timeout at the time that is returned.
async fn fleet() -> (Fleet, SignedIn, Timestamp) {
    fleet_with(options()).await
}

async fn fleet_with(options: Options) -> (Fleet, SignedIn, Timestamp) {
    let fleet = Fleet::start(options).await;
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

/// As that, for what ends a session besides a check: `here` is asked for it, and is about to end what it
/// has read. Before it ends, the use arrives of a node that could not write for a while.
async fn used_meanwhile<T, F: Future<Output = T>>(
    ask: impl FnOnce(SessionManager, SignedIn) -> F,
) -> T {
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
    let asked = ask(here.sessions().clone(), signed_in.clone());
    let (answer, ()) = tokio::join!(asked, arrives);
    assert!(is_active(there, &signed_in).await && is_active(here, &signed_in).await);
    answer
}

#[tokio::test(start_paused = true)]
async fn a_use_that_arrives_between_the_read_and_the_end_keeps_the_session() {
    let ask = async |manager: SessionManager, signed_in: SignedIn| {
        let token = signed_in.token.expose();
        manager.validate(token.as_bytes(), Access::passive(None)).await.unwrap()
    };
    let verdict = used_meanwhile(ask).await;
    assert!(matches!(verdict, Verdict::Active(_)), "by what the store knows now: {verdict:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rotation_ends_no_session_that_was_used_since_it_was_read() {
    let ask = async |manager: SessionManager, signed_in: SignedIn| {
        let token = signed_in.token.expose();
        manager.rotate(token.as_bytes(), RotateReason::Renewal).await.unwrap()
    };
    let rotation = used_meanwhile(ask).await;
    assert!(matches!(rotation, Rotation::Rotated { .. }), "{rotation:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_outlives_an_end_that_the_store_refuses() {
    let ask = async |manager: SessionManager, signed_in: SignedIn| {
        let mut waiting = Box::pin(manager.session_ended(signed_in.session.id()));
        tokio::time::timeout(Duration::from_secs(10), &mut waiting).await
    };
    assert!(used_meanwhile(ask).await.is_err(), "its session goes on");
}

/// Another sign-in of the user ends what is past its deadline, and nothing that may be in use.
#[tokio::test(start_paused = true)]
async fn a_sign_in_ends_no_session_whose_use_is_on_its_way() {
    let (fleet, signed_in, timeout) = fleet().await;
    let ([here, there], id) = (&fleet.nodes, signed_in.session.id());
    sleep_until(there, timeout.minus(MOMENT)).await;
    let gate = fleet.probes[1].hold_before("touch");
    assert!(is_active(there, &signed_in).await);
    gate.reached().await;
    assert_eq!(sign_in(here, "alice").await.ended, []);
    gate.open();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(is_active(here, &signed_in).await && is_active(there, &signed_in).await);
    sleep_until(here, timeout.plus(IDLE + Duration::from_secs(60))).await;
    assert!(sign_in(here, "alice").await.ended.contains(&(id, EndCause::Expired)));
}

/// As of one that is in use: by who acts as the user, from the device by the name that it was given.
#[tokio::test(start_paused = true)]
async fn an_idle_session_is_signed_out_by_whom_it_belongs_to() {
    let fleet = Fleet::start(options()).await;
    let node = fleet.nodes[0].sessions();
    let request = SignIn::new(user("alice"))
        .with_impersonator(user("support"))
        .with_device_info(DeviceInfo::truncated("Firefox on Linux"));
    let begun = node.sign_in(request).await.unwrap();
    assert!(is_active(&fleet.nodes[0], &begun).await);
    let id = begun.session.id();
    let name = DeviceName::new("the office").unwrap();
    let named = node.name_device(id, &user("alice"), Some(name), Actor::Application).await;
    assert!(named.unwrap().is_some());
    tokio::time::sleep(IDLE).await;
    let token = begun.token.expose();
    let verdict = node.validate(token.as_bytes(), Access::default()).await.unwrap();
    assert!(matches!(verdict, Verdict::Refused(Refusal::Idle(_))), "{verdict:?}");
    let held = node.held(&[token.as_bytes()]).await.unwrap().unwrap();
    node.sign_out_held(&held).await.unwrap();
    let ended = fleet.store.ended(id).await.unwrap().unwrap();
    assert_eq!(ended.cause, EndCause::SignedOut);
    assert_eq!(ended.by, Actor::User(user("support")));
    assert_eq!(ended.from, DeviceInfo::truncated("the office"));
    node.sign_out_held(&held).await.unwrap();
}

/// Its place is another matter: nobody is refused because of a session past its timeout.
#[tokio::test(start_paused = true)]
async fn an_idle_session_locks_nobody_out() {
    let (fleet, signed_in, timeout) = fleet().await;
    let here = &fleet.nodes[0];
    let limit = Limit { max: 1, scope: Scope::User, on_exceed: OnExceed::Reject };
    let by = Actor::Application;
    here.sessions()
        .set_policy(PolicyScope::Deployment, Some(Policy::limit(limit)), by)
        .await
        .unwrap();
    sleep_until(here, timeout.minus(MOMENT)).await;
    let refused = here.sessions().sign_in(SignIn::new(user("alice"))).await;
    assert!(matches!(refused, Err(Error::TooManySessions(_))), "{refused:?}");
    sleep_until(here, timeout).await;
    let ended = [(signed_in.session.id(), EndCause::Expired)];
    assert_eq!(sign_in(here, "alice").await.ended, ended);
}

/// The store is away for this many seconds. One node accepts a use during that time and is slow to write it
/// back. The other node, asked for the session, must not end it before the use has had its time.
async fn used_in_an_outage<T, F: Future<Output = T>>(
    options: Options,
    seconds: u64,
    ask: impl FnOnce(SessionManager, SignedIn) -> F,
) -> T {
    let (fleet, signed_in, timeout) = fleet_with(options).await;
    let [here, there] = &fleet.nodes;
    sleep_until(there, timeout.minus(Duration::from_secs(2))).await;
    fleet.probes.iter().for_each(|probe| probe.away(true));
    sleep_until(there, timeout.minus(MOMENT)).await;
    assert!(is_active(there, &signed_in).await);
    sleep_until(here, timeout.plus(Duration::from_secs(seconds))).await;
    let gate = fleet.probes[1].hold_before("touch");
    fleet.probes.iter().for_each(|probe| probe.away(false));
    gate.reached().await;
    let answer = ask(here.sessions().clone(), signed_in.clone()).await;
    let id = signed_in.session.id();
    assert!(fleet.store.load(id).await.unwrap().is_some(), "the session is in use");
    gate.open();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(is_active(here, &signed_in).await && is_active(there, &signed_in).await);
    // Nobody has used it for long, and the store was there.
    sleep_until(here, timeout.plus(2 * IDLE)).await;
    assert!(!is_active(here, &signed_in).await);
    assert!(fleet.store.load(id).await.unwrap().is_none());
    answer
}

#[tokio::test(start_paused = true)]
async fn a_request_after_an_outage_ends_no_session_that_was_used_in_it() {
    let ask = async |manager: SessionManager, signed_in: SignedIn| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let token = signed_in.token.expose();
        manager.validate(token.as_bytes(), Access::default()).await.unwrap()
    };
    let verdict = used_in_an_outage(options(), 20, ask).await;
    assert!(matches!(verdict, Verdict::Refused(Refusal::Idle(_))), "{verdict:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_after_an_outage_ends_no_session_that_was_used_in_it() {
    let ask = async |manager: SessionManager, _| {
        manager.sign_in(SignIn::new(user("alice"))).await.unwrap().ended
    };
    let long = Duration::from_secs(3600);
    let options = options().with_when_stale(WhenStale::ServeStale(long));
    assert_eq!(used_in_an_outage(options, 60, ask).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_connection_outlives_an_outage_in_which_its_session_was_used() {
    let ask = async |manager: SessionManager, signed_in: SignedIn| {
        let ended = manager.session_ended(signed_in.session.id());
        tokio::time::timeout(Duration::from_secs(4), ended).await
    };
    assert!(used_in_an_outage(options(), 20, ask).await.is_err(), "its session goes on");
}

/// The outage lasts longer than any use is on its way while the store is there.
#[tokio::test(start_paused = true)]
async fn a_cleanup_after_an_outage_ends_no_session_that_was_used_in_it() {
    let second = Duration::from_secs(1);
    let options = options()
        .with_when_stale(WhenStale::ServeStale(second * 3600))
        .with_cleanup(Cleanup::default().with_period(second * 5));
    let (fleet, signed_in, timeout) = fleet_with(options).await;
    let ([here, there], id) = (&fleet.nodes, signed_in.session.id());
    sleep_until(there, timeout.minus(second * 2)).await;
    fleet.probes.iter().for_each(|probe| probe.away(true));
    sleep_until(there, timeout.minus(MOMENT)).await;
    assert!(is_active(there, &signed_in).await);
    sleep_until(here, timeout.plus(second * 60)).await;
    fleet.probes[1].fail("touch", true);
    fleet.probes.iter().for_each(|probe| probe.away(false));
    let trims = || {
        fleet.probes[0].calls().get("trim_log").copied().unwrap_or_default()
            + fleet.probes[1].calls().get("trim_log").copied().unwrap_or_default()
    };
    let before = trims();
    tokio::time::sleep(second * 40).await;
    assert!(fleet.store.load(id).await.unwrap().is_some(), "its use is on its way");
    assert!(trims() > before, "the log is cut all the same");
    // One of the nodes cannot clean up, because it cannot write back.
    tokio::time::sleep(second * 120).await;
    assert!(fleet.store.load(id).await.unwrap().is_none(), "no use takes so long");
}

/// No use prolongs an absolute timeout: a connection hears of it in time, also just after the node started.
#[tokio::test(start_paused = true)]
async fn a_wait_hears_of_the_absolute_timeout_while_uses_may_be_on_their_way() {
    let absolute = Duration::from_secs(5);
    let options = Options::default().with_timeouts(Timeouts::none().with_absolute(absolute));
    let fleet = Fleet::start(options).await;
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    let begun = tokio::time::Instant::now();
    let ended = fleet.nodes[0].sessions().session_ended(signed_in.session.id()).await;
    assert_eq!(ended.cause(), Some(EndCause::Expired));
    assert!(begun.elapsed() < absolute + Duration::from_millis(100), "{:?}", begun.elapsed());
}

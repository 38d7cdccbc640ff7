//! Callers that go away or are never polled again, answers that are lost, and calls that break: what a
//! sign-in, a revocation or a check leaves behind.

use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use session_core::policy::{Limit, OnExceed, Policy, Scope};
use session_core::store::Touch;
use session_core::usage::Timeouts;
use session_core::{Actor, EndCause, ExtraData, Session, SessionId, Store};
use session_engine::clock::{Clock, ManualClock};
use session_engine::{
    Access, Engine, Error, Options, Parts, RotateReason, Rotation, SignIn, SignedIn, Ticket,
    Verdict, WhenStale,
};

use crate::probe::{
    Fleet, Probe, clock, engine, is_active, refusal, revoke, sign_in, store, user, verdict,
};

fn at_most(max: u32) -> Options {
    let limit = Limit { max, scope: Scope::User, on_exceed: OnExceed::Reject };
    Options::default().with_default_policy(Policy::limit(limit))
}

fn at_most_without_history(max: u32) -> Options {
    let mut options = at_most(max);
    options.history.keep = Some(Duration::ZERO);
    options
}

async fn claimed(node: &Engine, name: &str) -> SignedIn {
    let signed_in = sign_in(node, name).await;
    assert!(is_active(node, &signed_in).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    signed_in
}

async fn live(fleet: &Fleet, name: &str) -> Vec<SessionId> {
    let standing = fleet.store.user(&user(name)).await.unwrap().sessions;
    standing.iter().map(|session| session.id).collect()
}

/// A ticket for a sign-in that a limit refuses, and the session that may end.
async fn refused(fleet: &Fleet) -> (String, SignedIn) {
    let old = claimed(&fleet.nodes[0], "alice").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    match fleet.nodes[0].sessions().sign_in(SignIn::new(user("alice"))).await {
        Err(Error::TooManySessions(refused)) => (refused.ticket.expose().to_owned(), old),
        outcome => panic!("{outcome:?}"),
    }
}

/// The answer has arrived, and its caller goes away before it has been looked at.
#[tokio::test(start_paused = true)]
async fn a_sign_in_that_is_dropped_with_its_answer_leaves_no_session() {
    let fleet = Fleet::start(Options::default()).await;
    let manager = fleet.nodes[0].sessions().clone();
    let mut waiting = Box::pin(manager.sign_in(SignIn::new(user("alice"))));
    assert!(poll!(&mut waiting).is_pending());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(live(&fleet, "alice").await.len(), 1);
    drop(waiting);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(live(&fleet, "alice").await, []);
}

async fn broken(_: Session) -> Result<serde_json::Value, String> {
    panic!("a planted panic")
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_whose_claims_provider_panics_leaves_no_session() {
    let store = store();
    let parts = Parts::default().with_clock(clock()).with_claims(broken);
    let node =
        Engine::start_with(Arc::new(store.clone()), Options::default(), parts).await.unwrap();
    let outcome = node.sessions().sign_in(SignIn::new(user("alice"))).await;
    assert!(outcome.is_err_and(|error| error.is_unavailable()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(store.user(&user("alice")).await.unwrap().sessions, []);
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_whose_commit_panics_leaves_no_session() {
    let fleet = Fleet::start(Options::default()).await;
    let manager = fleet.nodes[0].sessions().clone();
    let gate = fleet.probes[0].hold("commit");
    let (outcome, ()) = tokio::join!(manager.sign_in(SignIn::new(user("alice"))), async {
        gate.reached().await;
        // The next try panics while the first is in doubt.
        fleet.probes[0].lose_answers(true);
        fleet.probes[0].panic_once("user");
        gate.open();
    });
    assert!(outcome.is_err_and(|error| error.is_unavailable()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(live(&fleet, "alice").await, []);
}

/// The first commit never reaches the store; the second one begins the same session.
#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_tried_twice_keeps_its_session() {
    let fleet = Fleet::start(at_most(1)).await;
    let (ticket, old) = refused(&fleet).await;
    let manager = fleet.nodes[1].sessions().clone();
    let gate = fleet.probes[1].hold("user");
    fleet.probes[1].fail("commit", true);
    let waiting =
        tokio::spawn(async move { manager.sign_in_with_ticket(&ticket, old.session.id()).await });
    gate.reached().await;
    let second = fleet.probes[1].hold("user");
    gate.open();
    second.reached().await;
    fleet.probes[1].fail("commit", false);
    second.open();
    let new = waiting.await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(is_active(&fleet.nodes[1], &new).await && is_active(&fleet.nodes[0], &new).await);
    assert_eq!(fleet.nodes[1].sessions().health().take_backs, 0);
}

/// The first use fails on one node, the user tries again on another: taking back what the first may have
/// begun must not end what the second has.
#[tokio::test(start_paused = true)]
async fn a_ticket_that_fails_on_one_node_and_is_used_on_another_keeps_its_session() {
    let fleet = Fleet::start(at_most(1)).await;
    let (ticket, old) = refused(&fleet).await;
    let [here, there] = &fleet.nodes;
    fleet.probes[0].fail("commit", true);
    fleet.probes[0].fail("end_many", true);
    let end = old.session.id();
    let failed = here.sessions().sign_in_with_ticket(&ticket, end).await;
    assert!(failed.is_err_and(|error| error.is_unavailable()));
    let new = there.sessions().sign_in_with_ticket(&ticket, end).await.unwrap();
    fleet.probes[0].fail("commit", false);
    fleet.probes[0].fail("end_many", false);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(is_active(there, &new).await && is_active(here, &new).await);
    assert_eq!(here.sessions().health().take_backs, 0);
}

/// The answer of the commit is lost, and so is that of the read that would have found it.
#[tokio::test(start_paused = true)]
async fn a_ticket_whose_answers_are_all_lost_leaves_no_session() {
    let fleet = Fleet::start(at_most(1)).await;
    let (ticket, old) = refused(&fleet).await;
    fleet.probes[1].lose_answers(true);
    fleet.probes[1].fail("load", true);
    let manager = fleet.nodes[1].sessions();
    let outcome = manager.sign_in_with_ticket(&ticket, old.session.id()).await;
    assert!(outcome.is_err_and(|error| error.is_unavailable()));
    fleet.probes[1].fail("load", false);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(live(&fleet, "alice").await, []);
}

/// The history is off, so the store would take the same id again.
#[tokio::test(start_paused = true)]
async fn a_ticket_works_once_also_where_no_history_is_kept() {
    let fleet = Fleet::start(at_most_without_history(1)).await;
    let (ticket, old) = refused(&fleet).await;
    let [here, there] = &fleet.nodes;
    let end = old.session.id();
    let new = here.sessions().sign_in_with_ticket(&ticket, end).await.unwrap();
    here.sessions().sign_out(&new.session).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // It has heard of neither.
    let late = engine(fleet.store.clone(), at_most_without_history(1)).await;
    for node in [here, there, &late] {
        let again = node.sessions().sign_in_with_ticket(&ticket, end).await;
        assert!(matches!(again, Err(Error::InvalidTicket)), "{again:?}");
    }
}

/// The ticket that comes back with a refusal works, once.
#[tokio::test(start_paused = true)]
async fn a_refused_ticket_is_replaced_where_no_history_is_kept() {
    let fleet = Fleet::start(at_most_without_history(1)).await;
    let (ticket, old) = refused(&fleet).await;
    let manager = fleet.nodes[1].sessions();
    let other = SessionId::from_bytes([7; 16]);
    let Err(Error::TooManySessions(again)) = manager.sign_in_with_ticket(&ticket, other).await
    else {
        panic!("nothing has ended");
    };
    let end = old.session.id();
    assert!(manager.sign_in_with_ticket(again.ticket.expose(), end).await.is_ok());
    for ticket in [ticket.as_str(), again.ticket.expose()] {
        let outcome = manager.sign_in_with_ticket(ticket, end).await;
        assert!(matches!(outcome, Err(Error::InvalidTicket)), "{outcome:?}");
    }
}

/// Each replacement is good for what is left of the first ticket's time.
#[tokio::test(start_paused = true)]
async fn a_replaced_ticket_is_not_prolonged_where_no_history_is_kept() {
    let fleet = Fleet::start(at_most_without_history(1)).await;
    let (mut ticket, old) = refused(&fleet).await;
    let manager = fleet.nodes[1].sessions();
    let other = SessionId::from_bytes([7; 16]);
    for _ in 0..4 {
        tokio::time::sleep(Ticket::VALID_FOR / 5).await;
        let outcome = manager.sign_in_with_ticket(&ticket, other).await;
        let Err(Error::TooManySessions(again)) = outcome else { panic!("{outcome:?}") };
        ticket = again.ticket.expose().to_owned();
    }
    tokio::time::sleep(Ticket::VALID_FOR / 5).await;
    let late = manager.sign_in_with_ticket(&ticket, old.session.id()).await;
    assert!(matches!(late, Err(Error::InvalidTicket)), "{late:?}");
}

/// A session of the ticket's id stands when the use that failed is tried again: it is another's.
#[tokio::test(start_paused = true)]
async fn a_use_of_a_ticket_that_failed_does_not_take_anothers_session_for_its_own() {
    let fleet = Fleet::start(at_most(1)).await;
    let (ticket, old) = refused(&fleet).await;
    let [here, there] = &fleet.nodes;
    let end = old.session.id();
    fleet.probes[0].fail("commit", true);
    let (sessions, same) = (here.sessions().clone(), ticket.clone());
    let failed = tokio::spawn(async move { sessions.sign_in_with_ticket(&same, end).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    fleet.probes[0].fail("commit", false);
    let new = there.sessions().sign_in_with_ticket(&ticket, end).await.unwrap();
    let failed = failed.await.unwrap();
    assert!(matches!(failed, Err(Error::InvalidTicket)), "{failed:?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(is_active(here, &new).await);
}

/// A session that can never be ended does not keep others from being taken back.
#[tokio::test(start_paused = true)]
async fn one_session_that_cannot_be_taken_back_stops_no_other() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let mut held = Vec::new();
    for n in 0..4 {
        let other = sign_in(node, &format!("user {n}")).await;
        if n != 3 {
            fleet.probes[0].corrupt(other.session.id());
        }
        let request = SignIn::new(user("alice")).with_replaces(other.session.id());
        node.sessions().sign_in(request).await.unwrap();
        held.push(other);
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(live(&fleet, "user 3").await, []);
    assert_eq!(node.sessions().health().take_backs, 3);
    assert!(node.sessions().health().workers["take-back"].error.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_take_back_that_panics_is_made_again() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let bob = sign_in(node, "bob").await;
    fleet.probes[0].fail("end_many", true);
    let request = SignIn::new(user("alice")).with_replaces(bob.session.id());
    node.sessions().sign_in(request).await.unwrap();
    fleet.probes[0].fail("end_many", false);
    fleet.probes[0].panic_once("end_many");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(live(&fleet, "bob").await, []);
    assert_eq!(node.sessions().health().workers["take-back"].restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_takes_back_what_it_owes() {
    let fleet = Fleet::start(Options::default()).await;
    let Fleet { store, probes, nodes: [here, _there] } = fleet;
    let bob = sign_in(&here, "bob").await;
    probes[0].fail("end_many", true);
    let request = SignIn::new(user("alice")).with_replaces(bob.session.id());
    here.sessions().sign_in(request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(here.sessions().health().take_backs, 1);
    probes[0].fail("end_many", false);
    here.shutdown().await;
    assert_eq!(store.user(&user("bob")).await.unwrap().sessions, []);
}

/// Who acts as the user is named, not the user.
#[tokio::test(start_paused = true)]
async fn an_impersonator_is_named_for_the_session_that_the_sign_in_replaces() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let bob = sign_in(node, "bob").await;
    let request =
        SignIn::new(user("alice")).with_impersonator(user("root")).with_replaces(bob.session.id());
    node.sessions().sign_in(request).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ended = fleet.store.ended(bob.session.id()).await.unwrap().unwrap();
    assert_eq!(ended.by, Actor::User(user("root")));
}

#[tokio::test(start_paused = true)]
async fn what_a_write_back_had_taken_is_put_back_when_it_panics() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let signed_in = sign_in(&node, "alice").await;
    probe.panic_once("touch");
    assert!(is_active(&node, &signed_in).await);
    let used = node.sessions().now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.sessions().health().workers["write-back"].restarts, 1);
    let stored = probe.load(signed_in.session.id()).await.unwrap().unwrap().session;
    assert!(stored.claimed);
    assert_eq!(stored.last_accessed, used);
}

/// A revocation that happened although its answer was lost, and its repetition, which finds nothing left.
#[tokio::test(start_paused = true)]
async fn a_repeated_revocation_is_one() {
    for by_id in [true, false] {
        let fleet = Fleet::start(Options::default()).await;
        let node = &fleet.nodes[0];
        let alice = claimed(node, "alice").await;
        let bob = claimed(node, "bob").await;
        let (id, owner) = (alice.session.id(), alice.session.owner().clone());
        let revoke = async || match by_id {
            true => node.sessions().revoke(id, &owner, Actor::System).await.map(u64::from),
            false => node.sessions().revoke_user(owner.clone(), Actor::System).await,
        };
        let loads = fleet.probes[0].calls().get("load").copied();
        fleet.probes[0].lose_answers_of("end_many", true);
        assert!(revoke().await.is_err_and(|error| error.is_unavailable()));
        fleet.probes[0].lose_answers_of("end_many", false);
        assert_eq!(revoke().await.unwrap(), 0);
        assert!(!is_active(node, &alice).await, "it has returned");
        assert!(is_active(node, &bob).await);
        let spent = fleet.probes[0].calls().get("load").copied().unwrap_or(0) - loads.unwrap_or(0);
        // By id, the store is asked for this one; otherwise the log has told of it.
        assert_eq!(spent, u64::from(by_id), "the other is still cached");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_update_shows_at_once() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let alice = claimed(node, "alice").await;
    let data = ExtraData::from_json("{\"cart\":1}").unwrap();
    let id = alice.session.id();
    let update = async || {
        let set = |_: Option<&ExtraData>| Ok(Some(data.clone()));
        node.sessions().update_data(id, Actor::Application, set).await
    };
    fleet.probes[0].lose_answers(true);
    assert!(update().await.is_err_and(|error| error.is_unavailable()));
    fleet.probes[0].lose_answers(false);
    assert!(update().await.unwrap().is_some());
    let current = verdict(node, &alice).await.session().unwrap();
    assert_eq!(current.data(), Some(&data));
}

/// A sign-in that evicts, whose answer is lost for good, and the next one.
#[tokio::test(start_paused = true)]
async fn what_a_lost_sign_in_has_evicted_is_refused_at_once() {
    let policy = session_core::policy::PreventConcurrentLogin::LogoutFromAllDevices;
    let fleet = Fleet::start(Options::default().with_default_policy(policy)).await;
    let node = &fleet.nodes[0];
    let old = claimed(node, "alice").await;
    fleet.probes[0].lose_answers(true);
    let gate = fleet.probes[0].hold("commit");
    let (outcome, ()) = tokio::join!(node.sessions().sign_in(SignIn::new(user("alice"))), async {
        gate.reached().await;
        fleet.probes[0].fail("user", true);
        gate.open();
    });
    assert!(outcome.is_err_and(|error| error.is_unavailable()));
    fleet.probes[0].lose_answers(false);
    fleet.probes[0].fail("user", false);
    fleet.probes[0].fail("log_since", true);
    sign_in(node, "alice").await;
    assert!(!is_active(node, &old).await);
}

/// A caller that began to read the log is never polled again: the node goes on without it.
#[tokio::test(start_paused = true)]
async fn a_caller_that_is_not_polled_keeps_no_other_from_the_log() {
    let store = store();
    let here = engine(store.clone(), Options::default()).await;
    let (probe, wall) = (Probe::over(store), ManualClock::starting_at(clock().now()));
    let parts = Parts::default().with_clock(wall.clone());
    let there = Engine::start_with(Arc::new(probe.clone()), Options::default(), parts);
    let there = there.await.unwrap();
    let [alice, bob] = [sign_in(&here, "alice").await, sign_in(&here, "bob").await];
    assert!(is_active(&there, &alice).await && is_active(&there, &bob).await);
    // The node was suspended, and a request reads the log before the follower does.
    wall.advance(Duration::from_secs(60));
    let gate = probe.hold("log_since");
    let token = alice.token.expose();
    let mut stuck = Box::pin(there.sessions().validate(token.as_bytes(), Access::default()));
    assert!(poll!(&mut stuck).is_pending());
    gate.reached().await;
    gate.open();
    tokio::time::sleep(Duration::from_secs(1)).await;
    revoke(&here, &bob).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let loads = probe.calls()["load"];
    assert!(there.sessions().health().fresh);
    assert_eq!(refusal(&there, &bob).await.end_cause(), Some(EndCause::Revoked));
    assert_eq!(probe.calls()["load"], loads, "the log has told");
    assert!(matches!(stuck.await, Ok(Verdict::Active(_))));
}

/// Sign-ins of one user take turns, but not for longer than a call of the store may take.
#[tokio::test(start_paused = true)]
async fn sign_ins_behind_a_store_that_hangs_are_told_so() {
    let fleet = Fleet::start(Options::default()).await;
    let limit = Options::default().store_timeout;
    fleet.probes[0].slow("user", 10 * limit);
    let begun = tokio::time::Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let manager = fleet.nodes[0].sessions().clone();
        running.spawn(async move { manager.sign_in(SignIn::new(user("alice"))).await });
    }
    for outcome in running.join_all().await {
        assert!(outcome.is_err_and(|error| error.is_unavailable()));
    }
    assert!(begun.elapsed() <= 3 * limit, "{:?}", begun.elapsed());
}

/// A caller's runtime may have no timer: waiting before another try is the engine's business.
#[test]
fn a_second_try_needs_no_timer_of_the_caller() {
    let engines =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let probe = Probe::over(session_store_memory::MemoryStore::new());
    let engine = engines.block_on(Engine::start(probe.clone(), Options::default())).unwrap();
    let manager = engine.sessions().clone();
    let callers = tokio::runtime::Builder::new_current_thread().build().unwrap();
    callers.block_on(async {
        let signed_in = sign_in(&engine, "alice").await;
        let (token, id) = (signed_in.token.expose(), signed_in.session.id());
        probe.lose_answers(true);
        let rotated = manager.rotate(token.as_bytes(), RotateReason::Renewal).await.unwrap();
        assert!(matches!(rotated, Rotation::Rotated { .. }));
        probe.lose_answers(false);
        let waiting = manager.session_ended(id);
        let mut waiting = Box::pin(waiting);
        assert!(poll!(&mut waiting).is_pending());
        revoke(&engine, &signed_in).await;
        assert_eq!(waiting.await.cause(), Some(EndCause::Revoked));
    });
    engines.block_on(engine.shutdown());
}

/// An access that found the queue full is planned by the next one, not by the tenth.
#[tokio::test(start_paused = true)]
async fn the_next_access_of_a_session_that_found_no_room_is_planned() {
    let probe = Probe::over(store());
    let mut options = Options::default();
    options.cache_capacity = 2;
    options.cleanup.enabled = false;
    let node = engine(probe.clone(), options).await;
    let mut begun = Vec::new();
    for n in 0..2 * Touch::MAX_BATCH {
        begun.push(sign_in(&node, &format!("user{n}")).await);
    }
    probe.fail("touch", true);
    for signed_in in &begun {
        assert!(is_active(&node, signed_in).await);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let last = begun.last().unwrap();
    probe.fail("touch", false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let current = verdict(&node, last).await.session().unwrap();
    let used = current.last_accessed();
    tokio::time::sleep(Duration::from_secs(31)).await;
    let stored = probe.load(last.session.id()).await.unwrap().unwrap().session;
    assert_eq!(stored.last_accessed, used);
}

/// Requests that are served during an outage count as use.
#[tokio::test(start_paused = true)]
async fn a_session_in_use_during_an_outage_does_not_expire() {
    let probe = Probe::over(store());
    let hour = Duration::from_secs(3600);
    let options = Options::default()
        .with_timeouts(Timeouts::none().with_idle(hour / 4))
        .with_when_stale(WhenStale::ServeStale(4 * hour));
    let node = engine(probe.clone(), options).await;
    let signed_in = claimed(&node, "alice").await;
    probe.away(true);
    for _ in 0..12 {
        tokio::time::sleep(hour / 12).await;
        assert!(is_active(&node, &signed_in).await);
    }
    let used = node.sessions().now();
    probe.away(false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let stored = probe.load(signed_in.session.id()).await.unwrap().unwrap().session;
    assert_eq!(stored.last_accessed, used);
}

/// A browser that holds a cookie with a wrong check beside the right one.
#[tokio::test(start_paused = true)]
async fn a_forged_token_beside_the_right_one_takes_nothing_away() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    let right = signed_in.token.expose();
    let mut forged = right.clone();
    forged.replace_range(32..48, "0123456789abcdef");
    for node in [here, there] {
        let both = [forged.as_bytes(), right.as_bytes()];
        let verdict = node.sessions().check_all(&both, Access::default()).resolve().await;
        assert!(matches!(verdict, Ok(Verdict::Active(_))), "{verdict:?}");
        let alone = node.sessions().check_all(&both[..1], Access::default()).resolve().await;
        assert!(matches!(alone, Ok(Verdict::Refused(_))), "{alone:?}");
    }
}

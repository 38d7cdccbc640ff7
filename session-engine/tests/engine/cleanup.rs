//! Cleanup and timeouts (G6).

use std::time::Duration;

use session_core::store::{Selection, TenantFilter};
use session_core::usage::Timeouts;
use session_core::{Actor, EndCause, Store};
use session_engine::{Notice, Options, Refusal};

use crate::probe::{Fleet, Probe, engine, is_active, refusal, sign_in, store, told};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn without_timeouts() -> Options {
    Options::default().with_timeouts(Timeouts::none())
}

fn idle_after(idle: Duration) -> Options {
    Options::default().with_timeouts(Timeouts::none().with_idle(idle))
}

/// One session that cannot be written back keeps the cleanup from no other.
#[tokio::test(start_paused = true)]
async fn an_entry_that_the_store_refuses_keeps_no_session_alive() {
    let idle = Duration::from_secs(600);
    let options = Options::default().with_timeouts(Timeouts::none().with_idle(idle));
    let probe = Probe::over(store());
    let node = engine(probe.clone(), options).await;
    let (refused, other) = (sign_in(&node, "alice").await, sign_in(&node, "bob").await);
    assert!(is_active(&node, &refused).await && is_active(&node, &other).await);
    tokio::time::sleep(idle / 2).await;
    probe.corrupt(refused.session.id());
    assert!(is_active(&node, &refused).await);
    tokio::time::sleep(Duration::from_secs(4 * 3600)).await;
    assert!(probe.load(other.session.id()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn inactive_sessions_leave_after_thirty_days_and_active_ones_stay() {
    let probe = Probe::over(store());
    // Simulated days are long; a slow follower keeps them short.
    let mut options = without_timeouts();
    options.propagation_bound = Duration::from_secs(600);
    options.max_staleness = Duration::from_secs(1200);
    options.write_back.flush_interval = Duration::from_secs(60);
    let node = engine(probe.clone(), options).await;
    let [unused, used] = [sign_in(&node, "alice").await, sign_in(&node, "bob").await];
    assert!(is_active(&node, &unused).await && is_active(&node, &used).await);
    let mut events = node.sessions().events();
    tokio::time::sleep(DAY * 29).await;
    assert!(is_active(&node, &used).await);
    assert!(probe.load(unused.session.id()).await.unwrap().is_some());
    let begun = tokio::time::Instant::now();
    told(&mut events, "expired").await;
    assert!(begun.elapsed() < DAY + Duration::from_secs(2 * 3600), "{:?}", begun.elapsed());
    assert_eq!(probe.load(unused.session.id()).await.unwrap(), None);
    assert_eq!(refusal(&node, &unused).await.end_cause(), Some(EndCause::Expired));
    assert!(is_active(&node, &used).await);
}

/// Where a call takes too long, the next asks for less, and each is followed by a pause for others.
#[tokio::test(start_paused = true)]
async fn large_calls_are_as_large_as_the_store_is_quick() {
    let mut calls = Vec::new();
    for slow in [Duration::ZERO, Duration::from_millis(100)] {
        let probe = Probe::over(store());
        let node = engine(probe.clone(), without_timeouts()).await;
        for n in 0..300 {
            sign_in(&node, &format!("user {n}")).await;
        }
        probe.slow("end_many", slow);
        let begun = tokio::time::Instant::now();
        let all = Selection::within(TenantFilter::Any);
        let ended = node.sessions().revoke_selected(all, Actor::Application).await.unwrap();
        assert_eq!(ended, 300);
        let made = probe.calls()["end_many"];
        let pauses = slow / 4 * (made as u32 - 1);
        assert!(begun.elapsed() >= slow * made as u32 + pauses, "{:?}", begun.elapsed());
        calls.push(made);
    }
    // 100 and 200; 100, and 50 four times.
    assert_eq!(calls, [2, 5]);
}

/// With the next run of the cleanup, which has no timeout to go by: the token was never presented.
#[tokio::test(start_paused = true)]
async fn an_unclaimed_session_ends_a_day_after_its_sign_in() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), without_timeouts()).await;
    let [unclaimed, claimed] = [sign_in(&node, "alice").await, sign_in(&node, "bob").await];
    let begun = tokio::time::Instant::now();
    assert!(is_active(&node, &claimed).await);
    let mut events = node.sessions().events();
    let Notice::Event(event) = told(&mut events, "expired").await else { unreachable!() };
    assert_eq!((event.session, event.by), (Some(unclaimed.session.id()), Actor::System));
    let period = Options::default().cleanup.period;
    let after = begun.elapsed();
    assert!((DAY..DAY + period + Duration::from_secs(60)).contains(&after), "{after:?}");
    assert_eq!(probe.load(unclaimed.session.id()).await.unwrap(), None);
    assert!(is_active(&node, &claimed).await);
}

#[tokio::test(start_paused = true)]
async fn one_node_of_the_fleet_cleans_up_at_a_time() {
    let fleet = Fleet::start(without_timeouts()).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    let sweeps = |n: usize| fleet.probes[n].calls().get("sweep").copied().unwrap_or(0);
    let leases = |n: usize| fleet.probes[n].calls()["lease"];
    assert_eq!((leases(0), leases(1)), (1, 1), "both ask");
    assert_eq!(sweeps(0) + sweeps(1), 1, "one works");
}

/// After a quiet time all nodes stand at the newest entry, which is older than the log is kept. It stays,
/// because the log is cut before the cleanup adds entries to it.
#[tokio::test(start_paused = true)]
async fn the_log_is_cut_before_sessions_end() {
    let probe = Probe::over(store());
    let _node = engine(probe.clone(), without_timeouts()).await;
    let gate = probe.hold("sweep");
    gate.reached().await;
    assert_eq!(probe.calls().get("trim_log"), Some(&1));
    gate.open();
}

/// A run that deleted until nothing is old would never come to the sessions.
#[tokio::test(start_paused = true)]
async fn a_log_that_grows_faster_than_it_is_cut_keeps_no_session_alive() {
    let mut options = without_timeouts();
    let second = Duration::from_secs(1);
    options.cleanup.period = second * 120;
    options.cleanup.log_retention = second * 60;
    options.cleanup.pause = second;
    options.cleanup.batch = 1;
    let probe = Probe::over(store());
    let node = engine(probe.clone(), options).await;
    let first = probe.hold("sweep");
    first.reached().await;
    for n in 0..100 {
        sign_in(&node, &format!("user-{n}")).await;
    }
    first.open();
    let second_run = probe.hold("sweep");
    second_run.reached().await;
    let trims = probe.calls()["trim_log"];
    assert!((30..=32).contains(&trims), "a second for each in a quarter of the period: {trims}");
    second_run.open();
}

/// The cleanup may end it at any moment, and would end it in use.
#[tokio::test(start_paused = true)]
async fn what_the_cleanup_may_end_no_request_may_use() {
    let mut options = without_timeouts();
    options.cleanup.period = Duration::from_secs(24 * 3600);
    options.cleanup.inactive_for = Duration::from_secs(600);
    let node = engine(store(), options).await;
    let (used, unused) = (sign_in(&node, "alice").await, sign_in(&node, "bob").await);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(500)).await;
        assert!(is_active(&node, &used).await);
    }
    assert!(!is_active(&node, &unused).await);
    let id = unused.session.id();
    assert!(node.sessions().get(id, &TenantFilter::Any).await.unwrap().is_none());
}

/// A log that takes too long to cut, say.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_deleted_keeps_no_session_alive() {
    for method in ["trim_log", "forget"] {
        let mut options = without_timeouts();
        options.cleanup.period = Duration::from_secs(3600);
        options.cleanup.inactive_for = Duration::from_secs(60);
        let probe = Probe::over(store());
        let node = engine(probe.clone(), options).await;
        let id = sign_in(&node, "alice").await.session.id();
        probe.fail(method, true);
        tokio::time::sleep(Duration::from_secs(240)).await;
        assert!(probe.load(id).await.unwrap().is_none(), "{method}");
        assert!(node.health().workers["cleanup"].error.is_some());
        assert_eq!(node.health().cleanup.last_run, None, "{method}: it has finished none");
        probe.fail(method, false);
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(node.health().workers["cleanup"].error, None, "it is tried again soon");
        assert!(node.health().cleanup.last_run.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_refused_and_ended_for_good() {
    let fleet = Fleet::start(idle_after(Duration::from_secs(600))).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    tokio::time::sleep(Duration::from_secs(599)).await;
    assert!(is_active(here, &signed_in).await);
    tokio::time::sleep(Duration::from_secs(599)).await;
    assert!(is_active(there, &signed_in).await, "used here, known there");
    let used = there.sessions().now();
    tokio::time::sleep(Duration::from_secs(600)).await;
    for node in [here, there] {
        let Refusal::Idle(ending) = refusal(node, &signed_in).await else { panic!("it is idle") };
        let at = used.plus(Duration::from_secs(600));
        assert_eq!((ending.cause, ending.at), (EndCause::Expired, at));
    }
    assert!(fleet.store.load(signed_in.session.id()).await.unwrap().is_some());
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert_eq!(refusal(here, &signed_in).await.end_cause(), Some(EndCause::Expired));
    assert_eq!(fleet.store.load(signed_in.session.id()).await.unwrap(), None);
    assert_eq!(refusal(there, &signed_in).await.end_cause(), Some(EndCause::Expired));
}

#[tokio::test(start_paused = true)]
async fn the_absolute_timeout_holds_whatever_the_use() {
    let mut options = without_timeouts();
    options.timeouts.absolute = Some(Duration::from_secs(100));
    let fleet = Fleet::start(options).await;
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(is_active(&fleet.nodes[1], &signed_in).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(refusal(&fleet.nodes[1], &signed_in).await.end_cause(), Some(EndCause::Expired));
}

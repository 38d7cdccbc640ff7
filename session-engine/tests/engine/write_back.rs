//! Last accessed is bounded-stale (G5), at a price that is bounded too.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use session_core::cleanup::Cleanup;
use session_core::store::{TenantFilter, Touch};
use session_core::usage::Timeouts;
use session_core::{Actor, Store, Timestamp};
use session_engine::clock::{Clock, ManualClock};
use session_engine::{Access, ActiveSession, Engine, Options, Parts, SignedIn, Verdict};
use session_store_memory::MemoryStore;

use crate::probe::{Probe, engine, is_active, revoke, sign_in, store};

async fn stored(probe: &Probe, signed_in: &SignedIn) -> Timestamp {
    probe.load(signed_in.session.id()).await.unwrap().unwrap().session.last_accessed
}

async fn access(node: &Engine, signed_in: &SignedIn) -> Timestamp {
    assert!(is_active(node, signed_in).await);
    node.sessions().now()
}

/// A session whose first access has been written: it is due at once.
async fn claimed(node: &Engine) -> SignedIn {
    let signed_in = sign_in(node, "alice").await;
    access(node, &signed_in).await;
    tokio::time::sleep(Duration::from_millis(260)).await;
    signed_in
}

async fn started() -> (Probe, Engine, SignedIn) {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let signed_in = claimed(&node).await;
    (probe, node, signed_in)
}

#[tokio::test(start_paused = true)]
async fn the_tenth_access_is_written_with_the_next_flush() {
    let (probe, node, signed_in) = started().await;
    let begun = stored(&probe, &signed_in).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..9 {
        access(&node, &signed_in).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stored(&probe, &signed_in).await, begun, "nine are not due");
    let tenth = access(&node, &signed_in).await;
    tokio::time::sleep(Duration::from_millis(260)).await;
    assert_eq!(stored(&probe, &signed_in).await, tenth);
}

#[tokio::test(start_paused = true)]
async fn a_single_access_is_written_within_max_delay() {
    let probe = Probe::over(store());
    // A cleanup run writes back first.
    let options = Options::default().with_cleanup(Cleanup::default().with_enabled(false));
    let node = engine(probe.clone(), options).await;
    let signed_in = claimed(&node).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..3 {
        let used = access(&node, &signed_in).await;
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert_ne!(stored(&probe, &signed_in).await, used);
        tokio::time::sleep(Duration::from_millis(1260)).await;
        assert_eq!(stored(&probe, &signed_in).await, used);
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_writes_the_rest() {
    let (probe, node, signed_in) = started().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = access(&node, &signed_in).await;
    node.shutdown().await;
    assert_eq!(stored(&probe, &signed_in).await, used);
}

#[tokio::test(start_paused = true)]
async fn eviction_from_the_cache_writes_back() {
    let probe = Probe::over(store());
    let options = Options::default().with_cache_capacity(10);
    let node = engine(probe.clone(), options).await;
    let signed_in = sign_in(&node, "alice").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = access(&node, &signed_in).await;
    for n in 0..200 {
        let other = sign_in(&node, &format!("user {n}")).await;
        // Twice, so that the newcomers are worth keeping.
        access(&node, &other).await;
        access(&node, &other).await;
    }
    tokio::time::sleep(Duration::from_millis(260)).await;
    assert_eq!(stored(&probe, &signed_in).await, used);
    assert!(is_active(&node, &signed_in).await, "and it can be read again");
}

#[tokio::test(start_paused = true)]
async fn an_outage_delays_write_back_and_loses_nothing() {
    let (probe, node, signed_in) = started().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    probe.away(true);
    let ip = |n| Access::from_ip(Some(IpAddr::from([192, 0, 2, n])));
    let token = signed_in.token.expose();
    for n in 0..12 {
        let verdict = node.sessions().validate(token.as_bytes(), ip(n)).await.unwrap();
        assert!(matches!(verdict, Verdict::Active(_)));
    }
    let used = node.sessions().now();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(node.sessions().health().workers["write-back"].error.is_some());
    probe.away(false);
    tokio::time::sleep(Duration::from_millis(260)).await;
    let session = probe.load(signed_in.session.id()).await.unwrap().unwrap().session;
    assert_eq!(session.last_accessed, used);
    assert_eq!(session.ip_addresses.len(), 12);
    assert_eq!(node.sessions().health().dropped_write_backs, 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_write_back_never_creates_a_session() {
    let (probe, node, signed_in) = started().await;
    access(&node, &signed_in).await;
    revoke(&node, &signed_in).await;
    let touches = probe.calls()["touch"];
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(probe.load(signed_in.session.id()).await.unwrap(), None);
    assert_eq!(probe.calls()["touch"], touches, "there is nothing to write any more");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_written_yet_shows_in_lists() {
    let (_, node, signed_in) = started().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = access(&node, &signed_in).await;
    let sessions = node.sessions();
    let page = sessions.list(&sessions.query(TenantFilter::Any)).await.unwrap();
    assert_eq!(page.sessions[0].last_accessed, used);
    let one = sessions.get(signed_in.session.id(), &TenantFilter::Any).await.unwrap().unwrap();
    assert_eq!(one.last_accessed, used);
}

/// Checks that lists, single reads and requests show the same session.
async fn assert_one_truth(node: &Engine, current: &ActiveSession) {
    let sessions = node.sessions();
    let snapshot = current.to_session();
    assert_eq!(snapshot.last_accessed, current.last_accessed());
    assert_eq!(snapshot.ip_addresses, current.ip_addresses());
    let page = sessions.list(&sessions.query(TenantFilter::Any)).await.unwrap();
    assert_eq!(page.sessions, std::slice::from_ref(&snapshot));
    let one = sessions.get(current.id(), &TenantFilter::Any).await.unwrap();
    assert_eq!(one, Some(snapshot));
}

async fn access_from(node: &Engine, signed_in: &SignedIn, ip: [u8; 4]) -> ActiveSession {
    let token = signed_in.token.expose();
    let access = Access::from_ip(Some(IpAddr::from(ip)));
    node.sessions().validate(token.as_bytes(), access).await.unwrap().session().unwrap()
}

#[tokio::test(start_paused = true)]
async fn lists_show_what_requests_see_before_and_after_a_flush() {
    let (probe, node, signed_in) = started().await;
    let [home, work, train] = [[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]];
    access_from(&node, &signed_in, home).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let current = access_from(&node, &signed_in, work).await;
    assert_eq!(current.ip_addresses(), [home, work].map(IpAddr::from));
    assert_one_truth(&node, &current).await;

    let touch = probe.hold("touch");
    touch.reached().await;
    assert_one_truth(&node, &current).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let current = access_from(&node, &signed_in, train).await;
    assert_eq!(current.last_accessed(), node.sessions().now());
    assert_one_truth(&node, &current).await;
    touch.open();

    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(stored(&probe, &signed_in).await, current.last_accessed());
    assert_eq!(current.ip_addresses(), [home, work, train].map(IpAddr::from));
    assert_one_truth(&node, &current).await;
    assert_one_truth(&node, &access_from(&node, &signed_in, home).await).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_written_yet_outlives_a_new_read_of_the_session() {
    let (probe, node, signed_in) = started().await;
    access_from(&node, &signed_in, [192, 0, 2, 1]).await;
    // Another change of the record drops the copy in the cache.
    let (id, owner) = (signed_in.session.id(), signed_in.session.owner());
    let name = Some("Kitchen".parse().unwrap());
    node.sessions().name_device(id, owner, name, Actor::Application).await.unwrap();
    let loads = probe.calls().get("load").copied();
    let current = access_from(&node, &signed_in, [192, 0, 2, 2]).await;
    assert_ne!(probe.calls().get("load").copied(), loads);
    assert_eq!(current.ip_addresses().len(), 2);
    assert_one_truth(&node, &current).await;
    node.shutdown().await;
    let session = probe.load(signed_in.session.id()).await.unwrap().unwrap().session;
    assert_eq!(session, current.to_session());
}

#[tokio::test(start_paused = true)]
async fn passive_requests_leave_last_accessed_as_it_is() {
    let (_, node, signed_in) = started().await;
    let before = signed_in.session.last_accessed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let token = signed_in.token.expose();
    let verdict = node.sessions().validate(token.as_bytes(), Access::passive(None)).await.unwrap();
    assert!(matches!(verdict, Verdict::Active(session) if session.last_accessed() == before));
}

/// 10,000 requests over 100 sessions as fast as they go, with the follower running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_cost_at_most_forty_statements() {
    let probe = Probe::over(store());
    let node = Engine::start(probe.clone(), Options::default()).await.unwrap();
    let mut tokens = Vec::new();
    for n in 0..100 {
        tokens.push(sign_in(&node, &format!("user {n}")).await.token.expose());
    }
    let before = probe.total();
    for token in tokens.iter().cycle().take(10_000) {
        let verdict = node.sessions().validate(token.as_bytes(), Access::default()).await.unwrap();
        assert!(matches!(verdict, Verdict::Active(_)));
    }
    node.shutdown().await;
    let spent = probe.total() - before;
    println!("10,000 requests over 100 sessions: {spent} statements");
    assert!(spent <= 40, "{spent}: {:?}", probe.calls());
}

/// Twice in a bound where the store pushes, four times where it does not, or where pushes are not
/// followed.
#[tokio::test(start_paused = true)]
async fn an_idle_node_asks_little_and_writes_nothing() {
    for (pushes, followed, most) in [(true, true, 130), (false, true, 260), (true, false, 260)] {
        let probe = Probe::over(store());
        if pushes {
            probe.push();
        }
        let node = engine(probe.clone(), Options::default().with_push(followed)).await;
        for n in 0..50 {
            sign_in(&node, &format!("user {n}")).await;
        }
        tokio::time::sleep(Duration::from_secs(300)).await;
        let before = probe.calls();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let after = probe.calls();
        let spent: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
        println!("an idle minute: {spent} statements");
        assert!(spent <= most, "{before:?} {after:?}");
        assert!(spent > most / 2, "the log is read often enough: {spent}");
        assert_eq!(after["log_since"] - before["log_since"], spent, "nothing but the log is read");
    }
}

/// The queue is full of sessions that have left the cache, and the store is away: one that stays in the
/// cache is written once there is room, also if it is not used again.
#[tokio::test(start_paused = true)]
async fn a_session_that_stays_cached_is_never_forgotten() {
    let probe = Probe::over(store());
    let mut options = Options::default();
    options.cache_capacity = 2;
    options.cleanup = Cleanup::default().with_enabled(false);
    let node = engine(probe.clone(), options).await;
    let mut begun = Vec::new();
    for n in 0..2 * Touch::MAX_BATCH {
        begun.push(sign_in(&node, &format!("user{n}")).await);
    }
    probe.fail("touch", true);
    // Each is read into the cache again, and the earlier ones leave it.
    for signed_in in &begun {
        for _ in 0..12 {
            access(&node, signed_in).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(node.sessions().health().dropped_write_backs > 0, "there was no room");
    let last = begun.last().unwrap();
    let used = access(&node, last).await;
    probe.fail("touch", false);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(stored(&probe, last).await, used);
}

/// The flush is given up between the store's work and its answer.
#[tokio::test(start_paused = true)]
async fn what_a_flush_had_taken_is_put_back_when_it_is_given_up() {
    let probe = Probe::over(store());
    // The cleanup's own flush is the one that is given up, by the shutdown.
    let cleanup = Cleanup::default().with_period(Duration::from_secs(60));
    let mut options = Options::default().with_cleanup(cleanup);
    options.write_back.flush_interval = Duration::from_secs(3600);
    let node = engine(probe.clone(), options).await;
    let signed_in = sign_in(&node, "alice").await;
    probe.fail("touch", true);
    let used = access(&node, &signed_in).await;
    let gate = probe.hold("trim_log");
    gate.reached().await;
    probe.fail("touch", false);
    let touch = probe.hold_before("touch");
    gate.open();
    touch.reached().await;
    node.shutdown().await;
    assert_eq!(stored(&probe, &signed_in).await, used);
}

/// The store's clock goes back by an hour: a planned write-back does not wait for it.
#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_back_delays_no_write_back() {
    let (right, back) = (crate::probe::clock(), Arc::new(AtomicI64::new(0)));
    let moved = Arc::clone(&back);
    let store = MemoryStore::with_clock(move || {
        Timestamp::from_micros(right.now().as_micros() - moved.load(Ordering::SeqCst))
    });
    let probe = Probe::over(store);
    let options = Options::default().with_cleanup(Cleanup::default().with_enabled(false));
    let node = engine(probe.clone(), options).await;
    let signed_in = claimed(&node).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = access(&node, &signed_in).await;
    back.store(3_600_000_000, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(31_260)).await;
    assert_eq!(stored(&probe, &signed_in).await, used);
}

/// The refused entry is urgent, so it is first in each flush.
#[tokio::test(start_paused = true)]
async fn an_entry_that_the_store_refuses_keeps_no_other_from_being_written() {
    let idle = Duration::from_secs(600);
    let options = Options::default().with_timeouts(Timeouts::none().with_idle(idle));
    let probe = Probe::over(store());
    let node = engine(probe.clone(), options).await;
    let (refused, other) = (claimed(&node).await, claimed(&node).await);
    tokio::time::sleep(idle * 3 / 4).await;
    probe.corrupt(refused.session.id());
    access(&node, &refused).await;
    let used = access(&node, &other).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stored(&probe, &other).await, used);
    assert!(node.health().write_backs > 0, "the refused one is kept");
}

/// A store that accepts no write: a failover to a server that only reads.
#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_every_write_back_is_asked_for_whole_batches() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let mut sessions = Vec::new();
    for _ in 0..50 {
        sessions.push(claimed(&node).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    probe.refuse("touch", true);
    for session in &sessions {
        access(&node, session).await;
    }
    let before = probe.calls()["touch"];
    tokio::time::sleep(Duration::from_secs(60)).await;
    let calls = probe.calls()["touch"] - before;
    assert!((1..=4 * 60).contains(&calls), "{calls} in a minute");
    probe.refuse("touch", false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.health().write_backs, 0);
}

/// As [`a_clock_that_goes_back_delays_no_write_back`], for the node's own wall clock.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_goes_back_delays_no_write_back() {
    let wall = ManualClock::starting_at(crate::probe::clock().now());
    let probe = Probe::over(store());
    let parts = Parts::default().with_clock(wall.clone());
    let options = Options::default().with_cleanup(Cleanup::default().with_enabled(false));
    let node = Engine::start_with(Arc::new(probe.clone()), options, parts).await.unwrap();
    let signed_in = claimed(&node).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = access(&node, &signed_in).await;
    wall.set(wall.now().minus(Duration::from_secs(3600)));
    tokio::time::sleep(Duration::from_millis(31_260)).await;
    assert_eq!(stored(&probe, &signed_in).await, used);
}

/// A check never waits for more than one batch of the queue.
#[tokio::test(start_paused = true)]
async fn a_flush_of_many_sessions_takes_a_batch_at_a_time() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let many = 3 * Touch::MAX_BATCH;
    let mut begun = Vec::new();
    for n in 0..many {
        begun.push(sign_in(&node, &format!("user{n}")).await);
    }
    probe.fail("touch", true);
    for signed_in in &begun {
        access(&node, signed_in).await;
    }
    probe.fail("touch", false);
    let first = probe.hold("touch");
    first.reached().await;
    // What has not been taken yet is still in the queue.
    assert!(node.sessions().health().write_backs >= many - Touch::MAX_BATCH);
    first.open();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.sessions().health().write_backs, 0);
}

/// A flush is under way on a store that hangs: it is waited for, and one more is tried.
#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_twice_for_a_store_that_hangs() {
    let (probe, node, signed_in) = started().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = probe.hold_before("touch");
    for _ in 0..10 {
        access(&node, &signed_in).await;
    }
    held.reached().await;
    probe.slow("touch", Duration::from_secs(3_600));
    let (begun, limit) = (tokio::time::Instant::now(), Options::default().store_timeout);
    node.shutdown().await;
    let took = begun.elapsed();
    assert!((limit..=2 * limit).contains(&took), "{took:?}");
}

/// The flush that is under way fails, and the next one is answered.
#[tokio::test(start_paused = true)]
async fn a_shutdown_writes_what_the_flush_before_could_not() {
    for is_dropped in [false, true] {
        let (probe, node, signed_in) = started().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let held = probe.hold_before("touch");
        for _ in 0..9 {
            access(&node, &signed_in).await;
        }
        let used = access(&node, &signed_in).await;
        held.reached().await;
        if is_dropped {
            drop(node);
            tokio::time::sleep(Options::default().store_timeout * 2).await;
        } else {
            node.shutdown().await;
        }
        assert_eq!(stored(&probe, &signed_in).await, used, "dropped: {is_dropped}");
    }
}

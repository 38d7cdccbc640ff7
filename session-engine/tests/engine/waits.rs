//! Open connections that wait for the end of their session (G4, G12): how little they cost, and what
//! they are told.

use std::time::Duration;

use futures_util::poll;
use session_core::usage::Timeouts;
use session_core::{EndCause, SessionId, Store as _};
use session_engine::{Engine, Options, SignedIn, WaitEnd, WhenStale};
use session_store_memory::MemoryStore;
use tokio::task::JoinSet;

use crate::probe::{Fleet, Probe, clock, engine_with, is_active, revoke, sign_in, store};

fn loads(probe: &Probe) -> u64 {
    probe.calls().get("load").copied().unwrap_or(0)
}

fn wait(waits: &mut JoinSet<WaitEnd>, node: &Engine, signed_in: &SignedIn) {
    let (manager, id) = (node.sessions().clone(), signed_in.session.id());
    waits.spawn(async move { manager.session_ended(id).await });
}

async fn all(waits: JoinSet<WaitEnd>, wanted: WaitEnd) {
    for end in waits.join_all().await {
        assert_eq!(end, wanted);
    }
}

async fn begin(node: &Engine, many: usize) -> Vec<SignedIn> {
    let mut begun = Vec::new();
    for n in 0..many {
        begun.push(sign_in(node, &format!("user {n}")).await);
    }
    begun
}

/// E14.
#[tokio::test(start_paused = true)]
async fn ten_thousand_waits_cost_no_read_each() {
    let fleet = Fleet::start(Options::default()).await;
    let ([here, there], probe) = (&fleet.nodes, &fleet.probes[1]);
    let begun = begin(here, 100).await;
    let mut waits = JoinSet::new();
    for signed_in in begun.iter().cycle().take(10_000) {
        wait(&mut waits, there, signed_in);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(loads(probe) <= 100, "{} reads of 100 sessions", loads(probe));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(loads(probe) <= 100, "{} reads", loads(probe));
    for signed_in in &begun {
        revoke(here, signed_in).await;
    }
    all(waits, WaitEnd::Ended(EndCause::Revoked)).await;
    assert!(loads(probe) <= 100, "the log has told");
}

#[tokio::test(start_paused = true)]
async fn waits_for_cached_sessions_read_nothing() {
    let fleet = Fleet::start(Options::default()).await;
    let (node, probe) = (&fleet.nodes[0], &fleet.probes[0]);
    let begun = begin(node, 100).await;
    let mut waits = JoinSet::new();
    for signed_in in begun.iter().cycle().take(10_000) {
        wait(&mut waits, node, signed_in);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(loads(probe), 0);
}

/// Waits that began while the store was away, and when it is back.
#[tokio::test(start_paused = true)]
async fn an_outage_is_followed_by_no_burst() {
    let fleet = Fleet::start(Options::default()).await;
    let ([here, there], probe) = (&fleet.nodes, &fleet.probes[1]);
    let begun = begin(here, 1_000).await;
    probe.fail("load", true);
    let mut waits = JoinSet::new();
    for _ in 0..10 {
        begun.iter().for_each(|signed_in| wait(&mut waits, there, signed_in));
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = loads(probe);
    assert!(before <= 8_000, "{before} at first, longer and longer after one another");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tries = loads(probe) - before;
    assert!((1_000..=2_000).contains(&tries), "{tries} in a minute, one of a session in 30 s");
    probe.slow("load", Duration::from_millis(10));
    probe.fail("load", false);
    let before = loads(probe);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(probe.most_at_once("load") <= 4, "{}", probe.most_at_once("load"));
    let reads = loads(probe) - before;
    assert_eq!(reads, 1_000, "one of each session");
    for signed_in in &begun {
        revoke(here, signed_in).await;
    }
    all(waits, WaitEnd::Ended(EndCause::Revoked)).await;
}

/// A wait that goes away while it reads for the others takes nothing along: neither what the read finds, nor
/// the next try where it fails.
#[tokio::test(start_paused = true)]
async fn waits_that_share_a_try_are_all_told() {
    for fails in [false, true] {
        let fleet = Fleet::start(Options::default()).await;
        let (node, probe) = (&fleet.nodes[1], &fleet.probes[1]);
        let open = || {
            let manager = node.sessions().clone();
            async move { manager.session_ended(SessionId::from_random([7; 16])).await }
        };
        probe.fail("load", true);
        let mut early = JoinSet::new();
        for _ in 0..5 {
            early.spawn(open());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(loads(probe), 1, "of all");
        probe.fail("load", false);
        let gate = probe.hold_before("load");
        gate.reached().await;
        let mut late = JoinSet::new();
        (0..5).for_each(|_| drop(late.spawn(open())));
        tokio::time::sleep(Duration::from_millis(1)).await;
        early.shutdown().await;
        probe.lose_answers_of("load", fails);
        gate.open();
        tokio::time::sleep(Duration::from_millis(1)).await;
        probe.lose_answers_of("load", false);
        let told = tokio::time::timeout(Duration::from_secs(3), all(late, WaitEnd::Gone));
        assert!(told.await.is_ok(), "fails: {fails}");
    }
}

/// Waits that were there before: whether the outage is shorter than the trust in the cache, or so long
/// that all of them end, and others begin.
#[tokio::test(start_paused = true)]
async fn an_outage_costs_open_waits_nothing() {
    let fleet = Fleet::start(Options::default()).await;
    let (node, probe) = (&fleet.nodes[0], &fleet.probes[0]);
    let begun = begin(node, 10_000).await;
    let reads = || ["load", "user", "page", "ended"].map(|call| probe.calls().get(call).copied());
    let before = reads();
    let open = || {
        let mut waits = JoinSet::new();
        begun.iter().for_each(|signed_in| wait(&mut waits, node, signed_in));
        waits
    };
    for (outage, is_long) in [(20, false), (120, true)] {
        let mut waits = open();
        tokio::time::sleep(Duration::from_secs(1)).await;
        probe.away(true);
        tokio::time::sleep(Duration::from_secs(outage)).await;
        if is_long {
            all(waits, WaitEnd::Unknown).await;
            waits = open();
        }
        probe.away(false);
        tokio::time::sleep(Duration::from_secs(60)).await;
        if is_long {
            all(waits, WaitEnd::Unknown).await;
            waits = open();
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        assert!(waits.try_join_next().is_none(), "all go on");
        assert_eq!(reads(), before, "an outage of {outage} s");
    }
}

/// What a wait that is under way holds, besides what it shares with the others of its session.
#[tokio::test]
async fn a_wait_takes_little_memory() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    let mut waiting = Box::pin(node.sessions().session_ended(signed_in.session.id()));
    assert!(poll!(&mut waiting).is_pending());
    let bytes = std::mem::size_of_val(&*waiting);
    assert!(bytes <= 2_048, "{bytes} bytes");
}

/// After a gap every session has to be read again: a few at a time.
#[tokio::test(start_paused = true)]
async fn a_gap_is_followed_by_no_burst() {
    let store = store();
    let probe = Probe::over(store.clone());
    let here = crate::probe::engine(store.clone(), Options::default()).await;
    let there = engine_with(probe.clone(), Options::default(), clock()).await;
    let begun = begin(&here, 1_000).await;
    let mut waits = JoinSet::new();
    for signed_in in begun.iter().cycle().take(5_000) {
        wait(&mut waits, &there, signed_in);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = loads(&probe);
    probe.slow("load", Duration::from_millis(1));
    revoke_in_a_gap(&store, &here, &begun[..10], (&there, &probe)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_ended(&mut waits, 50);
    let reads = loads(&probe) - before;
    assert!(reads <= 1_010, "{reads} reads of 1,000 sessions");
    assert!(probe.most_at_once("load") <= 4, "{}", probe.most_at_once("load"));
}

/// Revokes sessions on one node, and cuts the log so far that the other's place in it is gone.
async fn revoke_in_a_gap(
    store: &MemoryStore,
    here: &Engine,
    revoked: &[SignedIn],
    (there, probe): (&Engine, &Probe),
) {
    probe.fail("log_since", true);
    for signed_in in revoked {
        revoke(here, signed_in).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    while store.trim_log(Duration::from_secs(1), 1_000).await.unwrap() > 0 {}
    let mut events = there.sessions().events();
    probe.fail("log_since", false);
    crate::probe::told(&mut events, "missed").await;
}

/// The pause after many failures is long, and what the log does not tell is asked for at once.
#[tokio::test(start_paused = true)]
async fn a_gap_ends_the_pause_after_a_failure() {
    let store = store();
    let probe = Probe::over(store.clone());
    let here = crate::probe::engine(store.clone(), Options::default()).await;
    let there = engine_with(probe.clone(), Options::default(), clock()).await;
    // The newest entry of a log is never trimmed.
    let begun = begin(&here, 2).await;
    probe.fail("load", true);
    let mut waits = JoinSet::new();
    wait(&mut waits, &there, &begun[0]);
    // The next try after this is in 26 s.
    tokio::time::sleep(Duration::from_secs(35)).await;
    probe.fail("load", false);
    revoke_in_a_gap(&store, &here, &begun, (&there, &probe)).await;
    let bound = Options::default().propagation_bound + Duration::from_millis(10);
    let told = tokio::time::timeout(bound, all(waits, WaitEnd::Gone)).await;
    assert!(told.is_ok());
}

/// Those of the ten sessions that were revoked.
fn assert_ended(waits: &mut JoinSet<WaitEnd>, wanted: usize) {
    let mut ended = 0;
    while let Some(end) = waits.try_join_next() {
        assert!(matches!(end, Ok(WaitEnd::Gone | WaitEnd::Ended(_))), "{end:?}");
        ended += 1;
    }
    assert_eq!(ended, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_says_so() {
    for (stale, seconds) in
        [(WhenStale::FailClosed, 31), (WhenStale::ServeStale(Duration::from_secs(300)), 301)]
    {
        let fleet = Fleet::start(Options::default().with_when_stale(stale)).await;
        let (node, probe) = (&fleet.nodes[0], &fleet.probes[0]);
        let signed_in = sign_in(node, "alice").await;
        let waiting = node.sessions().session_ended(signed_in.session.id());
        let mut waiting = Box::pin(waiting);
        probe.fail("log_since", true);
        tokio::select! {
            end = &mut waiting => panic!("{end:?}"),
            () = tokio::time::sleep(Duration::from_secs(seconds - 2)) => {}
        }
        let end = tokio::time::timeout(Duration::from_secs(4), waiting).await;
        assert_eq!(end.unwrap(), WaitEnd::Unknown);
        let late = node.sessions().session_ended(signed_in.session.id()).await;
        assert_eq!(late, WaitEnd::Unknown, "a wait that begins then, too");
        probe.fail("log_since", false);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let waiting = node.sessions().session_ended(signed_in.session.id());
        let again = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(again.is_err(), "it can tell again");
    }
}

/// Also where no read of the log ever ends, and where each one panics.
#[tokio::test(start_paused = true)]
async fn a_log_that_hangs_or_panics_cuts_a_node_off() {
    for hangs in [true, false] {
        let fleet = Fleet::start(Options::default()).await;
        let (node, probe) = (&fleet.nodes[0], fleet.probes[0].clone());
        let signed_in = sign_in(node, "alice").await;
        if hangs {
            probe.slow("log_since", Duration::from_secs(3600));
        } else {
            tokio::spawn(async move {
                loop {
                    probe.panic_once("log_since");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            probe_is_quiet();
        }
        let waiting = node.sessions().session_ended(signed_in.session.id());
        let options = Options::default();
        let bound = options.max_staleness + options.propagation_bound;
        let end = tokio::time::timeout(bound, waiting).await;
        assert_eq!(end.unwrap(), WaitEnd::Unknown);
    }
}

/// Planted panics fill the output of the test otherwise.
fn probe_is_quiet() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.to_string().contains("a planted panic") {
            tell(info);
        }
    }));
}

/// E14: this node knows of no use, the other one does.
#[tokio::test(start_paused = true)]
async fn a_session_in_use_on_another_node_is_not_taken_for_expired() {
    let idle = Duration::from_secs(600);
    let options = Options::default().with_timeouts(Timeouts::none().with_idle(idle));
    let fleet = Fleet::start(options).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    assert!(is_active(there, &signed_in).await);
    let mut waits = JoinSet::new();
    wait(&mut waits, there, &signed_in);
    for _ in 0..30 {
        tokio::time::sleep(idle / 5).await;
        assert!(is_active(here, &signed_in).await);
    }
    assert!(waits.try_join_next().is_none());
    assert!(loads(&fleet.probes[1]) <= 20, "about one read in an idle timeout");
    tokio::time::sleep(2 * idle).await;
    all(waits, WaitEnd::Ended(EndCause::Expired)).await;
}

/// Connections that are not read from hold no place of those that are.
#[tokio::test(start_paused = true)]
async fn waits_that_are_not_polled_keep_no_other_waiting() {
    let fleet = Fleet::start(Options::default()).await;
    let ([here, there], probe) = (&fleet.nodes, &fleet.probes[1]);
    let begun = begin(here, 9).await;
    probe.slow("load", Duration::from_millis(10));
    let mut stuck = Vec::new();
    for signed_in in &begun[..8] {
        let mut waiting = Box::pin(there.sessions().session_ended(signed_in.session.id()));
        assert!(poll!(&mut waiting).is_pending());
        stuck.push(waiting);
    }
    let mut waits = JoinSet::new();
    wait(&mut waits, there, &begun[8]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = loads(probe);
    assert_eq!(before, 9);
    revoke(here, &begun[8]).await;
    all(waits, WaitEnd::Ended(EndCause::Revoked)).await;
}

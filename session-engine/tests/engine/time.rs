//! Time is the fleet's (G16): nodes whose clocks are wrong.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, Scope};
use session_core::store::{HistoryQuery, TenantFilter};
use session_core::usage::{Timeouts, WriteBack};
use session_core::{Actor, EndCause, Store, Timestamp};
use session_engine::clock::{Clock, TokioClock};
use session_engine::{
    Access, Engine, Error, NewBlock, Options, Parts, RotateReason, Rotation, SignIn, SignedIn,
    Ticket, Verdict, WaitEnd,
};
use session_store_memory::MemoryStore;
use tokio::task::JoinSet;

use crate::probe::{Fleet, Probe, clock, is_active, refusal, revoke, sign_in, user};

const DAY: i64 = 24 * 3600 * 1_000_000;

/// A wall clock that is wrong by as many microseconds as it is told, or stands still.
#[derive(Clone, Debug)]
struct Wrong {
    right: TokioClock,
    by: Arc<AtomicI64>,
    stands_at: Option<Timestamp>,
}

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        let now = self.stands_at.unwrap_or_else(|| self.right.now());
        Timestamp::from_micros(now.as_micros() + self.by.load(Ordering::SeqCst))
    }
}

/// Two nodes on one store: the first has the right time, the second a clock of its own.
struct Clocks {
    right: TokioClock,
    wrong_by: Arc<AtomicI64>,
    probe: Probe,
    nodes: [Engine; 2],
}

impl Clocks {
    async fn start(options: Options, wrong_by: i64, stands_still: bool) -> Self {
        let right = clock();
        let store = MemoryStore::with_clock(move || right.now());
        let wrong_by = Arc::new(AtomicI64::new(wrong_by));
        let stands_at = stands_still.then(|| right.now());
        let wrong = Wrong { right, by: Arc::clone(&wrong_by), stands_at };
        let probe = Probe::over(store.clone());
        let first = Parts::default().with_clock(right);
        let second = Parts::default().with_clock(wrong);
        let nodes = [
            Engine::start_with(Arc::new(store), options.clone(), first).await.unwrap(),
            Engine::start_with(Arc::new(probe.clone()), options, second).await.unwrap(),
        ];
        Self { right, wrong_by, probe, nodes }
    }

    /// Nobody is ended, and what one node begins the other accepts.
    async fn live_together(&self) {
        let [right, wrong] = &self.nodes;
        let begun = [sign_in(right, "alice").await, sign_in(wrong, "bob").await];
        for _ in 0..40 {
            for signed_in in &begun {
                assert!(is_active(right, signed_in).await && is_active(wrong, signed_in).await);
            }
            tokio::time::sleep(Duration::from_secs(120)).await;
        }
        let now = self.right.now();
        for signed_in in &begun {
            let stamp = signed_in.session.signed_in();
            assert!(now.since(stamp) < Duration::from_secs(2 * 3600) && stamp < now, "{stamp}");
            revoke(wrong, signed_in).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        for signed_in in &begun {
            assert!(!is_active(right, signed_in).await && !is_active(wrong, signed_in).await);
        }
    }
}

/// The strictest timeouts, under which a clock that is 16 minutes ahead would end everything.
fn strict() -> Options {
    Options::aal3()
}

#[tokio::test(start_paused = true)]
async fn a_node_a_month_ahead_ends_nothing() {
    Clocks::start(strict(), 31 * DAY, false).await.live_together().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_a_year_behind_begins_nothing_that_others_refuse() {
    Clocks::start(strict(), -400 * DAY, false).await.live_together().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_stands_still_stops_nothing() {
    Clocks::start(strict(), 0, true).await.live_together().await;
}

/// Its trust in the cache ends all the same: the monotonic clock goes on.
#[tokio::test(start_paused = true)]
async fn a_clock_that_stands_still_does_not_prolong_trust() {
    let clocks = Clocks::start(Options::default(), 0, true).await;
    let [right, wrong] = &clocks.nodes;
    let signed_in = sign_in(right, "alice").await;
    assert!(is_active(wrong, &signed_in).await);
    clocks.probe.away(true);
    revoke(right, &signed_in).await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    let token = signed_in.token.expose();
    let found =
        wrong.sessions().validate(token.as_bytes(), session_engine::Access::default()).await;
    assert!(found.is_err_and(|error| error.is_unavailable()));
}

/// Under load: sessions are begun, revoked and checked all the time. What one node revokes the other refuses
/// within the bound.
#[tokio::test(start_paused = true)]
async fn jumps_of_an_hour_back_and_forth_end_nothing() {
    let clocks = Clocks::start(strict(), 0, false).await;
    let jump = |n: usize| {
        let hour = 3600 * 1_000_000;
        clocks.wrong_by.store(if n.is_multiple_of(2) { hour } else { -hour }, Ordering::SeqCst);
    };
    let bound = Options::default().propagation_bound;
    let mut standing = VecDeque::new();
    for n in 0..100 {
        let begun = sign_in(&clocks.nodes[n % 2], &format!("user {n}")).await;
        assert!(is_active(&clocks.nodes[1 - n % 2], &begun).await);
        standing.push_back(begun);
    }
    for n in 0..200 {
        let (here, there) = (&clocks.nodes[n % 2], &clocks.nodes[1 - n % 2]);
        let revoked = standing.pop_front().unwrap();
        jump(n / 2);
        let checks = check_all(&clocks, &standing, 2 * bound);
        revoke(here, &revoked).await;
        tokio::time::sleep(bound / 2).await;
        jump(n / 2 + 1);
        standing.push_back(sign_in(here, &format!("late user {n}")).await);
        tokio::time::sleep(bound / 2).await;
        assert!(!is_active(there, &revoked).await, "round {n}");
        for found in checks.join_all().await {
            assert!(matches!(found, Ok(Verdict::Active(_))), "round {n}: {found:?}");
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    clocks.live_together().await;
}

/// Checks each session twice on each node, at moments spread over this time.
fn check_all(
    clocks: &Clocks,
    sessions: &VecDeque<SignedIn>,
    within: Duration,
) -> JoinSet<Result<Verdict, Error>> {
    let (mut checks, all) = (JoinSet::new(), 4 * sessions.len() as u32);
    for n in 0..all {
        let manager = clocks.nodes[n as usize % 2].sessions().clone();
        let token = sessions[n as usize / 4].token.expose();
        // Not in the order of the sessions.
        let after = within * (n * 7 % all) / all;
        checks.spawn(async move {
            tokio::time::sleep(after).await;
            manager.validate(token.as_bytes(), Access::default()).await
        });
    }
    checks
}

/// The machine sleeps, and its monotonic clock with it: the wall clock alone knows. Here it sleeps for
/// longer than `max_staleness`, and for less. A session that was revoked in that time is not accepted.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_suspended_reads_the_log_before_it_answers() {
    for seconds in [60, 10] {
        wakes_after(seconds).await;
    }
}

async fn wakes_after(seconds: i64) {
    let clocks = Clocks::start(Options::default(), 0, false).await;
    let [right, wrong] = &clocks.nodes;
    let signed_in = sign_in(right, "alice").await;
    let other = sign_in(right, "bob").await;
    assert!(is_active(wrong, &signed_in).await && is_active(wrong, &other).await);
    revoke(right, &signed_in).await;
    // No time passes for tokio, so the follower has not read the log.
    clocks.wrong_by.store(seconds * 1_000_000, Ordering::SeqCst);
    let before = clocks.probe.calls();
    assert!(!is_active(wrong, &signed_in).await);
    assert!(is_active(wrong, &other).await);
    let after = clocks.probe.calls();
    assert_eq!(after["log_since"], before["log_since"] + 1, "read once for both");
    assert_eq!(after["load"], before["load"], "the cache answers again");
}

/// Both of its clocks went on, and it was stopped for less than it may trust its cache.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_stopped_for_a_moment_reads_the_log_before_it_answers() {
    for answers in [true, false] {
        let fleet = Fleet::start(Options::default()).await;
        let [here, there] = &fleet.nodes;
        let signed_in = sign_in(here, "alice").await;
        let other = sign_in(here, "bob").await;
        assert!(is_active(there, &signed_in).await && is_active(there, &other).await);
        // The follower of the stopped node comes no further than to ask.
        let gate = fleet.probes[1].hold_before("log_since");
        tokio::time::sleep(Duration::from_millis(300)).await;
        revoke(here, &signed_in).await;
        tokio::time::advance(Duration::from_secs(20)).await;
        fleet.probes[1].fail("log_since", !answers);
        gate.open();
        let token = signed_in.token.expose();
        let verdict = there.sessions().validate(token.as_bytes(), Access::default()).await;
        assert!(!matches!(verdict, Ok(Verdict::Active(_))), "{verdict:?}");
        assert!(is_active(there, &other).await);
    }
}

/// A node that wakes up and changes something first stamps and judges it by the time that it is by then.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_suspended_learns_the_time_before_it_changes_anything() {
    let hour = Duration::from_secs(3600);
    let sleep = async || {
        let clocks = Clocks::start(strict(), 0, false).await;
        let before = sign_in(&clocks.nodes[1], "alice").await;
        assert!(is_active(&clocks.nodes[1], &before).await);
        let right = clocks.right;
        clocks.probe.set_clock(move || right.now().plus(hour));
        clocks.wrong_by.store(hour.as_micros() as i64, Ordering::SeqCst);
        (clocks, before)
    };
    let (clocks, _) = sleep().await;
    let begun = sign_in(&clocks.nodes[1], "bob").await;
    let now = clocks.right.now().plus(hour);
    assert!(now.since(begun.session.signed_in()) < Duration::from_secs(1));

    let (clocks, before) = sleep().await;
    let token = before.token.expose();
    let sessions = clocks.nodes[1].sessions();
    let rotated = sessions.rotate(token.as_bytes(), RotateReason::Renewal).await.unwrap();
    let Rotation::Refused(refusal) = rotated else { panic!("idle for an hour: {rotated:?}") };
    assert_eq!(refusal.end_cause(), Some(EndCause::Expired));

    let (clocks, _) = sleep().await;
    let over = NewBlock::default().with_until(clocks.right.now().plus(hour / 2));
    let (scope, sessions) = (PolicyScope::User(user("alice")), clocks.nodes[1].sessions());
    let blocked = sessions.block(scope, over, Actor::Application).await;
    assert!(matches!(blocked, Err(Error::Invalid(_))), "it is over by then: {blocked:?}");

    let (clocks, before) = sleep().await;
    let (id, owner) = (before.session.id(), user("alice"));
    let name = Some("Kitchen".parse().unwrap());
    let sessions = clocks.nodes[1].sessions();
    let named = sessions.name_device(id, &owner, name, Actor::Application).await.unwrap();
    assert_eq!(named.map(|named| named.id), None, "idle for an hour");

    let (clocks, _) = sleep().await;
    clocks.nodes[1].sessions().revoke_user(user("alice"), Actor::Application).await.unwrap();
    let now = clocks.right.now().plus(hour);
    let history = clocks.probe.history(&HistoryQuery::user(user("alice"))).await.unwrap();
    assert!(now.since(history.sessions[0].ended) < Duration::from_secs(1));
}

/// The wall clock is set while the session is read from the store.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_during_a_read_refuses_nobody() {
    let clocks = Clocks::start(Options::default(), 0, false).await;
    let signed_in = sign_in(&clocks.nodes[0], "alice").await;
    let gate = clocks.probe.hold("load");
    let (found, ()) = tokio::join!(is_active(&clocks.nodes[1], &signed_in), async {
        gate.reached().await;
        clocks.wrong_by.store(3_600_000_000, Ordering::SeqCst);
        gate.open();
    });
    assert!(found);
}

/// Where it cannot learn the time, it judges and changes nothing; where it has only not heard the log, it knows it.
#[tokio::test(start_paused = true)]
async fn a_node_that_may_have_slept_judges_nothing_without_the_log() {
    for (jumps, goes_on) in [(false, true), (true, false)] {
        let clocks = Clocks::start(Options::default(), 0, false).await;
        let node = clocks.nodes[1].sessions();
        let before = sign_in(&clocks.nodes[1], "alice").await;
        clocks.probe.fail("log_since", true);
        tokio::time::sleep(Duration::from_secs(60)).await;
        clocks.wrong_by.store(if jumps { 3_600_000_000 } else { 0 }, Ordering::SeqCst);
        let begun = node.sign_in(SignIn::new(user("bob"))).await;
        let token = before.token.expose();
        let judged = node.validate(token.as_bytes(), Access::default()).await;
        assert!(if goes_on { judged.is_ok() } else { judged.is_err_and(|e| e.is_unavailable()) });
        let rotated = node.rotate(token.as_bytes(), RotateReason::Renewal).await;
        assert_eq!((begun.is_ok(), rotated.is_ok()), (goes_on, goes_on), "{begun:?} {rotated:?}");
        let unavailable = |error: Error| error.is_unavailable();
        assert_eq!(begun.is_err_and(unavailable), !goes_on);
        assert_eq!(rotated.is_err_and(unavailable), !goes_on);
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_is_over_by_the_time_of_the_fleet() {
    for wrong_by in [31 * DAY, -400 * DAY] {
        let clocks = Clocks::start(Options::default(), wrong_by, false).await;
        let [right, wrong] = &clocks.nodes;
        let scope = PolicyScope::User(user("alice"));
        let minute = Duration::from_secs(60);
        for node in [right, wrong] {
            let until = clocks.right.now().plus(minute);
            let block = NewBlock::default().with_until(until);
            node.sessions().block(scope.clone(), block, Actor::Application).await.unwrap();
            tokio::time::sleep(minute - Duration::from_secs(1)).await;
            for other in [right, wrong] {
                let outcome = other.sessions().sign_in(SignIn::new(user("alice"))).await;
                assert!(matches!(outcome, Err(Error::Blocked(_))), "{wrong_by}: {outcome:?}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(is_active(right, &sign_in(right, "alice").await).await);
            assert!(is_active(right, &sign_in(wrong, "alice").await).await);
        }
    }
}

/// Its clock may be wrong for ever: what others end, it refuses within the bound all the same.
#[tokio::test(start_paused = true)]
async fn a_node_with_a_wrong_clock_refuses_within_the_bound() {
    for (wrong_by, stands_still) in [(31 * DAY, false), (-400 * DAY, false), (0, true)] {
        let clocks = Clocks::start(Options::default(), wrong_by, stands_still).await;
        let [right, wrong] = &clocks.nodes;
        let signed_in = sign_in(right, "alice").await;
        assert!(is_active(wrong, &signed_in).await);
        revoke(right, &signed_in).await;
        assert!(is_active(wrong, &signed_in).await, "it has not heard of it yet");
        tokio::time::sleep(Options::default().propagation_bound).await;
        let reads = clocks.probe.calls()["log_since"];
        assert!(!is_active(wrong, &signed_in).await, "{wrong_by} {stands_still}");
        assert_eq!(clocks.probe.calls()["log_since"], reads, "its follower had read it");
    }
}

/// A node whose wall clock jumps is not cut off: its next read of the log is near.
#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_ends_no_open_connection() {
    let clocks = Clocks::start(Options::default(), 0, false).await;
    let wrong = &clocks.nodes[1];
    let signed_in = sign_in(wrong, "alice").await;
    let (manager, id) = (wrong.sessions().clone(), signed_in.session.id());
    let wait = tokio::spawn(async move { manager.session_ended(id).await });
    let gate = clocks.probe.hold("log_since");
    gate.reached().await;
    // The read began before the jump.
    clocks.wrong_by.store(3_600_000_000, Ordering::SeqCst);
    gate.open();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!wait.is_finished());
    revoke(wrong, &signed_in).await;
    assert_eq!(wait.await.unwrap(), WaitEnd::Ended(EndCause::Revoked));
}

#[tokio::test(start_paused = true)]
async fn a_difference_of_clocks_is_in_the_nodes_health() {
    let clocks = Clocks::start(Options::default(), 16 * 60 * 1_000_000, false).await;
    let skew = |n: usize| clocks.nodes[n].sessions().health().clock_skew;
    assert!(skew(0).abs() < 1.0 && (skew(1) - 960.0).abs() < 1.0, "{} {}", skew(0), skew(1));
}

#[tokio::test(start_paused = true)]
async fn a_session_may_have_timeouts_of_its_own() {
    let hour = Duration::from_secs(3600);
    // Simulated days are long; slow workers keep them short.
    let write_back = WriteBack::default().with_flush_interval(Duration::from_secs(60));
    let options = Options::default()
        .with_timeouts(Timeouts::none().with_idle(hour))
        .with_propagation_bound(Duration::from_secs(600))
        .with_max_staleness(Duration::from_secs(1200))
        .with_write_back(write_back);
    let clocks = Clocks::start(options, 31 * DAY, false).await;
    let [right, wrong] = &clocks.nodes;
    let own = |idle| SignIn::new(user("alice")).with_timeouts(Timeouts::none().with_idle(idle));
    let short = right.sessions().sign_in(own(hour / 4)).await.unwrap();
    let long = right.sessions().sign_in(own(hour * 24 * 90)).await.unwrap();
    let usual = sign_in(right, "alice").await;
    assert!(is_active(wrong, &short).await && is_active(wrong, &long).await);
    assert!(is_active(wrong, &usual).await);
    tokio::time::sleep(hour / 2).await;
    assert!(is_active(wrong, &usual).await && !is_active(wrong, &short).await);
    tokio::time::sleep(hour * 24 * 40).await;
    assert!(!is_active(right, &usual).await, "the cleanup has run many times");
    assert!(is_active(right, &long).await && is_active(wrong, &long).await);
}

/// A month ahead, more than a year behind, and one that stands still.
const WRONG: [(i64, bool); 3] = [(31 * DAY, false), (-400 * DAY, false), (0, true)];

/// With each wrong clock: first the right node and the other, then the other way round.
async fn on_wrong_clocks(options: Options, test: impl AsyncFn(&Clocks, &Engine, &Engine)) {
    for (wrong_by, stands_still) in WRONG {
        for here in [0, 1] {
            let clocks = Clocks::start(options.clone(), wrong_by, stands_still).await;
            test(&clocks, &clocks.nodes[here], &clocks.nodes[1 - here]).await;
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_grace_of_a_rotation_goes_by_the_time_of_the_fleet() {
    on_wrong_clocks(Options::default(), async |_, here, there| {
        let old = sign_in(here, "alice").await;
        assert!(is_active(there, &old).await);
        let token = old.token.expose();
        let rotated = here.sessions().rotate(token.as_bytes(), RotateReason::Renewal).await;
        let Ok(Rotation::Rotated { token: new, .. }) = rotated else { panic!("{rotated:?}") };
        let new = new.expose();
        let used = here.sessions().validate(new.as_bytes(), Access::default()).await;
        assert!(matches!(used, Ok(Verdict::Active(_))), "{used:?}");
        tokio::time::sleep(9 * SECOND).await;
        assert!(is_active(there, &old).await, "in its grace");
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(refusal(there, &old).await.end_cause(), Some(EndCause::TokenReused));
    })
    .await;
}

/// One session per user, and the newcomer is refused.
fn one_session() -> Options {
    let limit = Limit { max: 1, scope: Scope::User, on_exceed: OnExceed::Reject };
    Options::default().with_default_policy(Policy::limit(limit))
}

async fn ticket(node: &Engine) -> Ticket {
    match node.sessions().sign_in(SignIn::new(user("alice"))).await {
        Err(Error::TooManySessions(refused)) => refused.ticket,
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_claimed_within_the_time_of_the_fleet() {
    on_wrong_clocks(one_session(), async |_, here, there| {
        let unclaimed = sign_in(here, "alice").await;
        tokio::time::sleep(Options::default().claim_within - SECOND).await;
        for node in [here, there] {
            ticket(node).await;
        }
        tokio::time::sleep(2 * SECOND).await;
        let new = sign_in(there, "alice").await;
        assert_eq!(new.ended, [(unclaimed.session.id(), EndCause::Evicted)]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_valid_by_the_time_of_the_fleet() {
    for is_late in [false, true] {
        on_wrong_clocks(one_session(), async |_, here, there| {
            let old = sign_in(here, "alice").await;
            assert!(is_active(here, &old).await, "its token has been presented");
            tokio::time::sleep(SECOND).await;
            let (ticket, end) = (ticket(here).await, old.session.id());
            tokio::time::sleep(Ticket::VALID_FOR - SECOND).await;
            if is_late {
                tokio::time::sleep(2 * SECOND).await;
            }
            let outcome = there.sessions().sign_in_with_ticket(ticket.expose(), end).await;
            match outcome {
                Ok(new) => assert!(!is_late && is_active(here, &new).await),
                Err(error) => {
                    assert!(is_late && matches!(error, Error::InvalidTicket), "{error:?}")
                }
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_history_is_stamped_with_the_time_of_the_fleet() {
    let everybody = HistoryQuery::within(TenantFilter::Any);
    on_wrong_clocks(Options::default(), async |clocks, here, there| {
        let begun = [sign_in(here, "alice").await, sign_in(here, "bob").await];
        tokio::time::sleep(100 * SECOND).await;
        revoke(there, &begun[0]).await;
        there.sessions().sign_out(&begun[1].session).await.unwrap();
        let now = clocks.right.now();
        for node in [here, there] {
            let told = node.sessions().history(&everybody).await.unwrap().sessions;
            assert_eq!(told.len(), 2);
            for one in told {
                assert!(
                    one.ended <= now && now.since(one.ended) < SECOND,
                    "{} at {now}",
                    one.ended
                );
            }
        }
    })
    .await;
}

//! What the log says: a change of state once, however many requests meet it.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use session_core::cleanup::Cleanup;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{PolicyChange, Touch};
use session_core::usage::WriteBack;
use session_core::{Actor, Session, Store};
use session_engine::clock::{Clock as _, ManualClock};
use session_engine::{Access, Engine, Options, Parts, Refusal, SignIn};
use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;

use crate::probe::{
    Fleet, Probe, clock, engine, is_active, refusal, revoke, sign_in, store, told, user,
};

/// The lines of this thread, warnings and what is told once.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

/// With a single subscriber in the process, `tracing` asks only the current thread whether a line is wanted,
/// and remembers the answer: a thread without a subscriber would switch the line off for all. With a second
/// one it asks both.
static ANOTHER: LazyLock<Dispatch> =
    LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

impl Log {
    fn begin() -> (Self, DefaultGuard) {
        LazyLock::force(&ANOTHER);
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time();
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// What has been said since the last time, without the events of sessions.
    fn take(&self) -> Vec<String> {
        self.lines(|line| !line.contains("session_kit::event"))
    }

    /// The events of sessions since the last time.
    fn events(&self) -> Vec<String> {
        self.lines(|line| line.contains("session_kit::event"))
    }

    fn lines(&self, which: impl Fn(&&str) -> bool) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().filter(which).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Requests of a session that is cached and of one that is not, and sign-ins, which fail.
async fn many_requests(node: &Engine, cached: &str, foreign: &str) {
    for n in 0..500 {
        let _ = node.sessions().validate(cached.as_bytes(), Access::default()).await;
        let _ = node.sessions().validate(foreign.as_bytes(), Access::default()).await;
        if n % 100 == 0 {
            let _ = node.sessions().sign_in(SignIn::new(user("bob"))).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_said_once_and_its_end_once() {
    let (log, _listening) = Log::begin();
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let cached = sign_in(here, "alice").await.token.expose();
    let foreign = sign_in(there, "alice").await.token.expose();
    log.take();
    fleet.probes[0].away(true);
    for _ in 0..5 {
        many_requests(here, &cached, &foreign).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("WARN") && said[0].contains("the store does not answer"), "{said:?}");
    fleet.probes[0].away(false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    many_requests(here, &cached, &foreign).await;
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("INFO") && said[0].contains("the store answers again"), "{said:?}");
}

/// A request waits for the reason of an end no longer than a moment; its call fails later, without it.
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_said_once() {
    let (log, _listening) = Log::begin();
    let store = store();
    let (probe, there) = (Probe::over(store.clone()), engine(store, Options::default()).await);
    let mut ended = Vec::new();
    for n in 0..50 {
        let signed_in = sign_in(&there, &format!("user {n}")).await;
        revoke(&there, &signed_in).await;
        ended.push(signed_in);
    }
    // Of ends that it has not heard of itself.
    let late = engine(probe.clone(), Options::default()).await;
    log.take();
    probe.slow("ended", Duration::from_secs(3600));
    for signed_in in &ended {
        assert_eq!(refusal(&late, signed_in).await, Refusal::Unknown);
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("the store does not answer"), "{said:?}");
}

/// Where some calls fail and others do not, that is one trouble.
#[tokio::test(start_paused = true)]
async fn half_an_outage_is_said_once() {
    let (log, _listening) = Log::begin();
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let token = sign_in(&node, "alice").await.token.expose();
    log.take();
    probe.fail("user", true);
    for _ in 0..20 {
        many_requests(&node, &token, &token).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("user"), "it names the method: {said:?}");
}

/// A newer node has set a limit of a kind that this one does not know: it holds, and the node says so.
#[tokio::test(start_paused = true)]
async fn a_policy_of_a_newer_version_holds_and_is_said_once() {
    let (log, _listening) = Log::begin();
    let store = store();
    let node = engine(store.clone(), Options::default()).await;
    let text = r#"{"limits":[{"max":2,"scope":"network","on_exceed":"ask"}]}"#;
    let (scope, by) = (PolicyScope::User(user("alice")), Actor::Application);
    let set = async |policy: Option<Policy>| {
        let at = node.sessions().now();
        let change = PolicyChange { scope: scope.clone(), policy, at, by: by.clone() };
        store.set_policy(&change).await.unwrap();
        log.take();
    };
    let problem = || {
        let health = node.sessions().health();
        health.workers.get("policies").and_then(|policies| policies.error.clone())
    };
    set(Some(Policy::from_stored(text).unwrap())).await;
    let mut ended = 0;
    for _ in 0..5 {
        ended += sign_in(&node, "alice").await.ended.len();
        sign_in(&node, "bob").await;
    }
    assert_eq!(ended, 3, "two of five are left");
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("WARN") && said[0].contains("newer version"), "{said:?}");
    assert!(problem().is_some());
    set(None).await;
    tokio::time::sleep(Duration::from_secs(301)).await;
    sign_in(&node, "alice").await;
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(
        said[0].contains("INFO") && said[0].contains("no sign-in has met a policy of a newer"),
        "{said:?}"
    );
    assert_eq!(problem(), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_says_so_once() {
    let (log, _listening) = Log::begin();
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let token = sign_in(&node, "alice").await.token.expose();
    log.take();
    probe.away(true);
    for _ in 0..15 {
        many_requests(&node, &token, &token).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    probe.away(false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let said = log.take();
    let of = |text: &str| count(&said, text);
    assert_eq!(of("the store does not answer"), 1, "{said:#?}");
    assert_eq!(of("the log has been silent for too long"), 1, "{said:#?}");
    assert_eq!(of("the cache is trusted again"), 1, "{said:#?}");
    assert_eq!(of("the store answers again"), 1, "{said:#?}");
    assert_eq!(said.len(), 4, "{said:#?}");
}

#[tokio::test(start_paused = true)]
async fn lost_write_backs_are_said_once() {
    let (log, _listening) = Log::begin();
    let probe = Probe::over(store());
    let mut options = Options::default()
        .with_cache_capacity(2)
        .with_write_back(WriteBack::default().with_every_hits(1));
    options.cleanup = Cleanup::default().with_enabled(false);
    let node = engine(probe.clone(), options).await;
    let mut begun = Vec::new();
    for n in 0..2 * Touch::MAX_BATCH {
        begun.push(sign_in(&node, &format!("user{n}")).await);
    }
    log.take();
    probe.fail("touch", true);
    for _ in 0..10 {
        for signed_in in &begun {
            assert!(is_active(&node, signed_in).await);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(node.sessions().health().dropped_write_backs > 1);
    let said = log.take();
    assert_eq!(count(&said, "given up"), 1, "{said:#?}");
    assert_eq!(count(&said, "the store does not answer"), 1, "{said:#?}");
    assert_eq!(said.len(), 2, "{said:#?}");
    probe.fail("touch", false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let said = log.take();
    assert_eq!(count(&said, "written back again"), 1, "{said:#?}");
    assert_eq!(said.len(), 2, "{said:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_claims_provider_that_fails_is_said_once() {
    let (log, _listening) = Log::begin();
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let fails = Arc::clone(&broken);
    let parts = Parts::default().with_clock(clock()).with_claims(move |_: Session| {
        let fails = fails.load(std::sync::atomic::Ordering::SeqCst);
        async move { if fails { Err("no directory") } else { Ok(serde_json::Value::Null) } }
    });
    let node = Engine::start_with(Arc::new(store()), Options::default(), parts).await.unwrap();
    let token = sign_in(&node, "alice").await.token.expose();
    let validate = async || {
        for _ in 0..1_000 {
            let _ = node.sessions().validate(token.as_bytes(), Access::default()).await;
        }
    };
    validate().await;
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("the claims provider fails"), "{said:?}");
    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(6)).await;
    validate().await;
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("works again"), "{said:?}");
}

/// A record that cannot be read is one defect, however many requests ask for it.
#[tokio::test(start_paused = true)]
async fn a_defect_is_said_once() {
    let (log, _listening) = Log::begin();
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    fleet.probes[1].corrupt(signed_in.session.id());
    log.take();
    let token = signed_in.token.expose();
    for _ in 0..1_000 {
        assert!(there.sessions().validate(token.as_bytes(), Access::default()).await.is_err());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("ERROR") && said[0].contains("a planted defect"), "{said:?}");
}

/// A push that is gone for a moment is not worth a word, one that stays away is said once.
#[tokio::test(start_paused = true)]
async fn a_lost_push_is_said_once_and_its_return_once() {
    let (log, _listening) = Log::begin();
    let probe = Probe::over(store());
    probe.push();
    let _node = engine(probe.clone(), Options::default()).await;
    let wait = async |seconds| tokio::time::sleep(Duration::from_secs(seconds)).await;
    wait(5).await;
    for _ in 0..5 {
        probe.unpush();
        wait(1).await;
        probe.push();
        wait(1).await;
    }
    assert!(log.take().is_empty());
    probe.unpush();
    wait(60).await;
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("pushes are not heard"), "{said:?}");
    probe.push();
    wait(60).await;
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("pushes are heard again"), "{said:?}");
}

/// A sign-in, and an end, are said where they were made. The other node, which reads them in the log, tells
/// its listeners and keeps silent.
#[tokio::test(start_paused = true)]
async fn what_happens_to_a_session_is_said_by_the_node_that_did_it() {
    let (log, _listening) = Log::begin();
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let mut heard = there.sessions().events();
    let signed_in = sign_in(here, "alice").await;
    assert!(is_active(there, &signed_in).await);
    revoke(here, &signed_in).await;
    told(&mut heard, "revoked").await;
    assert!(!is_active(there, &signed_in).await);
    let events = log.events();
    assert_eq!(events.len(), 2, "{events:#?}");
    assert!(events[0].contains("created") && events[1].contains("revoked"), "{events:#?}");
}

/// A node says it within the ten minutes in which all of them know it, and the others keep it in their health.
#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_store_is_said_by_one_node() {
    let (log, _listening) = Log::begin();
    let mut options = Options::default();
    options.cleanup.enabled = false;
    let fleet = Fleet::start(options).await;
    log.take();
    let mut problems = Vec::new();
    for problem in ["an index is missing", "the log is short"] {
        fleet.probes.iter().for_each(|probe| probe.complain(problem));
        problems.push(problem);
        tokio::time::sleep(REPORTED).await;
        let said = log.take();
        assert_eq!(said.len(), 1, "{said:#?}");
        let texts = problems.join("; ");
        assert!(said[0].contains("the store needs attention") && said[0].contains(&texts));
        for node in &fleet.nodes {
            let error = node.sessions().health().workers["store"].error.clone();
            assert_eq!(error, Some(texts.clone()));
        }
        tokio::time::sleep(3 * HOUR).await;
        let said = log.take();
        assert!(said.is_empty(), "once: {said:#?}");
    }
    fleet.probes.iter().for_each(|probe| probe.uncomplain());
    tokio::time::sleep(REPORTED).await;
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("the store needs no more attention"), "{said:?}");
}

/// One of the two has said it, and one of them goes: what comes next is said, too.
#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_store_is_said_by_the_node_that_is_left() {
    for gone in [0, 1] {
        let (log, _listening) = Log::begin();
        let Fleet { probes, nodes, .. } = Fleet::start(Options::default()).await;
        probes.iter().for_each(|probe| probe.complain("an index is missing"));
        tokio::time::sleep(REPORTED).await;
        let mut nodes = Vec::from(nodes);
        nodes.remove(gone).shutdown().await;
        probes.iter().for_each(|probe| probe.complain("the log is short"));
        log.take();
        tokio::time::sleep(HOUR).await;
        let said = log.take();
        assert_eq!(count(&said, "the store needs attention"), 1, "{said:#?}");
    }
}

/// The lease that decides who says it cannot be taken.
#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_store_is_said_where_no_node_can_be_chosen() {
    let (log, _listening) = Log::begin();
    let probe = Probe::over(store());
    let _node = engine(probe.clone(), Options::default()).await;
    probe.complain("this role may not write");
    probe.refuse("lease", true);
    tokio::time::sleep(REPORTED).await;
    assert_eq!(count(&log.take(), "this role may not write"), 1);
}

/// The log is read within a limit that is shorter than that of other calls: a read that takes longer is made
/// again, with a longer one. That is no outage, as long as the log is heard.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_is_not_said_to_be_silent() {
    let (log, _listening) = Log::begin();
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    log.take();
    for millis in [300, 0, 700, 0, 300] {
        probe.slow("log_since", Duration::from_millis(millis));
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(node.health().store_answers);
        }
    }
    assert_eq!(log.take(), [""; 0]);
    probe.slow("log_since", HOUR);
    tokio::time::sleep(2 * Options::default().store_timeout).await;
    assert!(!node.health().store_answers, "the log is silent");
    let said = log.take();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("the store does not answer") && said[0].contains("log_since"));
}

/// A worker that panics again and again is said once.
#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_again_and_again_is_said_once() {
    let (log, _listening) = Log::begin();
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    for n in 1..=20 {
        probe.panic_once("log_since");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(node.sessions().health().workers["follower"].restarts, n);
    }
    let said = log.take();
    assert_eq!(count(&said, "a worker panicked"), 1, "{said:#?}");
}

/// A node of which the wall clock is ahead by as much as it is told and stands still in between.
async fn with_a_wrong_clock() -> (Engine, impl Fn(Duration)) {
    let (right, wall) = (clock(), ManualClock::starting_at(clock().now()));
    let parts = Parts::default().with_clock(wall.clone());
    let node = Engine::start_with(Arc::new(store()), Options::default(), parts).await.unwrap();
    (node, move |ahead| wall.set(right.now().plus(ahead)))
}

fn count(said: &[String], text: &str) -> usize {
    said.iter().filter(|line| line.contains(text)).count()
}

/// The clock's difference is in the log once, and once more when it is over.
#[tokio::test(start_paused = true)]
async fn a_wrong_clock_is_said_once() {
    let (log, _listening) = Log::begin();
    let (node, set) = with_a_wrong_clock().await;
    // Around the limit of a second, then far beyond it.
    for n in 0..200 {
        set(Duration::from_millis(if n % 2 == 0 { 1_100 } else { 950 }));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for _ in 0..20 {
        set(HOUR);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((node.sessions().health().clock_skew - 3_600.0).abs() < 2.0);
    assert_eq!(count(&log.take(), "this node's clock is not the store's"), 1);
    for _ in 0..20 {
        set(Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(count(&log.take(), "this node's clock is the store's again"), 1);
}

/// Each jump is counted. They are one trouble until there has been none for five minutes.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_again_and_again_is_said_once() {
    let (log, _listening) = Log::begin();
    let (node, set) = with_a_wrong_clock().await;
    for jumps in 1..=20_u64 {
        set(if jumps % 2 == 1 { HOUR } else { Duration::ZERO });
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(node.sessions().health().clock_jumps, jumps);
    }
    let said = log.take();
    assert_eq!(count(&said, "wall clock has jumped"), 1, "{said:#?}");
    let first = said.iter().find(|line| line.contains("wall clock has jumped")).unwrap();
    assert!(first.contains("WARN") && first.contains("seconds=3600"), "{first}");
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert_eq!(count(&log.take(), "has not jumped for a while"), 0);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let said = log.take();
    assert_eq!(count(&said, "has not jumped for a while jumps=20"), 1, "{said:#?}");
    set(HOUR);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(count(&log.take(), "wall clock has jumped"), 1, "another trouble");
    assert_eq!(node.sessions().health().clock_jumps, 21);
}

const HOUR: Duration = Duration::from_secs(3_600);
/// Every node has asked the store for its report.
const REPORTED: Duration = Duration::from_secs(610);

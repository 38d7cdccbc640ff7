//! What the recorder of an application gets: everything that is documented, and nothing else.

#![cfg(feature = "metrics")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use session_conformance::Probe;
use session_core::block::Block;
use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, Scope};
use session_core::store::{HistoryQuery, TenantFilter};
use session_core::{Actor, Timestamp, Token, UserId, UserKey};
use session_engine::clock::{Clock, TokioClock};
use session_engine::metrics::{self, Kind, METRICS, Metric};
use session_engine::{
    Access, Engine, Error, NewBlock, Options, Parts, RotateReason, Rotation, SignIn, SignedIn,
};
use session_store_memory::MemoryStore;

const HOUR: Duration = Duration::from_secs(3_600);

/// Two nodes on one store.
struct Fleet {
    probe: Probe,
    here: Engine,
    there: Engine,
}

impl Fleet {
    async fn start() -> Self {
        let clock = TokioClock::starting_at(Timestamp::from_micros(1_780_000_000_000_000));
        let store = MemoryStore::with_clock(move || clock.now());
        let (probe, other) = (Probe::over(store.clone()), Probe::over(store));
        let limits = vec![Limit { max: 3, scope: Scope::User, on_exceed: OnExceed::Reject }];
        let mut options = Options::default()
            .with_default_policy(Policy { limits, ..Policy::default() })
            .with_cache_capacity(64);
        options.cleanup.log_retention = HOUR;
        options.cleanup.inactive_for = HOUR;
        options.history.keep = Some(HOUR);
        let start = |probe: Probe| {
            let parts = Parts::default().with_clock(clock);
            Engine::start_with(Arc::new(probe), options.clone(), parts)
        };
        let there = start(other).await.unwrap();
        Self { here: start(probe.clone()).await.unwrap(), probe, there }
    }

    async fn sign_in(&self, name: &str) -> Result<SignedIn, Error> {
        self.here.sessions().sign_in(SignIn::new(user(name))).await
    }

    async fn check(&self, token: &str) {
        let _ = self.here.sessions().validate(token.as_bytes(), Access::default()).await;
    }
}

fn user(name: &str) -> UserKey {
    UserKey::new(UserId::new(name).unwrap())
}

/// Every outcome of a sign-in and of a check.
async fn doors(fleet: &Fleet) {
    let sessions = fleet.here.sessions();
    let alice = fleet.sign_in("alice").await.unwrap();
    let token = alice.token.expose();
    fleet.check(&token).await;
    fleet.check("garbage").await;
    // Another secret of the session, and another session's id.
    fleet.check(&format!("{}{}", &token[..48], "0".repeat(56))).await;
    fleet.check(&unknown(&token)).await;
    for _ in 0..2 {
        fleet.sign_in("alice").await.unwrap();
    }
    let Err(Error::TooManySessions(_)) = fleet.sign_in("alice").await else {
        panic!("the limit is reached")
    };
    let used = sessions.sign_in_with_ticket("none", alice.session.id()).await;
    assert!(matches!(used, Err(Error::InvalidTicket)));
    let mut invalid = SignIn::new(user("bob"));
    invalid.timeouts = Some(session_core::usage::Timeouts::none().with_idle(Duration::ZERO));
    assert!(matches!(sessions.sign_in(invalid).await, Err(Error::Invalid(_))));
    let scope = PolicyScope::User(user("mallory"));
    sessions.block(scope.clone(), NewBlock::default(), Actor::Application).await.unwrap();
    let _: Option<Block> = sessions.block_at(&scope).await.unwrap();
    assert!(matches!(fleet.sign_in("mallory").await, Err(Error::Blocked(_))));
}

/// A token of the fleet whose session is not there: well formed in all but the id, which the check of
/// the token then does not fit.
fn unknown(token: &str) -> String {
    format!("{}{}", "0".repeat(32), &token[32..])
}

/// Every way for a session to end, and rotation.
async fn ends(fleet: &Fleet) {
    let sessions = fleet.here.sessions();
    let owner = user("carol");
    let [first, second, third] = [
        fleet.sign_in("carol").await.unwrap(),
        fleet.sign_in("carol").await.unwrap(),
        fleet.sign_in("carol").await.unwrap(),
    ];
    sessions.sign_out(&first.session).await.unwrap();
    sessions.revoke(second.session.id(), &owner, Actor::Application).await.unwrap();
    let replacing = SignIn::new(owner.clone()).with_replaces(third.session.id());
    let fourth = sessions.sign_in(replacing).await.unwrap();
    for ended in [&first, &second] {
        fleet.check(&ended.token.expose()).await;
    }
    steal(fleet, &fourth.token).await;
    let limits = vec![Limit { max: 1, scope: Scope::User, on_exceed: OnExceed::EvictOldest }];
    let policy = Policy { limits, ..Policy::default() };
    let scope = PolicyScope::User(owner);
    sessions.set_policy(scope.clone(), Some(policy), Actor::Application).await.unwrap();
    sessions.effective_policy(&scope).await.unwrap();
    for _ in 0..2 {
        fleet.sign_in("carol").await.unwrap();
    }
    sessions.block(scope, NewBlock::default(), Actor::Application).await.unwrap();
    let query = HistoryQuery::within(TenantFilter::Any);
    assert!(!sessions.history(&query).await.unwrap().sessions.is_empty());
}

/// A copy of a token, used after its owner has gone on.
async fn steal(fleet: &Fleet, token: &Token) {
    let old = token.expose();
    let rotated = fleet.here.sessions().rotate(old.as_bytes(), RotateReason::Renewal).await;
    let Rotation::Rotated { token: new, .. } = rotated.unwrap() else { panic!("it is current") };
    fleet.check(&new.expose()).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    fleet.check(&old).await;
    fleet.check(&new.expose()).await;
}

/// A full cache, a worker that panics, an outage, and a log that is cut.
async fn troubles(fleet: &Fleet) {
    let _events = fleet.here.sessions().events();
    for n in 0..200 {
        fleet.sign_in(&format!("user {n}")).await.unwrap();
    }
    let foreign = fleet.there.sessions().sign_in(SignIn::new(user("dave"))).await.unwrap();
    fleet.probe.away(true);
    fleet.check(&foreign.token.expose()).await;
    assert!(fleet.sign_in("dave").await.is_err());
    tokio::time::sleep(Duration::from_secs(2)).await;
    fleet.probe.away(false);
    fleet.check(&foreign.token.expose()).await;
    fleet.probe.panic_once("log_since");
    fleet.probe.corrupt(foreign.session.id());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let dave = foreign.session.id();
    assert!(fleet.here.sessions().get(dave, &TenantFilter::Any).await.is_err());
    // The cleanup ends what was not used for so long.
    tokio::time::sleep(3 * HOUR).await;
    fleet.probe.replace(MemoryStore::new());
    tokio::time::sleep(Duration::from_secs(2)).await;
}

#[tokio::test(start_paused = true)]
async fn the_recorder_gets_what_is_documented_and_nothing_else() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    metrics::describe();
    let fleet = Fleet::start().await;
    doors(&fleet).await;
    ends(&fleet).await;
    troubles(&fleet).await;
    let got = Got::read(&snapshotter);
    for metric in METRICS {
        got.check(metric);
    }
    let known: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    let seen: BTreeSet<_> = got.series.keys().map(String::as_str).collect();
    assert_eq!(seen.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "undocumented");
    got.values();
}

#[tokio::test(start_paused = true)]
async fn checks_of_all_threads_are_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let fleet = Fleet::start().await;
    let token = fleet.sign_in("alice").await.unwrap().token.expose();
    fleet.check(&token).await;
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    let _ = fleet.here.sessions().check(token.as_bytes(), Access::default());
                }
            });
        }
    });
    fleet.here.shutdown().await;
    let got = Got::read(&snapshotter);
    let labels = [("source", "cache"), ("verdict", "active")];
    let counted = got.counter("session_kit_checks_total", &labels);
    let first = got.counter("session_kit_checks_total", &[("source", "store"), labels[1]]);
    assert_eq!(counted + first, 40_001);
}

/// What the store cannot say now is not shown as it was, and what fails again and again is shown.
#[tokio::test(start_paused = true)]
async fn what_is_not_known_and_what_fails_is_shown() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let Fleet { probe, here: _here, there } = Fleet::start().await;
    // Its gauges have the same names.
    there.shutdown().await;
    probe.complain("an index is missing");
    tokio::time::sleep(HOUR).await;
    let failing = |got: &Got, worker| got.gauge("session_kit_worker_failing", Some(worker));
    let got = Got::read(&snapshotter);
    assert_eq!(got.gauge("session_kit_store_problems", None), 1.0);
    assert_eq!(got.gauge("session_kit_log_pending_entries", None), 0.0);
    let all = ["cleanup", "report", "store"].map(|worker| failing(&got, worker));
    assert_eq!(all, [0.0, 0.0, 1.0]);
    probe.fail("report", true);
    probe.fail("trim_log", true);
    tokio::time::sleep(2 * HOUR).await;
    let got = Got::read(&snapshotter);
    assert!(got.gauge("session_kit_store_problems", None).is_nan());
    assert!(got.gauge("session_kit_log_pending_entries", None).is_nan());
    let all = ["cleanup", "report", "store"].map(|worker| failing(&got, worker));
    assert_eq!(all, [1.0, 1.0, 0.0]);
}

type Labels = BTreeMap<String, String>;

/// What the recorder got, by name.
struct Got {
    series: BTreeMap<String, Vec<(MetricKind, Labels, DebugValue)>>,
    described: BTreeSet<String>,
}

impl Got {
    fn read(snapshotter: &Snapshotter) -> Self {
        let (mut series, mut described) = (BTreeMap::<_, Vec<_>>::new(), BTreeSet::new());
        for (key, unit, help, value) in snapshotter.snapshot().into_vec() {
            let (kind, key) = key.into_parts();
            let (name, labels) = key.into_parts();
            let name = name.as_str().to_owned();
            if unit.is_some() && help.is_some() {
                described.insert(name.clone());
            }
            let pair = |label: ::metrics::Label| {
                let (key, value) = label.into_parts();
                (key.to_string(), value.to_string())
            };
            let labels = labels.into_iter().map(pair).collect();
            series.entry(name).or_default().push((kind, labels, value));
        }
        Self { series, described }
    }

    /// The metric is there, described, and its labels have known values only.
    fn check(&self, metric: &Metric) {
        let name = metric.name;
        let series = self.series.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(self.described.contains(name), "{name} is not described");
        let kind = match metric.kind {
            Kind::Counter => MetricKind::Counter,
            Kind::Histogram => MetricKind::Histogram,
            _ => MetricKind::Gauge,
        };
        for (found, labels, _) in series {
            assert_eq!(*found, kind, "{name}");
            let mut names: Vec<_> = metric.labels.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            assert_eq!(labels.keys().collect::<Vec<_>>(), names, "{name}");
            for (label, values) in metric.labels {
                let value = labels[*label].as_str();
                assert!(values.contains(&value), "{name}: {label} is {value}");
            }
        }
        assert_eq!(metric.buckets.is_empty(), metric.kind != Kind::Histogram, "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
    }

    fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let is_it = |found: &Labels| labels.iter().all(|(name, value)| found[*name] == *value);
        let values = self.series.get(name).into_iter().flatten();
        let count = |(_, found, value): &(_, Labels, DebugValue)| match value {
            DebugValue::Counter(count) if is_it(found) => *count,
            _ => 0,
        };
        values.map(count).sum()
    }

    /// The value, of a worker where one is named.
    fn gauge(&self, name: &str, worker: Option<&str>) -> f64 {
        let is_it = |found: &Labels| found.get("worker").map(String::as_str) == worker;
        let found = self.series[name].iter().find(|(_, labels, _)| is_it(labels));
        let Some((_, _, DebugValue::Gauge(value))) = found else { panic!("{name}: {found:?}") };
        value.into_inner()
    }

    /// What was done is what is counted.
    fn values(&self) {
        for cause in ["evicted", "revoked", "signed_out", "replaced", "token_reused", "blocked"] {
            let ended = self.counter("session_kit_sessions_ended_total", &[("cause", cause)]);
            assert_eq!(ended, 1, "{cause}");
        }
        let expired = self.counter("session_kit_sessions_ended_total", &[("cause", "expired")]);
        assert!(expired > 200, "{expired}");
        let deleted = self.counter("session_kit_cleanup_deleted_total", &[("what", "sessions")]);
        assert_eq!(deleted, expired);
        for outcome in
            METRICS.iter().find(|metric| metric.name.contains("sign_ins")).unwrap().labels[0].1
        {
            let count = self.counter("session_kit_sign_ins_total", &[("outcome", outcome)]);
            assert!(count > 0 || *outcome == "broken", "{outcome}");
        }
        for verdict in ["active", "malformed", "wrong_secret", "ended", "unavailable"] {
            let count = self.counter("session_kit_checks_total", &[("verdict", verdict)]);
            assert!(count > 0, "{verdict}");
        }
        assert_eq!(self.counter("session_kit_rotations_total", &[("step", "begun")]), 1);
        assert_eq!(self.counter("session_kit_rotations_total", &[("step", "confirmed")]), 1);
        assert!(self.counter("session_kit_cache_evictions_total", &[]) > 100);
        assert!(self.counter("session_kit_log_gaps_total", &[]) > 0);
        let panics = [("worker", "follower")];
        assert_eq!(self.counter("session_kit_worker_restarts_total", &panics), 1);
    }
}

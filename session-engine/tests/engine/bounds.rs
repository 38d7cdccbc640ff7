//! What load, outages and hints cost a node at most (G3, G5, G12, G15, G22).

use std::sync::Arc;
use std::time::Duration;

use session_core::store::Commit;
use session_core::{Actor, EndCause, ExtraData, FleetKey, Session, SessionId, Store, Token};
use session_engine::{
    Access, Check, Engine, Error, Options, Parts, Refusal, SignIn, Verdict, WhenStale,
};

use crate::probe::{
    Fleet, Probe, clock, engine, is_active, refusal, revoke, sign_in, store, user, verdict,
};

fn spent(probe: &Probe, method: &'static str) -> u64 {
    probe.calls().get(method).copied().unwrap_or(0)
}

/// A token that passes the check, of a session that nobody has begun.
async fn well_formed(store: &impl Store, n: u16) -> Token {
    let key = store.fleet_key(&FleetKey::from_bytes([0; 32])).await.unwrap();
    let mut id = [7; 16];
    id[..2].copy_from_slice(&n.to_be_bytes());
    Token::new(&key, SessionId::from_random(id), [1; 12], [1; 16])
}

/// E11.
#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_hear_the_log_writes_and_reads_little() {
    let fleet = Fleet::start(Options::default()).await;
    let (node, probe) = (&fleet.nodes[0], &fleet.probes[0]);
    let signed_in = sign_in(node, "alice").await;
    probe.fail("log_since", true);
    tokio::time::sleep(Duration::from_secs(31)).await;
    let reads = spent(probe, "log_since");
    for _ in 0..1_000 {
        assert!(is_active(node, &signed_in).await, "the store can be asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let reads = spent(probe, "log_since") - reads;
    assert!(reads <= 150, "{reads} reads of the log in 10 s");
    // Each request has a flush of its own.
    let touches = spent(probe, "touch");
    for _ in 0..1_000 {
        assert!(is_active(node, &signed_in).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let touches = spent(probe, "touch") - touches;
    assert!(touches <= 110, "{touches} write-backs of 1,000 requests");
}

/// Neither do changes of its own make it read a log that cannot be read.
#[tokio::test(start_paused = true)]
async fn changes_do_not_make_a_node_read_a_log_that_cannot_be_read() {
    let fleet = Fleet::start(Options::default()).await;
    let (node, probe) = (&fleet.nodes[0], &fleet.probes[0]);
    probe.fail("log_since", true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reads = spent(probe, "log_since");
    for n in 0..1_000 {
        sign_in(node, &format!("user {}", n % 50)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let reads = spent(probe, "log_since") - reads;
    assert!(reads <= 30, "{reads} in 5 s");
}

/// E12.
#[tokio::test(start_paused = true)]
async fn a_read_of_the_log_that_hangs_delays_no_revocation_beyond_the_bound() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let bound = Options::default().propagation_bound;
    let signed_in = sign_in(here, "alice").await;
    assert!(is_active(there, &signed_in).await);
    // Its first use is written back, so that no write-back finds out that it is gone.
    tokio::time::sleep(bound).await;
    let gate = fleet.probes[1].hold("log_since");
    gate.reached().await;
    revoke(here, &signed_in).await;
    tokio::time::sleep(bound).await;
    assert!(!is_active(there, &signed_in).await);
    assert!(there.sessions().health().fresh);
    assert_eq!(spent(&fleet.probes[1], "ended"), 1, "the log has told, the history how");
}

#[tokio::test(start_paused = true)]
async fn changed_data_is_seen_on_other_nodes_within_the_bound() {
    let fleet = Fleet::start(Options::default()).await;
    let ([here, there], probe) = (&fleet.nodes, &fleet.probes[1]);
    let signed_in = sign_in(here, "alice").await;
    let data = async || verdict(there, &signed_in).await.session().unwrap().data().cloned();
    assert_eq!(data().await, None);
    for text in ["{\"cart\":1}", "{\"cart\":2}"] {
        let loads = spent(probe, "load");
        let old = data().await;
        assert_eq!(spent(probe, "load"), loads, "it is cached");
        let new = ExtraData::from_json(text).unwrap();
        let set = |_: Option<&ExtraData>| Ok(Some(new.clone()));
        let id = signed_in.session.id();
        here.sessions().update_data(id, Actor::Application, set).await.unwrap().unwrap();
        assert_eq!(data().await, old, "it has not heard of it yet");
        tokio::time::sleep(Options::default().propagation_bound).await;
        assert_eq!(data().await, Some(new));
    }
}

/// A store that is slow is waited for longer with every try, so that a node gets through at last.
#[tokio::test(start_paused = true)]
async fn a_slow_log_is_read_in_the_end() {
    let fleet = Fleet::start(Options::default()).await;
    let probe = &fleet.probes[1];
    probe.slow("log_since", Duration::from_secs(4));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let heard = fleet.nodes[1].sessions().health().heard_at;
    let late = fleet.nodes[1].sessions().now().since(heard);
    assert!(late < Duration::from_secs(20), "{late:?}");
}

/// E12: the reads that a flood of tokens asks for are limited, and the log is heard beside them.
#[tokio::test(start_paused = true)]
async fn a_flood_of_tokens_costs_few_reads_at_a_time() {
    let fleet = Fleet::start(Options::default().with_max_loads(8)).await;
    let ([here, there], probe) = (&fleet.nodes, &fleet.probes[1]);
    let signed_in = sign_in(here, "alice").await;
    assert!(is_active(there, &signed_in).await);
    probe.slow("load", Duration::from_millis(2));
    probe.slow("ended", Duration::from_millis(20));
    let mut flood = tokio::task::JoinSet::new();
    for n in 0..1_000 {
        let (manager, token) = (there.sessions().clone(), well_formed(&fleet.store, n).await);
        flood.spawn(async move { manager.check_token(token, Access::default()).resolve().await });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    revoke(here, &signed_in).await;
    tokio::time::sleep(Options::default().propagation_bound).await;
    let token = signed_in.token.expose();
    let check = there.sessions().check(token.as_bytes(), Access::default());
    assert!(!matches!(check, Check::Answered(Verdict::Active(_))), "the log has been heard");
    assert!(spent(probe, "ended") < 1_000, "the flood is not over");
    for verdict in flood.join_all().await {
        assert!(matches!(verdict, Ok(Verdict::Refused(Refusal::Unknown))), "{verdict:?}");
    }
    for method in ["load", "ended"] {
        assert!(probe.most_at_once(method) <= 8, "{method}: {}", probe.most_at_once(method));
    }
}

/// A token of a session that has ended, where the history has nothing to tell.
#[tokio::test(start_paused = true)]
async fn an_ended_token_that_is_shown_again_and_again_costs_few_reads() {
    for keep in [Duration::ZERO, Duration::from_secs(3600)] {
        let mut options = Options::default();
        options.history.keep = Some(keep);
        let fleet = Fleet::start(options).await;
        let (node, probe) = (&fleet.nodes[0], &fleet.probes[0]);
        let signed_in = sign_in(node, "alice").await;
        revoke(node, &signed_in).await;
        for _ in 0..1_000 {
            assert!(!is_active(node, &signed_in).await);
        }
        let reads = spent(probe, "ended") + spent(probe, "load");
        assert!(reads <= 2, "{reads} for 1,000 requests");
    }
}

/// E13.
#[tokio::test(start_paused = true)]
async fn the_newest_ends_are_remembered() {
    let fleet = Fleet::start(Options::default().with_negative_capacity(10)).await;
    let (node, probe) = (&fleet.nodes[0], &fleet.probes[0]);
    let mut ended = Vec::new();
    for n in 0..100 {
        let signed_in = sign_in(node, &format!("user {n}")).await;
        revoke(node, &signed_in).await;
        ended.push(signed_in);
    }
    let loads = spent(probe, "load");
    for signed_in in &ended[92..] {
        assert_eq!(refusal(node, signed_in).await.end_cause(), Some(EndCause::Revoked));
    }
    assert_eq!(spent(probe, "load"), loads, "the node knew");
    assert!(!is_active(node, &ended[0]).await, "and the store is asked for the rest");
}

/// E13: the write-back was on its way when the session was revoked.
#[tokio::test(start_paused = true)]
async fn a_write_back_that_finds_its_session_gone_keeps_the_cause() {
    let fleet = Fleet::start(Options::default()).await;
    let ([here, there], probe) = (&fleet.nodes, &fleet.probes[1]);
    let signed_in = sign_in(here, "alice").await;
    let touch = probe.hold_before("touch");
    assert!(is_active(there, &signed_in).await);
    touch.reached().await;
    revoke(here, &signed_in).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    touch.open();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let end = there.sessions().session_ended(signed_in.session.id()).await;
    assert_eq!(end.cause(), Some(EndCause::Revoked));
}

/// E15.
#[tokio::test(start_paused = true)]
async fn a_claims_provider_that_hangs_has_failed() {
    let parts = Parts::default().with_clock(clock()).with_claims(|_: Session| async {
        std::future::pending::<Result<serde_json::Value, std::io::Error>>().await
    });
    let options = Options::default().with_claims_timeout(Duration::from_secs(3));
    let node = Engine::start_with(Arc::new(store()), options, parts).await.unwrap();
    let begun = tokio::time::Instant::now();
    let signed_in = sign_in(&node, "alice").await;
    assert_eq!(begun.elapsed().as_secs(), 3, "the session begins without claims");
    let token = signed_in.token.expose();
    let found = node.sessions().validate(token.as_bytes(), Access::default()).await;
    assert!(matches!(found, Err(Error::Claims(_))), "{found:?}");
    assert_eq!(begun.elapsed().as_secs(), 6);
}

/// E15: a store that hangs, which is known by then.
#[tokio::test(start_paused = true)]
async fn a_stale_answer_does_not_wait_for_a_store_that_is_away() {
    let probe = Probe::over(store());
    let stale = WhenStale::ServeStale(Duration::from_secs(600));
    let node = engine(probe.clone(), Options::default().with_when_stale(stale)).await;
    let signed_in = sign_in(&node, "alice").await;
    for method in ["log_since", "load"] {
        probe.slow(method, Duration::from_secs(3600));
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    for _ in 0..100 {
        let begun = tokio::time::Instant::now();
        assert!(is_active(&node, &signed_in).await);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(77)).await;
    }
}

/// E17.
#[tokio::test(start_paused = true)]
async fn a_thousand_hints_a_second_are_not_a_thousand_reads() {
    let probe = Probe::over(store());
    let _node = engine(probe.clone(), Options::default()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = spent(&probe, "log_since");
    for _ in 0..1_000 {
        probe.hint();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reads = spent(&probe, "log_since") - before;
    assert!((50..=210).contains(&reads), "{reads}");
}

/// E17: the changes of this node's own.
#[tokio::test(start_paused = true)]
async fn a_thousand_changes_a_second_are_not_a_thousand_reads() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let reads = async || {
        let before = spent(&probe, "log_since");
        for n in 0..1_000 {
            sign_in(&node, &format!("user {n}")).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        spent(&probe, "log_since") - before
    };
    let unheard = reads().await;
    assert!(unheard <= 10, "{unheard}: nothing that is cached is wrong");
    let _listening = node.sessions().events();
    let heard = reads().await;
    assert!((50..=210).contains(&heard), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn the_first_hint_after_a_quiet_time_is_followed_at_once() {
    let fleet = Fleet::start(Options::default()).await;
    let ([here, there], probe) = (&fleet.nodes, &fleet.probes[1]);
    let signed_in = sign_in(here, "alice").await;
    for quiet in [13, 50, 90] {
        assert!(is_active(there, &signed_in).await);
        tokio::time::sleep(Duration::from_millis(quiet)).await;
        let before = spent(probe, "log_since");
        probe.hint();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(spent(probe, "log_since"), before + 1);
    }
    revoke(here, &signed_in).await;
    probe.hint();
    tokio::time::sleep(Duration::from_millis(6)).await;
    assert!(!is_active(there, &signed_in).await);
}

/// Nodes that start together do not go on reading together.
#[tokio::test(start_paused = true)]
async fn nodes_read_the_log_out_of_step() {
    let store = store();
    let probes: Vec<_> = (0..4).map(|_| Probe::over(store.clone())).collect();
    let mut nodes = Vec::new();
    for probe in &probes {
        nodes.push(engine(probe.clone(), Options::default()).await);
    }
    let mut alone = 0;
    let mut before: Vec<_> = probes.iter().map(|probe| spent(probe, "log_since")).collect();
    for _ in 0..60_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now: Vec<_> = probes.iter().map(|probe| spent(probe, "log_since")).collect();
        alone +=
            u64::from(now.iter().zip(&before).filter(|(now, before)| now > before).count() == 1);
        before = now;
    }
    let reads: u64 = before.iter().sum();
    assert!(alone * 2 > reads, "{alone} of {reads} reads were of one node alone");
}

/// A user with many sessions does not make a commit larger than the trait allows.
#[tokio::test(start_paused = true)]
async fn a_ceiling_that_is_lowered_is_reached_by_commits_within_the_limit() {
    let store = store();
    let probe = Probe::over(store.clone());
    let many = engine(store.clone(), Options::default()).await;
    for _ in 0..(2 * Commit::MAX_CHANGES) {
        let signed_in = sign_in(&many, "alice").await;
        assert!(is_active(&many, &signed_in).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(Options::default().max_sessions_per_user, Some(1_000));
    let few = engine(probe.clone(), Options::default().with_max_sessions_per_user(3)).await;
    let request = SignIn::new(user("alice"));
    let new = few.sessions().sign_in(request).await.unwrap();
    assert_eq!(new.ended.len(), 2 * Commit::MAX_CHANGES - 2);
    assert_eq!(store.user(&user("alice")).await.unwrap().sessions.len(), 3);
    assert_eq!(spent(&probe, "commit"), 2);
}

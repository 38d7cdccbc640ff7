//! What the engine asks of a store: calls within the limits of the trait, walks to their end, and no
//! more of the log than a node needs.

use std::time::Duration;

use session_core::policy::{Policy, PolicyScope, PreventConcurrentLogin};
use session_core::store::{Change, Commit, Entries, PageQuery, Selection, TenantFilter, Version};
use session_core::{Actor, DeviceKind, Store};
use session_engine::{NewBlock, Options, SignIn};
use session_store_memory::MemoryStore;

use crate::probe::{Fleet, Probe, engine, is_active, sign_in, store, told, user};

/// Begins sessions of one user directly in the store; the last is the oldest.
async fn begin(store: &MemoryStore, name: &str, kind: DeviceKind, count: usize) {
    let now = session_conformance::sample::now(store).await;
    let sessions = (0..count).map(|n| {
        let begun = now.minus(Duration::from_micros(n as u64));
        let mut session = session_conformance::sample::session(store, &user(name), begun);
        session.device_kind = kind.clone();
        Change::Insert(Box::new(session))
    });
    let changes: Vec<_> = sessions.collect();
    for changes in changes.chunks(Commit::MAX_CHANGES) {
        let changes = changes.to_vec();
        session_conformance::sample::commit(store, &user(name), changes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_that_have_to_leave_end_in_commits_of_the_largest_size() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    begin(&fleet.store, "alice", DeviceKind::Web, 2 * Commit::MAX_CHANGES + 6).await;
    let mut events = there.sessions().events();
    let all = Policy::from(PreventConcurrentLogin::LogoutFromAllDevices);
    here.sessions().set_policy(PolicyScope::Deployment, Some(all), Actor::System).await.unwrap();
    let signed_in = sign_in(here, "alice").await;
    assert_eq!(signed_in.ended.len(), 2 * Commit::MAX_CHANGES + 6);
    assert!(signed_in.ended.is_sorted_by_key(|(id, _)| *id));
    assert_eq!(fleet.probes[0].calls()["commit"], 3);
    let left = fleet.store.user(&user("alice")).await.unwrap().sessions;
    assert_eq!(left.iter().map(|left| left.id).collect::<Vec<_>>(), [signed_in.session.id()]);
    // Each is told once, the newcomer last.
    for _ in &signed_in.ended {
        told(&mut events, "evicted").await;
    }
    told(&mut events, "created").await;
}

#[tokio::test(start_paused = true)]
async fn claims_of_many_sessions_change_in_commits_of_the_largest_size() {
    let fleet = Fleet::start(Options::default()).await;
    begin(&fleet.store, "alice", DeviceKind::Web, Commit::MAX_CHANGES + 1).await;
    let mut events = fleet.nodes[1].sessions().events();
    let manager = fleet.nodes[0].sessions();
    manager.claims_changed(&user("alice"), Actor::Application).await.unwrap();
    for _ in 0..=Commit::MAX_CHANGES {
        told(&mut events, "claims_changed").await;
    }
    manager.claims_changed(&user("bob"), Actor::Application).await.unwrap();
    assert_eq!(fleet.store.user(&user("bob")).await.unwrap().version, Version::NONE);
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_leaves_out_nearly_everything_finds_what_is_left() {
    let fleet = Fleet::start(Options::default()).await;
    let (manager, many) = (fleet.nodes[0].sessions(), PageQuery::MAX_EXAMINED as usize + 5);
    begin(&fleet.store, "bob", DeviceKind::Tv, 1).await;
    begin(&fleet.store, "alice", DeviceKind::Web, many).await;
    let mut query = manager.query(TenantFilter::Any);
    query.device_kind = Some(DeviceKind::Tv);
    query.limit = 2;
    let page = manager.list(&query).await.unwrap();
    assert_eq!(page.sessions.len(), 1);
    assert_eq!(page.next, None);
    assert_eq!(fleet.probes[0].calls()["page"], 2, "the store's page was short");
    let ended = manager.revoke_user(user("alice"), Actor::System).await.unwrap();
    assert_eq!(ended, many as u64);
}

/// When a node starts, and after each cleanup.
#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_store_is_in_the_nodes_health() {
    let probe = Probe::over(store());
    probe.complain("the log reaches back 3 s");
    let node = engine(probe.clone(), Options::default()).await;
    let error = || node.sessions().health().workers["store"].error.clone();
    assert_eq!(error().as_deref(), Some("the log reaches back 3 s"));
    probe.complain("an index is missing");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(error().as_deref(), Some("the log reaches back 3 s; an index is missing"));
}

#[tokio::test(start_paused = true)]
async fn a_node_reads_the_history_only_while_somebody_listens() {
    let fleet = Fleet::start(Options::default()).await;
    let ([here, there], probe) = (&fleet.nodes, &fleet.probes[1]);
    sign_in(here, "alice").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(probe.wanted(), Some(Entries::Invalidations));
    let mut events = there.sessions().events();
    here.sessions().sign_in(SignIn::new(user("bob"))).await.unwrap();
    told(&mut events, "created").await;
    assert_eq!(probe.wanted(), Some(Entries::All));
    drop(events);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(probe.wanted(), Some(Entries::Invalidations));
}

/// What ends sessions goes on to the last one where its caller goes away: a closed tab, the time limit of
/// a proxy.
#[tokio::test(start_paused = true)]
async fn what_a_caller_who_has_gone_began_to_end_ends() {
    for way in 0..4 {
        let fleet = Fleet::start(Options::default()).await;
        let [here, there] = &fleet.nodes;
        let sessions = [sign_in(here, "alice").await, sign_in(here, "alice").await];
        let mut ended = there.sessions().events();
        let (manager, own) = (here.sessions().clone(), sessions[0].session.clone());
        let gate = fleet.probes[0].hold_before("end_many");
        let call = tokio::spawn(async move {
            let everything = Selection::within(TenantFilter::Any);
            match way {
                0 => manager.revoke_selected(everything, Actor::Application).await.map(|_| ()),
                1 => manager.revoke_by(everything, &own).await.map(|_| ()),
                2 => manager.sign_out(&own).await,
                _ => {
                    let (scope, block) = (PolicyScope::User(user("alice")), NewBlock::default());
                    manager.block(scope, block, Actor::Application).await.map(|_| ())
                }
            }
        });
        gate.reached().await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        gate.open();
        told(
            &mut ended,
            if way == 3 {
                "blocked"
            } else if way == 2 {
                "signed_out"
            } else {
                "revoked"
            },
        )
        .await;
        assert!(!is_active(there, &sessions[0]).await, "{way}");
        assert_eq!(is_active(there, &sessions[1]).await, way == 2, "{way}");
    }
}

/// Each ending looks at the log, for what another node has ended just before: all that wait look together.
#[tokio::test(start_paused = true)]
async fn endings_side_by_side_read_the_log_together() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let end_all = async |names: std::ops::Range<u32>| {
        let mut ends = tokio::task::JoinSet::new();
        for n in names {
            sign_in(&node, &format!("user-{n}")).await;
            let (manager, owner) = (node.sessions().clone(), user(&format!("user-{n}")));
            ends.spawn(async move { manager.revoke_user(owner, Actor::Application).await });
        }
        ends.join_all().await.into_iter().for_each(|ended| assert_eq!(ended.unwrap(), 1));
    };
    probe.slow("log_since", Duration::from_millis(20));
    let before = probe.calls()["log_since"];
    end_all(0..100).await;
    let reads = probe.calls()["log_since"] - before;
    assert!(reads < 10, "{reads} reads for 100 endings");
    // A log that hangs holds up none of them.
    let gate = probe.hold_before("log_since");
    let begun = tokio::time::Instant::now();
    end_all(100..200).await;
    let bound = Options::default().propagation_bound + Duration::from_millis(100);
    assert!(begun.elapsed() <= bound, "{:?}", begun.elapsed());
    gate.open();
}

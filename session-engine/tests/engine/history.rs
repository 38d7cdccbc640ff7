//! Ended is remembered (G20), blocked means out (G21), and what changes in a record.

use std::time::Duration;

use session_core::block::Block;
use session_core::cleanup::Cleanup;
use session_core::policy::{Policy, PolicyScope, PreventConcurrentLogin};
use session_core::store::{EndedBatch, HistoryQuery, TenantFilter};
use session_core::usage::{Timeouts, WriteBack};
use session_core::{
    Actor, DeviceInfo, EndCause, ExtraData, FleetKey, Session, Store, TenantId, Token, UserKey,
};
use session_engine::{
    Access, Addresses, Error, History, NewBlock, Options, Refusal, SignIn, SignedIn, Verdict,
};

use crate::probe::{Fleet, engine, is_active, refusal, revoke, sign_in, told, user};

fn on(device: &str) -> SignIn {
    SignIn::new(user("alice")).with_device_info(DeviceInfo::truncated(device))
}

#[tokio::test(start_paused = true)]
async fn the_owner_of_an_ended_session_is_told_why_on_every_node() {
    let options =
        Options::default().with_default_policy(PreventConcurrentLogin::LogoutFromAllDevices);
    let fleet = Fleet::start(options).await;
    let [here, there] = &fleet.nodes;
    let old = here.sessions().sign_in(on("Safari on iOS")).await.unwrap();
    assert!(is_active(there, &old).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let new = here.sessions().sign_in(on("Firefox on Linux")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for node in [here, there] {
        let Refusal::Ended(ending) = refusal(node, &old).await else { panic!("it has ended") };
        assert_eq!((ending.id, ending.cause), (old.session.id(), EndCause::Evicted));
        assert_eq!(ending.at, new.session.signed_in());
        assert_eq!(ending.by, Actor::User(UserKey::new("alice".parse().unwrap())));
        assert_eq!(ending.from, DeviceInfo::truncated("Firefox on Linux"));
    }
}

/// A node that has never heard of the session, and one that has forgotten everything.
#[tokio::test(start_paused = true)]
async fn a_node_that_knows_nothing_asks_the_history_once() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    revoke(here, &signed_in).await;
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    for _ in 0..3 {
        assert_eq!(refusal(there, &signed_in).await.end_cause(), Some(EndCause::Revoked));
    }
    assert_eq!(fleet.probes[1].calls()["ended"], 1);
}

/// An id is no secret: only one of the session's own tokens is told.
#[tokio::test(start_paused = true)]
async fn an_id_alone_is_told_nothing() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    revoke(node, &signed_in).await;
    let key = fleet.store.fleet_key(&FleetKey::from_bytes([0; 32])).await.unwrap();
    let guess = Token::new(&key, signed_in.session.id(), [1; 12], [2; 16]).expose();
    for _ in 0..2 {
        let verdict = node.sessions().validate(guess.as_bytes(), Access::default()).await.unwrap();
        assert!(matches!(verdict, Verdict::Refused(Refusal::Unknown)), "{verdict:?}");
        assert!(matches!(refusal(node, &signed_in).await, Refusal::Ended(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_history_is_kept_for_as_long_as_the_options_say() {
    let day = Duration::from_secs(24 * 3600);
    // Simulated days are long; slow workers keep them short.
    let options = Options::default()
        .with_history(History::default().with_keep(3 * day))
        .with_propagation_bound(Duration::from_secs(600))
        .with_max_staleness(Duration::from_secs(1200))
        .with_write_back(WriteBack::default().with_flush_interval(Duration::from_secs(60)));
    let fleet = Fleet::start(options).await;
    let sessions = fleet.nodes[0].sessions();
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    revoke(&fleet.nodes[0], &signed_in).await;
    let query = HistoryQuery::user(user("alice"));
    tokio::time::sleep(3 * day - Duration::from_secs(60)).await;
    assert_eq!(sessions.history(&query).await.unwrap().sessions.len(), 1);
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    assert_eq!(sessions.history(&query).await.unwrap().sessions.len(), 0);
    let off = Options::default().with_history(History::default().with_keep(Duration::ZERO));
    let fleet = Fleet::start(off).await;
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    revoke(&fleet.nodes[0], &signed_in).await;
    assert!(fleet.store.ended(signed_in.session.id()).await.unwrap().is_none());
    assert_eq!(refusal(&fleet.nodes[0], &signed_in).await, Refusal::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_user_can_be_exported_and_erased() {
    let fleet = Fleet::start(Options::default()).await;
    let sessions = fleet.nodes[0].sessions();
    let [first, other] =
        [sign_in(&fleet.nodes[0], "alice").await, sign_in(&fleet.nodes[0], "bob").await];
    revoke(&fleet.nodes[0], &first).await;
    let live = sign_in(&fleet.nodes[0], "alice").await;
    let scope = PolicyScope::User(user("alice"));
    sessions.set_policy(scope, Some(Policy::default()), Actor::Application).await.unwrap();
    let export = sessions.export_user(&user("alice")).await.unwrap();
    assert_eq!(export.sessions[0].id, live.session.id());
    assert_eq!(export.history[0].session.id, first.session.id());
    assert_eq!(export.policy, Some(Policy::default()));
    let erased = sessions.erase_user(&user("alice"), Actor::Application).await.unwrap();
    assert_eq!((erased.sessions, erased.history), (1, 2));
    let export = sessions.export_user(&user("alice")).await.unwrap();
    assert!(export.sessions.is_empty() && export.history.is_empty() && export.policy.is_none());
    assert!(!is_active(&fleet.nodes[0], &live).await);
    assert!(is_active(&fleet.nodes[1], &other).await);
}

/// Or the user could come back.
#[tokio::test(start_paused = true)]
async fn a_block_outlives_what_is_kept_of_its_user() {
    let fleet = Fleet::start(Options::default()).await;
    let sessions = fleet.nodes[0].sessions();
    let (owner, by) = (of_north("alice"), Actor::Application);
    let scope = PolicyScope::User(owner.clone());
    let block = NewBlock::default().with_reason(Some("fraud".parse().unwrap()));
    sessions.block(scope.clone(), block, by.clone()).await.unwrap();
    sessions.erase_user(&owner, by.clone()).await.unwrap();
    assert!(sessions.export_user(&owner).await.unwrap().block.is_some());
    for node in [0, 1] {
        assert_eq!(blocked(&fleet, node, owner.clone()).await, Some(scope.clone()));
    }
    sessions.unblock(scope, by).await.unwrap();
    assert_eq!(blocked(&fleet, 1, owner).await, None);
}

#[tokio::test(start_paused = true)]
async fn addresses_are_kept_as_far_as_the_options_say() {
    let (home, away) = ("192.0.2.77".parse().unwrap(), "2001:db8:1:2::9".parse().unwrap());
    for (keep, expected) in [
        (Addresses::Whole, vec!["192.0.2.77", "2001:db8:1:2::9"]),
        (Addresses::Prefix, vec!["192.0.2.0", "2001:db8:1::"]),
        (Addresses::None, vec![]),
    ] {
        let fleet = Fleet::start(Options::default().with_addresses(keep)).await;
        let request = SignIn::new(user("alice")).with_ip(Some(home));
        let signed_in = fleet.nodes[0].sessions().sign_in(request).await.unwrap();
        let (token, access) = (signed_in.token.expose(), Access::from_ip(Some(away)));
        fleet.nodes[0].sessions().validate(token.as_bytes(), access).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let stored = fleet.store.load(signed_in.session.id()).await.unwrap().unwrap().session;
        let stored: Vec<_> = stored.ip_addresses.iter().map(ToString::to_string).collect();
        assert_eq!(stored, expected);
    }
}

fn of_north(name: &str) -> UserKey {
    UserKey::in_tenant(TenantId::new("north").unwrap(), name.parse().unwrap())
}

/// A user who sees a strange address in the list and signs that device out finds it in the history.
#[tokio::test(start_paused = true)]
async fn the_history_has_what_the_node_that_ends_has_seen() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let strange = "203.0.113.77".parse().unwrap();
    for way in 0..3 {
        let signed_in = sign_in(node, "alice").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let token = signed_in.token.expose();
        let access = Access::from_ip(Some(strange));
        let session = node.sessions().validate(token.as_bytes(), access).await.unwrap();
        let Verdict::Active(session) = session else { panic!("{session:?}") };
        let seen = session.last_accessed();
        match way {
            0 => node.sessions().sign_out(&session).await.unwrap(),
            1 => revoke(node, &signed_in).await,
            _ => drop(node.sessions().revoke_user(user("alice"), Actor::System).await.unwrap()),
        }
        let page = node.sessions().history(&HistoryQuery::user(user("alice"))).await.unwrap();
        let ended = page.sessions.iter().map(|ended| &ended.session);
        let ended = ended.filter(|ended| ended.id == signed_in.session.id()).collect::<Vec<_>>();
        let [ended] = ended.as_slice() else { panic!("{ended:?}") };
        assert_eq!((&ended.ip_addresses[..], ended.last_accessed), (&[strange][..], seen));
        assert!(ended.claimed);
    }
    // Where the use cannot be written back, the session ends all the same.
    let signed_in = sign_in(node, "alice").await;
    assert!(is_active(node, &signed_in).await);
    fleet.probes[0].fail("touch", true);
    revoke(node, &signed_in).await;
    assert!(!is_active(node, &signed_in).await);
}

async fn blocked(fleet: &Fleet, node: usize, owner: UserKey) -> Option<PolicyScope> {
    match fleet.nodes[node].sessions().sign_in(SignIn::new(owner)).await {
        Ok(_) => None,
        Err(Error::Blocked(blocked)) => {
            assert_eq!(blocked.reason.as_ref().unwrap().as_str(), "fraud");
            Some(blocked.scope)
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_ends_sessions_and_refuses_sign_ins_until_it_is_lifted_or_over() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let north = PolicyScope::Tenant("north".parse().unwrap());
    for (scope, owner, untouched) in [
        (PolicyScope::User(of_north("alice")), of_north("alice"), of_north("bob")),
        (north, of_north("bob"), user("bob")),
        (PolicyScope::Deployment, user("carol"), user("nobody")),
    ] {
        let begun = here.sessions().sign_in(SignIn::new(owner.clone())).await.unwrap();
        let stays = here.sessions().sign_in(SignIn::new(untouched.clone())).await.unwrap();
        let new = NewBlock::default().with_reason(Some("fraud".parse().unwrap()));
        let until = here.sessions().now().plus(Duration::from_secs(600));
        let by = Actor::Application;
        let ended = here.sessions().block(scope.clone(), new.clone(), by.clone()).await.unwrap();
        assert!(ended >= 1);
        assert_eq!(refusal(here, &begun).await.end_cause(), Some(EndCause::Blocked));
        assert_eq!(blocked(&fleet, 1, owner.clone()).await, Some(scope.clone()));
        if scope != PolicyScope::Deployment {
            assert!(is_active(here, &stays).await);
            assert_eq!(blocked(&fleet, 1, untouched).await, None);
        }
        there.sessions().unblock(scope.clone(), by.clone()).await.unwrap();
        assert_eq!(blocked(&fleet, 0, owner.clone()).await, None);
        let new = new.with_until(until);
        there.sessions().block(scope.clone(), new, by).await.unwrap();
        let set: Option<Block> = here.sessions().block_at(&scope).await.unwrap();
        assert_eq!(set.unwrap().until, Some(until));
        assert_eq!(blocked(&fleet, 0, owner.clone()).await, Some(scope.clone()));
        tokio::time::sleep(Duration::from_secs(601)).await;
        assert_eq!(blocked(&fleet, 0, owner).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_that_is_over_already_is_refused_and_ends_nothing() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    let block = NewBlock::default().with_until(node.sessions().now());
    let outcome = node.sessions().block(PolicyScope::Deployment, block, Actor::System).await;
    assert!(matches!(outcome, Err(Error::Invalid(invalid)) if invalid.field == "until"));
    assert!(is_active(node, &signed_in).await);
}

/// Sign-ins that are under way when the block is set.
#[tokio::test(start_paused = true)]
async fn no_sign_in_beside_a_block_survives_it() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    for call in ["user", "commit"] {
        let gate = fleet.probes[0].hold(call);
        let (signed_in, ()) = tokio::join!(here.sessions().sign_in(on("Firefox")), async {
            gate.reached().await;
            let scope = PolicyScope::Deployment;
            there.sessions().block(scope, NewBlock::default(), Actor::System).await.unwrap();
            gate.open();
        });
        tokio::time::sleep(Options::default().propagation_bound).await;
        if let Ok(signed_in) = signed_in {
            assert!(!is_active(here, &signed_in).await && !is_active(there, &signed_in).await);
        }
        assert!(fleet.store.user(&user("alice")).await.unwrap().sessions.is_empty());
        there.sessions().unblock(PolicyScope::Deployment, Actor::System).await.unwrap();
    }
}

/// Two nodes count at the same time.
#[tokio::test(start_paused = true)]
async fn no_update_of_data_is_lost() {
    let fleet = Fleet::start(Options::default()).await;
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    let id = signed_in.session.id();
    // Between what one reads and what it writes, others come.
    fleet.probes.iter().for_each(|probe| probe.slow("commit", Duration::from_millis(1)));
    let mut running = tokio::task::JoinSet::new();
    for n in 0..20 {
        let manager = fleet.nodes[n % 2].sessions().clone();
        running.spawn(async move {
            let count = |data: Option<&ExtraData>| {
                let count = data.map_or(0, |data| data.to_value().as_u64().unwrap());
                Ok(Some(ExtraData::new(&(count + 1).into())?))
            };
            manager.update_data(id, Actor::Application, count).await.unwrap().unwrap();
        });
    }
    running.join_all().await;
    for node in &fleet.nodes {
        let session = session(node, &signed_in).await;
        assert_eq!(session.data_as::<u64>().unwrap(), Some(20));
    }
}

async fn session(
    node: &session_engine::Engine,
    signed_in: &SignedIn,
) -> session_engine::ActiveSession {
    crate::probe::verdict(node, signed_in).await.session().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_device_can_be_named_by_its_user_alone() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = here.sessions().sign_in(on("Safari on iOS")).await.unwrap();
    assert!(is_active(there, &signed_in).await);
    let mut events = there.sessions().events();
    let (id, name) = (signed_in.session.id(), Some("Kitchen".parse().unwrap()));
    let by = Actor::Application;
    let bob =
        here.sessions().name_device(id, &user("bob"), name.clone(), by.clone()).await.unwrap();
    assert_eq!(bob, None);
    here.sessions().name_device(id, &user("alice"), name.clone(), by).await.unwrap().unwrap();
    told(&mut events, "changed").await;
    for node in [here, there] {
        assert_eq!(session(node, &signed_in).await.device_name(), name.as_ref());
    }
    let other = session(there, &sign_in(here, "alice").await).await;
    there.sessions().revoke_others(&other).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(refusal(here, &signed_in).await.end_cause(), Some(EndCause::Revoked));
}

#[tokio::test(start_paused = true)]
async fn an_impersonated_session_says_who_acts() {
    let root = UserKey::in_tenant(TenantId::new("south").unwrap(), user("alice").user);
    let fleet = Fleet::start(Options::default()).await;
    let mut events = fleet.nodes[1].sessions().events();
    let request = on("Firefox").with_impersonator(root.clone());
    let signed_in = fleet.nodes[0].sessions().sign_in(request).await.unwrap();
    let session_engine::Notice::Event(created) = told(&mut events, "created").await else {
        panic!("nothing was missed");
    };
    let by = Actor::User(root.clone());
    assert_eq!((created.by, created.user), (by.clone(), Some("alice".parse().unwrap())));
    let session = session(&fleet.nodes[1], &signed_in).await;
    assert_eq!((session.impersonator(), session.actor()), (Some(&root), by.clone()));
    fleet.nodes[1].sessions().sign_out(&session).await.unwrap();
    let query = HistoryQuery::within(TenantFilter::Any);
    assert_eq!(fleet.nodes[0].sessions().history(&query).await.unwrap().sessions[0].by, by);
}

/// A node of tomorrow has written fields into the record that this one does not know.
#[tokio::test(start_paused = true)]
async fn what_a_newer_node_has_written_outlives_the_changes_of_an_older_one() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    let id = signed_in.session.id();
    let mut newer = fleet.store.load(id).await.unwrap().unwrap().session;
    newer.unknown.insert("risk".to_owned(), serde_json::json!({ "score": 7 }));
    let kind = session_core::EventKind::Changed;
    let change = session_core::store::Change::Update { session: Box::new(newer.clone()), kind };
    let done = session_conformance::sample::commit(&fleet.store, &newer.owner, vec![change]).await;
    assert_eq!(done, session_core::store::Outcome::Done);
    let name = Some("Kitchen".parse().unwrap());
    let owner = user("alice");
    node.sessions().name_device(id, &owner, name, Actor::Application).await.unwrap().unwrap();
    let token = signed_in.token.expose();
    let reason = session_engine::RotateReason::Renewal;
    let rotated = node.sessions().rotate(token.as_bytes(), reason).await.unwrap();
    let session_engine::Rotation::Rotated { token, .. } = rotated else { panic!("{rotated:?}") };
    let token = token.expose();
    let verdict = node.sessions().validate(token.as_bytes(), Access::default()).await.unwrap();
    assert!(matches!(verdict, Verdict::Active(_)));
    let stored = fleet.store.load(id).await.unwrap().unwrap().session;
    assert!(stored.token.retired.is_some() && stored.device_name.is_some());
    assert_eq!(stored.unknown, newer.unknown);
    revoke(node, &signed_in).await;
    let ended = fleet.store.ended(id).await.unwrap().unwrap();
    assert_eq!(ended.session.unknown, newer.unknown);
}

#[tokio::test(start_paused = true)]
async fn a_session_with_an_entry_of_a_newer_version_is_read_again() {
    let fleet = Fleet::start(Options::default()).await;
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    for node in &fleet.nodes {
        assert_eq!(session(node, &signed_in).await.data_as::<u64>().unwrap(), None);
    }
    let stored = fleet.store.load(signed_in.session.id()).await.unwrap().unwrap().session;
    let owner = stored.owner.clone();
    let changed = Session { data: Some(ExtraData::new(&7.into()).unwrap()), ..stored };
    let kind = session_core::EventKind::Unknown;
    let change = session_core::store::Change::Update { session: Box::new(changed), kind };
    let done = session_conformance::sample::commit(&fleet.store, &owner, vec![change]).await;
    assert_eq!(done, session_core::store::Outcome::Done);
    tokio::time::sleep(Options::default().propagation_bound).await;
    for node in &fleet.nodes {
        assert_eq!(session(node, &signed_in).await.data_as::<u64>().unwrap(), Some(7));
    }
}

/// The commit has happened, its answer is lost, and the user is blocked before the next try. The walk that
/// ends sessions has passed.
#[tokio::test(start_paused = true)]
async fn a_sign_in_whose_answer_was_lost_does_not_outlive_a_block() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let mut events = there.sessions().events();
    fleet.probes[0].lose_answers(true);
    let gate = fleet.probes[0].hold("commit");
    let (outcome, ()) = tokio::join!(here.sessions().sign_in(on("Firefox")), async {
        gate.reached().await;
        let block =
            Block { reason: None, until: None, since: there.sessions().now(), by: Actor::System };
        let (scope, at, by) = (PolicyScope::Deployment, block.since, Actor::System);
        let change = session_core::store::BlockChange { scope, block: Some(block), at, by };
        fleet.store.set_block(&change).await.unwrap();
        gate.open();
    });
    assert!(matches!(outcome, Err(Error::Blocked(_))), "{outcome:?}");
    told(&mut events, "revoked").await;
    assert!(fleet.store.user(&user("alice")).await.unwrap().sessions.is_empty());
}

/// A node that has never heard of the session reads from the history how it ended.
#[tokio::test(start_paused = true)]
async fn a_node_that_comes_later_tells_why_a_session_ended() {
    let fleet = Fleet::start(Options::default()).await;
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    revoke(&fleet.nodes[0], &signed_in).await;
    let late = engine(fleet.store.clone(), Options::default()).await;
    let Refusal::Ended(ending) = refusal(&late, &signed_in).await else { panic!("it has ended") };
    assert_eq!((ending.id, ending.cause), (signed_in.session.id(), EndCause::Revoked));
    assert_eq!(ending.by, Actor::Application);
}

/// What is past its deadline and has not been cleaned up yet is kept, so it is exported.
#[tokio::test(start_paused = true)]
async fn an_export_holds_what_waits_for_the_cleanup() {
    let options = Options::default()
        .with_timeouts(Timeouts::default().with_idle(Duration::from_secs(60)))
        .with_cleanup(Cleanup::default().with_enabled(false));
    let fleet = Fleet::start(options).await;
    let manager = fleet.nodes[0].sessions();
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let live = manager.query(TenantFilter::Any);
    assert_eq!(manager.list(&live).await.unwrap().sessions, []);
    let export = manager.export_user(&user("alice")).await.unwrap();
    let kept: Vec<_> = export.sessions.iter().map(|session| session.id).collect();
    assert_eq!(kept, [signed_in.session.id()]);
}

/// More than one call of the store forgets.
#[tokio::test(start_paused = true)]
async fn a_long_history_is_erased_whole() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let many = u64::from(EndedBatch::MAX_LIMIT) + 1;
    for n in 1..=many {
        let signed_in = sign_in(node, "alice").await;
        if n.is_multiple_of(50) {
            revoke(node, &signed_in).await;
        }
    }
    let erased = node.sessions().erase_user(&user("alice"), Actor::Application).await.unwrap();
    assert_eq!((erased.sessions, erased.history), (many % 50, many));
}

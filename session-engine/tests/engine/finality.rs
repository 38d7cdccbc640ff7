//! Revocation is final (G2) and fast (G3).

use std::collections::HashSet;
use std::time::Duration;

use session_core::policy::PolicyScope;
use session_core::store::{Selection, TenantFilter};
use session_core::{Actor, EndCause, FleetKey, SessionId, Store, Token};
use session_engine::{Access, Check, NewBlock, Notice, Options, Refusal, SignIn, Verdict};
use tokio::time::Instant;

use crate::probe::{
    Fleet, Probe, engine, is_active, refusal, revoke, sign_in, store, told, user, verdict,
};

fn end_cause(verdict: &Verdict) -> Option<EndCause> {
    match verdict {
        Verdict::Refused(refusal) => refusal.end_cause(),
        Verdict::Active(_) => None,
    }
}

/// The node reads again what the revocation may have ended, by user as by id.
#[tokio::test(start_paused = true)]
async fn a_revocation_whose_answer_is_lost_holds_on_its_node_at_once() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    for by_id in [false, true] {
        let signed_in = sign_in(node, "alice").await;
        assert!(is_active(node, &signed_in).await);
        let all = Selection::user(user("alice"));
        let selection = if by_id { all.among([signed_in.session.id()]) } else { all };
        fleet.probes[0].lose_answers_of("end_many", true);
        let revoked = node.sessions().revoke_selected(selection, Actor::Application).await;
        assert!(revoked.unwrap_err().is_unavailable());
        fleet.probes[0].lose_answers_of("end_many", false);
        assert!(!is_active(node, &signed_in).await, "by id: {by_id}");
    }
}

/// The load reads the living session; before its answer arrives, the log tells of its end.
#[tokio::test(start_paused = true)]
async fn a_fill_that_was_under_way_is_never_installed() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    let mut events = there.sessions().events();
    let gate = fleet.probes[1].hold("load");
    let (found, ()) = tokio::join!(verdict(there, &signed_in), async {
        gate.reached().await;
        revoke(here, &signed_in).await;
        told(&mut events, "revoked").await;
        gate.open();
    });
    assert_eq!(end_cause(&found), Some(EndCause::Revoked), "{found:?}");
    let before = fleet.probes[1].total();
    let token = signed_in.token.expose();
    let again = there.sessions().check(token.as_bytes(), Access::default());
    assert!(matches!(again, Check::Answered(Verdict::Refused(Refusal::Ended(_)))));
    assert_eq!(fleet.probes[1].total(), before);
}

/// The same, where the very node that loads is told to revoke.
#[tokio::test(start_paused = true)]
async fn a_fill_loses_against_its_own_node_too() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    let gate = fleet.probes[1].hold("load");
    let (found, ()) = tokio::join!(verdict(there, &signed_in), async {
        gate.reached().await;
        revoke(there, &signed_in).await;
        gate.open();
    });
    assert!(matches!(found, Verdict::Refused(_)), "{found:?}");
}

/// It is told to end what another node has just ended, of which it has not read.
#[tokio::test(start_paused = true)]
async fn a_node_refuses_what_it_was_told_to_end_and_another_one_has_ended() {
    for way in 0..4 {
        let fleet = Fleet::start(Options::default().with_push(false)).await;
        let [here, there] = &fleet.nodes;
        let signed_in = sign_in(here, "alice").await;
        assert!(is_active(there, &signed_in).await);
        revoke(here, &signed_in).await;
        let (id, owner, manager) = (signed_in.session.id(), user("alice"), there.sessions());
        let by = Actor::Application;
        let ended = match way {
            0 => u64::from(manager.revoke(id, &owner, by).await.unwrap()),
            1 => manager.revoke_user(owner, by).await.unwrap(),
            2 => {
                let all = Selection::within(TenantFilter::Any);
                manager.revoke_selected(all, by).await.unwrap()
            }
            _ => {
                let scope = PolicyScope::User(owner);
                manager.block(scope, NewBlock::default(), by).await.unwrap()
            }
        };
        let found = verdict(there, &signed_in).await;
        assert_eq!((ended, end_cause(&found)), (0, Some(EndCause::Revoked)), "{way}: {found:?}");
    }
}

/// A record that changes while it is read is read again, not cached as it was.
#[tokio::test(start_paused = true)]
async fn a_fill_that_met_a_change_reads_again() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    let mut events = there.sessions().events();
    let gate = fleet.probes[1].hold("load");
    let token = signed_in.token.expose();
    let rotate = async {
        gate.reached().await;
        let reason = session_engine::RotateReason::reauthenticated();
        here.sessions().rotate(token.as_bytes(), reason).await.unwrap();
        told(&mut events, "rotated").await;
        gate.open();
    };
    let (found, ()) = tokio::join!(verdict(there, &signed_in), rotate);
    let Verdict::Active(session) = found else { panic!("its successor was not used: {found:?}") };
    assert!(
        !session.to_session().token.step_ups.is_empty(),
        "the record as it was before the rotation"
    );
    assert_eq!(fleet.probes[1].calls()["load"], 2);
}

/// The sign-in's own commit has happened; before it installs, another node ends the session.
#[tokio::test(start_paused = true)]
async fn a_sign_in_that_is_ended_at_once_is_never_installed() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let mut events = here.sessions().events();
    let gate = fleet.probes[0].hold("commit");
    let (signed_in, ()) = tokio::join!(sign_in(here, "alice"), async {
        gate.reached().await;
        there.sessions().revoke_user(user("alice"), session_core::Actor::System).await.unwrap();
        told(&mut events, "revoked").await;
        gate.open();
    });
    assert_eq!(refusal(here, &signed_in).await.end_cause(), Some(EndCause::Revoked));
}

#[tokio::test(start_paused = true)]
async fn every_node_refuses_within_the_bound_without_any_push() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    for _ in 0..20 {
        let signed_in = sign_in(here, "alice").await;
        assert!(is_active(there, &signed_in).await);
        revoke(here, &signed_in).await;
        assert!(!is_active(here, &signed_in).await, "the node itself refuses at once");
        let revoked = Instant::now();
        while is_active(there, &signed_in).await {
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let bound = Options::default().propagation_bound;
        assert!(revoked.elapsed() <= bound, "{:?}", revoked.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_makes_it_immediate() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    fleet.probes[1].push();
    // The follower takes the push up with its next round.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let signed_in = sign_in(here, "alice").await;
    assert!(is_active(there, &signed_in).await);
    let begun = Instant::now();
    let mut events = there.sessions().events();
    revoke(here, &signed_in).await;
    told(&mut events, "revoked").await;
    assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    assert!(!is_active(there, &signed_in).await);
}

/// Pushes that are switched off speed nothing up; the bound holds all the same.
#[tokio::test(start_paused = true)]
async fn a_push_that_is_switched_off_is_not_followed() {
    let fleet = Fleet::start(Options::default().with_push(false)).await;
    let [here, there] = &fleet.nodes;
    fleet.probes[1].push();
    let health = there.health();
    assert!(!health.push_connected, "what is not followed is not connected");
    assert!(!health.push_expected, "nor missed");
    let mut events = there.sessions().events();
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let signed_in = sign_in(here, "alice").await;
        assert!(is_active(there, &signed_in).await);
        let begun = Instant::now();
        revoke(here, &signed_in).await;
        told(&mut events, "revoked").await;
        longest = longest.max(begun.elapsed());
    }
    assert!(longest > Duration::from_millis(100), "{longest:?}");
    assert!(longest <= Duration::from_millis(250), "{longest:?}");
}

/// Two hints at once are one reading of the log; the one that comes after it is heard as well.
#[tokio::test(start_paused = true)]
async fn a_hint_after_two_at_once_is_heard() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    assert!(is_active(there, &signed_in).await);
    let mut events = there.sessions().events();
    // The second one comes before the follower has taken up the first.
    tokio::time::sleep(Duration::from_secs(2)).await;
    fleet.probes[1].hint();
    fleet.probes[1].hint();
    let calls = || fleet.probes[1].calls().get("log_since").copied();
    let before = calls();
    while calls() == before {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    revoke(here, &signed_in).await;
    fleet.probes[1].hint();
    told(&mut events, "revoked").await;
    assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
}

/// A restored backup: the log ends before the node's cursor, and revoked sessions are back.
#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_from_the_past_is_noticed_once() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let signed_in = sign_in(&node, "alice").await;
    assert!(is_active(&node, &signed_in).await);
    // The sign-in itself has been told before the store goes back.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut events = node.sessions().events();
    let watched = node.sessions().clone();
    let id = signed_in.session.id();
    let ended = tokio::spawn(async move { watched.session_ended(id).await });
    tokio::task::yield_now().await;
    probe.replace(store());
    assert_eq!(told(&mut events, "missed").await, Notice::Missed);
    assert_eq!(refusal(&node, &signed_in).await, Refusal::Unknown);
    ended.await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let later = sign_in(&node, "bob").await;
    assert!(is_active(&node, &later).await);
    match told(&mut events, "created").await {
        Notice::Event(event) => assert_eq!(event.session, Some(later.session.id())),
        notice => panic!("{notice:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_does_not_reach_the_store() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let signed_in = sign_in(&node, "alice").await;
    let loads = || probe.calls().get("load").copied().unwrap_or(0);
    let check =
        async |token: &[u8]| node.sessions().validate(token, Access::default()).await.unwrap();
    let refused = |verdict| matches!(verdict, Verdict::Refused(_));
    let zeros = "0".repeat(Token::TEXT_LEN);
    for garbage in [&b""[..], b"x", &[0xff; 104], &[b'0'; 1000], zeros.as_bytes()] {
        assert!(refused(check(garbage).await));
    }
    assert_eq!(loads(), 0, "no node of the fleet has made them");
    let key = probe.fleet_key(&FleetKey::from_bytes([0; 32])).await.unwrap();
    let unknown = SessionId::from_random([0; 16]);
    let unknown = Token::new(&key, unknown, [0; 12], [0; 16]).expose();
    assert!(refused(check(unknown.as_bytes()).await));
    // A guess with a real id is refused from the cache.
    let mut guess = signed_in.token.expose();
    guess.replace_range(48.., &"0".repeat(56));
    assert!(refused(check(guess.as_bytes()).await));
    assert_eq!(loads(), 1, "only the unknown id");
    for _ in 0..100 {
        assert!(refused(check(unknown.as_bytes()).await));
    }
    assert_eq!(loads(), 1, "an unknown id is remembered");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(refused(check(unknown.as_bytes()).await));
    assert_eq!(loads(), 2, "but only briefly");
    assert!(is_active(&node, &signed_in).await);
}

#[tokio::test(start_paused = true)]
async fn concurrent_misses_of_one_session_load_once() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    let gate = fleet.probes[1].hold("load");
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (manager, token) = (there.sessions().clone(), signed_in.token.expose());
        running.spawn(async move { manager.validate(token.as_bytes(), Access::default()).await });
    }
    gate.reached().await;
    gate.open();
    for verdict in running.join_all().await {
        assert!(matches!(verdict.unwrap(), Verdict::Active(_)));
    }
    assert_eq!(fleet.probes[1].calls()["load"], 1);
}

/// No bit of the 96 of a family and of the 128 of a secret is always the same.
#[tokio::test(start_paused = true)]
async fn tokens_are_never_the_same() {
    const RANDOM: usize = Token::FAMILY_BYTES + Token::SECRET_BYTES;
    assert_eq!((Token::FAMILY_BYTES * 8, Token::SECRET_BYTES * 8), (96, 128));
    let fleet = Fleet::start(Options::default()).await;
    let (mut ever_one, mut ever_zero) = ([0; RANDOM], [0; RANDOM]);
    let mut tokens = HashSet::new();
    for n in 0..100 {
        let token = sign_in(&fleet.nodes[n % 2], &format!("user{n}")).await.token.expose();
        for (at, digits) in token.as_bytes()[48..].chunks(2).enumerate() {
            let byte = u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap();
            ever_one[at] |= byte;
            ever_zero[at] |= !byte;
        }
        assert!(tokens.insert(token));
    }
    assert_eq!((ever_one, ever_zero), ([0xff; RANDOM], [0xff; RANDOM]));
}

#[tokio::test(start_paused = true)]
async fn tokens_show_nowhere() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let mut events = node.sessions().events();
    let signed_in = sign_in(node, "alice").await;
    let secret = &signed_in.token.expose()[48..];
    let told = told(&mut events, "created").await;
    let digest = format!("{:?}", signed_in.session.to_session().token.current.as_bytes());
    let request = SignIn::new(user("alice"));
    let verdict = verdict(node, &signed_in).await;
    let session: session_core::Session = signed_in.session.to_session();
    for shown in [
        format!("{signed_in:?} {told:?} {verdict:?} {request:?} {session:?}"),
        format!("{:?} {:?}", node.sessions(), signed_in.token),
    ] {
        assert!(!shown.contains(secret) && !shown.contains(&digest), "{shown}");
    }
}

/// An application that knows the session id by its own means asks as with a token: it is an access, it
/// is answered from the cache, and an end is final.
#[tokio::test(start_paused = true)]
async fn a_session_is_checked_by_its_id_as_by_its_token() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    let id = signed_in.session.id();
    let mut events = there.sessions().events();
    let check = || there.sessions().check_id(id, Access::default());
    let Check::NotCached(lookup) = check() else { panic!("it is not in the cache yet") };
    assert!(matches!(lookup.resolve().await.unwrap(), Verdict::Active(_)));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let Check::Answered(Verdict::Active(session)) = check() else { panic!("now it is") };
    assert!(session.last_accessed() > signed_in.session.last_accessed(), "it is an access");
    revoke(here, &signed_in).await;
    told(&mut events, "revoked").await;
    let refused = there.sessions().validate_id(id, Access::default()).await.unwrap();
    assert_eq!(end_cause(&refused), Some(EndCause::Revoked), "{refused:?}");
}

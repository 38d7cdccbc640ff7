//! A limit locks nobody out (G19), and no session is left that nobody holds (G18).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use session_core::cleanup::Cleanup;
use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, Scope};
use session_core::store::{Commit, HistoryQuery, PageQuery, TenantFilter};
use session_core::usage::{Timeouts, WriteBack};
use session_core::{Actor, DeviceInfo, DeviceKind, EndCause, FleetKey, Session, SessionId, Store};
use session_engine::clock::Clock;
use session_engine::{Engine, Error, NewBlock, Options, SignIn, Ticket, TooManySessions};
use session_store_memory::MemoryStore;

use crate::probe::{Fleet, is_active, refusal, sign_in, told, user};

fn at_most(max: u32) -> Options {
    let limit = Limit { max, scope: Scope::User, on_exceed: OnExceed::Reject };
    Options::default().with_default_policy(Policy::limit(limit))
}

fn request() -> SignIn {
    SignIn::new(user("alice")).with_device_info(DeviceInfo::truncated("Firefox on Linux"))
}

async fn refused(fleet: &Fleet, node: usize) -> TooManySessions {
    match fleet.nodes[node].sessions().sign_in(request()).await {
        Err(Error::TooManySessions(refused)) => *refused,
        outcome => panic!("{outcome:?}"),
    }
}

/// Makes a session one whose token has been presented.
async fn claimed(fleet: &Fleet, name: &str) -> session_engine::SignedIn {
    let signed_in = sign_in(&fleet.nodes[0], name).await;
    assert!(is_active(&fleet.nodes[0], &signed_in).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    signed_in
}

async fn live(fleet: &Fleet) -> Vec<Session> {
    let sessions = fleet.nodes[0].sessions();
    sessions.list(&sessions.query(TenantFilter::Any)).await.unwrap().sessions
}

#[tokio::test(start_paused = true)]
async fn a_ticket_ends_one_session_and_begins_another_in_one_step_once() {
    let fleet = Fleet::start(at_most(2)).await;
    let [here, there] = &fleet.nodes;
    let old = [claimed(&fleet, "alice").await, claimed(&fleet, "alice").await];
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let TooManySessions { sessions, ticket, limit, .. } = refused(&fleet, 0).await;
    assert_eq!((sessions.len(), limit.max), (2, 2));
    let end = old[0].session.id();
    let manager = there.sessions();
    let commits = fleet.probes[1].calls().get("commit").copied().unwrap_or(0);
    let new = manager.sign_in_with_ticket(ticket.expose(), end).await.unwrap();
    assert_eq!(fleet.probes[1].calls()["commit"], commits + 1);
    assert_eq!(new.ended, [(end, EndCause::Revoked)]);
    assert!(is_active(here, &new).await && is_active(here, &old[1]).await);
    assert_eq!(refusal(there, &old[0]).await.end_cause(), Some(EndCause::Revoked));
    assert_eq!(new.session.device_info(), Some(&DeviceInfo::new("Firefox on Linux").unwrap()));
    for node in [here, there] {
        let again = node.sessions().sign_in_with_ticket(ticket.expose(), old[1].session.id()).await;
        assert!(matches!(again, Err(Error::InvalidTicket)), "{again:?}");
    }
    // Also when its session has ended.
    manager.sign_out(&new.session).await.unwrap();
    let again = manager.sign_in_with_ticket(ticket.expose(), old[1].session.id()).await;
    assert!(matches!(again, Err(Error::InvalidTicket)), "{again:?}");
    assert_eq!(live(&fleet).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_many_uses_of_a_ticket_at_once_one_wins() {
    let fleet = Fleet::start(at_most(1)).await;
    let old = claimed(&fleet, "alice").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let ticket = refused(&fleet, 0).await.ticket;
    let mut running = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (manager, ticket) = (fleet.nodes[n % 2].sessions().clone(), ticket.clone());
        let end = old.session.id();
        running.spawn(async move { manager.sign_in_with_ticket(ticket.expose(), end).await });
    }
    let outcomes = running.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let lost = |outcome: &Result<_, Error>| matches!(outcome, Err(Error::InvalidTicket) | Ok(_));
    assert!(outcomes.iter().all(lost), "{outcomes:?}");
    assert_eq!(live(&fleet).await.len(), 1);
}

/// The limit is reached again by the time that the ticket is used.
#[tokio::test(start_paused = true)]
async fn a_ticket_does_not_lift_the_limit() {
    let fleet = Fleet::start(at_most(1)).await;
    let old = claimed(&fleet, "alice").await;
    let other = SessionId::from_bytes([7; 16]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let ticket = refused(&fleet, 0).await.ticket;
    let manager = fleet.nodes[0].sessions();
    let Err(Error::TooManySessions(again)) =
        manager.sign_in_with_ticket(ticket.expose(), other).await
    else {
        panic!("nothing has ended");
    };
    let new = manager.sign_in_with_ticket(again.ticket.expose(), old.session.id()).await.unwrap();
    assert_eq!(live(&fleet).await[0].id, new.session.id());
    // It was the same ticket.
    let first = manager.sign_in_with_ticket(ticket.expose(), new.session.id()).await;
    assert!(matches!(first, Err(Error::InvalidTicket)), "{first:?}");
}

/// A ticket that is refused is given back with the time that it had.
#[tokio::test(start_paused = true)]
async fn a_ticket_is_not_prolonged_by_its_use() {
    let fleet = Fleet::start(at_most(1)).await;
    let old = claimed(&fleet, "alice").await;
    let other = SessionId::from_bytes([7; 16]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let mut ticket = refused(&fleet, 0).await.ticket;
    let manager = fleet.nodes[0].sessions();
    for _ in 0..4 {
        tokio::time::sleep(Ticket::VALID_FOR / 5).await;
        let outcome = manager.sign_in_with_ticket(ticket.expose(), other).await;
        let Err(Error::TooManySessions(again)) = outcome else { panic!("{outcome:?}") };
        ticket = again.ticket;
    }
    tokio::time::sleep(Ticket::VALID_FOR / 5).await;
    let late = manager.sign_in_with_ticket(ticket.expose(), old.session.id()).await;
    assert!(matches!(late, Err(Error::InvalidTicket)), "{late:?}");
}

/// As after a change of the password: the sessions that refused the sign-in have all ended.
#[tokio::test(start_paused = true)]
async fn a_ticket_ends_with_the_sessions_that_refused_it() {
    let fleet = Fleet::start(at_most(2)).await;
    let [here, there] = &fleet.nodes;
    let old = [claimed(&fleet, "alice").await, claimed(&fleet, "alice").await];
    let ticket = refused(&fleet, 0).await.ticket;
    there.sessions().revoke_user(user("alice"), Actor::Application).await.unwrap();
    let end = old[0].session.id();
    let is_refused = async |node: &Engine, end| {
        let outcome = node.sessions().sign_in_with_ticket(ticket.expose(), end).await;
        matches!(outcome, Err(Error::InvalidTicket))
    };
    assert!(is_refused(here, end).await && is_refused(there, end).await);
    let new = [claimed(&fleet, "alice").await, claimed(&fleet, "alice").await];
    let end = new[0].session.id();
    assert!(is_refused(here, end).await && is_refused(there, end).await);
    assert!(is_active(here, &new[0]).await && is_active(here, &new[1]).await);
    // One that they refuse is good.
    let ticket = refused(&fleet, 0).await.ticket;
    assert!(there.sessions().sign_in_with_ticket(ticket.expose(), end).await.is_ok());
}

/// Another session stands all the same: the limit does not count it.
#[tokio::test(start_paused = true)]
async fn a_ticket_ends_with_the_sessions_that_its_limit_counts() {
    let limit = Limit { max: 1, scope: Scope::DeviceKind, on_exceed: OnExceed::Reject };
    let options = Options::default().with_default_policy(Policy::limit(limit));
    let fleet = Fleet::start(options).await;
    let [here, there] = &fleet.nodes;
    let web = claimed(&fleet, "alice").await;
    let mobile = request().with_device_kind(DeviceKind::Mobile);
    let old = there.sessions().sign_in(mobile.clone()).await.unwrap();
    assert!(is_active(there, &old).await);
    let outcome = here.sessions().sign_in(mobile).await;
    let Err(Error::TooManySessions(refused)) = outcome else { panic!("{outcome:?}") };
    there.sessions().sign_out(&old.session).await.unwrap();
    let ticket = refused.ticket.expose();
    let late = here.sessions().sign_in_with_ticket(ticket, web.session.id()).await;
    assert!(matches!(late, Err(Error::InvalidTicket)), "{late:?}");
    assert!(is_active(here, &web).await);
}

/// So many that they do not end in one commit with the new one's beginning.
#[tokio::test(start_paused = true)]
async fn a_ticket_is_good_to_the_end_of_its_own_sign_in() {
    let idle = Timeouts::none().with_idle(Duration::from_secs(60));
    let cleanup = Cleanup::default().with_enabled(false);
    let fleet = Fleet::start(at_most(1).with_timeouts(idle).with_cleanup(cleanup)).await;
    let node = fleet.nodes[0].sessions();
    let scope = || PolicyScope::User(user("alice"));
    node.set_policy(scope(), Some(Policy::default()), Actor::Application).await.unwrap();
    for _ in 1..Commit::MAX_CHANGES {
        claimed(&fleet, "alice").await;
    }
    let old = claimed(&fleet, "alice").await;
    node.set_policy(scope(), None, Actor::Application).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(is_active(&fleet.nodes[0], &old).await);
    }
    let many = fleet.store.user(&user("alice")).await.unwrap().sessions.len();
    assert_eq!(many, Commit::MAX_CHANGES, "the others are past their timeout, and still there");
    let ticket = refused(&fleet, 0).await.ticket;
    let new = node.sign_in_with_ticket(ticket.expose(), old.session.id()).await.unwrap();
    assert_eq!(live(&fleet).await.len(), 1);
    assert!(is_active(&fleet.nodes[1], &new).await);
}

/// The chosen session has ended by itself; another one still stands.
#[tokio::test(start_paused = true)]
async fn a_session_that_has_ended_needs_no_ending() {
    let fleet = Fleet::start(at_most(2)).await;
    let [here, there] = &fleet.nodes;
    let old = [claimed(&fleet, "alice").await, claimed(&fleet, "alice").await];
    let ticket = refused(&fleet, 0).await.ticket;
    there.sessions().sign_out(&old[0].session).await.unwrap();
    let end = old[0].session.id();
    let new = here.sessions().sign_in_with_ticket(ticket.expose(), end).await.unwrap();
    assert_eq!(new.ended, []);
    assert!(is_active(here, &new).await && is_active(here, &old[1]).await);
}

/// The history is what tells that a ticket's session was there; an erasure removes it.
#[tokio::test(start_paused = true)]
async fn a_ticket_does_not_work_again_once_its_user_is_erased() {
    let fleet = Fleet::start(at_most(1)).await;
    let old = claimed(&fleet, "alice").await;
    let ticket = refused(&fleet, 0).await.ticket;
    let (node, end) = (fleet.nodes[0].sessions(), old.session.id());
    let new = node.sign_in_with_ticket(ticket.expose(), end).await.unwrap();
    node.erase_user(&user("alice"), Actor::Application).await.unwrap();
    // It has heard of none of it.
    let late = crate::probe::engine(fleet.store.clone(), at_most(1)).await;
    for end in [end, new.session.id()] {
        let again = late.sessions().sign_in_with_ticket(ticket.expose(), end).await;
        assert!(matches!(again, Err(Error::InvalidTicket)), "{again:?}");
    }
    assert_eq!(live(&fleet).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_signs_in_no_user_who_is_blocked() {
    let fleet = Fleet::start(at_most(1)).await;
    let [here, there] = &fleet.nodes;
    let old = claimed(&fleet, "alice").await;
    let ticket = refused(&fleet, 0).await.ticket;
    let scope = PolicyScope::User(user("alice"));
    let until = here.sessions().now().plus(Duration::from_secs(60));
    let block = NewBlock::default().with_until(until);
    here.sessions().block(scope.clone(), block, Actor::Application).await.unwrap();
    let end = old.session.id();
    for node in [here, there] {
        let outcome = node.sessions().sign_in_with_ticket(ticket.expose(), end).await;
        assert!(matches!(&outcome, Err(Error::Blocked(by)) if by.scope == scope), "{outcome:?}");
    }
    assert_eq!(live(&fleet).await, []);
    // Nor when the block is over: it has ended the sessions that refused the sign-in.
    tokio::time::sleep(Duration::from_secs(61)).await;
    let outcome = there.sessions().sign_in_with_ticket(ticket.expose(), end).await;
    assert!(matches!(outcome, Err(Error::InvalidTicket)), "{outcome:?}");
    assert!(there.sessions().sign_in(request()).await.is_ok());
}

/// What has begun since a ticket was issued does not keep it good, also where the ticket is refused and
/// comes back.
#[tokio::test(start_paused = true)]
async fn a_ticket_that_comes_back_depends_on_the_same_sessions() {
    let fleet = Fleet::start(at_most(2)).await;
    let (node, stranger) = (fleet.nodes[0].sessions(), SessionId::from_bytes([7; 16]));
    let old = [claimed(&fleet, "alice").await, claimed(&fleet, "alice").await];
    let ticket = refused(&fleet, 0).await.ticket;
    node.sign_out(&old[0].session).await.unwrap();
    let new = claimed(&fleet, "alice").await;
    let outcome = node.sign_in_with_ticket(ticket.expose(), stranger).await;
    let Err(Error::TooManySessions(again)) = outcome else { panic!("{outcome:?}") };
    node.sign_out(&old[1].session).await.unwrap();
    let outcome = node.sign_in_with_ticket(again.ticket.expose(), new.session.id()).await;
    assert!(matches!(outcome, Err(Error::InvalidTicket)), "{outcome:?}");
}

/// The key of the fleet is in the store: whoever has a copy of it can encrypt what looks like a ticket.
#[tokio::test(start_paused = true)]
async fn a_stolen_copy_of_the_store_makes_no_tickets() {
    let fleet = Fleet::start(at_most(1)).await;
    claimed(&fleet, "alice").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    // Another fleet with the same key, as the thief would run on the copy.
    let key = fleet.store.fleet_key(&FleetKey::from_bytes([0; 32])).await.unwrap();
    let copied = MemoryStore::with_clock({
        let clock = crate::probe::clock();
        move || clock.now()
    });
    assert_eq!(copied.fleet_key(&key).await.unwrap(), key);
    let thief = crate::probe::engine(copied, at_most(1)).await;
    let begun = thief.sessions().sign_in(request()).await.unwrap();
    assert!(is_active(&thief, &begun).await);
    let Err(Error::TooManySessions(made)) = thief.sessions().sign_in(request()).await else {
        panic!("the limit is reached");
    };
    let sessions = fleet.nodes[0].sessions();
    let outcome = sessions.sign_in_with_ticket(made.ticket.expose(), begun.session.id()).await;
    assert!(matches!(outcome, Err(Error::InvalidTicket)), "{outcome:?}");
    // The thief's node takes its own.
    let own = thief.sessions().sign_in_with_ticket(made.ticket.expose(), begun.session.id()).await;
    assert!(own.is_ok(), "{own:?}");
}

/// A thief with a copy of the store and an account of their own changes what their own ticket says.
#[tokio::test(start_paused = true)]
async fn a_ticket_is_good_for_what_it_was_issued_for() {
    let fleet = Fleet::start(at_most(1)).await;
    let victim = claimed(&fleet, "alice").await;
    let own = claimed(&fleet, "mallory").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let sessions = fleet.nodes[0].sessions();
    let Err(Error::TooManySessions(refused)) = sessions.sign_in(SignIn::new(user("mallory"))).await
    else {
        panic!("the limit is reached");
    };
    let key = fleet.store.fleet_key(&FleetKey::from_bytes([0; 32])).await.unwrap();
    let cipher = XChaCha20Poly1305::new(&key.derive("ticket").into());
    let bytes = URL_SAFE_NO_PAD.decode(refused.ticket.expose()).unwrap();
    let (nonce, sealed) = bytes.split_at(24);
    let nonce = XNonce::from_slice(nonce);
    let text = String::from_utf8(cipher.decrypt(nonce, sealed).unwrap()).unwrap();
    let changed = text
        .replace("mallory", "alice")
        .replace(&own.session.id().to_string(), &victim.session.id().to_string());
    assert_ne!(changed, text);
    let sealed = cipher.encrypt(nonce, changed.as_bytes()).unwrap();
    let forged = URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat());
    let outcome = sessions.sign_in_with_ticket(&forged, victim.session.id()).await;
    assert!(matches!(outcome, Err(Error::InvalidTicket)), "{outcome:?}");
    assert!(is_active(&fleet.nodes[0], &victim).await);
    let outcome = sessions.sign_in_with_ticket(refused.ticket.expose(), own.session.id()).await;
    assert!(outcome.is_ok(), "as it was issued: {outcome:?}");
}

/// The user chooses after a while: the proof is as old as it is, and the browser's session leaves.
#[tokio::test(start_paused = true)]
async fn a_ticket_remembers_when_its_user_proved_who_they_are_and_what_it_replaces() {
    let fleet = Fleet::start(at_most(1)).await;
    let [here, there] = &fleet.nodes;
    let old = claimed(&fleet, "alice").await;
    let bob = claimed(&fleet, "bob").await;
    let proven = here.sessions().now();
    let outcome = here.sessions().sign_in(request().with_replaces(bob.session.id())).await;
    let Err(Error::TooManySessions(refused)) = outcome else { panic!("{outcome:?}") };
    tokio::time::sleep(Ticket::VALID_FOR / 2).await;
    assert!(is_active(there, &bob).await, "nothing has happened yet");
    let (ticket, end) = (refused.ticket.expose(), old.session.id());
    let new = there.sessions().sign_in_with_ticket(ticket, end).await.unwrap();
    assert_eq!(new.session.authenticated_at(), proven);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(refusal(here, &bob).await.end_cause(), Some(EndCause::Replaced));
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_old_or_made_elsewhere_is_refused() {
    let fleet = Fleet::start(at_most(1)).await;
    let elsewhere = Fleet::start(at_most(1)).await;
    let old = claimed(&fleet, "alice").await;
    claimed(&elsewhere, "alice").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let tickets = [refused(&fleet, 0).await.ticket, refused(&elsewhere, 0).await.ticket];
    let manager = fleet.nodes[1].sessions();
    tokio::time::sleep(Ticket::VALID_FOR).await;
    let mut texts: Vec<_> = tickets.iter().map(|ticket| ticket.expose().to_owned()).collect();
    texts.extend(["".to_owned(), "AAAA".to_owned(), "é".repeat(50), "A".repeat(100_000)]);
    let mut changed = refused(&fleet, 0).await.ticket.expose().to_owned();
    let last = changed.pop().unwrap();
    changed.push(if last == 'A' { 'B' } else { 'A' });
    texts.push(changed);
    for text in texts {
        let outcome = manager.sign_in_with_ticket(&text, old.session.id()).await;
        assert!(matches!(outcome, Err(Error::InvalidTicket)), "{text}: {outcome:?}");
    }
    assert!(is_active(&fleet.nodes[0], &old).await);
    assert!(!format!("{:?}", tickets[0]).contains(tickets[0].expose()));
}

/// A commit whose answer is lost, and a store that stays away: the session that nobody holds is never
/// the cause of a refusal, and is taken back when the store is there again.
#[tokio::test(start_paused = true)]
async fn an_unheard_session_locks_nobody_out() {
    let fleet = Fleet::start(at_most(1)).await;
    let [here, there] = &fleet.nodes;
    let mut events = there.sessions().events();
    fleet.probes[0].lose_answers(true);
    let gate = fleet.probes[0].hold("commit");
    let (outcome, ()) = tokio::join!(here.sessions().sign_in(request()), async {
        gate.reached().await;
        fleet.probes[0].away(true);
        gate.open();
    });
    assert!(outcome.is_err_and(|error| error.is_unavailable()));
    fleet.probes[0].lose_answers(false);
    let left = fleet.store.user(&user("alice")).await.unwrap().sessions;
    assert_eq!(left.len(), 1, "it has begun");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(here.sessions().health().workers["take-back"].error.is_some());
    fleet.probes[0].away(false);
    told(&mut events, "revoked").await;
    assert!(there.sessions().sign_in(request()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_unclaimed_session_is_the_first_to_leave_and_ends_after_a_day() {
    let fleet = Fleet::start(at_most(1)).await;
    let unclaimed = sign_in(&fleet.nodes[0], "alice").await;
    refused(&fleet, 1).await;
    tokio::time::sleep(Options::default().claim_within).await;
    let new = fleet.nodes[1].sessions().sign_in(request()).await.unwrap();
    assert_eq!(new.ended, [(unclaimed.session.id(), EndCause::Evicted)]);
    let mut events = fleet.nodes[1].sessions().events();
    told(&mut events, "expired").await;
    assert_eq!(live(&fleet).await, []);
}

/// The caller goes away before anything is committed.
#[tokio::test(start_paused = true)]
async fn a_sign_in_whose_caller_has_gone_commits_nothing() {
    let fleet = Fleet::start(Options::default()).await;
    let manager = fleet.nodes[0].sessions().clone();
    let gate = fleet.probes[0].hold("user");
    let waiting = tokio::spawn(async move { manager.sign_in(request()).await });
    gate.reached().await;
    waiting.abort();
    assert!(waiting.await.is_err());
    gate.open();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(fleet.probes[0].calls().get("commit"), None);
}

/// The store takes no commit and ends no session: what may have begun is remembered, up to a number.
#[tokio::test(start_paused = true)]
async fn what_has_to_be_taken_back_is_bounded_and_not_lost() {
    let fleet = Fleet::start(Options::default()).await;
    let (node, probe) = (&fleet.nodes[0], &fleet.probes[0]);
    probe.fail("commit", true);
    probe.fail("end_many", true);
    let mut most = 0;
    for _ in 0..50 {
        let mut running = tokio::task::JoinSet::new();
        for n in 0..100 {
            let (manager, owner) = (node.sessions().clone(), user(&format!("user {n}")));
            running.spawn(async move { manager.sign_in(SignIn::new(owner)).await });
        }
        let outcomes = running.join_all().await;
        let failed =
            |outcome: &Result<_, Error>| outcome.as_ref().is_err_and(Error::is_unavailable);
        assert!(outcomes.iter().all(failed), "the answer is 503");
        most = node.sessions().health().take_backs;
    }
    assert!((10_000..10_300).contains(&most), "{most}");
    let commits = probe.calls()["commit"];
    assert!(node.sessions().sign_in(request()).await.is_err());
    assert_eq!(probe.calls()["commit"], commits, "it was refused before it could add one");
    probe.fail("commit", false);
    probe.fail("end_many", false);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(node.sessions().health().take_backs, 0);
    assert!(node.sessions().sign_in(request()).await.is_ok());
}

/// Signing in as another user is one outcome: the session that the browser held ends as soon as the
/// store answers, and the sign-in does not depend on it.
#[tokio::test(start_paused = true)]
async fn a_sign_in_over_another_users_session_is_one_outcome() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let alice = sign_in(here, "alice").await;
    let mut events = there.sessions().events();
    fleet.probes[0].fail("end_many", true);
    let bob = SignIn::new(user("bob")).with_replaces(alice.session.id());
    let bob = here.sessions().sign_in(bob).await.unwrap();
    assert!(is_active(there, &bob).await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    fleet.probes[0].fail("end_many", false);
    told(&mut events, "replaced").await;
    assert_eq!(refusal(there, &alice).await.end_cause(), Some(EndCause::Replaced));
    let query = HistoryQuery::within(TenantFilter::Any);
    let history = here.sessions().history(&query).await.unwrap().sessions;
    assert_eq!(history[0].by, Actor::User(user("bob")));
    assert!(is_active(here, &bob).await);
}

#[tokio::test(start_paused = true)]
async fn one_user_has_a_ceiling_of_sessions_and_the_least_recently_used_leaves() {
    let fleet = Fleet::start(Options::default().with_max_sessions_per_user(3)).await;
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(claimed(&fleet, "alice").await);
    }
    assert!(is_active(&fleet.nodes[1], &begun[0]).await, "the oldest is in use");
    tokio::time::sleep(WriteBack::default().max_delay + Duration::from_secs(1)).await;
    for left in [1, 2] {
        begun.push(claimed(&fleet, "alice").await);
        assert_eq!(live(&fleet).await.len(), 3);
        let refusal = refusal(&fleet.nodes[1], &begun[left]).await;
        assert_eq!(refusal.end_cause(), Some(EndCause::Evicted));
        assert!(is_active(&fleet.nodes[1], &begun[0]).await);
    }
}

/// A choice among sessions that the limit does not count would not help.
#[tokio::test(start_paused = true)]
async fn a_refused_user_chooses_among_those_that_the_limit_counts() {
    let limit = |scope| Limit { max: 1, scope, on_exceed: OnExceed::Reject };
    let of = |client: Option<&str>, kind: &str| {
        let client = client.map(|client| client.parse().unwrap());
        request().with_client_id(client).with_device_kind(kind.parse::<DeviceKind>().unwrap())
    };
    for (scope, counted) in [
        (Scope::Client, of(Some("tv"), "Tv")),
        (Scope::Client, of(None, "Tv")),
        (Scope::DeviceKind, of(None, "Tv")),
    ] {
        let options = Options::default().with_default_policy(Policy::limit(limit(scope)));
        let fleet = Fleet::start(options).await;
        let manager = fleet.nodes[0].sessions();
        let first = manager.sign_in(counted.clone()).await.unwrap();
        assert!(is_active(&fleet.nodes[0], &first).await);
        for n in 0..=PageQuery::MAX_LIMIT {
            let other = of(Some(&format!("client {n}")), &format!("kind {n}"));
            manager.sign_in(other).await.unwrap();
        }
        let Err(Error::TooManySessions(refused)) = manager.sign_in(counted).await else {
            panic!("{scope:?}")
        };
        let offered: Vec<_> = refused.sessions.iter().map(|session| session.id).collect();
        assert_eq!(offered, [first.session.id()], "{scope:?}");
        let end = first.session.id();
        manager.sign_in_with_ticket(refused.ticket.expose(), end).await.unwrap();
    }
}

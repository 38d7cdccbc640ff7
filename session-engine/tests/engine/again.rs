//! Sign-ins in a browser that holds a session of the user's (G17, G19).

use std::time::Duration;

use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, Scope};
use session_core::usage::Timeouts;
use session_core::{
    Actor, AssuranceLevel, DeviceKind, EndCause, ExtraData, SessionId, Store, Token,
};
use session_engine::{
    Access, ActiveSession, Engine, Held, Options, Proof, Refusal, RotateReason, Rotation, SignIn,
    SignedIn,
};

use crate::probe::{Fleet, is_active, refusal, sign_in, user};

async fn held(node: &Engine, signed_in: &SignedIn) -> Held {
    let token = signed_in.token.expose();
    node.sessions().held(&[token.as_bytes()]).await.unwrap().expect("the token is good")
}

/// What alice asks for when she signs in again in the browser that shows this token.
async fn again(node: &Engine, before: &SignedIn) -> SignIn {
    SignIn::new(user("alice")).with_held(held(node, before).await)
}

async fn check(node: &Engine, token: &Token) -> Option<ActiveSession> {
    let token = token.expose();
    node.sessions().validate(token.as_bytes(), Access::default()).await.unwrap().session()
}

async fn ids(fleet: &Fleet) -> Vec<SessionId> {
    let state = fleet.store.user(&user("alice")).await.unwrap();
    state.sessions.iter().map(|standing| standing.id).collect()
}

async fn limit(fleet: &Fleet, max: u32, on_exceed: OnExceed) {
    let limit = Limit { max, scope: Scope::User, on_exceed };
    let (scope, policy) = (PolicyScope::User(user("alice")), Policy::limit(limit));
    let sessions = fleet.nodes[0].sessions();
    sessions.set_policy(scope, Some(policy), Actor::Application).await.unwrap();
}

/// The session becomes what the sign-in says, once its token is used; until then it stays what it was.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_leaves_the_browser_signed_in() {
    let options = Options::default().with_timeouts(Timeouts::aal3());
    let fleet = Fleet::start(options).await;
    let [here, there] = &fleet.nodes;
    let first = sign_in(here, "alice").await;
    let id = first.session.id();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(is_active(there, &first).await);
    let proof = Proof::default().with_level(AssuranceLevel::Aal2);
    let data = ExtraData::from_json("1").unwrap();
    let request = async || {
        let request = again(here, &first).await.with_timeouts(Timeouts::aal2());
        request.with_proof(proof.clone()).with_data(data.clone())
    };
    let lost = here.sessions().sign_in(request().await).await.unwrap();
    assert_eq!((lost.session.id(), lost.ended.as_slice()), (id, [].as_slice()));
    assert_eq!(lost.session.authentication().level, Some(AssuranceLevel::Aal2));
    assert_eq!(lost.session.data(), Some(&data), "the session as its new token shows it");
    tokio::time::sleep(Duration::from_secs(60)).await;
    for node in &fleet.nodes {
        assert!(is_active(node, &first).await, "the client goes on with what it holds");
        let known = node.sessions().get(id, &session_core::store::TenantFilter::Any).await;
        let known = known.unwrap().unwrap();
        assert_eq!((known.data, known.timeouts, known.authentication.level), (None, None, None));
    }
    // The second try gets the same token, and this time uses it.
    let second = here.sessions().sign_in(request().await).await.unwrap();
    assert_eq!(second.token.digest(), lost.token.digest());
    let begun = here.sessions().now();
    assert!(is_active(there, &second).await);
    let stored = fleet.store.load(id).await.unwrap().unwrap().session;
    assert_eq!((stored.data, stored.timeouts), (Some(data), Some(Timeouts::aal2())));
    assert_eq!(stored.absolute_expiry, Timeouts::aal2().absolute_expiry(begun));
    assert_eq!((stored.authentication.at, stored.signed_in), (begun, first.session.signed_in()));
    assert!(is_active(here, &first).await, "requests that were under way");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(
        matches!(refusal(here, &first).await, Refusal::Ended(end) if end.cause == EndCause::TokenReused)
    );
}

/// A form that is sent many times, on two nodes at once.
#[tokio::test(start_paused = true)]
async fn a_form_that_is_sent_many_times_yields_one_token() {
    for (max, on_exceed) in [(1, OnExceed::Reject), (1, OnExceed::EvictOldest)] {
        let fleet = Fleet::start(Options::default()).await;
        limit(&fleet, max, on_exceed).await;
        let first = sign_in(&fleet.nodes[0], "alice").await;
        assert!(is_active(&fleet.nodes[1], &first).await);
        let mut tries = Vec::new();
        for nth in 0..16 {
            let (request, node) = (again(&fleet.nodes[0], &first).await, &fleet.nodes[nth % 2]);
            let sessions = node.sessions().clone();
            tries.push(tokio::spawn(async move { sessions.sign_in(request).await.unwrap() }));
        }
        let mut answers = Vec::new();
        for signed_in in tries {
            answers.push(signed_in.await.unwrap());
        }
        assert_eq!(ids(&fleet).await, [first.session.id()]);
        // The last of the answers is the one that the browser keeps.
        let kept = answers.pop().unwrap();
        assert!(answers.iter().all(|answer| answer.token.digest() == kept.token.digest()));
        assert!(is_active(&fleet.nodes[1], &kept).await);
        // A try that was under way all the time: its token is in its grace by now.
        let late = again(&fleet.nodes[0], &first).await;
        let late = fleet.nodes[1].sessions().sign_in(late).await.unwrap();
        assert!(is_active(&fleet.nodes[0], &late).await && is_active(&fleet.nodes[0], &kept).await);
    }
}

/// The other sessions that a limit ends leave in the same step.
#[tokio::test(start_paused = true)]
async fn the_session_goes_on_and_a_lowered_limit_ends_others() {
    let fleet = Fleet::start(Options::default()).await;
    let first = sign_in(&fleet.nodes[0], "alice").await;
    let mut others = Vec::new();
    for node in &fleet.nodes {
        tokio::time::sleep(Duration::from_secs(1)).await;
        others.push(sign_in(node, "alice").await);
    }
    limit(&fleet, 2, OnExceed::EvictOldest).await;
    let request = again(&fleet.nodes[1], &first).await;
    fleet.probes[1].lose_answers(true);
    let signed_in = fleet.nodes[1].sessions().sign_in(request).await.unwrap();
    fleet.probes[1].lose_answers(false);
    assert_eq!(signed_in.session.id(), first.session.id());
    assert!(!ids(&fleet).await.contains(&others[0].session.id()), "the older one");
    assert!(is_active(&fleet.nodes[0], &others[1]).await);
    assert!(is_active(&fleet.nodes[0], &first).await);
    assert!(is_active(&fleet.nodes[0], &signed_in).await);
}

/// Another change comes between the decision and the commit.
#[tokio::test(start_paused = true)]
async fn a_conflict_is_decided_again_and_a_session_that_has_ended_gives_way_to_another() {
    for ends in [false, true] {
        let fleet = Fleet::start(Options::default()).await;
        let [here, there] = &fleet.nodes;
        let first = sign_in(here, "alice").await;
        let request = again(here, &first).await;
        let gate = fleet.probes[0].hold_before("commit");
        let sessions = here.sessions().clone();
        let again = tokio::spawn(async move { sessions.sign_in(request).await.unwrap() });
        gate.reached().await;
        if ends {
            there.sessions().revoke_user(user("alice"), Actor::Application).await.unwrap();
        } else {
            sign_in(there, "alice").await;
        }
        gate.open();
        let signed_in = again.await.unwrap();
        assert_eq!(signed_in.session.id() == first.session.id(), !ends);
        assert!(is_active(there, &signed_in).await);
        assert_eq!(is_active(there, &first).await, !ends);
    }
}

/// What a policy or the history goes by stays the same for the life of a session.
#[tokio::test(start_paused = true)]
async fn what_does_not_fit_the_session_begins_another() {
    let others: [fn(SignIn) -> SignIn; 5] = [
        |request| request.with_device_kind(DeviceKind::Mobile),
        |request| request.with_client_id(Some("shop".parse().unwrap())),
        |request| request.with_impersonator(user("root")),
        // A store never moves a deadline to an earlier time, and the session would take up its place until then.
        |request| request.with_timeouts(Timeouts::aal3()),
        // A sign-in that names the session by its id alone shows no token that could stay valid.
        |request| {
            let replaces = request.replaces;
            request.with_replaces(replaces)
        },
    ];
    for other in others {
        let fleet = Fleet::start(Options::default()).await;
        limit(&fleet, 1, OnExceed::Reject).await;
        let first = sign_in(&fleet.nodes[0], "alice").await;
        let request = other(again(&fleet.nodes[0], &first).await);
        let second = fleet.nodes[1].sessions().sign_in(request).await.unwrap();
        assert_eq!(second.ended, [(first.session.id(), EndCause::Replaced)]);
        assert_eq!(ids(&fleet).await, [second.session.id()]);
        assert!(!is_active(&fleet.nodes[1], &first).await);
    }
}

/// A session past its idle timeout, which the browser still shows, is not the one that goes on.
#[tokio::test(start_paused = true)]
async fn an_idle_session_does_not_go_on() {
    let idle = Duration::from_secs(900);
    let options = Options::default().with_timeouts(Timeouts::none().with_idle(idle));
    let fleet = Fleet::start(options).await;
    let first = sign_in(&fleet.nodes[0], "alice").await;
    assert!(is_active(&fleet.nodes[0], &first).await);
    let request = again(&fleet.nodes[0], &first).await;
    tokio::time::sleep(idle + Duration::from_secs(1)).await;
    let second = fleet.nodes[0].sessions().sign_in(request).await.unwrap();
    assert_ne!(second.session.id(), first.session.id());
    assert!(second.session.signed_in() > first.session.signed_in());
    assert!(is_active(&fleet.nodes[1], &second).await);
}

/// The first try has happened, and its token was used, when its answer is known to be lost.
#[tokio::test(start_paused = true)]
async fn a_token_that_was_used_is_not_handed_out_as_the_next_one() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let first = sign_in(here, "alice").await;
    assert!(is_active(here, &first).await);
    let request = again(here, &first).await;
    fleet.probes[0].lose_answers(true);
    let gate = fleet.probes[0].hold("commit");
    let sessions = here.sessions().clone();
    let slow = tokio::spawn(async move { sessions.sign_in(request).await.unwrap() });
    gate.reached().await;
    let request = again(there, &first).await;
    let kept = there.sessions().sign_in(request).await.unwrap();
    assert!(is_active(there, &kept).await);
    gate.open();
    tokio::time::sleep(Duration::from_millis(1)).await;
    fleet.probes[0].lose_answers(false);
    assert_eq!(slow.await.unwrap().token.digest(), kept.token.digest());
    let shown = kept.token.expose();
    let renewed = there.sessions().rotate(shown.as_bytes(), RotateReason::Renewal).await.unwrap();
    let Rotation::Rotated { token: renewed, .. } = renewed else { panic!("{renewed:?}") };
    check(there, &renewed).await.unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(!is_active(there, &kept).await, "it has been replaced");
}

/// The client has the answer, and uses it when the session had been over by what held before.
#[tokio::test(start_paused = true)]
async fn a_sign_in_is_good_for_its_own_timeouts() {
    let (quarter, month) = (Duration::from_secs(900), Duration::from_secs(30 * 24 * 3600));
    let (idle, absolute) =
        (Timeouts::none().with_idle(quarter), Timeouts::none().with_absolute(quarter));
    let remembered = Timeouts::none().with_idle(month);
    for (before, then, later) in [
        (idle, Some(remembered), 1_800),
        (idle, None, 890),
        (absolute, Some(remembered), 1_800),
        (absolute, None, 890),
    ] {
        let fleet = Fleet::start(Options::default().with_timeouts(before)).await;
        let [here, there] = &fleet.nodes;
        let first = sign_in(here, "alice").await;
        tokio::time::sleep(Duration::from_secs(840)).await;
        // `held` reads the session and does not count as a use.
        let request = again(here, &first).await.with_timeouts(then);
        let signed_in = here.sessions().sign_in(request).await.unwrap();
        assert_eq!(signed_in.session.id(), first.session.id());
        tokio::time::sleep(Duration::from_secs(later)).await;
        assert!(is_active(there, &signed_in).await, "{before:?}, {then:?}");
        assert!(is_active(here, &signed_in).await, "{before:?}, {then:?}");
    }
}

/// The client never got the answer, and proves again who it is much later: that is when the lifetime begins.
#[tokio::test(start_paused = true)]
async fn a_later_proof_prolongs_what_a_lost_sign_in_has_begun() {
    let hour = Duration::from_secs(3600);
    let timeouts = Timeouts::none().with_absolute(hour * 12);
    let fleet = Fleet::start(Options::default().with_timeouts(timeouts)).await;
    let node = &fleet.nodes[0];
    let first = sign_in(node, "alice").await;
    assert!(is_active(node, &first).await);
    node.sessions().sign_in(again(node, &first).await).await.unwrap();
    tokio::time::sleep(hour * 11).await;
    let (shown, reason) = (first.token.expose(), RotateReason::reauthenticated());
    let proven = node.sessions().rotate(shown.as_bytes(), reason).await.unwrap();
    let Rotation::Rotated { token, .. } = proven else { panic!("{proven:?}") };
    let session = check(node, &token).await.unwrap();
    assert_eq!(session.absolute_expiry(), timeouts.absolute_expiry(node.sessions().now()));
}

/// With the old token as with the new one.
#[tokio::test(start_paused = true)]
async fn a_change_of_the_data_between_a_sign_in_and_its_first_use_stays() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let first = sign_in(node, "alice").await;
    let (id, by) = (first.session.id(), Actor::Application);
    let data = ExtraData::from_json(r#"["signed in"]"#).unwrap();
    let request = again(node, &first).await.with_data(data);
    let signed_in = node.sessions().sign_in(request).await.unwrap();
    let change = |data: Option<&ExtraData>| {
        let mut words: Vec<String> =
            data.map(|data| serde_json::from_str(data.as_json()).unwrap()).unwrap_or_default();
        words.push("changed".to_owned());
        Ok(Some(ExtraData::new(&words.into())?))
    };
    node.sessions().update_data(id, by, change).await.unwrap().unwrap();
    for (signed_in, expected) in
        [(&first, vec!["changed"]), (&signed_in, vec!["signed in", "changed"])]
    {
        let session = check(node, &signed_in.token).await.unwrap();
        assert_eq!(session.data_as::<Vec<String>>().unwrap().unwrap(), expected);
    }
}

/// Two tries chose different sessions to leave; the answers of both were lost, and the first has happened.
#[tokio::test(start_paused = true)]
async fn a_try_whose_answer_was_lost_ends_only_what_it_has_ended() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let signed_in = sign_in(here, "alice").await;
        assert!(is_active(here, &signed_in).await);
        sessions.push(signed_in);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let [first, older, newer] = sessions.as_slice() else { unreachable!() };
    assert!(is_active(here, first).await);
    limit(&fleet, 2, OnExceed::EvictLeastRecentlyUsed).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let request = again(here, first).await;
    let gate = fleet.probes[0].delay_commit();
    fleet.probes[0].fail("commit", true);
    let manager = here.sessions().clone();
    let slow = tokio::spawn(async move { manager.sign_in(request).await.unwrap() });
    gate.reached().await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    fleet.probes[0].fail("commit", false);
    let late = fleet.probes[0].hold_before("commit");
    // The other one is the least recently used from now on.
    assert!(is_active(here, older).await);
    late.reached().await;
    gate.open();
    tokio::time::sleep(Duration::from_millis(10)).await;
    fleet.probes[0].lose_answers(true);
    late.open();
    tokio::time::sleep(Duration::from_millis(5)).await;
    fleet.probes[0].lose_answers(false);
    let signed_in = slow.await.unwrap();
    assert_eq!(signed_in.ended, [(older.session.id(), EndCause::Evicted)]);
    for node in [here, there] {
        assert!(is_active(node, newer).await && !is_active(node, older).await);
    }
}

/// Two tabs prove who the user is at once, with different tokens of the session. The browser keeps the token that
/// arrives last, whichever was used first; none waits for another, and nobody is taken for a thief.
#[tokio::test(start_paused = true)]
async fn two_tabs_take_no_token_of_each_other_away() {
    for (with_former, signs_in) in [(true, true), (true, false), (false, true), (false, false)] {
        let fleet = Fleet::start(Options::default()).await;
        let [here, there] = &fleet.nodes;
        let first = sign_in(here, "alice").await;
        let rotate = async |token: &Token, reason| {
            let token = token.expose();
            match here.sessions().rotate(token.as_bytes(), reason).await.unwrap() {
                Rotation::Rotated { token, .. } => token,
                outcome => panic!("{outcome:?}"),
            }
        };
        let former = again(here, &first).await;
        let renewed = rotate(&first.token, RotateReason::Renewal).await;
        let begun = tokio::time::Instant::now();
        // One of them shows the token before the renewal, the other the one after it.
        let sign_in_again = async |request| here.sessions().sign_in(request).await.unwrap().token;
        let (one, other) = if with_former {
            check(here, &renewed).await.unwrap();
            let other = rotate(&renewed, RotateReason::reauthenticated()).await;
            (sign_in_again(former).await, other)
        } else {
            let one = sign_in_again(former).await;
            let session = check(here, &renewed).await.unwrap();
            let other = if signs_in {
                let shown = renewed.expose();
                let held = Held::by_token(&session, shown.as_bytes());
                sign_in_again(SignIn::new(user("alice")).with_held(held)).await
            } else {
                rotate(&renewed, RotateReason::reauthenticated()).await
            };
            (one, other)
        };
        assert_eq!(begun.elapsed(), Duration::ZERO, "none has waited");
        let (early, late) = if signs_in { (&one, &other) } else { (&other, &one) };
        check(there, early).await.expect("it has arrived");
        tokio::time::sleep(Duration::from_secs(60)).await;
        check(here, late).await.expect("it has arrived, and was kept");
        tokio::time::sleep(Duration::from_secs(60)).await;
        check(there, late).await.expect("the browser goes on with it");
        assert_eq!(ids(&fleet).await, [first.session.id()]);
        // A copy of the one that was replaced is found.
        assert!(check(here, early).await.is_none());
        assert_eq!(ids(&fleet).await, []);
    }
}

/// The answer to a proof is lost, and is shown by its finder after another one was used: the owner's next request
/// shows that there is a copy.
#[tokio::test(start_paused = true)]
async fn a_lost_proof_that_appears_after_another_was_used_is_found() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let first = sign_in(node, "alice").await;
    let lost = node.sessions().sign_in(again(node, &first).await).await.unwrap();
    let shown = first.token.expose();
    let renewed = node.sessions().rotate(shown.as_bytes(), RotateReason::Renewal).await.unwrap();
    let Rotation::Rotated { token: renewed, .. } = renewed else { panic!("{renewed:?}") };
    let session = check(node, &renewed).await.unwrap();
    let held = Held::by_token(&session, renewed.expose().as_bytes());
    let signed_in = node.sessions().sign_in(SignIn::new(user("alice")).with_held(held)).await;
    let signed_in = signed_in.unwrap();
    assert!(is_active(node, &signed_in).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(is_active(node, &lost).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(refusal(node, &signed_in).await.end_cause(), Some(EndCause::TokenReused));
    assert!(!is_active(node, &lost).await);
}

/// As a form that is sent twice: the one that began first is stored last.
#[tokio::test(start_paused = true)]
async fn the_earlier_of_two_forms_may_come_last() {
    let day = Duration::from_secs(12 * 3600);
    for timeouts in [Timeouts::none().with_absolute(day), Timeouts::aal2(), Timeouts::aal3()] {
        let fleet = Fleet::start(Options::default().with_timeouts(timeouts)).await;
        let [here, there] = &fleet.nodes;
        let first = sign_in(here, "alice").await;
        assert!(is_active(there, &first).await);
        let (early, late) = (again(here, &first).await, again(there, &first).await);
        let gate = fleet.probes[0].hold_before("commit");
        let sessions = here.sessions().clone();
        let early = tokio::spawn(async move { sessions.sign_in(early).await.unwrap() });
        gate.reached().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let late = there.sessions().sign_in(late).await.unwrap();
        gate.open();
        let early = early.await.unwrap();
        assert_eq!(early.token.digest(), late.token.digest());
        assert_eq!(ids(&fleet).await, [first.session.id()]);
    }
}

#[tokio::test(start_paused = true)]
async fn each_read_of_a_sign_in_is_tried_again() {
    for read in ["user", "load"] {
        let fleet = Fleet::start(Options::default()).await;
        let node = &fleet.nodes[0];
        let first = sign_in(node, "alice").await;
        let request = again(node, &first).await;
        fleet.probes[0].fail(read, true);
        let sessions = node.sessions().clone();
        let slow = tokio::spawn(async move { sessions.sign_in(request).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(60)).await;
        fleet.probes[0].fail(read, false);
        let signed_in = slow.await.unwrap();
        assert_eq!(signed_in.session.id(), first.session.id(), "{read}");
        assert!(is_active(node, &signed_in).await);
    }
}

/// Also where timeouts are so short that each try would ask for a later deadline.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_found_with_short_timeouts() {
    let fleet = Fleet::start(Options::default().with_timeouts(Timeouts::aal3())).await;
    let node = &fleet.nodes[0];
    let first = sign_in(node, "alice").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let other = sign_in(node, "alice").await;
    limit(&fleet, 1, OnExceed::EvictOldest).await;
    let request = again(node, &first).await;
    fleet.probes[0].lose_answers(true);
    let signed_in = node.sessions().sign_in(request).await.unwrap();
    assert_eq!(signed_in.ended, [(other.session.id(), EndCause::Evicted)]);
}

/// The answer is on its way when the session would have ended, and a stream is open.
#[tokio::test(start_paused = true)]
async fn nothing_ends_a_session_whose_new_token_waits() {
    let quarter = Duration::from_secs(900);
    for (timeouts, signs_in) in [
        (Timeouts::none().with_absolute(quarter), true),
        (Timeouts::none().with_absolute(quarter), false),
        (Timeouts::none().with_idle(quarter), true),
        (Timeouts::none().with_idle(quarter), false),
    ] {
        let fleet = Fleet::start(Options::default().with_timeouts(timeouts)).await;
        let [here, there] = &fleet.nodes;
        let first = sign_in(here, "alice").await;
        assert!(is_active(here, &first).await);
        let (id, sessions) = (first.session.id(), there.sessions().clone());
        let stream = tokio::spawn(async move { sessions.session_ended(id).await });
        tokio::time::sleep(Duration::from_secs(840)).await;
        let token = if signs_in {
            here.sessions().sign_in(again(here, &first).await).await.unwrap().token
        } else {
            let (shown, reason) = (first.token.expose(), RotateReason::reauthenticated());
            match here.sessions().rotate(shown.as_bytes(), reason).await.unwrap() {
                Rotation::Rotated { token, .. } => token,
                outcome => panic!("{outcome:?}"),
            }
        };
        tokio::time::sleep(Duration::from_secs(120)).await;
        if timeouts.absolute.is_some() {
            assert!(!is_active(there, &first).await, "the timeout of before holds for its token");
        }
        let used = check(there, &token).await;
        assert!(used.is_some(), "{timeouts:?}, signs in: {signs_in}");
        assert!(check(here, &token).await.is_some());
        assert!(!stream.is_finished());
        stream.abort();
    }
}

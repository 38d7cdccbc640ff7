//! Rotation, lost answers and theft (G13, G17).

use std::time::Duration;

use proptest::prelude::*;
use session_core::usage::Timeouts;
use session_core::{AssuranceLevel, EndCause, FleetKey, SessionId, Store, Token};
use session_engine::{
    Access, ActiveSession, Engine, Options, Proof, Refusal, RotateReason, Rotation, SignIn,
    SignedIn, Verdict,
};

use crate::probe::{Fleet, sign_in, user};

async fn rotate(node: &Engine, token: &Token) -> Rotation {
    let token = token.expose();
    node.sessions().rotate(token.as_bytes(), RotateReason::reauthenticated()).await.unwrap()
}

async fn renewed(node: &Engine, token: &Token) -> Token {
    let token = token.expose();
    match node.sessions().rotate(token.as_bytes(), RotateReason::Renewal).await.unwrap() {
        Rotation::Rotated { token, .. } => token,
        outcome => panic!("the current token rotates: {outcome:?}"),
    }
}

async fn verdict(node: &Engine, token: &Token) -> Verdict {
    let token = token.expose();
    node.sessions().validate(token.as_bytes(), Access::default()).await.unwrap()
}

async fn active(node: &Engine, token: &Token) -> bool {
    matches!(verdict(node, token).await, Verdict::Active(_))
}

async fn current(node: &Engine, token: &Token) -> ActiveSession {
    verdict(node, token).await.session().expect("the token is good")
}

async fn sign_in_again(node: &Engine, token: &Token) -> SignedIn {
    let held = node.sessions().held(&[token.expose().as_bytes()]).await.unwrap();
    let request = SignIn::new(user("alice")).with_held(held);
    let signed_in = node.sessions().sign_in(request).await.unwrap();
    assert_eq!((signed_in.session.id(), signed_in.ended.len()), (token.session_id(), 0));
    signed_in
}

async fn end_cause(node: &Engine, token: &Token) -> Option<EndCause> {
    match verdict(node, token).await {
        Verdict::Refused(refusal) => refusal.end_cause(),
        Verdict::Active(session) => panic!("{session:?} is active"),
    }
}

/// A thief renews the copy of a token and waits for the owner's step-up, before it or after it.
#[tokio::test(start_paused = true)]
async fn a_copy_that_is_renewed_gains_nothing_by_the_owners_step_up() {
    for renews_first in [true, false] {
        let fleet = Fleet::start(Options::default()).await;
        let [here, there] = &fleet.nodes;
        let old = sign_in(here, "alice").await;
        assert!(active(there, &old.token).await);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let early = if renews_first { Some(renewed(there, &old.token).await) } else { None };
        let Rotation::Rotated { token: owned, .. } = rotate(here, &old.token).await else {
            panic!("the current token rotates");
        };
        let copied = match early {
            Some(copied) => copied,
            None => renewed(there, &old.token).await,
        };
        assert_eq!(current(here, &owned).await.authenticated_at(), here.sessions().now());
        assert!(!active(there, &copied).await, "it is not the owner's token");
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(active(here, &owned).await);
        assert_eq!(end_cause(there, &copied).await, Some(EndCause::TokenReused), "it is found");
    }
}

/// As in another tab. A renewal never has what the proof has.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_used_before_the_step_up_signs_nobody_out() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let old = sign_in(here, "alice").await;
    let begun = old.session.authenticated_at();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let next = renewed(there, &old.token).await;
    let Rotation::Rotated { token: stepped, .. } = rotate(here, &old.token).await else {
        panic!("the current token rotates");
    };
    assert_eq!(current(there, &next).await.authenticated_at(), begun);
    let proven = current(there, &stepped).await;
    assert_eq!(proven.authenticated_at().since(begun).as_secs(), 60);
    assert_eq!(current(here, &next).await.authenticated_at(), begun, "in its grace");
}

/// A request joins a read of the session that began before its token was there.
#[tokio::test(start_paused = true)]
async fn a_read_that_is_older_than_a_token_refuses_it_to_nobody() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let old = sign_in(here, "alice").await;
    let gate = fleet.probes[1].hold("load");
    let (first, second) = tokio::join!(active(there, &old.token), async {
        gate.reached().await;
        let new = renewed(here, &old.token).await;
        let (joined, ()) = tokio::join!(active(there, &new), async { gate.open() });
        joined
    });
    assert!(first && second);
}

/// It came before the owner moved on; reading its session takes longer than the grace.
#[tokio::test(start_paused = true)]
async fn a_request_whose_session_is_read_slowly_is_no_theft() {
    for rotates in [false, true] {
        let options = Options::default().with_rotation_grace(Duration::from_secs(2));
        let fleet = Fleet::start(options).await;
        let [here, there] = &fleet.nodes;
        let old = sign_in(here, "alice").await;
        let new = renewed(here, &old.token).await;
        let gate = fleet.probes[1].hold("load");
        let slow = async {
            if rotates {
                matches!(rotate(there, &old.token).await, Rotation::AlreadyRotated)
            } else {
                let shown = current(there, &old.token).await;
                let token = old.token.expose();
                let renewal = RotateReason::Renewal;
                let rotated =
                    there.sessions().rotate_shown(&shown, token.as_bytes(), renewal).await;
                matches!(rotated, Ok(Rotation::AlreadyRotated))
            }
        };
        let (good, ()) = tokio::join!(slow, async {
            gate.reached().await;
            assert!(active(here, &new).await, "the owner moves on");
            tokio::time::sleep(Duration::from_secs(3)).await;
            gate.open();
        });
        assert!(good, "rotates: {rotates}");
        assert_eq!(end_cause(there, &old.token).await, Some(EndCause::TokenReused), "too late");
    }
}

#[tokio::test(start_paused = true)]
async fn the_old_token_works_until_the_new_one_is_used_and_proves_theft_after_the_grace() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let old = sign_in(here, "alice").await;
    let begun = old.session.authenticated_at();
    assert!(active(there, &old.token).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let Rotation::Rotated { id, token: new } = rotate(here, &old.token).await else {
        panic!("the current token rotates");
    };
    assert_eq!(id, old.session.id());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    for node in [here, there] {
        assert!(active(node, &old.token).await, "its successor has not been used");
    }
    assert!(active(there, &new).await, "the new token works everywhere at once");
    assert!(active(here, &new).await);
    assert_eq!(current(here, &new).await.authenticated_at().since(begun).as_secs(), 60);
    for node in [here, there] {
        let in_grace = current(node, &old.token).await;
        assert_eq!(in_grace.authenticated_at(), begun, "it made no step-up");
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(active(there, &new).await);
    assert_eq!(end_cause(there, &old.token).await, Some(EndCause::TokenReused));
    assert!(!active(there, &new).await, "the thief may be either of the two");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!active(here, &new).await);
}

#[tokio::test(start_paused = true)]
async fn of_sixty_four_rotations_at_once_there_is_one_new_token() {
    let fleet = Fleet::start(Options::default()).await;
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    let token = signed_in.token.expose();
    let mut running = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (manager, token) = (fleet.nodes[n % 2].sessions().clone(), token.clone());
        running.spawn(async move { manager.rotate(token.as_bytes(), RotateReason::Renewal).await });
    }
    let mut rotated = Vec::new();
    for outcome in running.join_all().await {
        match outcome.unwrap() {
            Rotation::Rotated { token, .. } => rotated.push(token.expose()),
            outcome => panic!("{outcome:?}"),
        }
    }
    rotated.dedup();
    assert_eq!(rotated.len(), 1);
    let new = Token::parse(rotated[0].as_bytes()).unwrap();
    assert!(active(&fleet.nodes[1], &signed_in.token).await, "nobody is out");
    assert!(active(&fleet.nodes[1], &new).await);
}

/// The answer of the store is lost, or that of the node to its client; the client goes on with what it
/// holds, or asks again.
#[tokio::test(start_paused = true)]
async fn a_rotation_whose_answer_was_lost_is_repeated() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    fleet.probes[0].lose_answers(true);
    let new = renewed(here, &signed_in.token).await;
    fleet.probes[0].lose_answers(false);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(active(here, &signed_in.token).await && active(there, &signed_in.token).await);
    let again = renewed(there, &signed_in.token).await;
    assert_eq!(again.digest(), new.digest());
    assert!(active(there, &again).await && active(here, &again).await);
}

/// A caller that goes away while its rotation is being stored.
#[tokio::test(start_paused = true)]
async fn a_dropped_rotation_signs_nobody_out() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    let (gate, manager) = (fleet.probes[0].hold("commit"), here.sessions().clone());
    let token = signed_in.token.expose();
    let task =
        tokio::spawn(async move { manager.rotate(token.as_bytes(), RotateReason::Renewal).await });
    gate.reached().await;
    task.abort();
    assert!(task.await.is_err());
    gate.open();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(active(there, &signed_in.token).await && active(here, &signed_in.token).await);
    assert!(active(here, &renewed(here, &signed_in.token).await).await);
}

/// The first use cannot be stored: the request is served, and the next use is stored.
#[tokio::test(start_paused = true)]
async fn a_new_token_is_good_while_its_first_use_cannot_be_stored() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let signed_in = sign_in(here, "alice").await;
    let new = renewed(here, &signed_in.token).await;
    fleet.probes[1].fail("commit", true);
    assert!(active(there, &new).await);
    assert!(active(there, &signed_in.token).await, "not confirmed");
    fleet.probes[1].fail("commit", false);
    // As a replica does that can only be read.
    fleet.probes[1].refuse("commit", true);
    assert!(active(there, &new).await);
    fleet.probes[1].refuse("commit", false);
    assert!(active(there, &new).await);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(end_cause(there, &signed_in.token).await, Some(EndCause::TokenReused));
}

#[tokio::test(start_paused = true)]
async fn a_re_authentication_restarts_both_timeouts_and_says_how() {
    let hour = Duration::from_secs(3600);
    let timeouts = Timeouts::none().with_absolute(hour).with_idle(hour);
    let fleet = Fleet::start(Options::default().with_timeouts(timeouts)).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    tokio::time::sleep(hour / 2).await;
    let proof =
        Proof::default().with_level(AssuranceLevel::Aal2).with_methods(["otp".parse().unwrap()]);
    let reason = RotateReason::Reauthenticated(proof);
    let token = signed_in.token.expose();
    let rotated = node.sessions().rotate(token.as_bytes(), reason).await.unwrap();
    let Rotation::Rotated { token: new, .. } = rotated else { panic!("{rotated:?}") };
    let session = current(node, &new).await;
    assert_eq!(session.authentication().level, Some(AssuranceLevel::Aal2));
    assert_eq!(session.authentication().methods, ["otp".parse().unwrap()]);
    tokio::time::sleep(hour * 3 / 4).await;
    assert!(active(node, &new).await, "an hour after the step-up, not after the sign-in");
    tokio::time::sleep(hour / 4).await;
    assert_eq!(end_cause(node, &new).await, Some(EndCause::Expired));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_when_it_is_old_enough() {
    let after = Duration::from_secs(600);
    let fleet = Fleet::start(Options::default().with_renew_after(after)).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    let renew = async |token: &Token| {
        let session = current(node, token).await;
        let text = token.expose();
        node.sessions().renew_if_due(&session, text.as_bytes()).await.unwrap()
    };
    assert!(renew(&signed_in.token).await.is_none());
    tokio::time::sleep(after).await;
    let next = renew(&signed_in.token).await.expect("it is due");
    let again = renew(&signed_in.token).await.expect("the answer may have been lost");
    assert_eq!(again.digest(), next.digest());
    assert!(renew(&next).await.is_none());
    assert!(renew(&signed_in.token).await.is_none(), "in its grace");
    tokio::time::sleep(after).await;
    assert!(matches!(rotate(node, &next).await, Rotation::Rotated { .. }));
    assert!(renew(&next).await.is_none(), "it could overtake the answer to the step-up");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(renew(&next).await.is_some(), "that answer was lost");
}

/// While a page is being made, the user proves again who they are, or signs in again, on another node.
#[tokio::test(start_paused = true)]
async fn no_renewal_overtakes_what_was_proved_on_another_node() {
    for signs_in in [false, true] {
        let after = Duration::from_secs(600);
        let fleet = Fleet::start(Options::default().with_renew_after(after)).await;
        let [here, there] = &fleet.nodes;
        let token = sign_in(here, "alice").await.token;
        tokio::time::sleep(after).await;
        let page = current(here, &token).await;
        let text = token.expose();
        let proved = if signs_in {
            sign_in_again(there, &token).await.token
        } else {
            match rotate(there, &token).await {
                Rotation::Rotated { token, .. } => token,
                outcome => panic!("the current token rotates: {outcome:?}"),
            }
        };
        let renewed = here.sessions().renew_if_due(&page, text.as_bytes()).await.unwrap();
        assert!(renewed.is_none(), "signs in: {signs_in}");
        assert!(active(here, &proved).await);
    }
}

#[tokio::test(start_paused = true)]
async fn worthless_tokens_do_not_rotate() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    let outcome = node.sessions().rotate(b"garbage", RotateReason::Renewal).await.unwrap();
    assert!(matches!(outcome, Rotation::Refused(Refusal::Malformed)));
    let key = fleet.store.fleet_key(&FleetKey::from_bytes([0; 32])).await.unwrap();
    let guess = Token::new(&key, signed_in.session.id(), [0; 12], [0; 16]);
    assert!(matches!(rotate(node, &guess).await, Rotation::Refused(Refusal::WrongSecret)));
    assert!(active(node, &signed_in.token).await, "a guess harms nobody");
}

/// A token that no node of the fleet has made costs no read of the store.
#[tokio::test(start_paused = true)]
async fn well_formed_garbage_costs_no_read() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let before = fleet.probes[0].calls().get("load").copied();
    for n in 0..100 {
        let foreign = FleetKey::from_bytes([n; 32]);
        let id = session_core::SessionId::from_random([n; 16]);
        let garbage = Token::new(&foreign, id, [n; 12], [n; 16]);
        let refused = verdict(node, &garbage).await;
        assert!(matches!(refused, Verdict::Refused(Refusal::Malformed)), "{refused:?}");
        let rotated = rotate(node, &garbage).await;
        assert!(matches!(rotated, Rotation::Refused(Refusal::Malformed)));
    }
    assert_eq!(fleet.probes[0].calls().get("load").copied(), before);
}

/// Whatever tokens can be made of what a store holds are none of the session, nor prove theft.
#[tokio::test(start_paused = true)]
async fn a_stolen_copy_of_the_store_signs_nobody_in() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let first = sign_in(here, "alice").await;
    let token = renewed(here, &first.token).await;
    assert!(active(here, &token).await);
    let id = first.session.id();
    let key = fleet.store.fleet_key(&FleetKey::from_bytes([0; 32])).await.unwrap();
    let stolen = fleet.probes[0].load(id).await.unwrap().unwrap().session.token;
    for digest in [stolen.current, stolen.family, stolen.retired.unwrap().digest] {
        for secrets in [&digest.as_bytes()[..28], &digest.as_bytes()[4..]] {
            let (family, secret) = secrets.split_at(Token::FAMILY_BYTES);
            let family = family.try_into().unwrap();
            let forged = Token::new(&key, id, family, secret.try_into().unwrap());
            assert!(!active(here, &forged).await && !active(there, &forged).await);
        }
    }
    assert!(active(here, &token).await, "a guess harms nobody");
}

/// What an owner and their clients do with a session's tokens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Rotates and uses the answer.
    Rotate,
    /// Rotates; the answer does not arrive.
    LoseTheClientsAnswer,
    /// Rotates; the store's answer does not arrive.
    LoseTheStoresAnswer,
    /// Rotates; the caller goes away after this call of the store, before its answer.
    Drop(&'static str),
    /// Signs in again and uses the answer.
    SignInAgain,
    /// Signs in again; the answer does not arrive.
    LoseTheSignIn,
    /// Several requests beside a rotation.
    Parallel,
    /// Time passes.
    Wait(u64),
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        Just(Step::Rotate),
        Just(Step::LoseTheClientsAnswer),
        Just(Step::LoseTheStoresAnswer),
        prop::sample::select(vec!["load", "commit"]).prop_map(Step::Drop),
        Just(Step::SignInAgain),
        Just(Step::LoseTheSignIn),
        Just(Step::Parallel),
        (1..40_u64).prop_map(Step::Wait),
    ];
    (0..2_usize, step)
}

async fn take(fleet: &Fleet, node: usize, step: Step, held: &mut Vec<Token>) {
    let (here, mine) = (&fleet.nodes[node], held.last().unwrap().clone());
    match step {
        Step::Rotate => held.push(renewed(here, &mine).await),
        Step::LoseTheClientsAnswer => {
            renewed(here, &mine).await;
        }
        Step::LoseTheStoresAnswer => {
            fleet.probes[node].lose_answers(true);
            let token = mine.expose();
            let manager = here.sessions();
            let reason = RotateReason::reauthenticated();
            let rotated = manager.rotate(token.as_bytes(), reason).await.unwrap();
            assert!(matches!(rotated, Rotation::Rotated { .. }), "it is found in the store");
            fleet.probes[node].lose_answers(false);
        }
        Step::Drop(call) => {
            let (manager, token) = (here.sessions().clone(), mine.expose());
            let gate = fleet.probes[node].hold(call);
            let mut task = tokio::spawn(async move {
                manager.rotate(token.as_bytes(), RotateReason::Renewal).await
            });
            tokio::select! {
                () = gate.reached() => task.abort(),
                // A rotation that has begun already commits nothing.
                rotated = &mut task => assert!(rotated.unwrap().is_ok()),
            }
            gate.open();
        }
        Step::SignInAgain => held.push(sign_in_again(here, &mine).await.token),
        Step::LoseTheSignIn => {
            sign_in_again(here, &mine).await;
        }
        Step::Parallel => {
            let (a, b) = tokio::join!(renewed(here, &mine), active(&fleet.nodes[1 - node], &mine));
            assert!(b, "beside a rotation");
            let again = renewed(&fleet.nodes[1 - node], &mine).await;
            assert_eq!(a.digest(), again.digest());
            held.push(a);
        }
        Step::Wait(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any interleaving: the owner stays in, and a copy of any token that the owner had before is found.
    #[test]
    fn the_owner_stays_in_and_a_copy_is_found(
        steps in prop::collection::vec(step(), 1..24),
        (which, thief) in (any::<prop::sample::Index>(), 0..2_usize),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let fleet = Fleet::start(Options::default()).await;
            let mut held = vec![sign_in(&fleet.nodes[0], "alice").await.token];
            for (node, step) in steps {
                take(&fleet, node, step, &mut held).await;
                let mine = held.last().unwrap();
                assert!(active(&fleet.nodes[node], mine).await, "after {step:?}");
                assert!(active(&fleet.nodes[1 - node], mine).await, "after {step:?}");
            }
            tokio::time::sleep(Duration::from_secs(11)).await;
            let mine = held.pop().unwrap();
            if !held.is_empty() {
                let copy = which.get(&held);
                assert_eq!(end_cause(&fleet.nodes[thief], copy).await, Some(EndCause::TokenReused));
                assert!(!active(&fleet.nodes[thief], &mine).await);
            }
        });
    }
}

/// A thief who hangs up as soon as the store is asked.
#[tokio::test(start_paused = true)]
async fn a_theft_that_a_rotation_finds_ends_the_session_although_the_caller_goes() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, _] = &fleet.nodes;
    let old = sign_in(here, "alice").await;
    let new = renewed(here, &old.token).await;
    assert!(active(here, &new).await);
    tokio::time::sleep(Options::default().rotation_grace + Duration::from_secs(1)).await;
    let gate = fleet.probes[0].hold_before("end_many");
    let (manager, token) = (here.sessions().clone(), old.token.expose());
    let theft =
        tokio::spawn(async move { manager.rotate(token.as_bytes(), RotateReason::Renewal).await });
    gate.reached().await;
    theft.abort();
    assert!(theft.await.unwrap_err().is_cancelled());
    gate.open();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(fleet.store.load(old.session.id()).await.unwrap().is_none());
    assert_eq!(end_cause(here, &new).await, Some(EndCause::TokenReused));
}

/// Its last use cannot be stored for a while, and counts.
#[tokio::test(start_paused = true)]
async fn a_rotation_refuses_no_session_whose_use_is_not_stored_yet() {
    let idle = Duration::from_secs(600);
    let options = Options::default().with_timeouts(Timeouts::none().with_idle(idle));
    let fleet = Fleet::start(options).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    assert!(active(node, &signed_in.token).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    fleet.probes[0].fail("touch", true);
    tokio::time::sleep(idle / 2).await;
    assert!(active(node, &signed_in.token).await);
    tokio::time::sleep(idle / 2).await;
    renewed(node, &signed_in.token).await;
}

/// The cleanup comes after the session would have ended, and before the new token is used.
#[tokio::test(start_paused = true)]
async fn a_cleanup_leaves_a_session_whose_new_token_waits() {
    let three_quarters = Duration::from_secs(2700);
    let timeouts = Timeouts::none().with_absolute(three_quarters);
    let fleet = Fleet::start(Options::default().with_timeouts(timeouts)).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    assert!(active(node, &signed_in.token).await);
    tokio::time::sleep(three_quarters - Duration::from_secs(60)).await;
    let proven = match rotate(node, &signed_in.token).await {
        Rotation::Rotated { token, .. } => token,
        outcome => panic!("{outcome:?}"),
    };
    tokio::time::sleep(Duration::from_secs(1200)).await;
    assert!(active(node, &proven).await);
}

/// Also a node that may not trust its cache knows the fleet's tokens.
#[tokio::test(start_paused = true)]
async fn well_formed_garbage_costs_no_read_while_the_log_is_silent() {
    let fleet = Fleet::start(Options::default()).await;
    fleet.probes[0].fail("log_since", true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let calls = fleet.probes[0].total();
    let id = SessionId::from_bytes([7; 16]);
    let garbage = Token::new(&FleetKey::from_bytes([9; 32]), id, [0; 12], [0; 16]);
    let found = verdict(&fleet.nodes[0], &garbage).await;
    assert!(matches!(found, Verdict::Refused(Refusal::Malformed)), "{found:?}");
    assert_eq!(fleet.probes[0].total(), calls);
}

/// Its first use cannot be stored, and the user has proved who they are all the same.
#[tokio::test(start_paused = true)]
async fn a_new_token_is_fresh_while_its_first_use_cannot_be_stored() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let proven = node.sessions().now();
    let token = match rotate(node, &signed_in.token).await {
        Rotation::Rotated { token, .. } => token,
        outcome => panic!("{outcome:?}"),
    };
    fleet.probes[0].fail("commit", true);
    assert_eq!(current(node, &token).await.authenticated_at(), proven);
}

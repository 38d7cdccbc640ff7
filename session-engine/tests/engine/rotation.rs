//! Rotation and theft (G13).

use std::time::Duration;

use session_core::{EndCause, Store, Token};
use session_engine::{Access, Engine, Options, Refusal, RotateReason, Rotation, Verdict};

use crate::probe::{Fleet, sign_in};

async fn rotate(node: &Engine, token: &Token) -> Rotation {
    let token = token.expose();
    node.sessions().rotate(token.as_bytes(), RotateReason::Reauthenticated).await.unwrap()
}

async fn active(node: &Engine, token: &Token) -> bool {
    let token = token.expose();
    let verdict = node.sessions().validate(token.as_bytes(), Access::default()).await.unwrap();
    matches!(verdict, Verdict::Active(_))
}

#[tokio::test(start_paused = true)]
async fn the_old_token_works_for_its_grace_and_proves_theft_afterwards() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let old = sign_in(here, "alice").await;
    assert!(active(there, &old.token).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let Rotation::Rotated { id, token: new } = rotate(here, &old.token).await else {
        panic!("the current token rotates");
    };
    assert_eq!(id, old.session.id());
    for node in [here, there] {
        assert!(active(node, &new).await, "the new token works everywhere at once");
        assert!(active(node, &old.token).await, "the old one is in its grace");
    }
    let token = new.expose();
    let verdict = here.sessions().validate(token.as_bytes(), Access::default()).await.unwrap();
    let session = verdict.session().unwrap();
    assert_eq!(session.authenticated_at().since(old.session.authenticated_at()).as_secs(), 60);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(active(there, &new).await);
    let token = old.token.expose();
    let verdict = there.sessions().validate(token.as_bytes(), Access::default()).await.unwrap();
    let stolen = Refusal::Ended(EndCause::TokenReused);
    assert!(matches!(verdict, Verdict::Refused(refusal) if refusal == stolen), "{verdict:?}");
    assert!(!active(there, &new).await, "the thief may be either of the two");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!active(here, &new).await);
}

#[tokio::test(start_paused = true)]
async fn of_concurrent_rotations_one_goes_through() {
    let fleet = Fleet::start(Options::default()).await;
    let signed_in = sign_in(&fleet.nodes[0], "alice").await;
    let token = signed_in.token.expose();
    let mut running = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (manager, token) = (fleet.nodes[n % 2].sessions().clone(), token.clone());
        running.spawn(async move { manager.rotate(token.as_bytes(), RotateReason::Renewal).await });
    }
    let mut rotated = Vec::new();
    for outcome in running.join_all().await {
        match outcome.unwrap() {
            Rotation::Rotated { token, .. } => rotated.push(token),
            outcome => assert!(matches!(outcome, Rotation::AlreadyRotated), "{outcome:?}"),
        }
    }
    assert_eq!(rotated.len(), 1);
    assert!(active(&fleet.nodes[1], &rotated[0]).await);
}

/// A client whose rotation went through unheard must not be taken for a thief.
#[tokio::test(start_paused = true)]
async fn a_rotation_whose_answer_was_lost_is_found_again() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    fleet.probes[0].lose_answers(true);
    let Rotation::Rotated { token: new, .. } = rotate(node, &signed_in.token).await else {
        panic!("it went through");
    };
    fleet.probes[0].lose_answers(false);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(active(node, &new).await && active(&fleet.nodes[1], &new).await);
}

#[tokio::test(start_paused = true)]
async fn worthless_tokens_do_not_rotate() {
    let fleet = Fleet::start(Options::default()).await;
    let node = &fleet.nodes[0];
    let signed_in = sign_in(node, "alice").await;
    let outcome = node.sessions().rotate(b"garbage", RotateReason::Renewal).await.unwrap();
    assert!(matches!(outcome, Rotation::Refused(Refusal::Malformed)));
    let guess = Token::new(signed_in.session.id(), [0; 12], [0; 16]);
    assert!(matches!(rotate(node, &guess).await, Rotation::Refused(Refusal::WrongSecret)));
    assert!(active(node, &signed_in.token).await, "a guess harms nobody");
}

/// Whatever tokens can be made of what a store holds are none of the session, nor prove theft.
#[tokio::test(start_paused = true)]
async fn a_stolen_copy_of_the_store_signs_nobody_in() {
    let fleet = Fleet::start(Options::default()).await;
    let [here, there] = &fleet.nodes;
    let first = sign_in(here, "alice").await;
    let Rotation::Rotated { id, token } = rotate(here, &first.token).await else {
        panic!("the current token rotates");
    };
    let stolen = fleet.probes[0].load(id).await.unwrap().unwrap().session.token;
    for digest in [stolen.current, stolen.family, stolen.retired.unwrap().digest] {
        for secrets in [&digest.as_bytes()[..28], &digest.as_bytes()[4..]] {
            let (family, secret) = secrets.split_at(Token::FAMILY_BYTES);
            let family = family.try_into().unwrap();
            let forged = Token::new(id, family, secret.try_into().unwrap());
            assert!(!active(here, &forged).await && !active(there, &forged).await);
        }
    }
    assert!(active(here, &token).await, "a guess harms nobody");
}

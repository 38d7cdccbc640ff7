//! How tokens follow one another.

use super::*;
use crate::field::SessionId;
use crate::token::FleetKey;

const GRACE: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Timestamp {
    Timestamp::EPOCH.plus(Duration::from_secs(seconds))
}

fn begun() -> (Session, Token) {
    let key = FleetKey::from_bytes([7; 32]);
    let token = Token::new(&key, SessionId::from_random([1; 16]), [1; 12], [1; 16]);
    let owner = crate::UserKey::new("alice".parse().unwrap());
    (Session::new(owner, &token, at(0)), token)
}

fn recognise(session: &Session, token: &Token, seconds: u64) -> Recognition {
    session.token.recognise(token, GRACE, at(seconds))
}

#[test]
fn a_rotation_repeats_its_answer_until_it_is_used() {
    let (session, first) = begun();
    let (stored, next) = begin(&session, &first, [2; 16], None, at(5));
    let session = stored.unwrap();
    let (again, same) = begin(&session, &first, [3; 16], None, at(500));
    assert_eq!((again, same.digest()), (None, next.digest()));
    assert_eq!(recognise(&session, &first, 500), Recognition::Current);
    assert_eq!(recognise(&session, &next, 500), Recognition::Successor);
    let session = confirm(&session, &next, &Timeouts::default(), at(500));
    assert_eq!(recognise(&session, &next, 500), Recognition::Current);
    assert_eq!(recognise(&session, &first, 509), Recognition::InGrace);
    assert_eq!(recognise(&session, &first, 510), Recognition::Reused);
    assert_eq!(session.token.issued, at(5));
    assert_eq!(confirm(&session, &next, &Timeouts::default(), at(600)), session);
}

#[test]
fn a_re_authentication_counts_once_its_token_is_used_and_for_no_older_one() {
    let (session, first) = begun();
    let (stepped, next) = begin(&session, &first, [3; 16], Some(proof()), at(9));
    let stepped = stepped.unwrap();
    assert_eq!(stepped.authentication, Authentication::at(at(0)));
    let session = confirm(&stepped, &next, &Timeouts::aal2(), at(20));
    assert_eq!(session.authentication, proof());
    assert_eq!(session.absolute_expiry, Timeouts::aal2().absolute_expiry(at(9)));
    assert_eq!(session.token.retired.unwrap().authentication, Authentication::at(at(0)));
}

/// A provider that asks nothing tells of an old proof.
#[test]
fn an_old_proof_prolongs_and_shortens_nothing() {
    for (expiry, restarted) in [(Some(at(90_000)), None), (Some(at(100)), Some(at(86_409)))] {
        let (mut session, first) = begun();
        session.absolute_expiry = expiry;
        let (stepped, next) = begin(&session, &first, [3; 16], Some(proof()), at(40));
        let confirmed = confirm(&stepped.unwrap(), &next, &Timeouts::aal2(), at(50));
        assert_eq!(confirmed.authentication, proof());
        assert_eq!(confirmed.absolute_expiry, restarted.or(expiry));
    }
}

fn proof() -> Authentication {
    let level = Some(crate::AssuranceLevel::Aal2);
    Authentication { level, ..Authentication::at(at(9)) }
}

#[test]
fn a_copy_that_is_renewed_before_or_after_never_becomes_the_owners_step_up() {
    let (session, first) = begun();
    for renews_first in [true, false] {
        let renew = |session: &Session| {
            let (changed, copied) = begin(session, &first, [2; 16], None, at(5));
            (changed.unwrap(), copied)
        };
        let step_up = |session: &Session| {
            let (changed, owned) = begin(session, &first, [3; 16], Some(proof()), at(9));
            (changed.unwrap(), owned)
        };
        let (session, copied, owned) = if renews_first {
            let (session, copied) = renew(&session);
            let (session, owned) = step_up(&session);
            (session, copied, owned)
        } else {
            let (session, owned) = step_up(&session);
            let (session, copied) = renew(&session);
            (session, copied, owned)
        };
        assert_ne!(copied.digest(), owned.digest());
        let again = begin(&session, &first, [4; 16], Some(proof()), at(10));
        assert_eq!(again.1.digest(), owned.digest(), "a second proof, the same token");
        let used = confirm(&session, &owned, &Timeouts::default(), at(20));
        assert_eq!(recognise(&used, &owned, 20), Recognition::Current);
        assert_eq!(recognise(&used, &copied, 29), Recognition::Superseded);
        assert_eq!(recognise(&used, &copied, 30), Recognition::Reused);
    }
}

#[test]
fn a_sign_in_on_the_device_that_holds_the_session_makes_it_another_once_its_token_is_used() {
    let (mut session, first) = begun();
    session.data = Some(ExtraData::from_json("1").unwrap());
    session.timeouts = Some(Timeouts::aal3());
    let signs_in = |session: &Session, salt: u8, seconds: u64| {
        let data = Some(ExtraData::from_json(&seconds.to_string()).unwrap());
        let again = SignInAgain {
            at: at(seconds),
            device_info: DeviceInfo::truncated("Laptop"),
            data,
            timeouts: None,
            unknown: Unknown::new(),
        };
        sign_in_again(session, &first, [salt; 16], Authentication::at(at(3)), again)
    };
    let (once, token) = signs_in(&session, 2, 5);
    let before = |it: &Session| (it.data.clone(), it.timeouts, it.authentication.clone());
    assert_eq!(before(&once), before(&session), "its answer may never arrive");
    assert_eq!(recognise(&once, &first, 500), Recognition::Current);
    // The form was sent twice, and the other tab proves something, too.
    let (twice, same) = signs_in(&once, 3, 6);
    assert_eq!(same.digest(), token.digest());
    let (proven, same) = begin(&twice, &first, [4; 16], Some(proof()), at(7));
    assert_eq!(same.digest(), token.digest());
    let used = confirm(&proven.unwrap(), &token, &Timeouts::aal2(), at(20));
    assert_eq!(used.data, Some(ExtraData::from_json("6").unwrap()));
    assert_eq!(used.device_info, DeviceInfo::truncated("Laptop"));
    assert_eq!((used.timeouts, &used.authentication), (None, &proof()));
    // The lifetime begins with the latest of all that was proved.
    assert_eq!(used.absolute_expiry, Timeouts::aal2().absolute_expiry(at(9)));
    assert_eq!((used.id, used.signed_in), (session.id, session.signed_in));
    // With the token that it replaces, while that one is in its grace.
    let (again, other) = signs_in(&used, 5, 22);
    assert_eq!(recognise(&again, &token, 23), Recognition::Current);
    assert_eq!(recognise(&again, &other, 23), Recognition::StepUp);
}

/// As after a provider that asks nothing: the session lasts as long as one that begins with the sign-in.
#[test]
fn a_sign_in_with_an_old_proof_lasts_from_the_sign_in_on() {
    let (session, first) = begun();
    let again = SignInAgain {
        at: at(5_000),
        device_info: None,
        data: None,
        timeouts: None,
        unknown: Unknown::new(),
    };
    let (waiting, token) = sign_in_again(&session, &first, [2; 16], proof(), again);
    let used = confirm(&waiting, &token, &Timeouts::aal2(), at(5_001));
    assert_eq!(used.absolute_expiry, Timeouts::aal2().absolute_expiry(at(5_000)));
    assert_eq!(used.authentication, proof());
}

/// In another tab, a renewal's answer has come before that of the re-authentication.
#[test]
fn a_renewal_that_is_used_first_leaves_the_step_up_good() {
    let (session, first) = begun();
    let (session, renewed) = begin(&session, &first, [2; 16], None, at(5));
    let (session, stepped) = begin(&session.unwrap(), &first, [3; 16], Some(proof()), at(9));
    let session = confirm(&session.unwrap(), &renewed, &Timeouts::default(), at(10));
    assert_eq!(session.authentication, Authentication::at(at(0)), "a renewal proves nothing");
    assert_eq!(recognise(&session, &stepped, 99), Recognition::StepUp);
    let repeated = begin(&session, &renewed, [4; 16], Some(proof()), at(11));
    assert_ne!(repeated.1.digest(), stepped.digest(), "made with another token");
    let session = confirm(&session, &stepped, &Timeouts::default(), at(12));
    assert_eq!(session.authentication, proof());
    assert_eq!(recognise(&session, &renewed, 13), Recognition::InGrace);
}

#[test]
fn a_guess_with_the_right_id_is_unknown_and_proves_no_theft() {
    let (session, first) = begun();
    let (session, next) = begin(&session, &first, [2; 16], None, at(0));
    let session = confirm(&session.unwrap(), &next, &Timeouts::default(), at(0));
    let key = FleetKey::from_bytes([7; 32]);
    let guess = Token::new(&key, session.id, [9; 12], [1; 16]);
    assert_eq!(recognise(&session, &guess, 10), Recognition::Unknown);
    assert_eq!(recognise(&session, &first, 10), Recognition::Reused);
}

#[test]
fn two_quick_rotations_are_not_theft() {
    let (session, first) = begun();
    let (stored, second) = begin(&session, &first, [2; 16], None, at(0));
    let session = confirm(&stored.unwrap(), &second, &Timeouts::default(), at(1));
    let (stored, third) = begin(&session, &second, [3; 16], None, at(4));
    let session = confirm(&stored.unwrap(), &third, &Timeouts::default(), at(5));
    assert_eq!(recognise(&session, &first, 6), Recognition::Superseded);
    assert_eq!(recognise(&session, &second, 6), Recognition::InGrace);
    assert_eq!(recognise(&session, &third, 6), Recognition::Current);
    assert_eq!(recognise(&session, &first, 15), Recognition::Reused);
}

#[test]
fn a_token_is_due_for_renewal_until_its_successor_is_used() {
    let (session, first) = begun();
    let after = Duration::from_secs(600);
    assert!(!session.token.renewal_is_due(after, at(599)));
    assert!(session.token.renewal_is_due(after, at(600)));
    let (session, next) = begin(&session, &first, [2; 16], None, at(600));
    let session = session.unwrap();
    assert!(session.token.renewal_is_due(after, at(601)));
    let session = confirm(&session, &next, &Timeouts::default(), at(602));
    assert!(!session.token.renewal_is_due(after, at(1199)));
}

#[test]
fn a_session_is_kept_for_the_token_that_waits_and_for_a_day_at_the_most() {
    let (session, first) = begun();
    let (timeouts, cleanup) = (Timeouts::aal2(), Cleanup::default());
    let kept = |session: &Session, now| deadline_while_pending(session, &timeouts, &cleanup, now);
    let sign_in = SignInAgain {
        at: at(9),
        device_info: None,
        data: None,
        timeouts: Some(timeouts),
        unknown: Unknown::new(),
    };
    let (mut stepped, _) = sign_in_again(&session, &first, [3; 16], proof(), sign_in);
    stepped.deadline = at(40);
    assert_eq!(kept(&session, at(50)), session.deadline, "none waits");
    let used = stepped_up(&stepped, &stepped.token.step_ups[0], &timeouts, at(50));
    let deadline = used.deadline_at(&timeouts, &cleanup, at(50), true);
    assert!(at(50) < deadline && deadline < at(9).plus(UNCLAIMED_FOR));
    assert_eq!(kept(&stepped, at(50)), deadline);
    stepped.deadline = deadline.plus(GRACE);
    assert_eq!(kept(&stepped, at(50)), deadline.plus(GRACE), "it comes no earlier");
    stepped.deadline = at(40);
    let long = Timeouts { idle: Some(UNCLAIMED_FOR * 30), absolute: None };
    stepped.token.step_ups[0].sign_in.as_mut().unwrap().timeouts = Some(long);
    assert_eq!(kept(&stepped, at(50)), at(9).plus(UNCLAIMED_FOR));
}

/// Each token that is shown gets one of its own, so renewals between the proofs make several.
#[test]
fn tokens_of_proofs_wait_side_by_side_three_at_most_and_for_a_day_once_another_is_used() {
    let (mut session, mut shown) = begun();
    let mut handed_out = Vec::new();
    for n in 1..=4 {
        let (stepped, token) = begin(&session, &shown, [n; 16], Some(proof()), at(9));
        let (renewing, renewed) = begin(&stepped.unwrap(), &shown, [9; 16], None, at(9));
        session = confirm(&renewing.unwrap(), &renewed, &Timeouts::default(), at(10));
        (shown, _) = (renewed, handed_out.push(token));
    }
    assert_eq!(session.token.step_ups.len(), TokenState::MAX_STEP_UPS);
    assert_eq!(recognise(&session, &handed_out[0], 11), Recognition::Superseded, "the oldest");
    for token in &handed_out[1..] {
        assert_eq!(recognise(&session, token, 11), Recognition::StepUp);
    }
    let soon = confirm(&session, &handed_out[3], &Timeouts::default(), at(20));
    assert_eq!(recognise(&soon, &handed_out[2], 5_000), Recognition::StepUp, "it may have arrived");
    let day = 24 * 3600;
    let late = confirm(&soon, &handed_out[2], &Timeouts::default(), at(9 + day));
    assert_eq!(recognise(&late, &handed_out[1], 9 + day), Recognition::Superseded);
}

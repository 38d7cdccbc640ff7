//! What a presented token is worth, and how a token is replaced.
//!
//! A rotation has two steps. It begins when a client asks for it: the record names a *successor* of
//! the current token, and every client that shows the current token gets the same successor. It is
//! confirmed when the successor is presented for the first time, on any node: the successor becomes
//! the current token, and the one before it is *retired*. An answer that is lost on its way costs
//! nothing, because the current token stays valid until its successor has been used.
//!
//! A re-authentication names a successor of its own, [`TokenState::step_up`]. A copy of the current token
//! can be renewed, and never yields the token that the owner got for a proof. Once that one has been
//! used, what the copy was renewed to is refused, and proves theft after the grace.
//!
//! The owner's client can come to hold such a token itself: two tabs of a browser share a cookie, one
//! asks for a renewal, the other for a re-authentication and uses its token, and then the answer to the
//! renewal arrives and replaces the cookie. Nothing tells this token from a copy's, so it is treated as
//! one, and the user signs in again.
//!
//! A user who signs in again on the device that holds the session gets such a token, too
//! ([`sign_in_again`]). Its first use applies what the sign-in said ([`SignInAgain`]).

use std::time::Duration;

use crate::field::{DeviceInfo, ExtraData};
use crate::planted::{self, Defect};
use crate::session::{Authentication, Session, Unknown};
use crate::time::Timestamp;
use crate::token::{Token, TokenDigest};
use crate::usage::Timeouts;

/// The digests that a session's record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenState {
    /// Digest of the token that is valid now.
    pub current: TokenDigest,
    /// Digest of the part that all of the session's tokens share.
    pub family: TokenDigest,
    /// When the current token was issued.
    pub issued: Timestamp,
    /// The token after it, once a renewal has begun.
    pub successor: Option<Successor>,
    /// The token of a re-authentication, made with the current token or with the one before it, that
    /// has not been presented yet.
    pub step_up: Option<StepUp>,
    /// The token before it, once there has been a rotation.
    pub retired: Option<RetiredToken>,
}

/// The token after the current one, which has not been presented yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// Its digest.
    pub digest: TokenDigest,
    /// What it follows from, together with the current token: [`Token::successor`].
    pub salt: [u8; 16],
    /// When it was issued.
    pub issued: Timestamp,
    /// What a newer version has written beside it.
    pub unknown: Unknown,
}

/// The token that a client gets for a re-authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUp {
    /// The token.
    pub next: Successor,
    /// The re-authentication.
    pub authentication: Authentication,
    /// What the session becomes, where the re-authentication was a sign-in.
    pub sign_in: Option<SignInAgain>,
}

impl StepUp {
    /// When the token was handed out, the last time.
    pub fn handed_out(&self) -> Timestamp {
        let sign_in = self.sign_in.as_ref().map(|sign_in| sign_in.at);
        self.next.issued.max(self.authentication.at).max(sign_in.unwrap_or_default())
    }
}

/// What a session becomes when its user has signed in again on the device that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInAgain {
    /// When.
    pub at: Timestamp,
    /// Readable text about the device. None leaves it unchanged.
    pub device_info: Option<DeviceInfo>,
    /// The application's own data. None leaves them unchanged.
    pub data: Option<ExtraData>,
    /// Timeouts of the session's own. None for those of the options.
    pub timeouts: Option<Timeouts>,
    /// What a newer version has written beside it.
    pub unknown: Unknown,
}

/// The token before the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiredToken {
    /// Its digest.
    pub digest: TokenDigest,
    /// When the current token was first presented.
    pub at: Timestamp,
    /// How the user had proved who they are when it was the current one: it gains nothing from a
    /// re-authentication that was made with another token.
    pub authentication: Authentication,
    /// What a newer version has written beside it.
    pub unknown: Unknown,
}

/// What a presented token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// The valid token.
    Current,
    /// The token after it, for the first time: [`confirm`] has to be stored.
    Successor,
    /// The token of a re-authentication, for the first time: [`confirm`] has to be stored.
    StepUp,
    /// The token before it, within its grace: accepted for requests that were in flight.
    InGrace,
    /// An even older token, while the last rotation is still in its grace: refused, but it may
    /// have been in flight too and proves nothing.
    Superseded,
    /// A token of this session after its grace: it was copied.
    Reused,
    /// Not a token of this session.
    Unknown,
}

impl TokenState {
    /// The state of a session that begins with `token` at `now`.
    pub fn new(token: &Token, now: Timestamp) -> Self {
        let (current, family) = (token.digest(), token.family_digest());
        Self { current, family, issued: now, successor: None, step_up: None, retired: None }
    }

    /// Judges a presented token.
    pub fn recognise(&self, token: &Token, grace: Duration, now: Timestamp) -> Recognition {
        let digest = token.digest();
        if digest == self.current {
            return Recognition::Current;
        }
        if self.successor.as_ref().is_some_and(|successor| digest == successor.digest) {
            return Recognition::Successor;
        }
        if self.step_up.as_ref().is_some_and(|step_up| digest == step_up.next.digest) {
            return Recognition::StepUp;
        }
        let retired = self.retired.as_ref().filter(|_| self.same_family(token));
        let Some(retired) = retired else { return Recognition::Unknown };
        let in_grace = now < retired.at.plus(grace) || planted::is(Defect::RetiredForever);
        let in_grace = in_grace && !planted::is(Defect::NoGrace);
        match (in_grace, digest == retired.digest) {
            (true, true) => Recognition::InGrace,
            (true, false) => Recognition::Superseded,
            (false, _) if planted::is(Defect::TheftUnseen) => Recognition::Superseded,
            (false, _) => Recognition::Reused,
        }
    }

    /// The re-authentication that waits, where it was made with another token than this one.
    pub fn other_step_up(&self, token: &Token) -> Option<&StepUp> {
        let is_other = |it: &&StepUp| token.successor(&it.next.salt).digest() != it.next.digest;
        self.step_up.as_ref().filter(is_other)
    }

    /// Whether the token is of this session's family: one that was valid before a rotation, or
    /// that a rotation made which this copy of the record has not heard of.
    pub fn same_family(&self, token: &Token) -> bool {
        token.family_digest() == self.family
    }

    /// Whether the token is the current one, or one that may follow it.
    pub fn is_current_or_next(&self, token: &Token) -> bool {
        let digest = token.digest();
        self.current == digest
            || self.successor.as_ref().is_some_and(|next| next.digest == digest)
            || self.step_up.as_ref().is_some_and(|step_up| step_up.next.digest == digest)
    }

    /// Whether the current token is old enough to be renewed. One whose successor has not been
    /// presented stays due, so that a lost answer is repeated.
    pub fn renewal_is_due(&self, after: Duration, now: Timestamp) -> bool {
        now >= self.issued.plus(after)
    }
}

/// Begins a rotation of the session's current token, or repeats one that has begun.
///
/// Returns the record to be stored, or none where it is as it has to be, and the next token. The
/// caller has made sure that `current` is the current token. `salt` is random and only taken where
/// there is no such successor yet.
pub fn begin(
    session: &Session,
    current: &Token,
    salt: [u8; 16],
    authentication: Option<Authentication>,
    now: Timestamp,
) -> (Option<Session>, Token) {
    let TokenState { successor, step_up, .. } = &session.token;
    let known = match &authentication {
        None => successor.as_ref(),
        Some(_) => step_up.as_ref().map(|step_up| &step_up.next),
    };
    // That of a re-authentication may follow from the token before the current one.
    let known = known.filter(|known| current.successor(&known.salt).digest() == known.digest);
    let known = known.filter(|_| !planted::is(Defect::RandomSuccessor));
    let next = current.successor(&known.map_or(salt, |known| known.salt));
    // Also where an earlier try has made this token, and it has been used since.
    if (known.is_some() && authentication.is_none()) || next.digest() == session.token.current {
        return (None, next);
    }
    // A later re-authentication repeats this token, so a sign-in that waits with it is kept. Its lifetime
    // begins with the later proof.
    let mut sign_in =
        step_up.as_ref().filter(|_| known.is_some()).and_then(|it| it.sign_in.clone());
    if let (Some(sign_in), Some(authentication)) = (&mut sign_in, &authentication) {
        sign_in.at = sign_in.at.max(authentication.at);
    }
    let successor = known.cloned().unwrap_or_else(|| Successor {
        digest: next.digest(),
        salt,
        issued: now,
        unknown: Unknown::new(),
    });
    let mut changed = session.clone();
    match authentication {
        None => changed.token.successor = Some(successor),
        Some(authentication) => {
            if planted::is(Defect::StepUpAtOnce) {
                changed.authentication = authentication.clone();
            }
            changed.token.step_up = Some(StepUp { next: successor, authentication, sign_in });
        }
    }
    ((changed != *session).then_some(changed), next)
}

/// As [`begin`] with a re-authentication, for a user who signs in again on the device that holds the
/// session. `shown` is the current token, or the one before it in its grace.
pub fn sign_in_again(
    session: &Session,
    shown: &Token,
    salt: [u8; 16],
    authentication: Authentication,
    sign_in: SignInAgain,
) -> (Session, Token) {
    let (begun, next) = begin(session, shown, salt, Some(authentication), sign_in.at);
    let mut begun = begun.unwrap_or_else(|| session.clone());
    let step_up = begun.token.step_up.as_mut();
    if let Some(step_up) = step_up.filter(|it| it.next.digest == next.digest()) {
        // One that began earlier may come later.
        let waiting = step_up.sign_in.as_ref().map(|waiting| waiting.at);
        let at = sign_in.at.max(waiting.unwrap_or_default());
        step_up.sign_in = Some(SignInAgain { at, ..sign_in });
    }
    if planted::is(Defect::AgainAtOnce) {
        begun = confirm(&begun, &next, &Timeouts::default(), begun.token.issued);
    }
    (begun, next)
}

/// The session once the token of the re-authentication that waits has been used. None where none waits.
pub fn stepped_up(session: &Session, default: &Timeouts, now: Timestamp) -> Option<Session> {
    let digest = session.token.step_up.as_ref()?.next.digest;
    Some(confirm_digest(session, digest, default, now))
}

/// Makes `shown`, a successor, the current token: it has been presented for the first time.
///
/// A re-authentication that it was issued for counts from now on, and both timeouts start again, the overall
/// one with the proof (NIST SP 800-63B-4, section 5.2). Where it was a sign-in, the session also takes that
/// sign-in's data, timeouts and device text, and the overall timeout starts at its time. A re-authentication
/// that waits stays beside a renewal: its answer may be on its way to the client. With another token, the
/// record stays as it is.
pub fn confirm(session: &Session, shown: &Token, default: &Timeouts, now: Timestamp) -> Session {
    confirm_digest(session, shown.digest(), default, now)
}

fn confirm_digest(
    session: &Session,
    digest: TokenDigest,
    default: &Timeouts,
    now: Timestamp,
) -> Session {
    let mut session = session.clone();
    let renewed = session.token.successor.take_if(|next| next.digest == digest);
    let stepped = session.token.step_up.take_if(|step_up| step_up.next.digest == digest);
    let (successor, proven) = match (renewed, stepped) {
        (_, Some(StepUp { next, authentication, sign_in })) => {
            (next, Some((authentication, sign_in)))
        }
        (Some(next), None) => (next, None),
        (None, None) => return session,
    };
    let used = if planted::is(Defect::GraceFromBegin) { successor.issued } else { now };
    session.token.retired = Some(RetiredToken {
        digest: session.token.current,
        at: used,
        authentication: session.authentication.clone(),
        unknown: Unknown::new(),
    });
    session.token.current = successor.digest;
    session.token.issued = successor.issued;
    session.token.successor = None;
    match proven {
        None => {}
        Some((authentication, None)) => {
            let timeouts = session.timeouts.as_ref().unwrap_or(default);
            let restarted = timeouts.absolute_expiry(authentication.at);
            // A proof that was old when it was given prolongs nothing, and shortens nothing.
            session.absolute_expiry =
                restarted.max(session.absolute_expiry.filter(|_| restarted.is_some()));
            session.authentication = authentication;
        }
        Some((authentication, Some(sign_in))) => {
            let SignInAgain { at, device_info, data, timeouts, mut unknown } = sign_in;
            session.absolute_expiry = timeouts.as_ref().unwrap_or(default).absolute_expiry(at);
            session.device_info = device_info.or(session.device_info);
            session.data = data.or(session.data);
            session.timeouts = timeouts;
            session.authentication = authentication;
            // Unknown fields of the old timeouts go; those of the new ones come.
            session.unknown.remove("timeouts");
            session.unknown.extend(unknown.remove_entry("timeouts"));
        }
    }
    session
}

#[cfg(test)]
mod tests {
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
}

//! What a presented token is worth, and how a token is replaced.
//!
//! A rotation has two steps. It begins when a client asks for it: the record names a *successor* of
//! the current token, and every client that shows the current token gets the same successor. It is
//! confirmed when the successor is presented for the first time, on any node: the successor becomes
//! the current token, and the one before it is *retired*. An answer that is lost on its way costs
//! nothing, because the current token stays valid until its successor has been used. A re-authentication
//! belongs to the successor, also where a renewal has named it before: whoever has a copy of the current
//! token and renews it first shares the owner's next token, until the two of them use different ones.

use std::time::Duration;

use crate::checker::Timeouts;
use crate::session::{Authentication, Session, Unknown};
use crate::time::Timestamp;
use crate::token::{Token, TokenDigest};

/// The digests that a session's record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenState {
    /// Digest of the token that is valid now.
    pub current: TokenDigest,
    /// Digest of the part that all of the session's tokens share.
    pub family: TokenDigest,
    /// When the current token was issued.
    pub issued: Timestamp,
    /// The token after it, once a rotation has begun.
    pub successor: Option<Successor>,
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
    /// The re-authentication that it was issued for, if it was.
    pub authentication: Option<Authentication>,
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
        Self { current, family, issued: now, successor: None, retired: None }
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
        let retired = self.retired.as_ref().filter(|_| self.same_family(token));
        let Some(retired) = retired else { return Recognition::Unknown };
        match (now < retired.at.plus(grace), digest == retired.digest) {
            (true, true) => Recognition::InGrace,
            (true, false) => Recognition::Superseded,
            (false, _) => Recognition::Reused,
        }
    }

    /// Whether the token is of this session's family: one that was valid before a rotation, or
    /// that a rotation made which this copy of the record has not heard of.
    pub fn same_family(&self, token: &Token) -> bool {
        token.family_digest() == self.family
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
/// there is no successor yet.
pub fn begin(
    session: &Session,
    current: &Token,
    salt: [u8; 16],
    authentication: Option<Authentication>,
    now: Timestamp,
) -> (Option<Session>, Token) {
    let known = session.token.successor.as_ref();
    let salt = known.map_or(salt, |successor| successor.salt);
    let next = current.successor(&salt);
    if known.is_some() && authentication.is_none() {
        return (None, next);
    }
    let issued = known.map_or(now, |successor| successor.issued);
    let unknown = known.map_or_else(Unknown::new, |successor| successor.unknown.clone());
    let successor = Successor { digest: next.digest(), salt, issued, authentication, unknown };
    let mut session = session.clone();
    session.token.successor = Some(successor);
    (Some(session), next)
}

/// Makes the successor the current token: it has been presented for the first time.
///
/// A re-authentication that it was issued for counts from now on, and both timeouts start again
/// (NIST SP 800-63B-4, section 5.2). Without a successor, the record stays as it is.
pub fn confirm(session: &Session, default: &Timeouts, now: Timestamp) -> Session {
    let mut session = session.clone();
    let Some(successor) = session.token.successor.take() else { return session };
    session.token.retired = Some(RetiredToken {
        digest: session.token.current,
        at: now,
        authentication: session.authentication.clone(),
        unknown: Unknown::new(),
    });
    session.token.current = successor.digest;
    session.token.issued = successor.issued;
    if let Some(authentication) = successor.authentication {
        let timeouts = session.timeouts.as_ref().unwrap_or(default);
        session.absolute_expiry = timeouts.absolute_expiry(now);
        session.authentication = authentication;
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
        let session = confirm(&session, &Timeouts::default(), at(500));
        assert_eq!(recognise(&session, &next, 500), Recognition::Current);
        assert_eq!(recognise(&session, &first, 509), Recognition::InGrace);
        assert_eq!(recognise(&session, &first, 510), Recognition::Reused);
        assert_eq!(session.token.issued, at(5));
        assert_eq!(confirm(&session, &Timeouts::default(), at(600)), session);
    }

    #[test]
    fn a_re_authentication_counts_once_its_token_is_used_and_for_no_older_one() {
        let (session, first) = begun();
        let renewed = begin(&session, &first, [2; 16], None, at(5)).0.unwrap();
        let proof = Authentication {
            level: Some(crate::AssuranceLevel::Aal2),
            ..Authentication::at(at(9))
        };
        let (stepped, next) = begin(&renewed, &first, [3; 16], Some(proof.clone()), at(9));
        let stepped = stepped.unwrap();
        assert_eq!(stepped.authentication, Authentication::at(at(0)));
        assert_eq!(next.digest(), renewed.token.successor.unwrap().digest);
        let session = confirm(&stepped, &Timeouts::aal2(), at(20));
        assert_eq!(session.authentication, proof);
        assert_eq!(session.absolute_expiry, Timeouts::aal2().absolute_expiry(at(20)));
        assert_eq!(session.token.retired.unwrap().authentication, Authentication::at(at(0)));
    }

    #[test]
    fn a_guess_with_the_right_id_is_unknown_and_proves_no_theft() {
        let (session, first) = begun();
        let session = begin(&session, &first, [2; 16], None, at(0)).0.unwrap();
        let session = confirm(&session, &Timeouts::default(), at(0));
        let key = FleetKey::from_bytes([7; 32]);
        let guess = Token::new(&key, session.id, [9; 12], [1; 16]);
        assert_eq!(recognise(&session, &guess, 10), Recognition::Unknown);
        assert_eq!(recognise(&session, &first, 10), Recognition::Reused);
    }

    #[test]
    fn two_quick_rotations_are_not_theft() {
        let (session, first) = begun();
        let (stored, second) = begin(&session, &first, [2; 16], None, at(0));
        let session = confirm(&stored.unwrap(), &Timeouts::default(), at(1));
        let (stored, third) = begin(&session, &second, [3; 16], None, at(4));
        let session = confirm(&stored.unwrap(), &Timeouts::default(), at(5));
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
        let session = begin(&session, &first, [2; 16], None, at(600)).0.unwrap();
        assert!(session.token.renewal_is_due(after, at(601)));
        let session = confirm(&session, &Timeouts::default(), at(602));
        assert!(!session.token.renewal_is_due(after, at(1199)));
    }
}

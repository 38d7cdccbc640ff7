//! What a presented token is worth, and how a token is replaced.
//!
//! A rotation has two steps. It begins when a client asks for it: the record names a *successor* of
//! the current token, and every client that shows the current token gets the same successor. It is
//! confirmed when the successor is presented for the first time, on any node: the successor becomes
//! the current token, and the one before it is *retired*. An answer that is lost on its way costs
//! nothing, because the current token stays valid until its successor has been used.
//!
//! A re-authentication names a successor of its own, in [`TokenState::step_ups`]. A copy of the current token
//! can be renewed, and never yields the token that the owner got for a proof. Once that one has been
//! used, what the copy was renewed to is refused, and proves theft after the grace.
//!
//! Two tabs of a browser may show different tokens, while one of them is renewed, and re-authenticate at the
//! same time. Each gets a token of its own, and the browser keeps the one that arrives last, whichever was used
//! first. So the use of one leaves the other pending.
//!
//! The owner's client can come to hold such a token itself: two tabs of a browser share a cookie, one
//! asks for a renewal, the other for a re-authentication and uses its token, and then the answer to the
//! renewal arrives and replaces the cookie. Nothing tells this token from a copy's, so it is treated as
//! one, and the user signs in again.
//!
//! A user who signs in again on the device that holds the session gets such a token, too
//! ([`sign_in_again`]). Its first use applies what the sign-in said ([`SignInAgain`]).

use std::time::Duration;

use crate::cleanup::{Cleanup, UNCLAIMED_FOR};
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
    /// The tokens of re-authentications that have not been presented yet: at most one for each token that
    /// was shown, the newest last, at most [`TokenState::MAX_STEP_UPS`].
    pub step_ups: Vec<StepUp>,
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
    /// Most tokens of re-authentications that wait at the same time.
    pub const MAX_STEP_UPS: usize = 3;

    /// The state of a session that begins with `token` at `now`.
    pub fn new(token: &Token, now: Timestamp) -> Self {
        let (current, family) = (token.digest(), token.family_digest());
        Self { current, family, issued: now, successor: None, step_ups: Vec::new(), retired: None }
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
        if self.place(&digest).is_some() {
            return Recognition::StepUp;
        }
        let retired = self.retired.as_ref().filter(|_| self.same_family(token));
        let Some(retired) = retired else { return Recognition::Unknown };
        let in_grace = now < retired.at.plus(grace) || planted::is(Defect::RetiredForever);
        let in_grace = in_grace && !planted::is(Defect::NoGrace);
        let is_last = digest == retired.digest || planted::is(Defect::FamilyInGrace);
        match (in_grace, is_last) {
            (true, true) => Recognition::InGrace,
            (true, false) => Recognition::Superseded,
            (false, _) if planted::is(Defect::TheftUnseen) => Recognition::Superseded,
            (false, _) => Recognition::Reused,
        }
    }

    /// The place in [`TokenState::step_ups`] of the re-authentication that this is the token of.
    pub fn step_up(&self, token: &Token) -> Option<usize> {
        self.place(&token.digest())
    }

    fn place(&self, digest: &TokenDigest) -> Option<usize> {
        self.step_ups.iter().position(|step_up| step_up.next.digest == *digest)
    }

    /// Adds a re-authentication, or repeats one. Without room, the oldest leaves.
    fn hand_out(&mut self, step_up: StepUp) {
        if let Some(known) = self.place(&step_up.next.digest) {
            self.step_ups.remove(known);
        }
        if self.step_ups.len() >= Self::MAX_STEP_UPS {
            self.step_ups.remove(0);
        }
        self.step_ups.push(step_up);
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
            || self.place(&digest).is_some()
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
    let TokenState { successor, step_ups, .. } = &session.token;
    let follows = |next: &Successor| {
        let is_next = current.successor(&next.salt).digest() == next.digest;
        is_next && !planted::is(Defect::RandomSuccessor)
    };
    let step_up = step_ups.iter().find(|step_up| follows(&step_up.next));
    let known = match &authentication {
        None => successor.as_ref().filter(|next| follows(next)),
        Some(_) => step_up.map(|step_up| &step_up.next),
    };
    let next = current.successor(&known.map_or(salt, |known| known.salt));
    // Also where an earlier try has made this token, and it has been used since.
    if (known.is_some() && authentication.is_none()) || next.digest() == session.token.current {
        return (None, next);
    }
    // A later re-authentication repeats this token, so a sign-in that waits with it is kept. Its lifetime
    // begins with the later proof.
    let mut sign_in = step_up.and_then(|step_up| step_up.sign_in.clone());
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
            let step_up = StepUp { next: successor, authentication, sign_in };
            changed.token.hand_out(step_up);
        }
    }
    ((changed != *session).then_some(changed), next)
}

/// As [`begin`] with a re-authentication, for a user who signs in again on the device that holds the
/// session. `shown` is the current token, or one that was replaced after the request had shown it.
pub fn sign_in_again(
    session: &Session,
    shown: &Token,
    salt: [u8; 16],
    authentication: Authentication,
    sign_in: SignInAgain,
) -> (Session, Token) {
    let (begun, next) = begin(session, shown, salt, Some(authentication), sign_in.at);
    let mut begun = begun.unwrap_or_else(|| session.clone());
    if let Some(place) = begun.token.place(&next.digest()) {
        let step_up = &mut begun.token.step_ups[place];
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

/// The session once the token of this re-authentication, one of its own, has been used.
pub fn stepped_up(
    session: &Session,
    step_up: &StepUp,
    default: &Timeouts,
    now: Timestamp,
) -> Session {
    confirm_digest(session, step_up.next.digest, default, now)
}

/// The record's deadline while tokens of re-authentications are pending, whose first use starts the timeouts
/// again: that of the session once one has been used, and at most [`UNCLAIMED_FOR`] after it was handed out.
/// It never comes earlier than the record's. Where none is pending, it is the record's.
pub fn deadline_while_pending(
    session: &Session,
    default: &Timeouts,
    cleanup: &Cleanup,
    now: Timestamp,
) -> Timestamp {
    let deadlines = session.token.step_ups.iter().map(|step_up| {
        let used = stepped_up(session, step_up, default, now);
        let deadline = used.deadline_at(default, cleanup, now, true);
        deadline.min(step_up.handed_out().plus(UNCLAIMED_FOR))
    });
    deadlines.fold(session.deadline, Timestamp::max)
}

/// Makes `shown`, a successor, the current token: it has been presented for the first time.
///
/// A re-authentication that it was issued for counts from now on, and both timeouts start again, the overall
/// one with the proof (NIST SP 800-63B-4, section 5.2). Where it was a sign-in, the session also takes that
/// sign-in's data, timeouts and device text, and the overall timeout starts at its time. Other
/// re-authentications stay pending: their answers may be on their way to the client. The use of one drops those
/// that have been pending for [`UNCLAIMED_FOR`]. With another token, the record stays as it is.
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
    let stepped = session.token.place(&digest).map(|place| session.token.step_ups.remove(place));
    let (successor, proven) = match (renewed, stepped) {
        (_, Some(StepUp { next, authentication, sign_in })) => {
            let is_recent = |other: &StepUp| now < other.handed_out().plus(UNCLAIMED_FOR);
            session.token.step_ups.retain(is_recent);
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
    let stale = planted::is(Defect::StepUpStale).then(|| session.authentication.clone());
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
    if let Some(stale) = stale {
        session.authentication = stale;
    }
    session
}

#[cfg(test)]
mod tests;

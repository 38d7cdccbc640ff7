//! What a presented token is worth, and how a token is replaced.

use std::time::Duration;

use crate::time::Timestamp;
use crate::token::{Token, TokenDigest};

/// The digests that a session's record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenState {
    /// Digest of the token that is valid now.
    pub current: TokenDigest,
    /// Digest of the part that all of the session's tokens share.
    pub family: TokenDigest,
    /// The token before it, once there has been a rotation.
    pub retired: Option<RetiredToken>,
}

/// The token before the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetiredToken {
    /// Its digest.
    pub digest: TokenDigest,
    /// When it was replaced.
    pub at: Timestamp,
}

/// What a presented token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// The valid token.
    Current,
    /// The token before it, within its grace: accepted for requests that were in flight.
    InGrace,
    /// An even older token, while the last rotation is still in its grace: refused, but it may
    /// have been in flight too and proves nothing.
    Superseded,
    /// A token of this session after its grace: somebody holds a stolen copy.
    Reused,
    /// Not a token of this session.
    Unknown,
}

impl TokenState {
    /// The state of a session that begins with `token`.
    pub fn new(token: &Token) -> Self {
        Self { current: token.digest(), family: token.family_digest(), retired: None }
    }

    /// Judges a presented token.
    pub fn recognise(&self, token: &Token, grace: Duration, now: Timestamp) -> Recognition {
        let digest = token.digest();
        if digest == self.current {
            return Recognition::Current;
        }
        let Some(retired) = self.retired.filter(|_| token.family_digest() == self.family) else {
            return Recognition::Unknown;
        };
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

    /// The state after the current token was replaced by `next` at `now`.
    ///
    /// Only the current token may be exchanged; one in its grace has been exchanged already.
    #[must_use]
    pub fn rotated(&self, next: &Token, now: Timestamp) -> Self {
        let retired = RetiredToken { digest: self.current, at: now };
        Self { current: next.digest(), family: self.family, retired: Some(retired) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::SessionId;

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn a_guess_with_the_right_id_is_unknown_and_proves_no_theft() {
        let id = SessionId::from_random([1; 16]);
        let token = Token::new(id, [1; 12], [1; 16]);
        let state = TokenState::new(&token).rotated(&token.rotated([2; 16]), Timestamp::EPOCH);
        let guess = Token::new(id, [9; 12], [1; 16]);
        let late = Timestamp::EPOCH.plus(GRACE);
        assert_eq!(state.recognise(&guess, GRACE, late), Recognition::Unknown);
        assert_eq!(state.recognise(&token, GRACE, late), Recognition::Reused);
    }

    #[test]
    fn two_quick_rotations_are_not_theft() {
        let first = Token::new(SessionId::from_random([1; 16]), [1; 12], [1; 16]);
        let (second, third) = (first.rotated([2; 16]), first.rotated([3; 16]));
        let at = |s| Timestamp::EPOCH.plus(Duration::from_secs(s));
        let state = TokenState::new(&first).rotated(&second, at(0)).rotated(&third, at(5));
        assert_eq!(state.recognise(&first, GRACE, at(6)), Recognition::Superseded);
        assert_eq!(state.recognise(&second, GRACE, at(6)), Recognition::InGrace);
        assert_eq!(state.recognise(&third, GRACE, at(6)), Recognition::Current);
        assert_eq!(state.recognise(&first, GRACE, at(15)), Recognition::Reused);
    }
}

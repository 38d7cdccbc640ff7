//! The secret that a client holds, and the digests that a store holds.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::field::SessionId;

/// What a client presents: a session id with a keyed check, a family secret and a rotating secret.
///
/// The id finds the record in one step. The *check* (64 bits) is made of the id with the fleet's key
/// ([`FleetKey`]): a token with a forged check is refused without a read of the store. The *family*
/// secret (96 random bits) stays the same for the life of a session, so a token from before a rotation
/// can be told from a guess. The *rotating* secret (128 bits) is replaced by every rotation. The text
/// form is 104 hexadecimal digits. `Debug` shows only the id.
#[derive(Clone)]
pub struct Token([u8; Token::BYTES]);

impl Token {
    /// Length of the text form.
    pub const TEXT_LEN: usize = Self::BYTES * 2;
    /// Random bytes that a new family needs.
    pub const FAMILY_BYTES: usize = 12;
    /// Bytes of the rotating secret.
    pub const SECRET_BYTES: usize = 16;

    const BYTES: usize = Self::FAMILY_END + Self::SECRET_BYTES;
    const ID_BYTES: usize = 16;
    const CHECK_END: usize = Self::ID_BYTES + FleetKey::CHECK_BYTES;
    const FAMILY_END: usize = Self::CHECK_END + Self::FAMILY_BYTES;

    /// Puts a token together from an id and fresh random bytes.
    pub fn new(
        key: &FleetKey,
        id: SessionId,
        family: [u8; Self::FAMILY_BYTES],
        secret: [u8; Self::SECRET_BYTES],
    ) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes[..Self::ID_BYTES].copy_from_slice(id.as_bytes());
        bytes[Self::ID_BYTES..Self::CHECK_END].copy_from_slice(&key.check(id));
        bytes[Self::CHECK_END..Self::FAMILY_END].copy_from_slice(&family);
        bytes[Self::FAMILY_END..].copy_from_slice(&secret);
        Self(bytes)
    }

    /// Reads the text form; anything else is `None`, whatever is wrong with it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != Self::TEXT_LEN {
            return None;
        }
        let mut bytes = [0; Self::BYTES];
        const_hex::decode_to_slice(text, &mut bytes).ok().map(|()| Self(bytes))
    }

    /// The text form, to be handed to the client and to nobody else.
    pub fn expose(&self) -> String {
        const_hex::encode(self.0)
    }

    /// The session that the token claims to belong to.
    pub fn session_id(&self) -> SessionId {
        let mut id = [0; Self::ID_BYTES];
        id.copy_from_slice(&self.0[..Self::ID_BYTES]);
        SessionId::from_bytes(id)
    }

    /// Digest of the whole token.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(&self.0)
    }

    /// Digest of the part that rotation keeps.
    pub fn family_digest(&self) -> TokenDigest {
        TokenDigest::of(&self.0[..Self::FAMILY_END])
    }

    /// The next token of the same family. It is derived from this token and the salt: while the record
    /// keeps the salt, every rotation of this token yields the same next one. Neither the record alone nor
    /// this token alone gives it away.
    #[must_use]
    pub fn successor(&self, salt: &[u8; 16]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"session-kit successor");
        hash.update(self.0);
        hash.update(salt);
        let secret = hash.finalize();
        let mut next = self.clone();
        next.0[Self::FAMILY_END..].copy_from_slice(&secret[..Self::SECRET_BYTES]);
        next
    }

    /// Whether a node of this fleet made the token's id. It says nothing of the secrets.
    pub fn is_of_fleet(&self, key: &FleetKey) -> bool {
        key.check(self.session_id()).ct_eq(&self.0[Self::ID_BYTES..Self::CHECK_END]).into()
    }
}

/// A secret that all nodes of a fleet share, kept by the store.
///
/// It makes the check in every token. It does not sign anybody in: the secrets of a token are random.
#[derive(Clone, PartialEq, Eq)]
pub struct FleetKey([u8; FleetKey::BYTES]);

impl FleetKey {
    /// How many bytes.
    pub const BYTES: usize = 32;
    const CHECK_BYTES: usize = 8;

    /// From random bytes, as stored.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored. They are a secret.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// A key for another purpose, which tells nothing of this one.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(b"purpose");
        hash.update(purpose);
        hash.finalize().into()
    }

    fn check(&self, id: SessionId) -> [u8; Self::CHECK_BYTES] {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(id.as_bytes());
        let mut check = [0; Self::CHECK_BYTES];
        check.copy_from_slice(&hash.finalize()[..Self::CHECK_BYTES]);
        check
    }
}

impl fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetKey(redacted)")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, redacted)", self.session_id())
    }
}

/// SHA-256 of a token or of its family part. Compared in constant time; `Debug` is redacted.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// From thirty-two bytes, as stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The thirty-two bytes, for a store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let key = FleetKey::from_bytes([5; 32]);
        Token::new(&key, SessionId::from_random([7; 16]), [1; 12], [2; 16])
    }

    #[test]
    fn text_round_trips() {
        let text = token().expose();
        assert_eq!(text.len(), Token::TEXT_LEN);
        const { assert!(Token::TEXT_LEN <= 128) };
        let parsed = Token::parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.digest(), token().digest());
        assert_eq!(parsed.session_id(), token().session_id());
    }

    #[test]
    fn anything_else_is_none() {
        let text = token().expose();
        for bad in ["", "x", &text[1..], &format!("{text}0"), &"z".repeat(104), &"é".repeat(52)] {
            assert!(Token::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn rotation_keeps_the_family_only() {
        let next = token().successor(&[3; 16]);
        assert_eq!(next.family_digest(), token().family_digest());
        assert_ne!(next.digest(), token().digest());
        assert_eq!(next.digest(), token().successor(&[3; 16]).digest());
        assert_ne!(next.digest(), token().successor(&[4; 16]).digest());
    }

    #[test]
    fn the_check_needs_the_key_and_is_of_the_id() {
        let key = FleetKey::from_bytes([5; 32]);
        assert!(token().is_of_fleet(&key));
        assert!(token().successor(&[3; 16]).is_of_fleet(&key));
        assert!(!token().is_of_fleet(&FleetKey::from_bytes([6; 32])));
        let mut other = token();
        other.0[0] ^= 1;
        assert!(!other.is_of_fleet(&key));
        assert_ne!(key.derive("a"), key.derive("b"));
        assert!(!format!("{key:?}").contains('5'));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", token(), token().digest());
        assert!(!shown.contains(&token().expose()[32..]));
        assert!(!shown.contains(&const_hex::encode(token().digest().as_bytes())));
    }
}

//! Where a session stands in the order of pages: of those that sign in, and of those that ended.

use session_core::store::PageCursor;
use session_core::{InvalidField, Session, SessionId, Timestamp};

/// Sorts a session: newest sign-in, or latest end, first, then by id. Begins the names of index
/// members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place([u8; Place::BYTES]);

impl Place {
    pub(crate) const BYTES: usize = 24;

    pub(crate) fn new(at: Timestamp, id: SessionId) -> Self {
        Self::sorted(sort_key(at), id)
    }

    /// The place of these first eight bytes.
    pub(crate) fn sorted(sort: [u8; 8], id: SessionId) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&sort);
        bytes[8..].copy_from_slice(id.as_bytes());
        Self(bytes)
    }

    pub(crate) fn of(session: &Session) -> Self {
        Self::new(session.signed_in, session.id)
    }

    pub(crate) fn parse(member: &[u8]) -> Result<Self, InvalidField> {
        let bytes = member.get(..Self::BYTES).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(InvalidField::malformed("place", "24 bytes"))
    }

    /// Where a member of an index stands in a walk: at its place. One that is damaged and too short for
    /// a place stands before all that begin with it, and no session is there.
    pub(crate) fn of_member(member: &[u8]) -> Self {
        let mut bytes = [0; Self::BYTES];
        let length = member.len().min(Self::BYTES);
        bytes[..length].copy_from_slice(&member[..length]);
        Self(bytes)
    }

    pub(crate) fn id(&self) -> SessionId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[8..]);
        SessionId::from_bytes(id)
    }

    pub(crate) fn cursor(&self) -> PageCursor {
        PageCursor { at: self.at(), id: self.id() }
    }

    pub(crate) fn at(&self) -> Timestamp {
        let mut sort = [0; 8];
        sort.copy_from_slice(&self.0[..8]);
        let inverted = i64::from_be_bytes(sort);
        Timestamp::from_micros(inverted.wrapping_sub(i64::MAX).wrapping_neg())
    }

    /// After all places of this time or later, before all earlier ones.
    pub(crate) fn last_of(at: Timestamp) -> Self {
        Self::new(at, SessionId::from_bytes([u8::MAX; 16]))
    }

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The first eight bytes of a place: later is smaller, and the order of signed numbers becomes that
/// of bytes.
pub(crate) fn sort_key(at: Timestamp) -> [u8; 8] {
    at.as_micros().wrapping_neg().wrapping_add(i64::MAX).cast_unsigned().to_be_bytes()
}

impl From<PageCursor> for Place {
    fn from(cursor: PageCursor) -> Self {
        Self::new(cursor.at, cursor.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_sort_newest_first_then_by_id(
            a in any::<i64>(), b in any::<i64>(), x in any::<[u8; 16]>(), y in any::<[u8; 16]>()
        ) {
            let place = |micros, id| {
                Place::new(Timestamp::from_micros(micros), SessionId::from_bytes(id))
            };
            // Times before 1970 come last, among themselves in order.
            let rank = |micros: i64| (micros < 0, std::cmp::Reverse(micros));
            prop_assert_eq!(place(a, x).cmp(&place(b, y)), (rank(a), x).cmp(&(rank(b), y)));
            prop_assert_eq!(place(a, x).id(), SessionId::from_bytes(x));
            prop_assert_eq!(Place::from(place(a, x).cursor()), place(a, x));
        }
    }
}

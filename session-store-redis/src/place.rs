//! Where a session stands in the order of pages.

use session_core::store::PageCursor;
use session_core::{InvalidField, Session, SessionId, Timestamp};

/// Sorts a session: newest sign-in first, then by id. Begins the names of index members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place([u8; Place::BYTES]);

impl Place {
    pub(crate) const BYTES: usize = 24;

    pub(crate) fn new(signed_in: Timestamp, id: SessionId) -> Self {
        // Later is smaller; the order of signed numbers becomes that of bytes.
        let inverted = signed_in.as_micros().wrapping_neg().wrapping_add(i64::MAX);
        Self::sorted(inverted.cast_unsigned().to_be_bytes(), id)
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

    pub(crate) fn id(&self) -> SessionId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[8..]);
        SessionId::from_bytes(id)
    }

    pub(crate) fn cursor(&self) -> PageCursor {
        let mut inverted = [0; 8];
        inverted.copy_from_slice(&self.0[..8]);
        let micros = i64::from_be_bytes(inverted).wrapping_sub(i64::MAX).wrapping_neg();
        PageCursor { signed_in: Timestamp::from_micros(micros), id: self.id() }
    }

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<PageCursor> for Place {
    fn from(cursor: PageCursor) -> Self {
        Self::new(cursor.signed_in, cursor.id)
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

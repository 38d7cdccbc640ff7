//! Log entries as Redis holds them: the fields of [`session_core::store::record`] as names and
//! values.

use std::borrow::Cow;

use session_core::store::record::{FieldValue, Fields, event_fields};
use session_core::{Event, InvalidField, StoreError, Timestamp};

/// A log entry as names and values in turn, for a script.
pub(crate) fn parts(event: &Event) -> Vec<Vec<u8>> {
    let mut entry = Vec::new();
    for (name, value) in event_fields(event) {
        let value = match value {
            FieldValue::Null => continue,
            FieldValue::Integer(number) => number.to_string().into_bytes(),
            FieldValue::Text(text) => text.into_owned().into_bytes(),
            FieldValue::Bytes(bytes) => bytes.to_vec(),
        };
        entry.extend([name.as_bytes().to_vec(), value]);
    }
    entry
}

/// The names and values of a log entry.
pub(crate) struct Entry<'b>(pub(crate) &'b [Vec<u8>]);

impl Entry<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        let mut pairs = self.0.chunks_exact(2);
        pairs.find(|pair| pair[0] == name.as_bytes()).map(|pair| &pair[1][..])
    }

    /// The entry's kind, without reading the rest; none where that is damaged.
    pub(crate) fn kind(&self) -> Option<&str> {
        std::str::from_utf8(self.get("kind")?).ok()
    }

    /// When it was written.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        self.integer("at").ok().flatten().map(Timestamp::from_micros)
    }
}

impl Fields for Entry<'_> {
    fn integer(&self, name: &'static str) -> Result<Option<i64>, StoreError> {
        let malformed = |_| InvalidField::malformed(name, "a number").into();
        self.text(name)?.map(|text| text.parse().map_err(malformed)).transpose()
    }

    fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, StoreError> {
        let text = self.get(name).map(std::str::from_utf8).transpose();
        let malformed = |_| InvalidField::malformed(name, "a text").into();
        text.map(|text| text.map(Into::into)).map_err(malformed)
    }

    fn bytes(&self, name: &'static str) -> Result<Option<Cow<'_, [u8]>>, StoreError> {
        Ok(self.get(name).map(Into::into))
    }
}

/// The kind of the mark that begins a log.
pub(crate) const BEGINNING: &str = "beginning";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use session_core::store::record::read_event;
    use session_core::{Actor, EventKind, SessionId, UserKey};

    use super::*;

    #[test]
    fn entries_round_trip() {
        let (at, by) = (Timestamp::from_micros(-3), Actor::Application);
        let owner = UserKey::in_tenant("north".parse().unwrap(), "alice".parse().unwrap());
        let id = SessionId::from_random([1; 16]);
        let mut event = Event::of_session(EventKind::Rotated, at, by, owner, id);
        for _ in 0..2 {
            let written = parts(&event);
            let read = Entry(&written);
            assert_eq!(read_event(&read).unwrap(), event);
            assert_eq!((read.kind(), read.at()), (Some("rotated"), Some(at)));
            (event.user, event.session) = (None, None);
        }
    }

    proptest! {
        #[test]
        fn no_damage_panics(entry in any::<Vec<Vec<u8>>>()) {
            let _ = read_event(&Entry(&entry));
        }
    }
}

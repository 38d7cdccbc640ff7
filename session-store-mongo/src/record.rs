//! Sessions and log entries as documents: the core's fields under the core's names.

use std::borrow::Cow;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document};
use session_core::store::UserTag;
use session_core::store::record::{Field, FieldValue, Fields, event_fields, session_fields};
use session_core::{Event, InvalidField, Session, SessionId, StoreError, Timestamp};

use crate::error::Failed;

/// A document that was read.
pub(crate) struct Stored<'d>(pub(crate) &'d Document);

impl Fields for Stored<'_> {
    fn integer(&self, name: &'static str) -> Result<Option<i64>, StoreError> {
        self.field(name, Bson::as_i64)
    }

    fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, StoreError> {
        Ok(self.field(name, Bson::as_str)?.map(Cow::Borrowed))
    }

    fn bytes(&self, name: &'static str) -> Result<Option<Cow<'_, [u8]>>, StoreError> {
        let bytes = |value| match value {
            &Bson::Binary(Binary { ref bytes, .. }) => Some(bytes.as_slice()),
            _ => None,
        };
        Ok(self.field(name, bytes)?.map(Cow::Borrowed))
    }
}

impl<'d> Stored<'d> {
    fn field<T>(
        &self,
        name: &'static str,
        read: impl Fn(&'d Bson) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        match self.0.get(name) {
            None | Some(Bson::Null) => Ok(None),
            Some(value) => Ok(Some(read(value).ok_or(malformed(name))?)),
        }
    }
}

/// These fields as a document.
pub(crate) fn document<'f>(fields: impl IntoIterator<Item = Field<'f>>) -> Document {
    fields.into_iter().map(|(name, value)| (name.to_owned(), bson(value))).collect()
}

fn bson(value: FieldValue<'_>) -> Bson {
    match value {
        FieldValue::Null => Bson::Null,
        FieldValue::Integer(number) => number.into(),
        FieldValue::Text(text) => text.into_owned().into(),
        FieldValue::Bytes(content) => bytes(content),
    }
}

/// A session's name in its user's document and its `_id` in the list.
pub(crate) fn name(id: SessionId) -> String {
    const_hex::encode(id.as_bytes())
}

pub(crate) fn parse_name(name: &str) -> Result<SessionId, InvalidField> {
    let bytes = const_hex::decode_to_array(name);
    bytes.map(SessionId::from_bytes).map_err(|_| malformed("id"))
}

/// The path of a session, or of one of its fields (`rest`), in its user's document.
pub(crate) fn field(id: SessionId, rest: &str) -> String {
    format!("sessions.{}{rest}", name(id))
}

/// The `_id` of a user's document.
pub(crate) fn tag_key(tag: UserTag) -> i64 {
    tag.as_u64().cast_signed()
}

/// A mark that no other entry has.
pub(crate) fn random() -> Result<i64, Failed> {
    let drawn = getrandom::u64().map_err(|error| StoreError::internal(error.to_string()))?;
    // Never 0, which stands for none, and never negative.
    Ok(((drawn >> 1) | 1).cast_signed())
}

/// The session as the list has it: what pages and selections are filtered by, and what the cleanup
/// goes by.
pub(crate) fn listed(session: &Session) -> Document {
    let fields = session_fields(session).into_iter();
    let mut document = document(fields.filter(|(name, _)| LISTED.contains(name)));
    document.insert("_id", name(session.id));
    document
}

/// A log entry without its place.
pub(crate) fn event(event: &Event, mark: i64) -> Document {
    let mut document = document(event_fields(event));
    document.insert("_id", mark);
    document
}

pub(crate) fn number(document: &Document, field: &'static str) -> Result<i64, InvalidField> {
    document.get_i64(field).map_err(|_| malformed(field))
}

/// A time that the server told, such as `$$NOW`.
pub(crate) fn time(document: &Document, field: &'static str) -> Result<Timestamp, InvalidField> {
    let time: &DateTime = document.get_datetime(field).map_err(|_| malformed(field))?;
    Ok(Timestamp::from_micros(time.timestamp_millis().saturating_mul(1000)))
}

pub(crate) fn bytes(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() })
}

pub(crate) const fn malformed(field: &'static str) -> InvalidField {
    InvalidField::malformed(field, "of the right type")
}

const LISTED: [&str; 8] = [
    "id",
    "tenant",
    "user_id",
    "device_kind",
    "client_id",
    "signed_in",
    "last_accessed",
    "deadline",
];

#[cfg(test)]
mod tests {
    use session_core::store::Ended;
    use session_core::store::record::{read_ended, read_event, read_session};
    use session_core::{Actor, EventKind, FleetKey, Token, UserId, UserKey};

    use super::*;

    fn sample() -> Session {
        let key = FleetKey::from_bytes([7; 32]);
        let token = Token::new(&key, SessionId::from_bytes([1; 16]), [2; 12], [3; 16]);
        let at = Timestamp::from_micros(1_780_000_000_000_000);
        let owner = UserKey::new(UserId::new("alice").unwrap());
        Session { ip_addresses: vec![[192, 0, 2, 1].into()], ..Session::new(owner, &token, at) }
    }

    /// Stored documents are hostile too: each damage is an error, never a panic.
    #[test]
    fn damaged_documents_are_errors() {
        let whole = sample();
        let stored = document(session_fields(&whole));
        assert_eq!(read_session(&Stored(&stored)).unwrap(), whole);
        let damages = [Bson::Boolean(true), Bson::String("\0".to_owned()), bytes(&[1])];
        for field in stored.keys() {
            for damage in &damages {
                let mut damaged = stored.clone();
                damaged.insert(field, damage.clone());
                assert!(read_session(&Stored(&damaged)).is_err(), "{field}: {damage}");
            }
        }
        assert!(parse_name("x").is_err());
    }

    #[test]
    fn damaged_log_entries_are_errors() {
        let Session { id, owner, signed_in, .. } = sample();
        let whole = Event::of_session(EventKind::Created, signed_in, Actor::Application, owner, id);
        let entry = event(&whole, 7);
        assert_eq!(read_event(&Stored(&entry)).unwrap(), whole);
        for field in ["kind", "at", "actor", "tenant", "user_id", "session_id"] {
            let mut damaged = entry.clone();
            damaged.insert(field, true);
            assert!(read_event(&Stored(&damaged)).is_err(), "{field}");
        }
    }

    #[test]
    fn the_list_names_the_session_and_its_owner() {
        let whole = sample();
        let ended = read_ended(&Stored(&listed(&whole))).unwrap();
        assert_eq!(ended, Ended { id: whole.id, owner: whole.owner });
    }
}

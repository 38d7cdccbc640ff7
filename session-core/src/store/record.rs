//! Sessions and log entries as named fields of plain types: the one codec that all stores share.
//!
//! A store writes what [`session_fields`] and [`event_fields`] give it, as columns, as the fields
//! of a document or as JSON, and implements [`Fields`] for what it reads. The limits of every field
//! are checked again when a record is read: a damaged one is an error, never a panic. A store that
//! keeps bytes takes [`encode_session`] and [`decode_session`].
//!
//! | field | type | of |
//! | --- | --- | --- |
//! | `id`, `session_id` | bytes | session, event |
//! | `tenant` | text, empty for none | both |
//! | `user_id` | text, null in the event of a policy or a block | both |
//! | `device_kind`, `client_id` | text | session |
//! | `ip_addresses` | text, separated by commas, newest last | session |
//! | `signed_in`, `last_accessed`, `deadline` | microseconds | session |
//! | `claimed` | 0 or 1 | session |
//! | `details` | text: JSON, for the core alone | session |
//! | `ended` | microseconds | ended session |
//! | `cause`, `actor`, `ended_from` | text | ended session |
//! | `kind`, `actor` | text | event |
//! | `at` | microseconds | event |
//!
//! The details hold everything that no store looks for: times of authentication and expiry, names,
//! data, digests of tokens. What a newer version has added to them is kept when an older one writes
//! them again ([`Unknown`](crate::session::Unknown)); a level that it does not know proves nothing
//! to it.

mod details;

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::{Map, Value};

use self::details::Details;
use crate::admission::Standing;
use crate::event::{Actor, EndCause, Event, EventKind};
use crate::field::{ClientId, DeviceInfo, DeviceKind, InvalidField, SessionId, TenantId, UserId};
use crate::session::{MAX_IP_ADDRESSES, Session, UserKey};
use crate::store::{Ended, EndedSession, Ending, StoreError};
use crate::time::Timestamp;

/// A stored record whose fields can be read by name. A field that is null is `None`.
///
/// # Errors
/// Each method fails with [`Corrupt`](crate::StoreErrorKind::Corrupt) for a field of another type,
/// or that is not there at all and may not be null.
pub trait Fields {
    /// A whole number.
    fn integer(&self, name: &'static str) -> Result<Option<i64>, StoreError>;
    /// A text.
    fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, StoreError>;
    /// Bytes.
    fn bytes(&self, name: &'static str) -> Result<Option<Cow<'_, [u8]>>, StoreError>;
}

/// The value of a field that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// No value.
    Null,
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// A field that is written: its name and its value.
pub type Field<'a> = (&'static str, FieldValue<'a>);

/// All fields of a session.
pub fn session_fields(session: &Session) -> Vec<Field<'_>> {
    vec![
        ("id", FieldValue::Bytes(session.id.as_bytes())),
        ("tenant", FieldValue::text(session.owner.tenant_text())),
        ("user_id", FieldValue::text(session.owner.user.as_str())),
        ("device_kind", FieldValue::text(session.device_kind.as_str())),
        ("client_id", session.client_id.as_ref().map(|client| client.as_str()).into()),
        ("ip_addresses", FieldValue::Text(address_list(&session.ip_addresses).into())),
        ("signed_in", session.signed_in.into()),
        ("last_accessed", session.last_accessed.into()),
        ("deadline", session.deadline.into()),
        ("claimed", FieldValue::Integer(session.claimed.into())),
        ("details", FieldValue::Text(details(session).into())),
    ]
}

/// All fields of an ended session: those of the session, and how it ended.
pub fn ended_fields(ended: &EndedSession) -> Vec<Field<'_>> {
    let EndedSession { session, ended, cause, by, from } = ended;
    let mut fields = session_fields(session);
    fields.extend(how_it_ended(*cause, *ended, by, from.as_ref()));
    fields
}

/// The fields of an ended session beside those of the session. A store that ends a session adds
/// them to what it has stored, so that a record that cannot be read gets into the history, too.
pub fn ending_fields(ending: &Ending) -> [Field<'_>; 4] {
    let Ending { cause, at, by, from } = ending;
    how_it_ended(*cause, *at, by, from.as_ref())
}

fn how_it_ended<'a>(
    cause: EndCause,
    at: Timestamp,
    by: &Actor,
    from: Option<&'a DeviceInfo>,
) -> [Field<'a>; 4] {
    [
        ("ended", at.into()),
        ("cause", FieldValue::text(cause.as_str())),
        ("actor", FieldValue::Text(by.to_string().into())),
        ("ended_from", from.map(|from| from.as_str()).into()),
    ]
}

/// Everything of a session that no store looks for, as JSON. [`Change::Update`] replaces it.
///
/// [`Change::Update`]: crate::store::Change::Update
pub fn details(session: &Session) -> String {
    Details::of(session).write()
}

/// All fields of a log entry.
pub fn event_fields(event: &Event) -> Vec<Field<'_>> {
    let session = event.session.as_ref();
    vec![
        ("kind", FieldValue::text(event.kind.as_str())),
        ("at", event.at.into()),
        ("actor", FieldValue::Text(event.by.to_string().into())),
        ("tenant", FieldValue::text(event.tenant.as_ref().map_or("", TenantId::as_str))),
        ("user_id", event.user.as_ref().map(|user| user.as_str()).into()),
        ("session_id", session.map_or(FieldValue::Null, |id| FieldValue::Bytes(id.as_bytes()))),
    ]
}

/// Reads a session.
///
/// # Errors
/// [`Corrupt`](crate::StoreErrorKind::Corrupt) for a field of another type or beyond its limit.
pub fn read_session(fields: &impl Fields) -> Result<Session, StoreError> {
    let details = Details::read(&needed(fields.text("details")?, "details")?)?;
    let standing = read_standing(fields)?;
    let ip_addresses = parse_addresses(&needed(fields.text("ip_addresses")?, "ip_addresses")?)?;
    details.complete(standing, read_owner(fields)?, ip_addresses)
}

/// Reads what a policy needs to know of a session.
///
/// # Errors
/// As [`read_session`].
pub fn read_standing(fields: &impl Fields) -> Result<Standing, StoreError> {
    let claimed = match needed(fields.integer("claimed")?, "claimed")? {
        0 => false,
        1 => true,
        _ => return Err(InvalidField::out_of_range("claimed", 0, 1).into()),
    };
    Ok(Standing {
        id: read_id(fields, "id")?,
        device_kind: DeviceKind::from_stored(&needed(fields.text("device_kind")?, "device_kind")?)?,
        client_id: optional(fields, "client_id", ClientId::from_stored)?,
        signed_in: time(fields, "signed_in")?,
        last_accessed: time(fields, "last_accessed")?,
        deadline: time(fields, "deadline")?,
        claimed,
    })
}

/// Reads an ended session.
///
/// # Errors
/// As [`read_session`].
pub fn read_ended_session(fields: &impl Fields) -> Result<EndedSession, StoreError> {
    Ok(EndedSession {
        session: read_session(fields)?,
        ended: time(fields, "ended")?,
        cause: EndCause::from_stored(&needed(fields.text("cause")?, "cause")?),
        by: Actor::from_stored(&needed(fields.text("actor")?, "actor")?),
        from: optional(fields, "ended_from", DeviceInfo::from_stored)?,
    })
}

/// Reads the id and the owner of a session.
///
/// # Errors
/// As [`read_session`].
pub fn read_ended(fields: &impl Fields) -> Result<Ended, StoreError> {
    Ok(Ended { id: read_id(fields, "id")?, owner: read_owner(fields)? })
}

/// Reads a log entry. The caller counts an entry that cannot be read as missed
/// ([`LogPage::new`](crate::store::LogPage::new)).
///
/// # Errors
/// As [`read_session`].
pub fn read_event(fields: &impl Fields) -> Result<Event, StoreError> {
    let session =
        fields.bytes("session_id")?.map(|bytes| array(&bytes, "session_id")).transpose()?;
    Ok(Event {
        kind: EventKind::from_stored(&needed(fields.text("kind")?, "kind")?),
        at: time(fields, "at")?,
        by: Actor::from_stored(&needed(fields.text("actor")?, "actor")?),
        tenant: read_tenant(fields)?,
        user: optional(fields, "user_id", UserId::from_stored)?,
        session: session.map(SessionId::from_bytes),
    })
}

/// Reads an owner.
///
/// # Errors
/// As [`read_session`].
pub fn read_owner(fields: &impl Fields) -> Result<UserKey, StoreError> {
    let user = UserId::from_stored(&needed(fields.text("user_id")?, "user_id")?)?;
    Ok(UserKey { tenant: read_tenant(fields)?, user })
}

/// A session as bytes: a JSON object of its fields.
pub fn encode_session(session: &Session) -> Vec<u8> {
    encode(session_fields(session))
}

/// The session that [`encode_session`] wrote.
///
/// # Errors
/// As [`read_session`].
pub fn decode_session(bytes: &[u8]) -> Result<Session, StoreError> {
    read_session(&decode(bytes)?)
}

/// An ended session as bytes: a JSON object of its fields.
pub fn encode_ended_session(ended: &EndedSession) -> Vec<u8> {
    encode(ended_fields(ended))
}

/// The ended session that [`encode_ended_session`] wrote.
///
/// # Errors
/// As [`read_session`].
pub fn decode_ended_session(bytes: &[u8]) -> Result<EndedSession, StoreError> {
    read_ended_session(&decode(bytes)?)
}

/// A log entry as bytes: a JSON object of its fields.
pub fn encode_event(event: &Event) -> Vec<u8> {
    encode(event_fields(event))
}

/// The log entry that [`encode_event`] wrote.
///
/// # Errors
/// As [`read_event`].
pub fn decode_event(bytes: &[u8]) -> Result<Event, StoreError> {
    read_event(&decode(bytes)?)
}

/// Addresses as one text, separated by commas.
pub fn address_list(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// The addresses that [`address_list`] wrote.
///
/// # Errors
/// [`InvalidField`] for a part that is no address, and for more than [`MAX_IP_ADDRESSES`].
pub fn parse_addresses(list: &str) -> Result<Vec<IpAddr>, InvalidField> {
    let parts = list.split(',').filter(|part| !part.is_empty());
    InvalidField::check_count("ip_addresses", parts.clone().count(), MAX_IP_ADDRESSES)?;
    let malformed = |_| InvalidField::malformed("ip_addresses", "a list of addresses");
    parts.map(|part| part.parse().map_err(malformed)).collect()
}

/// The fields as a JSON object; bytes become lower-case hexadecimal digits.
pub fn json_object<'a>(fields: impl IntoIterator<Item = Field<'a>>) -> Map<String, Value> {
    let entry = |(name, value): Field<'a>| (name.to_owned(), value.into());
    fields.into_iter().map(entry).collect()
}

impl<'a> FieldValue<'a> {
    const fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<Option<&'a str>> for FieldValue<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::text)
    }
}

impl From<Timestamp> for FieldValue<'_> {
    fn from(time: Timestamp) -> Self {
        Self::Integer(time.as_micros())
    }
}

impl From<FieldValue<'_>> for Value {
    fn from(value: FieldValue<'_>) -> Self {
        match value {
            FieldValue::Null => Self::Null,
            FieldValue::Integer(number) => number.into(),
            FieldValue::Text(text) => text.into_owned().into(),
            FieldValue::Bytes(bytes) => const_hex::encode(bytes).into(),
        }
    }
}

/// What [`json_object`] wrote.
impl Fields for Map<String, Value> {
    fn integer(&self, name: &'static str) -> Result<Option<i64>, StoreError> {
        let number = |value: &Value| value.as_i64().ok_or_else(|| of_another_type(name));
        present(self, name).map(number).transpose()
    }

    fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, StoreError> {
        let text = |value: &'_ Value| -> Option<_> { Some(value.as_str()?.to_owned().into()) };
        present(self, name)
            .map(|value| text(value).ok_or_else(|| of_another_type(name)))
            .transpose()
    }

    fn bytes(&self, name: &'static str) -> Result<Option<Cow<'_, [u8]>>, StoreError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let bytes = const_hex::decode(text.as_bytes()).map_err(|_| of_another_type(name))?;
        Ok(Some(bytes.into()))
    }
}

fn present<'m>(object: &'m Map<String, Value>, name: &str) -> Option<&'m Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn of_another_type(name: &'static str) -> StoreError {
    InvalidField::malformed(name, "of the right type").into()
}

fn encode<'a>(fields: impl IntoIterator<Item = Field<'a>>) -> Vec<u8> {
    Value::Object(json_object(fields)).to_string().into_bytes()
}

fn decode(bytes: &[u8]) -> Result<Map<String, Value>, StoreError> {
    serde_json::from_slice(bytes).map_err(StoreError::corrupt)
}

fn read_id(fields: &impl Fields, name: &'static str) -> Result<SessionId, StoreError> {
    Ok(SessionId::from_bytes(array(&needed(fields.bytes(name)?, name)?, name)?))
}

/// An empty tenant stands for none, because the column of a key may not be null.
fn read_tenant(fields: &impl Fields) -> Result<Option<TenantId>, StoreError> {
    let tenant = fields.text("tenant")?.filter(|tenant| !tenant.is_empty());
    Ok(tenant.as_deref().map(TenantId::from_stored).transpose()?)
}

fn time(fields: &impl Fields, name: &'static str) -> Result<Timestamp, StoreError> {
    needed(fields.integer(name)?, name).map(Timestamp::from_micros)
}

fn optional<T>(
    fields: &impl Fields,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, InvalidField>,
) -> Result<Option<T>, StoreError> {
    Ok(fields.text(name)?.as_deref().map(parse).transpose()?)
}

fn needed<T>(value: Option<T>, name: &'static str) -> Result<T, StoreError> {
    value.ok_or_else(|| InvalidField::malformed(name, "present").into())
}

fn array<const N: usize>(bytes: &[u8], name: &'static str) -> Result<[u8; N], InvalidField> {
    bytes.try_into().map_err(|_| InvalidField::malformed(name, "of the right length"))
}

#[cfg(test)]
mod tests;

//! Sessions and log entries as documents.

use std::net::IpAddr;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use session_core::rotation::{RetiredToken, TokenState};
use session_core::{
    ClientId, DeviceInfo, DeviceKind, Event, ExtraData, InvalidField, Session, SessionId, TenantId,
    Timestamp, TokenDigest, UserId, UserKey,
};

use crate::error::{Failed, internal};

/// A session's name in its user's document and its `_id` in the list.
pub(crate) fn name(id: SessionId) -> String {
    const_hex::encode(id.as_bytes())
}

/// A field of a session in its user's document.
pub(crate) fn field(id: SessionId, rest: &str) -> String {
    format!("sessions.{}{rest}", name(id))
}

/// A version that no user had before, or a mark that no entry has.
pub(crate) fn random() -> Result<i64, Failed> {
    let drawn = getrandom::u64().map_err(|error| internal(error.to_string()))?;
    // Never 0, which stands for none, and never negative.
    Ok(((drawn >> 1) | 1).cast_signed())
}

pub(crate) fn parse_name(name: &str) -> Result<SessionId, InvalidField> {
    let bytes = const_hex::decode_to_array(name);
    bytes.map(SessionId::from_bytes).map_err(|_| malformed("session_id"))
}

/// The session as its user's document holds it.
pub(crate) fn session(session: &Session) -> Document {
    let token = &session.token;
    let optional = |text: Option<&str>| text.map_or(Bson::Null, Bson::from);
    let mut document = doc! {
        "user": session.owner.user.as_str(),
        "tenant": tenant(&session.owner),
        "device_kind": session.device_kind.as_str(),
        "device_info": optional(session.device_info.as_ref().map(|info| info.as_str())),
        "client_id": optional(session.client_id.as_ref().map(|client| client.as_str())),
        "ip_addresses": addresses(&session.ip_addresses),
        "signed_in": session.signed_in.as_micros(),
        "last_accessed": session.last_accessed.as_micros(),
        "authenticated_at": session.authenticated_at.as_micros(),
        "absolute_expiry": session.absolute_expiry.map(Timestamp::as_micros),
        "data": optional(session.data.as_ref().map(|data| data.as_json())),
        "token_family": bytes(token.family.as_bytes()),
    };
    document.extend(token_fields(token));
    document
}

/// The fields that a rotation replaces.
pub(crate) fn token_fields(token: &TokenState) -> Document {
    doc! {
        "token_current": bytes(token.current.as_bytes()),
        "token_retired": token.retired.map(|retired| bytes(retired.digest.as_bytes())),
        "token_retired_at": token.retired.map(|retired| retired.at.as_micros()),
    }
}

pub(crate) fn parse_session(id: SessionId, document: &Document) -> Result<Session, InvalidField> {
    let retired = match document.get("token_retired") {
        None | Some(Bson::Null) => None,
        Some(_) => Some(RetiredToken {
            digest: digest(document, "token_retired")?,
            at: time(document, "token_retired_at")?,
        }),
    };
    let optional = |field| optional_text(document, field);
    Ok(Session {
        id,
        owner: owner(document)?,
        device_kind: DeviceKind::from_stored(text(document, "device_kind")?)?,
        device_info: optional("device_info")?.map(DeviceInfo::from_stored).transpose()?,
        client_id: optional("client_id")?.map(ClientId::from_stored).transpose()?,
        ip_addresses: parse_addresses(document.get("ip_addresses"))?,
        signed_in: time(document, "signed_in")?,
        last_accessed: time(document, "last_accessed")?,
        authenticated_at: time(document, "authenticated_at")?,
        absolute_expiry: optional_time(document, "absolute_expiry")?,
        data: optional("data")?.map(ExtraData::from_json).transpose()?,
        token: TokenState {
            current: digest(document, "token_current")?,
            family: digest(document, "token_family")?,
            retired,
        },
    })
}

/// The session as the list has it: what pages are filtered by, and what the cleanup goes by.
pub(crate) fn listed(session: &Session, until: DateTime) -> Document {
    doc! {
        "_id": name(session.id),
        "tenant": tenant(&session.owner),
        "user": session.owner.user.as_str(),
        "device_kind": session.device_kind.as_str(),
        "client_id": session.client_id.as_ref().map(|client| client.as_str()),
        "signed_in": session.signed_in.as_micros(),
        "last_accessed": session.last_accessed.as_micros(),
        "absolute_expiry": session.absolute_expiry.map(Timestamp::as_micros),
        "until": until,
    }
}

/// An empty tenant stands for none.
pub(crate) fn tenant(owner: &UserKey) -> &str {
    owner.tenant.as_ref().map_or("", TenantId::as_str)
}

pub(crate) fn owner(document: &Document) -> Result<UserKey, InvalidField> {
    let tenant = text(document, "tenant")?;
    let tenant = (!tenant.is_empty()).then(|| TenantId::from_stored(tenant)).transpose()?;
    Ok(UserKey { tenant, user: UserId::from_stored(text(document, "user")?)? })
}

pub(crate) fn addresses(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

pub(crate) fn parse_addresses(value: Option<&Bson>) -> Result<Vec<IpAddr>, InvalidField> {
    let Some(Bson::Array(addresses)) = value else { return Err(malformed("ip_addresses")) };
    let parse = |address: &Bson| address.as_str()?.parse().ok();
    addresses.iter().map(|address| parse(address).ok_or(malformed("ip_addresses"))).collect()
}

/// A log entry without its number.
pub(crate) fn event(event: &Event, mark: i64) -> Document {
    let mut document = doc! {
        "_id": mark,
        "kind": event.kind.as_str(),
        "at": event.at.as_micros(),
        "by": event.by.to_string(),
    };
    if let Some(tenant) = &event.tenant {
        document.insert("tenant", tenant.as_str());
    }
    if let Some(user) = &event.user {
        document.insert("user", user.as_str());
    }
    if let Some(session) = event.session {
        document.insert("session", name(session));
    }
    document
}

pub(crate) fn parse_event(document: &Document) -> Result<Event, InvalidField> {
    Ok(Event {
        kind: text(document, "kind")?.parse()?,
        at: time(document, "at")?,
        by: text(document, "by")?.parse()?,
        tenant: optional_text(document, "tenant")?.map(TenantId::from_stored).transpose()?,
        user: optional_text(document, "user")?.map(UserId::from_stored).transpose()?,
        session: optional_text(document, "session")?.map(parse_name).transpose()?,
    })
}

pub(crate) fn number(document: &Document, field: &'static str) -> Result<i64, InvalidField> {
    document.get_i64(field).map_err(|_| malformed(field))
}

pub(crate) fn text<'d>(
    document: &'d Document,
    field: &'static str,
) -> Result<&'d str, InvalidField> {
    document.get_str(field).map_err(|_| malformed(field))
}

pub(crate) fn optional_time(
    document: &Document,
    field: &'static str,
) -> Result<Option<Timestamp>, InvalidField> {
    match document.get(field) {
        None | Some(Bson::Null) => Ok(None),
        Some(_) => time(document, field).map(Some),
    }
}

pub(crate) fn time(document: &Document, field: &'static str) -> Result<Timestamp, InvalidField> {
    number(document, field).map(Timestamp::from_micros)
}

fn optional_text<'d>(
    document: &'d Document,
    field: &'static str,
) -> Result<Option<&'d str>, InvalidField> {
    match document.get(field) {
        None | Some(Bson::Null) => Ok(None),
        Some(_) => text(document, field).map(Some),
    }
}

fn digest(document: &Document, field: &'static str) -> Result<TokenDigest, InvalidField> {
    let bytes = document.get_binary_generic(field).map_err(|_| malformed(field))?;
    let bytes = bytes.as_slice().try_into().map_err(|_| malformed(field))?;
    Ok(TokenDigest::from_bytes(bytes))
}

pub(crate) fn bytes(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() })
}

pub(crate) fn malformed(field: &'static str) -> InvalidField {
    InvalidField::malformed(field, "of the right type")
}

#[cfg(test)]
mod tests {
    use session_core::Actor;

    use super::*;

    fn sample() -> Session {
        let token = session_core::Token::new(SessionId::from_bytes([1; 16]), [2; 12], [3; 16]);
        let at = Timestamp::from_micros(1_780_000_000_000_000);
        Session {
            id: token.session_id(),
            owner: UserKey::new(UserId::new("alice").unwrap()),
            device_kind: DeviceKind::Web,
            device_info: None,
            client_id: None,
            ip_addresses: vec![[192, 0, 2, 1].into()],
            signed_in: at,
            last_accessed: at,
            authenticated_at: at,
            absolute_expiry: Some(at),
            data: None,
            token: TokenState::new(&token).rotated(&token.rotated([4; 16]), at),
        }
    }

    /// Stored documents are hostile too: each damage is an error, never a panic.
    #[test]
    fn damaged_documents_are_errors() {
        let whole = sample();
        let document = session(&whole);
        assert_eq!(parse_session(whole.id, &document).unwrap(), whole);
        let damages = [Bson::Boolean(true), Bson::String("\0".to_owned()), bytes(&[1])];
        for field in document.keys() {
            for damage in &damages {
                let mut damaged = document.clone();
                damaged.insert(field, damage.clone());
                let parsed = parse_session(whole.id, &damaged);
                assert!(parsed.is_err(), "{field}: {damage}");
            }
        }
        assert!(parse_name("x").is_err());
    }

    #[test]
    fn damaged_log_entries_are_errors() {
        let whole = Event {
            kind: session_core::EventKind::Created,
            at: sample().signed_in,
            by: Actor::Application,
            tenant: None,
            user: Some(sample().owner.user),
            session: Some(sample().id),
        };
        let entry = event(&whole, 7);
        assert_eq!(parse_event(&entry).unwrap(), whole);
        for field in ["kind", "at", "by", "user", "session"] {
            let mut damaged = entry.clone();
            damaged.insert(field, true);
            assert!(parse_event(&damaged).is_err(), "{field}");
        }
    }
}

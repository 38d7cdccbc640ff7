//! Between rows and values. A row that breaks a field's limit is an error, never a panic.

use std::net::IpAddr;

use crate::columns::Columns;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
use session_core::admission::Standing;
use session_core::rotation::{RetiredToken, TokenState};
use session_core::store::Ended;
use session_core::{
    ClientId, DeviceInfo, DeviceKind, Event, ExtraData, InvalidField, Session, SessionId,
    StoreError, TenantId, Timestamp, TokenDigest, UserId, UserKey,
};

/// The columns that [`session`] reads.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) const SESSION: &str = "id, tenant, user_id, device_kind, device_info, client_id, \
    ip_addresses, signed_in, last_accessed, authenticated_at, absolute_expiry, data, \
    token_current, token_family, token_retired, token_retired_at";

pub(crate) fn session(row: &impl Columns) -> Result<Session, StoreError> {
    Ok(Session {
        id: session_id(row, "id")?,
        owner: owner(row)?,
        device_kind: DeviceKind::from_stored(row.text("device_kind")?)?,
        device_info: optional(row, "device_info", DeviceInfo::from_stored)?,
        client_id: optional(row, "client_id", ClientId::from_stored)?,
        ip_addresses: addresses(row.text("ip_addresses")?)?,
        signed_in: time(row, "signed_in")?,
        last_accessed: time(row, "last_accessed")?,
        authenticated_at: time(row, "authenticated_at")?,
        absolute_expiry: row.optional_integer("absolute_expiry")?.map(Timestamp::from_micros),
        data: optional(row, "data", ExtraData::from_json)?,
        token: token_state(row)?,
    })
}

#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(crate) fn standing(row: &impl Columns) -> Result<Standing, StoreError> {
    Ok(Standing {
        id: session_id(row, "id")?,
        device_kind: DeviceKind::from_stored(row.text("device_kind")?)?,
        client_id: optional(row, "client_id", ClientId::from_stored)?,
        signed_in: time(row, "signed_in")?,
        last_accessed: time(row, "last_accessed")?,
        absolute_expiry: row.optional_integer("absolute_expiry")?.map(Timestamp::from_micros),
    })
}

pub(crate) fn ended(row: &impl Columns) -> Result<Ended, StoreError> {
    Ok(Ended { id: session_id(row, "id")?, owner: owner(row)? })
}

pub(crate) fn event(row: &impl Columns) -> Result<Event, StoreError> {
    let session = row.optional_bytes("session_id")?;
    Ok(Event {
        kind: row.text("kind")?.parse()?,
        at: time(row, "at")?,
        by: row.text("actor")?.parse()?,
        tenant: tenant(row)?,
        user: optional(row, "user_id", UserId::from_stored)?,
        session: session
            .map(|bytes| bytes_of(bytes, "session_id"))
            .transpose()?
            .map(SessionId::from_bytes),
    })
}

/// An empty tenant stands for none, because a key may not be null.
pub(crate) fn tenant_column(tenant: Option<&TenantId>) -> &str {
    tenant.map_or("", TenantId::as_str)
}

pub(crate) fn addresses_column(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(",")
}

pub(crate) fn addresses(column: &str) -> Result<Vec<IpAddr>, InvalidField> {
    let parts = column.split(',').filter(|part| !part.is_empty());
    let malformed = |_| InvalidField::malformed("ip_addresses", "a list of addresses");
    parts.map(|part| part.parse().map_err(malformed)).collect()
}

fn time(row: &impl Columns, column: &'static str) -> Result<Timestamp, StoreError> {
    row.integer(column).map(Timestamp::from_micros)
}

fn optional<T>(
    row: &impl Columns,
    column: &'static str,
    parse: impl Fn(&str) -> Result<T, InvalidField>,
) -> Result<Option<T>, StoreError> {
    Ok(row.optional_text(column)?.map(parse).transpose()?)
}

fn tenant(row: &impl Columns) -> Result<Option<TenantId>, StoreError> {
    let tenant = row.text("tenant")?;
    Ok((!tenant.is_empty()).then(|| TenantId::from_stored(tenant)).transpose()?)
}

fn owner(row: &impl Columns) -> Result<UserKey, StoreError> {
    Ok(UserKey { tenant: tenant(row)?, user: UserId::from_stored(row.text("user_id")?)? })
}

fn session_id(row: &impl Columns, column: &'static str) -> Result<SessionId, StoreError> {
    Ok(SessionId::from_bytes(bytes_of(row.bytes(column)?, column)?))
}

fn token_state(row: &impl Columns) -> Result<TokenState, StoreError> {
    let digest = |column| -> Result<TokenDigest, StoreError> {
        Ok(TokenDigest::from_bytes(bytes_of(row.bytes(column)?, column)?))
    };
    let retired = match row.optional_bytes("token_retired")? {
        Some(_) => Some(RetiredToken {
            digest: digest("token_retired")?,
            at: time(row, "token_retired_at")?,
        }),
        None => None,
    };
    Ok(TokenState { current: digest("token_current")?, family: digest("token_family")?, retired })
}

fn bytes_of<const N: usize>(bytes: &[u8], column: &'static str) -> Result<[u8; N], InvalidField> {
    bytes.try_into().map_err(|_| InvalidField::malformed(column, "of the right length"))
}

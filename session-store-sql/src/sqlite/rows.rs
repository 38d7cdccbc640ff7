//! Between rows and values. A row that breaks a field's limit is an error, never a panic.

use std::net::IpAddr;

use session_core::admission::Standing;
use session_core::rotation::{RetiredToken, TokenState};
use session_core::store::Ended;
use session_core::{
    ClientId, DeviceInfo, DeviceKind, Event, ExtraData, InvalidField, Session, SessionId,
    StoreError, TenantId, Timestamp, TokenDigest, UserId, UserKey,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use super::store_error;

/// The columns that [`session`] reads.
pub(super) const SESSION: &str = "id, tenant, user, device_kind, device_info, client_id, \
    ip_addresses, signed_in, last_accessed, authenticated_at, absolute_expiry, data, \
    token_current, token_family, token_retired, token_retired_at";

pub(super) fn session(row: &SqliteRow) -> Result<Session, StoreError> {
    Ok(Session {
        id: session_id(row, "id")?,
        owner: owner(row)?,
        device_kind: DeviceKind::new(text(row, "device_kind")?)?,
        device_info: optional(row, "device_info", DeviceInfo::new)?,
        client_id: optional(row, "client_id", ClientId::new)?,
        ip_addresses: addresses(text(row, "ip_addresses")?)?,
        signed_in: time(row, "signed_in")?,
        last_accessed: time(row, "last_accessed")?,
        authenticated_at: time(row, "authenticated_at")?,
        absolute_expiry: get::<Option<i64>>(row, "absolute_expiry")?.map(Timestamp::from_micros),
        data: optional(row, "data", ExtraData::from_json)?,
        token: token_state(row)?,
    })
}

pub(super) fn standing(row: &SqliteRow) -> Result<Standing, StoreError> {
    Ok(Standing {
        id: session_id(row, "id")?,
        device_kind: DeviceKind::new(text(row, "device_kind")?)?,
        client_id: optional(row, "client_id", ClientId::new)?,
        signed_in: time(row, "signed_in")?,
        last_accessed: time(row, "last_accessed")?,
        absolute_expiry: get::<Option<i64>>(row, "absolute_expiry")?.map(Timestamp::from_micros),
    })
}

pub(super) fn ended(row: &SqliteRow) -> Result<Ended, StoreError> {
    Ok(Ended { id: session_id(row, "id")?, owner: owner(row)? })
}

pub(super) fn event(row: &SqliteRow) -> Result<Event, StoreError> {
    let session = get::<Option<&[u8]>>(row, "session_id")?;
    Ok(Event {
        kind: text(row, "kind")?.parse()?,
        at: time(row, "at")?,
        by: text(row, "actor")?.parse()?,
        tenant: tenant(row)?,
        user: optional(row, "user", UserId::new)?,
        session: session
            .map(|bytes| bytes_of(bytes, "session_id"))
            .transpose()?
            .map(SessionId::from_bytes),
    })
}

/// An empty tenant stands for none, because a key may not be null.
pub(super) fn tenant_column(tenant: Option<&TenantId>) -> &str {
    tenant.map_or("", TenantId::as_str)
}

pub(super) fn addresses_column(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(",")
}

pub(super) fn addresses(column: &str) -> Result<Vec<IpAddr>, InvalidField> {
    let parts = column.split(',').filter(|part| !part.is_empty());
    let malformed = |_| InvalidField::malformed("ip_addresses", "a list of addresses");
    parts.map(|part| part.parse().map_err(malformed)).collect()
}

pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(column).map_err(store_error)
}

fn text<'r>(row: &'r SqliteRow, column: &'static str) -> Result<&'r str, StoreError> {
    get(row, column)
}

fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp, StoreError> {
    get(row, column).map(Timestamp::from_micros)
}

fn optional<T>(
    row: &SqliteRow,
    column: &'static str,
    parse: impl Fn(&str) -> Result<T, InvalidField>,
) -> Result<Option<T>, StoreError> {
    Ok(get::<Option<&str>>(row, column)?.map(parse).transpose()?)
}

fn tenant(row: &SqliteRow) -> Result<Option<TenantId>, StoreError> {
    let tenant = text(row, "tenant")?;
    Ok((!tenant.is_empty()).then(|| TenantId::new(tenant)).transpose()?)
}

fn owner(row: &SqliteRow) -> Result<UserKey, StoreError> {
    Ok(UserKey { tenant: tenant(row)?, user: UserId::new(text(row, "user")?)? })
}

fn session_id(row: &SqliteRow, column: &'static str) -> Result<SessionId, StoreError> {
    Ok(SessionId::from_bytes(bytes_of(get(row, column)?, column)?))
}

fn token_state(row: &SqliteRow) -> Result<TokenState, StoreError> {
    let digest = |column| -> Result<TokenDigest, StoreError> {
        Ok(TokenDigest::from_bytes(bytes_of(get(row, column)?, column)?))
    };
    let retired = match get::<Option<&[u8]>>(row, "token_retired")? {
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

//! Sessions and log entries as Redis holds them.
//!
//! A user's hash has three fields for each session: under its id what never changes, under the id
//! and `a` its accesses, under the id and `k` its token. What the scripts have to find stands at
//! fixed places; the rest is JSON.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use session_core::rotation::{RetiredToken, TokenState};
use session_core::store::PageCursor;
use session_core::{
    ClientId, DeviceInfo, DeviceKind, Event, ExtraData, InvalidField, Session, SessionId,
    StoreError, StoreErrorKind, TenantId, Timestamp, TokenDigest, UserId, UserKey,
};

/// Sorts a session: newest sign-in first, then by id. Begins the names of index members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place([u8; Place::BYTES]);

impl Place {
    pub(crate) const BYTES: usize = 24;

    pub(crate) fn new(signed_in: Timestamp, id: SessionId) -> Self {
        let mut bytes = [0; Self::BYTES];
        // Later is smaller; the order of signed numbers becomes that of bytes.
        let inverted = signed_in.as_micros().wrapping_neg().wrapping_add(i64::MAX);
        bytes[..8].copy_from_slice(&inverted.cast_unsigned().to_be_bytes());
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

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<PageCursor> for Place {
    fn from(cursor: PageCursor) -> Self {
        Self::new(cursor.signed_in, cursor.id)
    }
}

/// An owner, so written that none begins another's; a tenant of no bytes stands for none.
pub(crate) fn owner(owner: &UserKey) -> Vec<u8> {
    let tenant = owner.tenant.as_ref().map_or("", TenantId::as_str);
    let mut bytes = Vec::with_capacity(2 + tenant.len() + owner.user.as_str().len());
    for text in [tenant, owner.user.as_str()] {
        // No name is longer than 255 bytes.
        bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// An owner, and what follows.
pub(crate) fn parse_owner(bytes: &[u8]) -> Result<(UserKey, &[u8]), InvalidField> {
    let text = |bytes: &'_ [u8]| -> Option<(String, usize)> {
        let length = usize::from(*bytes.first()?);
        let text = std::str::from_utf8(bytes.get(1..=length)?).ok()?;
        Some((text.to_owned(), length + 1))
    };
    let malformed = InvalidField::malformed("owner", "a tenant and a user");
    let (tenant, read) = text(bytes).ok_or(malformed.clone())?;
    let rest = &bytes[read..];
    let (user, read) = text(rest).ok_or(malformed)?;
    let tenant = (!tenant.is_empty()).then(|| TenantId::from_stored(&tenant)).transpose()?;
    Ok((UserKey { tenant, user: UserId::from_stored(&user)? }, &rest[read..]))
}

/// What never changes and no script looks at.
#[derive(Serialize, Deserialize)]
struct Rest {
    #[serde(rename = "k")]
    device_kind: String,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    device_info: Option<String>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    absolute_expiry: Option<i64>,
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

/// Sort key, owner, rest.
pub(crate) fn fixed(session: &Session) -> Vec<u8> {
    let rest = Rest {
        device_kind: session.device_kind.to_string(),
        device_info: session.device_info.as_ref().map(ToString::to_string),
        client_id: session.client_id.as_ref().map(ToString::to_string),
        absolute_expiry: session.absolute_expiry.map(Timestamp::as_micros),
        data: session.data.as_ref().map(|data| data.as_json().to_owned()),
    };
    let mut bytes = Place::of(session).0[..8].to_vec();
    bytes.extend(owner(&session.owner));
    bytes.extend(serde_json::to_vec(&rest).unwrap_or_default());
    bytes
}

/// Last accessed in decimal, a space, the addresses.
pub(crate) fn accesses(last_accessed: Timestamp, addresses: &[IpAddr]) -> String {
    format!("{} {}", last_accessed.as_micros(), address_list(addresses))
}

pub(crate) fn address_list(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// The time of authentication in eight bytes, then the digests.
pub(crate) fn token(token: &TokenState, authenticated_at: Timestamp) -> Vec<u8> {
    let mut bytes = authenticated_at.as_micros().to_be_bytes().to_vec();
    bytes.extend_from_slice(token.current.as_bytes());
    bytes.extend_from_slice(token.family.as_bytes());
    if let Some(retired) = token.retired {
        bytes.extend_from_slice(retired.digest.as_bytes());
        bytes.extend(retired.at.as_micros().to_be_bytes());
    }
    bytes
}

/// The three fields of a session.
pub(crate) type Fields = (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);

/// The session of these fields, or none where there is no such session.
pub(crate) fn session(id: SessionId, fields: &Fields) -> Result<Option<Session>, StoreError> {
    match fields {
        (Some(fixed), Some(accesses), Some(token)) => {
            Ok(Some(parse_session(id, fixed, accesses, token)?))
        }
        (None, None, None) => Ok(None),
        _ => Err(InvalidField::malformed("session", "three fields").into()),
    }
}

fn parse_session(
    id: SessionId,
    fixed: &[u8],
    accesses: &[u8],
    token: &[u8],
) -> Result<Session, StoreError> {
    let (sort, rest) =
        fixed.split_at_checked(8).ok_or(InvalidField::malformed("signed_in", "eight bytes"))?;
    let inverted = i64::from_be_bytes(array(sort, "signed_in")?);
    let signed_in = inverted.wrapping_sub(i64::MAX).wrapping_neg();
    let (owner, rest) = parse_owner(rest)?;
    let rest: Rest = serde_json::from_slice(rest)
        .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, error))?;
    let (last_accessed, ip_addresses) = parse_accesses(accesses)?;
    let (token, authenticated_at) = parse_token(token)?;
    Ok(Session {
        id,
        owner,
        device_kind: DeviceKind::from_stored(&rest.device_kind)?,
        device_info: rest.device_info.as_deref().map(DeviceInfo::from_stored).transpose()?,
        client_id: rest.client_id.as_deref().map(ClientId::from_stored).transpose()?,
        ip_addresses,
        signed_in: Timestamp::from_micros(signed_in),
        last_accessed,
        authenticated_at,
        absolute_expiry: rest.absolute_expiry.map(Timestamp::from_micros),
        data: rest.data.as_deref().map(ExtraData::from_json).transpose()?,
        token,
    })
}

fn parse_accesses(bytes: &[u8]) -> Result<(Timestamp, Vec<IpAddr>), InvalidField> {
    let malformed = InvalidField::malformed("ip_addresses", "a time and addresses");
    let text = std::str::from_utf8(bytes).map_err(|_| malformed.clone())?;
    let (time, addresses) = text.split_once(' ').ok_or(malformed.clone())?;
    let parts = addresses.split(',').filter(|part| !part.is_empty());
    let addresses = parts.map(str::parse).collect::<Result<_, _>>();
    Ok((time_of(time)?, addresses.map_err(|_| malformed)?))
}

fn parse_token(bytes: &[u8]) -> Result<(TokenState, Timestamp), InvalidField> {
    let malformed = || InvalidField::malformed("token", "72 or 112 bytes");
    let (parts, rest) = bytes.split_at_checked(72).ok_or_else(malformed)?;
    let digest = |bytes| array(bytes, "token").map(TokenDigest::from_bytes);
    let time = |bytes| array(bytes, "token").map(i64::from_be_bytes).map(Timestamp::from_micros);
    let retired = match rest.len() {
        0 => None,
        40 => Some(RetiredToken { digest: digest(&rest[..32])?, at: time(&rest[32..])? }),
        _ => return Err(malformed()),
    };
    let (current, family) = (digest(&parts[8..40])?, digest(&parts[40..])?);
    Ok((TokenState { current, family, retired }, time(&parts[..8])?))
}

/// Everything in a user's hash: the version, and the sessions of everybody with the user's tag.
pub(crate) fn user(
    fields: HashMap<Vec<u8>, Vec<u8>>,
) -> Result<(Option<i64>, Vec<Session>), StoreError> {
    let mut version = None;
    let mut found: HashMap<SessionId, Fields> = HashMap::new();
    for (name, value) in fields {
        if name == b"v" {
            let text = String::from_utf8_lossy(&value);
            let malformed = |_| InvalidField::malformed("version", "a number");
            version = Some(text.parse().map_err(malformed)?);
            continue;
        }
        let (id, which) = name
            .split_at_checked(16)
            .ok_or(InvalidField::malformed("session_id", "sixteen bytes"))?;
        let fields = found.entry(SessionId::from_bytes(array(id, "session_id")?)).or_default();
        match which {
            b"" => fields.0 = Some(value),
            b"a" => fields.1 = Some(value),
            b"k" => fields.2 = Some(value),
            _ => return Err(InvalidField::malformed("session", "a known field").into()),
        }
    }
    let sessions = found.iter().map(|(id, fields)| session(*id, fields));
    let sessions = sessions.collect::<Result<Vec<_>, _>>()?;
    Ok((version, sessions.into_iter().flatten().collect()))
}

/// The entry of a shard's log, or none for the mark at its beginning.
pub(crate) fn event(fields: &HashMap<String, Vec<u8>>) -> Result<Option<Event>, InvalidField> {
    let text = |name: &'static str| {
        let bytes = fields.get(name).map(Vec::as_slice);
        let text = bytes.map(std::str::from_utf8).transpose();
        text.map_err(|_| InvalidField::malformed(name, "text"))
    };
    let needed = |name| text(name)?.ok_or(InvalidField::malformed(name, "present"));
    if needed("kind")? == BEGINNING {
        return Ok(None);
    }
    let session = fields.get("session").map(|bytes| array(bytes, "session_id")).transpose()?;
    Ok(Some(Event {
        kind: needed("kind")?.parse()?,
        at: time_of(needed("at")?)?,
        by: needed("by")?.parse()?,
        tenant: text("tenant")?.map(TenantId::from_stored).transpose()?,
        user: text("user")?.map(UserId::from_stored).transpose()?,
        session: session.map(SessionId::from_bytes),
    }))
}

/// The kind of the mark that begins a log.
pub(crate) const BEGINNING: &str = "beginning";

fn time_of(text: &str) -> Result<Timestamp, InvalidField> {
    let micros = text.parse().map_err(|_| InvalidField::malformed("time", "microseconds"))?;
    Ok(Timestamp::from_micros(micros))
}

fn array<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], InvalidField> {
    bytes.try_into().map_err(|_| InvalidField::malformed(field, "of the right length"))
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
        }

        #[test]
        fn no_damage_panics(
            id in any::<[u8; 16]>(),
            fields in any::<(Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>)>(),
            hash in prop::collection::hash_map(any::<Vec<u8>>(), any::<Vec<u8>>(), 0..4),
        ) {
            let _ = session(SessionId::from_bytes(id), &fields);
            let _ = user(hash);
        }
    }

    #[test]
    fn no_owner_begins_another() {
        let names = ["a", "ab", "b"];
        let mut owners: Vec<_> = names.map(|n| UserKey::new(UserId::new(n).unwrap())).to_vec();
        for tenant in names {
            for user in names {
                let tenant = TenantId::new(tenant).unwrap();
                owners.push(UserKey::in_tenant(tenant, UserId::new(user).unwrap()));
            }
        }
        for one in &owners {
            let bytes = owner(one);
            assert_eq!(parse_owner(&bytes).unwrap(), (one.clone(), &[][..]));
            let begun = owners.iter().filter(|other| bytes.starts_with(&owner(other)));
            assert_eq!(begun.count(), 1);
        }
    }
}

//! Sessions as Redis holds them.
//!
//! A user's hash has three fields for each session: under its id what never changes, under the id
//! and `a` its accesses, under the id and `d` its details. What the scripts have to find stands at
//! fixed places; the rest is JSON. What a session consists of is said by
//! [`session_core::store::record`].

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value};
use session_core::store::Selection;
use session_core::store::record::{
    self, FieldValue, Fields, address_list, json_object, session_fields,
};
use session_core::{InvalidField, Session, SessionId, StoreError, UserKey};

use crate::place::Place;

/// An owner, so written that none begins another's; a tenant of no bytes stands for none.
pub(crate) fn owner(owner: &UserKey) -> Vec<u8> {
    pair((owner.tenant_text(), owner.user.as_str()))
}

/// Two texts, so written that no pair begins another.
pub(crate) fn pair((tenant, user): (&str, &str)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + tenant.len() + user.len());
    for text in [tenant, user] {
        // No name is longer than 255 bytes.
        bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// The owner that [`owner`] wrote.
pub(crate) fn parse_owner(bytes: &[u8]) -> Result<UserKey, StoreError> {
    record::read_owner(&OwnerText::split(bytes)?.0)
}

/// Sort key, owner, rest.
pub(crate) fn fixed(session: &Session) -> Vec<u8> {
    let fields = session_fields(session).into_iter();
    let rest = fields.filter(|(name, value)| REST.contains(name) && *value != FieldValue::Null);
    let mut bytes = Place::of(session).as_bytes()[..8].to_vec();
    bytes.extend(owner(&session.owner));
    bytes.extend(Value::Object(json_object(rest)).to_string().into_bytes());
    bytes
}

/// What never changes and no script looks at.
const REST: [&str; 2] = ["device_kind", "client_id"];

/// Last accessed, the deadline, whether it is claimed, and the addresses, with spaces between them.
pub(crate) fn accesses(session: &Session) -> String {
    let (last, deadline) = (session.last_accessed.as_micros(), session.deadline.as_micros());
    let claimed = u8::from(session.claimed);
    format!("{last} {deadline} {claimed} {}", address_list(&session.ip_addresses))
}

/// The three fields of a session.
pub(crate) type Triple = (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);

/// The session of these fields, or none where there is no such session.
pub(crate) fn session(id: SessionId, fields: &Triple) -> Result<Option<Session>, StoreError> {
    let stored = Stored::parse(id, fields)?;
    stored.map(|stored| record::read_session(&stored)).transpose()
}

/// Everything in a user's hash: the version, and the three fields of each session of all users that
/// share the tag.
pub(crate) fn user(
    fields: HashMap<Vec<u8>, Vec<u8>>,
) -> Result<(Option<i64>, HashMap<SessionId, Triple>), StoreError> {
    let mut version = None;
    let mut found: HashMap<SessionId, Triple> = HashMap::new();
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
            b"d" => fields.2 = Some(value),
            _ => return Err(InvalidField::malformed("session", "a known field").into()),
        }
    }
    Ok((version, found))
}

/// A stored session, whose fields can be read by name.
pub(crate) struct Stored<'b> {
    id: SessionId,
    fixed: Fixed<'b>,
    rest: Map<String, Value>,
    accesses: Accesses<'b>,
    details: &'b str,
}

impl<'b> Stored<'b> {
    pub(crate) fn parse(id: SessionId, fields: &'b Triple) -> Result<Option<Self>, StoreError> {
        match fields {
            (Some(fixed), Some(accesses), Some(details)) => {
                Self::of(id, fixed, accesses, details).map(Some)
            }
            (None, None, None) => Ok(None),
            _ => Err(InvalidField::malformed("session", "three fields").into()),
        }
    }

    pub(crate) fn of(
        id: SessionId,
        fixed: &'b [u8],
        accesses: &'b [u8],
        details: &'b [u8],
    ) -> Result<Self, StoreError> {
        let fixed = Fixed::parse(fixed)?;
        let rest = fixed.rest()?;
        let accesses = Accesses::parse(accesses)?;
        let malformed = |_| InvalidField::malformed("details", "a text");
        let details = std::str::from_utf8(details).map_err(malformed)?;
        Ok(Self { id, fixed, rest, accesses, details })
    }

    pub(crate) fn is_of(&self, owner: &UserKey) -> bool {
        self.fixed.is_of(owner)
    }
}

impl Fields for Stored<'_> {
    fn integer(&self, name: &'static str) -> Result<Option<i64>, StoreError> {
        Ok(Some(match name {
            "signed_in" => self.fixed.signed_in,
            "last_accessed" => self.accesses.last_accessed,
            "deadline" => self.accesses.deadline,
            "claimed" => self.accesses.claimed,
            _ => return self.rest.integer(name),
        }))
    }

    fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, StoreError> {
        match name {
            "tenant" | "user_id" => self.fixed.owner.text(name),
            "ip_addresses" => Ok(Some(self.accesses.addresses.into())),
            "details" => Ok(Some(self.details.into())),
            _ => self.rest.text(name),
        }
    }

    fn bytes(&self, name: &'static str) -> Result<Option<Cow<'_, [u8]>>, StoreError> {
        match name {
            "id" => Ok(Some(self.id.as_bytes()[..].into())),
            _ => self.rest.bytes(name),
        }
    }
}

/// What [`accesses`] wrote.
struct Accesses<'b> {
    last_accessed: i64,
    deadline: i64,
    claimed: i64,
    addresses: &'b str,
}

impl<'b> Accesses<'b> {
    fn parse(bytes: &'b [u8]) -> Result<Self, InvalidField> {
        let parse = || {
            let mut parts = std::str::from_utf8(bytes).ok()?.splitn(4, ' ');
            let mut number = || parts.next()?.parse().ok();
            let (last_accessed, deadline, claimed) = (number()?, number()?, number()?);
            Some(Self { last_accessed, deadline, claimed, addresses: parts.next()? })
        };
        parse().ok_or(InvalidField::malformed("accesses", "three numbers and addresses"))
    }
}

/// What never changes of a session; the JSON is read where it is needed.
pub(crate) struct Fixed<'b> {
    sort: [u8; 8],
    signed_in: i64,
    owner: OwnerText<'b>,
    rest: &'b [u8],
}

impl<'b> Fixed<'b> {
    pub(crate) fn parse(bytes: &'b [u8]) -> Result<Self, StoreError> {
        let (sort, rest) =
            bytes.split_at_checked(8).ok_or(InvalidField::malformed("signed_in", "eight bytes"))?;
        let sort = array(sort, "signed_in")?;
        let signed_in = i64::from_be_bytes(sort).wrapping_sub(i64::MAX).wrapping_neg();
        let (owner, rest) = OwnerText::split(rest)?;
        Ok(Self { sort, signed_in, owner, rest })
    }

    pub(crate) fn place(&self, id: SessionId) -> Place {
        Place::sorted(self.sort, id)
    }

    pub(crate) fn owner(&self) -> Result<UserKey, StoreError> {
        record::read_owner(&self.owner)
    }

    pub(crate) fn is_of(&self, owner: &UserKey) -> bool {
        self.owner.is(owner)
    }

    fn rest(&self) -> Result<Map<String, Value>, StoreError> {
        serde_json::from_slice(self.rest).map_err(StoreError::corrupt)
    }

    /// The owner, if the session is selected. The selection goes by what never changes: the script
    /// that ends a session looks at its last access.
    pub(crate) fn selected(
        &self,
        id: SessionId,
        selection: &Selection,
    ) -> Result<Option<UserKey>, StoreError> {
        let is_selected = selection.selects(id, self)?;
        is_selected.then(|| self.owner()).transpose()
    }
}

/// The JSON is read for the fields that are in it, each time.
impl Fields for Fixed<'_> {
    fn integer(&self, name: &'static str) -> Result<Option<i64>, StoreError> {
        Ok((name == "signed_in").then_some(self.signed_in))
    }

    fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, StoreError> {
        if !REST.contains(&name) {
            return self.owner.text(name);
        }
        Ok(self.rest()?.text(name)?.map(|text| text.into_owned().into()))
    }

    fn bytes(&self, _: &'static str) -> Result<Option<Cow<'_, [u8]>>, StoreError> {
        Ok(None)
    }
}

/// A tenant, empty for none, and a user.
struct OwnerText<'b> {
    tenant: &'b str,
    user: &'b str,
}

impl<'b> OwnerText<'b> {
    /// An owner, and what follows.
    fn split(bytes: &'b [u8]) -> Result<(Self, &'b [u8]), InvalidField> {
        let malformed = || InvalidField::malformed("owner", "a tenant and a user");
        let (tenant, rest) = counted(bytes).ok_or_else(malformed)?;
        let (user, rest) = counted(rest).ok_or_else(malformed)?;
        Ok((Self { tenant, user }, rest))
    }

    fn is(&self, owner: &UserKey) -> bool {
        (self.tenant, self.user) == (owner.tenant_text(), owner.user.as_str())
    }
}

impl Fields for OwnerText<'_> {
    fn integer(&self, _: &'static str) -> Result<Option<i64>, StoreError> {
        Ok(None)
    }

    fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, StoreError> {
        Ok(match name {
            "tenant" => Some(self.tenant.into()),
            "user_id" => Some(self.user.into()),
            _ => None,
        })
    }

    fn bytes(&self, _: &'static str) -> Result<Option<Cow<'_, [u8]>>, StoreError> {
        Ok(None)
    }
}

/// A text after a byte that says how long it is, and what follows.
fn counted(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

fn array<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], InvalidField> {
    bytes.try_into().map_err(|_| InvalidField::malformed(field, "of the right length"))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use session_core::store::TenantFilter;
    use session_core::{DeviceKind, FleetKey, Timestamp, Token, UserId};

    use super::*;

    proptest! {
        #[test]
        fn no_damage_panics(
            id in any::<[u8; 16]>(),
            fields in any::<(Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>)>(),
            hash in prop::collection::hash_map(any::<Vec<u8>>(), any::<Vec<u8>>(), 0..4),
        ) {
            let id = SessionId::from_bytes(id);
            let _ = session(id, &fields);
            let _ = user(hash);
        }
    }

    pub(crate) fn alice() -> Session {
        let key = FleetKey::from_bytes([7; 32]);
        let token = Token::new(&key, SessionId::from_random([1; 16]), [2; 12], [3; 16]);
        let at = Timestamp::from_micros;
        let owner = UserKey::in_tenant("north".parse().unwrap(), "alice".parse().unwrap());
        Session {
            device_kind: DeviceKind::Mobile,
            client_id: Some("shop".parse().unwrap()),
            ip_addresses: vec![[192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap()],
            last_accessed: at(i64::MIN),
            claimed: true,
            ..Session::new(owner, &token, at(-7))
        }
    }

    pub(crate) fn triple(session: &Session) -> Triple {
        let accesses = accesses(session).into_bytes();
        let details = record::details(session).into_bytes();
        (Some(fixed(session)), Some(accesses), Some(details))
    }

    #[test]
    fn records_round_trip() {
        let mut alice = alice();
        assert_eq!(session(alice.id, &triple(&alice)).unwrap(), Some(alice.clone()));
        alice.owner.tenant = None;
        alice.client_id = None;
        alice.claimed = false;
        alice.ip_addresses.clear();
        alice.deadline = Timestamp::EPOCH;
        assert_eq!(session(alice.id, &triple(&alice)).unwrap(), Some(alice.clone()));
    }

    #[test]
    fn a_damaged_record_is_selected_by_what_can_be_read() {
        let alice = alice();
        let mut damaged = fixed(&alice);
        let length = damaged.len();
        damaged[length - 1] = b'!';
        let damaged = Fixed::parse(&damaged).unwrap();
        let all = Selection::within(TenantFilter::Any);
        assert_eq!(damaged.selected(alice.id, &all).unwrap(), Some(alice.owner.clone()));
        assert_eq!(damaged.selected(alice.id, &all.clone().except(alice.id)).unwrap(), None);
        let before = |micros| all.clone().signed_in_before(Timestamp::from_micros(micros));
        assert_eq!(damaged.selected(alice.id, &before(-7)).unwrap(), None);
        assert_eq!(damaged.selected(alice.id, &before(-6)).unwrap(), Some(alice.owner.clone()));
        assert!(damaged.selected(alice.id, &all.on(DeviceKind::Mobile)).is_err());
    }

    #[test]
    fn no_owner_begins_another() {
        let names = ["a", "ab", "b"];
        let mut owners: Vec<_> = names.map(|n| UserKey::new(UserId::new(n).unwrap())).to_vec();
        for tenant in names {
            for user in names {
                owners.push(UserKey::in_tenant(tenant.parse().unwrap(), user.parse().unwrap()));
            }
        }
        for one in &owners {
            let bytes = owner(one);
            assert_eq!(parse_owner(&bytes).unwrap(), *one);
            let begun = owners.iter().filter(|other| bytes.starts_with(&owner(other)));
            assert_eq!(begun.count(), 1);
        }
    }
}

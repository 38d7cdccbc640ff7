//! Ended sessions as Redis holds them.
//!
//! Each is one text that a script puts together: the three fields of its session
//! ([`record`](crate::record)) and, as JSON, how it ended, each after its length.

use std::borrow::Cow;

use serde_json::{Map, Value};
use session_core::store::record::{Fields, ending_fields, json_object, read_ended_session};
use session_core::store::{EndedSession, Ending};
use session_core::{InvalidField, SessionId, StoreError, UserKey};

use crate::record::{Fixed, Stored};

/// How sessions ended.
pub(crate) fn how(ending: &Ending) -> String {
    Value::Object(json_object(ending_fields(ending))).to_string()
}

/// An ended session that a script has put together.
pub(crate) fn read(id: SessionId, bytes: &[u8]) -> Result<EndedSession, StoreError> {
    let parts = EndedParts::split(bytes)?;
    read_ended_session(&StoredEnd {
        session: Stored::of(id, parts.fixed, parts.accesses, parts.details)?,
        how: serde_json::from_slice(parts.how).map_err(StoreError::corrupt)?,
    })
}

/// The owner of an ended session; the rest may be damaged.
pub(crate) fn owner_of(bytes: &[u8]) -> Result<UserKey, StoreError> {
    Fixed::parse(EndedParts::split(bytes)?.fixed)?.owner()
}

struct EndedParts<'b> {
    fixed: &'b [u8],
    accesses: &'b [u8],
    details: &'b [u8],
    how: &'b [u8],
}

impl<'b> EndedParts<'b> {
    fn split(mut bytes: &'b [u8]) -> Result<Self, InvalidField> {
        let mut next = || {
            let (length, rest) = bytes.split_first_chunk()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (part, rest) = rest.split_at_checked(length)?;
            bytes = rest;
            Some(part)
        };
        let mut parts = || {
            let (fixed, accesses) = (next()?, next()?);
            Some(Self { fixed, accesses, details: next()?, how: next()? })
        };
        parts().ok_or(InvalidField::malformed("ended session", "four parts"))
    }
}

struct StoredEnd<'b> {
    session: Stored<'b>,
    how: Map<String, Value>,
}

impl Fields for StoredEnd<'_> {
    fn integer(&self, name: &'static str) -> Result<Option<i64>, StoreError> {
        match name {
            "ended" => self.how.integer(name),
            _ => self.session.integer(name),
        }
    }

    fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, StoreError> {
        match name {
            "cause" | "actor" | "ended_from" => self.how.text(name),
            _ => self.session.text(name),
        }
    }

    fn bytes(&self, name: &'static str) -> Result<Option<Cow<'_, [u8]>>, StoreError> {
        self.session.bytes(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use session_core::{Actor, DeviceInfo, EndCause, Timestamp};

    use super::*;
    use crate::record::tests::{alice, triple};

    proptest! {
        #[test]
        fn no_damage_panics(
            id in any::<[u8; 16]>(),
            whole in any::<Vec<u8>>(),
            parts in prop::collection::vec(any::<Vec<u8>>(), 4),
        ) {
            let id = SessionId::from_bytes(id);
            let _ = read(id, &whole);
            let _ = read(id, &joined(&parts));
        }
    }

    /// As a script does it.
    fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
        let length = |part: &Vec<u8>| u32::try_from(part.len()).unwrap().to_be_bytes().to_vec();
        parts.iter().flat_map(|part| [length(part), part.clone()]).flatten().collect()
    }

    #[test]
    fn ended_sessions_round_trip() {
        let session = alice();
        let (Some(fixed), Some(accesses), Some(details)) = triple(&session) else { panic!() };
        for from in [None, DeviceInfo::truncated("Safari on iOS")] {
            let (at, by) = (
                Timestamp::from_micros(i64::MAX),
                Actor::User(UserKey::new("root".parse().unwrap())),
            );
            let ending = Ending { cause: EndCause::Evicted, at, by, from };
            let end = ending.remember(session.clone());
            let how = how(&ending).into_bytes();
            let parts = [fixed.clone(), accesses.clone(), details.clone(), how];
            let bytes = joined(&parts);
            assert_eq!(read(session.id, &bytes).unwrap(), end);
            assert_eq!(owner_of(&bytes).unwrap(), session.owner);
            assert!(read(session.id, &bytes[..bytes.len() - 1]).is_err());
        }
    }
}

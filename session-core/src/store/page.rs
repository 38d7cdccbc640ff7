//! Pages of sessions.

use std::fmt;

use crate::field::{ClientId, DeviceKind, InvalidField, SessionId, UserId};
use crate::planted::{self, Defect};
use crate::session::Session;
use crate::store::TenantFilter;
use crate::time::Timestamp;

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// Of these tenants.
    pub tenant: TenantFilter,
    /// Of this user.
    pub user: Option<UserId>,
    /// On this kind of device.
    pub device_kind: Option<DeviceKind>,
    /// Of this client.
    pub client_id: Option<ClientId>,
    /// Last accessed at or after this.
    pub active_since: Option<Timestamp>,
    /// Leaves out what is past its deadline at this time.
    pub now: Timestamp,
    /// Where the last page ended.
    pub after: Option<PageCursor>,
    /// The most sessions, 1 to [`PageQuery::MAX_LIMIT`].
    pub limit: u32,
}

impl PageQuery {
    /// The largest page.
    pub const MAX_LIMIT: u32 = 200;

    /// The most sessions that one call looks at. Where a filter leaves out most of them, the page
    /// is shorter than its limit, or empty, and says where to go on.
    pub const MAX_EXAMINED: u32 = 5_000;

    /// Everything of these tenants that is live, first page.
    pub const fn live(tenant: TenantFilter, now: Timestamp) -> Self {
        Self {
            tenant,
            user: None,
            device_kind: None,
            client_id: None,
            active_since: None,
            now,
            after: None,
            limit: 50,
        }
    }

    /// Checks a limit that a caller asks for.
    ///
    /// # Errors
    /// [`InvalidField`] for one that is not within 1 to [`PageQuery::MAX_LIMIT`].
    pub fn check_limit(limit: u32) -> Result<(), InvalidField> {
        if (1..=Self::MAX_LIMIT).contains(&limit) {
            return Ok(());
        }
        Err(InvalidField::out_of_range("limit", 1, Self::MAX_LIMIT.into()))
    }

    /// Whether a session is listed, wherever the page begins.
    pub fn covers(&self, session: &Session) -> bool {
        let Self { tenant, user, device_kind, client_id, active_since, now, after: _, limit: _ } =
            self;
        let any_tenant = planted::is(Defect::ListCrossesTenants) && user.is_some();
        let forgets = planted::is(Defect::ListForgetsUnclaimed) && user.is_some();
        (any_tenant || tenant.covers(session.owner.tenant.as_ref()))
            && (session.claimed || !forgets)
            && user.as_ref().is_none_or(|user| *user == session.owner.user)
            && device_kind.as_ref().is_none_or(|kind| *kind == session.device_kind)
            && client_id.as_ref().is_none_or(|id| Some(id) == session.client_id.as_ref())
            && active_since.is_none_or(|from| session.last_accessed >= from)
            && session.deadline > *now
    }
}

/// Where a page ended. Its text form goes through clients and is checked when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCursor {
    /// When the last session of the page signed in or, in the history, ended.
    pub at: Timestamp,
    /// Its id.
    pub id: SessionId,
}

impl PageCursor {
    /// The position of a session.
    pub const fn of(session: &Session) -> Self {
        Self { at: session.signed_in, id: session.id }
    }
}

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_micros().to_be_bytes();
        write!(f, "{}{}", const_hex::encode(at), const_hex::encode(self.id.as_bytes()))
    }
}

impl std::str::FromStr for PageCursor {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let malformed = || InvalidField::malformed("cursor", "a cursor of an earlier page");
        let mut bytes = [0; 24];
        // The decoder also takes what begins with 0x.
        if text.len() != 2 * bytes.len() {
            return Err(malformed());
        }
        const_hex::decode_to_slice(text, &mut bytes).map_err(|_| malformed())?;
        let (mut micros, mut id) = ([0; 8], [0; 16]);
        micros.copy_from_slice(&bytes[..8]);
        id.copy_from_slice(&bytes[8..]);
        let at = Timestamp::from_micros(i64::from_be_bytes(micros));
        Ok(Self { at, id: SessionId::from_bytes(id) })
    }
}

/// A page of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Newest sign-in first.
    pub sessions: Vec<Session>,
    /// Where to go on; none at the end of the list. A page that is shorter than its limit, even an
    /// empty one, is the last one only if this is none.
    pub next: Option<PageCursor>,
}

impl Page {
    /// Makes a page of `limit` out of up to `limit + 1` sessions.
    pub fn cut(mut sessions: Vec<Session>, limit: u32) -> Self {
        let limit = limit as usize;
        let more = sessions.len() > limit;
        sessions.truncate(limit);
        let next = sessions.last().filter(|_| more).map(PageCursor::of);
        Self { sessions, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_one_form() {
        let cursor =
            PageCursor { at: Timestamp::from_micros(7), id: SessionId::from_random([9; 16]) };
        let text = cursor.to_string();
        assert_eq!(text.parse(), Ok(cursor));
        for bad in
            [&format!("0x{text}"), &format!("0X{text}"), &text[1..], &format!("{text}00"), ""]
        {
            assert!(bad.parse::<PageCursor>().is_err(), "{bad}");
        }
    }
}

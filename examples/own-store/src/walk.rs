//! Sessions in the order of their sign-ins, from a place on.

use std::ops::Bound;

use redb::ReadTransaction;
use session_core::store::{Continuation, PageCursor, TenantFilter};
use session_core::{InvalidField, SessionId, StoreError, Timestamp, UserId};

use crate::file::{BY_USER, Failure, NEWEST};

/// A place in the order of sign-ins, the newest first, ties by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Turned around: of two integers, the complement of the larger one is the smaller.
    pub(crate) order: i64,
    pub(crate) id: SessionId,
}

impl Place {
    pub(crate) const fn new(signed_in: Timestamp, id: SessionId) -> Self {
        Self { order: !signed_in.as_micros(), id }
    }

    pub(crate) const fn cursor(self) -> PageCursor {
        PageCursor { signed_in: Timestamp::from_micros(!self.order), id: self.id }
    }

    pub(crate) fn continuation(self) -> Continuation {
        Continuation(self.cursor().to_string().into_bytes())
    }

    pub(crate) fn parse(after: &Continuation) -> Result<Self, StoreError> {
        let cursor = str::from_utf8(&after.0).ok().and_then(|text| text.parse::<PageCursor>().ok());
        let unknown = || InvalidField::malformed("after", "a continuation of this store");
        cursor.map(Self::from).ok_or_else(|| StoreError::refused(unknown()))
    }
}

impl From<PageCursor> for Place {
    fn from(cursor: PageCursor) -> Self {
        Self::new(cursor.signed_in, cursor.id)
    }
}

pub(crate) type Places = Box<dyn Iterator<Item = Result<Place, Failure>>>;

/// The places after this one: of one user where the filters name one, and else of all. The caller
/// looks at the records; the filters only shorten the way.
pub(crate) fn places(
    file: &ReadTransaction,
    tenant: &TenantFilter,
    user: Option<&UserId>,
    after: Option<Place>,
) -> Result<Places, Failure> {
    if let (TenantFilter::Is(tenant), Some(user)) = (tenant, user) {
        let tenant = tenant.as_ref().map_or("", |tenant| tenant.as_str());
        return of_user(file, (tenant, user.as_str()), after);
    }
    let from = after
        .as_ref()
        .map_or(Bound::Unbounded, |after| Bound::Excluded((after.order, after.id.as_bytes())));
    let found = file.open_table(NEWEST)?.range((from, Bound::Unbounded))?;
    Ok(Box::new(found.map(|entry| {
        let (key, _) = entry?;
        let (order, id) = key.value();
        Ok(Place { order, id: SessionId::from_bytes(*id) })
    })))
}

/// The places of one user's sessions. The key's parts are compared one by one, so a user whose name
/// begins with another's is never among them.
pub(crate) fn of_user(
    file: &ReadTransaction,
    (tenant, user): (&str, &str),
    after: Option<Place>,
) -> Result<Places, Failure> {
    let from = match &after {
        Some(after) => Bound::Excluded((tenant, user, after.order, after.id.as_bytes())),
        None => Bound::Included((tenant, user, i64::MIN, &[0; 16])),
    };
    let to = Bound::Included((tenant, user, i64::MAX, &[u8::MAX; 16]));
    let found = file.open_table(BY_USER)?.range((from, to))?;
    Ok(Box::new(found.map(|entry| {
        let (key, _) = entry?;
        let (_, _, order, id) = key.value();
        Ok(Place { order, id: SessionId::from_bytes(*id) })
    })))
}

//! Sessions in an order of time, in every scope that they are listed in.

use std::ops::{Bound, RangeInclusive};

use redb::{Error, ReadTransaction, WriteTransaction};
use session_core::policy::PolicyScope;
use session_core::store::{PageCursor, PageQuery, TenantFilter, limit_within};
use session_core::{SessionId, Timestamp, UserId, UserKey};

use crate::file::Places;

/// A place in the order of pages: the newest time first, ties by id. Of two integers, the
/// complement of the larger one is the smaller.
pub(crate) type Place = (i64, SessionId);
type Key<'s> = (&'s str, &'s str, i64, &'s [u8; 16]);

pub(crate) const fn place(at: Timestamp, id: SessionId) -> Place {
    (!at.as_micros(), id)
}

pub(crate) const fn cursor((order, id): Place) -> PageCursor {
    PageCursor { at: Timestamp::from_micros(!order), id }
}

/// The narrowest scope that holds all that these filters cover. It may hold more: the caller looks
/// at the records.
pub(crate) fn scope(tenant: &TenantFilter, user: Option<&UserId>) -> PolicyScope {
    match (tenant.clone(), user.cloned()) {
        (TenantFilter::Is(tenant), Some(user)) => PolicyScope::User(UserKey { tenant, user }),
        (TenantFilter::Is(Some(tenant)), None) => PolicyScope::Tenant(tenant),
        _ => PolicyScope::Deployment,
    }
}

/// Every place in a scope.
pub(crate) fn whole<'s>((tenant, user): (&'s str, &'s str)) -> RangeInclusive<Key<'s>> {
    (tenant, user, i64::MIN, &[0; 16])..=(tenant, user, i64::MAX, &[u8::MAX; 16])
}

/// The places in a scope, after this one.
pub(crate) fn places(
    file: &ReadTransaction,
    table: Places,
    scope: &PolicyScope,
    after: Option<Place>,
) -> Result<impl Iterator<Item = Result<Place, Error>> + use<>, Error> {
    let (tenant, user) = scope.key();
    let (first, last) = whole((tenant, user)).into_inner();
    let from = match &after {
        Some((order, id)) => Bound::Excluded((tenant, user, *order, id.as_bytes())),
        None => Bound::Included(first),
    };
    let rows = file.open_table(table)?.range((from, Bound::Included(last)))?;
    Ok(rows.map(|found| Ok(row(found?.0.value()))))
}

pub(crate) const fn row((_, _, order, id): Key<'_>) -> Place {
    (order, SessionId::from_bytes(*id))
}

/// A page of what is covered in a scope, and where to go on: there is more, or enough was looked
/// at.
pub(crate) fn list<T>(
    file: &ReadTransaction,
    table: Places,
    scope: &PolicyScope,
    (after, limit): (Option<PageCursor>, u32),
    covered: impl Fn(SessionId) -> Result<Option<T>, Error>,
) -> Result<(Vec<T>, Option<PageCursor>), Error> {
    let limit = limit_within(limit, PageQuery::MAX_LIMIT) as usize;
    let after = after.map(|after| place(after.at, after.id));
    let (mut listed, mut last) = (Vec::new(), None);
    for (examined, place) in (1..).zip(places(file, table, scope, after)?) {
        let place = place?;
        if let Some(found) = covered(place.1)? {
            if listed.len() == limit {
                return Ok((listed, last));
            }
            listed.push(found);
        }
        last = Some(cursor(place));
        if examined == PageQuery::MAX_EXAMINED {
            return Ok((listed, last));
        }
    }
    Ok((listed, None))
}

/// Enters a session in every scope of its user, or takes it out.
pub(crate) fn enter(
    file: &WriteTransaction,
    table: Places,
    owner: &UserKey,
    (order, id): Place,
    stays: bool,
) -> Result<(), Error> {
    let mut places = file.open_table(table)?;
    for scope in PolicyScope::of(owner) {
        let (tenant, user) = scope.key();
        let key = (tenant, user, order, id.as_bytes());
        let _ = if stays { places.insert(key, ())? } else { places.remove(key)? };
    }
    Ok(())
}

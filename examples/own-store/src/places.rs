//! Sessions in an order of time, in every scope that they are listed in.

use std::ops::{Bound, RangeInclusive};

use session_core::policy::PolicyScope;
use session_core::store::{PageCursor, PageQuery, TenantFilter};
use session_core::{SessionId, Timestamp, UserId, UserKey};

use crate::file::{Places, Read, Result, Write, readable};

type Key<'s> = (&'s str, &'s str, i64, &'s [u8; 16]);

/// The key of a place in a scope, in the order of pages: the newest time first, ties by id. Of two
/// integers, the complement of the larger one is the smaller.
pub(crate) fn key<'s>(scope: &'s PolicyScope, place: &'s PageCursor) -> Key<'s> {
    let (tenant, user) = scope.key();
    (tenant, user, !place.at.as_micros(), place.id.as_bytes())
}

pub(crate) const fn row((_, _, order, id): Key<'_>) -> PageCursor {
    PageCursor { at: Timestamp::from_micros(!order), id: SessionId::from_bytes(*id) }
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
    file: &Read,
    table: Places,
    scope: &PolicyScope,
    after: Option<PageCursor>,
) -> Result<impl Iterator<Item = Result<PageCursor>> + use<>> {
    let (first, last) = whole(scope.key()).into_inner();
    let from = after.as_ref().map(|after| Bound::Excluded(key(scope, after)));
    let range = (from.unwrap_or(Bound::Included(first)), Bound::Included(last));
    let rows = file.open_table(table)?.range(range)?;
    Ok(rows.map(|found| Ok(row(found?.0.value()))))
}

/// Up to `limit` of what is covered at these places, and where to go on: there is more, or enough
/// was looked at.
pub(crate) fn walk<T>(
    places: impl Iterator<Item = Result<PageCursor>>,
    limit: u32,
    covered: impl Fn(SessionId) -> Result<Option<T>>,
) -> Result<(Vec<T>, Option<PageCursor>)> {
    let (mut listed, mut last) = (Vec::new(), None);
    for (examined, place) in (1..).zip(places) {
        let place = place?;
        if let Some(found) = readable(covered(place.id))? {
            if listed.len() == limit as usize {
                return Ok((listed, last));
            }
            listed.push(found);
        }
        last = Some(place);
        if examined == PageQuery::MAX_EXAMINED {
            return Ok((listed, last));
        }
    }
    Ok((listed, None))
}

/// Enters a session in every one of these scopes, or takes it out.
pub(crate) fn enter(
    file: &Write,
    table: Places,
    scopes: &[PolicyScope],
    place: PageCursor,
    stays: bool,
) -> Result<()> {
    let mut places = file.open_table(table)?;
    for scope in scopes {
        let key = key(scope, &place);
        let _ = if stays { places.insert(key, ())? } else { places.remove(key)? };
    }
    Ok(())
}

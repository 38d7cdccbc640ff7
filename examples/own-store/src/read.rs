//! Reading: one session by its id, and sessions in the order of their sign-ins.

use std::ops::Bound;

use redb::{Error, ReadTransaction, ReadableTable};
use session_core::admission::Standing;
use session_core::policy::{PolicyLayers, PolicyScope};
use session_core::store::record::decode_session;
use session_core::store::{
    Loaded, Page, PageCursor, PageQuery, TenantFilter, UserState, limit_within,
};
use session_core::{Session, SessionId, Timestamp, UserId, UserKey};

use crate::change::version;
use crate::file::{BLOCKS, Bytes, Id, PLACES, Places, SESSIONS, USERS, core_error};
use crate::settings::{blocks, policy};

/// A place in the order of pages: the newest sign-in first or, in the history, the latest end, ties by
/// id. Of two integers, the complement of the larger one is the smaller.
pub(crate) type Place = (i64, SessionId);

pub(crate) const fn place(at: Timestamp, id: SessionId) -> Place {
    (!at.as_micros(), id)
}

pub(crate) const fn cursor((order, id): Place) -> PageCursor {
    PageCursor { at: Timestamp::from_micros(!order), id }
}

/// Everything that a decision about a user needs, out of one snapshot.
pub(crate) fn user(file: &ReadTransaction, owner: &UserKey) -> Result<UserState, Error> {
    let sessions = file.open_table(SESSIONS)?;
    let found = places(file, PLACES, &PolicyScope::User(owner.clone()), None)?;
    let standing = |place: Result<Place, _>| Ok(Standing::from(&listed(&sessions, place?)?));
    let sessions = found.map(standing).collect::<Result<_, Error>>()?;
    let mut policies = PolicyLayers::default();
    for scope in PolicyScope::of(owner) {
        policies.set(&scope, policy(file, &scope)?);
    }
    let blocks = blocks(&file.open_table(BLOCKS)?, owner)?;
    Ok(UserState { version: version(&file.open_table(USERS)?, owner)?, sessions, policies, blocks })
}

pub(crate) fn load(file: &ReadTransaction, id: SessionId) -> Result<Option<Loaded>, Error> {
    let Some(session) = session(&file.open_table(SESSIONS)?, id)? else { return Ok(None) };
    let version = version(&file.open_table(USERS)?, &session.owner)?;
    Ok(Some(Loaded { session, version }))
}

/// Looks for one session more than the page holds, to know whether there is a next page.
pub(crate) fn page(file: &ReadTransaction, query: &PageQuery) -> Result<Page, Error> {
    let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
    let sessions = file.open_table(SESSIONS)?;
    let after = query.after.map(|after| place(after.at, after.id));
    let mut covered = Vec::new();
    let scope = scope(&query.tenant, query.user.as_ref());
    for (examined, place) in (1..).zip(places(file, PLACES, &scope, after)?) {
        let place = place?;
        covered.extend(Some(listed(&sessions, place)?).filter(|session| query.covers(session)));
        if covered.len() > limit as usize {
            break;
        }
        if examined == PageQuery::MAX_EXAMINED {
            return Ok(Page { sessions: covered, next: Some(cursor(place)) });
        }
    }
    Ok(Page::cut(covered, limit))
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

/// The places in a scope, after this one.
pub(crate) fn places(
    file: &ReadTransaction,
    table: Places,
    scope: &PolicyScope,
    after: Option<Place>,
) -> Result<impl Iterator<Item = Result<Place, Error>> + use<>, Error> {
    let (tenant, user) = scope.key();
    let from = match &after {
        Some((order, id)) => Bound::Excluded((tenant, user, *order, id.as_bytes())),
        None => Bound::Included((tenant, user, i64::MIN, &[0; 16])),
    };
    let to = Bound::Included((tenant, user, i64::MAX, &[u8::MAX; 16]));
    Ok(file.open_table(table)?.range((from, to))?.map(|row| {
        let (key, _) = row?;
        let (_, _, order, id) = key.value();
        Ok((order, SessionId::from_bytes(*id)))
    }))
}

pub(crate) fn session(
    sessions: &impl ReadableTable<Id, Bytes>,
    id: SessionId,
) -> Result<Option<Session>, Error> {
    let Some(bytes) = sessions.get(id.as_bytes())? else { return Ok(None) };
    decode_session(bytes.value()).map(Some).map_err(core_error)
}

/// The session at a place. Both are of one snapshot, so it is there.
fn listed(sessions: &impl ReadableTable<Id, Bytes>, (_, id): Place) -> Result<Session, Error> {
    session(sessions, id)?.ok_or_else(|| Error::Corrupted("a place without a session".to_owned()))
}

//! Reading: one session by its id, and sessions in the order of their sign-ins.

use redb::{Error, ReadTransaction, ReadableTable};
use session_core::admission::Standing;
use session_core::policy::{PolicyLayers, PolicyScope};
use session_core::store::record::decode_session;
use session_core::store::{Loaded, Page, PageQuery, UserState, limit_within};
use session_core::{Session, SessionId, UserKey};

use crate::change::version;
use crate::file::{BLOCKS, Bytes, Id, PLACES, SESSIONS, USERS, core_error};
use crate::places::{Place, cursor, place, places, scope};
use crate::settings::{block, policy};

/// Everything that a decision about a user needs, out of one snapshot.
pub(crate) fn user(file: &ReadTransaction, owner: &UserKey) -> Result<UserState, Error> {
    let sessions = file.open_table(SESSIONS)?;
    let found = places(file, PLACES, &PolicyScope::User(owner.clone()), None)?;
    let standing = |place: Result<Place, _>| Ok(Standing::from(&listed(&sessions, place?)?));
    let sessions = found.map(standing).collect::<Result<_, Error>>()?;
    let (mut policies, mut blocks) = (PolicyLayers::default(), Vec::new());
    for scope in PolicyScope::of(owner) {
        policies.set(&scope, policy(file, &scope)?);
        blocks.extend(block(&file.open_table(BLOCKS)?, &scope)?.map(|block| (scope, block)));
    }
    let version = version(&file.open_table(USERS)?, owner)?;
    Ok(UserState { version, sessions, policies, blocks })
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

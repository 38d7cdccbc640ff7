//! Reading: one session by its id, and pages of those that live and of those that have ended.

use redb::Error;
use session_core::admission::Standing;
use session_core::policy::{PolicyLayers, PolicyScope};
use session_core::store::record::{decode_ended_session, decode_session};
use session_core::store::{
    EndedSession, HistoryPage, HistoryQuery, Loaded, Page, PageQuery, UserState, limit_within,
};
use session_core::{SessionId, UserKey};

use crate::change::version;
use crate::file::{BLOCKS, ENDS, HISTORY, PLACES, Read, Result, SESSIONS, USERS, get};
use crate::places::{places, scope, walk};
use crate::settings::{blocks, policy};

/// Everything that a decision about a user needs, out of one snapshot.
pub(crate) fn user(file: &Read, owner: &UserKey) -> Result<UserState> {
    let records = file.open_table(SESSIONS)?;
    let lost = || Error::Corrupted("a place without a session".to_owned());
    let mut sessions = Vec::new();
    for place in places(file, PLACES, &PolicyScope::User(owner.clone()), None)? {
        let session = get(&records, place?.id.as_bytes(), decode_session)?;
        sessions.push(Standing::from(&session.ok_or_else(lost)?));
    }
    let mut policies = PolicyLayers::default();
    for scope in PolicyScope::of(owner) {
        policies.set(&scope, policy(file, &scope)?);
    }
    let blocks = blocks(&file.open_table(BLOCKS)?, owner)?;
    let version = version(&file.open_table(USERS)?, owner)?;
    Ok(UserState { version, sessions, policies, blocks })
}

pub(crate) fn load(file: &Read, id: &SessionId) -> Result<Option<Loaded>> {
    let session = get(&file.open_table(SESSIONS)?, id.as_bytes(), decode_session)?;
    let Some(session) = session else { return Ok(None) };
    let version = version(&file.open_table(USERS)?, &session.owner)?;
    Ok(Some(Loaded { session, version }))
}

pub(crate) fn ended(file: &Read, id: &SessionId) -> Result<Option<EndedSession>> {
    get(&file.open_table(HISTORY)?, id.as_bytes(), decode_ended_session)
}

pub(crate) fn page(file: &Read, query: &PageQuery) -> Result<Page> {
    let (records, scope) = (file.open_table(SESSIONS)?, scope(&query.tenant, query.user.as_ref()));
    let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
    let (sessions, next) = walk(places(file, PLACES, &scope, query.after)?, limit, |id| {
        Ok(get(&records, id.as_bytes(), decode_session)?.filter(|session| query.covers(session)))
    })?;
    Ok(Page { sessions, next })
}

pub(crate) fn history(file: &Read, query: &HistoryQuery) -> Result<HistoryPage> {
    let (records, scope) = (file.open_table(HISTORY)?, scope(&query.tenant, query.user.as_ref()));
    let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
    let (sessions, next) = walk(places(file, ENDS, &scope, query.after)?, limit, |id| {
        Ok(get(&records, id.as_bytes(), decode_ended_session)?.filter(|ended| query.covers(ended)))
    })?;
    Ok(HistoryPage { sessions, next })
}

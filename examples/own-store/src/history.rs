//! What is kept of ended sessions.

use redb::{Error, ReadTransaction, ReadableTable, WriteTransaction};
use session_core::policy::PolicyScope;
use session_core::store::record::{decode_ended_session, encode_ended_session};
use session_core::store::{
    EndedSession, Forget, HistoryPage, HistoryQuery, PageQuery, limit_within,
};
use session_core::{Session, SessionId, Timestamp};

use crate::change::Why;
use crate::file::{Bytes, ENDED, HISTORY, Id, core_error};
use crate::read::{cursor, place, places, scope};
use crate::settings::clock;

pub(crate) fn add(file: &WriteTransaction, session: Session, why: &Why) -> Result<(), Error> {
    let Why { cause, at: ended, by, from, .. } = why;
    let (by, from) = (by.clone(), from.clone());
    let ended = EndedSession { session, ended: *ended, cause: *cause, by, from };
    let (order, id) = place(ended.ended, ended.session.id);
    file.open_table(HISTORY)?.insert(id.as_bytes(), &*encode_ended_session(&ended))?;
    let mut places = file.open_table(ENDED)?;
    for scope in PolicyScope::of(&ended.session.owner) {
        let (tenant, user) = scope.key();
        places.insert((tenant, user, order, id.as_bytes()), ())?;
    }
    Ok(())
}

pub(crate) fn ended(
    history: &impl ReadableTable<Id, Bytes>,
    id: SessionId,
) -> Result<Option<EndedSession>, Error> {
    let Some(bytes) = history.get(id.as_bytes())? else { return Ok(None) };
    decode_ended_session(bytes.value()).map(Some).map_err(core_error)
}

/// As the page of live sessions.
pub(crate) fn page(file: &ReadTransaction, query: &HistoryQuery) -> Result<HistoryPage, Error> {
    let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
    let history = file.open_table(HISTORY)?;
    let after = query.after.map(|after| place(after.at, after.id));
    let scope = scope(&query.tenant, query.user.as_ref());
    let mut covered = Vec::new();
    for (examined, place) in (1..).zip(places(file, ENDED, &scope, after)?) {
        let place = place?;
        covered.extend(ended(&history, place.1)?.filter(|ended| query.covers(ended)));
        if covered.len() > limit as usize {
            break;
        }
        if examined == PageQuery::MAX_EXAMINED {
            return Ok(HistoryPage { sessions: covered, next: Some(cursor(place)) });
        }
    }
    Ok(HistoryPage::cut(covered, limit))
}

/// Deletes from the oldest on; none where nothing has to go.
pub(crate) fn forget(
    file: &WriteTransaction,
    forget: &Forget,
    limit: u32,
) -> Result<Option<u32>, Error> {
    let (scope, before) = match forget {
        Forget::OlderThan(age) => (PolicyScope::Deployment, clock().minus(*age)),
        Forget::User(owner) => (PolicyScope::User(owner.clone()), Timestamp::MAX),
    };
    let leaving = oldest(file, &scope, before, limit)?;
    for id in &leaving {
        remove(file, *id)?;
    }
    let count = u32::try_from(leaving.len()).unwrap_or(limit);
    Ok((count > 0).then_some(count))
}

fn oldest(
    file: &WriteTransaction,
    scope: &PolicyScope,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<SessionId>, Error> {
    let (tenant, user) = scope.key();
    // The latest end has the smallest order.
    let from = (tenant, user, !before.as_micros(), &[u8::MAX; 16]);
    let to = (tenant, user, i64::MAX, &[u8::MAX; 16]);
    let places = file.open_table(ENDED)?;
    let id = |row: Result<(redb::AccessGuard<'_, (_, _, i64, Id)>, _), _>| {
        Ok(SessionId::from_bytes(*row?.0.value().3))
    };
    places.range(from..=to)?.rev().take(limit as usize).map(id).collect()
}

fn remove(file: &WriteTransaction, id: SessionId) -> Result<(), Error> {
    let mut history = file.open_table(HISTORY)?;
    let Some(ended) = ended(&history, id)? else { return Ok(()) };
    history.remove(id.as_bytes())?;
    let (order, _) = place(ended.ended, id);
    let mut places = file.open_table(ENDED)?;
    for scope in PolicyScope::of(&ended.session.owner) {
        let (tenant, user) = scope.key();
        places.remove((tenant, user, order, id.as_bytes()))?;
    }
    Ok(())
}

//! What is kept of sessions that have ended: the record, and how it ended.

use redb::{Error, ReadTransaction, ReadableTable, WriteTransaction};
use session_core::policy::PolicyScope;
use session_core::store::record::{decode_ended_session, encode_ended_session, read_session};
use session_core::store::{
    EndedBatch, EndedSession, Forget, HistoryPage, HistoryQuery, limit_within,
};
use session_core::{Session, SessionId};

use crate::change::Record;
use crate::file::{Bytes, ENDS, HISTORY, Id, core_error};
use crate::places::{cursor, enter, list, place, row, scope, whole};
use crate::settings::clock;

/// Takes what has just been removed. A record that cannot be read is not remembered.
pub(crate) fn remember(
    file: &WriteTransaction,
    record: &Record,
    how: impl FnOnce(Session) -> EndedSession,
) -> Result<(), Error> {
    let Some(ended) = read_session(&record.fields).ok().map(how) else { return Ok(()) };
    let id = record.ended.id;
    file.open_table(HISTORY)?.insert(id.as_bytes(), &*encode_ended_session(&ended))?;
    enter(file, ENDS, &record.ended.owner, place(ended.ended, id), true)
}

pub(crate) fn ended(
    history: &impl ReadableTable<Id, Bytes>,
    id: SessionId,
) -> Result<Option<EndedSession>, Error> {
    let Some(bytes) = history.get(id.as_bytes())? else { return Ok(None) };
    decode_ended_session(bytes.value()).map(Some).map_err(core_error)
}

pub(crate) fn page(file: &ReadTransaction, query: &HistoryQuery) -> Result<HistoryPage, Error> {
    let history = file.open_table(HISTORY)?;
    let covered = |id| Ok(ended(&history, id)?.filter(|ended| query.covers(ended)));
    let scope = scope(&query.tenant, query.user.as_ref());
    let (sessions, next) = list(file, ENDS, &scope, (query.after, query.limit), covered)?;
    Ok(HistoryPage { sessions, next })
}

/// Deletes from the oldest end on, and answers none where there is nothing to delete.
pub(crate) fn forget(
    file: &WriteTransaction,
    forget: &Forget,
    limit: u32,
) -> Result<Option<u32>, Error> {
    let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
    let (scope, line) = match forget {
        Forget::OlderThan(age) => (PolicyScope::Deployment, Some(clock().minus(*age))),
        Forget::User(owner) => (PolicyScope::User(owner.clone()), None),
    };
    let mut leaving = Vec::new();
    for found in file.open_table(ENDS)?.range(whole(scope.key()))?.rev().take(limit as usize) {
        let place = row(found?.0.value());
        if line.is_some_and(|line| cursor(place).at >= line) {
            break;
        }
        leaving.push(place);
    }
    let mut history = file.open_table(HISTORY)?;
    for place in &leaving {
        let owner = ended(&history, place.1)?.map(|ended| ended.session.owner);
        history.remove(place.1.as_bytes())?;
        owner.map_or(Ok(()), |owner| enter(file, ENDS, &owner, *place, false))?;
    }
    let count = u32::try_from(leaving.len()).unwrap_or(limit);
    Ok((count > 0).then_some(count))
}

//! What is kept of sessions that have ended: the record, and how it ended.

use redb::{Error, ReadTransaction, ReadableTable, WriteTransaction};
use session_core::policy::PolicyScope;
use session_core::store::record::{decode_ended_session, encode_ended_session, read_session};
use session_core::store::{
    Commit, EndMany, EndedBatch, EndedSession, Forget, HistoryPage, HistoryQuery, PageQuery,
    limit_within,
};
use session_core::{Actor, DeviceInfo, EndCause, SessionId, Timestamp};

use crate::change::Record;
use crate::file::{Bytes, ENDS, HISTORY, Id, core_error};
use crate::places::{cursor, enter, leave, place, places, row, scope, whole};
use crate::settings::clock;

/// How a session ends, for the log and for the history.
pub(crate) struct How {
    pub(crate) cause: EndCause,
    pub(crate) at: Timestamp,
    pub(crate) by: Actor,
    pub(crate) from: Option<DeviceInfo>,
    /// Whether the history is on.
    pub(crate) is_kept: bool,
}

impl How {
    pub(crate) fn of_commit(commit: &Commit, cause: EndCause, is_kept: bool) -> Self {
        let Commit { at, by, from, .. } = commit;
        Self { cause, at: *at, by: by.clone(), from: from.clone(), is_kept }
    }

    pub(crate) fn of_many(end: &EndMany, is_kept: bool) -> Self {
        let EndMany { cause, at, by, from, .. } = end;
        Self { cause: *cause, at: *at, by: by.clone(), from: from.clone(), is_kept }
    }
}

/// Takes what has just been removed. A record that cannot be read is not remembered.
pub(crate) fn remember(file: &WriteTransaction, record: &Record, how: &How) -> Result<(), Error> {
    let Ok(session) = read_session(&record.fields) else { return Ok(()) };
    if !how.is_kept {
        return Ok(());
    }
    let How { cause, at, by, from, .. } = how;
    let (by, from) = (by.clone(), from.clone());
    let ended = EndedSession { session, ended: *at, cause: *cause, by, from };
    let id = record.ended.id;
    file.open_table(HISTORY)?.insert(id.as_bytes(), &*encode_ended_session(&ended))?;
    enter(file, ENDS, &record.ended.owner, place(*at, id))
}

pub(crate) fn knows(file: &WriteTransaction, id: SessionId) -> Result<bool, Error> {
    Ok(file.open_table(HISTORY)?.get(id.as_bytes())?.is_some())
}

pub(crate) fn ended(file: &ReadTransaction, id: SessionId) -> Result<Option<EndedSession>, Error> {
    remembered(&file.open_table(HISTORY)?, id)
}

fn remembered(
    history: &impl ReadableTable<Id, Bytes>,
    id: SessionId,
) -> Result<Option<EndedSession>, Error> {
    let Some(bytes) = history.get(id.as_bytes())? else { return Ok(None) };
    decode_ended_session(bytes.value()).map(Some).map_err(core_error)
}

/// As [`read::page`](crate::read::page), by the time of the end.
pub(crate) fn page(file: &ReadTransaction, query: &HistoryQuery) -> Result<HistoryPage, Error> {
    let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
    let history = file.open_table(HISTORY)?;
    let after = query.after.map(|after| place(after.at, after.id));
    let mut covered = Vec::new();
    let scope = scope(&query.tenant, query.user.as_ref());
    for (examined, place) in (1..).zip(places(file, ENDS, &scope, after)?) {
        let place = place?;
        covered.extend(remembered(&history, place.1)?.filter(|ended| query.covers(ended)));
        if covered.len() > limit as usize {
            break;
        }
        if examined == PageQuery::MAX_EXAMINED {
            return Ok(HistoryPage { sessions: covered, next: Some(cursor(place)) });
        }
    }
    Ok(HistoryPage::cut(covered, limit))
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
    let is_old = |place| line.is_none_or(|line| cursor(place).at < line);
    let mut leaving = Vec::new();
    for found in file.open_table(ENDS)?.range(whole(scope.key()))?.rev().take(limit as usize) {
        let place = row(found?);
        if !is_old(place) {
            break;
        }
        leaving.push(place);
    }
    for place in &leaving {
        let mut history = file.open_table(HISTORY)?;
        if let Some(ended) = remembered(&history, place.1)? {
            history.remove(place.1.as_bytes())?;
            leave(file, ENDS, &ended.session.owner, *place)?;
        }
    }
    let count = u32::try_from(leaving.len()).unwrap_or(limit);
    Ok((count > 0).then_some(count))
}

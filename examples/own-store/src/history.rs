//! What is kept of sessions that have ended: the record, and how it ended.

use redb::{Error, ReadTransaction, ReadableTable, WriteTransaction};
use serde_json::Value;
use session_core::policy::PolicyScope;
use session_core::store::record::{decode_ended_session, ending_fields, json_object};
use session_core::store::{
    Ended, EndedBatch, EndedSession, Ending, Forget, HistoryPage, HistoryQuery, limit_within,
};
use session_core::{SessionId, StoreError, TenantId, UserId, UserKey};

use crate::change::Record;
use crate::file::{Bytes, ENDS, HISTORY, Id, Text, core_error, readable};
use crate::places::{cursor, enter, list, place, row, scope, whole};
use crate::settings::clock;

/// Takes what has just been removed, as it is.
pub(crate) fn remember(
    file: &WriteTransaction,
    record: &Record,
    ending: &Ending,
) -> Result<(), Error> {
    let Ended { id, owner } = &record.ended;
    let mut fields = record.fields.clone();
    fields.extend(json_object(ending_fields(ending)));
    let text = Value::Object(fields).to_string();
    let row = (owner.tenant_text(), owner.user.as_str(), text.as_bytes());
    file.open_table(HISTORY)?.insert(id.as_bytes(), row)?;
    enter(file, ENDS, owner, place(ending.at, *id), true)
}

pub(crate) fn ended(
    history: &impl ReadableTable<Id, (Text, Text, Bytes)>,
    id: SessionId,
) -> Result<Option<EndedSession>, Error> {
    let Some(row) = history.get(id.as_bytes())? else { return Ok(None) };
    decode_ended_session(row.value().2).map(Some).map_err(core_error)
}

pub(crate) fn page(file: &ReadTransaction, query: &HistoryQuery) -> Result<HistoryPage, Error> {
    let history = file.open_table(HISTORY)?;
    let covered = |id| Ok(readable(ended(&history, id))?.filter(|ended| query.covers(ended)));
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
        let gone = history.remove(place.1.as_bytes())?;
        let owner = gone.map(|row| (row.value().0.to_owned(), row.value().1.to_owned()));
        let owner = owner.map(owner_of).transpose().map_err(core_error)?;
        owner.map_or(Ok(()), |owner| enter(file, ENDS, &owner, *place, false))?;
    }
    let count = u32::try_from(leaving.len()).unwrap_or(limit);
    Ok((count > 0).then_some(count))
}

fn owner_of((tenant, user): (String, String)) -> Result<UserKey, StoreError> {
    let tenant = Some(tenant).filter(|tenant| !tenant.is_empty());
    let tenant = tenant.map(|tenant| TenantId::from_stored(&tenant)).transpose()?;
    Ok(UserKey { tenant, user: UserId::from_stored(&user)? })
}

//! Ending many sessions: a selection of them, or those past their deadline.

use std::collections::BTreeSet;
use std::time::Duration;

use redb::{Error, ReadOnlyTable, ReadTransaction, WriteTransaction};
use session_core::store::record::Fields;
use session_core::store::{
    Continuation, EndMany, Ended, EndedBatch, Ending, PageCursor, PageQuery, Selection,
    limit_within,
};
use session_core::{SessionId, StoreError, Timestamp};

use crate::change::{Record, find, remove, tell};
use crate::file::{Bytes, Id, PLACES, SESSIONS, core_error, readable};
use crate::places::{Place, cursor, place, places, scope};
use crate::settings::clock;

/// Which sessions end, and how.
pub(crate) struct EndWhere {
    pub(crate) end: EndMany,
    /// Of those selected, only what is past its deadline by more than this.
    pub(crate) overdue: Option<Duration>,
}

impl EndWhere {
    /// Chooses up to `limit` sessions in a snapshot, so that no writer waits for the walk, and says
    /// where the next call goes on.
    pub(crate) fn choose(
        &self,
        file: &ReadTransaction,
        limit: u32,
    ) -> Result<(Vec<SessionId>, Option<Continuation>), Error> {
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT) as usize;
        let sessions = file.open_table(SESSIONS)?;
        let mut candidates = self.candidates(file, &sessions)?;
        let (mut chosen, mut examined) = (Vec::new(), 0);
        while let Some(place) = candidates.next().transpose()? {
            examined += 1;
            if readable(find(&sessions, place.1))?.is_some_and(|record| self.covers(&record)) {
                chosen.push(place.1);
            }
            if chosen.len() == limit || examined == PageQuery::MAX_EXAMINED {
                return Ok((chosen, candidates.next().map(|_| continuation(place))));
            }
        }
        Ok((chosen, None))
    }

    /// The places to look at, from where the last call left off.
    fn candidates(
        &self,
        file: &ReadTransaction,
        sessions: &ReadOnlyTable<Id, Bytes>,
    ) -> Result<Box<dyn Iterator<Item = Result<Place, Error>>>, Error> {
        let after = self.end.after.as_ref().map(parse).transpose().map_err(core_error)?;
        let Selection { tenant, user, ids, .. } = &self.end.selection;
        let Some(ids) = ids else {
            return Ok(Box::new(places(file, PLACES, &scope(tenant, user.as_ref()), after)?));
        };
        let mut named = BTreeSet::new();
        for id in ids {
            named.extend(readable(find(sessions, *id))?.map(|record| record.place));
        }
        Ok(Box::new(named.into_iter().filter(move |place| Some(*place) > after).map(Ok)))
    }

    fn covers(&self, record: &Record) -> bool {
        let deadline = || record.fields.integer("deadline").ok()?.map(Timestamp::from_micros);
        let is_past = |overdue| deadline().is_some_and(|at| at < clock().minus(overdue));
        selects(&self.end.selection, record) && self.overdue.is_none_or(is_past)
    }
}

/// Ends what was chosen and is still covered: it may have been used or ended since.
pub(crate) fn end(
    file: &WriteTransaction,
    what: &EndWhere,
    ids: &[SessionId],
) -> Result<Option<Vec<Ended>>, Error> {
    let (mut ended, ending) = (Vec::new(), Ending::from(&what.end));
    for id in ids {
        let record = find(&file.open_table(SESSIONS)?, *id)?;
        let Some(record) = record.filter(|record| what.covers(record)) else { continue };
        remove(file, &record, &ending)?;
        tell(file, &ending.event(&record.ended), &record.ended.owner)?;
        ended.push(record.ended);
    }
    Ok((!ended.is_empty()).then_some(ended))
}

/// The pattern names all fields: with a new one, this does not compile until it knows it.
fn selects(selection: &Selection, record: &Record) -> bool {
    let Selection {
        tenant,
        user,
        device_kind,
        client_id,
        ids,
        signed_in_before,
        last_accessed_before,
        except,
    } = selection;
    let Ended { id, owner } = &record.ended;
    let last_accessed = || record.fields.integer("last_accessed").ok().flatten();
    let has = |name, wanted| record.fields.text(name).is_ok_and(|text| text.as_deref() == wanted);
    tenant.covers(owner.tenant.as_ref())
        && user.as_ref().is_none_or(|user| *user == owner.user)
        && device_kind.as_ref().is_none_or(|kind| has("device_kind", Some(kind.as_str())))
        && client_id.as_ref().is_none_or(|client| has("client_id", Some(client.as_str())))
        && ids.as_ref().is_none_or(|ids| ids.contains(id))
        && signed_in_before.is_none_or(|before| cursor(record.place).at < before)
        && last_accessed_before
            .is_none_or(|before| last_accessed().is_some_and(|at| at < before.as_micros()))
        && *except != Some(*id)
}

fn continuation(place: Place) -> Continuation {
    Continuation(cursor(place).to_string().into_bytes())
}

fn parse(after: &Continuation) -> Result<Place, StoreError> {
    let text = str::from_utf8(&after.0).unwrap_or_default();
    let cursor: PageCursor = text.parse().map_err(StoreError::refused)?;
    Ok(place(cursor.at, cursor.id))
}

//! Ending many sessions, by selection or past their deadline, and forgetting what has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use redb::ReadableTable;
use session_core::policy::PolicyScope;
use session_core::store::record::Fields;
use session_core::store::{
    Continuation, EndMany, Ended, EndedBatch, Ending, Forget, PageCursor, Selection, limit_within,
};
use session_core::{SessionId, Timestamp};

use crate::change::{Record, remove, tell};
use crate::file::{
    ENDS, HISTORY, PLACES, Read, Result, SESSIONS, Write, core_error, get, readable,
};
use crate::places::{enter, places, row, scope, walk, whole};
use crate::settings::clock;

/// Which sessions end, and how.
pub(crate) struct EndWhere {
    pub(crate) end: EndMany,
    /// Of those selected, only what is past its deadline by more than this.
    pub(crate) overdue: Option<Duration>,
    /// Whether they go into the history.
    pub(crate) keeps: bool,
}

impl EndWhere {
    /// Chooses up to `limit` sessions in a snapshot: no writer waits. Says where to go on.
    pub(crate) fn choose(
        &self,
        file: &Read,
        limit: u32,
    ) -> Result<(Vec<SessionId>, Option<Continuation>)> {
        let sessions = file.open_table(SESSIONS)?;
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
        let (chosen, next) = walk(self.candidates(file)?, limit, |id| {
            let record = get(&sessions, id.as_bytes(), Record::parse)?;
            Ok(record.filter(|record| self.covers(record)).map(|_| id))
        })?;
        Ok((chosen, next.map(Continuation::at)))
    }

    /// The places to look at, from where the last call left off. Given ids have their own order.
    fn candidates(&self, file: &Read) -> Result<Box<dyn Iterator<Item = Result<PageCursor>>>> {
        let after = self.end.after.as_ref().map(Continuation::place);
        let after = after.transpose().map_err(core_error)?;
        let Selection { tenant, user, ids, .. } = &self.end.selection;
        let Some(ids) = ids else {
            return Ok(Box::new(places(file, PLACES, &scope(tenant, user.as_ref()), after)?));
        };
        let ids: BTreeSet<_> = ids.iter().copied().collect();
        let left = ids.into_iter().filter(move |id| after.is_none_or(|after| *id > after.id));
        Ok(Box::new(left.map(|id| Ok(PageCursor { at: Timestamp::EPOCH, id }))))
    }

    fn covers(&self, record: &Record) -> bool {
        let Record { ended, fields, .. } = record;
        let deadline = || fields.integer("deadline").ok()?.map(Timestamp::from_micros);
        let is_past = |overdue| deadline().is_some_and(|at| at < clock().minus(overdue));
        self.end.selection.selects(ended.id, fields).unwrap_or(false)
            && self.overdue.is_none_or(is_past)
    }
}

/// Ends what was chosen and is still covered: it may have been used or ended since.
pub(crate) fn end(file: &Write, what: &EndWhere, ids: &[SessionId]) -> Result<Option<Vec<Ended>>> {
    let (mut ended, ending) = (Vec::new(), Ending::from(&what.end));
    for id in ids {
        let record = get(&file.open_table(SESSIONS)?, id.as_bytes(), Record::parse)?;
        let Some(record) = record.filter(|record| what.covers(record)) else { continue };
        remove(file, &record, &ending, what.keeps)?;
        tell(file, &ending.event(&record.ended), &record.ended.owner)?;
        ended.push(record.ended);
    }
    Ok((!ended.is_empty()).then_some(ended))
}

/// Deletes from the oldest end on, and answers none where there is nothing to delete.
pub(crate) fn forget(file: &Write, (forget, limit): &(Forget, u32)) -> Result<Option<u32>> {
    let limit = limit_within(*limit, EndedBatch::MAX_LIMIT);
    let (scope, line) = match forget {
        Forget::OlderThan(age) => (PolicyScope::Deployment, Some(clock().minus(*age))),
        Forget::User(owner) => (PolicyScope::User(owner.clone()), None),
    };
    let mut leaving = Vec::new();
    for found in file.open_table(ENDS)?.range(whole(scope.key()))?.rev().take(limit as usize) {
        let place = row(found?.0.value());
        if line.is_some_and(|line| place.at >= line) {
            break;
        }
        leaving.push(place);
    }
    for place in &leaving {
        let record = readable(get(&file.open_table(HISTORY)?, place.id.as_bytes(), Record::parse))?;
        file.open_table(HISTORY)?.remove(place.id.as_bytes())?;
        // One that cannot be read leaves the list that it was found in; the others pass over it.
        let found_in = || vec![scope.clone()];
        let scopes = record.map_or_else(found_in, |record| PolicyScope::of(&record.ended.owner));
        enter(file, ENDS, &scopes, *place, false)?;
    }
    let count = u32::try_from(leaving.len()).unwrap_or(limit);
    Ok((count > 0).then_some(count))
}

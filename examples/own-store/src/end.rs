//! Ending many sessions: a selection of them, or those whose time is up.

use redb::{Error, ReadOnlyTable, ReadTransaction};
use session_core::cleanup::SweepRule;
use session_core::store::record::Fields;
use session_core::store::{
    Continuation, EndMany, Ended, EndedBatch, PageCursor, PageQuery, Selection, limit_within,
};
use session_core::{Event, EventKind, InvalidField, SessionId, StoreError, Timestamp};

use crate::change::Record;
use crate::file::{Bytes, Id, SESSIONS, Tables};
use crate::read::{Place, cursor, place, places, scope};

/// Which sessions end, and what the log says of it.
pub(crate) struct Ending {
    end: EndMany,
    /// Of those selected, only what this rule covers.
    rule: Option<SweepRule>,
    /// Where the last call left off.
    after: Option<Place>,
}

/// Sessions to end, and where the next call goes on.
pub(crate) type Chosen = (Vec<SessionId>, Option<Continuation>);

impl Ending {
    /// Refuses a continuation that is not of this store.
    pub(crate) fn new(end: EndMany, rule: Option<SweepRule>) -> Result<Self, StoreError> {
        let after = end.after.as_ref().map(parse).transpose().map_err(StoreError::refused)?;
        Ok(Self { end, rule, after })
    }

    /// Chooses up to `limit` sessions in a snapshot, so that no writer waits for the walk.
    pub(crate) fn choose(&self, file: &ReadTransaction, limit: u32) -> Result<Chosen, Error> {
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT) as usize;
        let sessions = file.open_table(SESSIONS)?;
        let mut candidates = self.candidates(file, &sessions)?;
        let (mut chosen, mut examined) = (Vec::new(), 0);
        while let Some(place) = candidates.next().transpose()? {
            examined += 1;
            if find(&sessions, place.1)?.is_some_and(|record| self.covers(&record)) {
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
        let Selection { tenant, user, ids, .. } = &self.end.selection;
        let Some(ids) = ids else {
            return Ok(Box::new(places(file, &scope(tenant, user.as_ref()), self.after)?));
        };
        let mut named = Vec::new();
        for id in ids {
            named.extend(find(sessions, *id)?.map(|record| record.place));
        }
        named.sort_unstable();
        named.dedup();
        named.retain(|place| self.after.is_none_or(|after| *place > after));
        Ok(Box::new(named.into_iter().map(Ok)))
    }

    fn covers(&self, record: &Record) -> bool {
        let time = |name| record.fields.integer(name).ok()?.map(Timestamp::from_micros);
        let is_past = |rule: &SweepRule| {
            let last = time("last_accessed");
            last.is_some_and(|last| rule.covers(last, time("absolute_expiry")))
        };
        selects(&self.end.selection, record) && self.rule.as_ref().is_none_or(is_past)
    }
}

impl Tables<'_> {
    /// Ends what was chosen and is still covered: it may have been used or ended since.
    pub(crate) fn end(&mut self, ending: &Ending, ids: &[SessionId]) -> Result<Vec<Ended>, Error> {
        let EndMany { cause, at, by, .. } = &ending.end;
        let mut ended = Vec::new();
        for id in ids {
            let record = self.find(*id)?.filter(|record| ending.covers(record));
            let Some(record) = record else { continue };
            self.remove(&record)?;
            let owner = &record.ended.owner;
            let kind = EventKind::Ended(*cause);
            self.tell(&Event::of_session(kind, *at, by.clone(), owner.clone(), *id), owner)?;
            ended.push(record.ended);
        }
        Ok(ended)
    }
}

/// The pattern names all fields: with a new one, this does not compile until it knows it.
fn selects(selection: &Selection, record: &Record) -> bool {
    let Selection { tenant, user, device_kind, client_id, ids, except } = selection;
    let Ended { id, owner } = &record.ended;
    let has = |name, wanted| record.fields.text(name).is_ok_and(|text| text.as_deref() == wanted);
    tenant.covers(owner.tenant.as_ref())
        && user.as_ref().is_none_or(|user| *user == owner.user)
        && device_kind.as_ref().is_none_or(|kind| has("device_kind", Some(kind.as_str())))
        && client_id.as_ref().is_none_or(|client| has("client_id", Some(client.as_str())))
        && ids.as_ref().is_none_or(|ids| ids.contains(id))
        && *except != Some(*id)
}

/// A record that cannot be judged is passed over. No node can load it, so it lets no one in.
fn find(sessions: &ReadOnlyTable<Id, Bytes>, id: SessionId) -> Result<Option<Record>, Error> {
    let bytes = sessions.get(id.as_bytes())?;
    Ok(bytes.and_then(|bytes| Record::parse(bytes.value()).ok()))
}

fn continuation(place: Place) -> Continuation {
    Continuation(cursor(place).to_string().into_bytes())
}

fn parse(after: &Continuation) -> Result<Place, InvalidField> {
    let text = str::from_utf8(&after.0);
    let cursor: PageCursor = text.unwrap_or_default().parse()?;
    Ok(place(cursor.signed_in, cursor.id))
}

//! Ending many sessions: by a selection, or because their time is up.

use redb::ReadTransaction;
use session_core::cleanup::SweepRule;
use session_core::store::record::Fields;
use session_core::store::{
    Continuation, EndMany, Ended, EndedBatch, PageQuery, Selection, Sweep, TenantFilter,
    limit_within,
};
use session_core::{Actor, EndCause, Event, EventKind, SessionId, StoreError, Timestamp};

use crate::change::Record;
use crate::file::{Failure, SESSIONS, Tables};
use crate::walk::{Place, Places, places};

/// Which sessions end, and what the log says of it.
pub(crate) struct Ending {
    which: Which,
    after: Option<Continuation>,
    cause: EndCause,
    at: Timestamp,
    by: Actor,
}

enum Which {
    Selected(Selection),
    Past(SweepRule),
}

/// Sessions to end, and where the next call goes on.
pub(crate) struct Chosen {
    pub(crate) ids: Vec<SessionId>,
    pub(crate) next: Option<Continuation>,
}

impl Ending {
    /// Chooses up to `limit` sessions out of a snapshot, so that no writer waits for the walk.
    pub(crate) fn choose(&self, file: &ReadTransaction, limit: u32) -> Result<Chosen, Failure> {
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT) as usize;
        let sessions = file.open_table(SESSIONS)?;
        let mut chosen = Chosen { ids: Vec::new(), next: None };
        for (examined, place) in (1..).zip(self.candidates(file)?) {
            let place = place?;
            // A record that cannot be judged stays. No node can load it, so it lets no one in.
            let record = sessions.get(place.id.as_bytes())?;
            let record = record.and_then(|bytes| Record::parse(bytes.value()).ok());
            if record.is_some_and(|record| self.covers(&record)) {
                chosen.ids.push(place.id);
            }
            if chosen.ids.len() == limit || examined == PageQuery::MAX_EXAMINED {
                chosen.next = Some(place.continuation());
                break;
            }
        }
        Ok(chosen)
    }

    /// The sessions to look at, newest sign-in first.
    fn candidates(&self, file: &ReadTransaction) -> Result<Places, Failure> {
        let after = self.after.as_ref().map(Place::parse).transpose()?;
        match &self.which {
            Which::Past(_) => places(file, &TenantFilter::Any, None, after),
            Which::Selected(Selection { ids: Some(ids), .. }) => among(file, ids, after),
            Which::Selected(Selection { tenant, user, .. }) => {
                places(file, tenant, user.as_ref(), after)
            }
        }
    }

    fn covers(&self, record: &Record) -> bool {
        let covered = match &self.which {
            Which::Selected(selection) => selects(selection, record),
            Which::Past(rule) => is_past(*rule, record),
        };
        covered.unwrap_or(false)
    }
}

impl From<EndMany> for Ending {
    fn from(EndMany { selection, after, cause, at, by }: EndMany) -> Self {
        Self { which: Which::Selected(selection), after, cause, at, by }
    }
}

impl From<Sweep> for Ending {
    fn from(Sweep { rule, after, at }: Sweep) -> Self {
        let (cause, by) = (EndCause::Expired, Actor::System);
        Self { which: Which::Past(rule), after, cause, at, by }
    }
}

impl Tables<'_> {
    /// Ends what has been chosen and is still covered: it may have been used or ended since.
    pub(crate) fn end(
        &mut self,
        ending: &Ending,
        ids: Vec<SessionId>,
    ) -> Result<Vec<Ended>, Failure> {
        let mut ended = Vec::new();
        for id in ids {
            let record = self.find(id)?.filter(|record| ending.covers(record));
            let Some(record) = record else { continue };
            self.remove(&record)?;
            let owner = record.ended.owner.clone();
            let (kind, by) = (EventKind::Ended(ending.cause), ending.by.clone());
            self.record(&Event::of_session(kind, ending.at, by, owner.clone(), id), &owner)?;
            ended.push(record.ended);
        }
        Ok(ended)
    }
}

/// The places of these sessions, each once, as far as they exist.
fn among(
    file: &ReadTransaction,
    ids: &[SessionId],
    after: Option<Place>,
) -> Result<Places, Failure> {
    let sessions = file.open_table(SESSIONS)?;
    let mut places = Vec::new();
    for id in ids {
        let record = sessions.get(id.as_bytes())?;
        let record = record.and_then(|bytes| Record::parse(bytes.value()).ok());
        places.extend(record.map(|record| record.place));
    }
    places.sort_unstable();
    places.dedup();
    let rest = places.into_iter().filter(move |place| after.is_none_or(|after| *place > after));
    Ok(Box::new(rest.map(Ok)))
}

/// Whether a session is selected. The pattern names all fields: with a new one it does not compile.
fn selects(selection: &Selection, record: &Record) -> Result<bool, StoreError> {
    let Selection { tenant, user, device_kind, client_id, ids, except } = selection;
    let Ended { id, owner } = &record.ended;
    let has = |name, wanted: Option<&str>| match wanted {
        Some(wanted) => Ok(record.fields.text(name)?.as_deref() == Some(wanted)),
        None => Ok::<_, StoreError>(true),
    };
    Ok(tenant.covers(owner.tenant.as_ref())
        && user.as_ref().is_none_or(|user| *user == owner.user)
        && ids.as_ref().is_none_or(|ids| ids.contains(id))
        && *except != Some(*id)
        && has("device_kind", device_kind.as_ref().map(|kind| kind.as_str()))?
        && has("client_id", client_id.as_ref().map(|client| client.as_str()))?)
}

fn is_past(rule: SweepRule, record: &Record) -> Result<bool, StoreError> {
    let time = |name| -> Result<Option<Timestamp>, StoreError> {
        Ok(record.fields.integer(name)?.map(Timestamp::from_micros))
    };
    let last_accessed = time("last_accessed")?;
    let last_accessed = last_accessed.ok_or_else(|| StoreError::corrupt("no last_accessed"))?;
    Ok(rule.covers(last_accessed, time("absolute_expiry")?))
}

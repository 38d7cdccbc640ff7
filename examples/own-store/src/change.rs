//! The one write path of a user's sessions, and what every change does to the other tables.

use redb::{Error, ReadableTable, WriteTransaction};
use serde_json::{Map, Value};
use session_core::block;
use session_core::policy::PolicyScope;
use session_core::session::note_ip_address;
use session_core::store::record::{Fields, details, encode_session, read_ended, read_session};
use session_core::store::{Change, Commit, Ended, Touch, Version};
use session_core::{
    Actor, DeviceInfo, EndCause, Event, Session, SessionId, StoreError, Timestamp, UserKey,
};

use crate::file::{BLOCKS, Bytes, HISTORY, Id, PLACES, SESSIONS, USERS, core_error};
use crate::history;
use crate::log::append;
use crate::read::{Place, place, session};
use crate::settings::{blocks, clock};

/// A stored session of which only what every change needs has been read, so that one that is
/// damaged elsewhere can be ended.
pub(crate) struct Record {
    pub(crate) ended: Ended,
    pub(crate) place: Place,
    pub(crate) fields: Map<String, Value>,
}

enum Effect {
    Told,
    PassedOver,
    Conflict,
}

/// What the history says of sessions that end.
pub(crate) struct Why {
    pub(crate) cause: EndCause,
    pub(crate) at: Timestamp,
    pub(crate) by: Actor,
    pub(crate) from: Option<DeviceInfo>,
    /// Whether there is a history.
    pub(crate) keep: bool,
}

/// None is a conflict: the transaction is given up, with what earlier changes have done in it.
pub(crate) fn commit(
    file: &WriteTransaction,
    commit: &Commit,
    keep: bool,
) -> Result<Option<()>, Error> {
    let owner = &commit.owner;
    if version(&file.open_table(USERS)?, owner)? != commit.expected {
        return Ok(None);
    }
    for change in &commit.changes {
        match apply(file, commit, change, keep)? {
            Effect::Told => tell(file, &commit.event(change.kind(), change.session()), owner)?,
            Effect::PassedOver => {}
            Effect::Conflict => return Ok(None),
        }
    }
    Ok(Some(()))
}

fn apply(
    file: &WriteTransaction,
    commit: &Commit,
    change: &Change,
    keep: bool,
) -> Result<Effect, Error> {
    let Commit { owner, at, by, from, .. } = commit;
    let id = change.session();
    let own = find(&file.open_table(SESSIONS)?, id)?.filter(|found| found.ended.owner == *owner);
    match (change, own) {
        (Change::Insert(session), _) => return insert(file, session),
        (Change::End(_, cause), Some(record)) => {
            let (by, from) = (by.clone(), from.clone());
            remove(file, &record, &Why { cause: *cause, at: *at, by, from, keep })?;
        }
        (Change::Update { session, .. }, Some(record)) => replace(file, session, record)?,
        (Change::Update { .. }, None) => return Ok(Effect::Conflict),
        (Change::ClaimsChanged(_), Some(_)) => {}
        (Change::End(..) | Change::ClaimsChanged(_), None) => return Ok(Effect::PassedOver),
    }
    Ok(Effect::Told)
}

fn insert(file: &WriteTransaction, session: &Session) -> Result<Effect, Error> {
    let (order, id) = place(session.signed_in, session.id);
    let blocks = blocks(&file.open_table(BLOCKS)?, &session.owner)?;
    let has_ended = file.open_table(HISTORY)?.get(id.as_bytes())?.is_some();
    if has_ended || block::refusal(&blocks, clock()).is_some() {
        return Ok(Effect::Conflict);
    }
    if file.open_table(SESSIONS)?.insert(id.as_bytes(), &*encode_session(session))?.is_some() {
        return Ok(Effect::Conflict);
    }
    let mut places = file.open_table(PLACES)?;
    for scope in PolicyScope::of(&session.owner) {
        let (tenant, user) = scope.key();
        places.insert((tenant, user, order, id.as_bytes()), ())?;
    }
    Ok(Effect::Told)
}

/// Replaces the details, and the deadline by a later one. Write-backs keep the rest.
fn replace(file: &WriteTransaction, session: &Session, record: Record) -> Result<(), Error> {
    let deadline = record.time("deadline").max(Some(session.deadline));
    let mut fields = record.fields;
    fields.insert("details".to_owned(), details(session).into());
    fields.insert("deadline".to_owned(), deadline.map(Timestamp::as_micros).into());
    let text = Value::Object(fields).to_string();
    file.open_table(SESSIONS)?.insert(session.id.as_bytes(), text.as_bytes())?;
    Ok(())
}

/// Moves a session into the history. Its event has still to be told.
pub(crate) fn remove(file: &WriteTransaction, record: &Record, why: &Why) -> Result<(), Error> {
    let (order, id) = record.place;
    file.open_table(SESSIONS)?.remove(id.as_bytes())?;
    let mut places = file.open_table(PLACES)?;
    for scope in PolicyScope::of(&record.ended.owner) {
        let (tenant, user) = scope.key();
        places.remove((tenant, user, order, id.as_bytes()))?;
    }
    match read_session(&record.fields) {
        Ok(session) if why.keep => history::add(file, session, why),
        // One that cannot be read tells nothing.
        _ => Ok(()),
    }
}

/// Appends a log entry, and makes its number the version of the user. A user without sessions is
/// forgotten: numbers never come back, so neither do versions.
pub(crate) fn tell(file: &WriteTransaction, event: &Event, owner: &UserKey) -> Result<(), Error> {
    let number = append(file, event)?;
    let (tenant, user) = (owner.tenant_text(), owner.user.as_str());
    let all = (tenant, user, i64::MIN, &[0; 16])..=(tenant, user, i64::MAX, &[u8::MAX; 16]);
    let mut users = file.open_table(USERS)?;
    match file.open_table(PLACES)?.range(all)?.next().transpose()? {
        Some(_) => users.insert((tenant, user), number)?,
        None => users.remove((tenant, user))?,
    };
    Ok(())
}

/// Answers the ids that are gone.
pub(crate) fn touch(file: &WriteTransaction, batch: &[Touch]) -> Result<Vec<SessionId>, Error> {
    let mut gone = Vec::new();
    for touch in batch {
        let found = update(file, touch.id, |session| {
            session.last_accessed = session.last_accessed.max(touch.last_accessed);
            session.deadline = session.deadline.max(touch.deadline);
            session.claimed |= touch.claimed;
            for ip in &touch.ip_addresses {
                note_ip_address(&mut session.ip_addresses, *ip);
            }
        })?;
        gone.extend((!found).then_some(touch.id));
    }
    Ok(gone)
}

/// Changes a session in what no other table holds. False where there is none.
fn update(
    file: &WriteTransaction,
    id: SessionId,
    change: impl FnOnce(&mut Session),
) -> Result<bool, Error> {
    let mut sessions = file.open_table(SESSIONS)?;
    let Some(mut session) = session(&sessions, id)? else { return Ok(false) };
    change(&mut session);
    sessions.insert(id.as_bytes(), &*encode_session(&session))?;
    Ok(true)
}

pub(crate) fn find(
    sessions: &impl ReadableTable<Id, Bytes>,
    id: SessionId,
) -> Result<Option<Record>, Error> {
    let bytes = sessions.get(id.as_bytes())?;
    bytes.map(|bytes| Record::parse(bytes.value())).transpose().map_err(core_error)
}

impl Record {
    fn parse(bytes: &[u8]) -> Result<Self, StoreError> {
        let fields: Map<_, _> = serde_json::from_slice(bytes).map_err(StoreError::corrupt)?;
        let signed_in = fields.integer("signed_in")?.map(Timestamp::from_micros);
        let signed_in = signed_in.ok_or_else(|| StoreError::corrupt("no signed_in"))?;
        let ended = read_ended(&fields)?;
        Ok(Self { place: place(signed_in, ended.id), ended, fields })
    }

    /// A time of the session, if it can be read.
    pub(crate) fn time(&self, name: &'static str) -> Option<Timestamp> {
        self.fields.integer(name).ok()?.map(Timestamp::from_micros)
    }
}

/// The version of a user, in a transaction of either kind.
pub(crate) fn version(
    users: &impl ReadableTable<(&'static str, &'static str), i64>,
    owner: &UserKey,
) -> Result<Version, Error> {
    let version = users.get((owner.tenant_text(), owner.user.as_str()))?;
    Ok(version.map_or(Version::NONE, |version| Version(version.value())))
}

//! The one write path of a user's sessions, and what every change does to the other tables.

use redb::{Error, ReadableTable, WriteTransaction};
use serde_json::{Map, Value};
use session_core::session::note_ip_address;
use session_core::store::record::{Fields, details, encode_session, read_ended};
use session_core::store::{Change, Commit, Ended, Ending, Touch, Version};
use session_core::{Event, Session, SessionId, StoreError, Timestamp, UserKey};

use crate::file::{Bytes, HISTORY, Id, PLACES, SESSIONS, USERS, core_error};
use crate::history::remember;
use crate::log::append;
use crate::places::{Place, enter, place, whole};
use crate::read::session;
use crate::settings::is_blocked;

/// A stored session of which only what every change needs has been read, so that one that is
/// damaged elsewhere can be ended.
pub(crate) struct Record {
    pub(crate) ended: Ended,
    pub(crate) place: Place,
    pub(crate) fields: Map<String, Value>,
}

/// None is a conflict: the transaction is given up, with what earlier changes have done in it.
pub(crate) fn commit(file: &WriteTransaction, commit: &Commit) -> Result<Option<()>, Error> {
    let owner = &commit.owner;
    if version(&file.open_table(USERS)?, owner)? != commit.expected {
        return Ok(None);
    }
    for change in &commit.changes {
        match apply(file, commit, change)? {
            Some(true) => tell(file, &commit.event(change.kind(), change.session()), owner)?,
            Some(false) => {}
            None => return Ok(None),
        }
    }
    Ok(Some(()))
}

/// True is to be told, false was passed over, and none is a conflict.
fn apply(file: &WriteTransaction, commit: &Commit, change: &Change) -> Result<Option<bool>, Error> {
    let found = find(&file.open_table(SESSIONS)?, change.session())?;
    match (change, found.filter(|found| found.ended.owner == commit.owner)) {
        (Change::Insert(session), _) => return insert(file, session),
        (Change::End(_, cause), Some(record)) => {
            remove(file, &record, &Ending::of_commit(commit, *cause))?;
        }
        (Change::Update { session, .. }, Some(record)) => replace(file, record, session)?,
        (Change::Update { .. }, None) => return Ok(None),
        (Change::ClaimsChanged(_), Some(_)) => {}
        (Change::End(..) | Change::ClaimsChanged(_), None) => return Ok(Some(false)),
    }
    Ok(Some(true))
}

fn insert(file: &WriteTransaction, session: &Session) -> Result<Option<bool>, Error> {
    let id = session.id;
    let before =
        file.open_table(SESSIONS)?.insert(id.as_bytes(), &*encode_session(session))?.is_some();
    let has_ended = file.open_table(HISTORY)?.get(id.as_bytes())?.is_some();
    if before || has_ended || is_blocked(file, &session.owner)? {
        return Ok(None);
    }
    enter(file, PLACES, &session.owner, place(session.signed_in, id), true)?;
    Ok(Some(true))
}

/// Takes the details of this session and the later deadline. What write-backs keep stays.
fn replace(file: &WriteTransaction, record: Record, session: &Session) -> Result<(), Error> {
    let Record { ended, mut fields, .. } = record;
    let known = fields.integer("deadline").map_err(core_error)?.unwrap_or(i64::MIN);
    let deadline = known.max(session.deadline.as_micros());
    fields.insert("deadline".to_owned(), deadline.into());
    fields.insert("details".to_owned(), details(session).into());
    let text = Value::Object(fields).to_string();
    file.open_table(SESSIONS)?.insert(ended.id.as_bytes(), text.as_bytes())?;
    Ok(())
}

/// Moves a session into the history. Its event has still to be told.
pub(crate) fn remove(
    file: &WriteTransaction,
    record: &Record,
    ending: &Ending,
) -> Result<(), Error> {
    file.open_table(SESSIONS)?.remove(record.ended.id.as_bytes())?;
    enter(file, PLACES, &record.ended.owner, record.place, false)?;
    remember(file, record, ending)
}

/// Appends a log entry, and makes its number the version of the user. A user without sessions is
/// forgotten: numbers never come back, so neither do versions.
pub(crate) fn tell(file: &WriteTransaction, event: &Event, owner: &UserKey) -> Result<(), Error> {
    let number = append(file, event)?;
    let (tenant, user) = (owner.tenant_text(), owner.user.as_str());
    let mut users = file.open_table(USERS)?;
    match file.open_table(PLACES)?.range(whole((tenant, user)))?.next().transpose()? {
        Some(_) => users.insert((tenant, user), number)?,
        None => users.remove((tenant, user))?,
    };
    Ok(())
}

/// Answers the ids that are gone. Records that cannot be read are passed over.
pub(crate) fn touch(file: &WriteTransaction, batch: &[Touch]) -> Result<Vec<SessionId>, Error> {
    let (mut sessions, mut gone) = (file.open_table(SESSIONS)?, Vec::new());
    for touch in batch {
        let mut session = match session(&sessions, touch.id) {
            Ok(Some(session)) => session,
            Ok(None) => {
                gone.push(touch.id);
                continue;
            }
            Err(Error::Backend(_)) => continue,
            Err(error) => return Err(error),
        };
        session.last_accessed = session.last_accessed.max(touch.last_accessed);
        session.deadline = session.deadline.max(touch.deadline);
        session.claimed |= touch.claimed;
        touch.ip_addresses.iter().for_each(|ip| note_ip_address(&mut session.ip_addresses, *ip));
        sessions.insert(touch.id.as_bytes(), &*encode_session(&session))?;
    }
    Ok(gone)
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
}

/// The version of a user, in a transaction of either kind.
pub(crate) fn version(
    users: &impl ReadableTable<(&'static str, &'static str), i64>,
    owner: &UserKey,
) -> Result<Version, Error> {
    let version = users.get((owner.tenant_text(), owner.user.as_str()))?;
    Ok(version.map_or(Version::NONE, |version| Version(version.value())))
}

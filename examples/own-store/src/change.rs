//! The one write path of a user's sessions, and what every change does to the other tables.

use redb::{Error, ReadableTable};
use serde_json::{Map, Value};
use session_core::block::refusal;
use session_core::policy::PolicyScope;
use session_core::store::record::{
    Fields, decode_session, details, encode_session, ending_fields, json_object, read_ended,
};
use session_core::store::{Change, Commit, Ended, Ending, PageCursor, Touch, Version};
use session_core::{Event, Session, SessionId, StoreError, Timestamp, UserKey};

use crate::file::{
    BLOCKS, ENDS, HISTORY, Names, PLACES, Result, SESSIONS, USERS, Write, core_error, get,
};
use crate::log::append;
use crate::places::{enter, whole};
use crate::settings::{blocks, clock};

/// A stored session of which only what every change needs has been read, so that one that is
/// damaged elsewhere can be ended.
pub(crate) struct Record {
    pub(crate) ended: Ended,
    pub(crate) place: PageCursor,
    pub(crate) fields: Map<String, Value>,
}

/// None is a conflict: the transaction is given up, with what earlier changes have done in it.
pub(crate) fn commit(file: &Write, (commit, keeps): &(Commit, bool)) -> Result<Option<()>> {
    let owner = &commit.owner;
    if version(&file.open_table(USERS)?, owner)? != commit.expected {
        return Ok(None);
    }
    for change in &commit.changes {
        match apply(file, commit, change, *keeps)? {
            Some(true) => tell(file, &commit.event(change.kind(), change.session()), owner)?,
            Some(false) => {}
            None => return Ok(None),
        }
    }
    Ok(Some(()))
}

/// True is to be told, false was passed over, and none is a conflict.
fn apply(file: &Write, commit: &Commit, change: &Change, keeps: bool) -> Result<Option<bool>> {
    let found = get(&file.open_table(SESSIONS)?, change.session().as_bytes(), Record::parse)?;
    match (change, found.filter(|found| found.ended.owner == commit.owner)) {
        (Change::Insert(session), _) => return insert(file, session),
        (Change::End(_, cause), Some(record)) => {
            remove(file, &record, &Ending::of_commit(commit, *cause), keeps)?;
        }
        (Change::Update { session, .. }, Some(record)) => replace(file, record, session)?,
        (Change::Update { .. }, None) => return Ok(None),
        (Change::ClaimsChanged(_), Some(_)) => {}
        (Change::End(..) | Change::ClaimsChanged(_), None) => return Ok(Some(false)),
    }
    Ok(Some(true))
}

fn insert(file: &Write, session: &Session) -> Result<Option<bool>> {
    let id = session.id.as_bytes();
    let before = file.open_table(SESSIONS)?.insert(id, &*encode_session(session))?.is_some();
    let has_ended = file.open_table(HISTORY)?.get(id)?.is_some();
    let blocks = blocks(&file.open_table(BLOCKS)?, &session.owner)?;
    if before || has_ended || refusal(&blocks, clock()).is_some() {
        return Ok(None);
    }
    enter(file, PLACES, &PolicyScope::of(&session.owner), PageCursor::of(session), true)?;
    Ok(Some(true))
}

/// Takes the details of this session and the later deadline. What write-backs keep stays.
fn replace(file: &Write, record: Record, session: &Session) -> Result<()> {
    let Record { ended, mut fields, .. } = record;
    let known = fields.integer("deadline").map_err(core_error)?.unwrap_or(i64::MIN);
    let deadline = known.max(session.deadline.as_micros());
    fields.insert("deadline".to_owned(), deadline.into());
    fields.insert("details".to_owned(), details(session).into());
    let text = Value::Object(fields).to_string();
    file.open_table(SESSIONS)?.insert(ended.id.as_bytes(), text.as_bytes())?;
    Ok(())
}

/// Moves a session into the history, as it is, where one is kept. Its event has still to be told.
pub(crate) fn remove(file: &Write, record: &Record, ending: &Ending, keeps: bool) -> Result<()> {
    let (Ended { id, owner }, mut fields) = (&record.ended, record.fields.clone());
    let scopes = PolicyScope::of(owner);
    file.open_table(SESSIONS)?.remove(id.as_bytes())?;
    enter(file, PLACES, &scopes, record.place, false)?;
    if !keeps {
        return Ok(());
    }
    fields.extend(json_object(ending_fields(ending)));
    let text = Value::Object(fields).to_string();
    file.open_table(HISTORY)?.insert(id.as_bytes(), text.as_bytes())?;
    enter(file, ENDS, &scopes, PageCursor { at: ending.at, id: *id }, true)
}

/// Appends a log entry, and makes its number the version of the user. A user without sessions is
/// forgotten: numbers never come back, so neither do versions.
pub(crate) fn tell(file: &Write, event: &Event, owner: &UserKey) -> Result<()> {
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
pub(crate) fn touch(file: &Write, batch: &[Touch]) -> Result<Option<Vec<SessionId>>> {
    let (mut sessions, mut gone) = (file.open_table(SESSIONS)?, Vec::new());
    for touch in batch {
        match get(&sessions, touch.id.as_bytes(), decode_session) {
            Ok(Some(mut session)) => {
                touch.apply(&mut session);
                sessions.insert(touch.id.as_bytes(), &*encode_session(&session))?;
            }
            Ok(None) => gone.push(touch.id),
            Err(Error::Backend(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(gone))
}

impl Record {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, StoreError> {
        let fields: Map<_, _> = serde_json::from_slice(bytes).map_err(StoreError::corrupt)?;
        let at = fields.integer("signed_in")?.map(Timestamp::from_micros);
        let at = at.ok_or_else(|| StoreError::corrupt("no signed_in"))?;
        let ended = read_ended(&fields)?;
        Ok(Self { place: PageCursor { at, id: ended.id }, ended, fields })
    }
}

/// The version of a user, in a transaction of either kind.
pub(crate) fn version(users: &impl ReadableTable<Names, i64>, owner: &UserKey) -> Result<Version> {
    let found = get(users, (owner.tenant_text(), owner.user.as_str()), |found| Ok(Version(found)))?;
    Ok(found.unwrap_or(Version::NONE))
}

//! The one write path of a user's sessions, and what every change of them does to the indexes.

use redb::ReadableTable;
use serde_json::{Map, Value};
use session_core::session::note_ip_address;
use session_core::store::record::{Fields, encode_session, read_ended};
use session_core::store::{Change, Commit, Ended, Touch, Version};
use session_core::{Event, Session, SessionId, StoreError, Timestamp, UserKey};

use crate::file::{Failure, Tables};
use crate::read::session;
use crate::walk::Place;

/// A stored session, of which only what the indexes and the log need has been read: one that is
/// damaged elsewhere can still be ended.
pub(crate) struct Record {
    pub(crate) ended: Ended,
    pub(crate) place: Place,
    pub(crate) fields: Map<String, Value>,
}

impl Record {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, StoreError> {
        let fields: Map<_, _> = serde_json::from_slice(bytes).map_err(StoreError::corrupt)?;
        let ended = read_ended(&fields)?;
        let signed_in = fields.integer("signed_in")?.map(Timestamp::from_micros);
        let signed_in = signed_in.ok_or_else(|| StoreError::corrupt("signed_in is missing"))?;
        Ok(Self { place: Place::new(signed_in, ended.id), ended, fields })
    }
}

/// What a change has done.
enum Effect {
    Told,
    PassedOver,
    Conflict,
}

impl Tables<'_> {
    /// None is a conflict: the transaction is given up, with what earlier changes have done.
    pub(crate) fn commit(&mut self, commit: &Commit) -> Result<Option<()>, Failure> {
        if version(&self.users, &commit.owner)? != commit.expected {
            return Ok(None);
        }
        for change in &commit.changes {
            match self.apply(&commit.owner, change)? {
                Effect::Told => {
                    let event = commit.event(change.kind(), change.session());
                    self.record(&event, &commit.owner)?;
                }
                Effect::PassedOver => {}
                Effect::Conflict => return Ok(None),
            }
        }
        Ok(Some(()))
    }

    /// Answers the ids that are gone.
    pub(crate) fn touch(&mut self, batch: &[Touch]) -> Result<Vec<SessionId>, Failure> {
        let mut gone = Vec::new();
        for touch in batch {
            let Some(mut session) = self.session(touch.id)? else {
                gone.push(touch.id);
                continue;
            };
            session.last_accessed = session.last_accessed.max(touch.last_accessed);
            for ip in &touch.ip_addresses {
                note_ip_address(&mut session.ip_addresses, *ip);
            }
            self.put(&session)?;
        }
        Ok(gone)
    }

    pub(crate) fn find(&self, id: SessionId) -> Result<Option<Record>, Failure> {
        let Some(bytes) = self.sessions.get(id.as_bytes())? else { return Ok(None) };
        Ok(Some(Record::parse(bytes.value())?))
    }

    /// Removes a session from everything but the log and its user's version: [`Tables::record`].
    pub(crate) fn remove(&mut self, Record { ended, place, .. }: &Record) -> Result<(), Failure> {
        let Ended { id, owner } = ended;
        self.sessions.remove(id.as_bytes())?;
        self.newest.remove((place.order, id.as_bytes()))?;
        let user = owner.user.as_str();
        self.by_user.remove((owner.tenant_text(), user, place.order, id.as_bytes()))?;
        Ok(())
    }

    /// Appends a log entry and makes its number the version of the user. A user without sessions is
    /// forgotten: numbers never come back, so neither do versions.
    pub(crate) fn record(&mut self, event: &Event, owner: &UserKey) -> Result<(), Failure> {
        let number = self.append(event)?;
        let key = (owner.tenant_text(), owner.user.as_str());
        let first = (key.0, key.1, i64::MIN, &[0; 16]);
        let last = (key.0, key.1, i64::MAX, &[u8::MAX; 16]);
        if self.by_user.range(first..=last)?.next().transpose()?.is_some() {
            self.users.insert(key, number)?;
        } else {
            self.users.remove(key)?;
        }
        Ok(())
    }

    fn apply(&mut self, owner: &UserKey, change: &Change) -> Result<Effect, Failure> {
        match change {
            Change::Insert(session) => self.insert(session),
            Change::End(id, _) => {
                let Some(record) = self.find_own(owner, *id)? else {
                    return Ok(Effect::PassedOver);
                };
                self.remove(&record)?;
                Ok(Effect::Told)
            }
            Change::ReplaceToken { id, token, authenticated_at } => {
                let session = self.session(*id)?.filter(|session| session.owner == *owner);
                let Some(mut session) = session else { return Ok(Effect::Conflict) };
                session.token = token.clone();
                session.authenticated_at = authenticated_at.unwrap_or(session.authenticated_at);
                self.put(&session)?;
                Ok(Effect::Told)
            }
            Change::ClaimsChanged(id) => match self.find_own(owner, *id)? {
                Some(_) => Ok(Effect::Told),
                None => Ok(Effect::PassedOver),
            },
        }
    }

    fn insert(&mut self, session: &Session) -> Result<Effect, Failure> {
        let id = session.id.as_bytes();
        if self.sessions.get(id)?.is_some() {
            return Ok(Effect::Conflict);
        }
        self.put(session)?;
        let order = Place::new(session.signed_in, session.id).order;
        self.newest.insert((order, id), ())?;
        let (tenant, user) = (session.owner.tenant_text(), session.owner.user.as_str());
        self.by_user.insert((tenant, user, order, id), ())?;
        Ok(Effect::Told)
    }

    fn put(&mut self, session: &Session) -> Result<(), Failure> {
        self.sessions.insert(session.id.as_bytes(), encode_session(session).as_slice())?;
        Ok(())
    }

    fn session(&self, id: SessionId) -> Result<Option<Session>, Failure> {
        session(&self.sessions, id)
    }

    fn find_own(&self, owner: &UserKey, id: SessionId) -> Result<Option<Record>, Failure> {
        Ok(self.find(id)?.filter(|record| record.ended.owner == *owner))
    }
}

/// The version of a user, in either kind of transaction.
pub(crate) fn version(
    users: &impl ReadableTable<(&'static str, &'static str), i64>,
    owner: &UserKey,
) -> Result<Version, Failure> {
    let version = users.get((owner.tenant_text(), owner.user.as_str()))?;
    Ok(version.map_or(Version::NONE, |version| Version(version.value())))
}

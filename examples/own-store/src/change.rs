//! The one write path of a user's sessions, and what every change does to the other tables.

use redb::{Error, ReadableTable};
use serde_json::{Map, Value};
use session_core::policy::PolicyScope;
use session_core::session::note_ip_address;
use session_core::store::record::{Fields, encode_session, read_ended};
use session_core::store::{Change, Commit, Ended, Touch, Version};
use session_core::{Event, Session, SessionId, StoreError, Timestamp, UserKey};

use crate::file::{Tables, unreadable};
use crate::read::{Place, place, session};

/// A stored session of which only what every change needs has been read, so that one that is
/// damaged elsewhere can be ended.
pub(crate) struct Record {
    pub(crate) ended: Ended,
    pub(crate) place: Place,
    pub(crate) fields: Map<String, Value>,
}

impl Record {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, StoreError> {
        let fields: Map<_, _> = serde_json::from_slice(bytes).map_err(StoreError::corrupt)?;
        let signed_in = fields.integer("signed_in")?.map(Timestamp::from_micros);
        let signed_in = signed_in.ok_or_else(|| StoreError::corrupt("no signed_in"))?;
        let ended = read_ended(&fields)?;
        Ok(Self { place: place(signed_in, ended.id), ended, fields })
    }
}

enum Effect {
    Told,
    PassedOver,
    Conflict,
}

impl Tables<'_> {
    /// None is a conflict: the transaction is given up, with what earlier changes have done in it.
    pub(crate) fn commit(&mut self, commit: &Commit) -> Result<Option<()>, Error> {
        let owner = &commit.owner;
        if version(&self.users, owner)? != commit.expected {
            return Ok(None);
        }
        for change in &commit.changes {
            match self.apply(owner, change)? {
                Effect::Told => {
                    self.tell(&commit.event(change.kind(), change.session()), owner)?;
                }
                Effect::PassedOver => {}
                Effect::Conflict => return Ok(None),
            }
        }
        Ok(Some(()))
    }

    fn apply(&mut self, owner: &UserKey, change: &Change) -> Result<Effect, Error> {
        let id = change.session();
        let own = self.find(id)?.filter(|record| record.ended.owner == *owner);
        match (change, own) {
            (Change::Insert(session), _) => return self.insert(session),
            (Change::End(..), Some(record)) => self.remove(&record)?,
            (Change::ReplaceToken { token, authenticated_at, .. }, Some(_)) => {
                let Some(mut session) = session(&self.sessions, id)? else {
                    return Ok(Effect::Conflict);
                };
                session.token = token.clone();
                session.authenticated_at = authenticated_at.unwrap_or(session.authenticated_at);
                self.put(&session)?;
            }
            (Change::ReplaceToken { .. }, None) => return Ok(Effect::Conflict),
            (Change::ClaimsChanged(_), Some(_)) => {}
            (Change::End(..) | Change::ClaimsChanged(_), None) => return Ok(Effect::PassedOver),
        }
        Ok(Effect::Told)
    }

    fn insert(&mut self, session: &Session) -> Result<Effect, Error> {
        if self.sessions.get(session.id.as_bytes())?.is_some() {
            return Ok(Effect::Conflict);
        }
        self.put(session)?;
        let (order, id) = place(session.signed_in, session.id);
        for scope in PolicyScope::of(&session.owner) {
            let (tenant, user) = scope.key();
            self.places.insert((tenant, user, order, id.as_bytes()), ())?;
        }
        Ok(Effect::Told)
    }

    /// Removes a session. Its event has still to be told.
    pub(crate) fn remove(&mut self, record: &Record) -> Result<(), Error> {
        let (order, id) = record.place;
        self.sessions.remove(id.as_bytes())?;
        for scope in PolicyScope::of(&record.ended.owner) {
            let (tenant, user) = scope.key();
            self.places.remove((tenant, user, order, id.as_bytes()))?;
        }
        Ok(())
    }

    /// Appends a log entry, and makes its number the version of the user. A user without sessions
    /// is forgotten: numbers never come back, so neither do versions.
    pub(crate) fn tell(&mut self, event: &Event, owner: &UserKey) -> Result<(), Error> {
        let number = self.append(event)?;
        let (tenant, user) = (owner.tenant_text(), owner.user.as_str());
        let first = (tenant, user, i64::MIN, &[0; 16]);
        let last = (tenant, user, i64::MAX, &[u8::MAX; 16]);
        match self.places.range(first..=last)?.next().transpose()? {
            Some(_) => self.users.insert((tenant, user), number)?,
            None => self.users.remove((tenant, user))?,
        };
        Ok(())
    }

    /// Answers the ids that are gone.
    pub(crate) fn touch(&mut self, batch: &[Touch]) -> Result<Vec<SessionId>, Error> {
        let mut gone = Vec::new();
        for touch in batch {
            let Some(mut session) = session(&self.sessions, touch.id)? else {
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

    pub(crate) fn find(&self, id: SessionId) -> Result<Option<Record>, Error> {
        let bytes = self.sessions.get(id.as_bytes())?;
        bytes.map(|bytes| Record::parse(bytes.value()).map_err(unreadable)).transpose()
    }

    fn put(&mut self, session: &Session) -> Result<(), Error> {
        self.sessions.insert(session.id.as_bytes(), &*encode_session(session))?;
        Ok(())
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

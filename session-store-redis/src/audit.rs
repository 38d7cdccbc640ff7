//! Looks at every key: is everything where it belongs, and nothing else there?

use std::collections::{HashMap, HashSet};

use redis::cmd;
use session_core::store::{EndedSession, UserTag};
use session_core::{InvalidField, Session, SessionId, StoreError, Timestamp};

use crate::place::Place;
use crate::placement::{Placement, Shard};
use crate::store::RedisStore;
use crate::{ended, record};

/// The members of indexes, by their keys.
type Members = HashMap<String, HashSet<Vec<u8>>>;

impl RedisStore {
    /// Compares all records with all indexes and answers what does not fit, each in a sentence.
    /// Reads everything: for tests and for an operator in doubt, while nothing changes.
    ///
    /// # Errors
    /// As any read of the store.
    pub async fn audit(&self) -> Result<Vec<String>, StoreError> {
        let mut complaints = Vec::new();
        for shard in self.placement.shards() {
            self.audit_shard(shard, &mut complaints).await?;
        }
        Ok(complaints)
    }

    async fn audit_shard(
        &self,
        shard: Shard,
        complaints: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let mut sessions = Vec::new();
        let mut ended = Vec::new();
        let (mut indexes, mut histories) = (Members::new(), Members::new());
        for key in self.keys(shard).await? {
            match Kind::of(&self.placement, shard, &key) {
                Kind::User => sessions.extend(self.audit_user(&key, complaints).await?),
                Kind::Ended => ended.extend(self.audit_ended(&key, complaints).await?),
                Kind::Index => drop(indexes.insert(key.clone(), self.members(&key).await?)),
                Kind::History => drop(histories.insert(key.clone(), self.members(&key).await?)),
                Kind::OfNoSession => {}
            }
        }
        let belong = expected(&sessions, |session| memberships(&self.placement, shard, session));
        compare(&indexes, &belong, false, complaints);
        let belong = expected(&ended, |ended| remembered(&self.placement, shard, ended));
        // The place of a record that has expired is left over.
        compare(&histories, &belong, true, complaints);
        self.audit_scores(&sessions, &self.placement.due(shard), complaints).await?;
        self.audit_blocked(shard, complaints).await
    }

    async fn members(&self, index: &str) -> Result<HashSet<Vec<u8>>, StoreError> {
        let read = cmd("ZRANGE").arg(index).arg(0).arg(-1).to_owned();
        let members: Vec<Vec<u8>> = self.link.query(&read).await?;
        Ok(members.into_iter().collect())
    }

    /// Reads the sessions of one key, and finds those that belong into another.
    async fn audit_user(
        &self,
        key: &str,
        complaints: &mut Vec<String>,
    ) -> Result<Vec<Session>, StoreError> {
        let fields = self.link.query(cmd("HGETALL").arg(key)).await?;
        let (version, found) = record::user(fields)?;
        let found =
            found.iter().filter_map(|(id, fields)| record::session(*id, fields).transpose());
        let found = found.collect::<Result<Vec<_>, _>>()?;
        if version.is_none() || found.is_empty() {
            complaints.push(format!("{key} has a version or sessions, not both"));
        }
        for session in &found {
            if self.placement.user(UserTag::of(session.id)) != key {
                complaints.push(format!("{} is in the wrong key {key}", session.id));
            }
        }
        Ok(found)
    }

    /// Reads an ended session, if it has not expired by now.
    async fn audit_ended(
        &self,
        key: &str,
        complaints: &mut Vec<String>,
    ) -> Result<Option<EndedSession>, StoreError> {
        let mut read = redis::pipe();
        read.cmd("GET").arg(key).cmd("PTTL").arg(key);
        let (bytes, left): (Option<Vec<u8>>, i64) = self.link.pipe(&read).await?;
        let id = key.rsplit(':').next().and_then(|id| const_hex::decode_to_array(id).ok());
        let id = id.ok_or(InvalidField::malformed("key", "the id of an ended session"))?;
        if bytes.is_some() && left == -1 {
            complaints.push(format!("{key} is kept for ever"));
        }
        bytes.map(|bytes| ended::read(SessionId::from_bytes(id), &bytes)).transpose()
    }

    /// The copy for the shard's commits has the blocks that concern its users, and no others.
    async fn audit_blocked(
        &self,
        shard: Shard,
        complaints: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let key = self.placement.blocked(shard);
        let copy: HashMap<Vec<u8>, String> = self.link.query(cmd("HGETALL").arg(&key)).await?;
        let ends = |value: String| value.split_once(' ').map(|(_, ends)| ends.to_owned());
        let copy: HashMap<_, _> = copy.into_iter().map(|(field, v)| (field, ends(v))).collect();
        let is_of_shard = |field: &[u8]| match record::parse_owner(field) {
            Ok(owner) => self.placement.shard(self.placement.tag(&owner)) == shard,
            // A tenant, or the deployment.
            Err(_) => true,
        };
        let blocks = self.blocks().await?.into_iter().filter(|(field, _)| is_of_shard(field));
        let micros = |until: Timestamp| until.as_micros().to_string();
        let blocks =
            blocks.map(|(field, until)| (field, Some(until.map_or_else(String::new, micros))));
        if copy != blocks.collect() {
            complaints.push(format!("{key} has other blocks than there are"));
        }
        Ok(())
    }

    /// The index by deadline says what the records say.
    async fn audit_scores(
        &self,
        sessions: &[Session],
        due: &str,
        complaints: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        for session in sessions {
            let member = member(session);
            let score: Option<f64> = self.link.query(cmd("ZSCORE").arg(due).arg(member)).await?;
            let deadline = session.deadline.as_micros();
            // Scores are exact up to 2^53, the year 2255.
            if score.is_some_and(|score| score != deadline as f64) {
                complaints.push(format!("{} is due at {deadline}, not {score:?}", session.id));
            }
        }
        Ok(())
    }

    /// Every key of a shard, in steps that do not block the server.
    async fn keys(&self, shard: Shard) -> Result<Vec<String>, StoreError> {
        let pattern = self.placement.key(shard, "*");
        let mut keys = HashSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000);
            let (next, found): (String, Vec<String>) =
                self.link.query_at(self.placement.slot(shard), scan).await?;
            keys.extend(found);
            if next == "0" {
                return Ok(keys.into_iter().collect());
            }
            cursor = next;
        }
    }
}

fn member(session: &Session) -> Vec<u8> {
    [Place::of(session).as_bytes(), &record::owner(&session.owner)].concat()
}

/// What a key is.
enum Kind {
    User,
    Ended,
    Index,
    History,
    OfNoSession,
}

impl Kind {
    fn of(placement: &Placement, shard: Shard, key: &str) -> Self {
        let begins = |rest: &str| key.starts_with(&placement.key(shard, rest));
        if begins("u:") {
            Self::User
        } else if begins("h:") {
            Self::Ended
        } else if key == placement.history(shard) || begins("hu:") || begins("ht:") {
            Self::History
        } else if begins("lease:")
            || begins("answer:")
            || key == placement.log(shard)
            || key == placement.waited(shard)
            || key == placement.blocked(shard)
            || key == placement.scopes()
            || key == placement.active()
            || key == Placement::agreement(&placement.prefix)
        {
            Self::OfNoSession
        } else {
            Self::Index
        }
    }
}

/// The members that the indexes should have.
fn expected<T>(records: &[T], places: impl Fn(&T) -> Vec<(String, Vec<u8>)>) -> Members {
    let mut expected = Members::new();
    for (key, member) in records.iter().flat_map(places) {
        expected.entry(key).or_default().insert(member);
    }
    expected
}

/// Each index has the members that the records say and, where it may have no orphans, no others.
fn compare(
    indexes: &Members,
    expected: &Members,
    may_have_orphans: bool,
    complaints: &mut Vec<String>,
) {
    let none = HashSet::new();
    for key in indexes.keys().chain(expected.keys()).collect::<HashSet<_>>() {
        let (has, should) = (indexes.get(key).unwrap_or(&none), expected.get(key).unwrap_or(&none));
        let orphans = if may_have_orphans { 0 } else { has.difference(should).count() };
        let missing = should.difference(has).count();
        if orphans + missing > 0 {
            complaints.push(format!("{key} has {orphans} orphans and misses {missing}"));
        }
    }
}

/// The indexes that a session belongs in, and as what.
fn memberships(placement: &Placement, shard: Shard, session: &Session) -> Vec<(String, Vec<u8>)> {
    let place = Place::of(session).as_bytes().to_vec();
    let mut memberships =
        vec![(placement.all(shard), place.clone()), (placement.due(shard), member(session))];
    if let Some(tenant) = &session.owner.tenant {
        memberships.push((placement.tenant(shard, tenant.as_str()), place.clone()));
        memberships.push((placement.name(shard, session.owner.user.as_str()), place));
    }
    memberships
}

/// The histories that an ended session belongs in, and as what.
fn remembered(placement: &Placement, shard: Shard, ended: &EndedSession) -> Vec<(String, Vec<u8>)> {
    let (id, owner) = (ended.session.id, &ended.session.owner);
    let place = Place::new(ended.ended, id).as_bytes().to_vec();
    let member = [place.clone(), record::owner(owner)].concat();
    let of_user = placement.history_of(UserTag::of(id));
    let mut memberships = vec![(placement.history(shard), member), (of_user, place.clone())];
    if let Some(tenant) = &owner.tenant {
        memberships.push((placement.history_of_tenant(shard, tenant.as_str()), place));
    }
    memberships
}

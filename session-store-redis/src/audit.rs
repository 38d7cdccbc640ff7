//! Looks at every key: is everything where it belongs, and nothing else there?

use std::collections::{HashMap, HashSet};

use redis::cmd;
use session_core::store::UserTag;
use session_core::{Session, StoreError};

use crate::place::Place;
use crate::placement::{Placement, Shard};
use crate::record;
use crate::store::RedisStore;

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
        let users = self.placement.key(shard, "u:");
        let mut sessions = Vec::new();
        let mut indexes = Members::new();
        for key in self.keys(shard).await? {
            if key.starts_with(&users) {
                sessions.extend(self.audit_user(&key, complaints).await?);
            } else if !self.is_of_no_session(shard, &key) {
                let read = cmd("ZRANGE").arg(&key).arg(0).arg(-1).to_owned();
                let members: Vec<Vec<u8>> = self.link.query(&read).await?;
                indexes.insert(key, members.into_iter().collect());
            }
        }
        let mut expected = Members::new();
        for session in &sessions {
            for (key, member) in memberships(&self.placement, shard, session) {
                expected.entry(key).or_default().insert(member);
            }
        }
        compare(&indexes, &expected, complaints);
        self.audit_scores(&sessions, &self.placement.used(shard), complaints).await
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

    fn is_of_no_session(&self, shard: Shard, key: &str) -> bool {
        let placement = &self.placement;
        key.starts_with(&placement.lease(""))
            || key == placement.log(shard)
            || key == placement.waited(shard)
            || key == placement.policies()
            || key == placement.active()
            || key == Placement::agreement(&self.options.prefix)
    }

    /// The index by last accessed says what the records say.
    async fn audit_scores(
        &self,
        sessions: &[Session],
        used: &str,
        complaints: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        for session in sessions {
            let member = member(session);
            let score: Option<f64> = self.link.query(cmd("ZSCORE").arg(used).arg(member)).await?;
            let last = session.last_accessed.as_micros();
            // Scores are exact up to 2^53, the year 2255.
            if score.is_some_and(|score| score as i64 != last) {
                complaints.push(format!("{} was used at {last}, not at {score:?}", session.id));
            }
        }
        Ok(())
    }

    /// Every key of a shard, by steps that block nobody.
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

/// Each index has the members that the records say, and no others.
fn compare(indexes: &Members, expected: &Members, complaints: &mut Vec<String>) {
    let none = HashSet::new();
    for key in indexes.keys().chain(expected.keys()).collect::<HashSet<_>>() {
        let (has, should) = (indexes.get(key).unwrap_or(&none), expected.get(key).unwrap_or(&none));
        let (orphans, missing) = (has.difference(should).count(), should.difference(has).count());
        if orphans + missing > 0 {
            complaints.push(format!("{key} has {orphans} orphans and misses {missing}"));
        }
    }
}

/// The indexes that a session belongs in, and as what.
fn memberships(placement: &Placement, shard: Shard, session: &Session) -> Vec<(String, Vec<u8>)> {
    let place = Place::of(session).as_bytes().to_vec();
    let mut memberships =
        vec![(placement.all(shard), place.clone()), (placement.used(shard), member(session))];
    if session.absolute_expiry.is_some() {
        memberships.push((placement.expiring(shard), member(session)));
    }
    if let Some(tenant) = &session.owner.tenant {
        memberships.push((placement.tenant(shard, tenant.as_str()), place.clone()));
        memberships.push((placement.name(shard, session.owner.user.as_str()), place));
    }
    memberships
}

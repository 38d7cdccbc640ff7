//! Changes, each one script in one slot.

use session_core::policy::Policy;
use session_core::store::record::address_list;
use session_core::store::{Change, Commit, Outcome, PolicyChange, Touch, UserTag};
use session_core::{SessionId, StoreError, Timestamp};

use crate::doubts::Doubt;
use crate::link::Call;
use crate::log::mark;
use crate::placement::Shard;
use crate::read::policy_field;
use crate::store::RedisStore;
use crate::{entry, record};

/// Sessions that one script ends or touches: it blocks its server for about a millisecond.
pub(crate) const BATCH: usize = 100;

impl RedisStore {
    pub(crate) async fn write_commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        commit.check()?;
        if !self.leads_to_the_owner(commit) {
            return Ok(Outcome::Conflict);
        }
        let call = self.commit_call(commit)?;
        let tag = self.placement.tag(&commit.owner);
        let shard = self.placement.shard(tag);
        self.announce([shard]).await?;
        let doubt = self.doubt([tag])?;
        let answer = self.link.change(&call).await?;
        confirm(doubt);
        self.still_announced([shard]).await?;
        match answer {
            1 => Ok(Outcome::Done),
            _ => Ok(Outcome::Conflict),
        }
    }

    fn commit_call(&self, commit: &Commit) -> Result<Call<'_>, StoreError> {
        let (placement, owner) = (&self.placement, &commit.owner);
        let tag = placement.tag(owner);
        let shard = placement.shard(tag);
        let mut call = Call::new(&self.scripts.commit, placement, shard);
        call.key(placement.user(tag)).key(placement.all(shard)).key(placement.used(shard));
        call.key(placement.expiring(shard)).key(placement.log(shard));
        if let Some(tenant) = &owner.tenant {
            call.key(placement.tenant(shard, tenant.as_str()));
            call.key(placement.name(shard, owner.user.as_str()));
        }
        call.arg(record::owner(owner)).number(commit.expected.0).arg(self.lasts_until(commit));
        self.logging(&mut call)?;
        for change in &commit.changes {
            describe(&mut call, commit, change);
        }
        Ok(call)
    }

    /// Begins a change that may have to wait for replicas.
    pub(crate) fn doubt(
        &self,
        users: impl IntoIterator<Item = UserTag>,
    ) -> Result<Option<Doubt<'_>>, StoreError> {
        self.link.waits().then(|| self.doubts.change(users)).transpose()
    }

    /// What every script has to know that appends to the log.
    pub(crate) fn logging(&self, call: &mut Call<'_>) -> Result<(), StoreError> {
        call.number(self.options.log_cap).number(self.log_keep().as_micros());
        call.number(mark()?).arg(self.publish());
        Ok(())
    }

    /// Whether every session that begins has an id that leads to its user's key, by the tag that
    /// [`Store::session_id`] puts into it.
    ///
    /// [`Store::session_id`]: session_core::Store::session_id
    fn leads_to_the_owner(&self, commit: &Commit) -> bool {
        let tag = self.placement.tag(&commit.owner);
        commit.changes.iter().all(|change| match change {
            Change::Insert(session) => UserTag::of(session.id) == tag,
            _ => true,
        })
    }

    /// Until when, in milliseconds, the user's key has to last for the sessions that begin.
    fn lasts_until(&self, commit: &Commit) -> String {
        let mut latest = Some(0);
        for change in &commit.changes {
            if let Change::Insert(session) = change {
                let until = self.expires(session.last_accessed, session.absolute_expiry);
                latest = latest.zip(until).map(|(latest, until)| latest.max(until));
            }
        }
        // Never at once, whatever the times of the sessions.
        let now = commit.at.plus(self.options.expiry_margin).as_micros() / 1000;
        optional(latest.map(|latest| latest.max(now)))
    }

    /// When a record may expire by itself, in milliseconds.
    fn expires(&self, last_accessed: Timestamp, expiry: Option<Timestamp>) -> Option<i64> {
        let until = self.needs().timeouts.deadline(last_accessed, expiry);
        until.map(|until| until.plus(self.options.expiry_margin).as_micros() / 1000)
    }

    pub(crate) async fn write_accesses(
        &self,
        batch: &[Touch],
    ) -> Result<Vec<SessionId>, StoreError> {
        let batch = Touch::folded(batch)?;
        let mut gone = Vec::new();
        for (shard, touches) in self.by_shard(&batch, |touch| touch.id) {
            for touches in touches.chunks(BATCH) {
                let mut call = Call::new(&self.scripts.touch, &self.placement, shard);
                call.key(self.placement.used(shard));
                for touch in touches {
                    call.key(self.placement.user(UserTag::of(touch.id)));
                    call.arg(touch.id.as_bytes().to_vec()).number(touch.last_accessed.as_micros());
                    call.arg(address_list(&touch.ip_addresses));
                    call.arg(optional(self.expires(touch.last_accessed, None)));
                }
                let missing: Vec<usize> = self.link.run(&call).await?;
                gone.extend(missing.into_iter().filter_map(|n| Some(touches.get(n - 1)?.id)));
            }
        }
        Ok(gone)
    }

    pub(crate) async fn write_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        let policy = change.policy.as_ref().map(Policy::to_stored);
        let mut call = Call::new(&self.scripts.policy, &self.placement, Shard::FIRST);
        call.key(self.placement.policies()).key(self.placement.log(Shard::FIRST));
        call.arg(policy_field(&change.scope)).arg(policy.unwrap_or_default());
        self.logging(&mut call)?;
        entry::parts(&change.event()).into_iter().for_each(|part| {
            call.arg(part);
        });
        self.link.change(&call).await
    }
}

pub(crate) fn confirm(doubt: Option<Doubt<'_>>) {
    if let Some(doubt) = doubt {
        doubt.confirm();
    }
}

pub(crate) fn optional(number: Option<i64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

#[cfg(all(test, feature = "server-tests"))]
mod tests {
    use session_core::rotation::TokenState;
    use session_core::store::{Entries, Version};
    use session_core::{Actor, DeviceKind, Session, Store, Token};

    use session_core::UserKey;

    use super::*;
    use crate::RedisOptions;

    fn session(store: &RedisStore, owner: &UserKey) -> Session {
        let random = || getrandom::u64().unwrap().to_be_bytes();
        let id = store.session_id(owner, [random(), random()].concat().try_into().unwrap());
        let token = Token::new(id, [1; 12], [2; 16]);
        Session {
            id,
            owner: owner.clone(),
            device_kind: DeviceKind::Web,
            device_info: None,
            client_id: None,
            ip_addresses: Vec::new(),
            signed_in: Timestamp::EPOCH,
            last_accessed: Timestamp::EPOCH,
            authenticated_at: Timestamp::EPOCH,
            absolute_expiry: None,
            data: None,
            token: TokenState::new(&token),
        }
    }

    /// A driver that sends a commit again after its answer got lost is told that it is done. A second
    /// commit is a conflict.
    #[tokio::test]
    async fn a_commit_that_is_sent_again_is_done_once() {
        let url = std::env::var("SESSION_KIT_REDIS_URL").unwrap();
        let prefix = format!("unit-{:x}:", getrandom::u64().unwrap());
        let options = RedisOptions::default().with_prefix(prefix);
        let store = RedisStore::connect_with(&url, options).await.unwrap();
        let owner = UserKey::new("alice".parse().unwrap());
        let cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
        let commit = |expected| {
            let changes = vec![Change::Insert(Box::new(session(&store, &owner)))];
            let (at, by) = (Timestamp::EPOCH, Actor::Application);
            Commit { owner: owner.clone(), expected, changes, at, by }
        };
        let first = commit(Version::NONE);
        let call = store.commit_call(&first).unwrap();
        for _ in 0..2 {
            assert_eq!(store.link.change::<u32>(&call).await.unwrap(), 1);
        }
        assert_eq!(store.commit(&first).await.unwrap(), Outcome::Conflict);
        let told = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
        assert_eq!(told.events.len(), 1);
        let state = store.user(&owner).await.unwrap();
        assert_eq!(state.sessions.len(), 1);
        // A later change by another node is not taken for it.
        assert_eq!(store.commit(&commit(state.version)).await.unwrap(), Outcome::Done);
        assert_eq!(store.link.change::<u32>(&call).await.unwrap(), 0);
    }
}
/// What the script has to know of one change.
fn describe(call: &mut Call<'_>, commit: &Commit, change: &Change) {
    let entry = entry::parts(&commit.event(change.kind(), change.session()));
    let mut step = |what: &str| {
        call.arg(what).arg(change.session().as_bytes().to_vec()).list(&entry);
    };
    match change {
        Change::Insert(session) => {
            step("insert");
            call.arg(record::fixed(session));
            call.arg(record::accesses(session.last_accessed, &session.ip_addresses));
            call.arg(record::token(&session.token, session.authenticated_at));
            call.number(session.last_accessed.as_micros());
            call.arg(optional(session.absolute_expiry.map(Timestamp::as_micros)));
        }
        Change::End(..) => step("end"),
        Change::ClaimsChanged(_) => step("tell"),
        Change::ReplaceToken { token, authenticated_at, .. } => {
            step("rotate");
            call.arg(record::token(token, authenticated_at.unwrap_or(Timestamp::EPOCH)));
            call.arg(if authenticated_at.is_some() { "1" } else { "0" });
        }
    }
}

//! Changes, each one script in one slot.

use std::time::Duration;

use session_core::store::record::{address_list, details};
use session_core::store::{Change, Commit, Ending, Outcome, Touch, UserTag};
use session_core::{SessionId, StoreError, UserKey};

use crate::doubts::Doubt;
use crate::link::Call;
use crate::log::mark;
use crate::place::sort_key;
use crate::scripts::Scripts;
use crate::store::RedisStore;
use crate::{ended, entry, record};

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
            1 => return Ok(Outcome::Done),
            BLOCKED => self.renew_copy(&commit.owner).await?,
            _ => {}
        }
        Ok(Outcome::Conflict)
    }

    fn commit_call(&self, commit: &Commit) -> Result<Call<'_>, StoreError> {
        let (placement, owner) = (&self.placement, &commit.owner);
        let tag = placement.tag(owner);
        let shard = placement.shard(tag);
        let begins = commit.changes.iter().any(|change| matches!(change, Change::Insert(_)));
        let Scripts { commit: change, commit_insert: insert, .. } = &self.scripts;
        let mut call = Call::new(if begins { insert } else { change }, placement, shard);
        call.key(placement.user(tag)).key(placement.all(shard)).key(placement.due(shard));
        call.key(placement.log(shard)).key(placement.blocked(shard));
        call.key(placement.history(shard)).key(placement.history_of(tag));
        self.tenant_keys(&mut call, tag, owner);
        call.arg(record::owner(owner)).number(commit.expected.0).number(self.margin());
        let mark = self.logging(&mut call, commit.invalidates())?;
        call.key(placement.answer(shard, mark));
        for change in &commit.changes {
            // Also for another user's session, which is in another shard.
            call.key(placement.ended(shard, change.session()));
        }
        call.arg(sort_key(commit.at)).number(self.remembered()).number(self.answer_kept());
        for change in &commit.changes {
            describe(&mut call, commit, change);
        }
        Ok(call)
    }

    /// The keys of a tenant and of a user name in any tenant. Keys must be declared; without a
    /// tenant the scripts do not use these three.
    pub(crate) fn tenant_keys(&self, call: &mut Call<'_>, tag: UserTag, owner: &UserKey) {
        let (placement, shard) = (&self.placement, self.placement.shard(tag));
        let user = placement.user(tag);
        let keys = match &owner.tenant {
            Some(tenant) => [
                placement.tenant(shard, tenant.as_str()),
                placement.name(shard, owner.user.as_str()),
                placement.history_of_tenant(shard, tenant.as_str()),
            ],
            None => [user.clone(), user.clone(), user],
        };
        keys.into_iter().for_each(|key| {
            call.key(key);
        });
    }

    /// How long after a deadline a record lasts, in microseconds.
    fn margin(&self) -> u128 {
        self.options.expiry_margin.as_micros()
    }

    /// How long ended sessions are remembered, in milliseconds.
    pub(crate) fn remembered(&self) -> u64 {
        let history = self.needs().history;
        if history.is_zero() {
            return 0;
        }
        millis(history)
    }

    /// How long the answer to a call is kept for the driver that sends the call again, in milliseconds.
    /// After the time limit nobody waits for it; what was sent before may still be on its way.
    pub(crate) fn answer_kept(&self) -> u64 {
        millis(self.link.limit().saturating_add(UNDER_WAY))
    }

    /// Begins a change that may have to wait for replicas.
    pub(crate) fn doubt(
        &self,
        users: impl IntoIterator<Item = UserTag>,
    ) -> Result<Option<Doubt<'_>>, StoreError> {
        self.link.waits().then(|| self.doubts.change(users)).transpose()
    }

    /// What every script has to know that appends to the log, and whether an entry invalidates. Returns
    /// the mark of the call.
    pub(crate) fn logging(
        &self,
        call: &mut Call<'_>,
        invalidates: bool,
    ) -> Result<u64, StoreError> {
        let mark = mark()?;
        call.number(self.options.log_cap).number(self.log_keep().as_micros());
        call.number(mark).arg(if invalidates { self.publish() } else { "" });
        Ok(mark)
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

    pub(crate) async fn write_accesses(
        &self,
        batch: &[Touch],
    ) -> Result<Vec<SessionId>, StoreError> {
        let batch = Touch::folded(batch)?;
        let mut gone = Vec::new();
        for (shard, touches) in self.by_shard(&batch, |touch| touch.id) {
            for touches in touches.chunks(BATCH) {
                let mut call = Call::new(&self.scripts.touch, &self.placement, shard);
                call.key(self.placement.due(shard)).number(self.margin());
                for touch in touches {
                    call.key(self.placement.user(UserTag::of(touch.id)));
                    call.arg(touch.id.as_bytes().to_vec()).number(touch.last_accessed.as_micros());
                    call.number(touch.deadline.as_micros()).number(u8::from(touch.claimed));
                    call.arg(address_list(&touch.ip_addresses));
                }
                let missing: Vec<usize> = self.link.run(&call).await?;
                gone.extend(missing.into_iter().filter_map(|n| Some(touches.get(n - 1)?.id)));
            }
        }
        Ok(gone)
    }
}

/// How long a key lasts.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, MOST_MILLIS)
}

pub(crate) fn confirm(doubt: Option<Doubt<'_>>) {
    if let Some(doubt) = doubt {
        doubt.confirm();
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
            call.arg(record::fixed(session)).arg(record::accesses(session));
            call.number(session.deadline.as_micros()).arg(details(session));
        }
        Change::End(_, cause) => {
            step("end");
            call.arg(ended::how(&Ending::of_commit(commit, *cause)));
        }
        Change::ClaimsChanged(_) => step("tell"),
        Change::Update { session, .. } => {
            step("update");
            call.number(session.deadline.as_micros()).arg(details(session));
        }
    }
}

/// The script's answer where a block holds for the owner of a session that would begin.
const BLOCKED: i64 = 2;

/// How long a command may be on its way to a server after its caller has given it up.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// In milliseconds; a server takes no much longer time to live.
const MOST_MILLIS: u64 = 1 << 50;

#[cfg(all(test, feature = "server-tests"))]
mod tests {
    use session_core::store::{Entries, Needs, Version};
    use session_core::{Actor, EndCause, FleetKey, Session, Store, Timestamp, Token};

    use super::*;
    use crate::RedisOptions;
    use crate::placement::Shard;

    fn session(store: &RedisStore, owner: &UserKey) -> Session {
        let random = || getrandom::u64().unwrap().to_be_bytes();
        let id = store.session_id(
            owner,
            Timestamp::EPOCH,
            [random(), random()].concat().try_into().unwrap(),
        );
        let token = Token::new(&FleetKey::from_bytes([7; 32]), id, [1; 12], [2; 16]);
        Session::new(owner.clone(), &token, Timestamp::EPOCH)
    }

    async fn store() -> RedisStore {
        let url = std::env::var("SESSION_KIT_REDIS_URL").unwrap();
        let prefix = format!("unit-{:x}:", getrandom::u64().unwrap());
        let options = RedisOptions::default().with_prefix(prefix);
        RedisStore::connect_with(&url, options).await.unwrap()
    }

    fn commit(owner: &UserKey, expected: Version, change: Change) -> Commit {
        let (owner, changes) = (owner.clone(), vec![change]);
        let (at, by) = (Timestamp::EPOCH, Actor::Application);
        Commit { owner, expected, changes, at, by, from: None }
    }

    fn begins(session: &Session) -> Change {
        Change::Insert(Box::new(session.clone()))
    }

    /// What the driver gets that sends a call again after its answer got lost.
    async fn send(store: &RedisStore, call: &Call<'_>) -> i64 {
        store.link.change(call).await.unwrap()
    }

    /// A driver that sends a commit again after its answer got lost is told that it is done, also after
    /// changes of other nodes. A second commit is a conflict.
    #[tokio::test]
    async fn a_commit_that_is_sent_again_is_done_once() {
        let (store, owner) = (store().await, UserKey::new("alice".parse().unwrap()));
        let cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
        let mine = session(&store, &owner);
        let first = commit(&owner, Version::NONE, begins(&mine));
        let call = store.commit_call(&first).unwrap();
        for _ in 0..2 {
            assert_eq!(send(&store, &call).await, 1);
        }
        assert_eq!(store.commit(&first).await.unwrap(), Outcome::Conflict);
        let told = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
        assert_eq!(told.events.len(), 1);
        let state = store.user(&owner).await.unwrap();
        assert_eq!(state.sessions.len(), 1);
        let other = commit(&owner, state.version, begins(&session(&store, &owner)));
        assert_eq!(store.commit(&other).await.unwrap(), Outcome::Done);
        assert_eq!(send(&store, &call).await, 1, "it is done, and another one since");
        let told = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
        assert_eq!(told.events.len(), 2);
        let call = store.commit_call(&other).unwrap();
        assert_eq!(send(&store, &call).await, 0, "the same commit in another call");
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
    }

    /// A user without sessions is forgotten, and has the version again that the user had at first.
    #[tokio::test]
    async fn a_commit_is_done_once_though_its_user_is_forgotten() {
        let (store, owner) = (store().await, UserKey::new("alice".parse().unwrap()));
        // Where there is a history, it knows the id of the session that began.
        store.configure(&Needs { history: Duration::ZERO, max_staleness: Duration::from_secs(30) });
        let cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
        let mine = session(&store, &owner);
        let begun = commit(&owner, Version::NONE, begins(&mine));
        let begun = store.commit_call(&begun).unwrap();
        assert_eq!(send(&store, &begun).await, 1);
        let version = store.user(&owner).await.unwrap().version;
        let ended = commit(&owner, version, Change::End(mine.id, EndCause::SignedOut));
        let ended = store.commit_call(&ended).unwrap();
        assert_eq!(send(&store, &ended).await, 1);
        assert_eq!(store.user(&owner).await.unwrap().version, Version::NONE);
        for call in [&ended, &begun] {
            assert_eq!(send(&store, call).await, 1);
        }
        assert_eq!(store.load(mine.id).await.unwrap(), None, "it does not begin again");
        let told = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
        assert_eq!(told.events.len(), 2);
    }

    /// There is one for each commit of some seconds.
    #[tokio::test]
    async fn the_answer_to_a_commit_goes_by_itself() {
        let (store, owner) = (store().await, UserKey::new("alice".parse().unwrap()));
        let begins = begins(&session(&store, &owner));
        let first = commit(&owner, Version::NONE, begins);
        assert_eq!(store.commit(&first).await.unwrap(), Outcome::Done);
        assert_eq!(store.commit(&first).await.unwrap(), Outcome::Conflict);
        let keys = store.placement.key(Shard::FIRST, "answer:*");
        let keys: Vec<String> = store.link.query(redis::cmd("KEYS").arg(keys)).await.unwrap();
        assert_eq!(keys.len(), 1, "a conflict leaves nothing: {keys:?}");
        let left: u64 = store.link.query(redis::cmd("PTTL").arg(&keys[0])).await.unwrap();
        assert!(left <= store.answer_kept(), "{left} ms");
    }
}

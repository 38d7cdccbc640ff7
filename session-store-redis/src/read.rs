//! Reads.

use std::collections::{HashMap, VecDeque};

use futures_util::future::try_join_all;
use redis::cmd;
use session_core::admission::Standing;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::{Loaded, Page, PageQuery, TenantFilter, UserState, UserTag, Version};
use session_core::{
    InvalidField, Session, SessionId, StoreError, StoreErrorKind, TenantId, UserId, UserKey,
};

use crate::placement::Shard;
use crate::record::{self, Fields, Place};
use crate::store::RedisStore;

/// The most records, or members of an index, in one command's answer.
pub(crate) const CHUNK: usize = 256;

impl RedisStore {
    /// One round trip: two commands at once, of two slots.
    pub(crate) async fn read_user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        let mut policies = cmd("HMGET");
        policies.arg(self.placement.policies());
        policies.arg(policy_field(&PolicyScope::Deployment)?);
        policies.arg(match &owner.tenant {
            Some(tenant) => policy_field(&PolicyScope::Tenant(tenant.clone()))?,
            None => Vec::new(),
        });
        policies.arg(policy_field(&PolicyScope::User(owner.clone()))?);
        type Policies = (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);
        let (sessions, policies) =
            tokio::try_join!(self.sessions_of(owner), self.link.query::<Policies>(&policies))?;
        let (version, sessions) = sessions;
        let (deployment, tenant, user) = policies;
        Ok(UserState {
            version: version.map_or(Version::NONE, Version),
            sessions: sessions.iter().map(Standing::from).collect(),
            policies: PolicyLayers {
                deployment: deployment.as_deref().map(parse_policy).transpose()?,
                tenant: tenant.as_deref().map(parse_policy).transpose()?,
                user: user.as_deref().map(parse_policy).transpose()?,
            },
        })
    }

    /// The version of a user's key, and those of its sessions that are the user's.
    async fn sessions_of(
        &self,
        owner: &UserKey,
    ) -> Result<(Option<i64>, Vec<Session>), StoreError> {
        let key = self.placement.user(self.placement.tag(owner));
        let fields: HashMap<Vec<u8>, Vec<u8>> = self.link.query(cmd("HGETALL").arg(key)).await?;
        let (version, mut sessions) = record::user(fields)?;
        sessions.retain(|session| session.owner == *owner);
        Ok((version, sessions))
    }

    pub(crate) async fn read_session(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        let mut read = cmd("HMGET");
        read.arg(self.placement.user(UserTag::of(id))).arg("v").arg(&fields_of(id)[..]);
        let (version, fixed, accesses, token): (Option<i64>, _, _, _) =
            self.link.query(&read).await?;
        let session = record::session(id, &(fixed, accesses, token))?;
        Ok(session
            .map(|session| Loaded { session, version: version.map_or(Version::NONE, Version) }))
    }

    /// Those of the sessions that exist.
    pub(crate) async fn read_sessions(
        &self,
        ids: impl IntoIterator<Item = SessionId>,
    ) -> Result<Vec<Session>, StoreError> {
        let mut shards: HashMap<Shard, Vec<SessionId>> = HashMap::new();
        for id in ids {
            shards.entry(self.placement.shard(UserTag::of(id))).or_default().push(id);
        }
        let chunks = shards.values().flat_map(|ids| ids.chunks(CHUNK));
        let read = chunks.map(|ids| async move {
            let mut pipeline = redis::pipe();
            for id in ids {
                pipeline
                    .cmd("HMGET")
                    .arg(self.placement.user(UserTag::of(*id)))
                    .arg(&fields_of(*id)[..]);
            }
            let found: Vec<Fields> = self.link.pipe(&pipeline).await?;
            let sessions = ids.iter().zip(&found).map(|(id, fields)| record::session(*id, fields));
            sessions.collect::<Result<Vec<_>, StoreError>>()
        });
        Ok(try_join_all(read).await?.into_iter().flatten().flatten().collect())
    }

    pub(crate) async fn read_page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        let after = query.after.map(Place::from);
        let mut walk = self.walk(&query.tenant, query.user.as_ref(), after).await?;
        let wanted = query.limit as usize + 1;
        let mut sessions: Vec<Session> = Vec::new();
        while sessions.len() < wanted {
            let places = walk.next(self, (wanted - sessions.len()).min(CHUNK)).await?;
            if places.is_empty() {
                break;
            }
            let mut found = self.read_sessions(places.iter().map(Place::id)).await?;
            found.retain(|session| query.covers(session));
            found.sort_by_key(Place::of);
            sessions.append(&mut found);
        }
        sessions.truncate(wanted);
        Ok(Page::cut(sessions, query.limit))
    }

    /// Begins to walk over sessions in the order of pages: all of a tenant, of a user, or all.
    pub(crate) async fn walk(
        &self,
        tenant: &TenantFilter,
        user: Option<&UserId>,
        after: Option<Place>,
    ) -> Result<Walk, StoreError> {
        let placement = &self.placement;
        let indexes = |name: &dyn Fn(Shard) -> String| -> Vec<Index> {
            placement.shards().map(|shard| Index::new(name(shard), after)).collect()
        };
        let indexes = match (tenant, user) {
            (TenantFilter::Is(tenant), Some(user)) => {
                let owner = UserKey { tenant: tenant.clone(), user: user.clone() };
                vec![self.places_of(&owner, after).await?]
            }
            (TenantFilter::Any, Some(user)) => {
                let mut indexes = indexes(&|shard| placement.name(shard, user.as_str()));
                indexes.push(self.places_of(&UserKey::new(user.clone()), after).await?);
                indexes
            }
            (TenantFilter::Is(Some(tenant)), None) => {
                indexes(&|shard| placement.tenant(shard, tenant.as_str()))
            }
            // Who is outside all tenants has no index: most often that is everybody.
            (TenantFilter::Is(None) | TenantFilter::Any, None) => {
                indexes(&|shard| placement.all(shard))
            }
        };
        Ok(Walk { indexes })
    }

    /// A user's own sessions need no index.
    async fn places_of(&self, owner: &UserKey, after: Option<Place>) -> Result<Index, StoreError> {
        let (_, sessions) = self.sessions_of(owner).await?;
        let places = sessions.iter().map(Place::of);
        let mut places: Vec<_> = places.filter(|place| after.is_none_or(|a| *place > a)).collect();
        places.sort();
        Ok(Index { key: None, ahead: places.into(), after, done: true })
    }

    pub(crate) async fn read_policy(
        &self,
        scope: &PolicyScope,
    ) -> Result<Option<Policy>, StoreError> {
        let mut read = cmd("HGET");
        read.arg(self.placement.policies()).arg(policy_field(scope)?);
        let text: Option<Vec<u8>> = self.link.query(&read).await?;
        text.as_deref().map(parse_policy).transpose()
    }
}

/// A walk over several indexes at once, merged.
pub(crate) struct Walk {
    indexes: Vec<Index>,
}

struct Index {
    key: Option<String>,
    /// What has been read and not been passed on.
    ahead: VecDeque<Place>,
    after: Option<Place>,
    done: bool,
}

impl Walk {
    /// The next places, at most this many; none at the end.
    pub(crate) async fn next(
        &mut self,
        store: &RedisStore,
        count: usize,
    ) -> Result<Vec<Place>, StoreError> {
        let mut places = Vec::new();
        while places.len() < count {
            // An index that has run dry may hold what comes next.
            let dry = self.indexes.iter_mut().filter(|index| index.ahead.is_empty());
            try_join_all(dry.map(|index| index.read(store, count))).await?;
            let next = self.indexes.iter_mut().filter(|index| !index.ahead.is_empty());
            let Some(index) = next.min_by_key(|index| index.ahead[0]) else { break };
            places.extend(index.ahead.pop_front());
        }
        Ok(places)
    }
}

impl Index {
    const fn new(key: String, after: Option<Place>) -> Self {
        Self { key: Some(key), ahead: VecDeque::new(), after, done: false }
    }

    async fn read(&mut self, store: &RedisStore, count: usize) -> Result<(), StoreError> {
        let (Some(key), false) = (&self.key, self.done) else { return Ok(()) };
        let mut from = vec![b'-'];
        if let Some(after) = &self.after {
            from = [b"(", after.as_bytes()].concat();
        }
        let mut read = cmd("ZRANGE");
        read.arg(key).arg(from).arg("+").arg("BYLEX").arg("LIMIT").arg(0).arg(count);
        let members: Vec<Vec<u8>> = store.link.query(&read).await?;
        self.done = members.len() < count;
        for member in &members {
            self.ahead.push_back(Place::parse(member)?);
        }
        self.after = self.ahead.back().copied().or(self.after);
        Ok(())
    }
}

/// The three fields of a session in its user's hash.
fn fields_of(id: SessionId) -> [Vec<u8>; 3] {
    let id = id.as_bytes();
    [id.to_vec(), [&id[..], b"a"].concat(), [&id[..], b"k"].concat()]
}

/// Where a policy stands among all policies.
pub(crate) fn policy_field(scope: &PolicyScope) -> Result<Vec<u8>, StoreError> {
    let tenant = |tenant: &TenantId| [b"t", tenant.as_str().as_bytes()].concat();
    match scope {
        PolicyScope::Deployment => Ok(b"d".to_vec()),
        PolicyScope::Tenant(id) => Ok(tenant(id)),
        PolicyScope::User(owner) => Ok([&b"u"[..], &record::owner(owner)].concat()),
        _ => Err(StoreError::new(StoreErrorKind::Internal, "a policy scope of a newer version")),
    }
}

fn parse_policy(text: &[u8]) -> Result<Policy, StoreError> {
    serde_json::from_slice(text).map_err(|_| InvalidField::malformed("policy", "JSON").into())
}

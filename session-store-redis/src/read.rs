//! Reads.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use redis::{Cmd, FromRedisValue, cmd};
use session_core::store::record::read_standing;
use session_core::store::{Loaded, Page, PageQuery, UserState, UserTag, Version, limit_within};
use session_core::{Session, SessionId, StoreError, UserKey};

use crate::link::Wait;
use crate::place::Place;
use crate::placement::Shard;
use crate::record::{self, Fixed, Stored, Triple};
use crate::scopes::Scopes;
use crate::store::RedisStore;
use crate::walk::{CHUNK, EXAMINED, places};

impl RedisStore {
    /// One round trip: two commands at once, of two slots.
    pub(crate) async fn read_user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        let ((version, found), Scopes { policies, blocks }) =
            tokio::try_join!(self.read_key_of(owner), self.read_scopes(owner))?;
        let mut sessions = Vec::with_capacity(found.len());
        for (id, fields) in &found {
            if let Some(stored) = Stored::parse(*id, fields)?
                && stored.is_of(owner)
            {
                sessions.push(read_standing(&stored)?);
            }
        }
        let version = version.map_or(Version::NONE, Version);
        Ok(UserState { version, sessions, policies, blocks })
    }

    /// The places of a user's sessions, as far as they can be read.
    pub(crate) async fn own_places(&self, owner: &UserKey) -> Result<Vec<Place>, StoreError> {
        let (_, found) = self.read_key_of(owner).await?;
        let place = |(id, fields): (&SessionId, &Triple)| {
            let fixed = Fixed::parse(fields.0.as_deref()?).ok()?;
            fixed.is_of(owner).then(|| fixed.place(*id))
        };
        Ok(found.iter().filter_map(place).collect())
    }

    /// The version of a user's key, and the sessions of all users that share it.
    async fn read_key_of(
        &self,
        owner: &UserKey,
    ) -> Result<(Option<i64>, HashMap<SessionId, Triple>), StoreError> {
        let tag = self.placement.tag(owner);
        let mut all = cmd("HGETALL");
        all.arg(self.placement.user(tag));
        record::user(self.read_settled(tag, all).await?)
    }

    /// Reads a user's key. If this node has changed it and does not know the change to be on the
    /// replicas that the options ask for, they are waited for.
    pub(crate) async fn read_settled<T: FromRedisValue>(
        &self,
        tag: UserTag,
        read: Cmd,
    ) -> Result<T, StoreError> {
        let Some(doubt) = self.doubts.of(tag) else { return self.link.query(&read).await };
        let mut commands = redis::pipe();
        commands.add_command(read);
        let wait = Wait::on(&self.placement, self.placement.shard(tag));
        let (answer,) = self.link.confirmed(commands, &wait).await?;
        doubt.confirm();
        Ok(answer)
    }

    pub(crate) async fn read_session(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        let mut read = cmd("HMGET");
        let tag = UserTag::of(id);
        read.arg(self.placement.user(tag)).arg("v").arg(&fields_of(id)[..]);
        let (version, fixed, accesses, details): (Option<i64>, _, _, _) =
            self.read_settled(tag, read).await?;
        let session = record::session(id, &(fixed, accesses, details))?;
        Ok(session
            .map(|session| Loaded { session, version: version.map_or(Version::NONE, Version) }))
    }

    /// Those of the sessions that exist and can be read.
    async fn read_sessions(&self, places: &[Place]) -> Result<Vec<Session>, StoreError> {
        let shards = self.by_shard(places, Place::id);
        let chunks = shards.values().flat_map(|places| places.chunks(CHUNK));
        let read = chunks.map(|places| async move {
            let mut pipeline = redis::pipe();
            for place in places {
                let key = self.placement.user(UserTag::of(place.id()));
                pipeline.cmd("HMGET").arg(key).arg(&fields_of(place.id())[..]);
            }
            let found: Vec<Triple> = self.link.pipe(&pipeline).await?;
            let sessions = places.iter().zip(&found);
            let read =
                |(place, fields): (&&Place, _)| record::session(place.id(), fields).ok().flatten();
            Ok::<_, StoreError>(sessions.filter_map(read).collect::<Vec<_>>())
        });
        Ok(try_join_all(read).await?.into_iter().flatten().collect())
    }

    /// The first chunk is as long as the page; where a filter leaves out some of it, whole chunks
    /// follow.
    pub(crate) async fn read_page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
        let after = query.after.map(Place::from);
        let mut walk = self.walk(&query.tenant, query.user.as_ref(), after).await?;
        let mut sessions: Vec<Session> = Vec::new();
        let (mut count, mut examined) = (limit as usize + 1, 0);
        loop {
            let places = places(&walk.next(self, count, count).await?);
            let mut found = self.read_sessions(&places).await?;
            found.retain(|session| query.covers(session));
            found.sort_by_key(Place::of);
            sessions.append(&mut found);
            examined += places.len();
            if sessions.len() > limit as usize || places.len() < count {
                return Ok(Page::cut(sessions, limit));
            }
            if examined >= EXAMINED {
                return Ok(Page { sessions, next: places.last().map(Place::cursor) });
            }
            count = CHUNK;
        }
    }

    pub(crate) fn by_shard<'i, T>(
        &self,
        items: &'i [T],
        id: impl Fn(&T) -> SessionId,
    ) -> HashMap<Shard, Vec<&'i T>> {
        let mut shards: HashMap<Shard, Vec<&T>> = HashMap::new();
        for item in items {
            shards.entry(self.placement.shard(UserTag::of(id(item)))).or_default().push(item);
        }
        shards
    }
}

/// The three fields of a session in its user's hash.
fn fields_of(id: SessionId) -> [Vec<u8>; 3] {
    let id = id.as_bytes();
    [id.to_vec(), [&id[..], b"a"].concat(), [&id[..], b"d"].concat()]
}

//! Reads of users and sessions.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use mongodb::ClientSession;
use mongodb::bson::{Document, doc};
use session_core::store::record::{read_owner, read_session, read_standing};
use session_core::store::{
    Loaded, Page, PageCursor, PageQuery, TenantFilter, UserState, UserTag, Version, limit_within,
};
use session_core::{InvalidField, Session, SessionId, StoreError, UserKey};

use crate::collections::Collections;
use crate::error::Failed;
use crate::places::Places;
use crate::record::{self, Stored, tag_key};
use crate::transaction::{Step, in_session};
use crate::walk::{Part, Walk};

impl Collections {
    /// The places are read after the sessions: a caller that finds a session which it could not be
    /// told of sees every block that its commit may have overlooked.
    pub(crate) async fn read_user(&self, owner: &UserKey) -> Result<UserState, Failed> {
        let mut session = self.session().await?;
        let user = self.user_document(owner, &mut session).await?;
        let Places { policies, blocks } = self.places_of(owner, &mut session).await?;
        let (version, sessions) = match &user {
            Some(user) => (version_of(user)?, of_owner(user, owner, read_standing)?),
            None => (Version::NONE, Vec::new()),
        };
        Ok(UserState { version, sessions, policies, blocks })
    }

    async fn user_document(
        &self,
        owner: &UserKey,
        session: &mut ClientSession,
    ) -> Result<Option<Document>, Failed> {
        let find = self.users.find_one(by_tag(self.tags.tag(owner)));
        let user = find.session(session).await?;
        self.settled(user.as_ref()).await?;
        Ok(user)
    }

    pub(crate) async fn load_session(&self, id: SessionId) -> Result<Option<Loaded>, Failed> {
        let mut session = self.session().await?;
        let find = self.users.find_one(by_tag(UserTag::of(id))).projection(only([id]));
        let Some(user) = find.session(&mut session).await? else { return Ok(None) };
        self.settled(Some(&user)).await?;
        let version = version_of(&user)?;
        let Some(stored) = stored_session(&user, id)? else {
            self.check_sessions(UserTag::of(id), &mut None).await?;
            return Ok(None);
        };
        Ok(Some(Loaded { session: read_session(&Stored(stored))?, version }))
    }

    /// Fails if the sessions of a user are not a document. A find that asks for one of them leaves
    /// such a value out, as if the session had ended.
    pub(crate) async fn check_sessions(
        &self,
        tag: UserTag,
        session: &mut Step<'_>,
    ) -> Result<(), Failed> {
        let mut damaged = by_tag(tag);
        damaged.insert("sessions", doc! { "$not": { "$type": "object" } });
        let find = self.users.find_one(damaged).projection(doc! { "_id": 1 });
        match in_session!(session.as_mut(), find)? {
            Some(_) => Err(record::malformed("sessions").into()),
            None => Ok(()),
        }
    }

    /// Those of the sessions that exist, as they are stored; none for one that cannot be read.
    pub(crate) async fn stored_sessions(
        &self,
        ids: &[SessionId],
    ) -> Result<HashMap<SessionId, Option<Document>>, Failed> {
        let mut session = self.session().await?;
        let mut users = self.users.aggregate(users_of(ids)).session(&mut session).await?;
        let users: Vec<Document> = users.stream(&mut session).try_collect().await?;
        let keyed = users.iter().map(|user| Ok((record::number(user, "_id")?, user)));
        let users: HashMap<_, _> = keyed.collect::<Result<_, InvalidField>>()?;
        let mut found = HashMap::new();
        for id in ids {
            let Some(user) = users.get(&tag_key(UserTag::of(*id))) else { continue };
            match stored_session(user, *id) {
                Ok(stored) => found.extend(stored.map(|stored| (*id, Some(stored.clone())))),
                Err(error) => {
                    tracing::warn!(name = record::name(*id), %error, "a session cannot be read");
                    found.insert(*id, None);
                }
            }
        }
        Ok(found)
    }

    pub(crate) async fn read_page(&self, query: &PageQuery) -> Result<Page, Failed> {
        let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
        if let (TenantFilter::Is(tenant), Some(user)) = (&query.tenant, &query.user) {
            let owner = UserKey { tenant: tenant.clone(), user: user.clone() };
            return self.page_of_user(query, &owner, limit).await;
        }
        let after = query.after.map(Into::into);
        let walk = Walk::listed(query);
        let Part { found, next } = self.walk(&self.list, &walk, after, limit as usize).await?;
        let found: Vec<_> =
            found.iter().filter_map(|entry| Some(walk.place(entry).ok()?.id)).collect();
        let stored = self.stored_sessions(&found).await?;
        let listed = found.iter().filter_map(|id| stored.get(id)?.as_ref());
        let listed = listed.filter_map(|session| read_session(&Stored(session)).ok());
        // The list can lag behind.
        let sessions = listed.filter(|session| query.covers(session)).collect();
        Ok(Page { sessions, next: next.map(Into::into) })
    }

    async fn page_of_user(
        &self,
        query: &PageQuery,
        owner: &UserKey,
        limit: u32,
    ) -> Result<Page, Failed> {
        let mut session = self.session().await?;
        let user = self.user_document(owner, &mut session).await?;
        let Some(user) = user else { return Ok(Page::default()) };
        let stored = user.get_document("sessions").into_iter().flat_map(Document::values);
        let read = stored.filter_map(|stored| read_session(&Stored(stored.as_document()?)).ok());
        let covered = |session: &Session| {
            let is_next = query.after.is_none_or(|after| is_after(session, after));
            session.owner == *owner && query.covers(session) && is_next
        };
        let mut sessions: Vec<_> = read.filter(covered).collect();
        sessions.sort_by_key(|session| (std::cmp::Reverse(session.signed_in), session.id));
        Ok(Page::cut(sessions, limit))
    }
}

pub(crate) fn by_tag(tag: UserTag) -> Document {
    doc! { "_id": tag_key(tag) }
}

/// The version, whether changes wait for their delivery, and only these sessions.
pub(crate) fn only(ids: impl IntoIterator<Item = SessionId>) -> Document {
    let mut fields = doc! { "version": 1, "waiting": 1 };
    ids.into_iter().for_each(|id| {
        fields.insert(format!("sessions.{}", record::name(id)), 1);
    });
    fields
}

/// Reads these sessions out of their users' documents, as [`only`] does, with what kind of value the
/// sessions are and the server's clock.
pub(crate) fn users_of(ids: &[SessionId]) -> [Document; 2] {
    let mut tags: Vec<_> = ids.iter().map(|id| tag_key(UserTag::of(*id))).collect();
    tags.dedup();
    let mut fields = only(ids.iter().copied());
    fields.insert(KIND, doc! { "$type": "$sessions" });
    fields.insert("clock", "$$NOW");
    [doc! { "$match": { "_id": { "$in": tags } } }, doc! { "$project": fields }]
}

pub(crate) fn version_of(user: &Document) -> Result<Version, InvalidField> {
    record::number(user, "version").map(Version)
}

/// The sessions that a user's document has, as they are stored.
pub(crate) fn sessions_in(user: &Document) -> Result<Vec<&Document>, InvalidField> {
    let Some(sessions) = user.get("sessions") else { return Ok(Vec::new()) };
    let sessions = sessions.as_document().ok_or(record::malformed("sessions"))?;
    let stored = sessions.values().map(|session| session.as_document());
    stored.map(|session| session.ok_or(record::malformed("sessions"))).collect()
}

/// One session of a user's document, as it is stored. Where sessions that are not a document were
/// left out, [`KIND`] tells of it.
pub(crate) fn stored_session(
    user: &Document,
    id: SessionId,
) -> Result<Option<&Document>, InvalidField> {
    if user.get_str(KIND).is_ok_and(|kind| kind != "object") {
        return Err(record::malformed("sessions"));
    }
    let Some(sessions) = user.get("sessions") else { return Ok(None) };
    let sessions = sessions.as_document().ok_or(record::malformed("sessions"))?;
    let Some(session) = sessions.get(record::name(id)) else { return Ok(None) };
    session.as_document().map(Some).ok_or(record::malformed("sessions"))
}

/// Two users may share a document.
fn of_owner<'d, T>(
    user: &'d Document,
    owner: &UserKey,
    read: impl Fn(&Stored<'d>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut found = Vec::new();
    for stored in sessions_in(user)? {
        if read_owner(&Stored(stored))? == *owner {
            found.push(read(&Stored(stored))?);
        }
    }
    Ok(found)
}

fn is_after(session: &Session, after: PageCursor) -> bool {
    session.signed_in < after.at || (session.signed_in == after.at && session.id > after.id)
}

/// In what [`users_of`] reads, the type of a user's sessions.
const KIND: &str = "kind";

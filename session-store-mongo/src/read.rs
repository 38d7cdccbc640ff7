//! Reads.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::Hint;
use session_core::admission::Standing;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::{
    Loaded, Page, PageCursor, PageQuery, Selection, TenantFilter, UserState, UserTag, Version,
};
use session_core::{InvalidField, Session, SessionId, TenantId, UserKey};

use crate::error::{Failed, internal};
use crate::record;
use crate::store::MongoStore;

impl MongoStore {
    pub(crate) async fn read_user(&self, owner: &UserKey) -> Result<UserState, Failed> {
        let mut keys = vec![policy_key(&PolicyScope::Deployment)?];
        if let Some(tenant) = &owner.tenant {
            keys.push(policy_key(&PolicyScope::Tenant(tenant.clone()))?);
        }
        keys.push(policy_key(&PolicyScope::User(owner.clone()))?);
        let policies = async {
            let found = self.policies.find(doc! { "_id": { "$in": &keys } }).await?;
            Ok::<Vec<Document>, Failed>(found.try_collect().await?)
        };
        let ((version, sessions), found) = tokio::try_join!(self.sessions_of(owner), policies)?;
        let mut layers = PolicyLayers::default();
        for document in &found {
            let policy = Some(parse_policy(document)?);
            match document.get_str("_id") {
                Ok("d") => layers.deployment = policy,
                Ok(key) if key.starts_with('t') => layers.tenant = policy,
                _ => layers.user = policy,
            }
        }
        Ok(UserState {
            version,
            sessions: sessions.iter().map(Standing::from).collect(),
            policies: layers,
        })
    }

    /// The version of a user's document, and those of its sessions that are the user's.
    async fn sessions_of(&self, owner: &UserKey) -> Result<(Version, Vec<Session>), Failed> {
        let Some(user) = self.users.find_one(by_tag(self.tags.tag(owner))).await? else {
            return Ok((Version::NONE, Vec::new()));
        };
        let mut sessions = sessions_in(&user)?;
        sessions.retain(|session| session.owner == *owner);
        Ok((version_of(&user)?, sessions))
    }

    pub(crate) async fn read_session(&self, id: SessionId) -> Result<Option<Loaded>, Failed> {
        let read = self.users.find_one(by_tag(UserTag::of(id))).projection(only([id]));
        let Some(user) = read.await? else { return Ok(None) };
        let version = version_of(&user)?;
        Ok(sessions_in(&user)?.pop().map(|session| Loaded { session, version }))
    }

    /// Those of the sessions that exist.
    pub(crate) async fn read_sessions(
        &self,
        ids: impl IntoIterator<Item = SessionId>,
    ) -> Result<HashMap<SessionId, Session>, Failed> {
        let ids: Vec<_> = ids.into_iter().collect();
        let tags: Vec<_> = ids.iter().map(|id| tag_key(UserTag::of(*id))).collect();
        let users = self.users.find(doc! { "_id": { "$in": tags } }).projection(only(ids));
        let users: Vec<Document> = users.await?.try_collect().await?;
        let mut sessions = HashMap::new();
        for user in &users {
            sessions.extend(sessions_in(user)?.into_iter().map(|session| (session.id, session)));
        }
        Ok(sessions)
    }

    pub(crate) async fn read_page(&self, query: &PageQuery) -> Result<Page, Failed> {
        let wanted = query.limit as usize + 1;
        if let (TenantFilter::Is(tenant), Some(user)) = (&query.tenant, &query.user) {
            let owner = UserKey { tenant: tenant.clone(), user: user.clone() };
            let (_, mut sessions) = self.sessions_of(&owner).await?;
            sessions.retain(|session| {
                query.covers(session) && query.after.is_none_or(|after| is_after(session, after))
            });
            sessions.sort_by_key(|session| (std::cmp::Reverse(session.signed_in), session.id));
            sessions.truncate(wanted);
            return Ok(Page::cut(sessions, query.limit));
        }
        let mut sessions: Vec<Session> = Vec::new();
        let mut after = query.after;
        while sessions.len() < wanted {
            let missing = wanted - sessions.len();
            let (filter, index) = page_filter(query, after);
            let places = self.places(filter, index, missing).await?;
            let all = places.len() < missing;
            after = places.last().copied().or(after);
            let found = self.read_sessions(places.iter().map(|place| place.id)).await?;
            let found = places.iter().filter_map(|place| found.get(&place.id));
            sessions.extend(found.filter(|session| query.covers(session)).cloned());
            if all {
                break;
            }
        }
        Ok(Page::cut(sessions, query.limit))
    }

    /// Places in the list, in the order of pages.
    async fn places(
        &self,
        filter: Document,
        index: Document,
        limit: usize,
    ) -> Result<Vec<PageCursor>, Failed> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let find = self
            .list
            .find(filter)
            .hint(Hint::Keys(index))
            .sort(doc! { "signed_in": -1, "_id": 1 })
            .limit(limit);
        let found: Vec<Document> =
            find.projection(doc! { "signed_in": 1 }).await?.try_collect().await?;
        let place = |document: &Document| {
            let id = record::parse_name(record::text(document, "_id")?)?;
            Ok(PageCursor { signed_in: record::time(document, "signed_in")?, id })
        };
        Ok(found.iter().map(place).collect::<Result<_, InvalidField>>()?)
    }

    /// Of what is selected, some that the list has.
    pub(crate) async fn selected(
        &self,
        selection: &Selection,
        limit: usize,
    ) -> Result<Vec<(SessionId, UserKey)>, Failed> {
        let (filter, index) = selection_filter(selection);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let find = self.list.find(filter).hint(Hint::Keys(index)).limit(limit);
        let find = find.projection(doc! { "tenant": 1, "user": 1 });
        let found: Vec<Document> = find.await?.try_collect().await?;
        Ok(found.iter().map(listed_owner).collect::<Result<_, _>>()?)
    }

    pub(crate) async fn read_policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, Failed> {
        let found = self.policies.find_one(doc! { "_id": policy_key(scope)? }).await?;
        found.as_ref().map(parse_policy).transpose()
    }
}

pub(crate) fn listed_owner(document: &Document) -> Result<(SessionId, UserKey), InvalidField> {
    Ok((record::parse_name(record::text(document, "_id")?)?, record::owner(document)?))
}

/// The `_id` of a user's document.
pub(crate) fn tag_key(tag: UserTag) -> i64 {
    tag.as_u64().cast_signed()
}

pub(crate) fn by_tag(tag: UserTag) -> Document {
    doc! { "_id": tag_key(tag) }
}

/// Whatever else a filter says, a document is found by its `_id`.
pub(crate) fn by_id() -> Hint {
    Hint::Keys(doc! { "_id": 1 })
}

/// A user's document without sessions, and with nothing left to follow.
pub(crate) fn empty(tag: UserTag) -> Document {
    doc! { "_id": tag_key(tag), "sessions": {}, "due": { "$exists": false } }
}

/// The version, and only these sessions.
pub(crate) fn only(ids: impl IntoIterator<Item = SessionId>) -> Document {
    let mut fields = doc! { "version": 1 };
    ids.into_iter().for_each(|id| {
        fields.insert(format!("sessions.{}", record::name(id)), 1);
    });
    fields
}

pub(crate) fn version_of(user: &Document) -> Result<Version, InvalidField> {
    record::number(user, "version").map(Version)
}

pub(crate) fn sessions_in(user: &Document) -> Result<Vec<Session>, InvalidField> {
    let Some(sessions) = user.get("sessions") else { return Ok(Vec::new()) };
    let sessions = sessions.as_document().ok_or(record::malformed("sessions"))?;
    let parse = |(name, session): (&String, &Bson)| {
        let session = session.as_document().ok_or(record::malformed("sessions"))?;
        record::parse_session(record::parse_name(name)?, session)
    };
    sessions.iter().map(parse).collect()
}

fn is_after(session: &Session, after: PageCursor) -> bool {
    session.signed_in < after.signed_in
        || (session.signed_in == after.signed_in && session.id > after.id)
}

/// What a page is filtered by, and the index that has it in the order of pages.
pub(crate) fn page_filter(query: &PageQuery, after: Option<PageCursor>) -> (Document, Document) {
    let mut narrowed = Selection::within(query.tenant.clone());
    narrowed.user.clone_from(&query.user);
    narrowed.device_kind.clone_from(&query.device_kind);
    narrowed.client_id.clone_from(&query.client_id);
    let (mut filter, index) = selection_filter(&narrowed);
    if let Some(from) = query.accessed_from() {
        filter.insert("last_accessed", doc! { "$gte": from.as_micros() });
    }
    let mut all = vec![doc! { "$or": [
        { "absolute_expiry": null },
        { "absolute_expiry": { "$gt": query.now.as_micros() } },
    ] }];
    if let Some(PageCursor { signed_in, id }) = after {
        let signed_in = signed_in.as_micros();
        // The first condition bounds the walk, the second one leaves ties out.
        filter.insert("signed_in", doc! { "$lte": signed_in });
        all.push(doc! { "$or": [
            { "signed_in": { "$lt": signed_in } },
            { "_id": { "$gt": record::name(id) } },
        ] });
    }
    filter.insert("$and", all);
    (filter, index)
}

/// What a selection is filtered by, and the narrowest index for it.
pub(crate) fn selection_filter(selection: &Selection) -> (Document, Document) {
    let mut filter = Document::new();
    let index = if selection.ids.is_some() {
        doc! { "_id": 1 }
    } else if selection.user.is_some() {
        doc! { "user": 1, "signed_in": -1, "_id": 1 }
    } else if selection.client_id.is_some() {
        doc! { "client_id": 1, "signed_in": -1, "_id": 1 }
    } else if let TenantFilter::Is(_) = &selection.tenant {
        doc! { "tenant": 1, "signed_in": -1, "_id": 1 }
    } else {
        doc! { "signed_in": -1, "_id": 1 }
    };
    if let TenantFilter::Is(tenant) = &selection.tenant {
        filter.insert("tenant", tenant.as_ref().map_or("", TenantId::as_str));
    }
    if let Some(user) = &selection.user {
        filter.insert("user", user.as_str());
    }
    if let Some(kind) = &selection.device_kind {
        filter.insert("device_kind", kind.as_str());
    }
    if let Some(client) = &selection.client_id {
        filter.insert("client_id", client.as_str());
    }
    let mut id = Document::new();
    if let Some(ids) = &selection.ids {
        id.insert("$in", ids.iter().map(|id| record::name(*id)).collect::<Vec<_>>());
    }
    if let Some(except) = selection.except {
        id.insert("$ne", record::name(except));
    }
    if !id.is_empty() {
        filter.insert("_id", id);
    }
    (filter, index)
}

/// The `_id` of a policy.
pub(crate) fn policy_key(scope: &PolicyScope) -> Result<String, Failed> {
    match scope {
        PolicyScope::Deployment => Ok("d".to_owned()),
        PolicyScope::Tenant(tenant) => Ok(format!("t{tenant}")),
        PolicyScope::User(owner) => {
            let tenant = record::tenant(owner);
            Ok(format!("u{}:{tenant}{}", tenant.len(), owner.user))
        }
        _ => Err(internal("a policy scope of a newer version").into()),
    }
}

fn parse_policy(document: &Document) -> Result<Policy, Failed> {
    let text = record::text(document, "policy")?;
    Ok(serde_json::from_str(text).map_err(|_| record::malformed("policy"))?)
}

/// Documents in one command.
pub(crate) const CHUNK: usize = 100;

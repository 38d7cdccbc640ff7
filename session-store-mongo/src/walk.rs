//! Walks along an index of the list, a bounded part in each call.
//!
//! The server sees the index's own fields first, cuts there, and applies the other filters to what
//! is left. So a filter that matches nothing costs no more than one that matches everything, and
//! the planner has no reason to take another index.

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use session_core::store::record::read_ended;
use session_core::store::{Continuation, Ended, PageCursor, PageQuery, Selection, TenantFilter};
use session_core::{InvalidField, SessionId, StoreError, TenantId, Timestamp};

use crate::error::Failed;
use crate::record::{self, Stored};
use crate::store::MongoStore;

/// What a walk looks at, and in which order; ties by id.
pub(crate) struct Walk {
    /// Values of the fields that the index begins with.
    prefix: Document,
    /// The field that the index is sorted by.
    key: &'static str,
    /// Bounds of that field.
    range: Document,
    ascending: bool,
    /// What else has to hold.
    rest: Document,
    /// How many entries one call looks at.
    most: u32,
}

/// Where a session stands in a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) key: i64,
    pub(crate) id: SessionId,
}

/// A part of a walk.
pub(crate) struct Part {
    pub(crate) found: Vec<Ended>,
    /// Where to go on; none at the end of the walk.
    pub(crate) next: Option<Place>,
}

impl MongoStore {
    /// Goes on with a walk: up to `limit` entries of the list.
    pub(crate) async fn walk(
        &self,
        walk: &Walk,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Part, Failed> {
        let (found, next) = self.entries(walk, after, None, limit).await?;
        if next.is_some() {
            return Ok(Part { found, next });
        }
        if walk.rest.is_empty() {
            return Ok(Part { found, next: None });
        }
        // Fewer than wanted: either that is all, or the part ends before.
        let Some(end) = self.end_of_part(walk, after).await? else {
            return Ok(Part { found, next: None });
        };
        let (found, next) = self.entries(walk, after, Some(end), limit).await?;
        Ok(Part { found, next: next.or(Some(end)) })
    }

    /// Up to `limit` entries, and the place of the last where there are more.
    async fn entries(
        &self,
        walk: &Walk,
        after: Option<Place>,
        end: Option<Place>,
        limit: usize,
    ) -> Result<(Vec<Ended>, Option<Place>), Failed> {
        let stages = walk.part(after, end, limit);
        let mut found: Vec<Document> = self.list.aggregate(stages).await?.try_collect().await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| walk.place(last)).transpose()?;
        let ended = found.iter().map(|found| read_ended(&Stored(found)));
        Ok((ended.collect::<Result<_, _>>()?, next))
    }

    /// The last place that one call looks at, where there are more.
    async fn end_of_part(
        &self,
        walk: &Walk,
        after: Option<Place>,
    ) -> Result<Option<Place>, Failed> {
        let mut stages = walk.stages(after, None);
        // Somewhat fewer than it looks at, for entries that come and go between its commands.
        stages.push(doc! { "$skip": walk.most / 10 * 9 });
        stages.push(doc! { "$limit": 1 });
        stages.push(doc! { "$project": { walk.key: 1 } });
        let mut end = self.list.aggregate(stages).await?;
        Ok(end.try_next().await?.as_ref().map(|end| walk.place(end)).transpose()?)
    }
}

impl Walk {
    /// Everything that a selection covers, newest sign-in first.
    pub(crate) fn selected(selection: &Selection) -> Self {
        let (prefix, rest) = split(selection);
        Self {
            prefix,
            key: "signed_in",
            range: Document::new(),
            ascending: false,
            rest,
            most: MOST,
        }
    }

    /// Everything that a page query covers.
    pub(crate) fn listed(query: &PageQuery) -> Self {
        let mut narrowed = Selection::within(query.tenant.clone());
        narrowed.user.clone_from(&query.user);
        narrowed.device_kind.clone_from(&query.device_kind);
        narrowed.client_id.clone_from(&query.client_id);
        let mut walk = Self::selected(&narrowed);
        if let Some(from) = query.accessed_from() {
            walk.rest.insert("last_accessed", doc! { "$gte": from.as_micros() });
        }
        let expiry = [
            doc! { "absolute_expiry": null },
            doc! { "absolute_expiry": { "$gt": query.now.as_micros() } },
        ];
        walk.rest.insert("$or", expiry.to_vec());
        walk
    }

    /// Everything whose key is below (`$lt`) or at most (`$lte`) a number. Both match numbers only, so
    /// an expiry that is null is never selected.
    pub(crate) fn up_to(key: &'static str, bound: &str, number: i64) -> Self {
        let range = doc! { bound: number };
        Self {
            prefix: Document::new(),
            key,
            range,
            ascending: true,
            rest: Document::new(),
            most: MOST,
        }
    }

    /// A part of the walk. One more than the limit is asked for, to know whether there is more.
    fn part(&self, after: Option<Place>, end: Option<Place>, limit: usize) -> Vec<Document> {
        let mut stages = self.stages(after, end);
        stages.push(doc! { "$limit": self.most });
        if !self.rest.is_empty() {
            stages.push(doc! { "$match": &self.rest });
        }
        stages.push(doc! { "$limit": i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1 });
        stages.push(doc! { "$project": { "id": 1, "tenant": 1, "user_id": 1, self.key: 1 } });
        stages
    }

    /// What the index itself answers: beyond one place and up to another, in order.
    fn stages(&self, after: Option<Place>, end: Option<Place>) -> Vec<Document> {
        let mut stages = vec![doc! { "$match": self.bounds(after, end) }];
        let (beyond, before) = self.sides();
        for (place, side, tie) in [(after, beyond, "$gt"), (end, before, "$lte")] {
            let Some(Place { key, id }) = place else { continue };
            let ties = doc! { "$or": [
                { self.key: { side: key } },
                { self.key: key, "_id": { tie: record::name(id) } },
            ] };
            stages.push(doc! { "$match": ties });
        }
        stages.push(doc! { "$sort": self.order() });
        stages
    }

    /// The place of an entry of the list.
    fn place(&self, entry: &Document) -> Result<Place, InvalidField> {
        let name = entry.get_str("_id").map_err(|_| record::malformed("_id"))?;
        Ok(Place { key: record::number(entry, self.key)?, id: record::parse_name(name)? })
    }

    /// The bounds of the walk, ties included. Sessions that are known by their ids need none.
    pub(crate) fn bounds(&self, after: Option<Place>, end: Option<Place>) -> Document {
        if self.prefix.contains_key("_id") {
            return self.prefix.clone();
        }
        let mut range = self.range.clone();
        let (beyond, before) = self.sides();
        range.extend(after.map(|Place { key, .. }| (format!("{beyond}e"), key.into())));
        range.extend(end.map(|Place { key, .. }| (format!("{before}e"), key.into())));
        let mut bounds = self.prefix.clone();
        if !range.is_empty() {
            bounds.insert(self.key, range);
        }
        bounds
    }

    /// Which comparisons lead onward and back.
    const fn sides(&self) -> (&'static str, &'static str) {
        if self.ascending { ("$gt", "$lt") } else { ("$lt", "$gt") }
    }

    pub(crate) fn order(&self) -> Document {
        doc! { self.key: if self.ascending { 1 } else { -1 }, "_id": 1 }
    }
}

impl Place {
    pub(crate) fn continuation(self, phase: u8) -> Continuation {
        let mut bytes = vec![phase];
        bytes.extend(self.key.to_be_bytes());
        bytes.extend(self.id.as_bytes());
        Continuation(bytes)
    }

    /// The phase and the place that [`Place::continuation`] wrote.
    pub(crate) fn parse(after: &Continuation) -> Result<(u8, Self), StoreError> {
        let parse = || {
            let (phase, rest) = after.0.split_first()?;
            let (key, id) = rest.split_first_chunk()?;
            let id = SessionId::from_bytes(id.try_into().ok()?);
            Some((*phase, Self { key: i64::from_be_bytes(*key), id }))
        };
        parse().ok_or_else(Continuation::malformed)
    }
}

impl From<PageCursor> for Place {
    fn from(PageCursor { signed_in, id }: PageCursor) -> Self {
        Self { key: signed_in.as_micros(), id }
    }
}

impl From<Place> for PageCursor {
    fn from(Place { key, id }: Place) -> Self {
        Self { signed_in: Timestamp::from_micros(key), id }
    }
}

/// A selection as what the narrowest index begins with, and the rest.
fn split(selection: &Selection) -> (Document, Document) {
    let Selection { tenant, user, device_kind, client_id, ids, except } = selection;
    let mut conditions: Vec<(&str, Bson)> = Vec::new();
    if let Some(ids) = ids {
        let names: Vec<_> = ids.iter().map(|id| record::name(*id)).collect();
        conditions.push(("_id", doc! { "$in": names }.into()));
    }
    if let Some(user) = user {
        conditions.push(("user_id", user.as_str().into()));
    }
    if let Some(client) = client_id {
        conditions.push(("client_id", client.as_str().into()));
    }
    if let TenantFilter::Is(tenant) = tenant {
        conditions.push(("tenant", tenant.as_ref().map_or("", TenantId::as_str).into()));
    }
    let mut conditions = conditions.into_iter().map(|(name, value)| (name.to_owned(), value));
    let prefix: Document = conditions.next().into_iter().collect();
    let mut rest: Document = conditions.collect();
    if let Some(kind) = device_kind {
        rest.insert("device_kind", kind.as_str());
    }
    if let Some(except) = except {
        rest.insert("_id", doc! { "$ne": record::name(*except) });
    }
    (prefix, rest)
}

const MOST: u32 = PageQuery::MAX_EXAMINED;

#[cfg(all(test, feature = "server-tests"))]
mod tests {
    use mongodb::bson::Bson;
    use session_core::DeviceKind;

    use super::*;
    use crate::options::MongoOptions;

    async fn store() -> MongoStore {
        let url = std::env::var("SESSION_KIT_MONGODB_URL")
            .expect("SESSION_KIT_MONGODB_URL names a server; `cargo xtask test` starts one");
        let database = format!("walk_{:x}", getrandom::u64().unwrap());
        let options = MongoOptions::default().with_database(database).with_push(false);
        MongoStore::connect_with(&url, options).await.unwrap()
    }

    /// An entry of the list; several have the same time.
    fn entry(n: u8, kind: &DeviceKind) -> Document {
        let id = SessionId::from_bytes([n; 16]);
        doc! {
            "_id": record::name(id), "id": record::bytes(id.as_bytes()), "tenant": "",
            "user_id": "alice", "device_kind": kind.as_str(), "signed_in": i64::from(n / 4),
            "client_id": Bson::Null, "absolute_expiry": Bson::Null,
        }
    }

    /// Few of many match: each call looks at some, and the walk sees every match once.
    #[tokio::test]
    async fn a_walk_that_matches_little_comes_in_parts() {
        let store = store().await;
        let matches = [7, 8, 9, 33, 50, 99];
        let kind = |n| if matches.contains(&n) { DeviceKind::Mobile } else { DeviceKind::Web };
        let entries: Vec<_> = (0..100).map(|n| entry(n, &kind(n))).collect();
        store.list.insert_many(entries).await.unwrap();
        let selection = Selection::within(TenantFilter::Any).on(DeviceKind::Mobile);
        let walk = Walk { most: 20, ..Walk::selected(&selection) };
        let (mut seen, mut after, mut calls) = (Vec::new(), None, 0);
        loop {
            let part = store.walk(&walk, after, 2).await.unwrap();
            seen.extend(part.found.iter().map(|ended| ended.id.as_bytes()[0]));
            calls += 1;
            let Some(next) = part.next else { break };
            assert_ne!(after, Some(next));
            after = Some(next);
        }
        assert_eq!(seen, [99, 50, 33, 8, 9, 7], "newest first, ties by id");
        assert!((6..=9).contains(&calls), "{calls} calls for 100 entries, 20 at most in each");
    }
}

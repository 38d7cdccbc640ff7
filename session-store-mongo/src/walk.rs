//! Walks along an index of the list or of the history, a bounded part in each call.
//!
//! The server sees the index's own fields first, cuts there, and applies the other filters to what
//! is left. So a filter that matches nothing costs no more than one that matches everything, and
//! the planner has no reason to take another index.

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use session_core::store::{HistoryQuery, PageCursor, PageQuery, Selection, TenantFilter};
use session_core::{EndCause, InvalidField, SessionId, TenantId, Timestamp};

use crate::collections::Collections;
use crate::error::Failed;
use crate::record;

/// What a walk looks at, and in which order; ties by id.
#[derive(Clone)]
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
    /// Whether whole documents are wanted, or only which sessions they are of.
    pub(crate) whole: bool,
}

/// Where a session stands in a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) key: i64,
    pub(crate) id: SessionId,
}

/// A part of a walk.
pub(crate) struct Part {
    pub(crate) found: Vec<Document>,
    /// Where to go on; none at the end of the walk.
    pub(crate) next: Option<Place>,
}

impl Collections {
    /// Goes on with a walk: up to `limit` documents.
    pub(crate) async fn walk(
        &self,
        collection: &Collection<Document>,
        walk: &Walk,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Part, Failed> {
        let part = self.part(collection, walk, walk.part(after, None, limit), limit).await?;
        if part.next.is_some() || walk.rest.is_empty() {
            return Ok(part);
        }
        // Fewer than wanted: either that is all, or the part ends before.
        let Some(end) = self.end_of_part(collection, walk, after).await? else { return Ok(part) };
        let stages = walk.part(after, Some(end), limit);
        let Part { found, next } = self.part(collection, walk, stages, limit).await?;
        Ok(Part { found, next: next.or(Some(end)) })
    }

    /// Up to `limit` documents, and the place of the last where there are more.
    async fn part(
        &self,
        collection: &Collection<Document>,
        walk: &Walk,
        stages: Vec<Document>,
        limit: usize,
    ) -> Result<Part, Failed> {
        let mut found = self.gather(collection, stages).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| walk.place(last)).transpose()?;
        Ok(Part { found, next })
    }

    /// The last place that one call looks at, where there are more.
    async fn end_of_part(
        &self,
        collection: &Collection<Document>,
        walk: &Walk,
        after: Option<Place>,
    ) -> Result<Option<Place>, Failed> {
        let mut stages = walk.stages(after, None);
        // Somewhat fewer than it looks at, for entries that come and go between its commands.
        stages.push(doc! { "$skip": walk.most / 10 * 9 });
        stages.push(doc! { "$limit": 1 });
        stages.push(doc! { "$project": { walk.key: 1 } });
        let end = self.gather(collection, stages).await?;
        Ok(end.first().map(|end| walk.place(end)).transpose()?)
    }

    /// Causal: what ends sessions after a block was set sees those that began before.
    async fn gather(
        &self,
        collection: &Collection<Document>,
        stages: Vec<Document>,
    ) -> Result<Vec<Document>, Failed> {
        let mut session = self.session().await?;
        let mut found = collection.aggregate(stages).session(&mut session).await?;
        Ok(found.stream(&mut session).try_collect().await?)
    }
}

impl Walk {
    /// Everything that a selection covers, newest sign-in first.
    pub(crate) fn selected(selection: &Selection) -> Self {
        let Selection {
            tenant,
            user,
            device_kind,
            client_id,
            ids,
            signed_in_before,
            last_accessed_before,
            except,
        } = selection;
        let names = |ids: &Vec<SessionId>| -> Bson {
            let names: Vec<_> = ids.iter().map(|id| record::name(*id)).collect();
            doc! { "$in": names }.into()
        };
        let mut conditions = vec![
            ("_id", ids.as_ref().map(names)),
            ("user_id", user.as_ref().map(|user| user.as_str().into())),
            ("client_id", client_id.as_ref().map(|client| client.as_str().into())),
            ("tenant", of_tenant(tenant)),
        ];
        let prefix = narrowest(&mut conditions);
        conditions.push(("device_kind", device_kind.as_ref().map(|kind| kind.as_str().into())));
        let mut walk = Self { whole: false, ..Self::new("signed_in", prefix, conditions) };
        if let Some(before) = signed_in_before {
            walk.range.insert("$lt", before.as_micros());
        }
        if ids.is_some() && !walk.range.is_empty() {
            // The index of the ids does not have it.
            walk.rest.insert(walk.key, std::mem::take(&mut walk.range));
        }
        if let Some(before) = last_accessed_before {
            walk.rest.insert("last_accessed", doc! { "$lt": before.as_micros() });
        }
        if let Some(except) = except {
            walk.rest.insert("_id", doc! { "$ne": record::name(*except) });
        }
        walk
    }

    /// Everything that a page query covers.
    pub(crate) fn listed(query: &PageQuery) -> Self {
        let mut narrowed = Selection::within(query.tenant.clone());
        narrowed.user.clone_from(&query.user);
        narrowed.device_kind.clone_from(&query.device_kind);
        narrowed.client_id.clone_from(&query.client_id);
        let mut walk = Self::selected(&narrowed);
        if let Some(from) = query.active_since {
            walk.rest.insert("last_accessed", doc! { "$gte": from.as_micros() });
        }
        walk.rest.insert("deadline", doc! { "$gt": query.now.as_micros() });
        walk
    }

    /// Everything that a query of the history covers.
    pub(crate) fn ended(query: &HistoryQuery) -> Self {
        let HistoryQuery { tenant, user, device_kind, client_id, cause, since, after: _, limit: _ } =
            query;
        let mut conditions = vec![
            ("user_id", user.as_ref().map(|user| user.as_str().into())),
            ("tenant", of_tenant(tenant)),
        ];
        let prefix = narrowest(&mut conditions);
        conditions.extend([
            ("client_id", client_id.as_ref().map(|client| client.as_str().into())),
            ("device_kind", device_kind.as_ref().map(|kind| kind.as_str().into())),
            ("cause", cause.map(of_cause)),
        ]);
        let mut walk = Self::new("ended", prefix, conditions);
        if let Some(since) = since {
            walk.range.extend(at_least(since.as_micros()));
        }
        walk
    }

    /// Everything whose deadline was before a time, the oldest first.
    pub(crate) fn overdue(line: Timestamp) -> Self {
        let mut walk = Self::new("deadline", Document::new(), Vec::new());
        walk.range.insert("$lt", line.as_micros());
        Self { ascending: true, whole: false, ..walk }
    }

    /// A walk from the highest key on.
    fn new(key: &'static str, prefix: Document, rest: Vec<(&str, Option<Bson>)>) -> Self {
        let rest = rest.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let (range, rest) = (Document::new(), rest.collect());
        Self { prefix, key, range, ascending: false, rest, most: MOST, whole: true }
    }

    /// A part of the walk. One more than the limit is asked for, to know whether there is more.
    fn part(&self, after: Option<Place>, end: Option<Place>, limit: usize) -> Vec<Document> {
        let mut stages = self.stages(after, end);
        stages.push(doc! { "$limit": self.most });
        if !self.rest.is_empty() {
            stages.push(doc! { "$match": &self.rest });
        }
        stages.push(doc! { "$limit": i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1 });
        if !self.whole {
            stages.push(doc! { "$project": { "id": 1, "tenant": 1, "user_id": 1, self.key: 1 } });
        }
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

    /// The place of a document that the walk has found.
    pub(crate) fn place(&self, entry: &Document) -> Result<Place, InvalidField> {
        let name = entry.get_str("_id").map_err(|_| record::malformed("_id"))?;
        Ok(Place { key: record::number(entry, self.key)?, id: record::parse_name(name)? })
    }

    /// The bounds of the walk, ties included. Sessions that are known by their ids need none.
    pub(crate) fn bounds(&self, after: Option<Place>, end: Option<Place>) -> Document {
        if self.prefix.contains_key("_id") {
            return self.prefix.clone();
        }
        let mut range = self.range.clone();
        let (low, high) = if self.ascending { (after, end) } else { (end, after) };
        range.extend(low.and_then(|low| at_least(low.key)));
        range.extend(high.map(|high| ("$lte".to_owned(), high.key.into())));
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

impl From<PageCursor> for Place {
    fn from(PageCursor { at, id }: PageCursor) -> Self {
        Self { key: at.as_micros(), id }
    }
}

impl From<Place> for PageCursor {
    fn from(Place { key, id }: Place) -> Self {
        Self { at: Timestamp::from_micros(key), id }
    }
}

/// Takes the first condition that is given: the index that begins with it is the narrowest.
fn narrowest(conditions: &mut Vec<(&'static str, Option<Bson>)>) -> Document {
    let first = conditions.iter().position(|(_, value)| value.is_some());
    let first = first.map(|place| conditions.remove(place));
    first.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// A lower bound; the lowest number needs none. SecantusDB leaves out the bound of a `$gte` where
/// the index begins with another field.
fn at_least(key: i64) -> Option<(String, Bson)> {
    Some(("$gt".to_owned(), key.checked_sub(1)?.into()))
}

fn of_tenant(tenant: &TenantFilter) -> Option<Bson> {
    match tenant {
        TenantFilter::Any => None,
        TenantFilter::Is(tenant) => Some(tenant.as_ref().map_or("", TenantId::as_str).into()),
    }
}

/// Causes of a newer version are all unknown.
fn of_cause(cause: EndCause) -> Bson {
    if cause == EndCause::Unknown {
        let known: Vec<_> = EndCause::ALL.iter().map(|cause| cause.as_str()).collect();
        return doc! { "$nin": known }.into();
    }
    cause.as_str().into()
}

const MOST: u32 = PageQuery::MAX_EXAMINED;

#[cfg(all(test, feature = "server-tests"))]
mod tests {
    use mongodb::bson::Bson;
    use session_core::DeviceKind;

    use super::*;
    use crate::MongoStore;
    use crate::options::MongoOptions;

    async fn store() -> Collections {
        let url = std::env::var("SESSION_KIT_MONGODB_URL")
            .expect("SESSION_KIT_MONGODB_URL names a server; `cargo xtask test` starts one");
        let database = format!("walk_{:x}", getrandom::u64().unwrap());
        let options = MongoOptions::default().with_database(database).with_push(false);
        MongoStore::connect_with(&url, options).await.unwrap().calls.clone()
    }

    /// An entry of the list; several have the same time.
    fn entry(n: u8, kind: &DeviceKind) -> Document {
        let id = SessionId::from_bytes([n; 16]);
        doc! {
            "_id": record::name(id), "id": record::bytes(id.as_bytes()), "tenant": "",
            "user_id": "alice", "device_kind": kind.as_str(), "signed_in": i64::from(n / 4),
            "client_id": Bson::Null, "deadline": i64::MAX,
        }
    }

    /// Few of many match: each call looks at some, and the walk sees every match once, whichever
    /// index it goes by.
    #[tokio::test]
    async fn a_walk_that_matches_little_comes_in_parts() {
        let selection = Selection::within(TenantFilter::Any).on(DeviceKind::Mobile);
        sees_every_match_once(&selection).await;
        let of_none = Selection { tenant: TenantFilter::Is(None), ..selection };
        sees_every_match_once(&of_none).await;
    }

    async fn sees_every_match_once(selection: &Selection) {
        let store = store().await;
        let matches = [7, 8, 9, 33, 50, 99];
        let kind = |n| if matches.contains(&n) { DeviceKind::Mobile } else { DeviceKind::Web };
        let entries: Vec<_> = (0..100).map(|n| entry(n, &kind(n))).collect();
        store.list.insert_many(entries).await.unwrap();
        let walk = Walk { most: 20, ..Walk::selected(selection) };
        let (mut seen, mut after, mut calls) = (Vec::new(), None, 0);
        loop {
            let part = store.walk(&store.list, &walk, after, 2).await.unwrap();
            seen.extend(part.found.iter().map(|entry| walk.place(entry).unwrap().id.as_bytes()[0]));
            calls += 1;
            let Some(next) = part.next else { break };
            assert_ne!(after, Some(next));
            after = Some(next);
        }
        assert_eq!(seen, [99, 50, 33, 8, 9, 7], "newest first, ties by id");
        assert!((6..=9).contains(&calls), "{calls} calls for 100 entries, 20 at most in each");
    }
}

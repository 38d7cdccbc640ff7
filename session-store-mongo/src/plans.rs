//! Asks the planner of a real server: nothing that a request or a worker can reach reads a whole
//! collection.

use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use session_core::checker::Timeouts;
use session_core::cleanup::SweepRule;
use session_core::store::{PageCursor, PageQuery, Selection, TenantFilter, UserTag};
use session_core::{ClientId, DeviceKind, SessionId, Timestamp, UserId, UserKey};

use crate::end::old;
use crate::log::since;
use crate::outbox::overdue;
use crate::read::{by_tag, empty, page_filter, selection_filter, tag_key};
use crate::store::{MongoOptions, MongoStore};

async fn stages(
    collection: &Collection<Document>,
    store: &MongoStore,
    filter: &Document,
    hint: Option<&Document>,
    sort: Option<Document>,
) -> String {
    let mut find = doc! { "find": collection.name(), "filter": filter, "limit": 50 };
    if let Some(sort) = sort {
        find.insert("sort", sort);
    }
    if let Some(hint) = hint {
        find.insert("hint", hint);
    }
    let explain = doc! { "explain": find, "verbosity": "queryPlanner" };
    let database = store.client.database(&collection.namespace().db);
    let plan = database.run_command(explain).await.unwrap();
    let planner = plan.get_document("queryPlanner").unwrap();
    Bson::from(planner.get_document("winningPlan").unwrap().clone()).to_string()
}

fn pages() -> Vec<PageQuery> {
    let now = Timestamp::from_micros(5_000);
    let first = PageQuery::live(TenantFilter::Any, Timeouts::none(), now);
    let after = Some(PageCursor { signed_in: now, id: SessionId::from_bytes([1; 16]) });
    let mut queries = Vec::new();
    for query in [first.clone(), PageQuery { after, ..first }] {
        queries.push(PageQuery { user: UserId::new("alice").ok(), ..query.clone() });
        for tenant in [TenantFilter::Any, TenantFilter::Is(None)] {
            let query = PageQuery { tenant, ..query.clone() };
            queries.push(PageQuery { active_since: Some(now), ..query.clone() });
            queries.push(PageQuery { device_kind: Some(DeviceKind::Web), ..query.clone() });
            queries.push(PageQuery { client_id: ClientId::new("shop").ok(), ..query });
        }
    }
    queries
}

fn selections() -> Vec<Selection> {
    let owner = UserKey::new(UserId::new("alice").unwrap());
    let id = SessionId::from_bytes([1; 16]);
    vec![
        Selection::session(id, TenantFilter::Any),
        Selection::user(owner.clone()),
        Selection::user(owner).on(DeviceKind::Web).except(id),
        Selection::within(TenantFilter::Is(None)),
        Selection::within(TenantFilter::Any),
    ]
}

#[tokio::test]
async fn every_query_uses_an_index() {
    let url = std::env::var("SESSION_KIT_MONGODB_URL")
        .expect("SESSION_KIT_MONGODB_URL names a server; `cargo xtask test` starts one");
    let database = format!("plans_{}", std::process::id());
    let options = MongoOptions { database, ..MongoOptions::default() };
    let store = MongoStore::connect(&url, options).await.unwrap();
    let sorted = || Some(doc! { "signed_in": -1, "_id": 1 });
    let mut queries = Vec::new();
    for query in &pages() {
        let (filter, index) = page_filter(query, query.after);
        queries.push((&store.list, filter, Some(index), sorted()));
    }
    for selection in &selections() {
        let (filter, index) = selection_filter(selection);
        queries.push((&store.list, filter, Some(index), None));
    }
    let line = Timestamp::from_micros(5_000);
    for filter in old(&SweepRule { inactive_before: line, expired_by: line }) {
        queries.push((&store.list, filter, None, None));
    }
    let tag = UserTag::of(SessionId::from_bytes([1; 16]));
    let some = doc! { "_id": { "$in": [tag_key(tag), tag_key(tag) + 1] } };
    for filter in [by_tag(tag), some, overdue()] {
        queries.push((&store.users, filter, None, None));
    }
    queries.push((&store.users, empty(tag), Some(doc! { "_id": 1 }), None));
    queries.push((&store.log, since(7), None, Some(doc! { "number": 1 })));
    queries.push((&store.log, since(7), None, Some(doc! { "number": -1 })));
    queries.push((&store.log, doc! { "_id": 7_i64 }, None, None));
    for (collection, filter, index, sort) in queries {
        let plan = stages(collection, &store, &filter, index.as_ref(), sort).await;
        assert!(plan.contains("IXSCAN") || plan.contains("IDHACK"), "{filter}\n{plan}");
        assert!(!plan.contains("COLLSCAN"), "{filter}\n{plan}");
    }
    let whole = stages(&store.list, &store, &doc! { "device_kind": "Web" }, None, None).await;
    assert!(whole.contains("COLLSCAN"), "the planner is asked the right question: {whole}");
}

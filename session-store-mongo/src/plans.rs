//! Asks the planner of a real server: nothing that a request or a worker can reach reads a whole
//! collection.

use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use session_core::checker::Timeouts;
use session_core::cleanup::SweepRule;
use session_core::store::{PageQuery, Selection, TenantFilter, UserTag};
use session_core::{ClientId, DeviceKind, SessionId, Timestamp, UserId, UserKey};

use crate::end::old;
use crate::log::{between, since};
use crate::options::MongoOptions;
use crate::outbox::overdue;
use crate::read::by_tag;
use crate::record::tag_key;
use crate::store::MongoStore;
use crate::walk::{Place, Walk};

async fn plan(
    collection: &Collection<Document>,
    store: &MongoStore,
    filter: &Document,
    sort: Option<Document>,
) -> String {
    let mut find = doc! { "find": collection.name(), "filter": filter, "limit": 50 };
    if let Some(sort) = sort {
        find.insert("sort", sort);
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
    let mut queries = vec![PageQuery { user: UserId::new("alice").ok(), ..first.clone() }];
    for tenant in [TenantFilter::Any, TenantFilter::Is(None)] {
        let query = PageQuery { tenant, ..first.clone() };
        queries.push(PageQuery { active_since: Some(now), ..query.clone() });
        queries.push(PageQuery { device_kind: Some(DeviceKind::Web), ..query.clone() });
        queries.push(PageQuery { client_id: ClientId::new("shop").ok(), ..query });
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
    let store = MongoStore::connect_with(&url, options).await.unwrap();
    let now = Timestamp::from_micros(5_000);
    let id = SessionId::from_bytes([1; 16]);
    let place = Some(Place { key: 5_000, id });
    let mut walks: Vec<_> = pages().iter().map(Walk::listed).collect();
    walks.extend(selections().iter().map(Walk::selected));
    let mut queries = Vec::new();
    for walk in &walks {
        // The first part of a walk over all sessions has no bound but its order.
        queries.push((&store.list, walk.bounds(place, None), Some(walk.order())));
        queries.push((&store.list, walk.bounds(place, place), Some(walk.order())));
    }
    for walk in old(&SweepRule { inactive_before: now, expired_by: now }) {
        queries.push((&store.list, walk.bounds(None, None), Some(walk.order())));
    }
    let tag = UserTag::of(id);
    let some = doc! { "_id": { "$in": [tag_key(tag), tag_key(tag) + 1] } };
    for filter in [by_tag(tag), some, overdue()] {
        queries.push((&store.users, filter, None));
    }
    queries.push((&store.log, between(7, 9), Some(doc! { "number": 1 })));
    queries.push((&store.log, since(7), Some(doc! { "number": -1 })));
    queries.push((&store.log, doc! { "order": { "$gt": 0_i64 } }, Some(doc! { "order": 1 })));
    queries.push((&store.log, doc! { "_id": 7_i64, "order": { "$exists": true } }, None));
    for (collection, filter, sort) in queries {
        let plan = plan(collection, &store, &filter, sort).await;
        assert!(plan.contains("IXSCAN") || plan.contains("IDHACK"), "{filter}\n{plan}");
        assert!(!plan.contains("COLLSCAN"), "{filter}\n{plan}");
    }
    let whole = plan(&store.list, &store, &doc! { "device_kind": "Web" }, None).await;
    assert!(whole.contains("COLLSCAN"), "the planner is asked the right question: {whole}");
}

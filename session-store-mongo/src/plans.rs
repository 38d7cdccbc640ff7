//! Asks the planner of a real server: nothing that a request or a worker can reach reads a whole
//! collection.

use mongodb::Collection;
use mongodb::bson::{Bson, DateTime, Document, doc};
use session_core::policy::PolicyScope;
use session_core::store::{HistoryQuery, PageQuery, Selection, TenantFilter, UserTag};
use session_core::{ClientId, DeviceKind, EndCause, SessionId, Timestamp, UserId, UserKey};

use crate::MongoStore;
use crate::collections::{Collections, over};
use crate::history::oldest_first;
use crate::log::{between, since};
use crate::options::MongoOptions;
use crate::outbox::waiting;
use crate::places::at_places;
use crate::read::by_tag;
use crate::record::tag_key;
use crate::walk::{Place, Walk};

async fn plan(
    collection: &Collection<Document>,
    store: &Collections,
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
    let first = PageQuery::live(TenantFilter::Any, now);
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
        Selection::within(TenantFilter::Any).signed_in_before(Timestamp::from_micros(9_000)),
    ]
}

fn histories() -> Vec<HistoryQuery> {
    let owner = UserKey::new(UserId::new("alice").unwrap());
    let mut queries = vec![HistoryQuery::user(owner)];
    for tenant in [TenantFilter::Any, TenantFilter::Is(None)] {
        let query = HistoryQuery::within(tenant);
        let since = Some(Timestamp::from_micros(1_000));
        queries.push(HistoryQuery { since, ..query.clone() });
        queries.push(HistoryQuery { cause: Some(EndCause::Evicted), ..query.clone() });
        queries.push(HistoryQuery { client_id: ClientId::new("shop").ok(), ..query });
    }
    queries
}

#[tokio::test]
async fn every_query_uses_an_index() {
    let url = std::env::var("SESSION_KIT_MONGODB_URL")
        .expect("SESSION_KIT_MONGODB_URL names a server; `cargo xtask test` starts one");
    let database = format!("plans_{}", std::process::id());
    let options = MongoOptions { database, ..MongoOptions::default() };
    let store = MongoStore::connect_with(&url, options).await.unwrap().calls.clone();
    let now = Timestamp::from_micros(5_000);
    let id = SessionId::from_bytes([1; 16]);
    let place = Some(Place { key: 5_000, id });
    let listed = pages().iter().map(Walk::listed).collect::<Vec<_>>();
    let selected = selections().iter().map(Walk::selected).collect::<Vec<_>>();
    let ended = histories().iter().map(Walk::ended).collect::<Vec<_>>();
    let mut queries = Vec::new();
    let walks = [(&store.list, listed), (&store.list, selected), (&store.history, ended)];
    for (collection, walks) in &walks {
        for walk in walks {
            // The first part of a walk over all sessions has no bound but its order.
            queries.push((*collection, walk.bounds(place, None), Some(walk.order())));
            queries.push((*collection, walk.bounds(place, place), Some(walk.order())));
        }
    }
    let overdue = Walk::overdue(now);
    queries.push((&store.list, overdue.bounds(None, None), Some(overdue.order())));
    let tag = UserTag::of(id);
    let some = doc! { "_id": { "$in": [tag_key(tag), tag_key(tag) + 1] } };
    for filter in [by_tag(tag), some] {
        queries.push((&store.users, filter, None));
    }
    for authors in [&store.users, &store.places] {
        queries.push((authors, waiting(), Some(doc! { "waiting": 1 })));
    }
    let owner = UserKey::new(UserId::new("alice").unwrap());
    queries.push((&store.places, at_places(&PolicyScope::of(&owner)), None));
    let old = doc! { "ended": { "$gt": i64::MIN } };
    queries.push((&store.history, old, Some(oldest_first())));
    queries.push((&store.log, between(7, 9), Some(doc! { "number": 1 })));
    queries.push((&store.log, since(7), Some(doc! { "number": -1 })));
    queries.push((&store.log, doc! { "order": { "$gt": 0_i64 } }, Some(doc! { "order": 1 })));
    queries.push((&store.leases, over(DateTime::now()), None));
    for (collection, filter, sort) in queries {
        let plan = plan(collection, &store, &filter, sort).await;
        assert!(plan.contains("IXSCAN") || plan.contains("IDHACK"), "{filter}\n{plan}");
        assert!(!plan.contains("COLLSCAN"), "{filter}\n{plan}");
    }
    let whole = plan(&store.list, &store, &doc! { "device_kind": "Web" }, None).await;
    assert!(whole.contains("COLLSCAN"), "the planner is asked the right question: {whole}");
}

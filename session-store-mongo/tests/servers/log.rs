//! The log's numbers, which readers give.

use std::sync::Arc;
use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::{Document, doc};
use session_conformance::faults::Proxy;
use session_conformance::sample::{PATIENCE, insert, now, session, user};
use session_core::store::{Change, Commit, Cursor, Entries, LogPosition, Outcome, Selection};
use session_core::store::{EndMany, PageQuery, Version};
use session_core::{
    Actor, EndCause, Event, EventKind, Session, SessionId, Store, Timestamp, UserKey,
};
use session_store_mongo::{MongoStore, Transactions};

use crate::namespace::{ALONE, Fresh};

async fn collection(fresh: &Fresh, name: &str) -> Collection<Document> {
    let client = mongodb::Client::with_uri_str(crate::namespace::url()).await.unwrap();
    client.database(&fresh.options.database).collection(&format!("session_kit_{name}"))
}

async fn end_of(store: &MongoStore) -> Cursor {
    store.log_since(None, Entries::All, 0).await.unwrap().next
}

/// Signs a user in and out, one session at a time, and returns the sessions in their order.
async fn come_and_go(store: Arc<MongoStore>, owner: UserKey, times: usize) -> Vec<SessionId> {
    let mut ids = Vec::new();
    for _ in 0..times {
        let mine = session(&*store, &owner, now(&*store).await);
        insert(&*store, &mine).await;
        ids.push(mine.id);
        let end = EndMany {
            selection: Selection::user(owner.clone()),
            after: None,
            cause: EndCause::Revoked,
            at: now(&*store).await,
            by: Actor::Application,
            from: None,
        };
        assert_eq!(store.end_many(&end, 10).await.unwrap().ended.len(), 1);
    }
    ids
}

/// Reads page after page until it has all of these events.
async fn follow(store: Arc<MongoStore>, mut cursor: Cursor, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let page = store.log_since(Some(&cursor), Entries::All, 3).await.unwrap();
        assert!(!page.gap);
        let number = |cursor: &Cursor| LogPosition::parse(cursor).unwrap().number;
        let read = i64::try_from(page.events.len()).unwrap();
        assert_eq!(number(&page.next), number(&cursor) + read, "no number is passed over");
        cursor = page.next;
        events.extend(page.events);
    }
    events
}

/// Three nodes number at once what three others write: all readers see the same log, with every
/// user's changes in their order, although the user is forgotten with each of them.
#[tokio::test(flavor = "multi_thread")]
async fn readers_that_number_at_once_agree() {
    const TIMES: usize = 8;
    let _alone = ALONE.read().await;
    for transactions in [Transactions::WhereThereAre, Transactions::Never] {
        let fresh = Fresh::new(transactions);
        let cursor = end_of(&fresh.store().await).await;
        let (mut writers, mut readers) = (Vec::new(), Vec::new());
        for name in ["alice", "bob", "carol"] {
            let store = Arc::new(fresh.store().await);
            writers.push(tokio::spawn(come_and_go(store, user(name), TIMES)));
            let store = Arc::new(fresh.store().await);
            readers.push(tokio::spawn(follow(store, cursor.clone(), 3 * 2 * TIMES)));
        }
        let mut logs = Vec::new();
        for reader in readers {
            logs.push(reader.await.unwrap());
        }
        assert!(logs.iter().all(|log| *log == logs[0]), "all nodes read the same log");
        for writer in writers {
            let ids = writer.await.unwrap();
            let told = logs[0].iter().filter_map(|event| event.session);
            let told: Vec<_> = told.filter(|id| ids.contains(id)).collect();
            let right: Vec<_> = ids.iter().flat_map(|id| [*id, *id]).collect();
            assert_eq!(told, right);
        }
    }
}

/// A reader decided about numbers and died before it gave them.
#[tokio::test]
async fn the_next_reader_does_what_a_dead_one_decided() {
    let _alone = ALONE.read().await;
    let fresh = Fresh::new(Transactions::WhereThereAre);
    let store = Arc::new(fresh.store().await);
    let cursor = end_of(&store).await;
    let at = now(&*store).await;
    for name in ["alice", "bob", "carol"] {
        // Nothing here reads the log.
        let begun = begins(&session(&*store, &user(name), at));
        assert_eq!(store.commit(&begun).await.unwrap(), Outcome::Done);
    }
    let log = collection(&fresh, "log").await;
    let mark = |entry: Document| entry.get_i64("_id").unwrap();
    let find = |name| log.find_one(doc! { "user_id": name });
    let carol = mark(find("carol").await.unwrap().unwrap());
    let alice = mark(find("alice").await.unwrap().unwrap());
    let decided = doc! { "_id": "log", "last": 2_i64, "batch": [carol, alice] };
    collection(&fresh, "agreement").await.insert_one(decided).await.unwrap();
    let events = follow(store, cursor, 3).await;
    let users: Vec<_> = events.iter().map(|event| event.user.as_ref().unwrap().as_str()).collect();
    assert_eq!(users, ["carol", "alice", "bob"]);
}

/// The node that made a change could not deliver it. A second try that finds the change done by
/// reading the user, the session, or by a conflict has waited for the delivery.
#[tokio::test]
async fn what_finds_a_change_done_delivers_it_first() {
    let _alone = ALONE.read().await;
    for way in 0..3 {
        let fresh = Fresh::new(Transactions::Never);
        let store = fresh.store().await;
        let mine = session(&store, &user("alice"), now(&store).await);
        insert(&store, &mine).await;
        let log = collection(&fresh, "log").await;
        let told = log.find_one_and_delete(doc! { "user_id": "alice" }).await.unwrap().unwrap();
        // No reader of the log takes it over during this test.
        let waiting = mongodb::bson::DateTime::from_millis(253_370_764_800_000);
        let left = doc! { "$set": { "outbox": [{ "entry": told }], "waiting": waiting } };
        collection(&fresh, "users").await.update_one(doc! {}, left).await.unwrap();
        match way {
            0 => assert_eq!(store.user(&mine.owner).await.unwrap().sessions.len(), 1),
            1 => assert!(store.load(mine.id).await.unwrap().is_some()),
            _ => assert_eq!(store.commit(&begins(&mine)).await.unwrap(), Outcome::Conflict),
        }
        assert_eq!(log.count_documents(doc! { "user_id": "alice" }).await.unwrap(), 1, "{way}");
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
    }
}

fn begins(session: &Session) -> Commit {
    Commit {
        owner: session.owner.clone(),
        expected: Version::NONE,
        changes: vec![Change::Insert(Box::new(session.clone()))],
        at: session.signed_in,
        by: Actor::Application,
        from: None,
    }
}

/// A read where nothing is new writes nothing: no number, no decision.
#[tokio::test]
async fn an_idle_read_writes_nothing() {
    let _alone = ALONE.read().await;
    let fresh = Fresh::new(Transactions::WhereThereAre);
    let store = fresh.store().await;
    insert(&store, &session(&store, &user("alice"), now(&store).await)).await;
    assert_eq!(store.report().await.unwrap().pending, 1);
    let cursor = end_of(&store).await;
    let report = store.report().await.unwrap();
    assert_eq!((report.pending, report.problems), (0, Vec::new()));
    assert!(report.log_from.is_some_and(|from| from > Timestamp::EPOCH));
    let head = collection(&fresh, "agreement").await;
    head.delete_one(doc! { "_id": "log" }).await.unwrap();
    let page = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
    assert_eq!((page.next, page.more, page.gap), (cursor.clone(), false, false));
    assert!(head.find_one(doc! { "_id": "log" }).await.unwrap().is_none());
    // The numbers go on where they were all the same.
    insert(&store, &session(&store, &user("bob"), now(&store).await)).await;
    assert_eq!(follow(Arc::new(store), cursor, 1).await.len(), 1);
}

/// An entry of a newer version may be an invalidation. It counts as missed where it names no
/// session.
#[tokio::test]
async fn an_entry_of_an_unknown_kind_is_read() {
    let _alone = ALONE.read().await;
    let fresh = Fresh::new(Transactions::WhereThereAre);
    let store = fresh.store().await;
    let cursor = end_of(&store).await;
    let mine = session(&store, &user("alice"), now(&store).await);
    insert(&store, &mine).await;
    let quiet = store.log_since(Some(&cursor), Entries::Invalidations, 10).await.unwrap();
    assert_eq!((quiet.events.len(), quiet.more, quiet.gap), (0, false, false));
    assert_ne!(quiet.next, cursor, "what is not wanted is passed over");
    let log = collection(&fresh, "log").await;
    let unknown = doc! { "$set": { "kind": "of a newer version" } };
    log.update_one(doc! {}, unknown).await.unwrap();
    let page = store.log_since(Some(&cursor), Entries::Invalidations, 10).await.unwrap();
    let [event] = &page.events[..] else { panic!("{page:?}") };
    assert_eq!((event.kind, event.session), (EventKind::Unknown, Some(mine.id)));
    assert!(!page.gap && !page.more && page.next == quiet.next, "{page:?}");
    log.update_one(doc! {}, doc! { "$set": { "session_id": null } }).await.unwrap();
    let page = store.log_since(Some(&cursor), Entries::Invalidations, 10).await.unwrap();
    assert!(page.gap && page.events.is_empty() && page.next == quiet.next, "{page:?}");
}

/// Changes are heard of while no other call is answered: the driver's pool has one connection, which
/// is silent.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_besides_the_drivers_pool() {
    let _alone = ALONE.read().await;
    let fresh = Fresh::new(Transactions::WhereThereAre);
    let (proxy, url) = (Proxy::listen().await, crate::namespace::url());
    let server = url.strip_prefix("mongodb://").unwrap();
    let (server, options) = server.split_once('/').unwrap();
    proxy.forward(server);
    let here = format!("mongodb://127.0.0.1:{}/{options}&maxPoolSize=1", proxy.port());
    let mut options = fresh.options.clone();
    options.timeout = PATIENCE;
    let here = MongoStore::connect_with(&here, options).await.unwrap();
    let there = fresh.store().await;
    let at = now(&there).await;
    let [unknown, begun] = ["alice", "bob"].map(|name| session(&there, &user(name), at));
    let cursor = end_of(&here).await;
    assert!(here.load(unknown.id).await.unwrap().is_none());
    let name: String = unknown.id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(proxy.silence(name.as_bytes()), 1);
    insert(&there, &begun).await;
    let told = tokio::select! {
        biased;
        loaded = here.load(unknown.id) => panic!("its connection is silent: {loaded:?}"),
        told = here.log_since(Some(&cursor), Entries::All, 10) => told.unwrap(),
    };
    assert_eq!(told.events.len(), 1);
}

/// However many a caller asks for, one call reads and deletes a bounded number.
#[tokio::test]
async fn a_trim_without_a_limit_comes_in_parts() {
    let _alone = ALONE.read().await;
    let fresh = Fresh::new(Transactions::Never);
    let store = fresh.store().await;
    let most = i64::from(PageQuery::MAX_EXAMINED);
    let entries = (1..=most + 11).map(|number| {
        doc! { "_id": number, "number": number, "kind": "created", "at": 1_i64, "actor": "system" }
    });
    collection(&fresh, "log").await.insert_many(entries).await.unwrap();
    let mut trimmed = Vec::new();
    for _ in 0..3 {
        trimmed.push(store.trim_log(Duration::ZERO, u32::MAX).await.unwrap());
    }
    assert_eq!(trimmed, [PageQuery::MAX_EXAMINED, 10, 0], "the newest stays");
}

//! Documents that cannot be read.

use std::time::{Duration, SystemTime};

use mongodb::bson::{DateTime, Document, doc};
use session_conformance::sample::{end, end_all, insert, now, session, sweep_all, user_in};
use session_core::store::{
    Change, Commit, Entries, PageQuery, Selection, TenantFilter, Touch, Version,
};
use session_core::{Actor, EndCause, Session, SessionId, Store, StoreErrorKind};
use session_store_mongo::{MongoStore, Transactions};

use crate::list;
use crate::namespace::{ALONE, Fresh, named};

/// An entry of the list whose owner cannot be read stops neither a selection nor the cleanup.
#[tokio::test]
async fn an_ending_passes_over_what_it_cannot_read() {
    let _alone = ALONE.read().await;
    for transactions in [Transactions::WhereThereAre, Transactions::Never] {
        for sweeps in [false, true] {
            let fresh = Fresh::new(transactions);
            let store = fresh.store().await;
            let (owner, begun) = (user_in("north", "alice"), now(&store).await);
            let mut ids = Vec::new();
            for age in [3, 2, 1] {
                let past = begun.minus(Duration::from_secs(age));
                let mut mine = session(&store, &owner, past);
                mine.deadline = past;
                insert(&store, &mine).await;
                ids.push(mine.id);
            }
            let second = doc! { "_id": named(ids[1]) };
            let damage = doc! { "$set": { "user_id": 7 } };
            let damaged = list(&fresh).await.update_one(second, damage).await.unwrap();
            assert_eq!(damaged.modified_count, 1);
            let ended = if sweeps {
                sweep_all(&store, Duration::ZERO, 1).await
            } else {
                let north = Selection::within(TenantFilter::Is(owner.tenant.clone()));
                end_all(&store, end(&store, north).await, 1).await
            };
            let mut ended: Vec<_> = ended.iter().map(|ended| ended.id).collect();
            ended.sort_by_key(|id| ids.iter().position(|known| known == id));
            assert_eq!(ended, [ids[0], ids[2]], "{transactions:?}, a sweep: {sweeps}");
            assert!(store.load(ids[1]).await.unwrap().is_some());
        }
    }
}

/// Ways to damage the document of a user who has this session.
fn damages(id: SessionId) -> [(&'static str, Document); 3] {
    [
        ("a session", doc! { format!("sessions.{}", named(id)): 7 }),
        ("all sessions", doc! { "sessions": 7 }),
        ("the version", doc! { "version": "x" }),
    ]
}

async fn damage(fresh: &Fresh, id: SessionId, damage: &Document) {
    let database = fresh.database().await;
    let users = fresh.collection(&database, "users");
    let of_session = doc! { format!("sessions.{}", named(id)): { "$exists": true } };
    let damaged = users.update_one(of_session, doc! { "$set": damage }).await.unwrap();
    assert_eq!(damaged.modified_count, 1);
}

/// One session of each of three users, who signed in one after the other.
async fn three_users(store: &MongoStore, lasts: Duration) -> [Session; 3] {
    let begun = now(store).await;
    let mut sessions = [("alice", 3), ("bob", 2), ("carol", 1)].map(|(name, age)| {
        session(store, &user_in("north", name), begun.minus(Duration::from_secs(age)))
    });
    for session in &mut sessions {
        session.deadline = session.signed_in.plus(lasts);
        insert(store, session).await;
    }
    sessions
}

fn in_north() -> TenantFilter {
    TenantFilter::Is(user_in("north", "alice").tenant)
}

/// A user whose document is damaged keeps no other user's sessions from ending. Only calls about that
/// user fail, and the session stays where the cleanup finds it once the document is repaired.
#[tokio::test]
async fn an_ending_passes_over_a_damaged_user() {
    let _alone = ALONE.read().await;
    for transactions in [Transactions::WhereThereAre, Transactions::Never] {
        for (n, sweeps) in [0, 1, 2].into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let fresh = Fresh::new(transactions);
            let store = fresh.store().await;
            let [alice, bob, carol] = three_users(&store, Duration::ZERO).await;
            let (what, how) = damages(bob.id)[n].clone();
            damage(&fresh, bob.id, &how).await;
            let mut ended = if sweeps {
                sweep_all(&store, Duration::ZERO, 10).await
            } else {
                end_all(&store, end(&store, Selection::within(in_north())).await, 10).await
            };
            ended.sort_by_key(|ended| ended.id != alice.id);
            let ended: Vec<_> = ended.iter().map(|ended| ended.id).collect();
            assert_eq!(ended, [alice.id, carol.id], "{what}, {transactions:?}, a sweep: {sweeps}");
            let listed = list(&fresh).await.find_one(doc! { "_id": named(bob.id) }).await.unwrap();
            assert!(listed.is_some(), "{what}, {transactions:?}, a sweep: {sweeps}");
            fails_for_its_user(&store, &bob, what).await;
        }
    }
}

async fn fails_for_its_user(store: &MongoStore, damaged: &Session, what: &str) {
    let commit = Commit {
        owner: damaged.owner.clone(),
        expected: Version(1),
        changes: vec![Change::End(damaged.id, EndCause::SignedOut)],
        at: damaged.signed_in,
        by: Actor::Application,
        from: None,
    };
    let errors = [
        store.user(&damaged.owner).await.err(),
        store.load(damaged.id).await.err(),
        store.commit(&commit).await.err(),
    ];
    let kinds = errors.map(|error| error.map(|error| error.kind()));
    assert_eq!(kinds, [Some(StoreErrorKind::Corrupt); 3], "{what}: user, load, commit");
}

/// Nor does it keep them from being listed, or their uses from being written back.
#[tokio::test]
async fn a_page_and_a_write_back_pass_over_a_damaged_user() {
    let _alone = ALONE.read().await;
    for transactions in [Transactions::WhereThereAre, Transactions::Never] {
        for n in 0..3 {
            let fresh = Fresh::new(transactions);
            let store = fresh.store().await;
            let sessions = three_users(&store, Duration::from_secs(3600)).await;
            let [alice, bob, carol] = &sessions;
            let (what, how) = damages(bob.id)[n].clone();
            damage(&fresh, bob.id, &how).await;
            let is_read = what == "the version";

            let used = alice.signed_in.plus(Duration::from_secs(60));
            // With an address, the sessions are read first.
            for ip_addresses in [vec![], vec![[198, 51, 100, 7].into()]] {
                let used = used.plus(Duration::from_secs(ip_addresses.len() as u64));
                let batch = sessions.each_ref().map(|session| Touch {
                    id: session.id,
                    last_accessed: used,
                    deadline: session.deadline,
                    claimed: false,
                    ip_addresses: ip_addresses.clone(),
                });
                assert_eq!(store.touch(&batch).await.unwrap(), [], "{what}, {transactions:?}");
                for id in [alice.id, carol.id] {
                    let written = store.load(id).await.unwrap().unwrap().session;
                    assert_eq!(written.last_accessed, used, "{what}, {transactions:?}");
                    assert!(written.ip_addresses.ends_with(&ip_addresses), "{what}");
                }
            }

            let page = PageQuery::live(in_north(), used);
            let listed = store.page(&page).await.unwrap().sessions;
            let expected: Vec<_> =
                sessions.iter().filter(|session| is_read || session.id != bob.id).collect();
            assert_eq!(listed.len(), expected.len(), "{what}, {transactions:?}");
            assert!(expected.iter().all(|session| listed.iter().any(|l| l.id == session.id)));
            let of_user = PageQuery { user: Some(bob.owner.user.clone()), ..page };
            let listed = store.page(&of_user).await.unwrap().sessions;
            assert_eq!(listed.len(), usize::from(is_read), "{what}, {transactions:?}");
        }
    }
}

/// Without transactions, readers of the log deliver what a dead node has left.
#[tokio::test]
async fn a_damaged_user_stops_no_reader_of_the_log() {
    let _alone = ALONE.read().await;
    let fresh = Fresh::new(Transactions::Never);
    let store = fresh.store().await;
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let [_, bob, carol] = three_users(&store, Duration::ZERO).await;
    let database = fresh.database().await;
    let told = fresh.collection(&database, "log").find_one(doc! { "user_id": "bob" }).await;
    let told = told.unwrap().expect("the log has its entry");
    let minute_ago = DateTime::from_system_time(SystemTime::now() - Duration::from_secs(60));
    let left = doc! { "version": "x", "waiting": minute_ago, "outbox": [{ "entry": told }] };
    damage(&fresh, bob.id, &left).await;
    damage(&fresh, carol.id, &doc! { "waiting": minute_ago, "outbox": 7 }).await;
    let page = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
    assert_eq!((page.events.len(), page.gap), (3, false));
    let users = fresh.collection(&database, "users");
    let waiting = doc! { "waiting": { "$exists": true }, "outbox": { "$ne": 7 } };
    assert_eq!(users.count_documents(waiting).await.unwrap(), 0);
}

//! The MongoDB store on a real server: the conformance kit, and what is MongoDB's own.

mod blocks;
mod commands;
mod damage;
#[cfg(feature = "fault-tests")]
mod faults;
mod history;
mod log;
mod namespace;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mongodb::options::WriteConcern;
use session_conformance::Namespace;
use session_conformance::sample::{
    PATIENCE, insert, now, options_for_hints, revoke, session, user,
};
use session_core::store::{Change, Commit, Entries, Outcome, Sweep, Version};
use session_core::{
    Actor, EndCause, FleetKey, Session, SessionId, Store, StoreErrorKind, Timestamp,
};
use session_engine::{Access, Engine, SignIn};
use session_store_mongo::{MongoOptions, MongoStore, Transactions};

use crate::namespace::{ALONE, Fresh, Mongo};

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let _alone = ALONE.write().await;
    let mongo =
        Arc::new(Mongo { url: namespace::url(), transactions: Transactions::WhereThereAre });
    let report = session_conformance::run_within(mongo, SLOW).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee_without_transactions() {
    let _alone = ALONE.write().await;
    let url = std::env::var("SESSION_KIT_MONGODB_BESIDE_URL").unwrap_or_else(|_| namespace::url());
    let mongo = Arc::new(Mongo { url, transactions: Transactions::Never });
    let report = session_conformance::run_within(mongo, SLOW).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

/// For ten thousand sessions of one user on the test server, while others build.
const SLOW: Duration = Duration::from_secs(600);

fn begins(session: &Session, expected: Version) -> Commit {
    Commit {
        owner: session.owner.clone(),
        expected,
        changes: vec![Change::Insert(Box::new(session.clone()))],
        at: session.signed_in,
        by: Actor::Application,
        from: None,
    }
}

/// A caller whose answer got lost reads the user and finds its session.
#[tokio::test]
async fn a_commit_that_is_sent_again_is_a_conflict() {
    let _alone = ALONE.write().await;
    for transactions in [Transactions::WhereThereAre, Transactions::Never] {
        let store = Fresh::new(transactions).store().await;
        let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
        let mine = session(&store, &user("alice"), now(&store).await);
        let commit = begins(&mine, Version::NONE);
        assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
        assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Conflict);
        assert_eq!(store.user(&mine.owner).await.unwrap().sessions.len(), 1);
        assert_eq!(store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().events.len(), 1);
    }
}

/// A list that lags behind must not stop the cleanup, nor a selection: they put it right.
#[tokio::test]
async fn a_list_that_lags_is_put_right() {
    let _alone = ALONE.write().await;
    for transactions in [Transactions::WhereThereAre, Transactions::Never] {
        let fresh = Fresh::new(transactions);
        let store = fresh.store().await;
        let (used, other) = (user("alice"), user("bob"));
        let used = session(&store, &used, now(&store).await);
        let mut old = session(&store, &other, Timestamp::from_micros(1_000_000));
        old.deadline = Timestamp::from_micros(2_000_000);
        for session in [&used, &old] {
            insert(&store, session).await;
        }
        let stray = session(&store, &used.owner, now(&store).await);
        let list = list(&fresh).await;
        // As if an access had come before the session was in the list, and a session had ended.
        let name = mongodb::bson::doc! { "user_id": "alice" };
        let set = mongodb::bson::doc! { "$set": { "last_accessed": 5_i64, "deadline": 5_i64 } };
        assert_eq!(list.update_one(name, set).await.unwrap().matched_count, 1);
        let mut entry =
            list.find_one(mongodb::bson::doc! { "user_id": "bob" }).await.unwrap().unwrap();
        entry.insert("_id", stray.id.as_uuid().simple().to_string());
        entry.insert("id", bytes(stray.id.as_bytes()));
        entry.insert("user_id", "alice");
        list.insert_one(entry).await.unwrap();
        assert_eq!(store.audit().await.unwrap().len(), 2);
        let sweep = Sweep { overdue: Duration::ZERO, after: None, at: now(&store).await };
        let swept = store.sweep(&sweep, 10).await.unwrap();
        assert_eq!(swept.next, None);
        assert_eq!(swept.ended.iter().map(|ended| ended.id).collect::<Vec<_>>(), [old.id]);
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
        assert!(store.load(used.id).await.unwrap().is_some());
    }
}

/// A writer died between appending to the log and removing its outbox. A reader of the log removes
/// it, and appends nothing twice.
#[tokio::test]
async fn what_a_call_left_is_put_right_by_a_reader() {
    let _alone = ALONE.write().await;
    let fresh = Fresh::new(Transactions::Never);
    let store = fresh.store().await;
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    insert(&store, &session(&store, &user("alice"), now(&store).await)).await;
    let client = mongodb::Client::with_uri_str(namespace::url()).await.unwrap();
    let database = client.database(&fresh.options.database);
    let log = database.collection::<mongodb::bson::Document>("session_kit_log");
    let told = log.find_one(mongodb::bson::doc! { "user_id": "alice" }).await.unwrap();
    let told = told.expect("the log has its entry");
    let left = mongodb::bson::doc! { "$set": {
        "outbox": [{ "entry": told }],
        "waiting": mongodb::bson::DateTime::from_system_time(SystemTime::now() - WAITED),
    } };
    let users = database.collection::<mongodb::bson::Document>("session_kit_users");
    users.update_one(mongodb::bson::doc! {}, left).await.unwrap();
    assert_eq!(store.audit().await.unwrap().len(), 1);
    assert_eq!(fresh.complaints().await, [""; 0]);
    assert_eq!(store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().events.len(), 1);
}

/// So long that others take over soon.
const WAITED: Duration = Duration::from_millis(4_700);

/// The node that ended a session died before it had delivered anything.
#[tokio::test]
async fn an_end_that_a_dead_node_left_reaches_the_history() {
    let _alone = ALONE.write().await;
    let fresh = Fresh::new(Transactions::Never);
    let store = fresh.store().await;
    let mine = session(&store, &user("alice"), now(&store).await);
    insert(&store, &mine).await;
    assert_eq!(revoke(&store, mine.id).await, 1);
    let client = mongodb::Client::with_uri_str(namespace::url()).await.unwrap();
    let database = client.database(&fresh.options.database);
    let of = |name: &str| database.collection::<mongodb::bson::Document>(name);
    let history = of("session_kit_history");
    let ended = history.find_one_and_delete(mongodb::bson::doc! {}).await.unwrap().unwrap();
    let told = mongodb::bson::doc! { "kind": "revoked" };
    let told = of("session_kit_log").find_one_and_delete(told).await.unwrap().unwrap();
    assert_eq!(store.ended(mine.id).await.unwrap(), None);
    let left = mongodb::bson::doc! { "$set": {
        "outbox": [{ "entry": told, "unlist": ended.get("_id"), "history": &ended }],
        "waiting": mongodb::bson::DateTime::from_system_time(SystemTime::now() - WAITED),
    } };
    of("session_kit_users").update_one(mongodb::bson::doc! {}, left).await.unwrap();
    assert_eq!(fresh.complaints().await, [""; 0]);
    let ended = store.ended(mine.id).await.unwrap().unwrap();
    assert_eq!((ended.session, ended.cause), (mine, EndCause::Revoked));
}

/// The versions of a user who has signed out go on for a while; one with sessions never expires.
#[tokio::test]
async fn only_users_without_sessions_expire() {
    let _alone = ALONE.write().await;
    for transactions in [Transactions::WhereThereAre, Transactions::Never] {
        let fresh = Fresh::new(transactions);
        let store = fresh.store().await;
        let begun = now(&store).await;
        let client = mongodb::Client::with_uri_str(namespace::url()).await.unwrap();
        let database = client.database(&fresh.options.database);
        let users = database.collection::<mongodb::bson::Document>("session_kit_users");
        let until = async || {
            let user = users.find_one(mongodb::bson::doc! {}).await.unwrap().unwrap();
            user.get_datetime("until").ok().map(|until| until.timestamp_millis())
        };
        for _ in 0..2 {
            let mine = session(&store, &user("alice"), begun);
            insert(&store, &mine).await;
            assert_eq!(until().await, None);
            assert_eq!(revoke(&store, mine.id).await, 1);
            let hour = begun.plus(Duration::from_secs(3600)).as_micros() / 1000;
            let until = until().await.expect("a time");
            assert!((hour..hour + 600_000).contains(&until), "an hour: {until}, {hour}");
        }
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
    }
}

fn bytes(bytes: &[u8]) -> mongodb::bson::Binary {
    let subtype = mongodb::bson::spec::BinarySubtype::Generic;
    mongodb::bson::Binary { subtype, bytes: bytes.to_vec() }
}

async fn list(fresh: &Fresh) -> mongodb::Collection<mongodb::bson::Document> {
    let client = mongodb::Client::with_uri_str(namespace::url()).await.unwrap();
    client.database(&fresh.options.database).collection("session_kit_sessions")
}

/// The nodes read the log by themselves far too rarely.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_makes_a_revocation_immediate() {
    let _alone = ALONE.write().await;
    let mut fresh = Fresh::new(Transactions::WhereThereAre);
    fresh.options.push = true;
    let here = Engine::start(fresh.store().await, options_for_hints()).await.unwrap();
    let there = Engine::start(fresh.store().await, options_for_hints()).await.unwrap();
    let owner = user("alice");
    let mut delays = Vec::new();
    for _ in 0..20 {
        let signed_in = here.sessions().sign_in(SignIn::new(owner.clone())).await.unwrap();
        let token = signed_in.token.expose();
        let validate = || there.sessions().validate(token.as_bytes(), Access::default());
        assert!(validate().await.unwrap().session().is_some());
        let ended = there.sessions().session_ended(signed_in.session.id());
        here.sessions().revoke_user(owner.clone(), Actor::Application).await.unwrap();
        let revoked = Instant::now();
        let told = tokio::time::timeout(PATIENCE, ended).await;
        assert!(told.is_ok_and(|told| told.cause().is_some()), "no hint is heard");
        delays.push(revoked.elapsed());
        assert!(validate().await.unwrap().session().is_none());
    }
    delays.sort();
    println!("told on the other node after: median {:?}, longest {:?}", delays[10], delays[19]);
    here.shutdown().await;
    there.shutdown().await;
}

/// A database that is dropped under running nodes takes with it what the nodes agree on.
#[tokio::test]
async fn nodes_of_a_dropped_database_agree_again_or_stop() {
    let _alone = ALONE.write().await;
    let fresh = Fresh::new(Transactions::WhereThereAre);
    let store = fresh.store().await;
    let owner = user("alice");
    insert(&store, &session(&store, &owner, now(&store).await)).await;
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let key = store.fleet_key(&FleetKey::from_bytes([7; 32])).await.unwrap();
    let client = mongodb::Client::with_uri_str(namespace::url()).await.unwrap();
    let database = client.database(&fresh.options.database);
    database.drop().await.unwrap();
    assert!(store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().gap);
    let log = database.collection::<mongodb::bson::Document>("session_kit_log");
    assert!(log.list_index_names().await.unwrap().len() > 1, "its indexes are back");
    let newcomer = fresh.store().await;
    assert!(newcomer.fleet_key(&FleetKey::from_bytes([8; 32])).await.unwrap() == key);
    insert(&store, &session(&store, &owner, now(&store).await)).await;
    assert_eq!(newcomer.user(&owner).await.unwrap().sessions.len(), 1, "they agree");
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    database.drop().await.unwrap();
    let _another = fresh.store().await;
    let error = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Internal, "{error}");
}

/// In a rolling upgrade a node of an older version may start again beside newer ones.
#[tokio::test]
async fn newer_collections_say_which_versions_may_use_them() {
    let _alone = ALONE.write().await;
    let fresh = Fresh::new(Transactions::WhereThereAre);
    let store = fresh.store().await;
    let mine = session(&store, &user("alice"), now(&store).await);
    insert(&store, &mine).await;
    let agreement = fresh.collection(&fresh.database().await, "agreement");
    let one = || mongodb::bson::doc! { "_id": "agreement" };
    let agreed = agreement.find_one(one()).await.unwrap().unwrap();
    let known = agreed.get_i32("version").unwrap();
    for (version, oldest, may_use) in [
        (known + 1, None, false),
        (known + 1, Some(known + 1), false),
        (known + 1, Some(known), true),
        (known + 9, Some(known - 1), true),
        (known - 1, Some(known - 1), false),
    ] {
        let mut newer = mongodb::bson::doc! { "version": version };
        newer.extend(oldest.map(|oldest| ("oldest".to_owned(), oldest.into())));
        agreement.update_one(one(), mongodb::bson::doc! { "$set": newer }).await.unwrap();
        match fresh.open().await {
            Ok(older) => {
                assert!(may_use, "{version}, {oldest:?}");
                assert!(older.load(mine.id).await.unwrap().is_some());
            }
            Err(error) => {
                assert!(!may_use, "{version}, {oldest:?}: {error}");
                assert_eq!(error.kind(), StoreErrorKind::Internal);
                assert!(error.to_string().contains(&format!("version {version},")), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn the_index_that_expires_is_there() {
    let fresh = Fresh::new(Transactions::WhereThereAre);
    // Twice does no harm.
    fresh.store().await;
    fresh.store().await;
    let client = mongodb::Client::with_uri_str(namespace::url()).await.unwrap();
    let database = client.database(&fresh.options.database);
    let users = database.collection::<mongodb::bson::Document>("session_kit_users");
    let names = users.list_index_names().await.unwrap();
    assert!(names.contains(&"until_1".to_owned()), "{names:?}");
}

#[tokio::test]
async fn bad_input_and_absent_servers_are_typed_errors() {
    let store = Fresh::new(Transactions::WhereThereAre).store().await;
    let mut foreign = session(&store, &user("alice"), now(&store).await);
    foreign.id = SessionId::from_random([3; 16]);
    let outcome = store.commit(&begins(&foreign, Version::NONE)).await.unwrap();
    assert_eq!(outcome, Outcome::Conflict, "an id that the store did not make");
    let mut options = MongoOptions::default();
    options.timeout = Duration::from_millis(300);
    let begun = Instant::now();
    let absent =
        MongoStore::connect_with("mongodb://127.0.0.1:1", options.clone()).await.unwrap_err();
    assert_eq!(absent.kind(), StoreErrorKind::Unavailable, "{absent}");
    assert!(begun.elapsed() < PATIENCE);
    let error = MongoStore::connect_with("nonsense", options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Internal, "{error}");
    options.write_concern = WriteConcern::nodes(1);
    assert_eq!(options.validate().unwrap_err().field, "write_concern");
    options = MongoOptions::default();
    options.prefix = "a.b".to_owned();
    assert_eq!(options.validate().unwrap_err().field, "prefix");
}

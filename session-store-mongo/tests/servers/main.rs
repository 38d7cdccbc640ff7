//! The MongoDB store on a real server: the conformance kit, and what is MongoDB's own.

#[cfg(feature = "fault-tests")]
mod faults;
mod namespace;

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::checker::Timeouts;
use session_core::cleanup::SweepRule;
use session_core::rotation::TokenState;
use session_core::store::{Change, Commit, Outcome};
use session_core::{
    Actor, DeviceKind, EndCause, EventKind, Session, SessionId, Store, StoreErrorKind, Timestamp,
    Token, UserId, UserKey,
};
use session_engine::{Access, Engine, Options, SignIn};
use session_store_mongo::{MongoOptions, MongoStore, Transactions};

use crate::namespace::{ALONE, Fresh, Mongo};

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let _alone = ALONE.write().await;
    let mongo = Arc::new(Mongo(Transactions::WhereThereAre));
    let report = session_conformance::run_within(mongo, SLOW).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee_without_transactions() {
    let _alone = ALONE.write().await;
    let mongo = Arc::new(Mongo(Transactions::Never));
    let report = session_conformance::run_within(mongo, SLOW).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

/// For ten thousand sessions of one user on the test server, while others build.
const SLOW: Duration = Duration::from_secs(600);

fn now() -> Timestamp {
    Timestamp::EPOCH.plus(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap())
}

fn session(store: &MongoStore, user: &str) -> Session {
    let owner = UserKey::new(UserId::new(user).unwrap());
    let mut random = [0; 16];
    getrandom::fill(&mut random).unwrap();
    let token = Token::new(store.session_id(&owner, random), [1; 12], random);
    let at = now();
    Session {
        id: token.session_id(),
        owner,
        device_kind: DeviceKind::Web,
        device_info: None,
        client_id: None,
        ip_addresses: Vec::new(),
        signed_in: at,
        last_accessed: at,
        authenticated_at: at,
        absolute_expiry: None,
        data: None,
        token: TokenState::new(&token),
    }
}

async fn commit(
    store: &MongoStore,
    session: &Session,
) -> Result<Outcome, session_core::StoreError> {
    let commit = Commit {
        owner: session.owner.clone(),
        expected: store.user(&session.owner).await?.version,
        changes: vec![Change::Insert(Box::new(session.clone()))],
        at: session.signed_in,
        by: Actor::Application,
    };
    store.commit(&commit).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_makes_a_revocation_immediate() {
    let _alone = ALONE.write().await;
    let mut fresh = Fresh::new(Transactions::WhereThereAre);
    fresh.options.push = true;
    let here = Engine::start(fresh.store().await, Options::default()).await.unwrap();
    let there = Engine::start(fresh.store().await, Options::default()).await.unwrap();
    let owner = UserKey::new(UserId::new("alice").unwrap());
    let mut delays = Vec::new();
    for _ in 0..20 {
        let signed_in = here.sessions().sign_in(SignIn::new(owner.clone())).await.unwrap();
        let token = signed_in.token.expose();
        let validate = || there.sessions().validate(token.as_bytes(), Access::default());
        assert!(validate().await.unwrap().session().is_some());
        let ended = there.sessions().session_ended(signed_in.session.id);
        here.sessions().revoke_user(owner.clone(), Actor::Application).await.unwrap();
        let revoked = Instant::now();
        assert!(ended.await.is_some());
        delays.push(revoked.elapsed());
        assert!(validate().await.unwrap().session().is_none());
    }
    delays.sort();
    println!("told on the other node after: median {:?}, longest {:?}", delays[10], delays[19]);
    // Without hints it would be a quarter of the bound.
    assert!(delays[10] < Duration::from_millis(150), "{delays:?}");
    here.shutdown().await;
    there.shutdown().await;
}

/// No cleanup came: the record expires by itself. The cleanup that comes at last clears the list
/// and tells of the end, once.
#[tokio::test]
async fn what_expired_by_itself_is_told_of_by_the_cleanup() {
    let _alone = ALONE.write().await;
    for transactions in [Transactions::WhereThereAre, Transactions::Never] {
        let fresh = Fresh::new(transactions);
        let store = fresh.store().await;
        let mut timeouts = Timeouts::none();
        timeouts.idle = Some(Duration::from_secs(60));
        store.set_timeouts(&timeouts);
        let session = session(&store, "alice");
        assert_eq!(commit(&store, &session).await.unwrap(), Outcome::Done);
        let cursor = store.log_since(None, 0).await.unwrap().next;
        // As the server's own worker does, which comes once a minute.
        let client = mongodb::Client::with_uri_str(namespace::url()).await.unwrap();
        let users = client
            .database(&fresh.options.database)
            .collection::<mongodb::bson::Document>("session_kit_users");
        let due = session.last_accessed.plus(Duration::from_secs(60) + fresh.options.expiry_margin);
        let due = mongodb::bson::DateTime::from_millis(due.as_micros() / 1000);
        let gone = users.delete_many(mongodb::bson::doc! { "until": { "$lte": due } }).await;
        assert_eq!(gone.unwrap().deleted_count, 1);
        assert!(store.load(session.id).await.unwrap().is_none());
        let rule = SweepRule { inactive_before: now(), expired_by: now() };
        assert_eq!(store.sweep(&rule, now(), 10).await.unwrap().len(), 1);
        assert_eq!(store.sweep(&rule, now(), 10).await.unwrap(), []);
        let told = store.log_since(Some(&cursor), 10).await.unwrap().events;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].kind, EventKind::Ended(EndCause::Expired));
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
    }
}

#[tokio::test]
async fn the_indexes_that_expire_are_there() {
    let fresh = Fresh::new(Transactions::WhereThereAre);
    // Twice does no harm.
    fresh.store().await;
    fresh.store().await;
    let client = mongodb::Client::with_uri_str(namespace::url()).await.unwrap();
    let database = client.database(&fresh.options.database);
    for name in ["session_kit_users", "session_kit_sessions"] {
        let collection = database.collection::<mongodb::bson::Document>(name);
        let names = collection.list_index_names().await.unwrap();
        assert!(names.contains(&"until_1".to_owned()), "{names:?}");
    }
}

#[tokio::test]
async fn bad_input_and_absent_servers_are_typed_errors() {
    let store = Fresh::new(Transactions::WhereThereAre).store().await;
    let mut foreign = session(&store, "alice");
    foreign.id = SessionId::from_random([3; 16]);
    let error = commit(&store, &foreign).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Internal, "{error}");
    let mut options = MongoOptions::default();
    options.timeout = Duration::from_millis(300);
    let begun = Instant::now();
    let absent = MongoStore::connect("mongodb://127.0.0.1:1", options.clone()).await.unwrap_err();
    assert_eq!(absent.kind(), StoreErrorKind::Unavailable, "{absent}");
    assert!(begun.elapsed() < Duration::from_secs(3));
    let error = MongoStore::connect("nonsense", options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Internal, "{error}");
    options.prefix = "a.b".to_owned();
    assert_eq!(options.validate().unwrap_err().field, "prefix");
}

//! What an operation costs: statements, counted by the log that sqlx writes of them.
#![cfg(feature = "sqlite")]

use std::sync::atomic::{AtomicU64, Ordering};

use session_core::checker::Timeouts;
use session_core::rotation::TokenState;
use session_core::store::{
    Change, Commit, EndMany, Outcome, PageQuery, Selection, TenantFilter, Touch,
};
use session_core::{
    Actor, DeviceKind, EndCause, Session, SessionId, Store, Timestamp, Token, UserId, UserKey,
};
use session_store_sql::SqliteStore;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static STATEMENTS: AtomicU64 = AtomicU64::new(0);

struct Count;

impl Subscriber for Count {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        STATEMENTS.fetch_add(1, Ordering::SeqCst);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn spent() -> u64 {
    STATEMENTS.swap(0, Ordering::SeqCst)
}

#[tokio::test]
async fn operations_cost_a_known_number_of_statements() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("sessions.db")).await.unwrap();
    tracing::subscriber::set_global_default(Count).unwrap();
    let token = Token::new(SessionId::from_random([3; 16]), [1; 12], [2; 16]);
    let at = Timestamp::from_micros(1_780_000_000_000_000);
    let session = Session {
        id: token.session_id(),
        owner: UserKey::new(UserId::new("alice").unwrap()),
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
    };
    let commit = Commit {
        owner: session.owner.clone(),
        expected: store.user(&session.owner).await.unwrap().version,
        changes: vec![Change::Insert(Box::new(session.clone()))],
        at,
        by: Actor::Application,
    };
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    let sign_in = spent();
    store.load(session.id).await.unwrap();
    let load = spent();
    let touch = Touch { id: session.id, last_accessed: at, ip_addresses: Vec::new() };
    store.touch(&vec![touch; 500]).await.unwrap();
    let touch = spent();
    store.page(&PageQuery::live(TenantFilter::Any, Timeouts::none(), at)).await.unwrap();
    let page = spent();
    let cursor = store.log_since(None, 0).await.unwrap().next;
    spent();
    store.log_since(Some(&cursor), 100).await.unwrap();
    let log = spent();
    let selection = Selection::session(session.id, TenantFilter::Any);
    let end = EndMany { selection, cause: EndCause::Revoked, at, by: Actor::Application };
    assert_eq!(store.end_many(&end, 500).await.unwrap().len(), 1);
    let revoke = spent();
    println!(
        "statements: sign-in {sign_in}, load {load}, touch of 500 {touch}, page {page}, log {log}, revoke {revoke}"
    );
    assert_eq!((sign_in, load, touch, page, log, revoke), (10, 1, 1, 1, 1, 4));
}

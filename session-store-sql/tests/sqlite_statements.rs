//! What an operation costs: statements, counted by the log that sqlx writes of them.
#![cfg(feature = "sqlite")]

use std::sync::atomic::{AtomicU64, Ordering};

use session_conformance::sample::{self, insert, now, revoke, user};
use session_core::store::{Change, Entries, PageQuery, TenantFilter, Touch};
use session_core::{EndCause, Store};
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
    let store = SqliteStore::connect(folder.path().join("sessions.db")).await.unwrap();
    tracing::subscriber::set_global_default(Count).unwrap();
    let session = sample::session(&store, &user("alice"), now());
    let at = session.signed_in;
    insert(&store, &session).await;
    let sign_in = spent();
    store.load(session.id).await.unwrap();
    let load = spent();
    let touch = Touch {
        id: session.id,
        last_accessed: at,
        deadline: session.deadline,
        claimed: true,
        ip_addresses: Vec::new(),
    };
    store.touch(&vec![touch; 500]).await.unwrap();
    let touch = spent();
    store.page(&PageQuery::live(TenantFilter::Any, at)).await.unwrap();
    let page = spent();
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    spent();
    store.log_since(Some(&cursor), Entries::All, 100).await.unwrap();
    let log = spent();
    let newer = sample::session(&store, &session.owner, now());
    let evict = Change::End(session.id, EndCause::Evicted);
    let changes = vec![Change::Insert(Box::new(newer.clone())), evict];
    sample::commit(&store, &session.owner, changes).await;
    let evicting = spent();
    assert_eq!(revoke(&store, newer.id).await, 1);
    let revoked = spent();
    println!(
        "statements: sign-in {sign_in}, one that evicts {evicting}, load {load}, touch of 500 {touch}, \
        page {page}, log {log}, revoke {revoked}"
    );
    assert_eq!((sign_in, evicting), (8, 10));
    assert_eq!((load, touch, page, log, revoked), (1, 1, 1, 1, 6));
}

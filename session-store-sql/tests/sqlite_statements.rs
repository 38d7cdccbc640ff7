//! What an operation costs: statements, counted by the log that sqlx writes of them.
#![cfg(feature = "sqlite")]

use std::sync::atomic::{AtomicU64, Ordering};

use session_conformance::sample::{self, now, user};
use session_core::store::{
    Change, Commit, EndMany, Entries, Outcome, PageQuery, Selection, TenantFilter, Touch,
};
use session_core::{Actor, EndCause, Session, SessionId, Store};
use session_store_sql::{SqliteOptions, SqliteStore};
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

/// As a sign-in does: reads the user, then commits.
async fn sign_in(store: &SqliteStore, session: &Session, evicted: Option<SessionId>) {
    let owner = session.owner.clone();
    let expected = store.user(&owner).await.unwrap().version;
    let mut changes = vec![Change::Insert(Box::new(session.clone()))];
    changes.extend(evicted.map(|id| Change::End(id, EndCause::Evicted)));
    let (at, by) = (session.signed_in, Actor::Application);
    let commit = Commit { owner, expected, changes, at, by, from: None };
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
}

async fn revoke(store: &SqliteStore, session: &Session) {
    let end = EndMany {
        selection: Selection::session(session.id, TenantFilter::Any),
        after: None,
        cause: EndCause::Revoked,
        at: session.signed_in,
        by: Actor::Application,
        from: None,
    };
    assert_eq!(store.end_many(&end, 1).await.unwrap().ended.len(), 1);
}

#[tokio::test]
async fn operations_cost_a_known_number_of_statements() {
    let folder = tempfile::TempDir::new().unwrap();
    // One reader, which is open before the count begins.
    let options = SqliteOptions::default().with_readers(1);
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect_with(path, options).await.unwrap();
    store.user(&user("alice")).await.unwrap();
    let at = now(&store).await;
    let (first, second) = {
        let session = || sample::session(&store, &user("alice"), at);
        (session(), session())
    };
    tracing::subscriber::set_global_default(Count).unwrap();
    sign_in(&store, &first, None).await;
    let sign_in_alone = spent();
    sign_in(&store, &second, Some(first.id)).await;
    let sign_in_that_evicts = spent();
    store.load(second.id).await.unwrap();
    let load = spent();
    let touch = Touch {
        id: second.id,
        last_accessed: at,
        deadline: second.deadline,
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
    revoke(&store, &second).await;
    let revoked = spent();
    let many = sample::add_many(&store, &user("bob"), 100).await;
    let all = sample::end(&store, Selection::user(user("bob"))).await;
    spent();
    assert_eq!(store.end_many(&all, 500).await.unwrap().ended.len(), many.len());
    assert_eq!(spent(), revoked, "an end of many takes as many statements as that of one");
    println!(
        "statements: sign-in {sign_in_alone}, one that evicts {sign_in_that_evicts}, load {load}, \
        touch of 500 {touch}, page {page}, log {log}, revoke {revoked}"
    );
    assert_eq!((sign_in_alone, sign_in_that_evicts), (7, 9));
    assert_eq!((load, touch, page, log, revoked), (1, 1, 1, 1, 6));
}

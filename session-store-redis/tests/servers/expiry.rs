//! When records expire by themselves.

use std::time::{Duration, Instant};

use session_conformance::sample::{
    PATIENCE, commit, insert, now, session, sweep_all, user, user_in,
};
use session_core::store::{Change, Entries, Outcome, PageQuery, TenantFilter, Touch};
use session_core::{EndCause, EventKind, Store, Timestamp};

use crate::namespace::{ALONE, Prefix};
use crate::single::ask;

/// No cleanup came: the record expires by itself. The cleanup that comes at last forgets the rest
/// and tells of the end, once.
#[tokio::test]
async fn a_record_expires_by_itself_and_is_told_of_by_the_cleanup() {
    let _shared = ALONE.read().await;
    let mut prefix = Prefix::new(false);
    prefix.options.expiry_margin = Duration::from_millis(100);
    let store = prefix.store().await;
    let at = now(&store).await;
    let mut of_tenant = session(&store, &user_in("north", "alice"), at);
    let mut mine = session(&store, &user("bob"), at);
    (of_tenant.deadline, mine.deadline) = (at, at.plus(Duration::from_millis(100)));
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    for session in [&of_tenant, &mine] {
        insert(&store, session).await;
    }
    let begun = Instant::now();
    while store.load(of_tenant.id).await.unwrap().is_some()
        || store.load(mine.id).await.unwrap().is_some()
    {
        assert!(begun.elapsed() < PATIENCE, "records expire by themselves");
        tokio::task::yield_now().await;
    }
    let page = store.page(&PageQuery::live(TenantFilter::Any, Timestamp::EPOCH)).await;
    assert_eq!(page.unwrap().sessions, []);
    assert_eq!(store.user(&mine.owner).await.unwrap().sessions, []);
    assert_eq!(sweep_all(&store, Duration::ZERO, 10).await.len(), 2);
    assert_eq!(sweep_all(&store, Duration::ZERO, 10).await, []);
    let told = store.log_since(Some(&cursor), Entries::All, 100).await.unwrap();
    cursor = told.next;
    let ends = told.events.iter().filter(|e| e.kind == EventKind::Ended(EndCause::Expired));
    assert_eq!(ends.filter(|end| end.user.is_some()).count(), 2);
    assert_eq!(store.log_since(Some(&cursor), Entries::All, 100).await.unwrap().events, []);
    assert_eq!(store.ended(mine.id).await.unwrap(), None, "there was no record left to keep");
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
}

/// A user's key lasts somewhat longer than the latest deadline of a session.
#[tokio::test]
async fn a_record_in_use_does_not_expire() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let begun = now(&store).await;
    let deadline = |seconds| begun.plus(Duration::from_secs(seconds));
    let mut mine = session(&store, &user("alice"), begun);
    mine.deadline = deadline(60);
    insert(&store, &mine).await;
    let keys: Vec<String> =
        ask(redis::cmd("KEYS").arg(format!("{}*:u:*", prefix.options.prefix))).await;
    let expires = async || -> i64 { ask(redis::cmd("PEXPIRETIME").arg(&keys[0])).await };
    let due = |seconds| deadline(seconds).plus(prefix.options.expiry_margin).as_micros() / 1000;
    assert_eq!(expires().await, due(60));
    let touch = |seconds| Touch {
        id: mine.id,
        last_accessed: begun,
        deadline: deadline(seconds),
        claimed: false,
        ip_addresses: Vec::new(),
    };
    for (touched, lasts) in [(70, 70), (65, 70)] {
        assert_eq!(store.touch(&[touch(touched)]).await.unwrap(), []);
        assert_eq!(expires().await, due(lasts));
    }
    for (updated, lasts) in [(80, 80), (75, 80)] {
        mine.deadline = deadline(updated);
        let kind = EventKind::Changed;
        let change = Change::Update { session: Box::new(mine.clone()), kind };
        assert_eq!(commit(&store, &mine.owner, vec![change]).await, Outcome::Done);
        assert_eq!(expires().await, due(lasts));
    }
    let mut shorter = session(&store, &user("alice"), begun);
    shorter.deadline = deadline(10);
    insert(&store, &shorter).await;
    assert_eq!(expires().await, due(80));
    // A session without a deadline keeps the key for ever.
    insert(&store, &session(&store, &user("alice"), begun)).await;
    assert_eq!(expires().await, -1);
}

/// A session that is overdue when it begins can be read for as long as its key lasts from then on.
#[tokio::test]
async fn a_key_lasts_for_the_margin_after_any_deadline() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let begun = now(&store).await;
    let mut mine = session(&store, &user("alice"), begun);
    mine.deadline = Timestamp::EPOCH;
    insert(&store, &mine).await;
    assert!(store.load(mine.id).await.unwrap().is_some());
    let keys: Vec<String> =
        ask(redis::cmd("KEYS").arg(format!("{}*:u:*", prefix.options.prefix))).await;
    let expires: i64 = ask(redis::cmd("PEXPIRETIME").arg(&keys[0])).await;
    assert!(expires >= begun.plus(prefix.options.expiry_margin).as_micros() / 1000);
}

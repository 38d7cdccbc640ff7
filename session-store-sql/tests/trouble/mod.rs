//! Disks that fail, files that go, callers that leave, and locks that others keep.

use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};

use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::BlockChange;
use tokio::time::timeout;

use super::*;

/// Begins a call, which then waits for the file's lock.
async fn begun<F: Future>(call: &mut std::pin::Pin<&mut F>) {
    assert!(timeout(Duration::ZERO, call).await.is_err(), "it waits");
}

#[tokio::test]
async fn a_commit_that_fails_is_no_success_and_stops_no_later_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    execute(&path, "CREATE TABLE parents (id INTEGER PRIMARY KEY)").await;
    let child =
        "CREATE TABLE children (parent REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)";
    execute(&path, child).await;
    let orphans = "CREATE TRIGGER orphans AFTER INSERT ON session_kit_log \
        BEGIN INSERT INTO children VALUES (7); END";
    execute(&path, orphans).await;
    let commit = sign_in(&store, 1).await;
    store.commit(&commit).await.unwrap_err();
    assert!(store.load(session(1).id).await.unwrap().is_none());
    execute(&path, "DROP TRIGGER orphans").await;
    insert(&store, 1).await;
}

/// Other processes open another file: nothing is read from the old one, and no change of it is acknowledged.
#[tokio::test]
async fn a_file_that_was_replaced_takes_no_changes() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let options = SqliteOptions::default().with_readers(1);
    let store = SqliteStore::connect_with(&path, options).await.unwrap();
    let copy = folder.path().join("copy.db");
    let mut file = raw(&path).await;
    sqlx::query("VACUUM INTO ?").bind(copy.to_str().unwrap()).execute(&mut file).await.unwrap();
    let commit = sign_in(&store, 1).await;
    std::fs::rename(&copy, &path).unwrap();
    let gone = |error: session_core::StoreError| {
        let text = format!("{error}: {:?}", std::error::Error::source(&error));
        assert!(text.contains("moved, replaced or deleted"), "{text}");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    };
    gone(store.commit(&commit).await.unwrap_err());
    gone(store.log_since(None, Entries::All, 1).await.unwrap_err());
    gone(store.report().await.unwrap_err());
    gone(store.load(session(1).id).await.unwrap_err());
    gone(store.user(&owner()).await.unwrap_err());
    std::fs::remove_file(&path).unwrap();
    gone(store.commit(&commit).await.unwrap_err());
    assert!(!path.exists(), "another file was made");
}

#[tokio::test]
async fn an_error_of_opening_names_the_file() {
    let error = SqliteStore::connect("/there-is/no-such/folder.db").await.unwrap_err();
    assert!(format!("{error:?}").contains("/there-is/no-such/folder.db"), "{error:?}");
}

/// No answer would tell of it, and a caller that gives up may have asked another node.
#[tokio::test]
async fn a_change_whose_caller_leaves_before_it_has_the_lock_is_not_made() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    let mut other = raw(&path).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let left = sign_in(&store, 1).await;
    assert!(timeout(Duration::ZERO, store.commit(&left)).await.is_err());
    // It comes after the one that was left.
    let next = sign_in(&store, 2).await;
    let mut next = pin!(store.commit(&next));
    begun(&mut next).await;
    lock.rollback().await.unwrap();
    assert_eq!(next.await.unwrap(), Outcome::Done);
    assert!(store.load(session(1).id).await.unwrap().is_none());
}

/// Other nodes hear of it at once, as of any other.
#[tokio::test]
async fn a_change_whose_caller_leaves_while_it_is_made_is_told() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let [mine, other] = [SqliteStore::connect(&path), SqliteStore::connect(&path)];
    let (mine, other) = (mine.await.unwrap(), other.await.unwrap());
    // How long a call takes, then calls that are left at another point of their way each time.
    let (mut longest, mut left) = (Duration::MAX, 0);
    for n in 1..=200 {
        let id = insert(&mine, n).await;
        let (end, asked) = (end_of(id), std::time::Instant::now());
        let (mut told, mut call) = (pin!(other.changed()), mine.end_many(&end, 1));
        begun(&mut told).await;
        let patience = longest.saturating_mul((n % 20).into()) / 16;
        let whole = poll_fn(|context| {
            let polled = call.as_mut().poll(context).map(Result::unwrap);
            context.waker().wake_by_ref();
            match polled {
                Poll::Ready(_) => Poll::Ready(true),
                Poll::Pending if asked.elapsed() > patience => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        });
        let whole = whole.await;
        if whole {
            longest = longest.min(asked.elapsed());
        }
        drop(call);
        // What is asked for later is done later.
        mine.lease("after", "it", Duration::from_secs(1)).await.unwrap();
        if mine.load(id).await.unwrap().is_none() {
            timeout(PATIENCE, told).await.expect("a hint");
            left += usize::from(!whole);
        }
        if left == 5 {
            return;
        }
    }
    panic!("{left} left while a change was made");
}

#[tokio::test]
async fn calls_that_wait_together_wait_no_longer_than_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let limit = Duration::from_millis(200);
    let options = SqliteOptions::default().with_busy_timeout(limit);
    let store = Arc::new(SqliteStore::connect_with(&path, options).await.unwrap());
    let mut other = raw(&path).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let begun = std::time::Instant::now();
    let call = |n: u8| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.lease("a", &n.to_string(), limit).await })
    };
    let calls: Vec<_> = (0..20).map(call).collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains("another process has the lock"), "{text}");
    }
    assert!(begun.elapsed() < limit * 10, "{:?}", begun.elapsed());
    lock.rollback().await.unwrap();
    assert!(store.lease("a", "b", limit).await.unwrap());
}

#[tokio::test]
async fn closing_waits_for_a_change_that_was_asked_for() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::connect(&path).await.unwrap();
    let mut other = raw(&path).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let commit = sign_in(&store, 1).await;
    let (mut change, mut close) = (pin!(store.commit(&commit)), pin!(store.close()));
    begun(&mut change).await;
    begun(&mut close).await;
    lock.rollback().await.unwrap();
    other.close().await.unwrap();
    close.await;
    assert_eq!(change.await.unwrap(), Outcome::Done);
    assert!(!path.with_extension("db-wal").exists());
}

/// The store's clock is read once the lock is held: a lease that waited for it lasts as long as any other,
/// and a block that has passed by then refuses no sign-in.
#[tokio::test]
async fn waiting_for_the_lock_takes_nothing_from_a_time() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let (now, second) = (Arc::new(AtomicI64::new(0)), Duration::from_secs(1));
    let clock = Arc::clone(&now);
    let options = SqliteOptions::default()
        .with_clock(move || Timestamp::from_micros(clock.load(Ordering::SeqCst)));
    let store = SqliteStore::connect_with(&path, options).await.unwrap();
    let until = Timestamp::EPOCH.plus(second);
    let (at, by) = (Timestamp::EPOCH, Actor::Application);
    let block = Block { reason: None, until: Some(until), since: at, by: by.clone() };
    let change = BlockChange { scope: PolicyScope::User(owner()), block: Some(block), at, by };
    store.set_block(&change).await.unwrap();
    let commit = sign_in(&store, 1).await;
    let mut other = raw(&path).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let (mut lease, mut admitted) =
        (pin!(store.lease("a", "b", second)), pin!(store.commit(&commit)));
    begun(&mut lease).await;
    begun(&mut admitted).await;
    now.store(2_000_000, Ordering::SeqCst);
    lock.rollback().await.unwrap();
    assert!(lease.await.unwrap());
    assert_eq!(admitted.await.unwrap(), Outcome::Done);
    now.store(2_999_999, Ordering::SeqCst);
    assert!(!store.lease("a", "c", second).await.unwrap());
}

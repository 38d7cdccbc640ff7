//! How soon a store hears of a change: by watching a file beside the database.
#![cfg(feature = "sqlite")]

use std::path::PathBuf;
use std::time::Duration;

use session_conformance::sample::{self, PATIENCE, commit, insert, now, revoke, user};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{BlockChange, Change, Outcome, PolicyChange, StoreReport};
use session_core::{Actor, EventKind, Session, Store};
use session_store_sql::SqliteStore;
use tempfile::TempDir;
use tokio::time::timeout;

struct File(TempDir);

impl File {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("sessions.db")
    }

    /// A file whose hints cannot be written.
    fn without_events() -> Self {
        let file = Self::new();
        std::fs::create_dir(file.0.path().join("sessions.db-hint")).unwrap();
        file
    }

    async fn open(&self) -> SqliteStore {
        SqliteStore::connect(self.path()).await.unwrap()
    }
}

/// Runs a change and waits for the hint of it, which nothing before it has given.
async fn hears(listener: &SqliteStore, change: impl Future<Output = ()>) {
    let mut changed = listener.changed();
    // Polled once: from now on it listens.
    assert!(timeout(Duration::ZERO, &mut changed).await.is_err(), "nothing has changed yet");
    change.await;
    timeout(PATIENCE, changed).await.expect("a hint");
}

async fn signed_in(store: &SqliteStore) -> Session {
    let session = sample::session(store, &user("alice"), now(store).await);
    insert(store, &session).await;
    session
}

/// Rotates a session's token.
async fn rotate(store: &SqliteStore, session: Session) {
    let owner = session.owner.clone();
    let change = Change::Update { session: Box::new(session), kind: EventKind::Rotated };
    assert_eq!(commit(store, &owner, vec![change]).await, Outcome::Done);
}

#[tokio::test]
async fn a_change_is_a_hint_to_every_store_on_the_file() {
    for own in [true, false] {
        let file = File::new();
        let (writer, other) = (file.open().await, file.open().await);
        let session = signed_in(&writer).await;
        let listener = if own { &writer } else { &other };
        hears(listener, rotate(&writer, session)).await;
    }
}

#[tokio::test]
async fn ending_sessions_is_a_hint() {
    let file = File::new();
    let (writer, other) = (file.open().await, file.open().await);
    for _ in 0..2 {
        let id = signed_in(&writer).await.id;
        hears(&other, async { assert_eq!(revoke(&writer, id).await, 1) }).await;
    }
    let (mut overdue, at) =
        (sample::session(&writer, &user("bob"), now(&writer).await), now(&writer).await);
    overdue.deadline = at.minus(Duration::from_secs(1));
    insert(&writer, &overdue).await;
    hears(&other, async {
        assert_eq!(sample::sweep_all(&writer, Duration::ZERO, 10).await.len(), 1);
    })
    .await;
}

/// A link to the database leads to the same hints.
#[cfg(unix)]
#[tokio::test]
async fn a_link_leads_to_the_same_file() {
    let file = File::new();
    let one = file.open().await;
    let session = signed_in(&one).await;
    let link = file.0.path().join("link.db");
    std::os::unix::fs::symlink(file.path(), &link).unwrap();
    let other = SqliteStore::connect(&link).await.unwrap();
    hears(&other, rotate(&one, session)).await;
}

/// Where there are no events, a store works and hears itself.
#[tokio::test]
async fn a_store_without_events_hears_itself_and_says_so() {
    let file = File::without_events();
    let store = file.open().await;
    let session = signed_in(&store).await;
    hears(&store, rotate(&store, session)).await;
    let StoreReport { problems, .. } = store.report().await.unwrap();
    assert!(matches!(&problems[..], [problem] if problem.contains("hint")), "{problems:?}");
}

/// Every node would read the log for every sign-in. Without events a store tells itself before the
/// change returns.
#[tokio::test]
async fn what_makes_no_cached_session_wrong_is_no_hint() {
    let file = File::without_events();
    let store = file.open().await;
    let mut changed = store.changed();
    assert!(timeout(Duration::ZERO, &mut changed).await.is_err(), "nothing has changed yet");
    let session = signed_in(&store).await;
    let (scope, by, at) = (PolicyScope::Deployment, Actor::Application, now(&store).await);
    let unset = PolicyChange { scope: scope.clone(), policy: None, at, by: by.clone() };
    store.set_policy(&unset).await.unwrap();
    let block = Block { reason: None, until: None, since: at, by: by.clone() };
    for block in [Some(block), None] {
        let change = BlockChange { scope: scope.clone(), block, at, by: by.clone() };
        store.set_block(&change).await.unwrap();
    }
    let foreign = sample::session(&store, &user("bob"), at);
    assert_eq!(revoke(&store, foreign.id).await, 0, "there is no such session");
    assert!(timeout(Duration::ZERO, &mut changed).await.is_err(), "a hint of nothing wrong");
    assert_eq!(revoke(&store, session.id).await, 1);
    timeout(Duration::ZERO, changed).await.expect("a hint of the end");
}

/// A node that starts later makes another, and hears nothing of those that watch the old one.
#[tokio::test]
async fn a_hint_file_that_was_deleted_is_told_of() {
    let file = File::new();
    let store = file.open().await;
    assert!(store.pushes());
    std::fs::remove_file(file.0.path().join("sessions.db-hint")).unwrap();
    assert!(!store.pushes());
    let StoreReport { problems, .. } = store.report().await.unwrap();
    assert!(matches!(&problems[..], [problem] if problem.contains("hint")), "{problems:?}");
}

/// The users that may write the database may write its hints, as SQLite does it with its log.
#[cfg(unix)]
#[tokio::test]
async fn the_hint_file_has_the_permissions_of_the_database() {
    use std::os::unix::fs::PermissionsExt;
    let file = File::new();
    file.open().await.close().await;
    let hint = file.0.path().join("sessions.db-hint");
    std::fs::remove_file(&hint).unwrap();
    std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o660)).unwrap();
    let _store = file.open().await;
    assert_eq!(std::fs::metadata(&hint).unwrap().permissions().mode() & 0o777, 0o660);
    // A link would let the owner of the folder choose what another user writes to.
    let another = file.0.path().join("another");
    std::fs::write(&another, "7").unwrap();
    std::fs::remove_file(&hint).unwrap();
    std::os::unix::fs::symlink(&another, &hint).unwrap();
    assert!(!file.open().await.pushes());
}

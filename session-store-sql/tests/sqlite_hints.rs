//! How soon a store hears of a change: by watching a file beside the database.
#![cfg(feature = "sqlite")]

use std::path::PathBuf;
use std::time::Duration;

use session_conformance::sample::{self, PATIENCE, insert, now, revoke, user};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{BlockChange, PolicyChange, StoreReport};
use session_core::{Actor, Session, Store};
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

#[tokio::test]
async fn a_change_is_a_hint_to_every_store_on_the_file() {
    for own in [true, false] {
        let file = File::new();
        let (writer, other) = (file.open().await, file.open().await);
        let listener = if own { &writer } else { &other };
        hears(listener, async { drop(signed_in(&writer).await) }).await;
    }
}

#[tokio::test]
async fn ending_sessions_is_a_hint() {
    let file = File::new();
    let writer = file.open().await;
    let other = file.open().await;
    let mut id = None;
    // The hint of the sign-in has come, so the next one is that of the end.
    hears(&other, async { id = Some(signed_in(&writer).await.id) }).await;
    let id = id.unwrap();
    hears(&other, async { assert_eq!(revoke(&writer, id).await, 1) }).await;
}

#[tokio::test]
async fn setting_a_policy_is_a_hint() {
    let file = File::new();
    let (writer, other) = (file.open().await, file.open().await);
    let (scope, by) = (PolicyScope::Deployment, Actor::Application);
    let unset = PolicyChange { scope, policy: None, at: now(&writer).await, by };
    hears(&other, async { writer.set_policy(&unset).await.unwrap() }).await;
}

#[tokio::test]
async fn a_block_is_a_hint() {
    let file = File::new();
    let (writer, other) = (file.open().await, file.open().await);
    let (scope, by) = (PolicyScope::Deployment, Actor::Application);
    let at = now(&writer).await;
    let block = Block { reason: None, until: None, since: at, by: by.clone() };
    for block in [Some(block), None] {
        let change = BlockChange { scope: scope.clone(), block, at, by: by.clone() };
        hears(&other, async { writer.set_block(&change).await.unwrap() }).await;
    }
}

/// A link to the database leads to the same hints.
#[cfg(unix)]
#[tokio::test]
async fn a_link_leads_to_the_same_file() {
    let file = File::new();
    let one = file.open().await;
    let link = file.0.path().join("link.db");
    std::os::unix::fs::symlink(file.path(), &link).unwrap();
    let other = SqliteStore::connect(&link).await.unwrap();
    hears(&other, async { drop(signed_in(&one).await) }).await;
}

/// Where there are no events, a store works and hears itself.
#[tokio::test]
async fn a_store_without_events_hears_itself_and_says_so() {
    let file = File::new();
    std::fs::create_dir(file.0.path().join("sessions.db-hint")).unwrap();
    let store = file.open().await;
    hears(&store, async { drop(signed_in(&store).await) }).await;
    let StoreReport { problems, .. } = store.report().await.unwrap();
    assert!(matches!(&problems[..], [problem] if problem.contains("hint")), "{problems:?}");
}

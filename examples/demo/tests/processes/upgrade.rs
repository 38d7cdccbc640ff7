//! A node of another version beside one of this version, on one store and under load.
//!
//! `cargo xtask upgrade` names the other version's program and the store in the environment. Without
//! them, both nodes are of this version, on a SQLite file.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use http::StatusCode;
use session_conformance::sample;
use session_kit::core::policy::{Policy, PolicyScope};
use session_kit::core::store::{Change, Loaded, Outcome, PolicyChange};
use session_kit::core::{Actor, EventKind, Store};
use session_kit::sql::SqliteStore;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::PATIENCE;
use crate::client::Client;
use crate::process::Process;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_upgrade_signs_nobody_out_and_refuses_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("demo.db").display());
    let store = std::env::var("SESSION_KIT_UPGRADE_STORE").unwrap_or(file);
    let old = std::env::var_os("SESSION_KIT_UPGRADE_FROM").map(PathBuf::from);
    let old = Process::of(&old.unwrap_or_else(Process::program), &store).await;

    let before = signed_in(&old, 20).await;
    let (stop, stopped) = watch::channel(false);
    let load = tokio::spawn(under_load(old.client(), stopped.clone()));
    // Its schema is brought up to date while the older node goes on.
    let new = Process::of(&Process::program(), &store).await;
    let new_load = tokio::spawn(under_load(new.client(), stopped));
    let beside = signed_in(&new, 20).await;
    for client in before.iter().chain(&beside) {
        for address in [old.address, new.address] {
            assert_eq!(client.at(address).whoami().await, StatusCode::OK);
        }
    }
    revocations_cross(&old, &new).await;
    revocations_cross(&new, &old).await;

    stop.send_replace(true);
    let counts = (load.await.unwrap(), new_load.await.unwrap());
    println!("sign-ins beside: {counts:?}");
    assert!(counts.0 > 0 && counts.1 > 0);
    old.stop().await;
    for client in before.iter().chain(&beside) {
        assert_eq!(
            client.at(new.address).whoami().await,
            StatusCode::OK,
            "signed out by an upgrade"
        );
    }
}

/// A node of this version goes on beside one that has written what this version does not know: fields of
/// records, an entry of the log, and the limit of a policy.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_of_tomorrow_writes_disturbs_no_node_of_today() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("demo.db");
    let today = Process::start(&file).await;
    let alice = today.signed_in("alice").await;
    assert_eq!(alice.whoami().await, StatusCode::OK);
    let id = alice.session_id().await.parse().unwrap();

    let tomorrow = SqliteStore::connect(&file).await.unwrap();
    let Loaded { mut session, .. } = tomorrow.load(id).await.unwrap().unwrap();
    let owner = session.owner.clone();
    let risk = serde_json::json!({ "score": [7, null] });
    session.unknown.insert("risk".to_owned(), risk);
    session.authentication.level = None;
    session.authentication.unknown.insert("level".to_owned(), "aal9".into());
    let written = session.clone();
    let session = Box::new(session);
    let change = Change::Update { session, kind: EventKind::Unknown };
    assert_eq!(sample::commit(&tomorrow, &owner, vec![change]).await, Outcome::Done);
    let text = r#"{"limits":[{"max":2,"scope":"network","on_exceed":"ask"}],"quorum":3}"#;
    let change = PolicyChange {
        scope: PolicyScope::User(owner.clone()),
        policy: Some(Policy::from_stored(text).unwrap()),
        at: sample::now(&tomorrow).await,
        by: Actor::Unknown,
    };
    tomorrow.set_policy(&change).await.unwrap();

    // It goes on, and what it changes keeps what it does not know.
    assert_eq!(alice.whoami().await, StatusCode::OK);
    let named = alice.ask("PATCH", &format!("/sessions/me/{id}")).json(r#"{"device_name":"Desk"}"#);
    assert_eq!(named.send().await.status, StatusCode::OK);
    let Loaded { session, .. } = tomorrow.load(id).await.unwrap().unwrap();
    assert_eq!(session.device_name.unwrap().as_str(), "Desk");
    assert_eq!(session.unknown, written.unknown);
    assert_eq!(session.authentication.unknown, written.authentication.unknown);
    // The limit holds in the way that comes nearest to it: two are left, and nobody is locked out.
    let mut clients = vec![alice];
    for _ in 0..3 {
        clients.push(today.signed_in("alice").await);
        assert_eq!(clients.last().unwrap().whoami().await, StatusCode::OK);
    }
    assert_eq!(tomorrow.user(&owner).await.unwrap().sessions.len(), 2);
    // What tomorrow's node ends is refused by today's.
    let last = clients.pop().unwrap();
    let ended = sample::revoke(&tomorrow, last.session_id().await.parse().unwrap()).await;
    assert_eq!(ended, 1);
    let revoked = Instant::now();
    while last.whoami().await == StatusCode::OK {
        assert!(revoked.elapsed() < PATIENCE, "never refused");
    }
    today.stop().await;
}

async fn signed_in(node: &Process, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(node.signed_in("bob").await);
    }
    clients
}

/// Signs in, looks and signs out, on and on: nothing fails. Answers how often.
async fn under_load(client: Client, stopped: watch::Receiver<bool>) -> usize {
    let mut workers = JoinSet::new();
    for user in ["north/alice", "north/boss", "south/alice", "south/bob"] {
        let (client, stopped) = (client.clone(), stopped.clone());
        workers.spawn(async move {
            let mut count = 0;
            while !*stopped.borrow() {
                let mut client = client.clone();
                assert_eq!(client.login(user).await, StatusCode::SEE_OTHER);
                assert_eq!(client.whoami().await, StatusCode::OK);
                assert!(client.post("/logout", "").await.status.is_redirection());
                count += 1;
            }
            count
        });
    }
    workers.join_all().await.into_iter().sum()
}

/// What one node revokes, the other refuses: soon in the middle, and each in the end.
async fn revocations_cross(here: &Process, there: &Process) {
    let root = here.signed_in("root").await;
    let mut delays = Vec::new();
    for _ in 0..10 {
        let alice = there.signed_in("alice").await;
        assert_eq!(alice.whoami().await, StatusCode::OK);
        let path = format!("/sessions/admin/sessions/{}", alice.session_id().await);
        assert_eq!(root.send("DELETE", &path, "").await.status, StatusCode::NO_CONTENT);
        let revoked = Instant::now();
        while alice.whoami().await == StatusCode::OK {
            assert!(revoked.elapsed() < PATIENCE, "never refused");
        }
        delays.push(revoked.elapsed());
    }
    delays.sort();
    // A busy machine may delay some of them.
    assert!(delays[5] <= Duration::from_secs(1), "{delays:?}");
}

//! 64 parallel sign-ins of one user, on two processes, 50 rounds under each policy.

use http::StatusCode;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::process::Process;

const LOGINS: usize = 64;
const ROUNDS: usize = 50;

async fn live(root: &Client, user: &str) -> usize {
    let path = format!("/sessions/admin/sessions?limit=200&user={user}");
    root.get(&path).await.json()["sessions"].as_array().unwrap().len()
}

/// Signs in at once on both processes; answers how many got in.
async fn sign_in_at_once(processes: &[Process; 2]) -> Vec<Client> {
    let mut running = JoinSet::new();
    for n in 0..LOGINS {
        let mut client = processes[n % 2].client();
        running.spawn(async move {
            let status = client.login("alice").await;
            (status, client)
        });
    }
    let mut won = Vec::new();
    for (status, client) in running.join_all().await {
        match status {
            StatusCode::SEE_OTHER => won.push(client),
            StatusCode::CONFLICT => {}
            status => panic!("a sign-in was answered {status}"),
        }
    }
    won
}

async fn rounds(policy: &str, allowed: usize, admitted: usize) {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("demo.db");
    let processes = [Process::start(&db).await, Process::start(&db).await];
    let root = processes[0].signed_in("root").await;
    let answer = root.send("PUT", "/sessions/admin/policy", policy).await;
    assert_eq!(answer.status, StatusCode::OK);
    for round in 0..ROUNDS {
        let won = sign_in_at_once(&processes).await;
        let live = live(&root, "alice").await;
        assert!(live <= allowed, "round {round}: {live} live sessions under {policy}");
        assert_eq!(live, allowed.min(won.len()), "round {round}: fewer than allowed");
        assert_eq!(won.len(), admitted, "round {round}");
        let revoked = root.send("DELETE", "/sessions/admin/users/alice/sessions", "").await;
        assert_eq!(revoked.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_logout_from_all_devices() {
    rounds(r#"{"prevent_concurrent_login":"LogoutFromAllDevices"}"#, 1, LOGINS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_logout_from_same_type_devices() {
    rounds(r#"{"prevent_concurrent_login":"LogoutFromSameTypeDevices"}"#, 1, LOGINS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_disabled() {
    rounds(r#"{"prevent_concurrent_login":"Disabled"}"#, LOGINS, LOGINS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_limit_that_evicts_the_oldest() {
    let limit = r#"{"max":3,"scope":"user","on_exceed":"evict_oldest"}"#;
    let policy = format!(r#"{{"prevent_concurrent_login":"Disabled","limits":[{limit}]}}"#);
    rounds(&policy, 3, LOGINS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_limit_that_evicts_the_least_recently_used() {
    let limit = r#"{"max":2,"scope":"device_kind","on_exceed":"evict_least_recently_used"}"#;
    let policy = format!(r#"{{"prevent_concurrent_login":"Disabled","limits":[{limit}]}}"#);
    rounds(&policy, 2, LOGINS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_limit_that_rejects() {
    let limit = r#"{"max":5,"scope":"client","on_exceed":"reject"}"#;
    let policy = format!(r#"{{"prevent_concurrent_login":"Disabled","limits":[{limit}]}}"#);
    rounds(&policy, 5, 5).await;
}

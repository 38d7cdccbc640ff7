//! Several processes on one file.

use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::task::JoinSet;

use crate::process::Process;

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_refused_by_the_other_process_within_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("demo.db");
    let (here, there) = (Process::start(&db).await, Process::start(&db).await);
    let root = here.signed_in("root").await;
    let mut delays = Vec::new();
    for _ in 0..20 {
        let alice = there.signed_in("alice").await;
        assert_eq!(alice.whoami().await, StatusCode::OK);
        assert_eq!(alice.at(here.address).whoami().await, StatusCode::OK);
        let path = format!("/sessions/admin/sessions/{}", alice.session_id().await);
        assert_eq!(root.send("DELETE", &path, "").await.status, StatusCode::NO_CONTENT);
        let revoked = Instant::now();
        assert_eq!(alice.at(here.address).whoami().await, StatusCode::UNAUTHORIZED, "at once");
        while alice.whoami().await == StatusCode::OK {
            assert!(revoked.elapsed() < Duration::from_secs(60), "never refused");
        }
        delays.push(revoked.elapsed());
    }
    delays.sort();
    println!(
        "refused by the other process after: median {:?}, longest {:?}",
        delays[10], delays[19]
    );
    // A busy machine may delay some of them.
    assert!(delays[10] <= Duration::from_secs(1), "{delays:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_processes_may_start_at_once_on_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("demo.db");
    let mut starting = JoinSet::new();
    for _ in 0..6 {
        let db = db.clone();
        starting.spawn(async move { Process::start(&db).await });
    }
    let processes = starting.join_all().await;
    let alice = processes[0].signed_in("alice").await;
    for process in &processes {
        assert_eq!(alice.at(process.address).whoami().await, StatusCode::OK);
    }
}

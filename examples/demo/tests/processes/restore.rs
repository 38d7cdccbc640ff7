//! A store that comes back from a backup, by the steps of docs/operations.md.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::StatusCode;
use session_kit::engine::clock::{Clock, SystemClock};
use sqlx::{Connection, SqliteConnection};

use crate::process::Process;

const PAGE: &str = include_str!("../../../../docs/operations.md");

/// The doctor's answer of the store in a file.
fn doctor(db: &Path, more: &[&str]) -> String {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_session-doctor"));
    doctor.arg("--store").arg(format!("sqlite:{}", db.display())).args(more);
    let output = doctor.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

/// As the page says, while the node runs.
async fn copy(db: &Path, copy: &Path) {
    let mut file = SqliteConnection::connect(&format!("sqlite:{}", db.display())).await.unwrap();
    let vacuum = sqlx::query("VACUUM INTO ?").bind(copy.to_str().unwrap());
    vacuum.execute(&mut file).await.unwrap();
    file.close().await.unwrap();
}

#[tokio::test]
async fn an_operator_restores_a_backup_and_ends_what_it_brings_back() {
    let folder = tempfile::tempdir().unwrap();
    let [db, backup] = ["demo.db", "backup.db"].map(|name| folder.path().join(name));
    let node = Process::start(&db).await;
    let (gone, kept) = (node.signed_in("alice").await, node.signed_in("bob").await);
    copy(&db, &backup).await;
    assert_eq!(gone.send("POST", "/logout", "").await.status, StatusCode::SEE_OTHER);
    assert_eq!(gone.whoami().await, StatusCode::UNAUTHORIZED);
    // 1 and 2.
    node.stop().await;
    std::fs::copy(&backup, &db).unwrap();
    for old in ["demo.db-wal", "demo.db-shm"] {
        // A node that stops may have removed them itself.
        if let Err(error) = std::fs::remove_file(folder.path().join(old)) {
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }
    doctor(&db, &[]);
    // 3. What has ended is there again.
    let node = Process::start(&db).await;
    let (gone, kept) = (gone.at(node.address), kept.at(node.address));
    assert_eq!(gone.whoami().await, StatusCode::OK);
    let time = SystemClock.now();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let root = node.signed_in("root").await;
    // 4.
    let path = "/sessions/admin/sessions?signed_in_before=";
    assert!(PAGE.contains(&format!("{path}TIME")));
    let answer = root.delete(&format!("{path}{time}")).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, r#"{"revoked":2}"#));
    for client in [&gone, &kept] {
        assert_eq!(client.whoami().await, StatusCode::UNAUTHORIZED);
    }
    // 5.
    let block = root.send("PUT", "/sessions/admin/block?user=mallory", "{}").await;
    assert_eq!(block.status, StatusCode::OK, "{}", block.text());
    node.stop().await;
}

#[tokio::test]
async fn an_operator_finds_the_way_back_from_a_block_of_the_deployment() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("demo.db");
    let node = Process::start(&db).await;
    let (alice, root) = (node.signed_in("alice").await, node.signed_in("root").await);
    let block = root.send("PUT", "/sessions/admin/block", "{}").await;
    assert_eq!((block.status, block.text()), (StatusCode::OK, r#"{"revoked":2}"#));
    for client in [&alice, &root] {
        assert_eq!(client.whoami().await, StatusCode::UNAUTHORIZED);
    }
    let mut again = node.client();
    assert_eq!(again.login("root").await, StatusCode::FORBIDDEN, "nobody signs in");
    assert!(PAGE.contains("--lift-block"));
    let said = doctor(&db, &["--lift-block"]);
    assert!(said.starts_with("Lifted the block that user:root set"), "{said}");
    assert_eq!(again.login("root").await, StatusCode::SEE_OTHER);
    assert_eq!(again.delete("/sessions/admin/block").await.status, StatusCode::NO_CONTENT);
    node.stop().await;
}

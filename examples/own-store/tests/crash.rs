//! The store's process is killed, as `kill -9` does: what it acknowledged is there.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use own_store::OwnStore;
use session_conformance::sample;
use session_core::Store;

/// The process that is killed. It signs users in for as long as it lives, and says so.
#[tokio::test]
#[ignore = "the test below runs it, with a file"]
async fn signs_in() {
    let store = OwnStore::connect(std::env::var_os(FILE).unwrap()).await.unwrap();
    for n in 0_u64.. {
        let owner = sample::user(&format!("user {n}"));
        let session = sample::session(&store, &owner, sample::now());
        sample::insert(&store, &session).await;
        println!("\n{ACKNOWLEDGED}{}", session.id);
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions");
    let mut acknowledged = Vec::new();
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["signs_in", "--exact", "--ignored", "--nocapture"])
            .env(FILE, &file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            let Some(id) = line.strip_prefix(ACKNOWLEDGED) else { continue };
            acknowledged.push(id.parse().unwrap());
            // What it has said until it is dead is read, too.
            if acknowledged.len() == round * 50 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= round * 50, "it ended by itself");
        let store = OwnStore::connect(&file).await.unwrap();
        for id in &acknowledged {
            assert!(store.load(*id).await.unwrap().is_some(), "{id} was acknowledged");
        }
    }
}

const FILE: &str = "OWN_STORE_FILE";
const ACKNOWLEDGED: &str = "signed in: ";

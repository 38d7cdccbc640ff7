//! The store's process is killed, as `kill -9` does: what it acknowledged is there.

use std::sync::Arc;

use own_store::OwnStore;

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |folder: std::path::PathBuf| {
        Arc::new(OwnStore::connect(folder.join("sessions")).await.unwrap()) as _
    };
    let test = "a_kill_loses_nothing";
    session_conformance::faults::a_kill_loses_nothing(test, folder.path(), open).await;
}

//! A process with a SQLite file is killed, as `kill -9` does: what it acknowledged is there.

use std::sync::Arc;

use session_store_sql::SqliteStore;

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |folder: std::path::PathBuf| {
        Arc::new(SqliteStore::connect(folder.join("sessions.db")).await.unwrap()) as _
    };
    let test = "a_kill_loses_nothing";
    session_conformance::faults::a_kill_loses_nothing(test, folder.path(), open).await;
}

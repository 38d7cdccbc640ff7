//! The SQLite store under the conformance kit, every node on connections of its own.
#![cfg(feature = "sqlite")]

use std::sync::Arc;

use session_conformance::sample::PATIENCE;
use session_conformance::{Backend, Namespace};
use session_core::Store;
use session_store_sql::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

struct Sqlite;

struct File(TempDir);

#[async_trait::async_trait]
impl Backend for Sqlite {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(File(TempDir::new().unwrap()))
    }
}

#[async_trait::async_trait]
impl Namespace for File {
    async fn connect(&self) -> Arc<dyn Store> {
        let options = SqliteOptions::default().with_busy_timeout(PATIENCE);
        let path = self.0.path().join("sessions.db");
        Arc::new(SqliteStore::connect_with(path, options).await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let report = session_conformance::run(Arc::new(Sqlite)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

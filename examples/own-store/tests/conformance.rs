//! The store under the conformance kit.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use own_store::OwnStore;
use redb::{Database, DatabaseError, ReadableTable, TableDefinition};
use serde_json::Value;
use session_conformance::{Backend, Namespace, RestorePoint, Store, UserKey, async_trait};
use session_core::store::record::decode_event;
use session_core::{SessionId, StoreErrorKind};
use tempfile::TempDir;
use tokio::sync::Mutex;

struct Files;

struct File {
    folder: TempDir,
    /// Nodes share one open file. When all have left, the next one opens it again.
    open: Mutex<Weak<OwnStore>>,
}

#[async_trait]
impl Backend for Files {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(File { folder: tempfile::tempdir().unwrap(), open: Mutex::default() })
    }
}

/// Remembers nothing that lives: a copy of the file is of one moment.
#[async_trait]
impl Namespace for File {
    async fn connect(&self) -> Arc<dyn Store> {
        let mut open = self.open.lock().await;
        if let Some(store) = open.upgrade() {
            return store;
        }
        loop {
            match OwnStore::connect(self.path("sessions")).await {
                Ok(store) => {
                    let store = Arc::new(store);
                    *open = Arc::downgrade(&store);
                    return store;
                }
                // A call whose caller went away still has the file.
                Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn damage(&self, id: SessionId) -> bool {
        let change = self.database().await.begin_write().unwrap();
        for name in ["sessions", "history"] {
            let records = TableDefinition::<&[u8; 16], &[u8]>::new(name);
            let mut records = change.open_table(records).unwrap();
            let found = records.get(id.as_bytes()).unwrap().map(|found| damaged(found.value()));
            if let Some(damaged) = found {
                records.insert(id.as_bytes(), &*damaged).unwrap();
            }
        }
        change.commit().unwrap();
        true
    }

    async fn damage_log(&self, id: SessionId) -> bool {
        let change = self.database().await.begin_write().unwrap();
        let log = TableDefinition::<i64, (i64, i64, i64, &[u8])>::new("log");
        let mut log = change.open_table(log).unwrap();
        let rows = log.iter().unwrap().map(Result::unwrap);
        let found = rows.filter_map(|(number, entry)| {
            let (mark, before, at, event) = entry.value();
            let is_about = decode_event(event).unwrap().session == Some(id);
            is_about.then_some((number.value(), mark, before, at))
        });
        for (number, mark, before, at) in found.collect::<Vec<_>>() {
            log.insert(number, (mark, before, at, &b"{}"[..])).unwrap();
        }
        drop(log);
        change.commit().unwrap();
        true
    }

    async fn damage_settings(&self, owner: &UserKey) -> bool {
        let change = self.database().await.begin_write().unwrap();
        for name in ["policies", "blocks"] {
            let settings = TableDefinition::<(&str, &str), &str>::new(name);
            let mut settings = change.open_table(settings).unwrap();
            settings.insert((owner.tenant_text(), owner.user.as_str()), "{").unwrap();
        }
        change.commit().unwrap();
        true
    }

    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        let copy = Copy { copy: self.path("copy"), file: self.path("sessions") };
        std::fs::copy(&copy.file, &copy.copy).unwrap();
        Some(Box::new(copy))
    }
}

impl File {
    async fn database(&self) -> Database {
        loop {
            match Database::open(self.path("sessions")) {
                Ok(database) => break database,
                // A call whose caller went away still has the file.
                Err(DatabaseError::DatabaseAlreadyOpen) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The record with an address that is none.
fn damaged(record: &[u8]) -> Vec<u8> {
    let mut fields: Value = serde_json::from_slice(record).unwrap();
    fields["ip_addresses"] = "nowhere".into();
    fields.to_string().into_bytes()
}

struct Copy {
    copy: PathBuf,
    file: PathBuf,
}

#[async_trait]
impl RestorePoint for Copy {
    async fn restore(self: Box<Self>) {
        std::fs::rename(self.copy, self.file).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let report = session_conformance::run(Arc::new(Files)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

//! The store under the conformance kit.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use own_store::OwnStore;
use session_conformance::{Backend, Namespace, RestorePoint, Store, async_trait};
use session_core::StoreErrorKind;
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

    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        let copy = Copy { copy: self.path("copy"), file: self.path("sessions") };
        std::fs::copy(&copy.file, &copy.copy).unwrap();
        Some(Box::new(copy))
    }
}

impl File {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
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

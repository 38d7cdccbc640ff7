//! The memory store under the conformance kit.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use session_conformance::{Backend, Namespace, RestorePoint};
use session_core::Store;
use session_store_memory::MemoryStore;

struct Memory;

/// The content that connections are opened on.
struct Fresh(Arc<Mutex<MemoryStore>>);

struct Copy {
    place: Arc<Mutex<MemoryStore>>,
    copy: MemoryStore,
}

#[async_trait::async_trait]
impl Backend for Memory {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(Fresh(Arc::default()))
    }
}

/// Damages nothing and remembers nothing that lives: a record is a value of this program, which can
/// always be read, and all that the store has is under one lock, so no copy has two moments.
#[async_trait::async_trait]
impl Namespace for Fresh {
    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(self.0.lock().unwrap().clone())
    }

    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        let copy = self.0.lock().unwrap().copy();
        Some(Box::new(Copy { place: Arc::clone(&self.0), copy }))
    }
}

#[async_trait::async_trait]
impl RestorePoint for Copy {
    async fn restore(self: Box<Self>) {
        *self.place.lock().unwrap() = self.copy;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let report = session_conformance::run(Arc::new(Memory)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

/// As on every store that does not say otherwise.
#[test]
fn ended_sessions_are_kept_for_thirty_days_by_default() {
    let thirty_days = Duration::from_secs(30 * 24 * 3_600);
    assert_eq!(MemoryStore::new().history_by_default(), thirty_days);
}

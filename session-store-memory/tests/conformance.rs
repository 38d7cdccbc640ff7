//! The memory store under the conformance kit.

use std::sync::Arc;

use session_conformance::{Backend, Namespace};
use session_core::Store;
use session_store_memory::MemoryStore;

struct Memory;

struct Fresh(MemoryStore);

#[async_trait::async_trait]
impl Backend for Memory {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(Fresh(MemoryStore::new()))
    }
}

#[async_trait::async_trait]
impl Namespace for Fresh {
    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let report = session_conformance::run(Arc::new(Memory)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

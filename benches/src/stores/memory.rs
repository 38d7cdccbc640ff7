//! The memory store.

use std::sync::Arc;

use session_core::{Store, async_trait};
use session_store_memory::MemoryStore;

use super::Backend;
use crate::Failure;

/// One memory store, which all nodes share.
#[derive(Default)]
pub struct Memory(MemoryStore);

#[async_trait]
impl Backend for Memory {
    async fn open(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(Arc::new(self.0.clone()))
    }

    async fn remove(&self) -> Result<(), Failure> {
        Ok(())
    }
}

//! Checks that a store keeps the guarantees that a store can break.
//!
//! Give it a [`Backend`] that opens fresh namespaces; it runs every case of [`CASES`], races
//! included, prints a line with its time for each and answers a [`Report`]. [`run_case`] runs one
//! of them, as does [`run`] where the environment variable `SESSION_KIT_CASE` names it. A failure
//! says what was expected, where in the kit, and which calls of the store led to it. [`Probe`]
//! disturbs a store on demand, for tests of what stands above it.
//!
//! ```
//! use std::sync::Arc;
//! use session_conformance::{Backend, Namespace, Store, async_trait};
//! use session_store_memory::MemoryStore;
//!
//! struct Memory;
//! struct Fresh(MemoryStore);
//!
//! #[async_trait]
//! impl Backend for Memory {
//!     async fn fresh(&self) -> Box<dyn Namespace> {
//!         Box::new(Fresh(MemoryStore::new()))
//!     }
//! }
//!
//! #[async_trait]
//! impl Namespace for Fresh {
//!     async fn connect(&self) -> Arc<dyn Store> {
//!         Arc::new(self.0.clone())
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let report = session_conformance::run(Arc::new(Memory)).await;
//! assert!(report.passed(), "{report}");
//! # });
//! ```

mod cases;
pub mod faults;
mod probe;
mod recorder;
mod run;
pub mod sample;

use std::sync::Arc;

pub use async_trait::async_trait;
pub use session_core::{self, SessionId, Store, UserKey};
pub use session_engine::Options;

pub use cases::{CASES, Case};
pub use probe::{Gate, Probe};
pub use run::{Failure, Pass, Report, run, run_case, run_case_within, run_within};

/// Opens namespaces that know nothing of one another.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// An empty namespace: a new file, a new schema, a new key prefix.
    async fn fresh(&self) -> Box<dyn Namespace>;
}

/// One namespace, opened by as many nodes as a case needs.
#[async_trait]
pub trait Namespace: Send + Sync + 'static {
    /// Another node's connection to the same content. Called again after all others were dropped,
    /// it opens the same content.
    async fn connect(&self) -> Arc<dyn Store>;

    /// What the cases' engines start from. Default [`sample::options`]. Raise `store_timeout` here
    /// for a slow test server.
    fn options(&self) -> Options {
        sample::options()
    }

    /// How many sessions of one user are ended at once. Default 2,000; lower it for a slow test
    /// server. Where it is lower, the case that needs more sessions than one call examines is skipped.
    fn many_sessions(&self) -> usize {
        2_000
    }

    /// Whether records of the history end by themselves, so that [`Store::forget`] may answer zero
    /// for an age. Default false.
    fn history_ends_by_itself(&self) -> bool {
        false
    }

    /// A copy of the content as it is now, where the backend can take one, such as that of a file
    /// or a dump. Default none: then nothing is checked that needs one.
    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        None
    }

    /// Makes a part of this session's record unreadable, such as its addresses, wherever the record
    /// is: among the sessions or in the history. The id, the owner, the sign-in, the deadline and
    /// the end stay. Called when no connection to the namespace is open. Answers whether it did:
    /// default false, then nothing is checked that needs one.
    async fn damage(&self, _id: SessionId) -> bool {
        false
    }

    /// Writes the record of this session, which lives, into the history, as if it had been evicted at
    /// [`Timestamp::EPOCH`](session_core::Timestamp::EPOCH): what a restored dump has whose tables are
    /// of different moments. Called when no connection to the namespace is open. Answers whether it
    /// did: default false, then nothing is checked that needs one.
    async fn remember_alive(&self, _id: SessionId) -> bool {
        false
    }

    /// Makes the log's entries of this session unreadable, such as their kinds. Their places in the
    /// log stay. Called when no connection to the namespace is open. Answers whether it did: default
    /// false, then nothing is checked that needs one.
    async fn damage_log(&self, _id: SessionId) -> bool {
        false
    }

    /// Makes the policy and the block of this user's own place unreadable, both of which are set.
    /// Called when no connection to the namespace is open. Answers whether it did: default false,
    /// then nothing is checked that needs one.
    async fn damage_settings(&self, _owner: &UserKey) -> bool {
        false
    }

    /// Resolves when the lists that pages and walks go by have caught up. Default at once. A store
    /// whose lists lag behind for a moment waits here; the kit asks before each page and each walk
    /// of a case, because cases ask for what has just begun.
    async fn settle(&self) {}

    /// What is wrong with the content, each in a sentence: asked after every case. For what the
    /// kit cannot see from outside, such as an index that holds what is gone.
    async fn complaints(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A copy of a namespace's content at one moment: a backup.
#[async_trait]
pub trait RestorePoint: Send + Sync {
    /// Makes the copy the content of the namespace again. Called when no connection to it is open;
    /// those that [`Namespace::connect`] opens afterwards find the copy.
    async fn restore(self: Box<Self>);
}

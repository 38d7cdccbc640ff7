//! The store below: one that answers at once, by the run's clock.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use clap::ValueEnum;
use session_core::store::Needs;
use session_core::{Store, Timestamp};
use session_store_memory::MemoryStore;
use session_store_sql::{Durability, SqliteOptions, SqliteStore};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::call::{Answer, Call};
use crate::node::stamp;
use crate::plan::Ms;

/// Which store is below.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// In memory.
    Memory,
    /// A SQLite file.
    Sqlite,
}

/// The run's time, as the store sees it. Clones are the same clock.
#[derive(Clone)]
pub(crate) struct Clock(Arc<AtomicI64>);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(stamp(0).as_micros())))
    }

    pub(crate) fn set(&self, at: Ms) {
        self.0.store(stamp(at).as_micros(), Ordering::Relaxed);
    }

    fn as_function(&self) -> impl Fn() -> Timestamp + Send + Sync + 'static {
        let clock = Arc::clone(&self.0);
        move || Timestamp::from_micros(clock.load(Ordering::Relaxed))
    }
}

/// A store, and what its calls run on. Its own clock is the run's; the time that a call takes is the
/// world's to say.
pub(crate) struct Below {
    store: Opened,
    runtime: Runtime,
    clock: Clock,
    /// What the nodes have asked of it.
    needs: Needs,
}

enum Opened {
    Memory(MemoryStore),
    Sqlite(Box<SqliteStore>, TempDir),
}

impl Below {
    pub(crate) fn open(kind: Kind, clock: &Clock, needs: Needs) -> Self {
        let store = |runtime: &Runtime| match kind {
            Kind::Memory => Opened::Memory(MemoryStore::with_clock(clock.as_function())),
            Kind::Sqlite => open_file(folder(), clock, runtime),
        };
        Self::with(store, clock, needs)
    }

    /// As a backup has it that is restored.
    pub(crate) fn copy(&self) -> Self {
        let store = |runtime: &Runtime| match &self.store {
            Opened::Memory(store) => Opened::Memory(store.copy()),
            Opened::Sqlite(_, from) => {
                let to = folder();
                copy_file(from.path(), to.path());
                open_file(to, &self.clock, runtime)
            }
        };
        Self::with(store, &self.clock, self.needs.clone())
    }

    fn with(store: impl FnOnce(&Runtime) -> Opened, clock: &Clock, needs: Needs) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime without I/O asks nothing of the system");
        let below = Self { store: store(&runtime), runtime, clock: clock.clone(), needs };
        below.store.get().configure(&below.needs);
        below
    }

    /// Makes the call, whose answer does not depend on how long it takes.
    pub(crate) fn perform(&self, call: &Call) -> Answer {
        self.runtime.block_on(call.perform(self.store.get()))
    }
}

impl Opened {
    fn get(&self) -> &dyn Store {
        match self {
            Self::Memory(store) => store,
            Self::Sqlite(store, _) => &**store,
        }
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for the store")
}

fn open_file(folder: TempDir, clock: &Clock, runtime: &Runtime) -> Opened {
    let options = SqliteOptions::default()
        .with_clock(clock.as_function())
        .with_durability(Durability::ProcessDeath)
        .with_readers(1);
    let opened = runtime.block_on(SqliteStore::connect_with(folder.path().join(FILE), options));
    Opened::Sqlite(opened.expect("a store in a new folder").into(), folder)
}

/// No change is being written: a run makes one call at a time. A checkpoint may be, which leaves the
/// write-ahead log whole, and SQLite replays the log when it opens the copy.
fn copy_file(from: &Path, to: &Path) {
    for name in [FILE, "sessions.db-wal"] {
        std::fs::copy(from.join(name), to.join(name)).expect("a copy of the store");
    }
}

const FILE: &str = "sessions.db";

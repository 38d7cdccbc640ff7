//! Checks that a store keeps the guarantees that a store can break.
//!
//! Give it a [`Backend`] that opens fresh namespaces; it runs every case of [`CASES`], races
//! included, prints a line for each and answers a [`Report`]. [`Probe`] disturbs a store on demand,
//! for tests of what stands above it.
//!
//! ```
//! use std::sync::Arc;
//! use async_trait::async_trait;
//! use session_conformance::{Backend, Namespace};
//! use session_core::Store;
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
pub mod sample;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use session_core::Store;
use session_engine::Options;

pub use cases::{CASES, Case};
pub use probe::{Gate, Probe};

/// Opens namespaces that know nothing of one another.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// An empty namespace: a new file, a new schema, a new key prefix.
    async fn fresh(&self) -> Box<dyn Namespace>;
}

/// One namespace, opened by as many nodes as a case needs.
#[async_trait]
pub trait Namespace: Send + Sync + 'static {
    /// Another node's connection to the same content.
    async fn connect(&self) -> Arc<dyn Store>;

    /// What the cases' engines start from. Default [`sample::options`]. Raise `store_timeout` here
    /// for a slow test server.
    fn options(&self) -> Options {
        sample::options()
    }

    /// How many sessions of one user are ended at once. Default 2,000; lower it for a slow test
    /// server.
    fn many_sessions(&self) -> usize {
        2_000
    }

    /// A copy of the content as it is now, where the backend can take one, such as that of a file or
    /// a dump. Default none: then nothing is checked that needs one.
    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        None
    }

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

/// How a run ended.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases that passed.
    pub passes: Vec<&'static str>,
    /// Cases that failed, and why.
    pub failures: Vec<(&'static str, String)>,
}

impl Report {
    /// Whether every case passed, and there was one.
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && !self.passes.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, reason) in &self.failures {
            writeln!(f, "{name}: {reason}")?;
        }
        write!(f, "{} passed, {} failed", self.passes.len(), self.failures.len())
    }
}

/// Runs every case, each in a namespace of its own, and prints a line for each.
pub async fn run(backend: Arc<dyn Backend>) -> Report {
    run_within(backend, PATIENCE).await
}

/// As [`run`], where a case that takes longer than this has failed.
pub async fn run_within(backend: Arc<dyn Backend>, patience: Duration) -> Report {
    let mut report = Report::default();
    for case in CASES {
        // A task of its own, so that a failed assertion ends the case and not the run.
        let namespace: Arc<dyn Namespace> = backend.fresh().await.into();
        let begun = std::time::Instant::now();
        let run = (case.run)(Arc::clone(&namespace));
        let run = async move {
            run.await;
            assert_eq!(namespace.complaints().await, [""; 0]);
        };
        let run = tokio::spawn(tokio::time::timeout(patience, run));
        match run.await {
            Ok(Ok(())) => {
                println!("conformance {} ... {:.3} s ok", case.name, begun.elapsed().as_secs_f64());
                report.passes.push(case.name);
            }
            failure => {
                println!("conformance {} ... FAILED", case.name);
                let reason = match failure {
                    Err(panic) => panic.to_string(),
                    Ok(_) => format!("not done after {} s", patience.as_secs()),
                };
                report.failures.push((case.name, reason));
            }
        }
    }
    report
}

/// No case takes nearly as long on a store that works, also where the machine is busy.
const PATIENCE: Duration = Duration::from_secs(600);

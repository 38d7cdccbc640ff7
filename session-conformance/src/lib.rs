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

mod abandoned;
mod admission;
mod change;
pub mod faults;
mod listing;
mod log;
mod probe;
pub mod sample;
mod shared;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use session_core::Store;
use session_engine::Options;

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

    /// What is wrong with the content, each in a sentence: asked after every case. For what the
    /// kit cannot see from outside, such as an index that holds what is gone.
    async fn complaints(&self) -> Vec<String> {
        Vec::new()
    }
}

/// One thing that a store must do.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it is about, in words.
    pub name: &'static str,
    run: fn(Arc<dyn Namespace>) -> Running,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! cases {
    ($($module:ident :: $case:ident),+ $(,)?) => {
        /// Every case, in the order in which they run.
        pub const CASES: &[Case] = &[
            $(Case {
                name: concat!(stringify!($module), "::", stringify!($case)),
                run: |namespace| Box::pin($module::$case(namespace)),
            }),+
        ];
    };
}

cases![
    change::every_field_comes_back_at_its_limits,
    change::a_commit_needs_the_version_it_was_made_for,
    change::a_commit_is_all_or_nothing,
    change::users_and_tenants_do_not_disturb_one_another,
    change::a_touch_moves_forward_merges_and_never_creates,
    change::a_rotation_races_a_revocation,
    change::a_touch_races_a_revocation,
    change::selections_end_what_they_select,
    change::a_sweep_takes_only_what_is_past_the_line,
    abandoned::a_change_happens_whole_or_not_at_all,
    abandoned::the_next_call_gets_its_own_answer,
    admission::no_limit_is_exceeded_by_concurrent_sign_ins,
    admission::reject_admits_exactly_the_limit,
    admission::one_user_with_many_sessions,
    listing::pages_are_stable_while_sessions_come_and_go,
    listing::filters_select_what_they_say,
    log::entries_come_in_order_to_every_reader,
    log::concurrent_writers_lose_no_entry,
    log::a_cut_log_is_noticed,
    log::a_foreign_cursor_is_a_gap,
    log::a_node_that_was_cut_off_catches_up,
    shared::nodes_open_at_the_same_moment,
    shared::policies_layer_and_inherit,
    shared::a_lease_has_one_holder,
    shared::a_revocation_reaches_every_node,
];

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
        let run = (case.run)(Arc::clone(&namespace));
        let run = async move {
            run.await;
            assert_eq!(namespace.complaints().await, [""; 0]);
        };
        let run = tokio::spawn(tokio::time::timeout(patience, run));
        match run.await {
            Ok(Ok(())) => {
                println!("conformance {} ... ok", case.name);
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

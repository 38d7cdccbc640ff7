//! The async shell around [`session_core`]: it holds the cache, the clock and the workers, and
//! asks the core for every decision.
//!
//! One [`Engine`] is one *node*: a process that embeds session-kit. Many nodes share one
//! [`Store`](session_core::Store). The engine's [`SessionManager`] is what requests use.
//!
//! ```
//! use session_core::{UserId, UserKey};
//! use session_engine::{Access, Engine, Options, SignIn, Verdict};
//! use session_store_memory::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::start(MemoryStore::new(), Options::default()).await?;
//! let sessions = engine.sessions();
//!
//! let alice = UserKey::new(UserId::new("alice")?);
//! let signed_in = sessions.sign_in(SignIn::new(alice.clone())).await?;
//! let token = signed_in.token.expose();
//!
//! let verdict = sessions.validate(token.as_bytes(), Access::default()).await?;
//! assert!(matches!(verdict, Verdict::Active(session) if *session.owner() == alice));
//! engine.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Workers
//! | worker | does | when |
//! | --- | --- | --- |
//! | follower | reads the store's log of changes and applies it to the cache | twice per [`Options::propagation_bound`], four times where the store does not push; and on every hint |
//! | write-back | takes last accessed and addresses to the store in batches | every `write_back.flush_interval`, if there is something |
//! | cleanup | ends inactive sessions, cuts the log and the history; one node of the fleet at a time | every `cleanup.period`, and sooner after a failure |
//! | report | asks the store for its report, for [`SessionManager::health`] | every ten minutes |
//! | take-back | ends sessions that this node has begun and no client holds, until the store has answered | when there is one |
//!
//! A worker that panics is started again; [`SessionManager::health`] tells.

mod admit;
mod attempt;
mod block;
mod cache;
mod calls;
mod check;
mod claims;
pub mod clock;
mod continuation;
mod ending;
mod engine;
pub mod entropy;
mod entry;
mod error;
mod follower;
mod health;
mod held;
mod history;
mod listing;
mod load;
mod lookup;
mod manager;
mod memory;
mod meter;
#[cfg(feature = "metrics")]
pub mod metrics;
mod node;
mod notice;
mod options;
mod paces;
mod patience;
mod policies;
mod queue;
mod reads;
mod record;
mod revoke;
mod rotate;
mod shared;
mod sign_in;
mod sweeper;
mod sync;
mod take_back;
mod tasks;
mod ticket;
mod time;
mod trouble;
mod trust;
mod wait;
mod watchers;
mod write_back;

pub use async_trait::async_trait;
pub use block::NewBlock;
pub use check::{Check, Refusal, Verdict};
pub use claims::ClaimsProvider;
pub use ending::Ending;
pub use engine::{Engine, Parts};
pub use entry::{Access, ActiveSession};
pub use error::{Blocked, Error, TooManySessions};
pub use health::{CleanupHealth, CleanupLease, Health, StoreHealth, WorkerHealth};
pub use held::Held;
pub use history::{Erased, UserExport};
pub use lookup::Lookup;
pub use manager::SessionManager;
pub use notice::{Events, Notice};
pub use options::{Addresses, History, Options, WhenStale};
pub use policies::EffectivePolicy;
pub use rotate::{Proof, RotateReason, Rotation};
pub use sign_in::{SignIn, SignedIn};
pub use ticket::Ticket;
#[doc(hidden)]
pub use trouble::{Trouble, TroubleOver};
pub use wait::WaitEnd;

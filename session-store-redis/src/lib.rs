//! session-kit's [`Store`](session_core::Store) on Redis 7 and Valkey, single or Cluster.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), session_core::StoreError> {
//! # let variable = |name| std::env::var(name).ok();
//! # let Some(one) = variable("SESSION_KIT_REDIS_URL") else { return Ok(()) };
//! # let Some(some) = variable("SESSION_KIT_REDIS_CLUSTER_URLS") else { return Ok(()) };
//! # let (url, urls) = (one.as_str(), some.split(',').collect::<Vec<_>>());
//! use session_store_redis::{RedisOptions, RedisStore};
//!
//! // A URL such as `redis://127.0.0.1`.
//! let single = RedisStore::connect(url).await?;
//! // Those of some servers of a cluster.
//! let options = RedisOptions::default().with_prefix("login:");
//! let cluster = RedisStore::connect_cluster_with(&urls, options).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Tested on Redis 7.0, on one server and on a cluster of three masters and three replicas, through
//! a moving slot and a failover; by hand also on Redis 8.0 and Valkey 9.1, and on Valkey 8.0 all of
//! that but the failover. A sign-in costs two round trips, a cache miss one.
//!
//! # What may be lost
//! Redis acknowledges a change before it is on disk and before replicas have it.
//!
//! - **The server process dies** (`kill -9`): with `appendonly yes` nothing is lost, whatever
//!   `appendfsync` says, because the change is with the operating system before it is acknowledged.
//!   Without it everything since the last snapshot is lost.
//! - **The machine dies**: with `appendfsync everysec` up to about a second is lost, with `always`
//!   nothing.
//! - **A replica takes over**: it may lack the last changes. A revocation that it lacks is undone;
//!   nodes notice that the log is not the one they read and drop their caches, but the session is
//!   back. [`RedisOptions::replicas`] has every change of sessions and policies wait until so many
//!   replicas have it, and not be acknowledged where they do not in time.
//!
//! Give it `maxmemory-policy noeviction`: a server that evicts keys signs users out, and takes keys
//! out of the middle of what belongs together.
//!
//! # What it needs
//! All keys begin with [`RedisOptions::prefix`]. An ACL user needs `~PREFIX*`, `&PREFIX*`, and
//! `+@read +@write +@scripting +@pubsub +@connection`, on a cluster also `+cluster`. `rediss://` URLs
//! trust the system's authorities or those of [`RedisOptions::tls`]. An application that has more
//! than one of rustls' cryptography providers compiled in has to install one as its default.
//!
//! About 1,050 bytes of memory for a session with an absolute expiry, two per user (measured: 1,160
//! with 100,000, 1,052 with 1,000,000). Pages of 50 out of 1,000,000 take the same time at any depth,
//! and of the commands of a walk over all of them the slowest took 2.9 ms
//! (`cargo run --release -p session-store-redis --example scale -- URL 1000000`).
//!
//! A user's key holds all of the user's sessions, and a sign-in reads it whole: with 10,000 sessions
//! of one user that is some megabytes. A filter by client or kind of device, or for users outside all
//! tenants where there are tenants, passes over what does not match, 256 records at a time.

mod audit;
mod change;
mod connections;
mod end;
mod link;
mod log;
mod options;
mod placement;
mod push;
mod read;
mod record;
mod report;
mod scripts;
mod store;
mod tls;
mod walk;

pub use options::{RedisOptions, Replicas};
pub use store::RedisStore;
pub use tls::RedisTls;

//! session-kit's [`Store`](session_core::Store) on Redis 7 and Valkey, single or Cluster.

mod audit;
mod change;
mod link;
mod log;
mod placement;
mod push;
mod read;
mod record;
mod scripts;
mod store;

pub use link::Replicas;
pub use store::{RedisOptions, RedisStore};

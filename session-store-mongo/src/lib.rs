//! session-kit's [`Store`](session_core::Store) on MongoDB.

mod audit;
mod change;
mod error;
mod log;
mod outbox;
#[cfg(all(test, feature = "server-tests"))]
mod plans;
mod push;
mod read;
mod record;
mod store;
mod touch;

pub use store::{MongoOptions, MongoStore, Transactions};

//! session-kit's [`Store`](session_core::Store) on MongoDB.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), session_core::StoreError> {
//! # let Ok(url) = std::env::var("SESSION_KIT_MONGODB_URL") else { return Ok(()) };
//! use session_store_mongo::MongoStore;
//!
//! // A URL such as `mongodb://db/app`.
//! let store = MongoStore::connect(&url).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where it has been tested
//! On SecantusDB 0.7, a server that speaks MongoDB's wire protocol as a replica set of one, with
//! transactions and without. **Not yet on MongoDB itself**, nor on a sharded cluster, nor through a
//! failover: nothing here depends on that server's ways, but nobody has seen it run elsewhere. Point
//! `SESSION_KIT_MONGODB_URL` at a server of yours and run `cargo xtask conformance mongo`.
//!
//! # What it keeps
//! | collection | `_id` | shard key |
//! | --- | --- | --- |
//! | `users`: all sessions of a user | the user's tag, which every session id begins with | `{ _id: "hashed" }` |
//! | `sessions`: a list for pages and for the cleanup | the session id | `{ _id: "hashed" }` |
//! | `log` | random marks; the entries are numbered without holes | none: one shard |
//! | `policies`, `leases`, `agreement` | names | none |
//!
//! Reading, using, rotating and ending a session go to one document of `users`, and so to one shard.
//! Changes are transactions of write concern majority ([`MongoOptions::write_concern`]) where the
//! server has transactions; on a standalone server each is a compare-and-swap on the user's document.
//!
//! A document holds 16 MB, which is some 30,000 sessions of one user without data of the
//! application's own. Touches are one command on MongoDB 8.0 and later, two before; those that bring
//! a new address cost a read and a write each. TTL indexes remove what the cleanup never came for.

mod audit;
mod causal;
mod change;
mod end;
mod error;
mod log;
mod numbering;
mod options;
mod outbox;
#[cfg(all(test, feature = "server-tests"))]
mod plans;
mod push;
mod read;
mod record;
mod report;
mod rewrite;
mod store;
mod touch;
mod transaction;
mod walk;

pub use options::{MongoOptions, Transactions};
pub use store::MongoStore;

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
//! [`MongoStore::connect_with`] takes options, [`MongoStore::with_client`] the application's
//! client, [`MongoStore::with_clients`] one more for the log.
//!
//! # Where it has been tested
//! On SecantusDB 0.7, a server that speaks MongoDB's wire protocol as a replica set of one, with
//! transactions and without. **Not yet on MongoDB itself**, nor on a sharded cluster, nor through a
//! failover: nothing here depends on behaviour specific to that server, but nothing has been tried
//! elsewhere. Point `SESSION_KIT_MONGODB_URL` at a server of yours and run
//! `cargo xtask conformance mongo`.
//!
//! # What it keeps
//! | collection | `_id` | shard key |
//! | --- | --- | --- |
//! | `users`: all sessions of a user | the user's tag, which every session id begins with | `{ _id: "hashed" }` |
//! | `sessions`: a list for pages and for the cleanup | the session id | `{ _id: "hashed" }` |
//! | `history`: sessions that have ended | the session id | `{ _id: "hashed" }` |
//! | `log` | random marks; readers number the entries | none: one shard |
//! | `places`: policies and blocks | tenant and user | none |
//! | `leases`, `agreement` | names | none |
//!
//! A user's sessions are one document, found by the user's tag, with a version. It says what
//! exists. Reading, using, rotating and ending a session go to this document, and so to one shard.
//! The collection of sessions is a list and may lag. A document holds 16 MB, which is some 20,000
//! sessions of one user without data of the application's own.
//!
//! Sessions, history and log do not expire by themselves: the cleanup ends, forgets and trims them.
//! A TTL index forgets users an hour after their last session, so that their versions go on while
//! log entries may still wait for their numbers. A version counts the user's log entries. The first
//! one of a document consists of the server's time in seconds and 31 random bits.
//!
//! # Changes
//! Where the server has transactions, the user's document, the list, the log and the history change
//! in one, with write concern majority ([`MongoOptions::write_concern`]). A sign-in is two finds
//! that read the user, two that look for what forbids it, three writes, the commit's own command
//! and one more find. One that evicts is one more find and three more writes. It meets only changes
//! of the same user.
//!
//! On a standalone server, a change is a compare-and-swap on the user's document that also leaves
//! in it what has to follow, the outbox. A policy or a block leaves its entry of the log in the
//! document of its place. The node delivers the outbox to the log, the list and the
//! history before it acknowledges. A read of the user, of the session or a second commit that finds
//! an outbox delivers it before it answers, so a second try that finds its change done has waited
//! for the delivery. If the node dies, a reader of the log delivers some seconds later. Delivering
//! twice does no harm, because an entry's mark and the id of an ended session are unique. A delivery
//! that another node's erasure of the user overtakes restores what it delivers, for as long as the history
//! is kept. All nodes have to be in the same mode.
//!
//! Ending sessions takes steps of 100, writing back accesses takes commands of 100. Pages and
//! selections walk an index of the list and look at no more than
//! [`PageQuery::MAX_EXAMINED`](session_core::store::PageQuery::MAX_EXAMINED) entries in a call: the
//! server applies what the index does not answer to that many entries. The cleanup and selections
//! choose by the list and put right what lags there: an entry whose session is gone leaves it, one
//! whose session was used since is moved on.
//!
//! # History
//! The step that ends a session puts its record into the history, as it was read, also where it
//! makes no sense: where a write-back came in between, the step is tried again. It replaces a record
//! that the history has already, as after a restored dump whose collections are of different moments.
//! A commit that begins a session looks for its id there first; an end that comes later raises the
//! user's version. Pages walk an index as pages of sessions do.
//!
//! # Blocks
//! A block is kept beside the policy of its place. A commit that begins a session looks at the
//! blocks of its owner twice: before it, and after it has been acknowledged by a majority. Where
//! the second look finds a block that the first did not, the session is ended again, with cause
//! `blocked`, and the commit is a conflict: log and history then have its beginning and its end. A
//! call that is given up between the commit and the second look leaves the session there. The
//! engine takes back what it has begun and got no answer for, until the store has answered. If the
//! node dies, the session stays until the cleanup ends it as never claimed; nobody holds its token,
//! which is sent only after the answer. [`Store::user`](session_core::Store::user) reads the blocks
//! after the sessions, so a caller that finds its session there after a lost answer sees the block,
//! too.
//!
//! # Time
//! The server's clock (`$$NOW`, in milliseconds) comes with the read of the log's last entry; only
//! on an empty log it is asked for. The cleanup, the trim of the log and the history's retention
//! read it in the statement that finds what is old. What a sweep ends was past its deadline by the
//! clock in the read that its step began with, and has not been used since. The outbox and the
//! forgetting of users go by the server's clock, too, and so does a user's first version: the node
//! carries on what it heard with its last read of the log.
//!
//! # The log
//! A change appends its entries without numbers, so no two users' changes have anything in common.
//! A reader that finds such entries numbers them. It writes the marks of the entries, in the order
//! of their numbers, into one document of `agreement`, the head, by a compare-and-swap on the last
//! number given. Then it sets the numbers, in their order, and reads the numbered log from its
//! cursor on. A reader that finds that the last decision was not carried out does that first, so no
//! reader waits for a dead one, and there is no lease. A read where nothing is new is two finds and
//! writes nothing.
//!
//! The entry of a policy or a block is numbered in the call that sets it, because it counts in no
//! user's version.
//!
//! The head is there because numbers alone are no fence. If each reader gave the newest number plus
//! one, with only the unique index to stop it, then a reader whose first entry was numbered by
//! another in between would match nothing there, which is no error, and would give its second entry
//! a number after one that no entry has.
//!
//! Numbers have to follow the order of each user's commits. One scan can pass the place of a first
//! change before it is committed and then meet a second change that was committed later. So pending
//! entries are read twice. From the second read, a user's entries are numbered up to the last
//! version that the first read saw: all earlier ones had been committed by then, so the second read
//! has them.
//!
//! The log is read, and listened to, over a client of its own, so that a node hears of revocations
//! however busy the driver's pool is.
//!
//! A change stream on the log's inserts hints at changes. Where the node reads only invalidations,
//! a sign-in gives no hint, and its entry is numbered with the next read.
//!
//! # Sharded clusters and failovers
//! All reads are from the primary with read concern majority. Reads of the log, of users and
//! sessions, of blocks, walks and transactions run in causally consistent sessions, advanced to the
//! operation time of the newest read of the log and of this node's newest transaction
//! (`afterClusterTime`). So a node that has read an invalidation does not read the session as it
//! was before, whichever shard has it, and pending entries of transactions that are being committed
//! across shards are waited for. This follows the server's documentation; it has not been run on a
//! cluster.

mod agreement;
mod audit;
mod causal;
mod change;
mod clock;
mod collections;
mod end;
mod error;
mod history;
mod log;
mod numbering;
mod options;
mod outbox;
mod places;
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

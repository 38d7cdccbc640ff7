//! session-kit's [`Store`](session_core::Store) on Redis 7 and Valkey, single or Cluster.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), session_core::StoreError> {
//! # let variable = |name| std::env::var(name).ok();
//! # let Some(one) = variable("SESSION_KIT_REDIS_URL") else { return Ok(()) };
//! # let Some(some) = variable("SESSION_KIT_REDIS_CLUSTER_URL") else { return Ok(()) };
//! # let (url, cluster) = (one.as_str(), some.as_str());
//! use session_store_redis::{RedisOptions, RedisStore};
//!
//! // A URL such as `redis://127.0.0.1`.
//! let single = RedisStore::connect(url).await?;
//! // Some of a cluster's servers: `redis-cluster://HOST:PORT,HOST:PORT`.
//! let options = RedisOptions::default().with_prefix("login:");
//! let cluster = RedisStore::connect_with(cluster, options).await?;
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
//! - **The server process dies** (`kill -9`): with `appendonly yes` nothing is lost at any value of
//!   `appendfsync`, because the change is with the operating system before it is acknowledged.
//!   Without it everything since the last snapshot is lost.
//! - **The machine dies**: with `appendfsync everysec` up to about a second is lost, with `always`
//!   nothing.
//! - **A replica takes over**: it may lack the last changes. A revocation that it lacks is undone;
//!   nodes notice that the log is not the one they read and drop their caches, but the session is
//!   back. [`RedisOptions::replicas`] has every change of sessions and policies wait until that
//!   many replicas have it. Where they do not have it in time, the call is `Unavailable`. So is
//!   every later call that finds the change made, until the replicas have it: a second revocation
//!   that finds nothing to end, a commit that conflicts, and on the node that made the change the
//!   reads of that user.
//!
//! Give it `maxmemory-policy noeviction`: a server that evicts keys signs users out, and takes keys
//! out of the middle of what belongs together. [`Store::report`] names another policy as a problem.
//! With `noeviction`, a server that has reached `maxmemory` refuses sign-ins as `Unavailable`, but
//! for those that end another session. Everything else goes on beyond that limit: sessions are
//! revoked and cleaned up, tokens rotated, accesses written back, users blocked. Its scripts have
//! the flag `allow-oom`. They write about a hundred bytes more for each session that ends, so leave
//! some memory above `maxmemory`.
//!
//! # What it needs
//! All keys begin with [`RedisOptions::prefix`]. An ACL user needs `~PREFIX*`, `&PREFIX*`, and
//! `+@read +@write +@scripting +@pubsub +@connection +time`, on a cluster also `+cluster`; for
//! [`Store::report`] also `+info`. `rediss://` URLs trust the system's authorities or those of
//! [`RedisOptions::tls`]. An application that has more than one of rustls' cryptography providers
//! compiled in has to install one as its default.
//!
//! Measured on Redis 7.0 with two sessions per user, a session takes about 1,030 bytes, or 1,250
//! where there are tenants, an ended session about 870 or 990, and an entry of the log 95. Pages of
//! 50 out of 1,000,000 take the same time at any depth.
//!
//! # Keys
//! A user's sessions are one hash, with their version. The user's *tag*, forty bits of a keyed hash
//! that every session id begins with, names the hash and chooses its *shard*. A shard is a set of
//! keys in one slot of a cluster: the users' hashes, the indexes over them, and a part of the log.
//! A single server has one shard, a cluster 32 by default ([`RedisOptions::shards`]). The first
//! node to open a prefix draws the key of the hash and decides the number of shards; both stay.
//!
//! | key, after the prefix and `{shard}:` | type | content |
//! | --- | --- | --- |
//! | `u:TAG` | hash | a user's sessions, three fields each, and `v`, their version |
//! | `all`, `t:TENANT`, `n:USER` | sorted set | sessions by sign-in: all, of a tenant, of a user name in any tenant |
//! | `due` | sorted set | sessions by deadline |
//! | `h:ID` | string | an ended session |
//! | `history`, `ht:TENANT`, `hu:TAG` | sorted set | ended sessions by their end: all, of a tenant, of a user |
//! | `blocked` | hash | the blocks of the shard's users, for its commits |
//! | `log` | stream | the shard's part of the log |
//! | `answer:MARK` | string | the answer to a commit, or the sessions that a call has ended, for some seconds longer than it may take |
//! | `waited` | string | written in order to wait for replicas |
//! | `scopes`, `lease:NAME`, `active`, `agreement` | | of the first shard only |
//!
//! A change is one script in one slot. The script is told every key that it touches: while a slot
//! moves, a key that it was not told of would be missing without an error. So a sign-in is two
//! round trips on a server and on a cluster alike: the hash, and with it policies and blocks, then
//! the script.
//!
//! The hash decides whether a session exists; the indexes only find candidates. A page reads places
//! from an index (`ZRANGE … BYLEX` over the inverted sign-in time and the id), merges them over all
//! shards, and reads the records; a place without a record is passed over. A page, a selection and
//! a sweep look at no more than about 2,000 places in one call and answer where to go on. A walk of
//! [`Store::end_many`] or [`Store::sweep`] goes through the shards one after the other. Its
//! continuation is the number of an index and, for a selection, the last place that was looked at.
//! [`RedisStore::audit`] compares everything with everything, and the tests call it after each of
//! the kit's cases and after 100,000 random operations.
//!
//! A user's key holds all of the user's sessions, and a sign-in reads it whole: with 10,000
//! sessions of one user that is some megabytes.
//!
//! A user's hash expires by itself [`RedisOptions::expiry_margin`] after the latest deadline of its
//! sessions, in case the cleanup never comes. What is then left in the indexes names session and
//! owner, so a later cleanup still tells of the end, once. The history knows nothing of such a
//! session.
//!
//! # History and blocks
//! The script that ends a session moves its record to a key of its own, in the same slot, which
//! expires after [`Needs::history`] (one day by default, because it is memory), and notes it in the
//! indexes of the history. Where such a key has expired, its index entries are left over. Reads
//! pass over them, [`Forget::OlderThan`] deletes and counts them, and an index in which nothing new
//! is noted expires as a whole. [`Store::history`] merges the shards as a page of sessions does;
//! the history of one user is in one shard. A user name in any tenant has no index of its own
//! there: such a query looks at all of the history, a bounded part in each call.
//!
//! Policies and blocks are one hash, `scopes`, in the first shard. A commit in another shard cannot
//! read it, so each shard has a copy of the blocks that concern its users. [`Store::set_block`]
//! writes `scopes`, then the copies: all of them for a tenant or the deployment, one for a user. A
//! commit that begins a session compares its copy with its server's clock. A node that dies in
//! between leaves outdated copies behind. One that lacks a block does no harm, because the block is
//! read with the user. One that still has a block is renewed by the first commit that it refuses,
//! and that commit is a conflict.
//!
//! # Time
//! Scripts that compare an age use the clock of the server that has the shard: the sweep, the
//! trimming of log and history, the end of a block. [`LogPage::clock`] is that of the first shard's
//! server, from the statement that reads the log.
//!
//! # The log
//! The log is a stream for each shard. An entry's id is a number and a random mark. The number is
//! the server's time in microseconds, or one more than the last number if the clock is not past
//! that. A reader's position is the last id that it read of each stream, and every read begins with
//! the entry at the position. So a trimmed stream, a restored backup and a replica that lagged
//! behind are told from a log that goes on.
//!
//! A stream keeps [`RedisOptions::log_cap`] entries regardless of their age. Beyond that, entries
//! leave once they are older than four times the engine's `max_staleness`, and ten caps are the
//! most that is kept. Only whole nodes of the stream leave (`stream-node-max-bytes`, by default some 40
//! entries), so that a change reads no entry to see whether some are old: up to one node more is kept.
//! Do not let a node hold more than 1,000 entries, or none leaves before the cleanup trims the log.
//! So a node that cannot read the log for `max_staleness` finds its position again unless one shard
//! writes more than ten caps of entries in that time: 1,000,000 by default, or 33,000 entries a second
//! during the default 30 s. [`Store::report`] says so where a log reaches back less.
//!
//! Scripts publish that a log has grown by an entry that invalidates: `PUBLISH` on one server,
//! `SPUBLISH` on the shard's channel of a cluster. That is a hint only. A read of the log sees every
//! change that was acknowledged before. A node reads the log, and listens, on a connection of its own
//! to each server, so that it hears of revocations however busy its other connection is.
//!
//! On a cluster a read is one statement while nothing changes, for any number of shards and of
//! servers: 120 a minute for an engine with its default bound, and up to eight more. For that, a
//! node *announces* a shard before it acknowledges changes in it: it writes a random mark for the
//! shard into `active`, together with the policies that a sign-in reads, and at most every 2.5 s. A
//! reader reads `active` with the first shard's log, and then the logs of the shards whose mark is
//! new. It reads them again with each read until nothing can be acknowledged under that mark any
//! more. A node that has lost a connection reads all shards once, and one shard in turn is read
//! every 8 s: an announcement that a failover lost delays a revocation only where its push is lost
//! as well.
//!
//! # Second tries
//! The driver of a cluster may send a script again whose answer it lost. Each commit and each script
//! that ends sessions keeps its answer under its mark for as long as it may be sent again: a commit
//! that is done is answered so, also after later changes.
//!
//! A change and the `WAIT` for its replicas go to one server together. Were they apart, a replica
//! that lacks the change could take over in between and be waited for. A write of its own stands
//! between them, because `WAIT` waits for what its connection has written last: so a call that
//! finds the change made waits for it, too. All this goes over a connection of its own, because
//! what is sent after a `WAIT` is answered after it.
//!
//! [`Store::report`]: session_core::Store::report
//! [`Store::end_many`]: session_core::Store::end_many
//! [`Store::sweep`]: session_core::Store::sweep
//! [`Store::history`]: session_core::Store::history
//! [`Store::set_block`]: session_core::Store::set_block
//! [`Needs::history`]: session_core::store::Needs::history
//! [`Forget::OlderThan`]: session_core::store::Forget::OlderThan
//! [`LogPage::clock`]: session_core::store::LogPage::clock

mod active;
mod announce;
mod audit;
mod change;
mod connections;
mod doubts;
mod end;
mod ended;
mod ending;
mod entry;
mod history;
mod link;
mod log;
mod options;
mod place;
mod placement;
mod push;
mod read;
mod record;
mod report;
mod scopes;
mod scripts;
mod store;
mod tls;
mod walk;

pub use options::{RedisOptions, Replicas};
pub use store::RedisStore;
pub use tls::RedisTls;

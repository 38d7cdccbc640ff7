//! How a store keeps its sessions.

use std::time::Duration;

use session_core::InvalidField;

use crate::tls::RedisTls;

/// How a [`RedisStore`](crate::RedisStore) keeps its sessions.
///
/// ```
/// use std::time::Duration;
/// use session_store_redis::{RedisOptions, Replicas};
///
/// let replicas = Replicas { count: 1, within: Duration::from_millis(500) };
/// let options = RedisOptions::default().with_prefix("login:").with_replicas(replicas);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisOptions {
    /// What every key begins with: letters, digits, `:`, `.`, `_` and `-`, at most 32. Default
    /// `session-kit:`.
    pub prefix: String,
    /// Into how many slots of a cluster the sessions are spread, 1 to 1,024. Fixed by the first
    /// node that opens the prefix. Default 1 on a single server, 32 on a cluster; more than that
    /// spreads further and reads the log with more commands.
    pub shards: Option<u16>,
    /// A call that takes longer counts as an outage. Default 2 s.
    pub timeout: Duration,
    /// About how many log entries a shard keeps regardless of their age. Beyond that, entries leave
    /// once they are older than four times the engine's `max_staleness`, and about ten times as many
    /// is the most that a shard keeps at all. A node that had not read what has left drops its cache.
    /// Default 100,000.
    pub log_cap: u32,
    /// How long after its deadline a session's record expires by itself, in case the cleanup never
    /// comes. Default one day.
    pub expiry_margin: Duration,
    /// How many replicas have to have a change of sessions or policies before it is acknowledged.
    /// Default none: a failover may lose the last changes. Changes go over a connection of their own
    /// then, on which each waits for those before it.
    pub replicas: Option<Replicas>,
    /// Certificates for `rediss://` URLs. Default: the system's authorities.
    pub tls: Option<RedisTls>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            prefix: "session-kit:".to_owned(),
            shards: None,
            timeout: Duration::from_secs(2),
            log_cap: 100_000,
            expiry_margin: Duration::from_secs(24 * 3600),
            replicas: None,
            tls: None,
        }
    }
}

impl RedisOptions {
    /// Sets [`RedisOptions::prefix`].
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets [`RedisOptions::shards`].
    #[must_use]
    pub fn with_shards(mut self, shards: impl Into<Option<u16>>) -> Self {
        self.shards = shards.into();
        self
    }

    /// Sets [`RedisOptions::timeout`].
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`RedisOptions::log_cap`].
    #[must_use]
    pub const fn with_log_cap(mut self, log_cap: u32) -> Self {
        self.log_cap = log_cap;
        self
    }

    /// Sets [`RedisOptions::expiry_margin`].
    #[must_use]
    pub const fn with_expiry_margin(mut self, expiry_margin: Duration) -> Self {
        self.expiry_margin = expiry_margin;
        self
    }

    /// Sets [`RedisOptions::replicas`].
    #[must_use]
    pub fn with_replicas(mut self, replicas: impl Into<Option<Replicas>>) -> Self {
        self.replicas = replicas.into();
        self
    }

    /// Sets [`RedisOptions::tls`].
    #[must_use]
    pub fn with_tls(mut self, tls: impl Into<Option<RedisTls>>) -> Self {
        self.tls = tls.into();
        self
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option and its limit.
    pub fn validate(&self) -> Result<(), InvalidField> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ":._-".contains(c);
        if self.prefix.len() > 32 || !self.prefix.chars().all(plain) {
            let expected = "at most 32 letters, digits and :._-";
            return Err(InvalidField::malformed("prefix", expected));
        }
        if self.shards.is_some_and(|shards| !(1..=1024).contains(&shards)) {
            return Err(InvalidField::out_of_range("shards", 1, 1024));
        }
        if self.timeout.is_zero() {
            return Err(InvalidField::malformed("timeout", "longer than zero"));
        }
        // A server would wait for ever.
        if self.replicas.is_some_and(|replicas| replicas.within.as_millis() == 0) {
            return Err(InvalidField::malformed("replicas.within", "a millisecond or longer"));
        }
        if self.log_cap == 0 {
            return Err(InvalidField::out_of_range("log_cap", 1, u32::MAX.into()));
        }
        self.tls.as_ref().map_or(Ok(()), RedisTls::validate)
    }
}

/// How many replicas have to have a change before it is acknowledged, and how long that may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// How many.
    pub count: u32,
    /// How long to wait for them. A change that has not reached them by then is `Unavailable`: it
    /// happened, and may be lost in a failover.
    pub within: Duration,
}

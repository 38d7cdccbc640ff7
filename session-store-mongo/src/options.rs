//! The store's options.

use std::time::Duration;

use mongodb::options::{Acknowledgment, WriteConcern};
use session_core::InvalidField;

/// Whether changes are transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transactions {
    /// On a replica set or a sharded cluster; elsewhere by compare-and-swap on the user's document.
    #[default]
    WhereThereAre,
    /// Always by compare-and-swap. All nodes have to do the same.
    Never,
}

/// How a [`MongoStore`](crate::MongoStore) keeps its sessions.
///
/// ```
/// let options = session_store_mongo::MongoOptions::default().with_database("app");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MongoOptions {
    /// The database, where the URL names none. Default `session_kit`.
    pub database: String,
    /// What every collection's name begins with: letters, digits and underscores, at most 32.
    /// Default `session_kit_`.
    pub prefix: String,
    /// Of changes of sessions, policies and blocks: a majority's, because every read asks a
    /// majority and would not see what fewer servers have. Default with their journals: what is
    /// acknowledged survives deaths and failovers.
    pub write_concern: WriteConcern,
    /// Default where there are any.
    pub transactions: Transactions,
    /// Whether a change stream tells of revocations, so that they need not wait for the log's next
    /// read. It costs the server a cursor for each node. Default true; needs a replica set.
    pub push: bool,
    /// A call that takes longer counts as an outage. Default 5 s.
    pub timeout: Duration,
}

impl Default for MongoOptions {
    fn default() -> Self {
        Self {
            database: "session_kit".to_owned(),
            prefix: "session_kit_".to_owned(),
            write_concern: WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .build(),
            transactions: Transactions::WhereThereAre,
            push: true,
            timeout: Duration::from_secs(5),
        }
    }
}

impl MongoOptions {
    /// Sets [`MongoOptions::database`].
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// Sets [`MongoOptions::prefix`].
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets [`MongoOptions::write_concern`].
    #[must_use]
    pub fn with_write_concern(mut self, write_concern: WriteConcern) -> Self {
        self.write_concern = write_concern;
        self
    }

    /// Sets [`MongoOptions::transactions`].
    #[must_use]
    pub fn with_transactions(mut self, transactions: Transactions) -> Self {
        self.transactions = transactions;
        self
    }

    /// Sets [`MongoOptions::push`].
    #[must_use]
    pub const fn with_push(mut self, push: bool) -> Self {
        self.push = push;
        self
    }

    /// Sets [`MongoOptions::timeout`].
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option and its limit.
    pub fn validate(&self) -> Result<(), InvalidField> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for (field, name) in [("prefix", &self.prefix), ("database", &self.database)] {
            if name.len() > 32 || !name.chars().all(plain) {
                let expected = "at most 32 letters, digits and underscores";
                return Err(InvalidField::malformed(field, expected));
            }
        }
        if self.database.is_empty() {
            return Err(InvalidField::malformed("database", "a name"));
        }
        if self.write_concern.w != Some(Acknowledgment::Majority) {
            return Err(InvalidField::malformed("write_concern", "a majority"));
        }
        if self.timeout.is_zero() {
            return Err(InvalidField::malformed("timeout", "longer than zero"));
        }
        Ok(())
    }
}

//! What a store could not do, and what to make of it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::field::InvalidField;

/// What a store could not do.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Box<dyn StdError + Send + Sync>,
}

/// What to make of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached or did not answer in time; a change may or may not have
    /// happened. Worth another try.
    Unavailable,
    /// A stored row cannot be read.
    Corrupt,
    /// The store refused a statement: a defect, or a schema of another version.
    Internal,
    /// The call breaks a limit of the [`Store`](crate::Store) trait, such as
    /// [`Commit::MAX_CHANGES`](crate::store::Commit::MAX_CHANGES): a defect of the caller. Nothing
    /// happened.
    Refused,
}

impl StoreError {
    /// An error of this kind.
    pub fn new(kind: StoreErrorKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }

    /// The store cannot be reached.
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(StoreErrorKind::Unavailable, source)
    }

    /// A stored value cannot be read.
    pub fn corrupt(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(StoreErrorKind::Corrupt, source)
    }

    /// The store refused a statement.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(StoreErrorKind::Internal, source)
    }

    /// The call breaks a limit of the trait.
    pub fn refused(source: InvalidField) -> Self {
        Self::new(StoreErrorKind::Refused, source)
    }

    /// The store did not answer this call within the caller's time limit.
    pub fn timed_out(call: &'static str, limit: Duration) -> Self {
        Self::unavailable(format!("no answer to `{call}` within {} s", limit.as_secs_f64()))
    }

    /// What to make of it.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl From<InvalidField> for StoreError {
    /// A stored value that breaks its field's limit.
    fn from(source: InvalidField) -> Self {
        Self::corrupt(source)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.kind {
            StoreErrorKind::Unavailable => "the session store is unavailable",
            StoreErrorKind::Corrupt => "the session store holds a row that cannot be read",
            StoreErrorKind::Internal => "the session store refused a statement",
            StoreErrorKind::Refused => "the call breaks a limit of the session store",
        };
        write!(f, "{text}: {}", self.source)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

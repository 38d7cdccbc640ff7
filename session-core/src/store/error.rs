//! What a store could not do, and what to make of it.

use std::error::Error as StdError;
use std::fmt;

use crate::field::InvalidField;

/// What a store could not do.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
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
}

impl StoreError {
    /// An error of this kind.
    pub fn new(kind: StoreErrorKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// The store did not answer in time.
    pub const fn timed_out() -> Self {
        Self { kind: StoreErrorKind::Unavailable, source: None }
    }

    /// What to make of it.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl From<InvalidField> for StoreError {
    /// A stored value that breaks its field's limit.
    fn from(source: InvalidField) -> Self {
        Self::new(StoreErrorKind::Corrupt, source)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.kind {
            StoreErrorKind::Unavailable => "the session store is unavailable",
            StoreErrorKind::Corrupt => "the session store holds a row that cannot be read",
            StoreErrorKind::Internal => "the session store refused a statement",
        };
        match &self.source {
            Some(source) => write!(f, "{text}: {source}"),
            None => f.write_str(text),
        }
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

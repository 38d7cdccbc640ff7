//! What an error of the driver means.

use mongodb::error::{
    Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure,
};
use session_core::{InvalidField, StoreError, StoreErrorKind};

/// Why a step of a transaction failed: the server said so, or a document could not be read.
#[derive(Debug)]
pub(crate) enum Failed {
    Mongo(Error),
    Store(StoreError),
    /// Another change came between the read and the write.
    Conflict,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Mongo(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<InvalidField> for Failed {
    fn from(error: InvalidField) -> Self {
        Self::Store(error.into())
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Mongo(error) => store_error(error),
            Failed::Store(error) => error,
            Failed::Conflict => StoreError::unavailable("other changes kept coming first"),
        }
    }
}

impl Failed {
    /// Whether nothing happened because of another change, so that another try is due.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Self::Mongo(error) => {
                error.contains_label(TRANSIENT_TRANSACTION_ERROR)
                    || code(error).is_some_and(is_retried)
            }
            Self::Store(_) => false,
            Self::Conflict => true,
        }
    }

    /// Whether a document cannot be read: its own fault, which keeps no other from being read.
    pub(crate) fn is_corrupt(&self) -> bool {
        matches!(self, Self::Store(error) if error.kind() == StoreErrorKind::Corrupt)
    }

    /// Whether the server refused to write a document as it is stored.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Store(error) if error.kind() == StoreErrorKind::Internal)
    }

    /// The failure of what follows a change that has happened: the change must not be tried again.
    pub(crate) fn after_the_change(self) -> Self {
        let unavailable = |error: StoreError| match error.kind() {
            StoreErrorKind::Corrupt => error,
            _ => StoreError::unavailable(error),
        };
        Self::Store(unavailable(self.into()))
    }
}

/// A document that cannot be read and a refused command are told from a server that cannot be
/// reached right now.
pub(crate) fn store_error(error: Error) -> StoreError {
    let passing = error.contains_label(TRANSIENT_TRANSACTION_ERROR)
        || error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT)
        || error.contains_label(mongodb::error::RETRYABLE_WRITE_ERROR);
    let kind = match &*error.kind {
        _ if passing => StoreErrorKind::Unavailable,
        ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_) => StoreErrorKind::Corrupt,
        ErrorKind::InvalidArgument { .. }
        | ErrorKind::Authentication { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::IncompatibleServer { .. }
        | ErrorKind::Write(WriteFailure::WriteError(_)) => StoreErrorKind::Internal,
        ErrorKind::Command(_) if !code(&error).is_some_and(is_passing) => StoreErrorKind::Internal,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, error)
}

pub(crate) fn is_duplicate(error: &Error) -> bool {
    code(error) == Some(DUPLICATE_KEY)
}

/// Where an insert of several documents stopped because the document is there already.
pub(crate) fn duplicate_at(error: &Error) -> Option<usize> {
    let ErrorKind::InsertMany(error) = &*error.kind else { return None };
    let error = error.write_errors.as_ref()?.first()?;
    (error.code == DUPLICATE_KEY).then_some(error.index)
}

pub(crate) fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        ErrorKind::InsertMany(error) => {
            error.write_errors.as_ref().and_then(|errors| errors.first()).map(|error| error.code)
        }
        _ => None,
    }
}

/// Stepping down, shutting down, out of time, not primary: another server answers soon.
pub(crate) const fn is_passing(code: i32) -> bool {
    matches!(
        code,
        6 | 7
            | 50
            | 64
            | 89
            | 91
            | 112
            | 133
            | 134
            | 189
            | 202
            | 262
            | 9001
            | 10058
            | 10107
            | 11600
            | 11602
            | 13435
            | 13436
    )
}

/// Another change came first.
pub(crate) const fn is_retried(code: i32) -> bool {
    code == WRITE_CONFLICT || code == DUPLICATE_KEY
}

const WRITE_CONFLICT: i32 = 112;
const DUPLICATE_KEY: i32 = 11000;

//! What can go wrong, as values to act on.

use std::sync::Arc;

use session_core::policy::Limit;
use session_core::{InvalidField, StoreError, StoreErrorKind};

/// Why a call did not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store cannot confirm anything right now. Nothing is known about the session; a
    /// change may or may not have happened and can be repeated.
    #[error("session state is unavailable")]
    Unavailable(#[source] Arc<StoreError>),
    /// The store answered with a defect: a row that cannot be read, a statement it refused.
    #[error("session state is broken")]
    Broken(#[source] Arc<StoreError>),
    /// The application's claims provider failed.
    #[error("claims are unavailable: {0}")]
    Claims(Arc<str>),
    /// A value does not fit its field.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// A policy refuses the sign-in; nothing was changed.
    #[error("the limit of {} sessions is reached", .0.max)]
    TooManySessions(Limit),
}

impl Error {
    /// Whether the same call may succeed later.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Claims(_))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::Unavailable => Self::Unavailable(Arc::new(error)),
            _ => Self::Broken(Arc::new(error)),
        }
    }
}

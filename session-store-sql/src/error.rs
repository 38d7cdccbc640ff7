//! What the drivers' errors mean.

use session_core::StoreError;
use sqlx::error::DatabaseError;

/// Maps a driver error: unreadable values are `Corrupt`, refused statements `Internal`, transient
/// errors of the database (`is_passing`) and everything else `Unavailable`.
pub(crate) fn store_error(
    error: sqlx::Error,
    is_passing: impl FnOnce(&dyn DatabaseError) -> bool,
) -> StoreError {
    match &error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::corrupt(error),
        sqlx::Error::Database(database) if !is_passing(database.as_ref()) => {
            StoreError::internal(error)
        }
        _ => StoreError::unavailable(error),
    }
}

//! Transactions that write.

use session_core::StoreError;
use sqlx::sqlite::{SqlitePool, SqliteTransaction};

use super::store_error;

pub(super) type Tx = SqliteTransaction<'static>;

/// Begins a transaction that may write. A deferred one would fail at its first write, whatever
/// the busy timeout, if another process wrote after its first read.
pub(super) async fn begin(writer: &SqlitePool) -> Result<Tx, StoreError> {
    writer.begin_with("BEGIN IMMEDIATE").await.map_err(store_error)
}

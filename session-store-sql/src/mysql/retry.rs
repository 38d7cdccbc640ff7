//! Deadlocks are tried again: nothing happened.

use std::time::Duration;

use session_core::StoreError;

use super::{is_deadlock, store_error};

/// Runs a call, a few times if it meets a deadlock.
pub(super) async fn retried<T, F>(mut call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    for tried in 1..TRIES {
        match call().await {
            Err(error) if is_deadlock(&error) => tokio::time::sleep(PAUSE * tried).await,
            result => return result.map_err(store_error),
        }
    }
    call().await.map_err(store_error)
}

const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(2);

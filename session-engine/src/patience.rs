//! How a change is tried again: after a conflict, and after an outage.

use std::time::Duration;

use tokio::time::Instant;

use crate::entropy::random;
use crate::error::Error;
use crate::node::Node;

/// How often an unavailable store is asked again.
pub(crate) struct Patience {
    failures: u32,
    deadline: Instant,
}

/// What one call that decides and commits keeps between its tries.
pub(crate) struct Tries {
    pub(crate) conflicts: u32,
    pub(crate) patience: Patience,
}

impl Node {
    /// For a call that decides and commits.
    pub(crate) fn tries(&self) -> Tries {
        let deadline = Instant::now() + self.options().store_timeout;
        Tries { conflicts: 0, patience: Patience { failures: 0, deadline } }
    }

    /// Waits before the next try; the error where there should be none.
    pub(crate) async fn may_try_again(
        &self,
        patience: &mut Patience,
        error: Error,
    ) -> Result<(), Error> {
        patience.failures += 1;
        let over = patience.failures >= MAX_FAILURES || Instant::now() >= patience.deadline;
        if over || !error.is_unavailable() {
            return Err(error);
        }
        self.shared().sleep(RETRY_PAUSE).await;
        Ok(())
    }

    /// Waits a random time that grows with the number of conflicts.
    pub(crate) async fn back_off(&self, attempt: &mut u32) {
        *attempt += 1;
        let ceiling = 1_u64 << (*attempt).min(6);
        let random = u64::from_be_bytes(random(self.shared().entropy.as_ref()));
        self.shared().sleep(Duration::from_micros(random % (ceiling * 500))).await;
    }
}

const MAX_FAILURES: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(50);

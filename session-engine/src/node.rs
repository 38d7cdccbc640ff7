//! The operations of a node, each in the module of its subject. Applications call them through
//! [`SessionManager`](crate::SessionManager).

use std::fmt;
use std::sync::Arc;

use session_core::Timestamp;

use crate::options::Options;
use crate::shared::Shared;

/// One node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Node {
    shared: Arc<Shared>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl Node {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.now()
    }

    pub(crate) fn stop_streams(&self) {
        self.shared.notices.close();
        self.shared.stop_waits.send_replace(true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.shared.stop_waits.borrow()
    }
}

//! The operations of a node, each in the module of its subject. Applications call them through
//! [`SessionManager`](crate::SessionManager).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use session_core::{SessionId, Timestamp};

use crate::check;
use crate::entry::Access;
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

    /// The user has proved something: a use of the session, where this node has it.
    pub(crate) fn note_proof(&self, id: SessionId, ip: Option<IpAddr>) {
        if let Some(entry) = self.shared.cache.seen(&id) {
            check::note_use(&self.shared, &entry, &Access::from_ip(ip), self.now());
        }
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

//! Sessions of the driver whose reads are causal.
//!
//! On a sharded cluster the log can show a change before the shard of its user does. A node that
//! has read an entry must then not read the record as it was before: it would be cached for good.
//! So every read of the log and every commit of a transaction notes its operation time, and what is
//! read or begun afterwards is asked for as of that time (`afterClusterTime`).

use std::sync::{Mutex, PoisonError};

use mongodb::bson::Timestamp;
use mongodb::{ClientSession, ClusterTime};

use crate::collections::Collections;
use crate::error::Failed;

/// What this node has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Option<(ClusterTime, Timestamp)>>);

impl Collections {
    /// A session that sees at least what this node has seen. A standalone server tells no times,
    /// and is asked for none.
    pub(crate) async fn session(&self) -> Result<ClientSession, Failed> {
        let mut session = self.client.start_session().causal_consistency(true).await?;
        let seen = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((cluster, operation)) = seen {
            session.advance_cluster_time(&cluster);
            session.advance_operation_time(operation);
        }
        Ok(session)
    }

    /// Notes the time of what a session has read.
    pub(crate) fn has_seen(&self, session: &ClientSession) {
        let (Some(cluster), Some(operation)) = (session.cluster_time(), session.operation_time())
        else {
            return;
        };
        let mut seen = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|(_, known)| *known < operation) {
            *seen = Some((cluster.clone(), operation));
        }
    }
}

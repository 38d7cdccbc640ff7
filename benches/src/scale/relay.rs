//! Relays: processes that read the log once for many nodes.

use session_core::SessionId;
use session_core::store::LogPage;

use super::Fleet;

/// Relays between a fleet and its store. None of this is built; the page describes it.
#[derive(Clone, Copy, Debug)]
pub struct Relays {
    /// Nodes of one relay.
    pub nodes_each: f64,
    /// How often a relay reads the log to its end and answers, per second.
    pub rounds: f64,
    /// Bytes of the store's cursor.
    pub cursor: f64,
}

impl Default for Relays {
    /// Fifty nodes each; a round for each page of 1,000 entries at 20,000 per second; the cursor of a Redis
    /// Cluster with 32 shards.
    fn default() -> Self {
        Self { nodes_each: 50.0, rounds: 20.0, cursor: 32.0 * 24.0 }
    }
}

impl Relays {
    /// How many a fleet needs.
    pub fn count(&self, fleet: &Fleet) -> f64 {
        (fleet.nodes / self.nodes_each).ceil()
    }

    /// Entries that the store hands out per second: each relay reads all.
    pub fn entries_read(&self, fleet: &Fleet) -> f64 {
        self.count(fleet) * fleet.invalidations()
    }

    /// Statements for that: in each round a relay reads as many pages as it sends frames to a node.
    pub fn statements(&self, fleet: &Fleet) -> f64 {
        self.count(fleet) * self.frames(fleet)
    }

    /// Bytes per second that a node receives.
    pub fn bytes_to_node(&self, fleet: &Fleet) -> f64 {
        self.frames(fleet) * frame(0.0, self.cursor) + fleet.invalidations() * RECORD
    }

    /// Frames per second that a node receives: a frame has at most a page of entries.
    pub fn frames(&self, fleet: &Fleet) -> f64 {
        let full = (fleet.invalidations() / self.rounds / f64::from(LogPage::MAX_LIMIT)).floor();
        self.rounds * (1.0 + full)
    }

    /// Bytes per second that a relay sends.
    pub fn bytes_from_relay(&self, fleet: &Fleet) -> f64 {
        self.nodes_each * self.bytes_to_node(fleet)
    }
}

/// Bytes of a frame with so many entries.
pub const fn frame(entries: f64, cursor: f64) -> f64 {
    HEADER + cursor + entries * RECORD
}

/// Length (4), version (1), flags (1), clock (8), length of the cursor (2), number of entries (2).
pub const HEADER: f64 = 18.0;
/// The kind (1) and the session's id (16).
pub const RECORD: f64 = 1.0 + size_of::<SessionId>() as f64;

//! How many streams are open on this node: event streams, and connections of the application's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::SessionId;
use tokio::sync::watch;

use crate::problem::Problem;

/// The streams that are open, in all and per session.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: Mutex<Open>,
    /// Those that a server does not know of any more, and does not wait for.
    sockets: watch::Sender<u32>,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    of: HashMap<SessionId, u32>,
}

/// One open stream; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Slot {
    streams: Arc<Streams>,
    session: Option<SessionId>,
    is_socket: bool,
}

impl Streams {
    /// Room for one more, if there is any.
    pub(crate) fn open(
        self: &Arc<Self>,
        session: Option<SessionId>,
        per_session: u32,
        in_all: u32,
    ) -> Result<Slot, Problem> {
        let mut open = self.locked();
        if open.total >= in_all {
            return Err(Problem::too_many_streams(in_all));
        }
        if let Some(id) = session {
            let count = open.of.entry(id).or_default();
            if *count >= per_session {
                return Err(Problem::too_many_streams(per_session));
            }
            *count += 1;
        }
        open.total += 1;
        Ok(Slot { streams: Arc::clone(self), session, is_socket: false })
    }

    /// Waits until no WebSocket is open.
    pub(crate) async fn sockets_closed(&self) {
        // The sender is there.
        let _ = self.sockets.subscribe().wait_for(|open| *open == 0).await;
    }

    fn locked(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// A stopping node waits until it is dropped.
    pub(crate) fn count_as_socket(&mut self) {
        self.is_socket = true;
        self.streams.sockets.send_modify(|open| *open += 1);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_socket {
            self.streams.sockets.send_modify(|open| *open -= 1);
        }
        let mut open = self.streams.locked();
        open.total -= 1;
        let Some(id) = self.session else { return };
        if let Some(count) = open.of.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                open.of.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ceilings_hold_and_dropping_makes_room() {
        let streams = Arc::new(Streams::default());
        let [one, two] = [1, 2].map(|n| Some(SessionId::from_bytes([n; 16])));
        let open = |session| streams.open(session, 2, 3);
        let first = open(one).unwrap();
        let second = open(one).unwrap();
        assert_eq!(open(one).unwrap_err(), Problem::too_many_streams(2));
        let third = open(two).unwrap();
        assert_eq!(open(None).unwrap_err(), Problem::too_many_streams(3));
        drop((first, third));
        let again = open(one).unwrap();
        drop((second, again));
        assert!(streams.locked().of.is_empty());
        assert_eq!(streams.locked().total, 0);
    }
}

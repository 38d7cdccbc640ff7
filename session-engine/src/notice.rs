//! The in-process stream of what happened anywhere in the fleet.

use session_core::Event;
use tokio::sync::broadcast;

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Something happened.
    Event(Event),
    /// Something may have been missed: the listener was too slow, or the log was cut or came
    /// back from the past. Read again whatever was derived from earlier events.
    Missed,
}

/// Hears every change, in the order of the log.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Notice>);

impl Events {
    /// The next notice; none once the engine has stopped.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Notice::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Notices(broadcast::Sender<Notice>);

impl Notices {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    pub(crate) fn listen(&self) -> Events {
        Events(self.0.subscribe())
    }

    pub(crate) fn tell(&self, notice: Notice) {
        // Nobody listening is fine.
        let _ = self.0.send(notice);
    }
}

/// Notices that a slow listener may lie behind.
const CAPACITY: usize = 1024;

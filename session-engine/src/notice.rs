//! The in-process stream of what happened anywhere in the fleet.

use std::sync::{Mutex, MutexGuard, PoisonError};

use session_core::store::{Commit, Ended};
use session_core::{Actor, EndCause, Event, EventKind, Timestamp};
use tokio::sync::broadcast;

use crate::meter;

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Something happened.
    Event(Event),
    /// Something may have been missed: the listener was too slow, or the log was cut or came
    /// back from the past. Read again what was derived from earlier events.
    Missed,
}

/// Hears every change, in the order of the log, until the node's streams are stopped.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Notice>);

impl Events {
    /// The next notice; none once the engine or its streams have stopped and what was queued
    /// before has been returned.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Notice::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// The sending side; none once the streams have stopped.
#[derive(Debug)]
pub(crate) struct Notices(Mutex<Option<broadcast::Sender<Notice>>>);

impl Notices {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Some(broadcast::Sender::new(CAPACITY))))
    }

    pub(crate) fn listen(&self) -> Events {
        let closed = || broadcast::channel(1).1;
        Events(self.sender().as_ref().map_or_else(closed, broadcast::Sender::subscribe))
    }

    pub(crate) fn tell(&self, notice: Notice) {
        if let Some(sender) = self.sender().as_ref() {
            // There may be no listener.
            let _ = sender.send(notice);
        }
    }

    /// Whether there is a listener.
    pub(crate) fn are_heard(&self) -> bool {
        self.listeners() > 0
    }

    /// How many listeners there are.
    pub(crate) fn listeners(&self) -> usize {
        self.sender().as_ref().map_or(0, broadcast::Sender::receiver_count)
    }

    /// Ends every stream after what is queued.
    pub(crate) fn close(&self) {
        self.sender().take();
    }

    fn sender(&self) -> MutexGuard<'_, Option<broadcast::Sender<Notice>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs a change where it was made, so that a fleet says it once.
pub(crate) fn log(event: &Event) {
    meter::changed(event.kind);
    tracing::info!(
        target: "session_kit::event",
        kind = event.kind.as_str(),
        at = %event.at,
        by = %event.by,
        tenant = event.tenant.as_ref().map(tracing::field::display),
        user = event.user.as_ref().map(tracing::field::display),
        session_id = event.session.map(tracing::field::display),
    );
}

/// Logs every change of a commit that went through.
pub(crate) fn log_commit(commit: &Commit) {
    commit.changes.iter().for_each(|change| log(&commit.event(change.kind(), change.session())));
}

/// Logs sessions that one call ended.
pub(crate) fn log_ended(ended: &[Ended], cause: EndCause, at: Timestamp, by: &Actor) {
    for Ended { id, owner } in ended {
        let kind = EventKind::Ended(cause);
        log(&Event::of_session(kind, at, by.clone(), owner.clone(), *id));
    }
}

/// Notices that a slow listener may lie behind.
const CAPACITY: usize = 1024;

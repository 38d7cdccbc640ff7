//! Follows the store's log: the one way in which a node learns what others did.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use session_core::store::{Cursor, Entries, LogPage};
use session_core::{Event, EventKind};

use crate::error::Error;
use crate::notice::Notice;
use crate::shared::Shared;

/// Reads the log now, unless another caller has just done so; several callers read it once.
pub(crate) async fn hear(shared: &Shared) -> Result<(), Error> {
    let mut position = shared.position.lock().await;
    if shared.is_fresh() {
        return Ok(());
    }
    catch_up(shared, &mut position).await
}

/// Reads the log twice in every propagation bound, or four times where the store does not push, and
/// whenever there is a hint.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    let mut failing = false;
    loop {
        // A hint that comes while the log is being read must not be lost: wait for the next one
        // before reading.
        let mut hint = pin!(shared.store.changed());
        let hinted = poll!(&mut hint).is_ready();
        let result = catch_up(&shared, &mut *shared.position.lock().await).await;
        report(&shared, &mut failing, &result);
        // One that was there already has been followed; the next may have come meanwhile.
        let next = async { if hinted { shared.store.changed().await } else { hint.await } };
        tokio::select! {
            () = next, if result.is_ok() => {}
            () = shared.poke.notified() => {}
            () = tokio::time::sleep(interval(&shared)) => {}
            () = stopping.stopped() => return,
        }
    }
}

/// Reads to the end of the log: all of it where there is a listener, otherwise what concerns the cache.
/// Only then is the node as fresh as the moment the last read began.
pub(crate) async fn catch_up(shared: &Shared, cursor: &mut Cursor) -> Result<(), Error> {
    loop {
        let begun = shared.time.moment();
        let entries =
            if shared.notices.are_heard() { Entries::All } else { Entries::Invalidations };
        let read = shared.store.log_since(Some(cursor), entries, LogPage::MAX_LIMIT);
        let page = shared.store_call("log_since", read).await?;
        shared.time.learn(begun, page.clock);
        if page.gap {
            tracing::warn!(
                "the log does not continue where this node left it; the cache is dropped"
            );
            shared.cache.clear();
            shared.watchers.doubt();
            shared.notices.tell(Notice::Missed);
        }
        page.events.into_iter().for_each(|event| apply(shared, event));
        *cursor = page.next;
        if !page.more {
            shared.time.heard(begun);
            return Ok(());
        }
    }
}

fn apply(shared: &Shared, event: Event) {
    if let Some(id) = event.session {
        match event.kind {
            EventKind::Ended(cause) => {
                shared.cache.end(id, cause);
                shared.watchers.ended(id, cause);
            }
            kind if kind.invalidates() => shared.cache.invalidate(id),
            _ => {}
        }
    }
    shared.notices.tell(Notice::Event(event));
}

fn interval(shared: &Shared) -> Duration {
    let reads = if shared.store.pushes() { 2 } else { 4 };
    shared.options.propagation_bound / reads
}

/// Says once that an outage began, and once that it ended.
fn report(shared: &Shared, failing: &mut bool, result: &Result<(), Error>) {
    match result {
        Ok(()) if *failing => tracing::info!("the log is heard again"),
        Err(error) if !*failing => tracing::warn!(%error, "the log is not heard"),
        _ => {}
    }
    *failing = result.is_err();
    shared.health.note("follower", result.as_ref().err().map(ToString::to_string));
}

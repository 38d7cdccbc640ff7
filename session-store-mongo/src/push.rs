//! Hints that the log has grown: a change stream of its inserts, which are entries without numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use session_core::store::Entries;
use tokio::sync::Notify;

/// What a store shares with its listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    pub(crate) grown: Arc<Notify>,
    /// Whether the last reader of the log wanted invalidations only.
    pub(crate) invalidations_only: Arc<AtomicBool>,
    /// Whether the change stream is open.
    pub(crate) open: Arc<AtomicBool>,
}

/// Goes on from where it was. Where the server refuses that, it begins at the present: only hints
/// get lost, and the log is read anyway.
pub(crate) async fn run(log: Collection<Document>, hints: Hints) {
    let Hints { grown, invalidations_only, open } = hints;
    let mut resume = None;
    loop {
        let only = doc! { "$match": { "operationType": "insert" } };
        match log.watch().pipeline([only]).resume_after(resume.take()).await {
            Ok(mut stream) => {
                open.store(true, Ordering::Relaxed);
                // What came before it has not been heard.
                grown.notify_one();
                while let Some(Ok(change)) = stream.next().await {
                    resume = stream.resume_token();
                    if !invalidations_only.load(Ordering::Relaxed)
                        || invalidates(change.full_document.as_ref())
                    {
                        grown.notify_one();
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no change stream; revocations take the propagation bound");
            }
        }
        open.store(false, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether an entry makes a cached session wrong; one that cannot be read may.
fn invalidates(entry: Option<&Document>) -> bool {
    let kind = entry.and_then(|entry| entry.get_str("kind").ok());
    kind.is_none_or(|kind| Entries::Invalidations.want(kind))
}

const PAUSE: Duration = Duration::from_millis(250);

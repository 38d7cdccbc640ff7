//! Hints that the log has grown: a change stream of its inserts, which are entries without numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use mongodb::change_stream::event::ResumeToken;
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
    listen(log, hints, None).await;
}

async fn listen(log: Collection<Document>, hints: Hints, mut resume: Option<ResumeToken>) {
    let Hints { grown, invalidations_only, open } = hints;
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

#[cfg(all(test, feature = "server-tests"))]
mod tests {
    use mongodb::Client;
    use mongodb::bson::deserialize_from_document;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(120);

    /// A token of another log, as after a restore, or of entries that the server has no more: it goes on
    /// without.
    #[tokio::test]
    async fn a_token_that_the_server_refuses_stops_no_hints() {
        let url = std::env::var("SESSION_KIT_MONGODB_URL")
            .expect("SESSION_KIT_MONGODB_URL names a server; `cargo xtask test` starts one");
        let client = Client::with_uri_str(url).await.unwrap();
        let database = client.database(&format!("push_{:x}", getrandom::u64().unwrap()));
        let log = database.collection::<Document>("log");
        let refused = deserialize_from_document(doc! { "_data": "another" }).unwrap();
        let first = log.watch().resume_after(Some(refused)).await;
        assert!(first.is_err());
        let hints = Hints::default();
        let token = deserialize_from_document(doc! { "_data": "another" }).unwrap();
        let listener = tokio::spawn(listen(log.clone(), hints.clone(), Some(token)));
        let hint = async || tokio::time::timeout(PATIENCE, hints.grown.notified()).await.is_ok();
        assert!(hint().await, "the stream is opened");
        log.insert_one(doc! { "kind": "revoked" }).await.unwrap();
        assert!(hint().await, "it is heard");
        listener.abort();
    }
}

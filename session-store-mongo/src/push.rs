//! Hints that the log has grown: a change stream of its inserts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use tokio::sync::Notify;

/// Goes on from where it was. Where the server refuses that, it begins anew: it is only hints that
/// get lost, the log is read anyway.
pub(crate) async fn run(log: Collection<Document>, grown: Arc<Notify>) {
    let mut resume = None;
    loop {
        let only = doc! { "$match": { "operationType": "insert" } };
        match log.watch().pipeline([only]).resume_after(resume.take()).await {
            Ok(mut stream) => {
                // Whatever came before it has not been heard.
                grown.notify_one();
                while let Some(Ok(_)) = stream.next().await {
                    resume = stream.resume_token();
                    grown.notify_one();
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no change stream; revocations take the propagation bound");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

const PAUSE: Duration = Duration::from_millis(250);

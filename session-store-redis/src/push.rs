//! Hints that the log has grown.

use std::sync::Arc;
use std::time::Duration;

use redis::{PushInfo, PushKind};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::link::Link;

/// Passes hints on, and subscribes again where a subscription ends by itself: with its connection,
/// or because its slot has moved.
pub(crate) async fn run(
    link: Link,
    channels: Vec<String>,
    mut pushes: UnboundedReceiver<PushInfo>,
    grown: Arc<Notify>,
) {
    let mut subscribed = false;
    loop {
        if !subscribed {
            subscribed = subscribe(&link, &channels).await;
            // Whatever was published meanwhile has not been heard.
            grown.notify_one();
        }
        let push = if subscribed {
            pushes.recv().await
        } else {
            match tokio::time::timeout(PAUSE, pushes.recv()).await {
                Ok(push) => push,
                Err(_) => continue,
            }
        };
        let Some(push) = push else { return };
        match push.kind {
            PushKind::Message | PushKind::SMessage => grown.notify_one(),
            PushKind::Disconnection | PushKind::SUnsubscribe | PushKind::Unsubscribe => {
                subscribed = false;
            }
            _ => {}
        }
    }
}

async fn subscribe(link: &Link, channels: &[String]) -> bool {
    for channel in channels {
        if let Err(error) = link.subscribe(channel).await {
            tracing::debug!(%error, "cannot subscribe; revocations take the propagation bound");
            return false;
        }
    }
    true
}

const PAUSE: Duration = Duration::from_millis(250);

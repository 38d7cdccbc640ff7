//! Hints that the log has grown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::active::Active;
use crate::link::Link;

/// What a push is about.
pub(crate) struct Hints {
    pub(crate) grown: Arc<Notify>,
    pub(crate) active: Arc<Active>,
    pub(crate) subscribed: Arc<AtomicBool>,
}

/// Passes hints on, and subscribes again where a subscription ends by itself: with its connection,
/// or because its slot has moved.
pub(crate) async fn run(
    link: Link,
    channels: Vec<String>,
    mut pushes: UnboundedReceiver<PushInfo>,
    hints: Hints,
) {
    let Hints { grown, active, subscribed: shown } = hints;
    let mut subscribed = false;
    loop {
        if !subscribed {
            subscribed = subscribe(&link, &channels).await;
            shown.store(subscribed, Ordering::Relaxed);
            // What was published in between was not heard.
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
            PushKind::Message | PushKind::SMessage => {
                if let Some(shard) = shard(&channels, &push) {
                    active.pushed(shard);
                }
                grown.notify_one();
            }
            PushKind::Disconnection | PushKind::SUnsubscribe | PushKind::Unsubscribe => {
                subscribed = false;
                shown.store(false, Ordering::Relaxed);
                active.forget();
            }
            _ => {}
        }
    }
}

/// The shard whose channel a message came through.
fn shard(channels: &[String], push: &PushInfo) -> Option<usize> {
    let Some(Value::BulkString(channel)) = push.data.first() else { return None };
    channels.iter().position(|known| known.as_bytes() == channel)
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

//! A page that stays open, and is thrown out when its session ends, on whichever node.

pub(crate) mod actix;
pub(crate) mod axum;
pub(crate) mod poem;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use session_kit::http::{Close, Live};

use crate::Demo;

pub(crate) const SCRIPT: &str = include_str!("live.js");
pub(crate) const SCRIPT_TYPE: &str = "text/javascript; charset=utf-8";

impl Demo {
    pub(crate) fn live_page(&self) -> String {
        let content = r#"<p>It is <output id="time">…</output></p>
<p id="notice" class="notice" role="status" hidden></p>
<p><a href="/">Back</a></p>
<script type="module" src="/live.js"></script>"#;
        self.page("Live", content)
    }

    /// The time, every second.
    pub(crate) fn times(&self) -> impl Stream<Item = String> + use<> {
        let (http, every) = (self.http.clone(), tokio::time::interval(Duration::from_secs(1)));
        stream::unfold((http, every), |(http, mut every)| async {
            every.tick().await;
            Some((http.manager().now().to_string(), (http, every)))
        })
    }

    /// The same as lines of a body.
    pub(crate) fn lines(&self) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        self.times().map(|time| line(&time))
    }
}

/// The last line of a body whose session has ended.
pub(crate) fn last_line(close: Close) -> Option<io::Result<Bytes>> {
    Some(line(close.reason))
}

fn line(text: &str) -> io::Result<Bytes> {
    Ok(format!("{text}\n").into())
}

/// Answers a message. Only `here`, which the page sends for a click or a key, counts as use.
pub(crate) async fn answer(message: &str, live: &Live) -> &'static str {
    match message {
        "here" => match live.touch().await {
            Ok(_) => "noted",
            Err(_) => "refused",
        },
        _ => "heard",
    }
}

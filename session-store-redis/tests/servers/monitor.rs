//! What servers are asked.

use std::collections::HashMap;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use redis::aio::MultiplexedConnection;

use crate::namespace::Prefix;

/// Listens to what some servers are asked.
pub(crate) struct Monitor(Vec<Watched>);

struct Watched {
    server: MultiplexedConnection,
    lines: Pin<Box<dyn Stream<Item = String>>>,
}

impl Monitor {
    pub(crate) async fn of(urls: impl IntoIterator<Item = String>) -> Self {
        let mut watched = Vec::new();
        for url in urls {
            let client = redis::Client::open(url).unwrap();
            let server = client.get_multiplexed_async_connection().await.unwrap();
            let lines = client.get_async_monitor().await.unwrap().into_on_message();
            watched.push(Watched { server, lines: Box::pin(lines) });
        }
        Self(watched)
    }

    /// What they were asked about keys of this prefix since the last time, by clients and by scripts.
    async fn lines(&mut self, prefix: &Prefix) -> Vec<String> {
        let mut told = Vec::new();
        for Watched { server, lines } in &mut self.0 {
            let end = format!("end-{:x}", getrandom::u64().unwrap());
            redis::cmd("ECHO").arg(&end).exec_async(server).await.unwrap();
            loop {
                let line = lines.next().await.unwrap();
                if line.contains(&end) {
                    break;
                }
                if line.contains(&prefix.options.prefix) {
                    told.push(line);
                }
            }
        }
        told
    }

    /// How often each command was sent about keys of this prefix since the last time.
    pub(crate) async fn asked(&mut self, prefix: &Prefix) -> HashMap<String, u32> {
        let mut counts = HashMap::new();
        // What a script asks for is no round trip.
        let lines = self.lines(prefix).await;
        for line in lines.iter().filter(|line| !line.contains(" lua] ")) {
            let command = line.split('"').nth(1).unwrap().to_lowercase();
            *counts.entry(command).or_default() += 1;
        }
        counts
    }

    /// How many entries each read of a log asked for at most since the last time.
    pub(crate) async fn entries(&mut self, prefix: &Prefix) -> Vec<u64> {
        let mut counts = Vec::new();
        for line in self.lines(prefix).await {
            if line.contains("\"XRANGE\"") || line.contains("\"XREVRANGE\"") {
                counts.push(line.rsplit('"').nth(1).unwrap().parse().unwrap());
            }
        }
        counts
    }
}

//! The connection to a server or a cluster, made again where the driver does not recover from an
//! outage.
//!
//! The driver repairs connections that are closed. One that has gone silent it goes on asking,
//! until the system gives it up many minutes later; and an outage of a whole cluster can leave it
//! without any, looking for ever for one to ask where the slots are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Client, ErrorKind, PushInfo, PushKind, RedisError, RedisResult};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

/// What a call asks.
#[derive(Clone)]
pub(crate) enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

/// Whom to connect to, and how.
pub(crate) enum Target {
    Single(Client, Box<ConnectionManagerConfig>),
    Cluster(ClusterClient),
}

impl Target {
    pub(crate) async fn connect(&self) -> RedisResult<Connection> {
        Ok(match self {
            Self::Single(client, config) => {
                let (client, config) = (client.clone(), (**config).clone());
                Connection::Single(ConnectionManager::new_with_config(client, config).await?)
            }
            Self::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        })
    }
}

#[derive(Clone)]
pub(crate) struct Connections(Arc<Inner>);

struct Inner {
    target: Target,
    pushes: UnboundedSender<PushInfo>,
    /// How long calls may fail before the connection is made again.
    patience: Duration,
    state: Mutex<State>,
    /// When a new one was last tried. Held while one is tried.
    tried: tokio::sync::Mutex<Option<Instant>>,
}

struct State {
    connection: Connection,
    /// When the first of the calls began that have failed since one was answered.
    failing: Option<Instant>,
}

impl Connections {
    pub(crate) fn new(
        target: Target,
        connection: Connection,
        pushes: UnboundedSender<PushInfo>,
        patience: Duration,
    ) -> Self {
        let state = Mutex::new(State { connection, failing: None });
        let tried = tokio::sync::Mutex::new(None);
        Self(Arc::new(Inner { target, pushes, patience, state, tried }))
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.0.target, Target::Cluster(_))
    }

    /// The connection to ask, a new one where calls have failed for too long.
    pub(crate) async fn connection(&self) -> Connection {
        if self.is_stuck() {
            self.renew().await;
        }
        self.state().connection.clone()
    }

    /// Begins a call. One that is given up by its caller counts as failed, too.
    pub(crate) fn begin(&self) -> Attempt<'_> {
        Attempt { connections: self, begun: Instant::now(), is_answered: false }
    }

    fn is_stuck(&self) -> bool {
        self.state().failing.is_some_and(|since| since.elapsed() >= self.0.patience)
    }

    /// One caller at a time tries, the others go on with what there is.
    async fn renew(&self) {
        let Ok(mut tried) = self.0.tried.try_lock() else { return };
        let is_early = tried.is_some_and(|at| at.elapsed() < PAUSE);
        if is_early || !self.is_stuck() {
            return;
        }
        *tried = Some(Instant::now());
        match self.0.target.connect().await {
            Ok(connection) => {
                *self.state() = State { connection, failing: None };
                // The listener has to subscribe again.
                let ended = PushInfo { kind: PushKind::Disconnection, data: Vec::new() };
                let _ = self.0.pushes.send(ended);
                tracing::debug!("the connection was made again");
            }
            Err(error) => tracing::debug!(%error, "no connection can be made"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way.
pub(crate) struct Attempt<'c> {
    connections: &'c Connections,
    begun: Instant,
    is_answered: bool,
}

impl Attempt<'_> {
    /// Any reply, even an error, proves that the connection works.
    pub(crate) fn end<T>(mut self, result: &RedisResult<T>) {
        self.is_answered = result.as_ref().map_or_else(is_said, |_| true);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut state = self.connections.state();
        if self.is_answered {
            state.failing = None;
        } else {
            state.failing.get_or_insert(self.begun);
        }
    }
}

fn is_said(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::UnexpectedReturnType)
}

const PAUSE: Duration = Duration::from_millis(500);

#[cfg(all(test, feature = "server-tests"))]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::store::servers_of_cluster;

    /// A driver that finds no server, as after an outage: no server listens at its address. The
    /// client that makes the next connection knows the real ones.
    #[tokio::test]
    async fn a_connection_that_only_fails_is_made_again() {
        let (pushes, mut pushed) = unbounded_channel();
        let absent = ClusterClient::builder(["redis://127.0.0.1:1"]).retries(0).build().unwrap();
        let lost = absent.get_pending_async_connection_with_config(Default::default());
        let url = std::env::var("SESSION_KIT_REDIS_CLUSTER_URL").unwrap();
        let urls = servers_of_cluster(&url).unwrap();
        let target = Target::Cluster(ClusterClient::new(urls).unwrap());
        let cluster = Connections::new(target, Connection::Cluster(lost), pushes, PATIENCE);
        let ping = async || {
            let attempt = cluster.begin();
            let Connection::Cluster(mut connection) = cluster.connection().await else {
                panic!("another kind of connection")
            };
            let result: RedisResult<String> = redis::cmd("PING").query_async(&mut connection).await;
            attempt.end(&result);
            result
        };
        assert!(ping().await.is_err(), "the first connection leads nowhere");
        assert!(pushed.try_recv().is_err());
        let begun = Instant::now();
        while let Err(error) = ping().await {
            assert!(begun.elapsed() < PATIENCE * 20, "still the old one: {error}");
            tokio::task::yield_now().await;
        }
        assert!(begun.elapsed() >= PATIENCE, "patience comes first");
        assert_eq!(pushed.recv().await.unwrap().kind, PushKind::Disconnection);
        assert!(!cluster.is_stuck());
    }

    /// A call whose caller has gone counts as one without an answer.
    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_counts_as_failed() {
        let (pushes, _pushed) = unbounded_channel();
        let absent = ClusterClient::builder(["redis://127.0.0.1:1"]).build().unwrap();
        let lost = absent.get_pending_async_connection_with_config(Default::default());
        let lost = Connection::Cluster(lost);
        let cluster = Connections::new(Target::Cluster(absent), lost, pushes, PATIENCE);
        drop(cluster.begin());
        assert!(!cluster.is_stuck());
        tokio::time::advance(PATIENCE).await;
        assert!(cluster.is_stuck());
        cluster.begin().end(&Ok(()));
        assert!(!cluster.is_stuck());
    }

    const PATIENCE: Duration = Duration::from_millis(500);
}

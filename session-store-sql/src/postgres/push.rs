//! Hints that the log has grown: notifications, sent after the change and heard on a connection of
//! its own.
//!
//! `NOTIFY` takes a lock of the whole server from before the commit to after the flush. Inside the
//! transaction of a change it would keep changes from sharing a flush. A task sends it afterwards,
//! without a flush, and one at a time: what changes while one is under way is told by the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use session_core::StoreError;
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::db::{Db, store_error};

/// Tells the other nodes that the log has grown.
#[derive(Debug)]
pub(super) struct Teller {
    changes: mpsc::Sender<()>,
}

impl Teller {
    /// Starts the task that sends; it ends with the teller, after what there is to tell, or at once
    /// where that cannot be sent.
    pub(super) fn start(db: Db) -> Self {
        let (changes, changed) = mpsc::channel(1);
        tokio::spawn(tell(db, changed));
        Self { changes }
    }

    /// Sends a notification when dropped, unless nothing has changed. A caller that gives up cannot
    /// know whether its change was made.
    pub(super) const fn change(&self) -> Told<'_> {
        Told { teller: Some(self) }
    }
}

/// A change that is under way.
#[derive(Debug)]
pub(super) struct Told<'t> {
    teller: Option<&'t Teller>,
}

impl Told<'_> {
    /// Nothing has changed.
    pub(super) fn nothing(&mut self) {
        self.teller = None;
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        // Where there is no room, the next notification covers this change.
        let _full = self.teller.map(|teller| teller.changes.try_send(()));
    }
}

async fn tell(db: Db, mut changed: mpsc::Receiver<()>) {
    while changed.recv().await.is_some() {
        while let Err(error) = send(&db).await {
            if db.pool.is_closed() || changed.is_closed() {
                return;
            }
            tracing::debug!(%error, "cannot notify; trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn send(db: &Db) -> Result<(), StoreError> {
    let sent = sqlx::query(NOTIFY).bind(&db.names.channel).execute(&db.pool);
    sent.await.map(drop).map_err(store_error)
}

/// How a store listens, for its report.
#[derive(Clone, Debug)]
pub(super) struct Hearing(Arc<AtomicU8>);

impl Hearing {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(OFF)))
    }

    pub(super) fn text(&self) -> &'static str {
        TEXTS[usize::from(self.0.load(Ordering::Relaxed))]
    }

    pub(super) fn is_behind_pooler(&self) -> bool {
        self.0.load(Ordering::Relaxed) == POOLER
    }

    pub(super) fn is_listening(&self) -> bool {
        self.0.load(Ordering::Relaxed) == LISTENING
    }

    fn is(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }
}

/// Passes hints on, and listens again where a connection is lost, until the pool is closed.
pub(super) async fn hear(db: Db, grown: Arc<Notify>, hearing: Hearing) {
    let listening = listen_on(&db.pool, &db.names.channel, &grown, &hearing, LOOK);
    let _closed = db.pool.close_event().do_until(listening).await;
}

async fn listen_on(
    pool: &PgPool,
    channel: &str,
    grown: &Notify,
    hearing: &Hearing,
    look: Duration,
) {
    loop {
        hearing.is(CONNECTING);
        // A silent connection of the pool would have it wait as long.
        let listener = timeout(look, listen(pool, channel)).await;
        match listener.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(Some(mut listener)) => {
                hearing.is(LISTENING);
                // Notifications of earlier changes have not been heard.
                grown.notify_one();
                while is_told(&mut listener, look).await {
                    grown.notify_one();
                }
            }
            Ok(None) => {
                hearing.is(POOLER);
                tracing::warn!(
                    "a pooler lends PostgreSQL's connections out: notifications are not listened \
                     for, and revocations take the propagation bound"
                );
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot listen; revocations take the propagation bound");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns true on a notification, false once the connection is lost. Probes a silent connection
/// with `SELECT 1`.
async fn is_told(listener: &mut PgListener, look: Duration) -> bool {
    loop {
        match timeout(look, listener.try_recv()).await {
            Ok(told) => return matches!(told, Ok(Some(_))),
            Err(_) => match timeout(look, sqlx::query("SELECT 1").execute(&mut *listener)).await {
                Ok(Ok(_)) => {}
                _ => return false,
            },
        }
    }
}

/// None where a pooler gives the connection to another client with the next transaction: that
/// client would get the notifications.
async fn listen(pool: &PgPool, channel: &str) -> Result<Option<PgListener>, sqlx::Error> {
    let before: i64 = sqlx::query_scalar(NOW).fetch_one(pool).await?;
    let one = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    let one = one.connect_with(pool.connect_options().as_ref().clone()).await?;
    if !is_newer(&one, before).await? {
        return Ok(None);
    }
    let mut listener = PgListener::connect_with(&one).await?;
    listener.ignore_pool_close_event(true);
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    Ok(Some(listener))
}

/// Whether the server's end of a connection was made after this moment of its clock, as that of a
/// new connection is, unless there is a pooler in between that had one.
async fn is_newer(one: &PgPool, before: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(IS_NEWER).bind(before).fetch_one(one).await
}

const OFF: u8 = 0;
const CONNECTING: u8 = 1;
const LISTENING: u8 = 2;
const POOLER: u8 = 3;
const TEXTS: [&str; 4] = ["off", "connecting", "listening", "not listening, because of a pooler"];
/// The setting holds for this transaction alone.
const NOTIFY: &str = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, '')";
const PAUSE: Duration = Duration::from_millis(250);
/// How long a silence may be before the connection is looked at, and how long an answer may take.
const LOOK: Duration = Duration::from_secs(10);
const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
const IS_NEWER: &str = "SELECT (extract(epoch FROM backend_start) * 1000000)::bigint >= $1 \
    FROM pg_stat_activity WHERE pid = pg_backend_pid()";

#[cfg(all(test, feature = "server-tests"))]
mod tests {
    use session_conformance::faults::falls_silent;
    use sqlx::postgres::{PgConnectOptions, PgSslMode};
    use tokio::sync::watch;

    use super::*;
    use crate::names::Names;

    /// Nobody is told by a store that is gone, and whose server is.
    #[tokio::test]
    async fn telling_ends_with_its_store_where_the_server_is_gone() {
        let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(10));
        let pool = pool.connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
        let db = Db::new(pool, Names::new(None, "session_kit_"), store_error);
        let (changes, changed) = mpsc::channel(1);
        changes.send(()).await.unwrap();
        let telling = tokio::spawn(tell(db, changed));
        drop(changes);
        timeout(PATIENCE, telling).await.expect("it ends").unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_another_client_had_before_is_not_listened_on() {
        let url = std::env::var("SESSION_KIT_POSTGRES_URL")
            .expect("SESSION_KIT_POSTGRES_URL names a server; `cargo xtask test` starts one");
        let pool = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
        let before: i64 = sqlx::query_scalar(NOW).fetch_one(&pool).await.unwrap();
        assert!(!is_newer(&pool, before).await.unwrap(), "as a pooler would lend it");
        let new = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
        assert!(is_newer(&new, before).await.unwrap());
        assert!(listen(&pool, "nothing").await.unwrap().is_some());
    }

    /// A connection that goes silent, as when a host is gone without a word: nothing is closed.
    #[tokio::test]
    async fn a_silent_listener_is_replaced() {
        let url = std::env::var("SESSION_KIT_POSTGRES_URL")
            .expect("SESSION_KIT_POSTGRES_URL names a server; `cargo xtask test` starts one");
        let server: PgConnectOptions = url.parse().unwrap();
        let real = format!("{}:{}", server.get_host(), server.get_port());
        let (fall_silent, silence) = watch::channel(());
        let own = falls_silent(real, silence).await;
        let direct = PgPool::connect_with(server.clone()).await.unwrap();
        let through = server.host("127.0.0.1").port(own).ssl_mode(PgSslMode::Disable);
        let pool = PgPoolOptions::new().connect_lazy_with(through);
        let grown = Arc::new(Notify::new());
        let hearing = tokio::spawn({
            let (pool, grown) = (pool.clone(), Arc::clone(&grown));
            async move {
                let (hearing, look) = (Hearing::new(), Duration::from_millis(200));
                listen_on(&pool, "silence", &grown, &hearing, look).await;
            }
        });
        // It listens.
        timeout(PATIENCE, grown.notified()).await.unwrap();
        sqlx::query("NOTIFY silence").execute(&direct).await.unwrap();
        timeout(PATIENCE, grown.notified()).await.unwrap();
        fall_silent.send(()).unwrap();
        // It listens again, on a new connection.
        timeout(PATIENCE, grown.notified()).await.unwrap();
        sqlx::query("NOTIFY silence").execute(&direct).await.unwrap();
        timeout(PATIENCE, grown.notified()).await.unwrap();
        hearing.abort();
    }

    const PATIENCE: Duration = Duration::from_secs(60);
}

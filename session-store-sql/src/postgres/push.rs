//! Hints that the log has grown: `NOTIFY`, heard on a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Passes hints on, and listens again where a connection is lost, until the pool is closed.
pub(super) async fn run(pool: PgPool, channel: String, grown: Arc<Notify>) {
    let _closed = pool.close_event().do_until(hear(&pool, &channel, &grown, LOOK)).await;
}

async fn hear(pool: &PgPool, channel: &str, grown: &Notify, look: Duration) {
    loop {
        // A silent connection of the pool would have it wait as long.
        let listener = timeout(look, listen(pool, channel)).await;
        match listener.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(Some(mut listener)) => {
                // Whatever was told before has not been heard.
                grown.notify_one();
                while is_told(&mut listener, look).await {
                    grown.notify_one();
                }
            }
            Ok(None) => {
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

/// Waits for a notification; not, where the connection is lost. One that has gone silent is noticed
/// by asking, every now and then.
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

/// None where the connection would be another's by the next transaction: what was listened for
/// would then be told to somebody who does not expect it.
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

    #[tokio::test]
    async fn a_connection_that_somebody_had_before_is_not_listened_on() {
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
    async fn a_listener_that_hears_nothing_any_more_listens_anew() {
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
            async move { hear(&pool, "silence", &grown, Duration::from_millis(200)).await }
        });
        // It listens.
        timeout(PATIENCE, grown.notified()).await.unwrap();
        sqlx::query("NOTIFY silence").execute(&direct).await.unwrap();
        timeout(PATIENCE, grown.notified()).await.unwrap();
        fall_silent.send(()).unwrap();
        // It listens anew, whatever became of what the pool had open.
        timeout(PATIENCE, grown.notified()).await.unwrap();
        sqlx::query("NOTIFY silence").execute(&direct).await.unwrap();
        timeout(PATIENCE, grown.notified()).await.unwrap();
        hearing.abort();
    }

    const PATIENCE: Duration = Duration::from_secs(60);
}

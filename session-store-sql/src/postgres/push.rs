//! Hints that the log has grown: `NOTIFY`, heard on a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use tokio::sync::Notify;

/// Passes hints on, and listens again where a connection is lost, until the pool is closed.
pub(super) async fn run(pool: PgPool, channel: String, grown: Arc<Notify>) {
    let _closed = pool.close_event().do_until(hear(&pool, &channel, &grown)).await;
}

async fn hear(pool: &PgPool, channel: &str, grown: &Notify) {
    loop {
        match listen(pool, channel).await {
            Ok(Some(mut listener)) => {
                // Whatever was told before has not been heard.
                grown.notify_one();
                while matches!(listener.try_recv().await, Ok(Some(_))) {
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
const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
const IS_NEWER: &str = "SELECT (extract(epoch FROM backend_start) * 1000000)::bigint >= $1 \
    FROM pg_stat_activity WHERE pid = pg_backend_pid()";

#[cfg(all(test, feature = "server-tests"))]
mod tests {
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
}

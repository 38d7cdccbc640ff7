//! The connection that a store reads its log on, besides those of its pool: however many requests
//! wait for those, a node hears of revocations.

use std::fmt;

use session_core::StoreError;
use session_core::store::LogPage;
use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};
use tokio::sync::Mutex;

/// A connection besides the pool's, with all that the pool does for a new one. A pool of one
/// connection serves the log, too.
pub(crate) struct Line<D: Database> {
    pool: Pool<D>,
    kept: Option<Mutex<Option<D::Connection>>>,
    /// What the driver's errors mean.
    store_error: fn(sqlx::Error) -> StoreError,
}

/// A read of the log.
pub(crate) trait Read<D: Database> {
    fn page(
        &self,
        connection: &mut D::Connection,
    ) -> impl Future<Output = Result<LogPage, StoreError>> + Send;
}

impl<D: Database> Line<D> {
    pub(crate) fn besides(pool: &Pool<D>, store_error: fn(sqlx::Error) -> StoreError) -> Self {
        let is_alone = pool.options().get_max_connections() == 1;
        Self { pool: pool.clone(), kept: (!is_alone).then(Mutex::default), store_error }
    }

    /// Reads over the connection, and over a new one where that fails: it may have been lost since
    /// the last read. A read that is given up drops it.
    pub(crate) async fn read(&self, read: &impl Read<D>) -> Result<LogPage, StoreError> {
        let Some(kept) = &self.kept else { return read.page(&mut *self.connection().await?).await };
        let mut kept = kept.lock().await;
        if let Some(mut connection) = kept.take().filter(|_| !self.pool.is_closed())
            && let Ok(page) = read.page(&mut connection).await
        {
            *kept = Some(connection);
            return Ok(page);
        }
        let mut connection = self.connect().await.map_err(self.store_error)?;
        let page = read.page(&mut connection).await?;
        *kept = Some(connection);
        Ok(page)
    }

    async fn connection(&self) -> Result<PoolConnection<D>, StoreError> {
        self.pool.acquire().await.map_err(self.store_error)
    }

    /// A new connection as the pool makes them, without waiting for one of its own.
    async fn connect(&self) -> Result<D::Connection, sqlx::Error> {
        if self.pool.is_closed() {
            return Err(sqlx::Error::PoolClosed);
        }
        let one = self.pool.options().clone().min_connections(0).max_connections(1);
        let one = one.max_lifetime(None).idle_timeout(None);
        let one = one.connect_lazy_with(self.pool.connect_options().as_ref().clone());
        Ok(one.acquire().await?.detach())
    }
}

impl<D: Database> fmt::Debug for Line<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("pool", &self.pool).finish_non_exhaustive()
    }
}

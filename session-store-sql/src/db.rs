//! A server's database, and where in it a store keeps its tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use session_core::StoreError;
use session_core::store::Needs;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Database, Pool};

use crate::line::Line;
use crate::names::Names;

/// The pool with the names that every statement needs. Clones share the pool.
#[derive(Debug)]
pub(crate) struct Db<D: Database> {
    pub(crate) pool: Pool<D>,
    pub(crate) names: Names,
    /// Where the log is read.
    pub(crate) line: Arc<Line<D>>,
    keeps_history: Arc<AtomicBool>,
}

impl<D: Database> Db<D> {
    pub(crate) fn new(
        pool: Pool<D>,
        names: Names,
        store_error: fn(sqlx::Error) -> StoreError,
    ) -> Self {
        let line = Arc::new(Line::besides(&pool, store_error));
        Self { pool, names, line, keeps_history: Arc::new(AtomicBool::new(true)) }
    }

    /// Whether sessions that end go into the history.
    pub(crate) fn keeps_history(&self) -> bool {
        self.keeps_history.load(Ordering::Relaxed)
    }

    pub(crate) fn configure(&self, needs: &Needs) {
        self.keeps_history.store(!needs.history.is_zero(), Ordering::Relaxed);
    }

    /// A statement with the names written into it.
    pub(crate) fn sql(&self, statement: &'static str) -> AssertSqlSafe<String> {
        self.names.sql(statement)
    }
}

impl<D: Database> Clone for Db<D> {
    fn clone(&self) -> Self {
        let Self { pool, names, line, keeps_history } = self;
        Self {
            pool: pool.clone(),
            names: names.clone(),
            line: Arc::clone(line),
            keeps_history: Arc::clone(keeps_history),
        }
    }
}

/// Connects once. A pool would try again for half a minute where nothing listens, and not say that then.
pub(crate) async fn reach<O: ConnectOptions>(
    server: &O,
    store_error: fn(sqlx::Error) -> StoreError,
) -> Result<(), StoreError>
where
    O::Connection: Sized,
{
    let connection = tokio::time::timeout(REACH, server.connect()).await;
    let connection = connection.map_err(|_| StoreError::timed_out("connect", REACH))?;
    connection.map_err(store_error)?.close().await.map_err(store_error)
}

const REACH: Duration = Duration::from_secs(10);

//! The history of ended sessions. What ends a session writes it.

use std::time::Duration;

use session_core::store::{
    EndedBatch, EndedSession, Forget, HistoryPage, HistoryQuery, limit_within,
};
use session_core::{SessionId, StoreError, UserKey};
use sqlx::postgres::Postgres;

use super::db::{Db, micros, store_error};
use crate::rows;
use crate::walk::Walk;

pub(super) async fn ended(db: &Db, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
    let row = sqlx::query(db.sql(ENDED)).bind(&id.as_bytes()[..]);
    let row = row.fetch_optional(&db.pool).await.map_err(store_error)?;
    row.as_ref().map(rows::ended_session).transpose()
}

pub(super) async fn page(db: &Db, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
    let mut walk = Walk::history(query);
    let table = db.names.fill("{t}history");
    loop {
        let mut statement = walk.statement::<Postgres>(rows::ENDED_SESSION, &table);
        let rows = statement.build().fetch_all(&db.pool).await.map_err(store_error)?;
        if let Some(walked) = walk.absorb(&rows, rows::ended_session)? {
            return Ok(walked.into());
        }
    }
}

pub(super) async fn forget(db: &Db, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
    let limit = i64::from(limit_within(limit, EndedBatch::MAX_LIMIT));
    let deleted = match forget {
        Forget::OlderThan(age) => forget_old(db, *age, limit).await,
        Forget::User(owner) => forget_user(db, owner, limit).await,
    };
    Ok(u32::try_from(deleted.map_err(store_error)?).unwrap_or(u32::MAX))
}

async fn forget_old(db: &Db, age: Duration, limit: i64) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query(db.sql(FORGET_OLD)).bind(micros(age)).bind(limit);
    deleted.execute(&db.pool).await.map(|deleted| deleted.rows_affected())
}

async fn forget_user(db: &Db, owner: &UserKey, limit: i64) -> Result<u64, sqlx::Error> {
    let forget = sqlx::query(db.sql(FORGET_USER));
    let forget = forget.bind(owner.tenant_text()).bind(owner.user.as_str()).bind(limit);
    forget.execute(&db.pool).await.map(|deleted| deleted.rows_affected())
}

pub(super) const ENDED: &str = "SELECT * FROM {t}history WHERE id = $1";
/// This and [`FORGET_USER`] lock in one order, so that no two calls wait for each other in a
/// circle. What another one has deleted is passed over.
pub(super) const FORGET_OLD: &str = "DELETE FROM {t}history WHERE id = ANY (ARRAY( \
    SELECT id FROM {t}history \
    WHERE ended < (extract(epoch FROM statement_timestamp()) * 1000000)::bigint - $1 \
    ORDER BY ended, id DESC LIMIT $2 FOR UPDATE))";
pub(super) const FORGET_USER: &str = "DELETE FROM {t}history WHERE id = ANY (ARRAY( \
    SELECT id FROM {t}history WHERE tenant = $1 AND user_id = $2 \
    ORDER BY ended, id DESC LIMIT $3 FOR UPDATE))";

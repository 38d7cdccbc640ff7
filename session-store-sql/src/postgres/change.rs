//! Changes of sessions. A function of the database makes a commit in one round trip, and locks the
//! row of the user before the user's sessions.

use std::collections::HashSet;

use session_core::store::record;
use session_core::store::{Commit, Outcome, Touch};
use session_core::{SessionId, StoreError};

use super::db::{Db, is_duplicate, store_error};
use crate::steps;

pub(super) async fn commit(db: &Db, commit: &Commit) -> Result<Outcome, StoreError> {
    let done = sqlx::query_scalar(db.sql(COMMIT))
        .bind(commit.owner.tenant_text())
        .bind(commit.owner.user.as_str())
        .bind(commit.expected.0)
        .bind(steps::text(&commit.changes))
        .bind(commit.at.as_micros())
        .bind(commit.by.to_string())
        .bind(commit.from.as_ref().map(|from| from.as_str()))
        .bind(db.keeps_history())
        .fetch_one(&db.pool)
        .await;
    match done {
        Ok(true) => Ok(Outcome::Done),
        Ok(false) => Ok(Outcome::Conflict),
        Err(error) if is_duplicate(&error) => Ok(Outcome::Conflict),
        Err(error) => Err(store_error(error)),
    }
}

pub(super) async fn touch(db: &Db, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
    let batch = Touch::folded(batch)?;
    let ids: Vec<_> = batch.iter().map(|touch| touch.id.as_bytes().to_vec()).collect();
    let times: Vec<_> = batch.iter().map(|touch| touch.last_accessed.as_micros()).collect();
    let deadlines: Vec<_> = batch.iter().map(|touch| touch.deadline.as_micros()).collect();
    let claimed: Vec<_> = batch.iter().map(|touch| i64::from(touch.claimed)).collect();
    let addresses: Vec<_> =
        batch.iter().map(|touch| record::address_list(&touch.ip_addresses)).collect();
    let found: Vec<Vec<u8>> = sqlx::query_scalar(db.sql(TOUCH))
        .bind(ids)
        .bind(times)
        .bind(deadlines)
        .bind(claimed)
        .bind(addresses)
        .fetch_all(&db.pool)
        .await
        .map_err(store_error)?;
    let found: HashSet<_> = found.into_iter().collect();
    let gone = batch.iter().filter(|touch| !found.contains(&touch.id.as_bytes()[..]));
    Ok(gone.map(|touch| touch.id).collect())
}

const COMMIT: &str = "SELECT {t}commit($1, $2, $3, $4::jsonb, $5, $6, $7, $8)";
pub(super) const TOUCH: &str = "WITH touched AS ( \
        SELECT t.id, t.at, t.deadline, t.claimed, string_to_array(t.ips, ',') AS ips \
        FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[]) \
            AS t (id, at, deadline, claimed, ips)), \
    found AS ( \
        SELECT s.id FROM {t}sessions AS s JOIN touched ON touched.id = s.id \
        ORDER BY s.id FOR NO KEY UPDATE OF s) \
    UPDATE {t}sessions AS s SET last_accessed = GREATEST(s.last_accessed, t.at), \
        deadline = GREATEST(s.deadline, t.deadline), claimed = GREATEST(s.claimed, t.claimed), \
        ip_addresses = CASE WHEN t.ips = '{}' THEN s.ip_addresses ELSE ( \
            SELECT array_to_string(merged[GREATEST(1, cardinality(merged) - 15):], ',') \
            FROM (SELECT ARRAY(SELECT known FROM \
                unnest(string_to_array(s.ip_addresses, ',')) WITH ORDINALITY AS a (known, n) \
                WHERE known <> ALL (t.ips) ORDER BY n) || t.ips AS merged) AS m) END \
    FROM touched AS t JOIN found ON found.id = t.id WHERE s.id = t.id RETURNING s.id";

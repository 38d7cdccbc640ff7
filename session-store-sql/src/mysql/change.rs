//! Changes of sessions: calls of procedures that the migrations make.

use std::collections::HashSet;

use serde_json::{Value, json};
use session_core::store::record;
use session_core::store::{
    Change, Commit, Continuation, EndMany, Ended, EndedBatch, Ending, Outcome, Recheck, Touch,
};
use session_core::{DeviceInfo, SessionId, StoreError, Timestamp};

use super::chunk;
use super::db::{Db, micros, retried, store_error};
use crate::filter::CHOSEN;
use crate::walk::{self, Walk, Walked};
use crate::{columns::Columns, rows, steps};

impl Db {
    pub(super) async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        commit.check()?;
        let changes = steps::text(&commit.changes);
        let by = commit.by.to_string();
        let from = commit.from.as_ref().map(DeviceInfo::as_str);
        let [inserts, updates, ends, others] = counts(&commit.changes);
        let call = || {
            sqlx::query_scalar(self.sql(COMMIT))
                .bind(commit.owner.tenant_text())
                .bind(commit.owner.user.as_str())
                .bind(commit.expected.0)
                .bind(&changes)
                .bind(inserts)
                .bind(updates)
                .bind(ends)
                .bind(others)
                .bind(commit.at.as_micros())
                .bind(&by)
                .bind(from)
                .bind(self.keeps_history())
                .fetch_one(&self.pool)
        };
        let done: i64 = retried(call).await?;
        Ok(if done == 1 { Outcome::Done } else { Outcome::Conflict })
    }

    pub(super) async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let mut batch = Touch::folded(batch)?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        // Every transaction locks sessions in this order.
        batch.sort_by_key(|touch| touch.id);
        let touches = batch.iter().map(|touch| {
            json!({
                "id": const_hex::encode(touch.id.as_bytes()),
                "at": touch.last_accessed.as_micros(),
                "deadline": touch.deadline.as_micros(),
                "claimed": i64::from(touch.claimed),
                "ips": record::address_list(&touch.ip_addresses),
            })
        });
        let touches = Value::Array(touches.collect()).to_string();
        let call = || sqlx::query(self.sql(TOUCH)).bind(&touches).fetch_all(&self.pool);
        let gone = retried(call).await?;
        let gone: HashSet<_> =
            gone.iter().map(|row| row.bytes("id").map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
        let gone = batch.iter().filter(|touch| gone.contains(&touch.id.as_bytes()[..]));
        Ok(gone.map(|touch| touch.id).collect())
    }

    /// Chooses, then ends: of what a selection goes by, only the last access changes.
    pub(super) async fn end_many(
        &self,
        end: &EndMany,
        limit: u32,
    ) -> Result<EndedBatch, StoreError> {
        let Walked { found, next } = self.choose(Walk::choose(end, limit)?).await?;
        let ended = self.end_chosen(found, end.into(), &end.into()).await?;
        Ok(EndedBatch { ended, next: next.map(Continuation::at) })
    }

    async fn choose(&self, mut walk: Walk<Vec<u8>>) -> Result<Walked<Vec<u8>>, StoreError> {
        loop {
            let mut chunk = chunk::statement(&self.names, &walk, CHOSEN);
            let rows = chunk.build().fetch_all(&self.pool).await.map_err(store_error)?;
            if let Some(walked) = walk.absorb(&rows, walk::id)? {
                return Ok(walked);
            }
        }
    }

    /// Ends those of the chosen sessions that are still there and for which the recheck holds.
    pub(super) async fn end_chosen(
        &self,
        mut chosen: Vec<Vec<u8>>,
        recheck: Recheck,
        ending: &Ending,
    ) -> Result<Vec<Ended>, StoreError> {
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        chosen.sort_unstable();
        let ids = Value::Array(chosen.iter().map(|id| const_hex::encode(id).into()).collect());
        let (ids, by) = (ids.to_string(), ending.by.to_string());
        let call = || {
            sqlx::query(self.sql(END))
                .bind(&ids)
                .bind(recheck.overdue.map(micros))
                .bind(recheck.accessed_before.map(Timestamp::as_micros))
                .bind(ending.cause.as_str())
                .bind(ending.at.as_micros())
                .bind(&by)
                .bind(ending.from.as_ref().map(DeviceInfo::as_str))
                .bind(self.keeps_history())
                .fetch_all(&self.pool)
        };
        retried(call).await?.iter().map(rows::ended).collect()
    }
}

/// Counts the changes of each kind, so that the procedure can skip steps.
fn counts(changes: &[Change]) -> [u32; 4] {
    let mut counts = [0; 4];
    for change in changes {
        let kind = match change {
            Change::Insert(_) => 0,
            Change::Update { .. } => 1,
            Change::End(..) => 2,
            Change::ClaimsChanged(_) => 3,
        };
        counts[kind] += 1;
    }
    counts
}

const COMMIT: &str = "CALL {t}commit_1(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const TOUCH: &str = "CALL {t}touch_1(?)";
const END: &str = "CALL {t}end_1(?, ?, ?, ?, ?, ?, ?, ?)";

//! Chooses sessions for the cleanup: first expired ones, by expiry, then inactive ones, from the oldest
//! sign-in on. A session cannot have been unused for longer than since then.

use session_core::store::{Continuation, EndedBatch, PageQuery, Sweep, limit_within};
use session_core::{Actor, EndCause, EventKind, InvalidField, StoreError};

use super::change::Ending;
use super::db::{Db, store_error};
use crate::columns::Columns;

/// Where a walk is: the time that the phase goes by, and the id.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Expired(i64, [u8; 16]),
    Unused(i64, [u8; 16]),
}

/// A part of a walk.
#[derive(Debug)]
struct Chunk {
    old: Vec<(i64, [u8; 16])>,
    /// The last that was examined, if there may be more.
    last: Option<(i64, [u8; 16])>,
}

impl Db {
    pub(super) async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
        let from = sweep.after.as_ref().map_or(Ok(Step::BEGIN), Step::parse)?;
        let (chosen, next) = self.choose_old(sweep, from, limit).await?;
        let kind = EventKind::Ended(EndCause::Expired);
        let ending = Ending { rule: Some(&sweep.rule), kind, at: sweep.at, by: &Actor::System };
        let ended = self.end_chosen(chosen, &ending).await?;
        Ok(EndedBatch { ended, next: next.map(|next| next.continuation()) })
    }

    async fn choose_old(
        &self,
        sweep: &Sweep,
        mut from: Step,
        limit: u32,
    ) -> Result<(Vec<Vec<u8>>, Option<Step>), StoreError> {
        let mut chosen = Vec::new();
        if let Step::Expired(at, id) = from {
            let expired = self.expired(sweep, at, id, limit).await?;
            let last = expired.last().copied().filter(|_| expired.len() == limit as usize);
            chosen.extend(expired.into_iter().map(|(_, id)| id.to_vec()));
            if let Some((at, id)) = last {
                return Ok((chosen, Some(Step::Expired(at, id))));
            }
            from = Step::Unused(i64::MIN, [u8::MAX; 16]);
        }
        let mut left = MAX_EXAMINED;
        let mut size = limit.saturating_mul(2).max(FIRST_CHUNK).min(left);
        while let Step::Unused(at, id) = from {
            let room = limit as usize - chosen.len();
            let Chunk { old, last } = self.unused(sweep, at, id, size, limit).await?;
            let enough = old.get(room.wrapping_sub(1)).copied().filter(|_| room > 0);
            chosen.extend(old.into_iter().take(room).map(|(_, id)| id.to_vec()));
            if let Some((at, id)) = enough {
                return Ok((chosen, Some(Step::Unused(at, id))));
            }
            let Some((at, id)) = last else { break };
            from = Step::Unused(at, id);
            left -= size;
            if left == 0 {
                return Ok((chosen, Some(from)));
            }
            size = size.saturating_mul(GROWTH).min(left);
        }
        Ok((chosen, None))
    }

    async fn expired(
        &self,
        sweep: &Sweep,
        at: i64,
        id: [u8; 16],
        limit: u32,
    ) -> Result<Vec<(i64, [u8; 16])>, StoreError> {
        let rows = sqlx::query(self.sql(EXPIRED))
            .bind(at)
            .bind(sweep.rule.expired_by.as_micros())
            .bind(at)
            .bind(id.to_vec())
            .bind(limit)
            .fetch_all(&self.pool);
        rows.await.map_err(store_error)?.iter().map(step).collect()
    }

    async fn unused(
        &self,
        sweep: &Sweep,
        at: i64,
        id: [u8; 16],
        size: u32,
        limit: u32,
    ) -> Result<Chunk, StoreError> {
        let line = sweep.rule.inactive_before.as_micros();
        let rows = sqlx::query(self.sql(UNUSED))
            .bind(at)
            .bind(line)
            .bind(at)
            .bind(id.to_vec())
            .bind(size)
            .bind(line)
            .bind(limit)
            .bind(at)
            .bind(line)
            .bind(at)
            .bind(id.to_vec())
            .bind(size - 1)
            .fetch_all(&self.pool);
        let mut chunk = Chunk { old: Vec::new(), last: None };
        for row in rows.await.map_err(store_error)? {
            match row.integer("old")? {
                1 => chunk.old.push(step(&row)?),
                _ => chunk.last = Some(step(&row)?),
            }
        }
        Ok(chunk)
    }
}

impl Step {
    const BEGIN: Self = Self::Expired(i64::MIN, [0; 16]);

    fn continuation(&self) -> Continuation {
        let (phase, at, id) = match self {
            Self::Expired(at, id) => (0, at, id),
            Self::Unused(at, id) => (1, at, id),
        };
        Continuation([&[phase], &at.to_be_bytes()[..], id].concat())
    }

    fn parse(after: &Continuation) -> Result<Self, StoreError> {
        let parts = || {
            let (phase, rest) = after.0.split_first()?;
            let (at, id) = rest.split_first_chunk()?;
            let (at, id) = (i64::from_be_bytes(*at), id.try_into().ok()?);
            match phase {
                0 => Some(Self::Expired(at, id)),
                1 => Some(Self::Unused(at, id)),
                _ => None,
            }
        };
        parts().ok_or_else(Continuation::malformed)
    }
}

fn step(row: &impl Columns) -> Result<(i64, [u8; 16]), StoreError> {
    let malformed = |_| InvalidField::malformed("id", "sixteen bytes");
    Ok((row.integer("at")?, row.bytes("id")?.try_into().map_err(malformed)?))
}

pub(super) const EXPIRED: &str = "SELECT id, absolute_expiry AS at FROM {t}sessions \
    WHERE absolute_expiry >= ? AND absolute_expiry <= ? AND (absolute_expiry > ? OR id > ?) \
    ORDER BY absolute_expiry, id LIMIT ?";
/// The index on sign-in times is read backwards, so ids come from the highest.
pub(super) const UNUSED: &str = "SELECT id, at, 1 AS old FROM (SELECT id, at FROM ( \
        SELECT id, signed_in AS at, last_accessed FROM {t}sessions \
        WHERE signed_in >= ? AND signed_in < ? AND (signed_in > ? OR id < ?) \
        ORDER BY signed_in, id DESC LIMIT ?) AS chunk \
    WHERE last_accessed < ? ORDER BY at, id DESC LIMIT ?) AS found \
    UNION ALL SELECT id, at, 0 FROM (SELECT id, signed_in AS at FROM {t}sessions \
        WHERE signed_in >= ? AND signed_in < ? AND (signed_in > ? OR id < ?) \
        ORDER BY signed_in, id DESC LIMIT 1 OFFSET ?) AS last";
const FIRST_CHUNK: u32 = 200;
const GROWTH: u32 = 5;
/// Each costs a look at a row, which the index does not have.
const MAX_EXAMINED: u32 = PageQuery::MAX_EXAMINED * 2 / 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_round_trips_and_anything_else_is_refused() {
        for step in [Step::BEGIN, Step::Expired(-7, [9; 16]), Step::Unused(7, [1; 16])] {
            assert_eq!(Step::parse(&step.continuation()).unwrap(), step);
        }
        for bytes in [vec![], vec![0; 24], vec![0; 26], vec![2; 25]] {
            let error = Step::parse(&Continuation(bytes)).unwrap_err();
            assert_eq!(error.kind(), session_core::StoreErrorKind::Refused);
        }
    }
}

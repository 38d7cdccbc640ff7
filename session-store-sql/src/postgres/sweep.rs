//! Chooses the sessions that a cleanup ends: first those past their absolute expiry, then those
//! signed in long ago and not used since.
//!
//! Last accessed has no index, because it is written all day. A session that was signed in before
//! the line and is in use is passed over once in each walk: a call goes on where the last one ended.

use session_core::StoreError;
use session_core::store::{Continuation, EndedBatch, PageQuery, Sweep, limit_within};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::db::{Db, store_error};
use crate::columns::Columns;

/// A walk that collects ids.
#[derive(Debug)]
pub(super) struct Old {
    limit: usize,
    examined: u32,
    found: Vec<Vec<u8>>,
}

/// Where a walk is: in which of its two parts, and behind which session.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    part: Part,
    behind: Option<(i64, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// By absolute expiry and id.
    Expired,
    /// By sign-in, oldest first, and id, largest first.
    Unused,
}

impl Old {
    /// The ids of up to `limit` sessions, and where to go on.
    pub(super) async fn choose(
        db: &Db,
        sweep: &Sweep,
        limit: u32,
    ) -> Result<(Vec<Vec<u8>>, Option<Continuation>), StoreError> {
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT) as usize;
        let mut old = Self { limit, examined: 0, found: Vec::new() };
        let mut place = match &sweep.after {
            Some(after) => Place::parse(after)?,
            None => Place::at(Part::Expired),
        };
        loop {
            match old.examine(db, sweep, &place).await? {
                Some(behind) => place.behind = Some(behind),
                None if place.part == Part::Expired => place = Place::at(Part::Unused),
                None => return Ok((old.found, None)),
            }
            if old.found.len() >= old.limit || old.examined >= PageQuery::MAX_EXAMINED {
                return Ok((old.found, Some(place.continuation())));
            }
        }
    }

    /// Examines a chunk. Answers the last session that it examined; none at the end of the part.
    async fn examine(
        &mut self,
        db: &Db,
        sweep: &Sweep,
        place: &Place,
    ) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        let chunk = self.chunk();
        let rows = place.read(db, sweep, chunk).await?;
        for row in &rows {
            self.examined += 1;
            let place = (row.integer("place")?, row.bytes("id")?.to_vec());
            if row.try_get("covered").map_err(store_error)? && !self.found.contains(&place.1) {
                self.found.push(place.1.clone());
            }
            if self.found.len() == self.limit {
                return Ok(Some(place));
            }
        }
        let last = rows.last().filter(|_| rows.len() >= chunk as usize);
        last.map(|row| Ok((row.integer("place")?, row.bytes("id")?.to_vec()))).transpose()
    }

    /// Small where enough is found soon, large where nearly everything is passed over.
    fn chunk(&self) -> u32 {
        let first = u32::try_from(self.limit).unwrap_or(EndedBatch::MAX_LIMIT) + 1;
        let left = PageQuery::MAX_EXAMINED.saturating_sub(self.examined).max(1);
        first.max(GROWTH * self.examined).min(left)
    }
}

impl Place {
    const fn at(part: Part) -> Self {
        Self { part, behind: None }
    }

    async fn read(&self, db: &Db, sweep: &Sweep, limit: u32) -> Result<Vec<PgRow>, StoreError> {
        let (statement, line) = match self.part {
            Part::Expired => (EXPIRED, sweep.rule.expired_by),
            Part::Unused => (UNUSED, sweep.rule.inactive_before),
        };
        let (place, id) = self.behind.clone().unwrap_or_else(|| self.part.begin());
        let rows = sqlx::query(db.sql(statement))
            .bind(line.as_micros())
            .bind(place)
            .bind(id)
            .bind(i64::from(limit));
        rows.fetch_all(&db.pool).await.map_err(store_error)
    }

    fn continuation(&self) -> Continuation {
        let mut bytes = vec![self.part.number()];
        if let Some((place, id)) = &self.behind {
            bytes.extend(place.to_be_bytes());
            bytes.extend(id);
        }
        Continuation(bytes)
    }

    fn parse(after: &Continuation) -> Result<Self, StoreError> {
        Self::parts(&after.0).ok_or_else(Continuation::malformed)
    }

    fn parts(bytes: &[u8]) -> Option<Self> {
        let (number, behind) = bytes.split_first()?;
        let part = [Part::Expired, Part::Unused].into_iter().find(|p| p.number() == *number)?;
        if behind.is_empty() {
            return Some(Self::at(part));
        }
        let (place, id) = behind.split_first_chunk()?;
        let behind = (id.len() == ID).then(|| (i64::from_be_bytes(*place), id.to_vec()))?;
        Some(Self { part, behind: Some(behind) })
    }
}

impl Part {
    const fn number(self) -> u8 {
        match self {
            Self::Expired => 0,
            Self::Unused => 1,
        }
    }

    /// Before the first session.
    fn begin(self) -> (i64, Vec<u8>) {
        match self {
            Self::Expired => (i64::MIN, Vec::new()),
            Self::Unused => (i64::MIN, vec![u8::MAX; ID + 1]),
        }
    }
}

const GROWTH: u32 = 4;
const ID: usize = 16;
pub(super) const EXPIRED: &str = "SELECT id, absolute_expiry AS place, true AS covered \
    FROM {t}sessions WHERE absolute_expiry <= $1 AND (absolute_expiry, id) > ($2, $3) \
    ORDER BY absolute_expiry, id LIMIT $4";
pub(super) const UNUSED: &str = "SELECT id, signed_in AS place, last_accessed < $1 AS covered \
    FROM {t}sessions WHERE signed_in < $1 AND signed_in >= $2 AND (signed_in > $2 OR id < $3) \
    ORDER BY signed_in, id DESC LIMIT $4";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_round_trips_and_anything_else_is_refused() {
        for part in [Part::Expired, Part::Unused] {
            for behind in [None, Some((-7, vec![9; ID]))] {
                let place = Place { part, behind };
                assert_eq!(Place::parse(&place.continuation()).unwrap(), place);
            }
        }
        for bytes in [vec![], vec![2], vec![0, 1], vec![0; 26]] {
            assert!(Place::parse(&Continuation(bytes)).is_err());
        }
    }
}

//! Reads the log by ids, which are drawn inside transactions and not in the order of their commits.
//!
//! A reader's [`Place`] is the last entry that it read, and the ids before it that it has not seen:
//! of transactions that were open, or that were rolled back. Each read looks for those again, and for
//! the entries that were read last: a failover may have lost the one that was committed last, which
//! need not be the one of the last id. Nothing is written at a read, and no lock is taken.
//!
//! **Which ids are over.** A *gate* is one of two rows. A change locks the open one in share mode,
//! from before it draws its first id until it has ended. `settle` tries, without waiting, to lock
//! the closed gate exclusively, which succeeds once every change that began behind it has ended;
//! then it closes the other one. When both have been found empty after an id was seen, every change
//! that drew an id up to that one has ended. Such ids are `settled`: if a reader cannot see them,
//! they never come. Readers call `settle` when an id stays open over two reads.
//!
//! **Which commits may have missed a block.** A commit reads the blocks after it has locked its
//! gate. If that read did not have a block, the gate was locked before the block was committed. So
//! `set_block` commits the block, and then calls `settle` until it has found each gate empty once:
//! all such commits have ended, and what they began is found by `end_many`. No change waits for
//! `set_block`.
//!
//! **An acknowledged change is in every read that begins afterwards**: it is visible, its id is
//! either behind the place or among the open ones, and an id is dropped only if it was settled
//! before the entries were read.
//!
//! **A user's entries come in the order of their commits.** A change locks the user's row before it
//! draws an id, so a user's ids rise from commit to commit. A page reaches up to the newest entry
//! of an earlier snapshot: each entry up to there was drawn before that one committed, so
//! everything that committed before an entry of the page was drawn is visible to the page.
//!
//! The earlier snapshot also covers MariaDB, which makes a snapshot while others commit: it may
//! have what depends on a change and not the change, but the next snapshot has both. So what is
//! settled is read before the entries, too.
//!
//! **Only settled entries are trimmed**: an entry of a change that is still open comes after none
//! that has gone, so a reader that begins now is told of it.
//!
//! Ids are not given again after a restart (MySQL 8, MariaDB 10.2.4). After a restore, the
//! entry at a reader's position is missing or has another tag, which is a gap.

use std::time::Duration;

use session_core::store::{Cursor, Entries, LogPage, limit_within};
use session_core::{StoreError, Timestamp};
use sqlx::mysql::{MySql, MySqlConnection};

use super::db::{Db, micros, rows};
use super::place::{Found, Place, Read};
use crate::columns::Columns;
use crate::{line, position};

/// A read of the log.
#[derive(Debug)]
struct Reading<'r> {
    db: &'r Db,
    /// Where it begins; none for the end.
    from: Option<Place>,
    /// Whether the reader has a cursor.
    goes_on: bool,
    entries: Entries,
    limit: u32,
}

impl line::Read<MySql> for Reading<'_> {
    async fn page(&self, connection: &mut MySqlConnection) -> Result<LogPage, StoreError> {
        let Some(seen) = &self.from else { return self.at_the_end(connection, self.goes_on).await };
        let call = || {
            sqlx::query(self.db.sql(READ))
                .bind(seen.from())
                .bind(seen.looked_for())
                .bind(i64::from(self.limit) + 2)
        };
        let found = Found::of(rows(connection, call).await?)?;
        let read = seen.clone().read_on(&found, self.entries, self.limit)?;
        let Some(Read { page, unsettled }) = read else {
            return self.at_the_end(connection, true).await;
        };
        if unsettled && let Err(error) = self.db.settle(connection).await {
            tracing::debug!(%error, "ids of the log stay open");
        }
        Ok(page)
    }
}

impl Reading<'_> {
    /// Where the log ends now. After a long time without a need to settle ids, they are settled
    /// first.
    async fn at_the_end(
        &self,
        connection: &mut MySqlConnection,
        gap: bool,
    ) -> Result<LogPage, StoreError> {
        for _ in 0..SETTLE_TRIES {
            let most = Place::MAX_OPEN as u64 + 1;
            let rows = rows(connection, || sqlx::query(self.db.sql(END)).bind(most)).await?;
            let Some((state, entries)) = rows.split_first() else {
                return Err(StoreError::internal("the log has no state"));
            };
            let entries = entries.iter().map(position::of).collect::<Result<Vec<_>, _>>()?;
            // What was trimmed is over, settled or not.
            let over = state.integer("seq")?.max(state.integer("tag")?);
            if let Some(place) = Place::at_end(over, &entries) {
                let clock = Timestamp::from_micros(state.integer("at")?);
                return Ok(LogPage::at_end(place.cursor(), gap, clock));
            }
            if self.db.settle(connection).await?.is_none() {
                tokio::time::sleep(SETTLE_PAUSE).await;
            }
        }
        Err(StoreError::timed_out("settle", SETTLE_PAUSE * SETTLE_TRIES))
    }
}

impl Db {
    pub(super) async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let (from, goes_on) = (cursor.and_then(Place::parse), cursor.is_some());
        let limit = limit_within(limit, LogPage::MAX_LIMIT);
        self.line.read(&Reading { db: self, from, goes_on, entries, limit }).await
    }

    /// Answers which gate was found empty, 0 or 1, if one was.
    pub(super) async fn settle(
        &self,
        connection: &mut MySqlConnection,
    ) -> Result<Option<usize>, StoreError> {
        let rows = rows(connection, || sqlx::query(self.sql(SETTLE))).await?;
        let empty = rows.first().map(|row| row.optional_integer("empty_gate")).transpose()?;
        Ok(empty.flatten().map(|gate| usize::from(gate == 1)))
    }

    /// Waits until every change has ended that passed a gate before: each gate was empty once. Answers
    /// whether that is so after this many tries.
    pub(super) async fn outlast_changes(&self, tries: u32) -> Result<bool, StoreError> {
        let mut outlasted = [false; 2];
        for _ in 0..tries {
            let settled = self.settle(&mut *self.connection().await?).await?;
            match settled {
                Some(gate) => outlasted[gate] = true,
                None => tokio::time::sleep(SETTLE_PAUSE).await,
            }
            if outlasted == [true; 2] {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is not settled may be by now: changes end soon, and no reader has looked.
    pub(super) async fn trim_log(
        &self,
        older_than: Duration,
        limit: u32,
    ) -> Result<u32, StoreError> {
        let limit = limit_within(limit, MAX_TRIMMED);
        let (mut trimmed, unsettled) = self.trim(older_than, limit).await?;
        if unsettled && self.outlast_changes(TRIM_TRIES).await? {
            trimmed += self.trim(older_than, limit - trimmed).await?.0;
        }
        Ok(trimmed)
    }

    /// How many entries went, and whether more could go if they were settled.
    async fn trim(&self, older_than: Duration, limit: u32) -> Result<(u32, bool), StoreError> {
        let call = || sqlx::query(self.sql(TRIM)).bind(micros(older_than)).bind(limit);
        let rows = rows(&mut *self.connection().await?, call).await?;
        let row = rows.first().ok_or_else(|| StoreError::internal("no word of the trim"))?;
        let trimmed = u32::try_from(row.integer("trimmed")?).unwrap_or(u32::MAX);
        Ok((trimmed, row.integer("unsettled")? != 0))
    }
}

const READ: &str = "CALL {t}read_log_1(?, ?, ?)";
const END: &str = "CALL {t}log_end_1(?)";
const SETTLE: &str = "CALL {t}settle_1()";
const TRIM: &str = "CALL {t}trim_log_1(?, ?)";
const SETTLE_TRIES: u32 = 50;
pub(super) const SETTLE_PAUSE: Duration = Duration::from_millis(20);
const TRIM_TRIES: u32 = 25;
/// Longer transactions make others wait for the disk.
const MAX_TRIMMED: u32 = 1_000;

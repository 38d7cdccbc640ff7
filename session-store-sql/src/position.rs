//! A position in a log whose numbers are in the order of commits and have no holes.

use session_core::StoreError;
use session_core::store::{Cursor, LogPage};

use crate::columns::Columns;
use crate::rows;

/// A number in the log and the mark of the entry that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) seq: i64,
    pub(crate) tag: i64,
}

impl Position {
    /// Before the first entry.
    pub(crate) const START: Self = Self { seq: 0, tag: 0 };

    pub(crate) fn of(row: &impl Columns) -> Result<Self, StoreError> {
        Ok(Self { seq: row.integer("seq")?, tag: row.integer("tag")? })
    }

    pub(crate) fn cursor(self) -> Cursor {
        Cursor([self.seq.to_be_bytes(), self.tag.to_be_bytes()].concat())
    }

    pub(crate) fn parse(cursor: &Cursor) -> Option<Self> {
        let bytes: [u8; 16] = cursor.0.as_slice().try_into().ok()?;
        let (seq, tag) = bytes.split_at(8);
        let number = |part: &[u8]| part.try_into().ok().map(i64::from_be_bytes);
        Some(Self { seq: number(seq)?, tag: number(tag)? })
    }

    /// What follows this position, out of rows that begin at it; none where the log does not
    /// continue from it: it is cut, or came back from the past.
    pub(crate) fn read_on<R: Columns>(
        self,
        rows: &[R],
        limit: u32,
    ) -> Result<Option<LogPage>, StoreError> {
        let rest = match rows.first().map(Self::of).transpose()? {
            Some(first) if first == self => &rows[1..],
            Some(first) if self == Self::START && first.seq == 1 => rows,
            None if self == Self::START => rows,
            _ => return Ok(None),
        };
        let more = rest.len() > limit as usize;
        let rest = &rest[..rest.len().min(limit as usize)];
        let next = rest.last().map(Self::of).transpose()?.unwrap_or(self);
        let (events, unreadable): (Vec<_>, Vec<_>) =
            rest.iter().map(rows::event).partition(Result::is_ok);
        // An entry of a newer version must not stop the reader: it counts as missed.
        let gap = !unreadable.is_empty();
        let events = events.into_iter().flatten().collect();
        Ok(Some(LogPage { events, next: next.cursor(), more, gap }))
    }
}

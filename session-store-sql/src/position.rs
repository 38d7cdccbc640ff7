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
    /// continue from it: it is cut, has a hole, or came back from the past.
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
        for (seq, row) in (self.seq + 1..).zip(rest) {
            if row.integer("seq")? != seq {
                return Ok(None);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of the log, by its number.
    struct Entry(i64);

    impl Columns for Entry {
        fn text(&self, column: &'static str) -> Result<&str, StoreError> {
            Ok(if column == "tenant" {
                ""
            } else if column == "kind" {
                "created"
            } else {
                "system"
            })
        }

        fn optional_text(&self, _: &'static str) -> Result<Option<&str>, StoreError> {
            Ok(None)
        }

        fn integer(&self, _: &'static str) -> Result<i64, StoreError> {
            Ok(self.0)
        }

        fn optional_integer(&self, _: &'static str) -> Result<Option<i64>, StoreError> {
            Ok(None)
        }

        fn bytes(&self, _: &'static str) -> Result<&[u8], StoreError> {
            Ok(&[])
        }

        fn optional_bytes(&self, _: &'static str) -> Result<Option<&[u8]>, StoreError> {
            Ok(None)
        }
    }

    #[test]
    fn a_hole_is_not_read_over() {
        let read = |seen: i64, rows: &[i64]| {
            let rows: Vec<_> = rows.iter().map(|seq| Entry(*seq)).collect();
            let seen = Position { seq: seen, tag: seen };
            let page = seen.read_on(&rows, 2).unwrap();
            page.map(|page| {
                (page.events.len(), page.more, Position::parse(&page.next).unwrap().seq)
            })
        };
        assert_eq!(read(5, &[5]), Some((0, false, 5)));
        assert_eq!(read(5, &[5, 6, 7]), Some((2, false, 7)));
        assert_eq!(read(5, &[5, 6, 7, 8]), Some((2, true, 7)));
        assert_eq!(read(0, &[1, 2]), Some((2, false, 2)));
        for cut in [&[][..], &[6], &[5, 7], &[5, 6, 8]] {
            assert_eq!(read(5, cut), None, "{cut:?}");
        }
        assert_eq!((read(0, &[2]), read(0, &[1, 3])), (None, None));
    }
}

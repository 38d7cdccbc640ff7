//! The log of changes: numbered in the order in which they happened.

use std::collections::VecDeque;

use session_core::planted::{self, Defect};
use session_core::store::{Cursor, Entries, LogPage, LogPosition};
use session_core::{Event, Timestamp};

#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: VecDeque<(i64, Event)>,
    last: i64,
}

impl Log {
    /// Appends an entry and answers its number.
    pub(crate) fn append(&mut self, event: Event) -> i64 {
        self.last += 1;
        self.entries.push_back((self.last, event));
        self.last
    }

    /// When the oldest entry was written.
    pub(crate) fn begins_at(&self) -> Option<Timestamp> {
        self.entries.front().map(|(_, event)| event.at)
    }

    pub(crate) fn since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
        clock: Timestamp,
    ) -> LogPage {
        let end = position(self.last);
        let Some(cursor) = cursor else { return LogPage::at_end(end, false, clock) };
        match LogPosition::parse(cursor).filter(|seen| self.reaches_back_to(*seen)) {
            Some(seen) => self.read(seen.number, entries, limit as usize, clock),
            None => LogPage::at_end(end, true, clock),
        }
    }

    pub(crate) fn trim(&mut self, before: Timestamp, limit: u32) -> u32 {
        let mut trimmed = 0;
        while trimmed < limit
            && self.entries.len() > 1
            && self.entries.front().is_some_and(|(_, event)| event.at < before)
        {
            self.entries.pop_front();
            trimmed += 1;
        }
        trimmed
    }

    fn reaches_back_to(&self, seen: LogPosition) -> bool {
        // The newest entry is never trimmed, so an empty log never had one.
        let first = self.entries.front().map_or(1, |(number, _)| *number);
        let is_there = seen.number + 1 >= first || planted::is(Defect::TrimUnseen);
        seen.mark == 0 && is_there && seen.number <= self.last
    }

    fn read(&self, seen: i64, entries: Entries, limit: usize, clock: Timestamp) -> LogPage {
        let from = self.entries.partition_point(|(number, _)| *number <= seen);
        let read = self.entries.range(from..).take(limit);
        let next = position(read.clone().next_back().map_or(seen, |(number, _)| *number));
        let more = self.entries.len() > from + read.len();
        let wanted = read.filter(|(_, event)| entries.cover(event));
        LogPage::new(wanted.map(|(_, event)| Ok(event.clone())), next, more, clock)
    }
}

/// No other log is ever taken for this one, so the mark is always the same.
fn position(number: i64) -> Cursor {
    LogPosition { number, mark: 0 }.cursor()
}

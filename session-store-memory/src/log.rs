//! The log of changes: numbered in the order in which they happened.

use std::collections::VecDeque;

use session_core::store::{Cursor, LogPage};
use session_core::{Event, Timestamp};

#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: VecDeque<(u64, Event)>,
    last: u64,
}

impl Log {
    /// Appends an entry and answers its number.
    pub(crate) fn append(&mut self, event: Event) -> u64 {
        self.last += 1;
        self.entries.push_back((self.last, event));
        self.last
    }

    pub(crate) fn since(&self, cursor: Option<&Cursor>, limit: u32) -> LogPage {
        let end =
            LogPage { events: Vec::new(), next: position(self.last), more: false, gap: false };
        let Some(cursor) = cursor else { return end };
        match number(cursor).filter(|seen| self.reaches_back_to(*seen)) {
            Some(seen) => self.read(seen, limit as usize),
            None => LogPage { gap: true, ..end },
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

    fn reaches_back_to(&self, seen: u64) -> bool {
        let first = self.entries.front().map_or(self.last + 1, |(number, _)| *number);
        seen + 1 >= first && seen <= self.last
    }

    fn read(&self, seen: u64, limit: usize) -> LogPage {
        let from = self.entries.partition_point(|(number, _)| *number <= seen);
        let events: Vec<_> = self.entries.range(from..).take(limit).cloned().collect();
        let next = position(events.last().map_or(seen, |(number, _)| *number));
        let more = self.entries.len() > from + events.len();
        LogPage {
            events: events.into_iter().map(|(_, event)| event).collect(),
            next,
            more,
            gap: false,
        }
    }
}

fn position(number: u64) -> Cursor {
    Cursor(number.to_be_bytes().to_vec())
}

fn number(cursor: &Cursor) -> Option<u64> {
    cursor.0.as_slice().try_into().ok().map(u64::from_be_bytes)
}

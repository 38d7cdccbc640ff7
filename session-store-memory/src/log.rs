//! The log of changes: numbered in the order in which they happened.

use std::collections::VecDeque;

use session_core::planted::{self, Defect};
use session_core::store::{Cursor, Entries, LogPage, LogPosition};
use session_core::{Event, Timestamp};

#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    entries: VecDeque<(LogPosition, Event)>,
    /// The newest of those that have been trimmed.
    trimmed: Option<LogPosition>,
    last: i64,
    /// What entries are marked with. A copy goes on with another mark, so that an entry of the one log is
    /// never taken for one of the other.
    mark: i64,
}

impl Log {
    /// A copy that goes on with a mark of its own.
    pub(crate) fn copy(&self) -> Self {
        Self { mark: self.mark + 1, ..self.clone() }
    }

    /// Appends an entry and answers its number.
    pub(crate) fn append(&mut self, event: Event) -> i64 {
        self.last += 1;
        let position = LogPosition { number: self.last, mark: self.mark };
        self.entries.push_back((position, event));
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
        let end = self.end().cursor();
        let Some(cursor) = cursor else { return LogPage::at_end(end, false, clock) };
        match LogPosition::parse(cursor).filter(|seen| self.reaches_back_to(*seen)) {
            Some(seen) => self.read(seen, entries, limit as usize, clock),
            None if planted::is(Defect::GapRetells) => {
                let mut page = self.read(LogPosition::START, entries, limit as usize, clock);
                page.gap = true;
                page
            }
            None => LogPage::at_end(end, true, clock),
        }
    }

    pub(crate) fn trim(&mut self, before: Timestamp, limit: u32) -> u32 {
        let mut trimmed = 0;
        while trimmed < limit
            && self.entries.len() > 1
            && self.entries.front().is_some_and(|(_, event)| event.at < before)
        {
            self.trimmed = self.entries.pop_front().map(|(position, _)| position);
            trimmed += 1;
        }
        trimmed
    }

    /// The newest entry, which is never trimmed.
    fn end(&self) -> LogPosition {
        self.entries.back().map_or(LogPosition::START, |(position, _)| *position)
    }

    /// Whether the entry that was read last is still there, or the one after it is the first.
    fn reaches_back_to(&self, seen: LogPosition) -> bool {
        let first = self.entries.front().map_or(1, |(position, _)| position.number);
        if planted::is(Defect::TrimUnseen) && seen.number < first {
            return true;
        }
        if seen.number + 1 == first {
            return seen == self.trimmed.unwrap_or(LogPosition::START);
        }
        let place = self.place_after(seen.number).checked_sub(1);
        place.is_some_and(|place| self.entries[place].0 == seen)
    }

    fn place_after(&self, number: i64) -> usize {
        self.entries.partition_point(|(position, _)| position.number <= number)
    }

    fn read(&self, seen: LogPosition, entries: Entries, limit: usize, clock: Timestamp) -> LogPage {
        let from = self.place_after(seen.number);
        let read = self.entries.range(from..).take(limit);
        let next = read.clone().next_back().map_or(seen, |(position, _)| *position).cursor();
        let more = self.entries.len() > from + read.len();
        let wanted = read.filter(|(_, event)| entries.cover(event));
        LogPage::new(wanted.map(|(_, event)| Ok(event.clone())), next, more, clock)
    }
}

#[cfg(test)]
mod tests {
    use session_core::{Actor, EventKind};

    use super::*;

    fn event(at: Timestamp) -> Event {
        let by = Actor::System;
        Event { kind: EventKind::ClaimsChanged, at, by, tenant: None, user: None, session: None }
    }

    /// The entry that a reader has read last was trimmed, but not in the log that it has read.
    #[test]
    fn a_trimmed_entry_of_a_number_given_again_is_a_gap() {
        let at = |micros| Timestamp::from_micros(micros);
        let mut log = Log::default();
        log.append(event(at(1)));
        let mut restored = log.copy();
        for log in [&mut log, &mut restored] {
            (2..=3).for_each(|micros| {
                log.append(event(at(micros)));
            });
        }
        let read = |log: &Log, cursor| log.since(Some(cursor), Entries::All, 10, at(9));
        let end = log.since(None, Entries::All, 10, at(9)).next;
        restored.append(event(at(4)));
        log.append(event(at(4)));
        for log in [&mut log, &mut restored] {
            assert_eq!(log.trim(at(4), 10), 3);
        }
        assert!(!read(&log, &end).gap && read(&log, &end).events.len() == 1);
        assert!(read(&restored, &end).gap);
    }
}

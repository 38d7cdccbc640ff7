//! The log as nodes read it.

use crate::event::{Event, EventKind};
use crate::store::StoreError;
use crate::time::Timestamp;

/// A position in the log; only the store that made it can read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor(pub Vec<u8>);

/// Which entries of the log a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entries {
    /// All of them, for a node that passes them on.
    All,
    /// Those that make a cached session wrong: [`EventKind::invalidates`].
    ///
    /// [`EventKind::invalidates`]: crate::EventKind::invalidates
    Invalidations,
}

impl Entries {
    /// Whether the reader wants this entry.
    pub const fn cover(self, event: &Event) -> bool {
        match self {
            Self::All => true,
            Self::Invalidations => event.kind.invalidates(),
        }
    }

    /// The kinds that the reader does not want, as stores keep them. A kind of a newer version is
    /// never among them: it may invalidate.
    pub fn unwanted_kinds(self) -> impl Iterator<Item = &'static str> {
        let unwanted = move |kind: &EventKind| self == Self::Invalidations && !kind.invalidates();
        EventKind::ALL.into_iter().filter(unwanted).map(EventKind::as_str)
    }

    /// Whether the reader wants an entry of this kind, which need not be known.
    pub fn want(self, kind: &str) -> bool {
        self.unwanted_kinds().all(|unwanted| unwanted != kind)
    }
}

/// A part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// What happened since the cursor, as far as the reader wants it.
    pub events: Vec<Event>,
    /// Where to go on.
    pub next: Cursor,
    /// Whether there is more right now.
    pub more: bool,
    /// The store's clock when it was read; on a store without a clock, this host's.
    pub clock: Timestamp,
    /// Whether something may have been missed: the cursor is older than the log, or newer than
    /// a store that came back from the past, or an entry could not be read.
    pub gap: bool,
}

impl LogPage {
    /// The most entries of one page.
    pub const MAX_LIMIT: u32 = 1_000;

    /// A page of these entries. One that cannot be read, or that only a newer version knows and
    /// that names no session, must not stop the reader: it counts as missed.
    pub fn new(
        entries: impl IntoIterator<Item = Result<Event, StoreError>>,
        next: Cursor,
        more: bool,
        clock: Timestamp,
    ) -> Self {
        let mut page = Self { events: Vec::new(), next, more, clock, gap: false };
        for entry in entries {
            match entry {
                // Whom it concerns is not known.
                Ok(event) if event.kind == EventKind::Unknown && event.session.is_none() => {
                    page.gap = true;
                }
                Ok(event) => page.events.push(event),
                Err(_) => page.gap = true,
            }
        }
        page
    }

    /// The log ends at this position, and the reader is there. With `gap`, something may have been
    /// missed on the way.
    pub const fn at_end(next: Cursor, gap: bool, clock: Timestamp) -> Self {
        Self { events: Vec::new(), next, more: false, clock, gap }
    }
}

/// A position in a log whose entries are numbered without holes, in the order of their commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// The number of the last entry that was read; 0 before the first.
    pub number: i64,
    /// The mark of that entry, drawn at random: after a restored backup, another entry may have the
    /// number, but not the mark.
    pub mark: i64,
}

impl LogPosition {
    /// Before the first entry.
    pub const START: Self = Self { number: 0, mark: 0 };

    /// The position as bytes.
    pub fn cursor(self) -> Cursor {
        Cursor([self.number.to_be_bytes(), self.mark.to_be_bytes()].concat())
    }

    /// The position in a cursor that [`LogPosition::cursor`] made.
    pub fn parse(cursor: &Cursor) -> Option<Self> {
        let (number, mark) = cursor.0.split_first_chunk()?;
        let mark = mark.try_into().ok()?;
        Some(Self { number: i64::from_be_bytes(*number), mark: i64::from_be_bytes(mark) })
    }

    /// Whether the log continues from this position. `first` is the first entry read from this
    /// number on, or none if there is none. At [`START`](Self::START) it must be entry 1.
    pub fn continues_at(self, first: Option<Self>) -> bool {
        match first {
            Some(first) => first == self || (self == Self::START && first.number == 1),
            None => self == Self::START,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_a_newer_version_is_wanted() {
        assert!(Entries::All.want("created") && Entries::All.want("promoted"));
        assert!(Entries::Invalidations.want("rotated") && Entries::Invalidations.want("promoted"));
        assert!(!Entries::Invalidations.want("created"));
        assert!(!Entries::Invalidations.want("policy_changed"));
    }

    #[test]
    fn a_position_round_trips_and_anything_else_is_none() {
        let position = LogPosition { number: 7, mark: -9 };
        assert_eq!(LogPosition::parse(&position.cursor()), Some(position));
        for bytes in [vec![], vec![0; 8], vec![0; 15], vec![0; 17]] {
            assert_eq!(LogPosition::parse(&Cursor(bytes)), None);
        }
    }

    #[test]
    fn a_log_goes_on_from_the_entry_that_was_read() {
        let at = |number, mark| LogPosition { number, mark };
        assert!(at(3, 5).continues_at(Some(at(3, 5))));
        assert!(!at(3, 5).continues_at(Some(at(3, 6))), "another entry of the number");
        assert!(!at(3, 5).continues_at(Some(at(4, 5))), "trimmed");
        assert!(!at(3, 5).continues_at(None), "shorter");
        assert!(LogPosition::START.continues_at(Some(at(1, 6))));
        assert!(LogPosition::START.continues_at(None));
        assert!(!LogPosition::START.continues_at(Some(at(2, 6))));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_a_gap() {
        let next = LogPosition::START.cursor();
        let clock = Timestamp::EPOCH;
        let damaged = Err(StoreError::corrupt("damaged"));
        let page = LogPage::new([damaged], next.clone(), true, clock);
        assert!(page.gap && page.more && page.events.is_empty());
        assert!(!LogPage::new([], next, false, clock).gap);
    }
}

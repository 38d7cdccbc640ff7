//! Lies about the log.

use std::time::Duration;

use session_core::store::{Cursor, Entries, LogPage, LogPosition};
use session_core::{Actor, EndCause, Event, EventKind, Store, StoreError, Timestamp};

use crate::fault::Fault;
use crate::liar::{Liar, host_clock};

impl Liar {
    pub(crate) async fn lie_in_log(
        &self,
        cursor: Option<&Cursor>,
        mut entries: Entries,
        mut limit: u32,
    ) -> Result<LogPage, StoreError> {
        match self.fault {
            Fault::InvalidationsAreAll => entries = Entries::All,
            Fault::LogOfNoneIsUnlimited if limit == 0 => limit = u32::MAX,
            _ => {}
        }
        let mut page = self.store().log_since(cursor, entries, limit).await?;
        self.lie_about_the_clock(entries, &mut page);
        self.lie_about_the_page(cursor, limit, &mut page);
        self.lie_about_places(cursor, entries, &mut page);
        page.events.iter_mut().for_each(|event| self.distort(event));
        Ok(page)
    }

    fn lie_about_the_clock(&self, entries: Entries, page: &mut LogPage) {
        match self.fault {
            Fault::GapsHaveNoClock if page.gap => page.clock = Timestamp::EPOCH,
            Fault::InvalidationsAreLate if entries == Entries::Invalidations => {
                page.clock = page.clock.minus(Duration::from_secs(1));
            }
            Fault::ClockStandsStill => {
                page.clock = *self.notes().clock.get_or_insert(page.clock);
            }
            _ => {}
        }
    }

    fn lie_about_the_page(&self, cursor: Option<&Cursor>, limit: u32, page: &mut LogPage) {
        let mut notes = self.notes();
        match self.fault {
            Fault::LogSkips if page.events.len() > 1 => {
                notes.skipped += 1;
                if notes.skipped == 3 {
                    page.events.remove(0);
                }
            }
            Fault::LogRepeats => {
                let before = cursor.and_then(|cursor| notes.last.get(&cursor.0).cloned());
                if let Some(last) = page.events.last() {
                    notes.last.insert(page.next.0.clone(), last.clone());
                    page.events.splice(0..0, before);
                    page.events.truncate(limit as usize);
                }
            }
            Fault::LogLags => {
                if let Some(cursor) = cursor.filter(|cursor| notes.asked.insert(cursor.0.clone())) {
                    page.events.clear();
                    page.next = cursor.clone();
                    page.more = false;
                }
            }
            Fault::LogReorders => page.events.reverse(),
            Fault::LogShufflesCommits => page.events.sort_by_key(|event| event.session),
            Fault::LogHidesGaps => page.gap = false,
            Fault::ForeignCursorsAreTheEnd
                if cursor.is_some_and(|cursor| LogPosition::parse(cursor).is_none()) =>
            {
                page.gap = false;
            }
            // The kit's own readers ask for short pages.
            Fault::GapsAreHiddenFromNodes if limit > 100 => page.gap = false,
            Fault::EndsAreHiddenFromNodes if limit > 100 => {
                page.events.retain(|event| !matches!(event.kind, EventKind::Ended(_)));
            }
            Fault::TrimmedLogsSkip if notes.trimmed && !page.events.is_empty() => {
                page.events.remove(0);
            }
            Fault::LogMissesEnds => page.events.retain(|event| {
                let hidden = event.session.is_some_and(|id| notes.hidden.contains(&id));
                !(hidden && matches!(event.kind, EventKind::Ended(_)))
            }),
            Fault::LogRepeatsEnds => {
                let twice = |event: Event| {
                    let times = 1 + usize::from(matches!(event.kind, EventKind::Ended(_)));
                    std::iter::repeat_n(event, times)
                };
                page.events =
                    std::mem::take(&mut page.events).into_iter().flat_map(twice).collect();
            }
            _ => {}
        }
    }

    fn lie_about_places(&self, cursor: Option<&Cursor>, entries: Entries, page: &mut LogPage) {
        match self.fault {
            Fault::InvalidationsMissRotations if entries == Entries::Invalidations => {
                page.events.retain(|event| event.kind != EventKind::Rotated);
            }
            Fault::InvalidationsStopAtTheRest if page.events.is_empty() && !page.gap => {
                page.next = cursor.cloned().unwrap_or_else(|| page.next.clone());
                page.more = false;
            }
            Fault::LogMissesTheUnknown if page.events.iter().any(is_unknown) => {
                page.events.retain(|event| !is_unknown(event));
                page.gap = true;
            }
            Fault::InvalidationsMissTheUnknown if entries == Entries::Invalidations => {
                page.events.retain(|event| !is_unknown(event));
            }
            Fault::PositionsAreOfTheirKind => {
                let mut notes = self.notes();
                if entries == Entries::Invalidations {
                    notes.asked.insert(page.next.0.clone());
                } else {
                    page.gap |= cursor.is_some_and(|cursor| notes.asked.contains(&cursor.0));
                }
            }
            Fault::LogNeverEnds => page.more |= page.events.is_empty(),
            Fault::TrimmedEndsAreLost if cursor.is_none() && self.notes().trimmed => {
                page.next = LogPosition::START.cursor();
            }
            Fault::LogForgetsToGoOn => page.more = false,
            Fault::LogBeginsAtTheStart if cursor.is_none() => {
                page.next = LogPosition::START.cursor();
            }
            _ => {}
        }
    }

    fn distort(&self, event: &mut Event) {
        let notes = self.notes();
        let ended = event.session.filter(|_| matches!(event.kind, EventKind::Ended(_)));
        match self.fault {
            Fault::LogLosesActors => event.by = Actor::Application,
            Fault::LogLosesWhoEnded if ended.is_some_and(|id| notes.by_system.contains(&id)) => {
                event.by = Actor::System;
            }
            Fault::LogLosesCauses if ended.is_some() => {
                event.kind = EventKind::Ended(EndCause::Revoked);
            }
            Fault::LogCutsTimes => {
                let micros = event.at.as_micros();
                event.at = Timestamp::from_micros(micros - micros.rem_euclid(1_000_000));
            }
            Fault::LogBeginsIn1970 => event.at = event.at.max(Timestamp::EPOCH),
            Fault::LogLosesPlaces if event.kind == EventKind::PolicyChanged => event.user = None,
            _ => {}
        }
    }

    /// Whether the newest entry of the log is an end.
    pub(crate) async fn ends_with_an_end(&self) -> bool {
        let start = self.notes().start.clone();
        let page = self.store().log_since(start.as_ref(), Entries::All, u32::MAX).await.unwrap();
        page.events.last().is_some_and(|event| matches!(event.kind, EventKind::Ended(_)))
    }

    pub(crate) async fn lie_in_trim(
        &self,
        mut older_than: Duration,
        mut limit: u32,
    ) -> Result<u32, StoreError> {
        match self.fault {
            Fault::TrimIsEarly => older_than /= 2,
            Fault::TrimOfNoneIsUnlimited if limit == 0 => limit = u32::MAX,
            Fault::TrimOfNoneIsNone if limit == 0 => return Ok(0),
            _ => {}
        }
        let mut trimmed = self.store().trim_log(older_than, limit).await?;
        while self.fault == Fault::TrimTakesTooMany && trimmed < limit {
            match self.store().trim_log(older_than, limit - trimmed).await? {
                0 => break,
                more => trimmed += more,
            }
        }
        let mut notes = self.notes();
        notes.trimmed |= trimmed > 0;
        let gone = notes.times.len().min(trimmed as usize);
        notes.times.drain(..gone);
        let by_time = match self.fault {
            Fault::TrimGoesByTime => true,
            Fault::TrimGoesOnByTime => trimmed > 0,
            _ => false,
        };
        if by_time {
            let before = host_clock().minus(older_than);
            let old = notes.times.iter().filter(|at| **at < before).count();
            return Ok(trimmed + u32::try_from(old).unwrap());
        }
        let all = self.fault == Fault::TrimTakesAll && trimmed < limit;
        Ok(if all { trimmed + 1 } else { trimmed })
    }
}

fn is_unknown(event: &Event) -> bool {
    event.kind.as_str() == EventKind::Unknown.as_str()
}

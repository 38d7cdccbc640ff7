//! What an operator wants to know of a store, as text.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use session_kit::core::store::{Needs, StoreReport};
use session_kit::core::{Store, StoreError, Timestamp};
use session_kit::engine::Options;

/// What a store says of itself, beside this machine's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    report: StoreReport,
    /// This machine's clock while the store looked at its own.
    here: Timestamp,
    /// How far that may be off.
    within: Duration,
}

impl Diagnosis {
    /// Asks a store, which is to serve nodes with the default options.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn of(store: &dyn Store) -> Result<Self, StoreError> {
        let Options { history, max_staleness, .. } = Options::default();
        let history = history.keep.unwrap_or_else(|| store.history_by_default());
        store.configure(&Needs { history, max_staleness });
        let asked = now();
        let report = store.report().await?;
        let within = now().since(asked) / 2;
        Ok(Self { report, here: asked.plus(within), within })
    }

    /// Whether something is wrong.
    pub const fn has_problems(&self) -> bool {
        !self.report.problems.is_empty()
    }

    /// A line for each fact, and one for each problem.
    pub fn to_text(&self) -> String {
        let report = &self.report;
        let mut lines = vec![
            ("server", report.server.clone()),
            ("schema", report.schema.map_or_else(|| "none".to_owned(), |n| n.to_string())),
            ("clock", format!("{}, {}", report.clock, self.skew())),
            ("log from", self.log_from()),
            ("pending", format!("{} log entries", report.pending)),
        ];
        let details = report.details.iter().map(|(name, value)| (name.as_str(), value.clone()));
        lines.extend(details);
        match report.problems.len() {
            0 => lines.push(("problems", "none".to_owned())),
            _ => lines.extend(report.problems.iter().map(|text| ("PROBLEM", text.clone()))),
        }
        let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in lines {
            let _ = writeln!(text, "{name:width$}  {value}");
        }
        text
    }

    fn skew(&self) -> String {
        let clock = self.report.clock;
        let (by, direction) = if clock >= self.here {
            (clock.since(self.here), "ahead of")
        } else {
            (self.here.since(clock), "behind")
        };
        if by <= self.within {
            return "which is this machine's".to_owned();
        }
        format!("{} {direction} this machine's", seconds(by))
    }

    fn log_from(&self) -> String {
        match self.report.log_from {
            Some(from) => format!("{from}, {} ago", seconds(self.report.clock.since(from))),
            None => "the log is empty".to_owned(),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

fn now() -> Timestamp {
    Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use session_kit::memory::MemoryStore;

    use super::*;

    fn diagnosis(report: StoreReport) -> Diagnosis {
        let here = Timestamp::from_micros(10_000_000);
        Diagnosis { report, here, within: Duration::from_millis(1) }
    }

    #[test]
    fn every_fact_has_a_line() {
        let text = diagnosis(StoreReport {
            server: "PostgreSQL 15.8".to_owned(),
            schema: Some(3),
            clock: Timestamp::from_micros(12_500_000),
            log_from: Some(Timestamp::from_micros(2_500_000)),
            pending: 7,
            details: vec![("sequencer".to_owned(), "node 4, for 3 s".to_owned())],
            problems: Vec::new(),
        })
        .to_text();
        let expected = "\
server     PostgreSQL 15.8
schema     3
clock      1970-01-01T00:00:12.500000Z, 2.500 s ahead of this machine's
log from   1970-01-01T00:00:02.500000Z, 10.000 s ago
pending    7 log entries
sequencer  node 4, for 3 s
problems   none
";
        assert_eq!(text, expected);
    }

    #[test]
    fn problems_are_told_one_by_one() {
        let problems = vec!["an index is missing".to_owned(), "the log is cut".to_owned()];
        let clock = Timestamp::from_micros(9_000_000);
        let ill = diagnosis(StoreReport { problems, clock, ..StoreReport::default() });
        assert!(ill.has_problems());
        let text = ill.to_text();
        for line in [
            "schema    none",
            "clock     1970-01-01T00:00:09.000000Z, 1.000 s behind this machine's",
            "log from  the log is empty",
            "PROBLEM   an index is missing",
            "PROBLEM   the log is cut",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(!text.contains("problems"), "{text}");
    }

    #[tokio::test]
    async fn a_store_on_this_machine_has_its_clock() {
        let diagnosis = Diagnosis::of(&MemoryStore::new()).await.unwrap();
        assert!(!diagnosis.has_problems());
        let text = diagnosis.to_text();
        assert!(text.contains(", which is this machine's\n"), "{text}");
    }
}

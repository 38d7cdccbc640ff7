//! The table of all calls.

use std::time::Duration;

use session_benches::load::Done;
use session_benches::table::{self, Row, figure};
use session_benches::times::{Times, millis};

/// Everything that was measured at one size.
pub(crate) struct Measured {
    /// How many sessions there were.
    pub(crate) sessions: u64,
    /// One of each kind, in the order in which they were made.
    pub(crate) calls: Vec<Call>,
}

/// Calls of one kind.
pub(crate) struct Call {
    /// What was called.
    pub(crate) name: &'static str,
    /// The most milliseconds of the median.
    pub(crate) target: Option<f64>,
    /// How long each call took.
    pub(crate) times: Times,
    /// What all of them changed.
    pub(crate) changed: Changed,
    /// How long the readers waited, and the sign-ins.
    pub(crate) beside: Option<(Done, Done)>,
    /// Why the calls ended early.
    pub(crate) failure: Option<String>,
}

/// Records that calls changed.
#[derive(Clone, Copy)]
pub(crate) struct Changed {
    /// How many; none where they were not counted.
    pub(crate) records: u64,
    /// In which time, with the pauses.
    pub(crate) elapsed: Duration,
}

impl Changed {
    /// How long a million takes, in seconds.
    fn million(self) -> Option<f64> {
        let records = self.records as f64;
        (self.records > 0).then(|| self.elapsed.as_secs_f64() * 1e6 / records)
    }
}

impl Call {
    /// Beside other calls a reader may wait for three times what one of a hundred takes beside this.
    fn most_a_reader_waits(&self) -> Option<f64> {
        let (readers, _) = self.beside.as_ref()?;
        readers.times.p99().map(|p99| 3.0 * p99)
    }

    /// The longest a reader and a sign-in waited.
    fn stalls(&self) -> [Option<f64>; 2] {
        let beside = self.beside.as_ref();
        [
            beside.and_then(|(readers, _)| readers.times.longest()),
            beside.and_then(|(_, sign_ins)| sign_ins.times.longest()),
        ]
    }

    /// A reader may wait for so many milliseconds beside the calls.
    fn rows(&self, store: &str, sessions: u64, few: Option<f64>, wait: Option<f64>) -> Vec<Row> {
        let name = |what: &str| format!("{store}: {}, {what}, at {sessions} sessions", self.name);
        let median = self.times.median();
        let [reader, sign_in] = self.stalls();
        let whole: Duration = self.times.clone().into_iter().sum();
        let mut row = Row::at_most(name("median"), median, "ms", self.target);
        row.ratio = few.zip(median).map(|(few, median)| median / few);
        row.met &= self.failure.is_none();
        [
            row,
            Row::plain(name("p99"), self.times.p99(), "ms"),
            Row::plain(name("all calls"), Some(millis(whole)), "ms"),
            Row::at_most(name("longest stall of a reader"), reader, "ms", self.target.and(wait)),
            Row::at_most(name("longest stall of a sign-in"), sign_in, "ms", self.target),
        ]
        .into_iter()
        .chain(self.changed.million().map(|seconds| {
            Row::at_most(name("a million takes"), Some(seconds), "s", SECONDS_PER_MILLION)
        }))
        .collect()
    }
}

/// Prints the table, and answers its figures. A ratio is the median as a multiple of that at the first
/// size.
pub(crate) fn rows(store: &str, sizes: &[Measured]) -> Vec<Row> {
    print!("{}", markdown(sizes));
    let mut rows = Vec::new();
    for size in sizes {
        let wait = size.calls.first().and_then(Call::most_a_reader_waits);
        for (n, call) in size.calls.iter().enumerate() {
            let few = sizes.first().filter(|few| few.sessions != size.sessions);
            let few = few.and_then(|few| few.calls.get(n)?.times.median());
            rows.extend(call.rows(store, size.sessions, few, wait));
        }
    }
    print!("{}", missed(&rows));
    rows
}

/// The figures that are beyond their targets.
fn missed(rows: &[Row]) -> String {
    let missed: Vec<_> = rows.iter().filter(|row| !row.met).cloned().collect();
    if missed.is_empty() {
        String::new()
    } else {
        format!("\nMissed:\n{}", table::markdown(&missed))
    }
}

fn markdown(sizes: &[Measured]) -> String {
    let mut table = String::from("| call, ms |");
    let mut line = String::from("\n| --- |");
    for size in sizes {
        let n = size.sessions;
        table += &format!(" {n}: median | p99 | reader waits | sign-in waits | a million, s |");
        line += " ---: | ---: | ---: | ---: | ---: |";
    }
    table += &line;
    let mut notes = String::new();
    for (n, call) in sizes.first().into_iter().flat_map(|size| size.calls.iter().enumerate()) {
        table += &format!("\n| {} |", call.name);
        for size in sizes {
            let Some(call) = size.calls.get(n) else { continue };
            let [reader, sign_in] = call.stalls();
            let million = call.changed.million();
            for number in [call.times.median(), call.times.p99(), reader, sign_in, million] {
                table += &format!(" {} |", figure(number));
            }
            if let Some(failure) = &call.failure {
                notes += &format!("\n- {} at {}: {failure}", call.name, size.sessions);
            }
        }
    }
    format!("{table}\n{notes}\n")
}

const SECONDS_PER_MILLION: f64 = 180.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn size(sessions: u64, millis: u64, failure: Option<&str>) -> Measured {
        let mut times = Times::default();
        times.add(Duration::from_millis(millis));
        let failure = failure.map(str::to_owned);
        let changed = Changed { records: 0, elapsed: Duration::ZERO };
        let call = Call { name: "load", target: Some(50.0), times, changed, beside: None, failure };
        Measured { sessions, calls: vec![call] }
    }

    #[test]
    fn sizes_stand_beside_one_another() {
        let sizes = [size(10_000, 2, None), size(1_000_000, 6, Some("timed out"))];
        let table = markdown(&sizes);
        assert!(
            table.contains("| load | 2.00 | 2.00 | – | – | – | 6.00 | 6.00 | – | – | – |"),
            "{table}"
        );
        assert!(table.contains("- load at 1000000: timed out"), "{table}");
        let rows = rows("sqlite", &sizes);
        assert_eq!(rows[0].name, "sqlite: load, median, at 10000 sessions");
        assert!(rows[0].met && rows[0].ratio.is_none());
        assert_eq!(rows[5].ratio, Some(3.0));
        assert!(!rows[5].met, "it failed");
    }
}

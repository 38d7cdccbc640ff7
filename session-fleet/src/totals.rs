//! What the nodes' metrics say of a run, beside what was acknowledged.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

use crate::fleet::{Fleet, KEEP};
use crate::traffic::Counts;

/// Counters of all nodes, summed up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Sign-ins that were admitted.
    sign_ins: u64,
    /// Sessions that ended, by cause.
    ended: BTreeMap<String, u64>,
}

impl Totals {
    /// From each node's `/metrics`.
    pub(crate) fn read(nodes: &[String]) -> Self {
        let mut all = Self::default();
        for line in nodes.iter().flat_map(|text| text.lines()) {
            if let Some(("admitted", count)) = sample(line, "session_kit_sign_ins_total{outcome=") {
                all.sign_ins += count;
            }
            if let Some((cause, count)) = sample(line, "session_kit_sessions_ended_total{cause=") {
                *all.ended.entry(cause.to_owned()).or_default() += count;
            }
        }
        all.ended.retain(|_, count| *count > 0);
        all
    }

    /// Complains of every difference from what the fleet has acknowledged since it was started.
    pub(crate) fn compare(&self, fleet: &Fleet, counts: &Counts) {
        let [begun, revoked, perhaps] = [&counts.sign_ins, &counts.revocations, &counts.perhaps]
            .map(|count| count.load(Ordering::Relaxed));
        // The admin, and those who stay.
        let begun = begun + KEEP as u64 + 1;
        for difference in self.differences(begun..=begun + perhaps, revoked..=revoked + perhaps) {
            fleet.books.complain(difference);
        }
    }

    fn differences(&self, begun: RangeInclusive<u64>, revoked: RangeInclusive<u64>) -> Vec<String> {
        let mut all = Vec::new();
        if !begun.contains(&self.sign_ins) {
            all.push(format!("{} sign-ins in the metrics, {begun:?} acknowledged", self.sign_ins));
        }
        let ended = self.ended.get("revoked").copied().unwrap_or_default();
        if !revoked.contains(&ended) {
            all.push(format!("{ended} revocations in the metrics, {revoked:?} acknowledged"));
        }
        let others = self.ended.iter().filter(|(cause, _)| *cause != "revoked");
        all.extend(others.map(|(cause, count)| format!("{count} sessions ended as {cause}")));
        all
    }
}

/// How often workers were started again after a panic.
pub(crate) fn worker_restarts(metrics: &str) -> u64 {
    let series = "session_kit_worker_restarts_total{worker=";
    metrics.lines().filter_map(|line| Some(sample(line, series)?.1)).sum()
}

/// The value of a series without labels.
pub(crate) fn gauge(metrics: &str, series: &str) -> Option<f64> {
    let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(value)
}

/// The label's value and the count of a line of this series.
fn sample<'l>(line: &'l str, series: &str) -> Option<(&'l str, u64)> {
    let rest = line.strip_prefix(series)?.strip_prefix('"')?;
    let (label, count) = rest.split_once("\"} ")?;
    Some((label, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_all_nodes_are_what_was_acknowledged() {
        let node = |revoked: u64| {
            format!(
                "# TYPE session_kit_sign_ins_total counter\n\
                 session_kit_sign_ins_total{{outcome=\"admitted\"}} 3\n\
                 session_kit_sign_ins_total{{outcome=\"blocked\"}} 9\n\
                 session_kit_sessions_ended_total{{cause=\"revoked\"}} {revoked}\n\
                 session_kit_sessions_ended_total{{cause=\"token_reused\"}} 0\n"
            )
        };
        let mut totals = Totals::read(&[node(1), node(2)]);
        assert_eq!(totals.differences(6..=6, 3..=3), Vec::<String>::new());
        assert_eq!(totals.differences(7..=7, 4..=4).len(), 2);
        assert_eq!(totals.differences(5..=6, 2..=3), Vec::<String>::new());
        let restarts =
            |worker, n| format!("session_kit_worker_restarts_total{{worker=\"{worker}\"}} {n}\n");
        assert_eq!(worker_restarts(&[restarts("report", 1), restarts("follower", 2)].concat()), 3);
        assert_eq!(gauge("# TYPE a gauge\na 7200.5\nab 1\n", "a"), Some(7200.5));
        totals.ended.insert("token_reused".to_owned(), 1);
        assert_eq!(totals.differences(6..=6, 3..=3), ["1 sessions ended as token_reused"]);
    }
}

//! Full load for a while: memory stays flat, and in the end the store holds what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use session_benches::Failure;
use session_benches::table::Row;
use session_benches::times::median;

use crate::audit;
use crate::fleet::Fleet;
use crate::timeline::Seen;
use crate::totals::Totals;
use crate::traffic::{Changes, Traffic, Volume};

/// Runs for this long.
pub(crate) async fn run(
    fleet: &Arc<Fleet>,
    length: Duration,
    connections: usize,
) -> Result<Vec<Row>, Failure> {
    let volume = Volume {
        connections,
        pause: Duration::ZERO,
        revoke_every: REVOKE_EVERY,
        changes: Changes::OnAny,
        change_every: Some(CHANGE_EVERY),
    };
    fleet.books.take_timeline();
    let broken = fleet.books.broken(None);
    let begun = Instant::now();
    let traffic = Traffic::start(fleet, volume);
    let memory = watch_memory(fleet, length).await?;
    let counts = traffic.stop().await;
    let seconds = begun.elapsed().as_secs_f64();
    Totals::read(&fleet.metrics().await?).compare(fleet, &counts);
    let lost = audit::run(fleet).await?;
    let growth = judged_growth(fleet, &memory, length);
    let broken = fleet.books.broken(None) - broken;
    let unavailable = fleet.books.take_timeline().total(Seen::Unavailable) as f64;
    let name = |what: &str| format!("{}: soak: {what}", fleet.store.name());
    let rate = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / seconds;
    let plain = |what, count| Row::plain(name(what), Some(rate(count)), "per second");
    let none = |what, count: usize| Row::at_most(name(what), Some(count as f64), "", 0.0);
    let asked = 1.0 / REVOKE_EVERY.as_secs_f64();
    let revocations = (rate(&counts.revocations), asked);
    Ok(vec![
        plain("requests", &counts.requests),
        Row::share(name("revocations"), revocations, "per second", LEAST_SHARE),
        plain("changes of data", &counts.changes),
        plain("rotations", &counts.rotations),
        growth,
        Row::plain(name("memory of a node"), largest(&memory), "MiB"),
        Row::at_most(name("unavailable"), Some(unavailable), "", 0.0),
        none("broken guarantees", broken),
        none("live sessions lost", lost.live),
        none("revoked sessions there", lost.revoked),
        none("revocations without history", lost.history),
        none("sessions with lost changes", lost.changes),
    ])
}

/// A node's caches fill for longer than a short run takes, whose growth is judged by nothing.
fn judged_growth(fleet: &Fleet, memory: &[Vec<u64>], length: Duration) -> Row {
    let (growth, most) = (growth(memory), (length >= LONG).then_some(MOST_GROWTH));
    if let (Some(growth), Some(most)) = (growth, most)
        && growth > most
    {
        fleet.books.complain(format!("the memory of a node grows by {growth:.0} %"));
    }
    Row::at_most(format!("{}: soak: growth of memory", fleet.store.name()), growth, "%", most)
}

/// The memory of each node in KiB, once a second.
async fn watch_memory(fleet: &Fleet, length: Duration) -> Result<Vec<Vec<u64>>, Failure> {
    let mut memory = vec![Vec::new(); fleet.nodes.len()];
    let (begun, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_secs(1)));
    while begun.elapsed() < length {
        ticks.tick().await;
        for (node, seen) in fleet.nodes.iter().zip(&mut memory) {
            seen.push(node.memory().await?);
        }
    }
    Ok(memory)
}

/// By how much the memory of the worst node grew from the second fifth of the time to the last, in
/// percent: in the first one caches fill.
fn growth(memory: &[Vec<u64>]) -> Option<f64> {
    let of = |seen: &Vec<u64>| {
        let fifth = (seen.len() / 5).max(1);
        let middle = |part: &[u64]| median(part.iter().map(|kib| *kib as f64).collect());
        let early = middle(seen.get(fifth..2 * fifth)?)?;
        let late = middle(&seen[seen.len() - fifth..])?;
        Some((late / early - 1.0) * 100.0)
    };
    memory.iter().filter_map(of).max_by(f64::total_cmp)
}

fn largest(memory: &[Vec<u64>]) -> Option<f64> {
    memory.iter().flatten().max().map(|kib| *kib as f64 / 1024.0)
}

const REVOKE_EVERY: Duration = Duration::from_millis(10);
/// So much of what was asked for has to be reached.
const LEAST_SHARE: f64 = 0.95;
const CHANGE_EVERY: Duration = Duration::from_millis(25);
/// What the nodes are told: they remember so few ended sessions that they hold all within the first fifth of
/// five minutes. What grows after that has no bound.
pub(crate) const SETTING: &str = "engine.negative_capacity=2000";
/// In percent.
const MOST_GROWTH: f64 = 5.0;
/// From here on the growth is judged.
const LONG: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_worst_node_once_its_cache_is_full() {
        let flat = [vec![1, 1], vec![100; 8]].concat();
        assert_eq!(growth(std::slice::from_ref(&flat)), Some(0.0));
        let leaking: Vec<u64> = (0..10).map(|second| 100 + 10 * second).collect();
        let growth = growth(&[flat, leaking]).unwrap();
        assert!((growth - 50.0).abs() < 10.0, "{growth}");
        assert_eq!(largest(&[vec![1024, 2048]]), Some(2.0));
    }
}

//! Full load for a while: memory stays flat, and in the end the store holds what was acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use session_benches::Failure;
use session_benches::table::Row;
use session_benches::times::median;

use crate::fleet::Fleet;
use crate::people::Session;
use crate::timeline::Seen;
use crate::totals::Totals;
use crate::traffic::{Traffic, Volume};

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
        changes_elsewhere: 100,
        change_every: Some(CHANGE_EVERY),
    };
    fleet.books.take_timeline();
    let broken = fleet.books.broken();
    let begun = Instant::now();
    let traffic = Traffic::start(fleet, volume);
    let memory = watch_memory(fleet, length).await?;
    let counts = traffic.stop().await;
    let seconds = begun.elapsed().as_secs_f64();
    let lost = Lost::count(fleet).await?;
    lost.complain(fleet);
    Totals::read(&fleet.metrics().await?).compare(fleet, &counts);
    let growth = judged_growth(fleet, &memory, length);
    let broken = fleet.books.broken() - broken;
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

/// In what the store differs from what was acknowledged.
struct Lost {
    live: usize,
    revoked: usize,
    history: usize,
    /// Live sessions whose data do not have every change.
    changes: usize,
}

impl Lost {
    async fn count(fleet: &Fleet) -> Result<Self, Failure> {
        let there = listed(fleet, "/sessions/admin/sessions?limit=200").await?;
        let ended = listed(fleet, "/sessions/admin/history?limit=200").await?;
        let is_in = |list: &HashMap<String, u64>, session: &Session| list.contains_key(&session.id);
        let is_wrong = |session: &&Arc<Session>| {
            there.get(&session.id).is_some_and(|count| !session.may_count(*count))
        };
        let (live, revoked) = (fleet.people.all_live(), fleet.people.all_ended());
        Ok(Self {
            live: live.iter().filter(|session| !is_in(&there, session)).count(),
            revoked: revoked.iter().filter(|session| is_in(&there, session)).count(),
            history: revoked.iter().filter(|session| !is_in(&ended, session)).count(),
            changes: live.iter().filter(is_wrong).count(),
        })
    }

    fn complain(&self, fleet: &Fleet) {
        for (count, what) in [
            (self.live, "live sessions are lost"),
            (self.revoked, "revoked sessions are there"),
            (self.history, "revocations are not in the history"),
            (self.changes, "sessions have lost a change of their data, or have one twice"),
        ] {
            if count > 0 {
                fleet.books.complain(format!("{count} {what}"));
            }
        }
    }
}

/// The ids on all pages of a list, and the counts in the sessions' data.
async fn listed(fleet: &Fleet, path: &str) -> Result<HashMap<String, u64>, Failure> {
    let mut listed = HashMap::new();
    let mut cursor = String::new();
    loop {
        let page = fleet.read(&format!("{path}{cursor}")).await?;
        let sessions = page["sessions"].as_array().into_iter().flatten();
        listed.extend(sessions.filter_map(|session| {
            let count = session["data"]["count"].as_u64().unwrap_or_default();
            Some((session["id"].as_str()?.to_owned(), count))
        }));
        match &page["next_cursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => return Ok(listed),
        }
    }
}

const REVOKE_EVERY: Duration = Duration::from_millis(10);
/// So much of what was asked for has to be reached.
const LEAST_SHARE: f64 = 0.95;
const CHANGE_EVERY: Duration = Duration::from_millis(25);
/// What the nodes are told: they remember so few ended sessions that they hold all within the first fifth of
/// five minutes. What grows after that has no bound.
pub(crate) const SETTING: &str = "engine.negative_capacity=2000";
/// In percent.
const MOST_GROWTH: f64 = 15.0;
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

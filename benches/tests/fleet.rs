//! The model of `docs/scale.md` beside the engine: fleets of 1, 10 and 100 nodes on one store that
//! counts, on simulated time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use session_benches::random::Random;
use session_benches::scale::page::number;
use session_benches::scale::{Fleet, LEASE, LEAST_PAUSE};
use session_conformance::Probe;
use session_core::cleanup::Cleanup;
use session_core::usage::WriteBack;
use session_core::{Actor, Timestamp, UserKey};
use session_engine::clock::{Clock, TokioClock};
use session_engine::entropy::Entropy;
use session_engine::{Access, Engine, Options, Parts, SignIn, SignedIn, Verdict};
use session_store_memory::MemoryStore;
use tokio::time::Instant;

/// Nodes, and each node's way to the store, which counts.
struct World {
    clock: TokioClock,
    store: MemoryStore,
    nodes: Vec<Node>,
    /// When sessions are used for the first time.
    begun: Instant,
}

struct Node {
    engine: Engine,
    probe: Probe,
    sessions: Vec<SignedIn>,
}

/// What every node has to do.
#[derive(Clone, Copy)]
struct Work {
    pushes: bool,
    /// Sessions of each node, used in turn.
    sessions: u32,
    /// Between two requests of a session.
    gap: Duration,
    /// Changes of each node per second, at random.
    changes: f64,
}

#[derive(Debug)]
struct Seeded(Mutex<Random>);

impl Entropy for Seeded {
    fn fill(&self, buffer: &mut [u8]) {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.chunks_mut(16).for_each(|some| some.copy_from_slice(&random.bytes()[..some.len()]));
    }
}

impl World {
    fn new() -> Self {
        let clock = TokioClock::starting_at(Timestamp::from_micros(1_790_000_000_000_000));
        let store = MemoryStore::with_clock(move || clock.now());
        Self { clock, store, nodes: Vec::new(), begun: Instant::now() }
    }

    async fn add(&mut self, pushes: bool, options: &Options) {
        let probe = Probe::over(self.store.clone());
        if pushes {
            probe.push();
        }
        let seed = Random::of(SEED, &[self.nodes.len() as u64]);
        let parts = Parts::default().with_clock(self.clock);
        let parts = parts.with_entropy(Seeded(Mutex::new(seed)));
        let engine =
            Engine::start_with(Arc::new(probe.clone()), options.clone(), parts).await.unwrap();
        self.nodes.push(Node { engine, probe, sessions: Vec::new() });
    }

    async fn sign_in(&mut self, each: u32) {
        for (n, node) in self.nodes.iter_mut().enumerate() {
            for m in 0..each {
                let owner = UserKey::new(format!("user-{n}-{m}").parse().unwrap());
                let signed_in = node.engine.sessions().sign_in(SignIn::new(owner)).await.unwrap();
                node.sessions.push(signed_in);
            }
        }
    }

    /// By method, and the entries of the log that they have read.
    fn calls(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        for (name, count) in self.nodes.iter().flat_map(|node| node.probe.calls()) {
            *all.entry(name).or_default() += count;
        }
        all.insert(ENTRIES, self.nodes.iter().map(|node| node.probe.events()).sum());
        all
    }

    /// Does the work of every node until this instant.
    async fn work(&self, work: &Work, random: &mut Random, until: Instant) {
        let step = work.gap / work.sessions.max(1);
        let (mut turn, mut request, mut change) = (0, Instant::now(), self.next(work, random));
        while request.min(change) < until {
            if request <= change {
                tokio::time::sleep_until(request).await;
                request += step;
                let shift = turn as u32 % work.sessions.max(1) % SHIFTS;
                let is_used = self.begun.elapsed() >= work.gap * shift;
                for node in self.nodes.iter().filter(|node| is_used && !node.sessions.is_empty()) {
                    node.request(turn).await;
                }
                turn += 1;
            } else {
                tokio::time::sleep_until(change).await;
                let at = random.below(self.nodes.len() as u64) as usize;
                self.nodes[at].change(random).await;
                change = self.next(work, random);
            }
        }
        tokio::time::sleep_until(until).await;
    }

    /// When the fleet's next change is.
    fn next(&self, work: &Work, random: &mut Random) -> Instant {
        let rate = work.changes * self.nodes.len() as f64;
        let wait = -(1.0 - random.unit()).ln() / rate;
        Instant::now() + Duration::try_from_secs_f64(wait).unwrap_or(NEVER).min(NEVER)
    }
}

impl Node {
    async fn request(&self, turn: usize) {
        let token = self.sessions[turn % self.sessions.len()].token.expose();
        let found = self.engine.sessions().validate(token.as_bytes(), Access::default()).await;
        assert!(matches!(found, Ok(Verdict::Active(_))), "{found:?}");
    }

    async fn change(&self, random: &mut Random) {
        let which = random.below(self.sessions.len() as u64) as usize;
        let owner = self.sessions[which].session.owner().clone();
        self.engine.sessions().claims_changed(&owner, Actor::Application).await.unwrap();
    }
}

/// Calls of one node in a minute, by method, and entries of the log.
async fn minute(nodes: usize, work: Work) -> BTreeMap<&'static str, f64> {
    let mut world = World::new();
    for _ in 0..nodes {
        world.add(work.pushes, &Options::default()).await;
    }
    world.sign_in(work.sessions).await;
    let mut random = Random::new(SEED);
    // The cleanup comes once, and has everything written back together.
    world.work(&work, &mut random, Instant::now() + Duration::from_secs(90)).await;
    tokio::time::sleep(2 * WriteBack::default().max_delay).await;
    world.begun = Instant::now();
    // Write-backs have come to their rhythm.
    world.work(&work, &mut random, Instant::now() + 2 * SHIFTS * work.gap).await;
    let before = world.calls();
    // As many changes, and as precise a mean, with few nodes as with many.
    let minutes = if nodes < 100 { 10 } else { 1 };
    world.work(&work, &mut random, Instant::now() + Duration::from_secs(60 * minutes)).await;
    let spent = |(name, count): (&'static str, u64)| {
        let count = count - before.get(name).copied().unwrap_or(0);
        (name, count as f64 / (nodes as f64 * minutes as f64))
    };
    world.calls().into_iter().map(spent).filter(|(_, count)| *count > 0.0).collect()
}

/// The same deployment, for the model.
fn modelled(nodes: usize, work: Work) -> Fleet {
    let nodes = nodes as f64;
    let active = f64::from(work.sessions) * nodes;
    Fleet {
        options: Options::default(),
        nodes,
        sessions: active,
        active,
        requests: active / work.gap.as_secs_f64(),
        homes: 1.0,
        pushes: work.pushes,
        other_changes: work.changes * nodes,
    }
}

fn spent(calls: &BTreeMap<&'static str, f64>, name: &str) -> f64 {
    calls.get(name).copied().unwrap_or(0.0)
}

#[track_caller]
fn assert_near(one: f64, other: f64, tolerance: f64, what: &str) {
    let off = (one / other - 1.0).abs();
    assert!(off <= tolerance, "{what}: {one} is not near {other}");
}

/// The table of `docs/scale.md`, and what it must say.
#[tokio::test(start_paused = true)]
async fn a_node_costs_the_same_in_a_fleet_of_any_size() {
    let mut columns = Vec::new();
    for nodes in SIZES {
        columns.push(column(nodes).await);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scale.md");
    let page = std::fs::read_to_string(path).unwrap();
    for (n, name) in ROWS.iter().enumerate() {
        let cells: Vec<_> = columns.iter().map(|column| number(column[n])).collect();
        let row = format!("| {name} | {} |", cells.join(" | "));
        println!("{row}");
        let shown = figures(&page, name);
        assert_eq!(shown.len(), SIZES.len(), "not in docs/scale.md: {row}");
        for (column, shown) in columns.iter().zip(shown) {
            assert_near(shown, column[n], PAGE, &format!("docs/scale.md has not {row}"));
        }
    }
    for (n, name) in ROWS.iter().enumerate().take(FLAT) {
        assert_near(columns[2][n], columns[0][n], 0.05, name);
    }
}

/// The figures of a row of the page.
fn figures(page: &str, name: &str) -> Vec<f64> {
    let row = page.lines().find_map(|line| line.strip_prefix("| ")?.strip_prefix(name));
    row.into_iter()
        .flat_map(|row| row.split('|'))
        .filter_map(|cell| cell.trim().parse().ok())
        .collect()
}

/// The measured and the modelled calls of a node, as in [`ROWS`].
async fn column(nodes: usize) -> Vec<f64> {
    let idle = minute(nodes, IDLE).await;
    let busy = minute(nodes, BUSY).await;
    let work = Work { pushes: true, ..BUSY };
    let pushed = minute(nodes, work).await;
    let model = modelled(nodes, BUSY);
    let per_minute = |rate: f64| rate * 60.0;
    let (follower, back) = (model.follower(), model.write_back());
    assert_near(spent(&idle, "log_since"), per_minute(1.0 / model.interval()), 0.02, "idle");
    // Beside it a node only asks the store how it is, every ten minutes.
    let others: Vec<_> =
        idle.keys().filter(|call| !["log_since", "report"].contains(call)).collect();
    assert!(others.is_empty() && spent(&idle, "report") <= 0.2, "{idle:?}");
    assert_near(spent(&busy, "log_since"), per_minute(follower.statements), 0.03, "follower");
    assert_near(spent(&busy, "touch"), per_minute(back.sessions), 0.05, "write-back");
    // Each node reads the changes of all; those of one node come by chance.
    let changes = spent(&busy, "commit") * nodes as f64;
    assert_near(spent(&busy, ENTRIES), changes, 0.03, "entries");
    assert_near(changes, per_minute(follower.entries), 0.25, "changes");
    assert_near(spent(&busy, "load"), per_minute(model.loads().again), 0.25, "loads");
    let heard = modelled(nodes, work).follower().statements;
    assert_near(spent(&pushed, "log_since"), per_minute(heard), 0.07, "follower with push");
    vec![
        spent(&idle, "log_since"),
        spent(&busy, "log_since"),
        spent(&busy, "touch"),
        spent(&busy, ENTRIES),
        per_minute(follower.entries),
        spent(&pushed, "log_since"),
        per_minute(heard),
    ]
}

#[tokio::test(start_paused = true)]
async fn runs_repeat() {
    let work = Work { pushes: true, ..BUSY };
    assert_eq!(minute(3, work).await, minute(3, work).await);
}

/// A node with many sessions writes them back together: four calls per second.
#[tokio::test(start_paused = true)]
async fn write_backs_share_their_calls() {
    let work = Work { sessions: 700, changes: 0.0, ..BUSY };
    let calls = minute(1, work).await;
    let model = modelled(1, work).write_back();
    assert!(model.sessions > 10.0);
    assert_near(spent(&calls, "touch"), model.calls * 60.0, 0.02, "calls of touch");
}

/// However many changes there are, a follower pauses after each read.
#[tokio::test(start_paused = true)]
async fn hints_are_followed_after_a_pause() {
    let work = Work { pushes: true, changes: 100.0, ..BUSY };
    let calls = minute(1, work).await;
    let most = 60.0 / LEAST_PAUSE.as_secs_f64();
    let model = modelled(1, work).follower().statements * 60.0;
    // A change of the node's own is both a hint of the store and a reason to read.
    let reads = spent(&calls, "log_since");
    assert!(model * 0.95 <= reads && reads <= most, "{model} modelled, {reads} of {most}");
}

/// A run keeps other nodes away for as long as its lease lasts; nodes that come later run again.
#[tokio::test(start_paused = true)]
async fn the_cleanup_runs_again_after_each_lease() {
    let mut world = World::new();
    let period = Duration::from_secs(6_000);
    let options = Options::default().with_cleanup(Cleanup::default().with_period(period));
    for _ in 0..10 {
        world.add(false, &options).await;
        // Their turns are as far apart.
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    tokio::time::sleep(Duration::from_secs(100)).await;
    let calls = world.calls();
    assert_eq!(calls["lease"], 10, "each node has tried once: {calls:?}");
    assert_eq!(calls["sweep"], 100_u64.div_ceil(LEASE.as_secs()));
}

/// Beside the methods.
const ENTRIES: &str = "entries";
const SIZES: [usize; 3] = [1, 10, 100];
/// What the page shows, per node and minute.
const ROWS: [&str; 7] = [
    "idle: reads of the log",
    "in use: reads of the log",
    "in use: calls of `touch`",
    "in use: entries read",
    "in use: entries, modelled",
    "in use, with push: reads of the log",
    "in use, with push: modelled",
];
/// How far a figure of the page may be off, so that it outlives a change of the engine which costs nothing.
const PAGE: f64 = 0.03;
/// So many of them do not depend on the size.
const FLAT: usize = 3;
const IDLE: Work = Work { pushes: false, sessions: 0, gap: Duration::from_secs(7), changes: 0.0 };
const BUSY: Work = Work { pushes: false, sessions: 12, gap: Duration::from_secs(7), changes: 0.1 };
/// Every so many-th session is used again a round later than the one before it. Sessions that have all been
/// used for equally long are written back together.
const SHIFTS: u32 = 5;
const SEED: u64 = 11;
const NEVER: Duration = Duration::from_secs(24 * 3600);

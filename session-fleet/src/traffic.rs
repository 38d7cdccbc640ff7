//! Users at work on all nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use session_benches::random::Random;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::faults::PATIENCE;
use crate::fleet::{Fleet, KEEP, USERS};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Volume {
    /// Connections to each node.
    pub(crate) connections: usize,
    /// Between two requests on a connection.
    pub(crate) pause: Duration,
    /// Between two revocations on the whole fleet.
    pub(crate) revoke_every: Duration,
    /// On which nodes.
    pub(crate) changes: Changes,
    /// Between two changes of a session that goes on; none where there are none.
    pub(crate) change_every: Option<Duration>,
}

/// Which nodes change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changes {
    /// The first one. A node that changes something looks at the log at once, so the others show how long it
    /// takes otherwise.
    OnTheFirst,
    /// All of them, equally often.
    OnAny,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) sign_ins: AtomicU64,
    pub(crate) revocations: AtomicU64,
    /// Sign-ins and revocations without an answer that says whether they were done.
    pub(crate) perhaps: AtomicU64,
    /// Changes of the data.
    pub(crate) changes: AtomicU64,
    pub(crate) rotations: AtomicU64,
}

/// Tasks that use a fleet until they are stopped.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    workers: JoinSet<()>,
    pub(crate) counts: Arc<Counts>,
}

/// What every task has.
#[derive(Clone)]
struct Worker {
    fleet: Arc<Fleet>,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    random: Random,
    changes: Changes,
}

/// Whose cookies a connection carries. One that has to wait for the store holds up only its own kind.
#[derive(Clone, Copy)]
enum Visitor {
    /// Those of the sessions that no one revokes, which each node has in its cache.
    Stays,
    /// Those of any live session.
    IsLive,
    /// Those of sessions that ended within twice `max_staleness`.
    HasEnded,
}

impl Traffic {
    pub(crate) fn start(fleet: &Arc<Fleet>, volume: Volume) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let mut workers = JoinSet::new();
        let worker = |number: usize| Worker {
            fleet: Arc::clone(fleet),
            stop: Arc::clone(&stop),
            counts: Arc::clone(&counts),
            random: Random::of(SEED, &[number as u64]),
            changes: volume.changes,
        };
        let nodes = fleet.nodes.len();
        let count = nodes * volume.connections;
        for number in 0..count {
            let visitor = VISITORS[number / nodes % VISITORS.len()];
            workers.spawn(worker(number).visit(number % nodes, visitor, volume.pause));
        }
        for number in 0..TURNOVER {
            let pause = volume.revoke_every * TURNOVER as u32;
            workers.spawn(worker(count + number).come_and_go(pause));
        }
        if let Some(pause) = volume.change_every {
            for number in 0..CHANGERS {
                let changer = worker(count + TURNOVER + number);
                workers.spawn(changer.change(pause * CHANGERS as u32));
            }
            workers.spawn(worker(count + TURNOVER + CHANGERS).rotate(ROTATE_EVERY.max(pause)));
        }
        Self { stop, workers, counts }
    }

    /// Lets every task finish what it is at.
    pub(crate) async fn stop(mut self) -> Arc<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        self.counts
    }
}

impl Worker {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Visits one node as one user or another.
    async fn visit(mut self, node: usize, visitor: Visitor, pause: Duration) {
        let mut client = Client::new(self.fleet.nodes[node].address);
        while self.goes_on() {
            let (people, limits) = (&self.fleet.people, self.fleet.limits);
            let session = match visitor {
                Visitor::Stays => people.any_live(KEEP, &mut self.random),
                Visitor::IsLive => people.any_live(usize::MAX, &mut self.random),
                Visitor::HasEnded => {
                    people.any_ended(LATELY * limits.staleness, node, &mut self.random)
                }
            };
            let Some(session) = session else {
                tokio::time::sleep(AWAY).await;
                continue;
            };
            let seen = self.fleet.visit(node, &mut client, &session).await;
            self.counts.requests.fetch_add(1, Ordering::Relaxed);
            if seen.is_none() {
                tokio::time::sleep(AWAY).await;
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Signs one in and throws another one out.
    async fn come_and_go(mut self, pause: Duration) {
        let mut clients = self.fleet.clients();
        let mut ticks = tokio::time::interval(pause);
        while self.goes_on() {
            ticks.tick().await;
            self.come(&mut clients).await;
            if self.fleet.people.count() > KEEP + SPARE {
                self.go(&mut clients).await;
            }
        }
    }

    async fn come(&mut self, clients: &mut [Client]) {
        let node = self.node();
        let user = USERS[self.random.below(USERS.len() as u64) as usize];
        if let Some(session) = self.fleet.sign_in(node, &mut clients[node], user).await {
            self.fleet.people.begun(&session);
            self.counts.sign_ins.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counts.perhaps.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tries one node after another, until one has done it. It goes on for some time after the traffic has stopped: a
    /// session of which is not known whether it lives is looked at by no comparison.
    async fn go(&mut self, clients: &mut [Client]) {
        let Some(session) = self.fleet.people.take(KEEP) else { return };
        let begun = Instant::now();
        while self.goes_on() || begun.elapsed() < PATIENCE {
            let node = self.node();
            if self.fleet.revoke(node, &mut clients[node], &session).await {
                self.fleet.people.ended(&session);
                self.counts.revocations.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.counts.perhaps.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(AWAY).await;
        }
    }

    /// Raises the counts of a few sessions, so that changes of one meet.
    async fn change(mut self, pause: Duration) {
        let mut clients = self.fleet.clients();
        let mut ticks = tokio::time::interval(pause);
        while self.goes_on() {
            ticks.tick().await;
            let Some(session) = self.fleet.people.any_live(COUNTED, &mut self.random) else {
                continue;
            };
            let node = self.node();
            if self.fleet.count(node, &mut clients[node], &session).await {
                self.counts.changes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Rotates the tokens of those who stay, one after the other, so that none is rotated again while a request
    /// with the token before is on its way.
    async fn rotate(mut self, pause: Duration) {
        let mut clients = self.fleet.clients();
        let mut ticks = tokio::time::interval(pause);
        for place in (0..KEEP).cycle() {
            ticks.tick().await;
            if !self.goes_on() {
                return;
            }
            let Some(session) = self.fleet.people.live_at(place) else { continue };
            let node = self.node();
            if self.fleet.rotate(node, &mut clients[node], &session).await {
                self.counts.rotations.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A node whose process is there.
    fn node(&mut self) -> usize {
        let nodes = self.fleet.nodes.len();
        let first = match self.changes {
            Changes::OnTheFirst => 0,
            Changes::OnAny => self.random.below(nodes as u64) as usize,
        };
        let is_there = |node: &usize| !self.fleet.books.is_gone(*node);
        (0..nodes).map(|n| (first + n) % nodes).find(is_there).unwrap_or(first)
    }
}

/// Of the connections to a node, in turn.
const VISITORS: [Visitor; 4] = [Visitor::Stays, Visitor::HasEnded, Visitor::IsLive, Visitor::Stays];
/// Sessions come back for so many times `max_staleness` after their end: longer than any node may trust its
/// cache.
const LATELY: u32 = 2;
/// Tasks that sign in and revoke.
const TURNOVER: usize = 8;
/// Sessions that are there to be revoked, so that every node has them in its cache by then.
const SPARE: usize = 40;
/// Tasks that change data, and the sessions whose data they change.
const CHANGERS: usize = 4;
const COUNTED: usize = 12;
/// At least. A round takes 15 s; the grace of a token that was rotated is 10 s.
const ROTATE_EVERY: Duration = Duration::from_millis(250);
/// After a request that was not answered, or where no session has ended yet.
const AWAY: Duration = Duration::from_millis(100);
const SEED: u64 = 18;

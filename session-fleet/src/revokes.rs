//! The time until every node refuses a revoked session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hyper::StatusCode;
use session_benches::Failure;
use session_benches::random::Random;
use session_benches::table::Row;
use session_benches::times::Times;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::fleet::{Fleet, USERS};
use crate::people::Session;
use crate::traffic::{Traffic, Volume};

/// How long it took.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// On each of the other nodes.
    each: Times,
    /// On the last of them.
    every: Times,
}

/// How it is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Sessions that are revoked at a time.
    at_once: usize,
    /// Between two requests to one node.
    pause: Duration,
    /// A random time before each revocation is below this. Without it each would begin when a node has just
    /// looked at the log, and wait longest.
    spread: Duration,
    /// Whether the last node alone is waited for.
    last_only: bool,
}

/// The most that median and p99 may be, in milliseconds.
pub(crate) type Targets = (f64, f64);

impl Pace {
    /// For some milliseconds.
    pub(crate) const PUSHED: Self = Self {
        at_once: 2,
        pause: Duration::from_millis(1),
        spread: Duration::from_millis(10),
        last_only: false,
    };
    /// For some hundred milliseconds.
    pub(crate) const UNPUSHED: Self = Self {
        at_once: 4,
        pause: Duration::from_millis(3),
        spread: Duration::from_millis(250),
        last_only: false,
    };

    /// For a store that has enough to do with that.
    pub(crate) const fn one_at_a_time(self) -> Self {
        Self { at_once: 1, ..self }
    }

    /// For a last node that differs from the others.
    pub(crate) const fn of_last_node(self) -> Self {
        Self { last_only: true, ..self }
    }
}

/// Revokes this many sessions on the first node while all nodes are used.
pub(crate) async fn measure(
    fleet: &Arc<Fleet>,
    count: usize,
    pace: Pace,
    volume: Volume,
) -> Result<Refusals, Failure> {
    let traffic = Traffic::start(fleet, volume);
    let mut workers = JoinSet::new();
    for number in 0..pace.at_once {
        let share = count / pace.at_once + usize::from(number < count % pace.at_once);
        workers.spawn(measure_share(Arc::clone(fleet), number, share, pace));
    }
    let mut all = Refusals::default();
    while let Some(share) = workers.join_next().await {
        let Refusals { each, every } = share??;
        all.each.extend(each);
        all.every.extend(every);
    }
    traffic.stop().await;
    Ok(all)
}

async fn measure_share(
    fleet: Arc<Fleet>,
    number: usize,
    count: usize,
    pace: Pace,
) -> Result<Refusals, Failure> {
    let mut random = Random::new(number as u64);
    let mut clients = fleet.clients();
    let mut refusals = Refusals::default();
    let mut left = count;
    while left > 0 {
        let mut group = Vec::new();
        for n in 0..left.min(GROUP) {
            group.push(begin(&fleet, &mut clients, USERS[n % USERS.len()]).await?);
        }
        tokio::time::sleep(SETTLED).await;
        left -= group.len();
        for session in group {
            tokio::time::sleep(pace.spread.mul_f64(random.unit())).await;
            let times = revoke(&fleet, &mut clients, &session, pace).await?;
            refusals.every.extend(times.iter().max().copied());
            refusals.each.extend(times);
        }
    }
    Ok(refusals)
}

/// Signs in on the first node, and is welcome on every one.
async fn begin(fleet: &Fleet, clients: &mut [Client], user: &str) -> Result<Arc<Session>, Failure> {
    let session = fleet.sign_in(0, &mut clients[0], user).await;
    let session = session.ok_or("a user cannot sign in")?;
    for (node, client) in clients.iter_mut().enumerate() {
        if fleet.visit(node, client, &session).await != Some(StatusCode::OK) {
            return Err(format!("node {node} does not know a session that is new").into());
        }
    }
    Ok(session)
}

/// Revokes on the first node, and waits for each other one.
async fn revoke(
    fleet: &Fleet,
    clients: &mut [Client],
    session: &Arc<Session>,
    pace: Pace,
) -> Result<Vec<Duration>, Failure> {
    if !fleet.revoke(0, &mut clients[0], session).await {
        return Err("a session cannot be revoked".into());
    }
    let revoked = Instant::now();
    fleet.people.ended(session);
    let first = if pace.last_only { clients.len() - 1 } else { 1 };
    let others = clients.iter_mut().enumerate().skip(first).map(|(node, client)| async move {
        while fleet.visit(node, client, session).await != Some(StatusCode::UNAUTHORIZED) {
            if revoked.elapsed() > MOST {
                return Err(format!("node {node} does not refuse a revoked session").into());
            }
            tokio::time::sleep(pace.pause).await;
        }
        Ok(revoked.elapsed())
    });
    join_all(others).await.into_iter().collect()
}

impl Refusals {
    /// The figures, under a name such as `redis, push`.
    pub(crate) fn rows(&self, name: &str, targets: Option<Targets>, bound: Duration) -> Vec<Row> {
        let (median, p99) = targets.unzip();
        let bound = bound.as_secs_f64() * 1000.0;
        let Self { each, every } = self;
        vec![
            Row::at_most(format!("{name}: another node, median"), each.median(), "ms", median),
            Row::at_most(format!("{name}: another node, p99"), each.p99(), "ms", p99),
            Row::plain(format!("{name}: every node, median"), every.median(), "ms"),
            Row::plain(format!("{name}: every node, p99"), every.p99(), "ms"),
            Row::at_most(format!("{name}: every node, longest"), every.longest(), "ms", bound),
        ]
    }
}

/// What the demo is told: a write-back, which would find that the session is gone, must not stand in for the
/// news of it.
pub(crate) const SETTING: &str = "engine.write_back.every_hits=1000000";
/// Sessions that are begun before the first of them is revoked.
const GROUP: usize = 25;
/// By then it is stored of a new session that its token has been presented.
const SETTLED: Duration = Duration::from_millis(700);
/// How long the worst is waited for.
const MOST: Duration = Duration::from_secs(30);
/// Where the store pushes.
pub(crate) const PUSHED: Targets = (5.0, 50.0);
/// Where it does not.
pub(crate) const UNPUSHED: Targets = (150.0, 300.0);

//! Faults on a fleet that is used: what they are, and what has to hold during and after each.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use session_benches::Failure;
use session_benches::table::Row;
use tokio::process::Command;

use crate::audit;
use crate::books::{Limits, Standstill, Trouble};
use crate::chart;
use crate::fleet::Fleet;
use crate::proxy::Mode;
use crate::resume::{Crowd, Visits};
use crate::timeline::{Seen, Timeline};
use crate::totals;
use crate::traffic::{Changes, Traffic, Volume};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// `kill -9` of a node, which is started again later.
    NodeKilled,
    /// A node stands still (SIGSTOP) for longer than `max_staleness`.
    NodeStopped,
    /// It stands still for less than that, and has not seen what happened in that time either.
    NodePaused,
    /// `kill -9` of the store, which is started again later.
    StoreKilled,
    /// The store stands still (SIGSTOP).
    StoreStopped,
    /// The clock of a node jumps two hours ahead, and back at the end.
    ClockAhead,
    /// It jumps two hours back, and ahead at the end.
    ClockBehind,
    /// What goes between a node and the store takes 50 ms longer, each way.
    Delayed,
    /// Nothing goes between a node and the store, and no connection is closed.
    Stalled,
    /// The store hears a node, but the node hears no answer.
    AnswersCut,
    /// The node hears the store, but the store hears no request.
    RequestsCut,
    /// Connections of a node to the store are reset.
    Reset,
    /// Pushes do not arrive at a node that believes they do.
    PushStalled,
}

impl Fault {
    /// Those that tell most in a short time.
    const QUICK: [Self; 4] = [Self::NodeKilled, Self::NodeStopped, Self::NodePaused, Self::Stalled];

    /// Those that are named; where none is, the short form or all.
    pub(crate) fn chosen(named: &[Self], is_quick: bool) -> Vec<Self> {
        let or = if is_quick { &Self::QUICK[..] } else { Self::value_variants() };
        if named.is_empty() { or.to_vec() } else { named.to_vec() }
    }

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Says that it cannot happen to this fleet, if it cannot. The target is missed unless no fleet on this
    /// store can have it.
    pub(crate) fn left_out(self, fleet: &Fleet, is_killable: bool) -> Option<Row> {
        let (is_possible, why, is_by_design) = match self {
            Self::NodeKilled | Self::NodeStopped | Self::NodePaused => return None,
            Self::StoreKilled | Self::StoreStopped if fleet.store.server().is_none() => {
                (false, "the store is a file", true)
            }
            Self::StoreKilled | Self::StoreStopped => {
                (is_killable, "the store's server is not a private instance", false)
            }
            Self::ClockAhead | Self::ClockBehind => {
                (fleet.clock.is_some(), "there is no libfaketime", false)
            }
            Self::Delayed | Self::Stalled | Self::AnswersCut | Self::RequestsCut | Self::Reset => {
                (fleet.proxy.is_some(), "the store is not reached by one address", true)
            }
            Self::PushStalled => {
                (fleet.store.listens_apart(), "no connection is there for pushes only", true)
            }
        };
        let name = format!("{}: {}: left out, because {why}", fleet.store.name(), self.name());
        (!is_possible).then(|| Row { met: is_by_design, ..Row::plain(name, None, "") })
    }

    /// The nodes that it concerns and how; none where everything has to go on as before.
    fn concerns(self, nodes: usize) -> Option<(Vec<usize>, Trouble)> {
        match self {
            Self::NodeKilled => Some((vec![DISTURBED], Trouble::Process)),
            Self::NodeStopped | Self::NodePaused => {
                Some((vec![DISTURBED], Trouble::Still(Standstill::default())))
            }
            Self::StoreKilled | Self::StoreStopped => Some(((0..nodes).collect(), Trouble::Store)),
            // A call on a new connection takes some eight round trips: far below every limit that nodes were told.
            Self::ClockAhead | Self::ClockBehind | Self::PushStalled | Self::Delayed => None,
            Self::Stalled | Self::AnswersCut | Self::RequestsCut | Self::Reset => {
                Some((vec![nodes - 1], Trouble::Store))
            }
        }
    }

    /// Whether what it concerns has no way to the store for longer than a node may trust its cache.
    const fn cuts_off(self) -> bool {
        match self {
            Self::StoreKilled
            | Self::StoreStopped
            | Self::Stalled
            | Self::AnswersCut
            | Self::RequestsCut
            | Self::Reset => true,
            Self::NodeKilled
            | Self::NodeStopped
            | Self::NodePaused
            | Self::ClockAhead
            | Self::ClockBehind
            | Self::Delayed
            | Self::PushStalled => false,
        }
    }

    /// Longer than a node may go on without news, and it is seen whether it does; or shorter, where it does not
    /// know how long it was.
    fn length(self, limits: Limits) -> Duration {
        if self == Self::NodePaused {
            limits.staleness * 7 / 10
        } else {
            limits.staleness + 2 * MARGIN
        }
    }

    /// How many sessions of a node are revoked while it stands still.
    fn crowd(self, fleet: &Fleet) -> usize {
        match (self.stands_still(), fleet.store.is_slow()) {
            (false, _) => 0,
            (true, true) => FEW,
            (true, false) => MANY,
        }
    }

    const fn stands_still(self) -> bool {
        matches!(self, Self::NodeStopped | Self::NodePaused)
    }

    /// On which nodes something changes. One that hears no push looks at the log when it changes something.
    fn changes(self) -> Changes {
        if self == Self::PushStalled { Changes::OnTheFirst } else { Changes::OnAny }
    }

    /// Begins, goes on and ends. Returns when it ended, and what is shown to a node that goes on then.
    async fn last(self, fleet: &Arc<Fleet>, crowd: &Crowd) -> Result<(Instant, Visits), Failure> {
        let books = &fleet.books;
        if let Some((nodes, trouble)) = self.concerns(fleet.nodes.len()) {
            books.trouble(&nodes, trouble);
        }
        books.mark("begins");
        self.begin(fleet).await?;
        let begun = Instant::now();
        books.stopped();
        crowd.revoke(fleet).await;
        tokio::time::sleep(self.length(fleet.limits).saturating_sub(begun.elapsed())).await;
        if !self.shows(fleet).await {
            books.complain(format!("{} has had no effect", self.name()));
        }
        let visits = crowd.show(fleet).await;
        books.mark("ends");
        let ended = books.resumes();
        self.end(fleet).await?;
        Ok((ended, visits))
    }

    async fn begin(self, fleet: &Fleet) -> Result<(), Failure> {
        match self {
            Self::NodeKilled => fleet.nodes[DISTURBED].kill().await,
            Self::NodeStopped | Self::NodePaused => stop(fleet).await,
            Self::StoreKilled => services(fleet, "kill").await,
            Self::StoreStopped => services(fleet, "pause").await,
            Self::ClockAhead => set_clock(fleet, "+2h"),
            Self::ClockBehind => set_clock(fleet, "-2h"),
            Self::Delayed => set_proxy(fleet, Mode::Delay(DELAY)),
            Self::Stalled => set_proxy(fleet, Mode::Stall),
            Self::AnswersCut => set_proxy(fleet, Mode::CutAnswers),
            Self::RequestsCut => set_proxy(fleet, Mode::CutRequests),
            Self::Reset => set_proxy(fleet, Mode::Reset),
            Self::PushStalled => set_proxy(fleet, Mode::StallPush),
        }
    }

    /// Whether it has taken effect, as far as that is not seen otherwise: a store that is away by the 503 of each
    /// node, a process that stands still by its state.
    async fn shows(self, fleet: &Fleet) -> bool {
        match self {
            Self::NodeKilled => fleet.metrics_of(DISTURBED).await.is_err(),
            // The clock of a file is that of the process which has it open, so nothing shows that it is wrong.
            Self::ClockAhead | Self::ClockBehind if fleet.store.server().is_none() => true,
            Self::ClockAhead | Self::ClockBehind => {
                let metrics = fleet.metrics_of(fleet.nodes.len() - 2).await.unwrap_or_default();
                let ahead = totals::gauge(&metrics, "session_kit_clock_skew_seconds");
                let hours = if self == Self::ClockAhead { 2.0 } else { -2.0 };
                ahead.is_some_and(|seconds| (seconds / 3600.0 - hours).abs() < 0.1)
            }
            Self::Delayed
            | Self::Stalled
            | Self::AnswersCut
            | Self::RequestsCut
            | Self::Reset
            | Self::PushStalled => fleet.proxy.as_ref().is_some_and(|proxy| proxy.disturbed() > 0),
            Self::NodeStopped | Self::NodePaused | Self::StoreKilled | Self::StoreStopped => true,
        }
    }

    async fn end(self, fleet: &Fleet) -> Result<(), Failure> {
        match self {
            Self::NodeKilled => fleet.nodes[DISTURBED].restart().await,
            Self::NodeStopped | Self::NodePaused => fleet.nodes[DISTURBED].resume().await,
            Self::StoreKilled => services(fleet, "restart").await,
            Self::StoreStopped => services(fleet, "resume").await,
            Self::ClockAhead | Self::ClockBehind => set_clock(fleet, "+0"),
            Self::Delayed
            | Self::Stalled
            | Self::AnswersCut
            | Self::RequestsCut
            | Self::Reset
            | Self::PushStalled => set_proxy(fleet, Mode::Pass),
        }
    }
}

/// Lets one fault happen to a fleet in use, and draws what users saw into `charts`.
pub(crate) async fn happen(
    fault: Fault,
    fleet: &Arc<Fleet>,
    volume: Volume,
    charts: &Path,
) -> Result<Vec<Row>, Failure> {
    let (books, broken) = (&fleet.books, fleet.books.broken(None));
    let crowd = Crowd::gather(fleet, DISTURBED, fault.crowd(fleet)).await?;
    let traffic = Traffic::start(fleet, Volume { changes: fault.changes(), ..volume });
    books.take_timeline();
    tokio::time::sleep(MARGIN).await;
    let (ended, visits) = fault.last(fleet, &crowd).await?;
    let recovered = recovered(fleet, ended).await;
    books.mark("recovered");
    books.end_trouble();
    let shown = crowd.seen(fleet, ended, visits).await;
    tokio::time::sleep(MARGIN).await;
    traffic.stop().await;
    let timeline = books.take_timeline();
    fleet.census().await;
    audit::run(fleet).await?;
    let name = format!("{}: {}", fleet.store.name(), fault.name());
    std::fs::create_dir_all(charts)?;
    let file = charts.join(format!("{}-{}.svg", fleet.store.name(), fault.name()));
    chart::draw(&file, &name, &timeline)?;
    let concerned = fault.concerns(fleet.nodes.len()).map_or(vec![], |(nodes, _)| nodes);
    let unavailable = |node: usize| timeline.total_of(node, Seen::Unavailable);
    for node in concerned.iter().filter(|node| fault.cuts_off() && unavailable(**node) == 0) {
        books.complain(format!("{}: node {node} is cut off and never answers 503", fault.name()));
    }
    let others = (0..fleet.nodes.len()).filter(|node| !concerned.contains(node));
    let elsewhere = others.map(unavailable).sum();
    let mut rows = rows(&name, recovered, (books.broken(None) - broken, elsewhere), &timeline);
    if fault.stands_still() {
        let name = format!("{name}: revoked sessions shown to the node that goes on");
        rows.push(Row::plain(name, Some(shown as f64), ""));
    }
    Ok(rows)
}

/// How long it took until every node had done everything as before.
async fn recovered(fleet: &Fleet, since: Instant) -> Option<Duration> {
    while since.elapsed() < PATIENCE {
        if fleet.works().await {
            return Some(since.elapsed());
        }
        tokio::time::sleep(PAUSE).await;
    }
    fleet.books.complain("the fleet does not recover by itself");
    None
}

fn rows(
    name: &str,
    recovered: Option<Duration>,
    (broken, elsewhere): (usize, u64),
    timeline: &Timeline,
) -> Vec<Row> {
    let count = |seen| Some(timeline.total(seen) as f64);
    let recovered = recovered.map(|time| time.as_secs_f64());
    vec![
        Row::at_most(format!("{name}: broken guarantees"), Some(broken as f64), "", 0.0),
        Row::at_most(format!("{name}: recovered after"), recovered, "s", PATIENCE.as_secs_f64()),
        Row::at_most(format!("{name}: unavailable elsewhere"), Some(elsewhere as f64), "", 0.0),
        Row::plain(format!("{name}: pages"), count(Seen::Page), ""),
        Row::plain(format!("{name}: unavailable"), count(Seen::Unavailable), ""),
        Row::plain(format!("{name}: not answered"), count(Seen::Nothing), ""),
    ]
}

/// Has the node stand still. One that is stopped while it writes into SQLite's file has the lock of the file, and
/// keeps every process from writing: there it is stopped between two changes.
async fn stop(fleet: &Fleet) -> Result<(), Failure> {
    let node = &fleet.nodes[DISTURBED];
    let begun = Instant::now();
    node.stop().await?;
    while fleet.store.server().is_none() && !fleet.takes_sign_ins().await {
        if begun.elapsed() > PATIENCE {
            return Err("no other node signs in while one stands still".into());
        }
        node.resume().await?;
        tokio::time::sleep(PAUSE).await;
        node.stop().await?;
    }
    Ok(())
}

fn set_proxy(fleet: &Fleet, mode: Mode) -> Result<(), Failure> {
    fleet.proxy.as_ref().ok_or("there is no proxy")?.set(mode);
    Ok(())
}

fn set_clock(fleet: &Fleet, offset: &str) -> Result<(), Failure> {
    let clock = fleet.clock.as_ref().ok_or("no node has a clock that can be set")?;
    Ok(std::fs::write(clock, format!("{offset}\n"))?)
}

/// Does something to the store's server, by `cargo xtask services`.
async fn services(fleet: &Fleet, action: &str) -> Result<(), Failure> {
    let (server, _) = fleet.store.server().ok_or("the store has no server")?;
    let program = std::env::var("SESSION_KIT_XTASK");
    let program = program.map_err(|_| "SESSION_KIT_XTASK is no program that kills servers")?;
    let status = Command::new(program).args(["services", action, server]).status().await?;
    if status.success() { Ok(()) } else { Err(format!("{action} {server}: {status}").into()) }
}

/// The node that is killed or stands still.
const DISTURBED: usize = 1;
/// As many sessions as a store ends within a few hundred milliseconds.
const MANY: usize = 40;
const FEW: usize = 4;
/// Before a fault and after it, and twice beyond `max_staleness` during it.
const MARGIN: Duration = Duration::from_secs(2);
/// Within which a fleet has to go on by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
const DELAY: Duration = Duration::from_millis(50);

//! Runs a fleet of demo processes on one real store: how long a revocation takes, what faults do to it,
//! and whether it holds out. `cargo xtask fleet` builds and starts it.
//!
//! Every answer of every node is judged by what the fleet has acknowledged before ([`books`]): no
//! revoked session is accepted beyond the bound, no signed-in user is refused, and a store that is away
//! is a 503 with `Retry-After` that writes no cookie.

mod audit;
mod books;
mod chart;
mod client;
mod faults;
mod fleet;
mod node;
mod people;
mod proxy;
mod resume;
mod revokes;
mod soak;
mod store;
mod timeline;
mod totals;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use session_benches::Failure;
use session_benches::table::{Row, markdown, write_json};

use crate::books::Limits;
use crate::faults::Fault;
use crate::fleet::{Fleet, Plan};
use crate::proxy::Mode;
use crate::revokes::Pace;
use crate::store::Store;
use crate::traffic::{Changes, Volume};

/// Runs several nodes on one store and measures how long a revocation takes, with pushes and without.
#[derive(Parser)]
struct Arguments {
    /// The demo.
    #[arg(long)]
    program: PathBuf,
    /// Which store; may be given more than once. Servers are named by the variables of
    /// `cargo xtask services env`.
    #[arg(long, required = true)]
    store: Vec<Store>,
    /// How many nodes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=50))]
    nodes: u16,
    /// How many sessions are revoked; 0 for no measurement.
    #[arg(long, default_value_t = 1000)]
    revokes: usize,
    /// Connections to each node: one of four shows cookies of sessions that have ended.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(4..=1000))]
    connections: u16,
    /// Lets faults happen, one after the other, and draws what users saw.
    #[arg(long)]
    faults: bool,
    /// Of the faults only this one; may be given more than once.
    #[arg(long)]
    fault: Vec<Fault>,
    /// Plants this defect in every node, whose program was built with the feature `planted`: the run succeeds
    /// if the guarantee breaks that `--breaks` names.
    #[arg(long, value_name = "DEFECT", requires = "breaks")]
    planted: Option<String>,
    /// A part of the complaint that counts; all others, such as a fault without effect, do not.
    #[arg(long, value_name = "TEXT", requires = "planted")]
    breaks: Option<String>,
    /// Full load for this many seconds, and a revocation every 10 ms.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "300")]
    soak: Option<u64>,
    /// Up to four faults on one fleet, within two minutes: whether the guarantees hold, and no target of time.
    #[arg(long)]
    quick: bool,
    /// A store whose server `$SESSION_KIT_XTASK services` may kill; may be given more than once.
    #[arg(long)]
    killable: Vec<Store>,
    /// The library of libfaketime, for nodes with a wrong clock.
    #[arg(long)]
    faketime: Option<PathBuf>,
    /// Where `fleet.json` and the folder `fleet` go.
    #[arg(long, default_value = "target")]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(Outcome { broken, .. }) if arguments.planted.is_some() => {
            eprintln!("with a planted defect guarantees broke {broken} times");
            if broken > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(Outcome { broken: 0, missed }) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(Outcome { broken, missed }) => {
            if broken > 0 {
                eprintln!("error: guarantees broke {broken} times");
            }
            missed.iter().for_each(|name| eprintln!("error: target missed: {name}"));
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What makes a run fail.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// How often a guarantee broke.
    broken: usize,
    /// The rows whose target was not met. The short form, which runs beside other work, has none.
    missed: Vec<String>,
}

impl Outcome {
    fn of(broken: usize, rows: &[Row], is_quick: bool) -> Self {
        let missed = rows.iter().filter(|row| !row.met && !is_quick);
        Self { broken, missed: missed.map(|row| row.name.clone()).collect() }
    }
}

async fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let (mut rows, mut broken) = (Vec::new(), 0);
    for store in &arguments.store {
        let run = Run { arguments, store: *store };
        let all = run.all(&mut rows).await;
        write_json(&arguments.out.join("fleet.json"), &rows)?;
        match all {
            Ok(more) => broken += more,
            Err(error) => {
                println!("{}", markdown(&rows));
                return Err(format!("{}: {error}", store.name()).into());
            }
        }
    }
    println!("{}", markdown(&rows));
    Ok(Outcome::of(broken, &rows, arguments.quick))
}

/// What becomes of the store's pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Push {
    /// They are heard, where there are any.
    Heard,
    /// Nodes were told to do without.
    Off,
    /// The last node hears none, and does not know.
    Stalled,
}

impl Push {
    const fn name(self) -> &'static str {
        match self {
            Self::Heard => "push",
            Self::Off => "no push",
            Self::Stalled => "push stalled",
        }
    }

    /// At which pace so many revocations are looked for, or fewer, and the targets.
    fn pace(self, revokes: usize) -> (usize, Pace, Option<revokes::Targets>) {
        match self {
            Self::Heard => (revokes, Pace::PUSHED, Some(revokes::PUSHED)),
            Self::Off => (revokes, Pace::UNPUSHED, Some(revokes::UNPUSHED)),
            // Between two reads there is twice as long, until the node finds out. What counts is the bound.
            Self::Stalled => (revokes.min(MOST_STALLED), Pace::UNPUSHED.of_last_node(), None),
        }
    }
}

/// One store.
struct Run<'a> {
    arguments: &'a Arguments,
    store: Store,
}

impl Run<'_> {
    async fn all(&self, rows: &mut Vec<Row>) -> Result<usize, Failure> {
        if self.arguments.quick {
            return self.quick(rows).await;
        }
        let mut broken = 0;
        if self.arguments.revokes > 0 {
            broken += self.measure(Push::Heard, rows).await?;
            if self.store.pushes() {
                broken += self.measure(Push::Off, rows).await?;
            }
            if self.store.listens_apart() {
                broken += self.measure(Push::Stalled, rows).await?;
            }
        }
        if self.arguments.faults {
            broken += self.faults(rows).await?;
        }
        if let Some(seconds) = self.arguments.soak {
            broken += self.soak(Duration::from_secs(seconds), rows).await?;
        }
        Ok(broken)
    }

    /// The time until every node refuses.
    async fn measure(&self, push: Push, rows: &mut Vec<Row>) -> Result<usize, Failure> {
        let push = if self.store.pushes() { push } else { Push::Off };
        let how = push.name();
        let (count, pace, targets) = push.pace(self.arguments.revokes);
        let pace = if self.store.is_slow() { pace.one_at_a_time() } else { pace };
        self.say(&format!("{count} revocations, {how}"));
        let settings = [format!("engine.push={}", push != Push::Off), revokes::SETTING.to_owned()];
        let is_proxied = push == Push::Stalled;
        let plan = Plan { is_proxied, ..self.plan(how, &settings, LIMITS) };
        let fleet = Arc::new(Fleet::start(plan).await?);
        if is_proxied {
            fleet.proxy.as_ref().ok_or("there is no proxy")?.set(Mode::StallPush);
        }
        let refusals = revokes::measure(&fleet, count, pace, self.volume()).await?;
        let name = format!("{}, {how}", self.store.name());
        rows.extend(refusals.rows(&name, targets, LIMITS.bound));
        audit::run(&fleet).await?;
        self.close(&fleet, how, rows).await
    }

    async fn faults(&self, rows: &mut Vec<Row>) -> Result<usize, Failure> {
        let fleet = self.disturbed_fleet("faults", &[]).await?;
        self.happen(&fleet, rows).await?;
        self.close(&fleet, "faults", rows).await
    }

    async fn happen(&self, fleet: &Arc<Fleet>, rows: &mut Vec<Row>) -> Result<(), Failure> {
        for fault in Fault::chosen(&self.arguments.fault, self.arguments.quick) {
            self.say(&fault.name());
            let is_killable = self.arguments.killable.contains(&self.store);
            if let Some(left_out) = fault.left_out(fleet, is_killable) {
                rows.push(left_out);
                continue;
            }
            rows.extend(faults::happen(fault, fleet, self.busy(), &self.charts()).await?);
        }
        Ok(())
    }

    async fn soak(&self, length: Duration, rows: &mut Vec<Row>) -> Result<usize, Failure> {
        self.say(&format!("full load for {} s", length.as_secs()));
        let plan = self.plan("soak", &[soak::SETTING.to_owned()], LIMITS);
        let fleet = Arc::new(Fleet::start(plan).await?);
        rows.extend(soak::run(&fleet, length, self.arguments.connections.into()).await?);
        self.close(&fleet, "soak", rows).await
    }

    async fn quick(&self, rows: &mut Vec<Row>) -> Result<usize, Failure> {
        let begun = Instant::now();
        let fleet = self.disturbed_fleet("quick", &[revokes::SETTING.to_owned()]).await?;
        let count = self.arguments.revokes;
        if count > 0 {
            let refusals = revokes::measure(&fleet, count, Pace::PUSHED, self.volume()).await?;
            let name = format!("{}, quick", self.store.name());
            rows.extend(refusals.rows(&name, None, LIMITS.bound));
        }
        self.happen(&fleet, rows).await?;
        self.say(&format!("done in {:.0?}", begun.elapsed()));
        self.close(&fleet, "quick", rows).await
    }

    /// Looks for panics, and shows how often guarantees broke in all.
    async fn close(
        &self,
        fleet: &Fleet,
        phase: &str,
        rows: &mut Vec<Row>,
    ) -> Result<usize, Failure> {
        audit::processes(fleet).await?;
        let (name, broken) =
            (self.store.name(), fleet.books.broken(self.arguments.breaks.as_deref()));
        let name = format!("{name}, {phase}: broken guarantees");
        rows.push(Row::at_most(name, Some(broken as f64), "", 0.0));
        Ok(broken)
    }

    /// One to which faults happen.
    async fn disturbed_fleet(
        &self,
        phase: &str,
        settings: &[String],
    ) -> Result<Arc<Fleet>, Failure> {
        let settings = [&impatient()[..], settings].concat();
        let faketime = self.arguments.faketime.clone();
        let plan = Plan { is_proxied: true, faketime, ..self.plan(phase, &settings, IMPATIENT) };
        Ok(Arc::new(Fleet::start(plan).await?))
    }

    fn plan(&self, phase: &str, settings: &[String], limits: Limits) -> Plan {
        // A long run must not ask the admin for the password again.
        let settings = [&["http.fresh_within=86400".to_owned()], settings].concat();
        Plan {
            program: self.arguments.program.clone(),
            store: self.store,
            nodes: self.arguments.nodes.into(),
            folder: self.charts().join(format!("{}-{phase}", self.store.name()).replace(' ', "-")),
            settings,
            limits,
            is_proxied: false,
            faketime: None,
            planted: self.arguments.planted.clone(),
        }
    }

    /// Beside a measurement: changes on the first node only.
    fn volume(&self) -> Volume {
        Volume {
            connections: self.arguments.connections.into(),
            pause: THINK,
            revoke_every: self.store.revoke_every(),
            changes: Changes::OnTheFirst,
            change_every: None,
        }
    }

    /// While faults happen: changes of every kind.
    fn busy(&self) -> Volume {
        Volume { change_every: Some(self.store.revoke_every()), ..self.volume() }
    }

    fn charts(&self) -> PathBuf {
        self.arguments.out.join("fleet")
    }

    fn say(&self, what: &str) {
        eprintln!("{}: {what}", self.store.name());
    }
}

/// What the demo is told, so that a fault need not last long to matter.
fn impatient() -> [String; 2] {
    let staleness = IMPATIENT.staleness.as_secs();
    [format!("engine.max_staleness={staleness}"), "engine.store_timeout=2".to_owned()]
}

/// The demo's own.
const LIMITS: Limits = Limits { bound: Duration::from_secs(1), staleness: Duration::from_secs(30) };
const IMPATIENT: Limits = Limits { staleness: Duration::from_secs(3), ..LIMITS };
/// So many are done before a node finds out that its push is gone.
const MOST_STALLED: usize = 25;
/// Between two requests on a connection.
const THINK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_fails_all_but_the_short_form() {
        let rows =
            [Row::at_most("a", Some(6.0), "ms", 5.0), Row::at_most("b", Some(5.0), "ms", 5.0)];
        assert_eq!(Outcome::of(0, &rows, false).missed, ["a"]);
        assert_eq!(Outcome::of(1, &rows, true), Outcome { broken: 1, missed: vec![] });
    }
}

//! A run: nodes, the way between them and the store, users, faults, on one simulated time.
//!
//! Everything that crosses between a node and the rest of the world is an event with a time, and events
//! happen in the order of their times. A node runs on its own until the next event, and stops when
//! something leaves it. What a node asks for arrives later than it was sent, so no node is ever ahead of
//! an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};

use session_core::store::{HistoryQuery, Needs, PageQuery, Selection, TenantFilter};
use session_core::{ClientId, Session, SessionId, Timestamp};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::call::{Answer, Call, Reply};
use crate::client::{self, Outcome, Seen, Sent};
use crate::node::{Claims, Done, Process, Wall};
use crate::oracle::{Begun, Copied, Ends, Oracle, Sender, Setting, Shown, Violation, Worth, ms};
use crate::plan::{Act, Chosen, Fault, Manner, Ms, Place, Plan, Step, Weather};
use crate::reached::Reached;
use crate::store::{Below, Clock};
use crate::trace::Trace;
use crate::wire::Request;

use self::pace::Concerns;

/// What a run has shown.
pub(crate) struct Run {
    pub(crate) violation: Option<Violation>,
    pub(crate) reached: Reached,
    /// Of everything that was observed, in order, if that is wanted.
    pub(crate) digest: u64,
    pub(crate) trace: Trace,
}

/// What is kept of a run beside its judgement: to write down all that happens takes a tenth of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Nothing,
    Digest,
    /// The digest, and the history.
    Trace,
}

/// Runs a plan.
pub(crate) fn run(plan: &Plan, keep: Keep) -> Run {
    let mut world = World::new(plan, keep);
    world.work();
    let World { oracle, trace, digest, .. } = world;
    let Oracle { violation, reached, .. } = oracle;
    Run { violation, reached, digest: digest.map_or(0, |digest| digest.finish()), trace }
}

struct World<'p> {
    plan: &'p Plan,
    now: Ms,
    events: BTreeMap<(Ms, u64), Happening>,
    number: u64,
    rng: fastrand::Rng,
    nodes: Vec<Node>,
    store: Below,
    clock: Clock,
    copy: Option<(Copied, Below)>,
    away_until: Ms,
    /// Until when something is under way that a hint may concern.
    busy_until: Ms,
    /// For how long the node that is next given the cleanup's lease is not scheduled then.
    stop_holder: Option<Ms>,
    clients: Vec<Device>,
    claims: Claims,
    operations: Vec<Operation>,
    oracle: Oracle,
    trace: Trace,
    digest: Option<DefaultHasher>,
}

struct Node {
    process: Option<Process>,
    state: State,
    wall: Wall,
    /// When an event last gave it something to do.
    stirred: Ms,
    weather: (Weather, Ms),
    lost_pushes_until: Ms,
    late_pushes_until: Ms,
    older: bool,
    newer: bool,
    /// Its next process has another seed.
    seeds: u64,
    stopping: Option<Ms>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runs,
    Stopped,
    Asleep,
    Down,
}

/// A client's device, and what it holds.
#[derive(Default)]
struct Device {
    token: Option<String>,
    /// The one before it.
    before: Option<String>,
    /// A thief's copy.
    stolen: Option<String>,
    ticket: Option<Ticket>,
    last_ticket: Option<Ticket>,
}

/// What a client was given whose sign-in a limit has refused.
#[derive(Clone)]
struct Ticket {
    text: String,
    /// The sessions that it may choose from.
    sessions: Vec<SessionId>,
    /// The session that it held.
    held: Option<SessionId>,
    /// When the sign-in began that was refused, and when it was.
    refused: (Ms, Ms),
    /// Sessions that the limit has surely counted.
    counted: Vec<SessionId>,
}

/// A ticket in use, and the session that its client has chosen to end.
struct TicketUse {
    ticket: Ticket,
    end: SessionId,
}

struct Operation {
    act: Act,
    manner: Manner,
    begun: Begun,
    token: Option<String>,
    worth: Option<Worth>,
    held: Option<SessionId>,
    ticket: Option<TicketUse>,
    /// The claims' version that it tells.
    claims: u64,
    /// What it ends.
    selection: Option<Selection>,
    task: Option<AbortHandle>,
    left: Option<Ms>,
    over: bool,
}

/// Something that happens at its time.
enum Happening {
    Step(usize),
    Arrives {
        node: usize,
        life: u32,
        sent: Ms,
        request: Request,
        fate: Fate,
    },
    Answers(Box<Answering>),
    Hint(usize),
    Leaves(usize),
    /// A node has stopped in order.
    Gone(usize),
    Start(usize),
    Thaw(usize),
    RightClock(usize),
    /// Work has been over for long enough that every use is written back.
    CheckUses,
}

/// An answer on its way.
struct Answering {
    node: usize,
    life: u32,
    sent: Ms,
    carried_out: Ms,
    call: Box<Call>,
    answer: Answer,
    to: oneshot::Sender<Answer>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    /// It fails without having arrived.
    Fails,
    /// It is carried out, and the answer says that it failed.
    AnswerLost,
    /// It is carried out, and nothing is answered.
    Unanswered,
}

impl<'p> World<'p> {
    fn new(plan: &'p Plan, keep: Keep) -> Self {
        let clock = Clock::new();
        let history = plan.options.history.keep.unwrap_or_default();
        let needs = Needs { history, max_staleness: plan.options.max_staleness };
        let store = Below::open(plan.store, &clock, needs);
        let node = || Node {
            process: None,
            state: State::Down,
            wall: Wall::default(),
            stirred: 0,
            weather: (Weather::Clear, 0),
            lost_pushes_until: 0,
            late_pushes_until: 0,
            older: false,
            newer: false,
            seeds: 0,
            stopping: None,
        };
        let mut world = Self {
            plan,
            now: 0,
            events: BTreeMap::new(),
            number: 0,
            rng: fastrand::Rng::with_seed(plan.seed ^ 0x05ee_d0f0_af1e_e700),
            nodes: (0..plan.nodes).map(|_| node()).collect(),
            store,
            clock,
            copy: None,
            away_until: 0,
            busy_until: 0,
            stop_holder: None,
            clients: plan.clients.iter().map(|_| Device::default()).collect(),
            claims: Claims::default(),
            operations: Vec::new(),
            oracle: Oracle::new(plan),
            trace: Trace::new(keep == Keep::Trace, plan.nodes),
            digest: (keep != Keep::Nothing).then(DefaultHasher::new),
        };
        for node in 0..plan.nodes {
            world.at(1 + node as Ms, Happening::Start(node));
        }
        world.at(plan.active + 45_000, Happening::CheckUses);
        for (index, step) in plan.steps.iter().enumerate() {
            world.at(step.at, Happening::Step(index));
        }
        world
    }

    /// Something happens at this time, or now where a node that is behind has caused it. Returns when.
    fn at(&mut self, at: Ms, happening: Happening) -> Ms {
        self.number += 1;
        let at = at.max(self.now);
        self.events.insert((at, self.number), happening);
        at
    }

    fn note(&mut self, node: Option<usize>, at: Ms, text: impl FnOnce() -> String) {
        let Some(digest) = &mut self.digest else { return };
        let text = text();
        digest.write_u64(at);
        digest.write_u64(node.map_or(u64::MAX, |node| node as u64));
        digest.write(text.as_bytes());
        self.trace.note(node, at, text);
    }

    /// Into the digest goes all of it, also what is not told.
    fn digest(&mut self, whole: &impl fmt::Debug) {
        if let Some(digest) = &mut self.digest {
            let _ = write!(Hashed(digest), "{whole:?}");
        }
    }

    fn work(&mut self) {
        let end = self.plan.end();
        while self.oracle.violation.is_none() {
            let next = self.events.first_key_value();
            let next = next.map(|((at, _), happening)| (*at, self.concerns(happening)));
            let (next, whom) = next.filter(|(at, _)| *at < end).unwrap_or((end, Concerns::All));
            if self.advance(next, whom) {
                continue;
            }
            if next >= end {
                self.audit(end);
                return;
            }
            if let Some(((at, _), happening)) = self.events.pop_first() {
                self.now = at;
                self.clock.set(at);
                self.happen(happening);
                if let Concerns::Node(node) = whom {
                    self.nodes[node].stirred = at;
                }
            }
        }
    }

    /// Takes what has left a node, and what is done there. Returns when the first of it happens.
    fn collect(&mut self, index: usize, time: Ms) -> Ms {
        let Some(process) = &self.nodes[index].process else { return Ms::MAX };
        let (requests, done) = (process.outbox.take(), process.inbox.take());
        let mut earliest = Ms::MAX;
        for done in done {
            self.done(index, time, done);
        }
        for request in requests {
            earliest = earliest.min(self.send(index, time, request));
        }
        earliest
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Step(index) => self.step(index),
            Happening::Arrives { node, life, sent, request, fate } => {
                self.arrive(node, life, sent, request, fate);
            }
            Happening::Answers(answering) => self.answer(*answering),
            Happening::Hint(node) => {
                if let Some(process) = &self.nodes[node].process {
                    process.outbox.hint.notify_one();
                }
            }
            Happening::Leaves(number) => self.leave(number),
            Happening::Gone(node) => self.kill(node),
            Happening::Start(node) => self.start(node),
            Happening::Thaw(node) => self.thaw(node),
            Happening::CheckUses => {
                let stored = all_sessions(&self.store);
                self.oracle.check_uses(self.now, &stored);
            }
            Happening::RightClock(node) => {
                self.nodes[node].wall.skew(0);
                self.nodes[node].wall.stand_still(None);
            }
        }
    }

    fn start(&mut self, node: usize) {
        self.oracle.new_life(node, self.now);
        let seeds = self.nodes[node].seeds;
        self.nodes[node].seeds += 1;
        let seed = self.plan.seed.wrapping_mul(1_000_003) ^ (node as u64) << 32 ^ seeds;
        let process = Process::start(
            self.now,
            seed,
            &self.plan.options,
            &self.nodes[node].wall,
            &self.claims,
        );
        self.nodes[node].process = Some(process);
        self.nodes[node].state = State::Runs;
        self.nodes[node].stopping = None;
        let at = self.now;
        self.note(Some(node), at, || "starts".to_owned());
    }

    fn thaw(&mut self, node: usize) {
        let at = self.now;
        let state = self.nodes[node].state;
        let wall = self.nodes[node].wall.clone();
        let Some(process) = &mut self.nodes[node].process else { return };
        match state {
            State::Stopped => process.resume(at),
            State::Asleep => process.wake(at, &wall),
            State::Runs | State::Down => return,
        }
        self.nodes[node].state = State::Runs;
        self.note(Some(node), at, || "goes on".to_owned());
        let time = self.nodes[node].process.as_ref().map_or(at, Process::now);
        self.collect(node, time);
    }

    /// The process ends in the middle of what it does.
    fn kill(&mut self, node: usize) {
        self.nodes[node].process = None;
        self.nodes[node].state = State::Down;
        let life = self.oracle.life(node);
        self.oracle.new_life(node, self.now);
        for number in 0..self.operations.len() {
            let operation = &mut self.operations[number];
            if operation.begun.node == node && operation.begun.life == life && !operation.over {
                operation.over = true;
                self.used_until(number, self.now);
            }
        }
        let operations = &self.operations;
        let of_node = |number: usize| {
            operations.get(number).is_none_or(|operation| {
                operation.begun.node == node && operation.begun.life == life
            })
        };
        self.oracle.orphan_unacknowledged(of_node);
    }

    fn done(&mut self, node: usize, at: Ms, done: Done) {
        match done {
            Done::Started(started) => match *started {
                Ok(http) => {
                    self.note(Some(node), at, || "has started".to_owned());
                    if let Some(process) = &mut self.nodes[node].process {
                        process.http = Some(http);
                    }
                    self.oracle.node_started(node, at);
                }
                Err(error) => {
                    self.note(Some(node), at, || format!("cannot start: {error}"));
                    self.at(at + 500, Happening::Start(node));
                }
            },
            Done::Stopped => {
                self.note(Some(node), at, || "has stopped".to_owned());
                self.oracle.has_left(node, at);
                let again = self.nodes[node].stopping.unwrap_or(1_000);
                self.at(at + again, Happening::Start(node));
                // Dropped with the next event: it is in use here.
                self.at(at, Happening::Gone(node));
            }
            Done::Operation(number, outcome) => self.settle(number, at, *outcome),
            Done::Notice(notice) => {
                self.note(Some(node), at, || format!("tells {notice:?}"));
                self.oracle.told(node, at, &notice);
            }
        }
    }

    fn audit(&mut self, at: Ms) {
        let stored = all_sessions(&self.store);
        self.oracle.audit(at, &stored, self.plan.end() - Plan::IDLE);
        let owners: BTreeSet<_> = self.plan.clients.iter().map(|client| &client.user).collect();
        for owner in owners {
            let mut query = HistoryQuery::user(owner.clone());
            query.limit = PageQuery::MAX_LIMIT;
            if let Ok(Reply::History(page)) = self.store.perform(&Call::History(query)) {
                self.oracle.check_forgotten(at, &page.sessions);
            }
        }
    }
}

/// Takes text into a digest.
struct Hashed<'h>(&'h mut DefaultHasher);

impl Write for Hashed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// What the store has.
fn all_sessions(store: &Below) -> Vec<Session> {
    let mut query = PageQuery::live(TenantFilter::Any, Timestamp::EPOCH);
    query.limit = PageQuery::MAX_LIMIT;
    let mut sessions = Vec::new();
    while let Ok(Reply::Page(page)) = store.perform(&Call::Page(query.clone())) {
        sessions.extend(page.sessions);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    sessions
}

/// For how long an operation is taken to be of consequence.
const BUSY: Ms = 1_500;

mod calls;
mod faults;
mod pace;
mod steps;
mod wanted;
mod words;

//! Knows what is true, and judges what nodes say.
//!
//! It sees every call at the moment at which the store carries it out, in the store's order, and every
//! answer that a client gets. Its bounds come from the run's settings and from the faults that the plan
//! has injected, never from what a run shows.

mod audit;
mod carried;
mod changes;
mod guarantee;
mod lists;
mod settled;

pub(crate) use self::carried::From;
pub(crate) use self::guarantee::Guarantee;
pub(crate) use self::settled::{Shown, Worth};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use session_core::block::Block;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::{LogPage, Version};
use session_core::{EndCause, Session, SessionId, Timestamp, UserKey};
use session_engine::{Notice, Options};

use crate::node::stamp;
use crate::plan::{Ms, Plan};
use crate::reached::Reached;

/// How much was set when the store was copied.
#[derive(Clone, Copy)]
pub(crate) struct Copied {
    at: Ms,
    policies: usize,
    blocks: usize,
}

/// A guarantee that does not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// Which one: by it two runs can be compared.
    pub(crate) kind: Guarantee,
    pub(crate) at: Ms,
    pub(crate) text: String,
}

pub(crate) struct Oracle {
    options: Options,
    sessions: BTreeMap<SessionId, Known>,
    /// Every policy that was ever set, in the store's order.
    policies: Vec<(Ms, PolicyScope, Option<Policy>)>,
    blocks: Vec<(Ms, PolicyScope, Option<Block>)>,
    nodes: Vec<NodeFacts>,
    /// When a node first read a user at a version.
    reads: BTreeMap<(usize, UserKey, i64), Ms>,
    /// The next token that a token was answered with, until that one is used.
    successors: BTreeMap<String, String>,
    /// When the user has proved who they are with each token that a client was given.
    proven: BTreeMap<String, Proven>,
    /// When a token was last shown to be exchanged for that of a re-authentication.
    steps_up: BTreeMap<String, Ms>,
    used_tickets: BTreeSet<String>,
    /// Changes of claims that have been told: user, version, when.
    claims: Vec<(UserKey, u64, Ms)>,
    /// Waits for the end of a session: which, where, since when, and when it was over.
    waits: BTreeMap<usize, Wait>,
    /// The sessions of a user when a list of them was asked for, and until when the store has each.
    lists: BTreeMap<usize, Vec<(SessionId, Timestamp)>>,
    /// Changes in the last part of the run.
    idle_changes: u32,
    /// The node that has the cleanup's lease, by the store.
    leased_by: Option<(usize, u32)>,
    /// When entries were appended to the log.
    appended: Vec<Ms>,
    /// When the store came back older.
    restored: Option<Ms>,
    pub(crate) reached: Reached,
    pub(crate) violation: Option<Violation>,
}

/// What is true of a session.
struct Known {
    /// The record as the store has it, or had it last.
    session: Session,
    born: Ms,
    /// The operation that began it, and whether its client was told.
    begun_by: Option<usize>,
    acknowledged: bool,
    /// Nobody has to hold it: the node was killed, or the store has forgotten what came after.
    excused: bool,
    /// The store that came back older has lost its begin, or its end.
    undone: bool,
    ended: Option<End>,
    /// The last request that was accepted.
    used: Option<Use>,
    /// The last request that may have been.
    perhaps_used: Ms,
    /// The one before.
    last_before: Ms,
    stolen: bool,
    /// A request waits, or has waited, at a node that was not running: its token may be old by then.
    delayed: bool,
    /// Nodes that have ended it and said so.
    ended_on: Vec<(usize, Ms)>,
    /// How often the application has changed its number: surely, and at most.
    counted: u64,
    perhaps_counted: u64,
    /// Uses that the store does not know of yet.
    unstored: Vec<Unstored>,
    /// When what was kept of it after its end was deleted.
    forgotten: Option<Ms>,
}

/// When a user has proved who they are, by what the client has done and was answered.
#[derive(Clone, Debug)]
struct Proven {
    /// At the latest.
    at: Ms,
    /// The token that was exchanged for a re-authentication: one that is repeated gives the same token.
    stepped_up_from: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    at: Ms,
    cause: EndCause,
}

#[derive(Clone, Copy, Debug)]
struct Use {
    at: Ms,
    node: usize,
    life: u32,
}

/// A request that was accepted, and when it was counted at the latest.
struct Unstored {
    used: Use,
    counted: Ms,
}

struct Wait {
    begun: Ms,
    node: usize,
    life: u32,
    id: SessionId,
    over: Option<Ms>,
}

#[derive(Default)]
struct NodeFacts {
    /// How often it has been started.
    life: u32,
    /// When the last complete read of the log was sent, and carried out.
    heard_sent: Option<Ms>,
    heard: Option<Ms>,
    /// The same of a read whose answer has just come, and when: the node works with it from then on.
    hearing: Option<(Ms, Ms)>,
    /// When the answer came that gave it the cleanup's lease.
    leased: Option<Ms>,
    /// What it has asked for with that lease: a batch of sessions, a batch of the log.
    swept: bool,
    trimmed: bool,
    /// When the last complete read of the log was carried out, and that before the last gap with the gap.
    read: Option<Ms>,
    gap: Option<(Option<Ms>, Ms)>,
    /// The store has come back older since it last found a gap.
    restored: bool,
    /// When it did so without anything that the node had read of the log being lost.
    unnoticed: Option<Ms>,
    disturbed: Vec<(Ms, Ms)>,
    /// When it was stopped, and until when.
    stops: Vec<(Ms, Ms)>,
    listener: Option<Listener>,
    /// Calls that an idle node makes, in the last part of the run.
    idle_calls: u32,
    /// Live sessions that it has answered for since its cache was empty.
    cached: BTreeSet<SessionId>,
}

/// What a node has told its listener.
struct Listener {
    since: Ms,
    told: BTreeMap<SessionId, Vec<(Ms, EndCause)>>,
    /// Between which reads of the log it has missed something.
    missed: Vec<(Option<Ms>, Ms)>,
}

impl Listener {
    /// What it was told of the session that began then: a ticket that a restored store has not seen used begins
    /// a session of the same id again.
    fn told_since(&self, id: SessionId, born: Ms) -> &[(Ms, EndCause)] {
        let told = self.told.get(&id).map_or(&[][..], Vec::as_slice);
        &told[told.partition_point(|(at, _)| *at < born)..]
    }
}

/// What was true when an operation began, as far as its judgement needs it.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(crate) at: Ms,
    pub(crate) node: usize,
    pub(crate) life: u32,
    /// When the last complete read of the log that had arrived was carried out.
    pub(crate) heard: Option<Ms>,
}

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Self {
        let nodes = (0..plan.nodes).map(|_| NodeFacts::default()).collect();
        Self {
            options: plan.options.clone(),
            sessions: BTreeMap::new(),
            policies: Vec::new(),
            blocks: Vec::new(),
            nodes,
            reads: BTreeMap::new(),
            successors: BTreeMap::new(),
            proven: BTreeMap::new(),
            steps_up: BTreeMap::new(),
            leased_by: None,
            used_tickets: BTreeSet::new(),
            claims: Vec::new(),
            waits: BTreeMap::new(),
            lists: BTreeMap::new(),
            idle_changes: 0,
            appended: Vec::new(),
            restored: None,
            reached: Reached::default(),
            violation: None,
        }
    }

    /// Notes that a guarantee is broken. The first one counts: others may follow from it.
    fn broken(&mut self, kind: Guarantee, at: Ms, text: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { kind, at, text: text() });
        }
    }

    pub(crate) fn odd(&mut self, at: Ms, text: &str) {
        self.broken(Guarantee::Odd, at, || text.to_owned());
    }

    /// A fault begins on a node. What it leaves behind is over when calls that were under way have been
    /// given up and tried again.
    pub(crate) fn disturb(&mut self, node: usize, from: Ms, until: Ms) {
        let recovery = ms(self.options.store_timeout * 4 + self.options.propagation_bound);
        self.nodes[node].disturbed.push((from, until + recovery));
    }

    /// A node is not scheduled for a while, or its machine sleeps.
    pub(crate) fn stop(&mut self, node: usize, from: Ms, until: Ms) {
        self.disturb(node, from, until);
        self.nodes[node].stops.push((from, until));
    }

    /// Whether a node was stopped at this time, for longer than any read of the log takes, and the request
    /// came after it, or has waited for longer than the bound.
    fn slept_through(&self, begun: &Begun, at: Ms) -> bool {
        let least = ms(self.options.store_timeout + self.options.propagation_bound * 2);
        let mut stops = self.nodes[begun.node].stops.iter();
        stops.any(|(from, until)| {
            let came_late = *until <= begun.at || at + self.bound() < begun.at;
            until - from > least && (*from..*until).contains(&at) && came_late
        })
    }

    /// Whether no fault has touched a node in this time.
    fn is_calm(&self, node: usize, from: Ms, until: Ms) -> bool {
        self.nodes[node].disturbed.iter().all(|(begun, over)| *over < from || *begun > until)
    }

    /// How far a node may be wrong about the store's time: it learns it from answers, which take less
    /// than the time limit.
    fn time_error(&self) -> Ms {
        ms(self.options.store_timeout)
    }

    fn bound(&self) -> Ms {
        ms(self.options.propagation_bound)
    }

    pub(crate) fn begun(&self, node: usize, at: Ms) -> Begun {
        let facts = &self.nodes[node];
        let arrived = facts.hearing.filter(|(arrived, _)| *arrived < at).map(|(_, heard)| heard);
        Begun { at, node, life: facts.life, heard: facts.heard.max(arrived) }
    }

    pub(crate) fn node_started(&mut self, node: usize, at: Ms) {
        let facts = &mut self.nodes[node];
        facts.listener = Some(Listener { since: at, told: BTreeMap::new(), missed: Vec::new() });
    }

    /// A process begins or ends.
    pub(crate) fn new_life(&mut self, node: usize) {
        let facts = &mut self.nodes[node];
        facts.life += 1;
        (facts.heard, facts.hearing) = (None, None);
        (facts.heard_sent, facts.leased) = (None, None);
        (facts.read, facts.gap, facts.restored) = (None, None, false);
        facts.unnoticed = None;
        facts.listener = None;
        facts.cached.clear();
    }

    pub(crate) fn life(&self, node: usize) -> u32 {
        self.nodes[node].life
    }

    /// The answer to a read of the log has arrived.
    pub(crate) fn log_arrived(
        &mut self,
        at: Ms,
        node: usize,
        page: &LogPage,
        sent: Ms,
        carried_out: Ms,
    ) {
        let facts = &mut self.nodes[node];
        if page.gap {
            facts.cached.clear();
            facts.gap = Some((facts.read, carried_out));
            self.reached.note(if std::mem::take(&mut facts.restored) {
                "a gap in the log after the store came back older"
            } else {
                "a gap in the log that the cleanup has made"
            });
        }
        if !page.more {
            facts.read = facts.read.max(Some(carried_out));
            let (arrived, before) = facts.hearing.unwrap_or_default();
            if arrived < at {
                facts.heard = facts.heard.max(facts.hearing.map(|_| before));
            }
            facts.hearing = Some((at, carried_out.max(before)));
            facts.heard_sent = facts.heard_sent.max(Some(sent));
        }
    }

    pub(crate) fn lease_arrived(&mut self, node: usize, at: Ms) {
        let facts = &mut self.nodes[node];
        facts.leased = Some(at);
        (facts.swept, facts.trimmed) = (false, false);
    }

    /// A node tells its listener.
    pub(crate) fn told(&mut self, node: usize, at: Ms, notice: &Notice) {
        let gap = self.nodes[node].gap;
        let Some(listener) = &mut self.nodes[node].listener else { return };
        match notice {
            Notice::Event(event) => {
                if let (session_core::EventKind::Ended(cause), Some(id)) =
                    (event.kind, event.session)
                {
                    listener.told.entry(id).or_default().push((at, cause));
                    self.check_telling(node, at, id, cause);
                }
            }
            Notice::Missed => {
                listener.missed.push(gap.unwrap_or((None, at)));
                self.reached.note("a listener is told that it missed something");
            }
            _ => {}
        }
    }

    pub(crate) fn is_live(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|known| known.ended.is_none())
    }

    /// Sessions of a user that the store has.
    fn live_of<'o>(&'o self, owner: &'o UserKey) -> impl Iterator<Item = &'o Known> {
        let mine = move |known: &&Known| known.ended.is_none() && known.session.owner == *owner;
        self.sessions.values().filter(mine)
    }

    /// The policies that held for a user at some moment of this time: also the one before a change that came
    /// in its first millisecond.
    fn policies_within(&self, owner: &UserKey, from: Ms, until: Ms) -> Vec<Policy> {
        let places = PolicyScope::of(owner);
        let mut layers = PolicyLayers::default();
        let mut held = Vec::new();
        let concerns = |scope: &PolicyScope| places.contains(scope);
        for (at, scope, policy) in &self.policies {
            if *at > until {
                break;
            }
            if !concerns(scope) {
                continue;
            }
            if *at >= from {
                held.push(layers.clone().resolve(&self.options.default_policy));
            }
            layers.set(scope, policy.clone());
        }
        held.push(layers.resolve(&self.options.default_policy));
        held
    }

    /// Whether a block held for a user at a moment.
    fn is_blocked(&self, owner: &UserKey, at: Ms) -> bool {
        let places = PolicyScope::of(owner);
        places.iter().any(|place| {
            let before =
                |(set, scope, _): &&(Ms, PolicyScope, Option<Block>)| *set <= at && scope == place;
            let last = self.blocks.iter().rev().find(before);
            last.and_then(|(.., block)| block.as_ref()).is_some_and(|block| block.holds(stamp(at)))
        })
    }

    /// Whether a block held at some moment of this time, give or take what a node may be wrong about it.
    fn was_blocked(&self, owner: &UserKey, from: Ms, until: Ms) -> bool {
        let from = from.saturating_sub(self.time_error());
        let changes =
            self.blocks.iter().map(|(at, ..)| *at).filter(|at| (from..=until).contains(at));
        changes.chain([from]).any(|at| self.is_blocked(owner, at))
    }

    /// The store is copied.
    pub(crate) fn copied(&self, at: Ms) -> Copied {
        Copied { at, policies: self.policies.len(), blocks: self.blocks.len() }
    }

    /// The store came back as it was copied, with these sessions: what happened since then did not
    /// happen.
    pub(crate) fn restored(&mut self, copied: Copied, at: Ms, stored: Vec<Session>) {
        self.restored = Some(at);
        for node in &mut self.nodes {
            node.restored = true;
            // What it has read of the log is all there.
            let lost = |entry: &Ms| copied.at < *entry && Some(*entry) <= node.read;
            node.unnoticed = (!self.appended.iter().any(lost)).then_some(at);
        }
        let there = |id: &SessionId| stored.iter().any(|session| session.id == *id);
        for (id, known) in &mut self.sessions {
            known.excused = true;
            known.undone |= known.ended.is_none() != there(id);
            known.ended.get_or_insert(End { at, cause: EndCause::Unknown });
        }
        for session in stored {
            if let Some(known) = self.sessions.get_mut(&session.id) {
                known.session = session;
                known.ended = None;
            }
        }
        self.policies.truncate(copied.policies);
        self.blocks.truncate(copied.blocks);
        self.reads.clear();
        self.successors.clear();
    }

    fn version_read(&mut self, node: usize, owner: &UserKey, version: Version, at: Ms) {
        self.reads.entry((node, owner.clone(), version.0)).or_insert(at);
    }
}

pub(crate) fn ms(duration: Duration) -> Ms {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! Knows what is true, and judges what nodes say.
//!
//! It sees every call at the moment at which the store carries it out, in the store's order, and every
//! answer that a client gets. Its bounds come from the run's settings and from the faults that the plan
//! has injected, never from what a run shows.

mod admission;
mod asked;
mod audit;
mod carried;
mod changes;
mod guarantee;
mod listener;
mod lists;
mod settled;
mod tokens;

pub(crate) use self::asked::{Ends, Setting};
pub(crate) use self::carried::Sender;
pub(crate) use self::guarantee::Guarantee;
pub(crate) use self::settled::Shown;
pub(crate) use self::tokens::{Worth, id_of};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{LogPage, Version};
use session_core::{EndCause, Session, SessionId, Timestamp, UserKey};
use session_engine::Options;

use self::listener::Listener;
use crate::node::stamp;
use crate::plan::{Act, Ms, Plan};
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
    /// Something goes wrong in the run.
    faulty: bool,
    sessions: BTreeMap<SessionId, Known>,
    /// What operations were to end, or may have.
    asked: Vec<asked::Asked>,
    /// Policies and blocks that operations were to set, and when they began.
    settings: Vec<(Ms, PolicyScope, Setting)>,
    /// Every policy that was ever set, in the store's order.
    policies: Vec<(Ms, PolicyScope, Option<Policy>)>,
    blocks: Vec<(Ms, PolicyScope, Option<Block>)>,
    nodes: Vec<NodeFacts>,
    /// When a node first read a user at a version.
    reads: BTreeMap<(usize, UserKey, i64), Ms>,
    /// The next token that a token was answered with, until that one is used.
    successors: BTreeMap<String, String>,
    /// Every token that a client was given.
    tokens: BTreeMap<String, tokens::Handed>,
    /// When a token was shown to be exchanged for that of a re-authentication: the first time, and the last.
    steps_up: BTreeMap<String, (Ms, Ms)>,
    /// When a ticket has worked.
    used_tickets: BTreeMap<String, Ms>,
    /// How often each ticket has left its client.
    tickets_sent: BTreeMap<String, u32>,
    /// Changes of claims that have been told: user, version, when.
    claims: Vec<(UserKey, u64, Ms)>,
    /// Waits for the end of a session: which, where, since when, and when it was over.
    waits: BTreeMap<usize, Wait>,
    /// The sessions of a user when a list of them was asked for, and until when the store has each.
    lists: BTreeMap<usize, Vec<(SessionId, Timestamp)>>,
    /// Changes in the last part of the run.
    idle_changes: u32,
    /// The node that has the cleanup's lease, by the store, and until when.
    leased_by: Option<((usize, u32), Ms)>,
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
    /// When the store carried out its begin, and when that was sent.
    born: Ms,
    sent: Ms,
    /// The operation that began it, and whether its client was told.
    begun_by: Option<usize>,
    acknowledged: bool,
    /// Nobody has to hold it: the node that began it was killed.
    orphaned: bool,
    /// The store that came back older has another record of it than there was, or has none.
    excused: bool,
    /// When it brought the session back, with the tokens that it had.
    back: Option<Ms>,
    /// The store that came back older has lost its begin, or its end.
    undone: bool,
    ended: Option<End>,
    /// The last request that was accepted.
    used: Option<Use>,
    /// The last request that may have been.
    perhaps_used: Ms,
    /// Requests with its tokens that have not been answered yet.
    under_way: u32,
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
    /// When the store last learned of a use.
    written: Ms,
    /// Uses that the store does not know of yet.
    unstored: Vec<Unstored>,
    /// When its user was told that what is kept of it after its end is deleted.
    erased: Option<Ms>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    at: Ms,
    cause: EndCause,
    /// A node has ended it of its own accord: nobody was to hold it.
    taken_back: bool,
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
    /// How many faults there were once it had begun to stop in order.
    leaving: Option<usize>,
    listener: Option<Listener>,
    /// Calls that an idle node makes, in the last part of the run.
    idle_calls: u32,
    /// How often it then looks for a session that it owes the end of and that is not there.
    idle_looks: BTreeMap<SessionId, u32>,
    /// Live sessions that it has answered for since its cache was empty.
    cached: BTreeSet<SessionId>,
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
            faulty: plan.steps.iter().any(|step| matches!(step.act, Act::Fault(_))),
            sessions: BTreeMap::new(),
            asked: Vec::new(),
            settings: Vec::new(),
            policies: Vec::new(),
            blocks: Vec::new(),
            nodes,
            reads: BTreeMap::new(),
            successors: BTreeMap::new(),
            tokens: BTreeMap::new(),
            steps_up: BTreeMap::new(),
            leased_by: None,
            used_tickets: BTreeMap::new(),
            tickets_sent: BTreeMap::new(),
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

    /// A node begins to stop in order. Until then, and while it does, nothing is wrong with it but that.
    pub(crate) fn leaves(&mut self, node: usize, at: Ms, until: Ms) {
        let lag = self.options.write_back.max_delay + 4 * self.options.store_timeout;
        let calm = self.is_calm(node, at.saturating_sub(ms(lag)), at);
        self.tells_no_more(node, at);
        self.nodes[node].leaving = calm.then_some(self.nodes[node].disturbed.len() + 1);
        self.disturb(node, at, until);
    }

    /// A node has stopped in order: all that it has seen of uses is in the store.
    pub(crate) fn has_left(&mut self, node: usize, at: Ms) {
        let facts = &mut self.nodes[node];
        // No other fault has begun in the meantime.
        if facts.leaving.take() != Some(facts.disturbed.len()) {
            return;
        }
        let (life, error) = (facts.life, self.time_error());
        let is_lost = |known: &&Known| {
            let mut here = known.unstored.iter().map(|it| it.used).filter(|used| used.node == node);
            known.ended.is_none()
                && !known.excused
                && here.any(|used| {
                    let stored = known.session.last_accessed;
                    used.life == life && stored < stamp(used.at.saturating_sub(error))
                })
        };
        if let Some(id) = self.sessions.values().find(is_lost).map(|known| known.session.id) {
            self.broken(Guarantee::LastFlush, at, || {
                format!("node {node} has stopped, and a use of {id} is not in the store")
            });
        }
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

    /// Whether the store came back older at this time or since.
    fn restored_since(&self, from: Ms) -> bool {
        self.restored.is_some_and(|restored| restored >= from)
    }

    /// Whether no fault has touched a node in this time.
    fn is_calm(&self, node: usize, from: Ms, until: Ms) -> bool {
        self.nodes[node].disturbed.iter().all(|(begun, over)| *over < from || *begun > until)
    }

    /// How far a node may be wrong about the store's time: it learns it from answers, which take less
    /// than the time limit, and no time where nothing goes wrong.
    fn time_error(&self) -> Ms {
        if self.faulty { ms(self.options.store_timeout) } else { STEADY }
    }

    fn bound(&self) -> Ms {
        ms(self.options.propagation_bound)
    }

    pub(crate) fn begun(&self, node: usize, at: Ms) -> Begun {
        let facts = &self.nodes[node];
        let arrived = facts.hearing.filter(|(arrived, _)| *arrived < at).map(|(_, heard)| heard);
        Begun { at, node, life: facts.life, heard: facts.heard.max(arrived) }
    }

    /// A process begins or ends.
    pub(crate) fn new_life(&mut self, node: usize, at: Ms) {
        self.asks_no_more(at, |asked| asked.is_of(node));
        self.tells_no_more(node, at);
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

    pub(crate) fn is_live(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|known| known.ended.is_none())
    }

    /// Sessions of a user that the store has.
    fn live_of<'o>(&'o self, owner: &'o UserKey) -> impl Iterator<Item = &'o Known> {
        let mine = move |known: &&Known| known.ended.is_none() && known.session.owner == *owner;
        self.sessions.values().filter(mine)
    }

    /// The store is copied.
    pub(crate) fn copied(&self, at: Ms) -> Copied {
        Copied { at, policies: self.policies.len(), blocks: self.blocks.len() }
    }

    /// The store came back as it was copied, with these sessions: what happened since then did not
    /// happen.
    pub(crate) fn restored(&mut self, copied: Copied, at: Ms, stored: &[Session]) {
        self.restored = Some(at);
        for node in &mut self.nodes {
            node.restored = true;
            // What it has read of the log is all there.
            let lost = |entry: &Ms| copied.at < *entry && Some(*entry) <= node.read;
            node.unnoticed = (!self.appended.iter().any(lost)).then_some(at);
        }
        for (id, known) in &mut self.sessions {
            let had_ended = known.ended.is_some_and(|end| end.at < copied.at);
            let stored = stored.iter().find(|session| session.id == *id);
            let is_same = match stored {
                Some(stored) => known.ended.is_none() && *stored == known.session,
                None => had_ended,
            };
            known.excused |= !is_same;
            let has_tokens = stored.is_some_and(|stored| stored.token == known.session.token);
            known.back = (has_tokens && known.ended.is_some()).then_some(at);
            known.undone |= known.ended.is_none() != stored.is_some();
            known.used = known.used.filter(|used| used.at < copied.at);
            known.erased = known.erased.filter(|erased| *erased < copied.at);
            match stored {
                Some(stored) => (known.session, known.ended) = (stored.clone(), None),
                None => {
                    let lost = End { at, cause: EndCause::Unknown, taken_back: false };
                    known.ended.get_or_insert(lost);
                }
            }
        }
        // The first uses of tokens are undone.
        for handed in self.tokens.values_mut() {
            handed.forget_since(copied.at);
        }
        self.used_tickets.retain(|_, used| *used < copied.at);
        self.reads.clear();
        self.leased_by = None;
        self.policies.truncate(copied.policies);
        self.blocks.truncate(copied.blocks);
        self.successors.clear();
    }

    fn version_read(&mut self, node: usize, owner: &UserKey, version: Version, at: Ms) {
        self.reads.entry((node, owner.clone(), version.0)).or_insert(at);
    }
}

/// The operation that began a session: its record says so.
pub(crate) fn begun_by(session: &Session) -> Option<usize> {
    session.device_info.as_ref()?.as_str().strip_prefix("op ")?.parse().ok()
}

pub(crate) fn ms(duration: Duration) -> Ms {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How far a node may be wrong about the time in a run without faults: a call, and how far it may be behind.
const STEADY: Ms = 100;

//! What happens in a run, drawn from its seed before it begins: settings, users, steps.

use std::fmt;

use clap::ValueEnum;
use fastrand::Rng;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::LogPage;
use session_core::{ClientId, DeviceKind, UserKey};
use session_engine::Options;

use crate::oracle::ms;
use crate::store::Kind;

mod drawn;
mod plays;

use self::drawn::{act, clients, fault, options};

/// Milliseconds since a run began: the simulation's only grain of time.
pub(crate) type Ms = u64;

pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) store: Kind,
    pub(crate) options: Options,
    /// The most entries that one page of the log has.
    pub(crate) log_page: u32,
    pub(crate) clients: Vec<Client>,
    /// In the order of their time.
    pub(crate) steps: Vec<Step>,
    /// When faults and work are over. What is owed then has [`Plan::QUIET`] to be done.
    pub(crate) active: Ms,
}

/// What a plan is drawn for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fleet {
    pub(crate) nodes: usize,
    pub(crate) store: Kind,
}

impl Fleet {
    /// As the command takes them.
    pub(crate) fn arguments(self) -> Vec<String> {
        let mut arguments = vec!["--nodes".to_owned(), self.nodes.to_string()];
        if let Some(store) = self.store.to_possible_value() {
            arguments.extend(["--store".to_owned(), store.get_name().to_owned()]);
        }
        arguments
    }
}

/// A device in a user's hands.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) user: UserKey,
    pub(crate) kind: DeviceKind,
    /// An app that sends its token itself; otherwise a browser with a cookie.
    pub(crate) bearer: bool,
    /// The application that signs the user in.
    pub(crate) app: Option<ClientId>,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: Ms,
    pub(crate) act: Act,
    /// The caller goes away after this time.
    pub(crate) leaves: Option<Ms>,
}

impl Step {
    const fn new(at: Ms, act: Act) -> Self {
        Self { at, act, leaves: None }
    }
}

/// How a client takes part in an operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// The response does not reach the client.
    pub(crate) lost: bool,
    /// The caller goes away after this time.
    pub(crate) leaves: Option<Ms>,
    /// How long the application works on the request before the token is replaced.
    pub(crate) works: Ms,
}

/// Client and node, by their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) client: usize,
    pub(crate) node: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    SignIn(Way, Manner),
    Ticket(Way, Manner),
    /// Requests one after the other.
    Check(Way, u32),
    Navigate(Way, Manner),
    Passive(Way),
    Rotate(Way, Manner),
    StepUp(Way, Manner),
    SignOut(Way),
    Data(Way),
    Watch(Way),
    /// A thief copies the client's token.
    Steal(usize),
    Thief(Way),
    /// A request with the token before the client's current one.
    SecondTab(Way),
    Revoke(Way),
    RevokeOthers(Way),
    RevokeChosen(Way, Chosen),
    /// What is kept of the client's user is deleted.
    Erase(Way),
    Claims(Way),
    Block(Way, Place, Option<Ms>),
    Unblock(Way, Place),
    SetPolicy(Way, Place, Option<Policy>),
    List(Way),
    History(Way),
    Fault(Fault),
}

/// Which sessions an administrator ends, seen from a client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Chosen {
    User,
    Kind,
    /// Those of one application in the tenant.
    App,
    Tenant,
    Deployment,
    /// Those of the user among what all clients hold.
    Ids,
    /// The user's that began so long ago.
    Older(Ms),
    /// The user's that the store knows of no use for so long.
    Unused(Ms),
}

impl Act {
    /// Whose doing it is, where, and how its client takes part.
    pub(crate) fn way(&self) -> (Way, Manner) {
        match self {
            Self::SignIn(way, manner)
            | Self::Ticket(way, manner)
            | Self::Navigate(way, manner)
            | Self::Rotate(way, manner)
            | Self::StepUp(way, manner) => (*way, *manner),
            Self::Check(way, _)
            | Self::Passive(way)
            | Self::SignOut(way)
            | Self::Data(way)
            | Self::Watch(way)
            | Self::Thief(way)
            | Self::SecondTab(way)
            | Self::Revoke(way)
            | Self::RevokeOthers(way)
            | Self::RevokeChosen(way, _)
            | Self::Erase(way)
            | Self::Claims(way)
            | Self::Block(way, ..)
            | Self::Unblock(way, _)
            | Self::SetPolicy(way, ..)
            | Self::List(way)
            | Self::History(way) => (*way, Manner::default()),
            Self::Steal(client) => (Way { client: *client, node: 0 }, Manner::default()),
            Self::Fault(_) => (Way { client: 0, node: 0 }, Manner::default()),
        }
    }

    /// Whether it is a request that shows a token.
    pub(crate) const fn needs_token(&self) -> bool {
        matches!(
            self,
            Self::Check(..)
                | Self::Navigate(..)
                | Self::Passive(_)
                | Self::Rotate(..)
                | Self::StepUp(..)
                | Self::SignOut(_)
                | Self::RevokeOthers(_)
                | Self::Thief(_)
                | Self::SecondTab(_)
        )
    }

    /// Whether it may replace the token.
    pub(crate) const fn replaces(&self) -> bool {
        matches!(self, Self::Navigate(..) | Self::Rotate(..) | Self::StepUp(..))
    }

    /// Whether its caller may go away, which others say of themselves in their [`Manner`].
    const fn may_be_left(&self) -> bool {
        matches!(
            self,
            Self::Revoke(_)
                | Self::RevokeOthers(_)
                | Self::RevokeChosen(..)
                | Self::Erase(_)
                | Self::Block(..)
                | Self::Unblock(..)
                | Self::Data(_)
                | Self::Claims(_)
        )
    }

    /// Whether it is about the session that its client holds.
    pub(crate) const fn needs_session(&self) -> bool {
        matches!(self, Self::Data(_) | Self::Watch(_) | Self::Revoke(_))
    }
}

/// Where a policy or a block is set, for a client's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Deployment,
    Tenant,
    User,
}

impl Place {
    pub(crate) fn scope(self, owner: &UserKey) -> PolicyScope {
        match (self, &owner.tenant) {
            (Self::Deployment, _) => PolicyScope::Deployment,
            (Self::Tenant, Some(tenant)) => PolicyScope::Tenant(tenant.clone()),
            (Self::Tenant, None) | (Self::User, _) => PolicyScope::User(owner.clone()),
        }
    }
}

/// What goes wrong, and for how long.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The way between a node and the store.
    Weather(usize, Weather, Ms),
    /// The store refuses every call.
    StoreAway(Ms),
    PushesLost(usize, Ms),
    PushesLate(usize, Ms),
    /// Killed, and started again.
    Crash(usize, Ms),
    /// Stopped in an orderly way, and started again.
    Restart(usize, Ms),
    /// Not scheduled: its monotonic clock goes on.
    Stopped(usize, Ms),
    /// The node that is next given the cleanup's lease: it is not scheduled before the lease is over.
    HolderStopped(Ms),
    /// The machine sleeps: its monotonic clock stands still.
    Asleep(usize, Ms),
    /// The wall clock goes wrong by so many seconds.
    Skew(usize, i64),
    /// The wall clock stands still.
    Still(usize),
    /// The store comes back as it was when it was last copied.
    Copy,
    Restore,
    /// The node reads the log as a version does that does not know some kinds of entries.
    Older(usize),
    /// The node writes into records what other versions do not know.
    Newer(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Clear,
    Slow,
    /// Some calls fail, some are carried out and fail, some arrive late, some get no answer.
    Stormy,
    /// No call gets an answer.
    Silent,
}

impl Plan {
    /// Longer than everything that may be owed when work ends.
    pub(crate) const QUIET: Ms = 130_000;
    /// At the end of it a node does nothing but what an idle node does.
    pub(crate) const IDLE: Ms = 60_000;

    pub(crate) fn draw(seed: u64, fleet: Fleet) -> Self {
        let Fleet { nodes, store } = fleet;
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let options = options(rng);
        let log_page = [1, 3, 20, LogPage::MAX_LIMIT][Rng::with_seed(!seed).usize(..4)];
        let clients = clients(rng);
        // Nobody but the plays has the last ones.
        let busy = clients.len() - IN_PLAYS;
        let mut active = rng.u64(40_000..100_000);
        let count = rng.usize(40..160);
        let faulty = rng.u32(0..4) > 0;
        let mut steps: Vec<Step> = Vec::with_capacity(count + 8);
        for _ in 0..count {
            let way = Way { client: rng.usize(..busy), node: rng.usize(..nodes) };
            let (at, act) = (rng.u64(1_000..active), act(rng, way));
            let leaves = (act.may_be_left() && rng.u32(..6) == 0).then(|| rng.u64(..40));
            steps.push(Step { at, act, leaves });
        }
        if faulty {
            for _ in 0..rng.usize(1..7) {
                let fault = fault(rng, nodes);
                steps.push(Step::new(rng.u64(1_000..active), Act::Fault(fault)));
            }
            if rng.u32(..8) == 0 {
                let copied = rng.u64(1_000..active / 2);
                let back = rng.u64(copied..active);
                steps.push(Step::new(copied, Act::Fault(Fault::Copy)));
                steps.push(Step::new(back, Act::Fault(Fault::Restore)));
            }
            if options.cleanup.enabled && rng.u32(..10) == 0 {
                let (at, lasts) = (rng.u64(1_000..active / 2), rng.u64(31_000..40_000));
                steps.push(Step::new(at, Act::Fault(Fault::HolderStopped(lasts))));
                active = active.max(at + ms(options.cleanup.period) + lasts + 20_000);
            }
        }
        for _ in 0..rng.usize(1..4) {
            let client = if rng.bool() { busy + rng.usize(..IN_PLAYS) } else { rng.usize(..busy) };
            let begin = rng.u64(1_000..active);
            let play = plays::Play::draw(rng, &options, begin, client, nodes);
            active = play.iter().fold(active, |active, step| active.max(step.at + 1_000));
            steps.extend(play);
        }
        // Everybody begins signed in; most at once.
        for client in 0..clients.len() {
            let way = Way { client, node: rng.usize(..nodes) };
            let at = if rng.u32(..4) > 0 { rng.u64(200..900) } else { rng.u64(200..active) };
            steps.push(Step::new(at, Act::SignIn(way, Manner::default())));
        }
        steps.sort_by_key(|step| step.at);
        Self { seed, nodes, store, options, log_page, clients, steps, active }
    }

    pub(crate) fn end(&self) -> Ms {
        self.active + Self::QUIET
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        writeln!(
            f,
            "seed {}, {} nodes: idle {:?}, absolute {:?}, grace {:?}, staleness {:?} ({:?}), \
             bound {:?}, store timeout {:?}, claim within {:?}, cache {}, history {:?}, renew {:?}, \
             log pages of {}",
            self.seed,
            self.nodes,
            options.timeouts.idle,
            options.timeouts.absolute,
            options.rotation_grace,
            options.max_staleness,
            options.when_stale,
            options.propagation_bound,
            options.store_timeout,
            options.claim_within,
            options.cache_capacity,
            options.history.keep,
            options.renew_after,
            self.log_page,
        )?;
        for (number, client) in self.clients.iter().enumerate() {
            let by = if client.bearer { "token" } else { "cookie" };
            let tenant = client.user.tenant_text();
            writeln!(
                f,
                "client {number}: {} {tenant} on {} by {by}, of {:?}",
                client.user.user, client.kind, client.app
            )?;
        }
        Ok(())
    }
}

/// Clients of a user who is quiet but for the plays.
const IN_PLAYS: usize = 2;

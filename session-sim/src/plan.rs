//! What happens in a run, drawn from its seed before it begins: settings, users, steps.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use fastrand::Rng;
use session_core::checker::{Timeouts, WriteBack};
use session_core::cleanup::Cleanup;
use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, PreventConcurrentLogin, Scope};
use session_core::{ClientId, DeviceKind, TenantId, UserId, UserKey};
use session_engine::{History, Options, WhenStale};

use crate::oracle::ms;
use crate::store::Kind;

mod plays;

/// Milliseconds since a run began: the simulation's only grain of time.
pub(crate) type Ms = u64;

pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) store: Kind,
    pub(crate) options: Options,
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
    RevokeUser(Way),
    RevokeKind(Way),
    Claims(Way),
    Block(Way, Place, Option<Ms>),
    Unblock(Way, Place),
    SetPolicy(Way, Place, Option<Policy>),
    List(Way),
    Fault(Fault),
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
            | Self::RevokeUser(way)
            | Self::RevokeKind(way)
            | Self::Claims(way)
            | Self::Block(way, ..)
            | Self::Unblock(way, _)
            | Self::SetPolicy(way, ..)
            | Self::List(way) => (*way, Manner::default()),
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

    /// Whether its caller may go away, which others say of themselves in their [`Manner`].
    const fn may_be_left(&self) -> bool {
        matches!(
            self,
            Self::Revoke(_)
                | Self::RevokeOthers(_)
                | Self::RevokeUser(_)
                | Self::RevokeKind(_)
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
        Self { seed, nodes, store, options, clients, steps, active }
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
             bound {:?}, store timeout {:?}, claim within {:?}, cache {}, history {:?}, renew {:?}",
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

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn options(rng: &mut Rng) -> Options {
    let idle = (rng.u32(..4) > 0).then(|| secs(rng.u64(16..90)));
    let absolute = (rng.u32(..3) == 0).then(|| secs(rng.u64(40..150)));
    let max_staleness = secs(rng.u64(3..15));
    let when_stale = match rng.u32(..4) {
        0 => WhenStale::ServeStale(max_staleness + secs(rng.u64(1..20))),
        _ => WhenStale::FailClosed,
    };
    let propagation_bound = Duration::from_millis([500, 1_000, 1_000, 2_000][rng.usize(..4)]);
    let cleanup = Cleanup::default()
        .with_enabled(rng.u32(..8) > 0)
        .with_period(secs(rng.u64(8..40)))
        .with_inactive_for(secs(rng.u64(40..120)))
        .with_batch(rng.u32(1..6))
        .with_log_retention(max_staleness + secs(rng.u64(1..40)));
    let write_back =
        WriteBack::default().with_every_hits(rng.u32(2..12)).with_max_delay(secs(rng.u64(2..20)));
    let keep = if rng.u32(..6) == 0 { Duration::ZERO } else { secs(rng.u64(30..400)) };
    Options::default()
        .with_timeouts(Timeouts::none().with_idle(idle).with_absolute(absolute))
        .with_write_back(write_back)
        .with_cleanup(cleanup)
        .with_history(History::default().with_keep(keep))
        .with_claim_within(secs(rng.u64(4..40)))
        .with_rotation_grace(secs(rng.u64(2..10)))
        .with_max_staleness(max_staleness)
        .with_when_stale(when_stale)
        .with_propagation_bound(propagation_bound)
        .with_store_timeout(secs(rng.u64(1..4)))
        .with_renew_after((rng.u32(..2) == 0).then(|| secs(rng.u64(4..20))))
        .with_push(rng.u32(..4) > 0)
        .with_cache_capacity(if rng.bool() { rng.usize(2..6) } else { 1_000 })
        .with_unknown_for(secs(rng.u64(0..6)))
        .with_max_sessions_per_user((rng.u32(..8) == 0).then(|| rng.u32(2..6)))
        .with_default_policy(policy(rng))
}

fn policy(rng: &mut Rng) -> Policy {
    let limit = |rng: &mut Rng| {
        let scope = [Scope::User, Scope::DeviceKind, Scope::Client][rng.usize(..3)];
        let on_exceed = [OnExceed::EvictOldest, OnExceed::EvictLeastRecentlyUsed, OnExceed::Reject];
        Limit { max: rng.u32(1..4), scope, on_exceed: on_exceed[rng.usize(..3)] }
    };
    match rng.u32(..8) {
        0 => PreventConcurrentLogin::LogoutFromAllDevices.into(),
        1 => PreventConcurrentLogin::LogoutFromSameTypeDevices.into(),
        2..=5 => Policy::limit(limit(rng)),
        6 => Policy { limits: vec![limit(rng), limit(rng)], ..Policy::default() },
        _ => Policy::default(),
    }
}

fn clients(rng: &mut Rng) -> Vec<Client> {
    // The same name in two tenants, and outside of both, is three users.
    let users =
        [("alice", Some("north")), ("alice", Some("south")), ("alice", None), ("bob", None)];
    let users: Vec<_> = users
        .iter()
        .filter_map(|(user, tenant)| {
            let user = UserId::new(user).ok()?;
            let tenant = tenant.and_then(|tenant| TenantId::new(tenant).ok());
            Some(UserKey { tenant, user })
        })
        .collect();
    let count = rng.usize(4..10);
    let kinds = [DeviceKind::Web, DeviceKind::Web, DeviceKind::Mobile, DeviceKind::Desktop];
    let client = |rng: &mut Rng| Client {
        // Two users have most of the devices.
        user: users[if rng.bool() { rng.usize(..2) } else { rng.usize(..users.len()) }].clone(),
        kind: kinds[rng.usize(..kinds.len())].clone(),
        bearer: rng.u32(..3) == 0,
        app: [None, None, Some("shop"), Some("forum")][rng.usize(..4)]
            .and_then(|app| ClientId::new(app).ok()),
    };
    let mut clients: Vec<_> = (0..count).map(|_| client(rng)).collect();
    for _ in 0..IN_PLAYS {
        let user = UserId::new("carol").expect("a name");
        clients.push(Client { user: UserKey { tenant: None, user }, ..client(rng) });
    }
    clients
}

fn manner(rng: &mut Rng) -> Manner {
    let leaves = (rng.u32(..8) == 0).then(|| rng.u64(0..40));
    Manner { lost: rng.u32(..6) == 0, leaves }
}

fn place(rng: &mut Rng) -> Place {
    [Place::Deployment, Place::Tenant, Place::User, Place::User][rng.usize(..4)]
}

fn act(rng: &mut Rng, way: Way) -> Act {
    match rng.u32(..100) {
        0..=15 => Act::SignIn(way, manner(rng)),
        16..=21 => Act::Ticket(way, manner(rng)),
        22..=49 => Act::Check(way, if rng.u32(..4) == 0 { rng.u32(2..14) } else { 1 }),
        50..=55 => Act::Navigate(way, manner(rng)),
        56..=57 => Act::Passive(way),
        58..=65 => Act::Rotate(way, manner(rng)),
        66..=69 => Act::StepUp(way, manner(rng)),
        70..=71 => Act::SignOut(way),
        72..=75 => Act::Data(way),
        76..=77 => Act::Watch(way),
        78..=79 => Act::Steal(way.client),
        80..=83 => Act::Thief(way),
        84..=86 => Act::Revoke(way),
        87 => Act::RevokeOthers(way),
        88 => Act::RevokeUser(way),
        89 => Act::RevokeKind(way),
        90..=92 => Act::Claims(way),
        93 => Act::Block(way, place(rng), (rng.u32(..6) > 0).then(|| rng.u64(2_000..15_000))),
        94..=95 => Act::Unblock(way, place(rng)),
        96..=97 => {
            let policy = (rng.u32(..3) > 0).then(|| policy(rng));
            Act::SetPolicy(way, place(rng), policy)
        }
        _ => Act::List(way),
    }
}

fn fault(rng: &mut Rng, nodes: usize) -> Fault {
    let node = rng.usize(..nodes);
    match rng.u32(..22) {
        0..=2 => Fault::Weather(node, Weather::Slow, rng.u64(2_000..20_000)),
        3..=7 => Fault::Weather(node, Weather::Stormy, rng.u64(2_000..25_000)),
        8..=9 => Fault::Weather(node, Weather::Silent, rng.u64(500..25_000)),
        10 => Fault::StoreAway(rng.u64(500..20_000)),
        11 => Fault::PushesLost(node, rng.u64(5_000..60_000)),
        12 => Fault::PushesLate(node, rng.u64(5_000..60_000)),
        13 => Fault::Crash(node, rng.u64(10..8_000)),
        14 => Fault::Restart(node, rng.u64(10..4_000)),
        15..=16 => Fault::Stopped(node, rng.u64(500..30_000)),
        17 => Fault::Asleep(node, rng.u64(500..40_000)),
        18..=19 => {
            let far = [-400 * 86_400, -3_600, -7, 7, 1_000, 31 * 86_400];
            Fault::Skew(node, far[rng.usize(..far.len())])
        }
        20 => Fault::Still(node),
        _ => Fault::Older(node),
    }
}

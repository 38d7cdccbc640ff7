//! Engine and memory store against a plain reference model, for thousands of random commands.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest_state_machine::ReferenceStateMachine;
use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, PreventConcurrentLogin, Scope};
use session_core::{DeviceKind, ExtraData, TenantId, UserId, UserKey};

/// What happens; sessions are named by the number of their sign-in, and so are tickets, by that of the
/// sign-in that was refused. Where `lost` is set, the change happens and the store's answer is lost.
#[derive(Clone, Debug)]
enum Command {
    SignIn { node: usize, user: usize, device: usize, lost: bool },
    UseTicket { node: usize, ticket: usize, end: usize, lost: bool },
    Use { node: usize, session: usize },
    Rotate { node: usize, session: usize, lost: bool },
    Update { node: usize, session: usize, lost: bool },
    SignOut { node: usize, session: usize },
    RevokeOthers { node: usize, session: usize },
    RevokeUser { node: usize, user: usize, lost: bool },
    RevokeDevice { node: usize, user: usize, device: usize },
    SetPolicy { node: usize, user: Option<usize>, policy: usize },
    Block { node: usize, user: Option<usize> },
    Unblock { node: usize, user: Option<usize> },
}

/// The model: who is signed in, in the order of the last use.
#[derive(Clone, Debug, Default)]
struct Model {
    signed_in: usize,
    step: usize,
    live: BTreeMap<usize, Live>,
    policies: BTreeMap<Option<usize>, usize>,
    tickets: BTreeMap<usize, Refused>,
    blocked: BTreeSet<Option<usize>>,
}

#[derive(Clone, Debug)]
struct Live {
    user: usize,
    device: usize,
    used: usize,
    /// How often the application has changed its data.
    changes: u64,
}

/// A sign-in that a limit has refused.
#[derive(Clone, Copy, Debug)]
struct Refused {
    user: usize,
    device: usize,
    at: usize,
}

const DEVICES: [DeviceKind; 2] = [DeviceKind::Web, DeviceKind::Mobile];
const USERS: usize = 4;
/// Commands within which a ticket is valid: each takes a little more than 31 seconds.
const TICKET_STEPS: usize = 9;

/// The same two names inside and outside a tenant.
fn user(n: usize) -> UserKey {
    let name = UserId::new(["alice", "bob"][n % 2]).unwrap();
    match n / 2 {
        0 => UserKey::new(name),
        _ => UserKey::in_tenant(TenantId::new("north").unwrap(), name),
    }
}

fn policy(n: usize) -> Policy {
    let limit = |max, scope, on_exceed| Policy::limit(Limit { max, scope, on_exceed });
    match n {
        0 => Policy::default(),
        1 => PreventConcurrentLogin::LogoutFromSameTypeDevices.into(),
        2 => PreventConcurrentLogin::LogoutFromAllDevices.into(),
        3 => limit(3, Scope::User, OnExceed::EvictOldest),
        4 => limit(2, Scope::DeviceKind, OnExceed::EvictLeastRecentlyUsed),
        _ => limit(2, Scope::User, OnExceed::Reject),
    }
}

fn place(user_number: Option<usize>) -> PolicyScope {
    user_number.map_or(PolicyScope::Deployment, |n| PolicyScope::User(user(n)))
}

/// The data are a number.
fn changes(data: &ExtraData) -> u64 {
    data.as_json().parse().unwrap()
}

impl Command {
    /// The node that does not hear the store's answers.
    fn loses_answers_of(&self) -> Option<usize> {
        match *self {
            Self::SignIn { node, lost: true, .. }
            | Self::UseTicket { node, lost: true, .. }
            | Self::Rotate { node, lost: true, .. }
            | Self::Update { node, lost: true, .. }
            | Self::RevokeUser { node, lost: true, .. } => Some(node),
            _ => None,
        }
    }
}

impl Model {
    /// The user's sessions that count together with a new one on this device.
    fn scope(&self, user: usize, device: Option<usize>) -> Vec<usize> {
        let counts = |live: &Live| live.user == user && device.is_none_or(|d| live.device == d);
        self.live.iter().filter(|(_, live)| counts(live)).map(|(n, _)| *n).collect()
    }

    fn policy_of(&self, user: usize) -> usize {
        let set = self.policies.get(&Some(user)).or_else(|| self.policies.get(&None));
        set.copied().unwrap_or(0)
    }

    /// A sign-in, where the user has chosen to end one of the sessions. Returns whether a session begins.
    fn sign_in(&mut self, user: usize, device: usize, end: Option<usize>) -> bool {
        let number = self.signed_in;
        self.signed_in += 1;
        if self.blocked.contains(&None) || self.blocked.contains(&Some(user)) {
            return false;
        }
        let mut staying = self.clone();
        staying.live.retain(|n, live| Some(*n) != end || live.user != user);
        // The newcomer takes the place of the session that ends, also where the limit is exceeded.
        let is_own = |n| self.live.get(&n).is_some_and(|live| live.user == user);
        let vacated = end.is_some_and(is_own).then(Vec::new);
        let Some(leave) = staying.leave(user, device).or(vacated) else {
            self.tickets.insert(number, Refused { user, device, at: self.step });
            return false;
        };
        self.live = staying.live;
        self.live.retain(|n, _| !leave.contains(n));
        self.live.insert(number, Live { user, device, used: self.step, changes: 0 });
        true
    }

    /// Tickets with what their users may end: each of their own sessions, and one of another user.
    fn choices(&self) -> Vec<(usize, usize)> {
        let mut choices = Vec::new();
        for (ticket, refused) in &self.tickets {
            let own = |live: &Live| live.user == refused.user;
            let ends = self.live.iter().filter(|(_, live)| own(live)).map(|(n, _)| *n);
            let other = self.live.iter().find(|(_, live)| !own(live)).map(|(n, _)| *n);
            choices.extend(ends.chain(other).map(|end| (*ticket, end)));
        }
        choices
    }

    fn use_ticket(&mut self, ticket: usize, end: usize) {
        // One of the sessions that refused the sign-in still stands.
        let stands = |user| self.live.iter().any(|(n, live)| *n < ticket && live.user == user);
        let valid =
            |refused: &&Refused| self.step - refused.at <= TICKET_STEPS && stands(refused.user);
        let Some(refused) = self.tickets.get(&ticket).filter(valid).copied() else {
            self.signed_in += 1;
            return;
        };
        let number = self.signed_in;
        if self.sign_in(refused.user, refused.device, Some(end)) {
            self.tickets.remove(&ticket);
        } else {
            // The same ticket is given back.
            self.tickets.remove(&number);
        }
    }

    /// Who leaves at a sign-in; none where it is refused.
    fn leave(&self, user: usize, device: usize) -> Option<Vec<usize>> {
        let but_last = |mut sessions: Vec<usize>, keep: usize| {
            sessions.truncate(sessions.len().saturating_sub(keep));
            sessions
        };
        match self.policy_of(user) {
            0 => Some(Vec::new()),
            1 => Some(self.scope(user, Some(device))),
            2 => Some(self.scope(user, None)),
            3 => Some(but_last(self.scope(user, None), 2)),
            4 => {
                let mut by_use = self.scope(user, Some(device));
                by_use.sort_by_key(|n| self.live[n].used);
                Some(but_last(by_use, 1))
            }
            _ => (self.scope(user, None).len() < 2).then(Vec::new),
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Command;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Command> {
        let (node, users, device) = (0..2_usize, 0..USERS, 0..2_usize);
        let lost = prop::bool::weighted(0.2);
        let known = state.signed_in.max(1);
        let session = any::<Index>().prop_map(move |index| index.index(known));
        let choices = state.choices();
        let choice = any::<Index>()
            .prop_map(move |index| if choices.is_empty() { (0, 0) } else { *index.get(&choices) });
        let one = (node.clone(), session.clone());
        let place = (node.clone(), prop::option::of(users.clone()));
        prop_oneof![
            6 => (node.clone(), users.clone(), device.clone(), lost)
                .prop_map(|(node, user, device, lost)| Command::SignIn { node, user, device, lost }),
            6 => (node.clone(), choice, lost).prop_map(|(node, (ticket, end), lost)| {
                Command::UseTicket { node, ticket, end, lost }
            }),
            6 => one.clone().prop_map(|(node, session)| Command::Use { node, session }),
            2 => (one.clone(), lost)
                .prop_map(|((node, session), lost)| Command::Rotate { node, session, lost }),
            2 => (one.clone(), lost)
                .prop_map(|((node, session), lost)| Command::Update { node, session, lost }),
            1 => one.clone().prop_map(|(node, session)| Command::SignOut { node, session }),
            1 => one.prop_map(|(node, session)| Command::RevokeOthers { node, session }),
            1 => (node.clone(), users.clone(), lost)
                .prop_map(|(node, user, lost)| Command::RevokeUser { node, user, lost }),
            1 => (node, users, device)
                .prop_map(|(node, user, device)| Command::RevokeDevice { node, user, device }),
            // Half of them the one that refuses.
            3 => (place.clone(), prop_oneof![0..6_usize, Just(5)])
                .prop_map(|((node, user), policy)| Command::SetPolicy { node, user, policy }),
            1 => place.clone().prop_map(|(node, user)| Command::Block { node, user }),
            2 => place.prop_map(|(node, user)| Command::Unblock { node, user }),
        ]
        .boxed()
    }

    fn apply(mut state: Self, command: &Command) -> Self {
        state.step += 1;
        match *command {
            Command::SignIn { user, device, .. } => drop(state.sign_in(user, device, None)),
            Command::UseTicket { ticket, end, .. } => state.use_ticket(ticket, end),
            Command::Update { session, .. } => {
                state.live.entry(session).and_modify(|live| live.changes += 1);
            }
            Command::Block { user, .. } => {
                state.blocked.insert(user);
                state.live.retain(|_, live| user.is_some_and(|user| live.user != user));
            }
            Command::Unblock { user, .. } => drop(state.blocked.remove(&user)),
            Command::Use { session, .. } => {
                let step = state.step;
                state.live.entry(session).and_modify(|live| live.used = step);
            }
            Command::Rotate { .. } => {}
            Command::SignOut { session, .. } => drop(state.live.remove(&session)),
            Command::RevokeOthers { session, .. } => {
                if let Some(user) = state.live.get(&session).map(|live| live.user) {
                    state.live.retain(|n, live| live.user != user || *n == session);
                }
            }
            Command::RevokeUser { user, .. } => state.live.retain(|_, live| live.user != user),
            Command::RevokeDevice { user, device, .. } => {
                state.live.retain(|_, live| live.user != user || live.device != device);
            }
            Command::SetPolicy { user, policy, .. } => drop(state.policies.insert(user, policy)),
        }
        state
    }
}

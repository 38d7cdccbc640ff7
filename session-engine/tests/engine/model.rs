//! Engine and memory store against a plain reference model, for thousands of random commands.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, PreventConcurrentLogin, Scope};
use session_core::store::TenantFilter;
use session_core::{Actor, DeviceKind, TenantId, UserId, UserKey};
use session_engine::{Access, Error, Options, RotateReason, Rotation, SignIn, SignedIn, Verdict};
use tokio::runtime::Runtime;

use crate::probe::Fleet;

/// What somebody does; sessions are named by the number of their sign-in.
#[derive(Clone, Debug)]
enum Command {
    SignIn { node: usize, user: usize, device: usize },
    Use { node: usize, session: usize },
    Rotate { node: usize, session: usize },
    SignOut { node: usize, session: usize },
    RevokeOthers { node: usize, session: usize },
    RevokeUser { node: usize, user: usize },
    RevokeDevice { node: usize, user: usize, device: usize },
    SetPolicy { node: usize, user: Option<usize>, policy: usize },
}

/// The model: who is signed in, in the order of the last use.
#[derive(Clone, Debug, Default)]
struct Model {
    signed_in: usize,
    step: usize,
    live: BTreeMap<usize, Live>,
    policies: BTreeMap<Option<usize>, usize>,
}

#[derive(Clone, Debug)]
struct Live {
    user: usize,
    device: usize,
    used: usize,
}

const DEVICES: [DeviceKind; 2] = [DeviceKind::Web, DeviceKind::Mobile];
const USERS: usize = 4;

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
        let known = state.signed_in.max(1);
        let session = any::<Index>().prop_map(move |index| index.index(known));
        prop_oneof![
            6 => (node.clone(), users.clone(), device.clone())
                .prop_map(|(node, user, device)| Command::SignIn { node, user, device }),
            6 => (node.clone(), session.clone())
                .prop_map(|(node, session)| Command::Use { node, session }),
            2 => (node.clone(), session.clone())
                .prop_map(|(node, session)| Command::Rotate { node, session }),
            1 => (node.clone(), session.clone())
                .prop_map(|(node, session)| Command::SignOut { node, session }),
            1 => (node.clone(), session)
                .prop_map(|(node, session)| Command::RevokeOthers { node, session }),
            1 => (node.clone(), users.clone())
                .prop_map(|(node, user)| Command::RevokeUser { node, user }),
            1 => (node.clone(), users.clone(), device)
                .prop_map(|(node, user, device)| Command::RevokeDevice { node, user, device }),
            2 => (node, prop::option::of(users), 0..6_usize)
                .prop_map(|(node, user, policy)| Command::SetPolicy { node, user, policy }),
        ]
        .boxed()
    }

    fn apply(mut state: Self, command: &Command) -> Self {
        state.step += 1;
        match *command {
            Command::SignIn { user, device, .. } => {
                if let Some(leave) = state.leave(user, device) {
                    state.live.retain(|n, _| !leave.contains(n));
                    let used = state.step;
                    state.live.insert(state.signed_in, Live { user, device, used });
                }
                state.signed_in += 1;
            }
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

/// The real thing: two nodes on one store, on simulated time.
struct System {
    runtime: Runtime,
    fleet: Fleet,
    /// What each sign-in was handed; none where it was refused.
    signed_in: Vec<Option<SignedIn>>,
}

impl System {
    async fn run(fleet: &Fleet, signed_in: &mut Vec<Option<SignedIn>>, command: Command) {
        let sessions = |node: usize| fleet.nodes[node].sessions();
        match command {
            Command::SignIn { node, user: n, device } => {
                let request = SignIn::new(user(n)).with_device_kind(DEVICES[device].clone());
                signed_in.push(match sessions(node).sign_in(request).await {
                    Ok(signed_in) => Some(signed_in),
                    Err(Error::TooManySessions(_)) => None,
                    Err(error) => panic!("{error}"),
                });
            }
            Command::Use { node, session } => {
                if let Some(Some(signed_in)) = signed_in.get(session) {
                    crate::probe::verdict(&fleet.nodes[node], signed_in).await;
                }
            }
            Command::Rotate { node, session } => {
                if let Some(Some(signed_in)) = signed_in.get_mut(session) {
                    let token = signed_in.token.expose();
                    let reason = RotateReason::Renewal;
                    let rotated = sessions(node).rotate(token.as_bytes(), reason).await.unwrap();
                    if let Rotation::Rotated { token, .. } = rotated {
                        signed_in.token = token;
                    }
                }
            }
            Command::SignOut { node, session } => {
                if let Some(Some(signed_in)) = signed_in.get(session) {
                    sessions(node).sign_out(&signed_in.session).await.unwrap();
                }
            }
            Command::RevokeOthers { node, session } => {
                if let Some(Some(signed_in)) = signed_in.get(session)
                    && let Verdict::Active(session) = passive(&fleet.nodes[node], signed_in).await
                {
                    sessions(node).revoke_others(&session).await.unwrap();
                }
            }
            Command::RevokeUser { node, user: n } => {
                sessions(node).revoke_user(user(n), Actor::Application).await.unwrap();
            }
            Command::RevokeDevice { node, user: n, device } => {
                let selection = session_core::store::Selection::user(user(n));
                let selection = selection.on(DEVICES[device].clone());
                sessions(node).revoke_selected(selection, Actor::Application).await.unwrap();
            }
            Command::SetPolicy { node, user: n, policy: p } => {
                let scope = n.map_or(PolicyScope::Deployment, |n| PolicyScope::User(user(n)));
                let set = sessions(node).set_policy(scope, Some(policy(p)), Actor::Application);
                set.await.unwrap();
            }
        }
        // Long enough for every node to hear of it and for every access to be stored.
        tokio::time::sleep(Duration::from_secs(31)).await;
    }

    async fn compare(fleet: &Fleet, signed_in: &[Option<SignedIn>], model: &Model) {
        for (n, signed_in) in signed_in.iter().enumerate() {
            let live = model.live.contains_key(&n);
            for node in &fleet.nodes {
                let found = match signed_in {
                    Some(signed_in) => {
                        matches!(passive(node, signed_in).await, Verdict::Active(_))
                    }
                    None => false,
                };
                assert_eq!(found, live, "sign-in {n}");
            }
        }
        let sessions = fleet.nodes[0].sessions();
        let mut query = sessions.query(TenantFilter::Any);
        query.limit = 200;
        let listed = sessions.list(&query).await.unwrap();
        let mut listed: Vec<_> = listed.sessions.iter().map(|session| session.id).collect();
        let ids = model.live.keys().map(|n| signed_in[*n].as_ref().unwrap().session.id());
        let mut expected: Vec<_> = ids.collect();
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected);
    }
}

async fn passive(node: &session_engine::Engine, signed_in: &SignedIn) -> Verdict {
    let token = signed_in.token.expose();
    node.sessions().validate(token.as_bytes(), Access::passive(None)).await.unwrap()
}

impl StateMachineTest for System {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_model: &Model) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let fleet = runtime.block_on(Fleet::start(Options::default()));
        Self { runtime, fleet, signed_in: Vec::new() }
    }

    fn apply(mut system: Self, model: &Model, command: Command) -> Self {
        let System { runtime, fleet, signed_in } = &mut system;
        runtime.block_on(async {
            System::run(fleet, signed_in, command).await;
            System::compare(fleet, signed_in, model).await;
        });
        system
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_the_model_does(sequential 1..100 => System);
}

//! The engine and its store, driven by the model's commands.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest_state_machine::{StateMachineTest, prop_state_machine};
use session_core::store::TenantFilter;
use session_core::{Actor, ExtraData, SessionId};
use session_engine::{
    Access, Error, NewBlock, Options, RotateReason, Rotation, SignIn, SignedIn, Ticket, Verdict,
};
use tokio::runtime::Runtime;

use super::{Command, DEVICES, Model, changes, place, policy, user};
use crate::probe::Fleet;

/// Two nodes on one store, on simulated time.
struct System {
    runtime: Runtime,
    world: World,
}

struct World {
    fleet: Fleet,
    /// What each sign-in was handed; none where it was refused.
    signed_in: Vec<Option<SignedIn>>,
    tickets: BTreeMap<usize, Ticket>,
}

impl World {
    /// Notes what a sign-in was handed.
    fn note(&mut self, outcome: Result<SignedIn, Error>) {
        let number = self.signed_in.len();
        self.signed_in.push(match outcome {
            Ok(signed_in) => Some(signed_in),
            Err(Error::TooManySessions(refused)) => {
                self.tickets.insert(number, refused.ticket);
                None
            }
            Err(Error::Blocked(_) | Error::InvalidTicket) => None,
            Err(error) => panic!("{error}"),
        });
    }

    async fn begin(&mut self, command: &Command) {
        match *command {
            Command::SignIn { node, user: n, device, .. } => {
                let request = SignIn::new(user(n)).with_device_kind(DEVICES[device].clone());
                let outcome = self.fleet.nodes[node].sessions().sign_in(request).await;
                self.note(outcome);
            }
            Command::UseTicket { node, ticket, end, .. } => {
                let end = self.signed_in.get(end).and_then(Option::as_ref);
                let end = end.map_or(SessionId::from_bytes([7; 16]), |end| end.session.id());
                let outcome = match self.tickets.get(&ticket) {
                    Some(ticket) => {
                        let manager = self.fleet.nodes[node].sessions();
                        manager.sign_in_with_ticket(ticket.expose(), end).await
                    }
                    None => Err(Error::InvalidTicket),
                };
                self.note(outcome);
            }
            _ => {}
        }
    }

    async fn run(&mut self, command: Command) {
        let lossy = command.loses_answers_of();
        if let Some(node) = lossy {
            self.fleet.probes[node].lose_answers(true);
            self.fleet.probes[node].lose_answers_of("end_many", true);
        }
        self.begin(&command).await;
        Self::change(&self.fleet, &mut self.signed_in, command).await;
        if let Some(node) = lossy {
            self.fleet.probes[node].lose_answers(false);
            self.fleet.probes[node].lose_answers_of("end_many", false);
        }
        // Long enough for every node to hear of it and for every access to be stored.
        tokio::time::sleep(Duration::from_secs(31)).await;
    }

    async fn change(fleet: &Fleet, signed_in: &mut [Option<SignedIn>], command: Command) {
        let sessions = |node: usize| fleet.nodes[node].sessions();
        match command {
            Command::SignIn { .. } | Command::UseTicket { .. } => {}
            Command::Use { node, session } => {
                if let Some(Some(signed_in)) = signed_in.get(session) {
                    crate::probe::verdict(&fleet.nodes[node], signed_in).await;
                }
            }
            Command::Rotate { node, session, .. } => {
                if let Some(Some(signed_in)) = signed_in.get_mut(session) {
                    let token = signed_in.token.expose();
                    let reason = RotateReason::Renewal;
                    let rotated = sessions(node).rotate(token.as_bytes(), reason).await.unwrap();
                    if let Rotation::Rotated { token, .. } = rotated {
                        signed_in.token = token;
                    }
                }
            }
            Command::Update { node, session, lost } => {
                if let Some(Some(signed_in)) = signed_in.get(session) {
                    let (id, by) = (signed_in.session.id(), Actor::Application);
                    let count = |data: Option<&ExtraData>| {
                        let changes = data.map_or(0, changes) + 1;
                        Ok(Some(ExtraData::from_json(&changes.to_string())?))
                    };
                    let updated = sessions(node).update_data(id, by, count).await;
                    assert!(updated.is_ok() || lost, "{updated:?}");
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
            Command::RevokeUser { node, user: n, lost } => {
                let revoked = sessions(node).revoke_user(user(n), Actor::Application).await;
                assert!(revoked.is_ok() != lost, "{revoked:?}");
            }
            Command::RevokeDevice { node, user: n, device } => {
                let selection = session_core::store::Selection::user(user(n));
                let selection = selection.on(DEVICES[device].clone());
                sessions(node).revoke_selected(selection, Actor::Application).await.unwrap();
            }
            Command::SetPolicy { node, user: n, policy: p } => {
                let set = sessions(node).set_policy(place(n), Some(policy(p)), Actor::Application);
                set.await.unwrap();
            }
            Command::Block { node, user } => {
                let block = NewBlock::default();
                sessions(node).block(place(user), block, Actor::Application).await.unwrap();
            }
            Command::Unblock { node, user } => {
                sessions(node).unblock(place(user), Actor::Application).await.unwrap();
            }
        }
    }

    async fn compare(&self, model: &Model) {
        let Self { fleet, signed_in, .. } = self;
        for (n, signed_in) in signed_in.iter().enumerate() {
            let expected = model.live.get(&n).map(|live| live.changes);
            for node in &fleet.nodes {
                let verdict = match signed_in {
                    Some(signed_in) => passive(node, signed_in).await.session(),
                    None => None,
                };
                let found = verdict.map(|session| session.data().map_or(0, changes));
                assert_eq!(found, expected, "sign-in {n}");
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
        let world = World { fleet, signed_in: Vec::new(), tickets: BTreeMap::new() };
        Self { runtime, world }
    }

    fn apply(mut system: Self, model: &Model, command: Command) -> Self {
        let System { runtime, world } = &mut system;
        runtime.block_on(async {
            world.run(command).await;
            world.compare(model).await;
        });
        system
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_the_model_does(sequential 1..100 => System);
}

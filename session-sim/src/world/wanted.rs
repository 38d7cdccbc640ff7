//! What acts are to end and to set.

use session_core::EndCause;
use session_core::policy::PolicyScope;

use super::*;
use crate::node::stamp;
use crate::oracle::id_of;

impl World<'_> {
    /// The sessions that an act ends, where it ends any, for a client that holds this one.
    pub(super) fn selection(&self, act: &Act, held: Option<SessionId>) -> Option<Selection> {
        let client = &self.plan.clients[act.way().0.client];
        let (tenant, user) = (client.user.tenant.clone(), Selection::user(client.user.clone()));
        let ago = |time: &Ms| stamp(self.now.saturating_sub(*time));
        Some(match act {
            Act::Revoke(_) => user.among([held?]),
            Act::RevokeOthers(_) => user.except(held?),
            Act::Erase(_) => user,
            Act::RevokeChosen(_, chosen) => match chosen {
                Chosen::User => user,
                Chosen::Kind => user.on(client.kind.clone()),
                Chosen::App => {
                    let app = client.app.clone().or_else(|| ClientId::new("shop").ok())?;
                    Selection::within(TenantFilter::Is(tenant)).of_client(app)
                }
                Chosen::Tenant => Selection::within(TenantFilter::Is(tenant)),
                Chosen::Deployment => Selection::within(TenantFilter::Any),
                Chosen::Ids => {
                    let tokens = self.clients.iter().filter_map(|device| device.token.as_deref());
                    user.among(tokens.filter_map(id_of).collect::<Vec<_>>())
                }
                Chosen::Older(time) => user.signed_in_before(ago(time)),
                Chosen::Unused(time) => user.last_accessed_before(ago(time)),
            },
            _ => return None,
        })
    }

    /// What an act is to end, or may, and how, for a client that holds this session.
    pub(super) fn ends(
        &self,
        act: &Act,
        held: Option<SessionId>,
        selection: Option<&Selection>,
        ticket: Option<&TicketUse>,
    ) -> Vec<(EndCause, Selection)> {
        let one = |cause, id| (cause, Selection::session(id, TenantFilter::Any));
        let held = |cause| held.map(|id| one(cause, id));
        match (act, ticket) {
            (Act::SignIn(..), _) => held(EndCause::Replaced).into_iter().collect(),
            (Act::SignOut(_), _) => held(EndCause::SignedOut).into_iter().collect(),
            (_, Some(TicketUse { ticket, end })) => {
                let before = ticket.held.map(|id| one(EndCause::Replaced, id));
                let chosen = one(EndCause::Revoked, *end);
                held(EndCause::SignedOut).into_iter().chain(before).chain([chosen]).collect()
            }
            (Act::Block(_, place, _), _) => {
                let scope = place.scope(&self.plan.clients[act.way().0.client].user);
                vec![(EndCause::Blocked, within(&scope))]
            }
            _ => selection.map(|those| (EndCause::Revoked, those.clone())).into_iter().collect(),
        }
    }

    /// What an act that begins then is to set. What is kept of a user who is erased has a policy, too.
    pub(super) fn sets(&self, act: &Act, at: Ms) -> Option<(PolicyScope, Setting)> {
        let owner = &self.plan.clients[act.way().0.client].user;
        Some(match act {
            Act::SetPolicy(_, place, policy) => {
                (place.scope(owner), Setting::Policy(policy.clone()))
            }
            Act::Erase(_) => (Place::User.scope(owner), Setting::Policy(None)),
            Act::Block(_, place, lasts) => {
                let until = lasts.map(|lasts| stamp(at + lasts));
                (place.scope(owner), Setting::Block(until))
            }
            Act::Unblock(_, place) => (place.scope(owner), Setting::NoBlock),
            _ => return None,
        })
    }
}

/// All sessions of a place.
fn within(scope: &PolicyScope) -> Selection {
    match scope {
        PolicyScope::Deployment => Selection::within(TenantFilter::Any),
        PolicyScope::Tenant(tenant) => Selection::within(TenantFilter::Is(Some(tenant.clone()))),
        PolicyScope::User(owner) => Selection::user(owner.clone()),
    }
}

//! What the demo takes and answers, on every framework.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use session_kit::core::usage::Timeouts;
use session_kit::core::{
    Actor, AssuranceLevel, AuthMethod, DeviceKind, ExtraData, InvalidField, SessionId, Timestamp,
    UserKey,
};
use session_kit::engine::{ActiveSession, Proof, RotateReason, SignedIn};
use session_kit::http::{Flow, NewSession, Problem, Rejection, local_path};

use crate::Demo;
use crate::accounts::{Claims, authenticate, is_admin, name_of, provided, to_act_as, user};

/// The login form.
#[derive(Deserialize)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
    device: Option<String>,
    remember: Option<String>,
    next: Option<String>,
}

impl Login {
    /// The page to go on to, if it is one of this origin.
    pub(crate) fn next(&self) -> Option<&str> {
        self.next.as_deref().and_then(local_path)
    }
}

/// The parameters of the login page.
#[derive(Deserialize)]
pub(crate) struct LoginQuery {
    next: Option<String>,
}

impl LoginQuery {
    /// As [`Login::next`].
    pub(crate) fn next(&self) -> Option<&str> {
        self.next.as_deref().and_then(local_path)
    }
}

/// The form that proves again who the user is.
#[derive(Deserialize)]
pub(crate) struct Password {
    pub(crate) password: String,
}

/// The form of an admin who wants to act as another user.
#[derive(Deserialize)]
pub(crate) struct ActAs {
    user: String,
}

impl ActAs {
    /// The session to begin, which shows who acts.
    pub(crate) fn check(&self, session: &ActiveSession) -> Result<NewSession, Problem> {
        let owner = to_act_as(session, &self.user)?;
        Ok(NewSession::of(owner).with_impersonator(session.owner().clone()))
    }
}

/// What an app sends to sign its user in.
#[derive(Deserialize)]
pub(crate) struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// The session to begin.
    pub(crate) fn check(&self) -> Result<NewSession, Problem> {
        authenticate(&self.user, &self.password)
            .map(NewSession::of)
            .ok_or_else(|| Problem::unauthorized().with_detail("unknown user or wrong password"))
    }
}

/// What an app keeps.
#[derive(Serialize)]
pub(crate) struct NewToken {
    token: String,
    session_id: SessionId,
}

impl NewToken {
    pub(crate) fn of(signed_in: &SignedIn) -> Self {
        Self { token: signed_in.token.expose(), session_id: signed_in.session.id() }
    }
}

/// What the stand-in for an identity provider sends back. A real one would send a code, which the
/// application exchanges for a signed statement of who the user is, and when and how they proved it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Callback {
    pub(crate) state: String,
    pub(crate) user: String,
    /// Seconds since 1970, as OpenID Connect has it.
    auth_time: Option<u32>,
    /// The assurance level.
    acr: Option<AssuranceLevel>,
    /// A word of RFC 8176.
    amr: Option<String>,
}

impl Callback {
    /// The session to begin.
    pub(crate) fn check(&self) -> Result<NewSession, Problem> {
        let user = provided(&self.user).ok_or(Problem::forbidden())?;
        let at = self.auth_time.map(|at| Timestamp::EPOCH.plus(Duration::from_secs(at.into())));
        let method = self.amr.as_deref().map(AuthMethod::new).transpose()?;
        let proof = Proof::default().at(at).with_level(self.acr);
        let proof = proof.with_methods(method.into_iter().collect::<Vec<_>>());
        Ok(NewSession::of(user).with_proof(proof))
    }
}

/// Where the stand-in is told which flow it is part of.
pub(crate) fn provider_path(flow: &Flow) -> String {
    format!("/provider?state={}", flow.state)
}

/// Where to go on after a flow.
pub(crate) fn after_flow(flow: &Flow) -> &str {
    local_path(&flow.data).unwrap_or("/")
}

/// New roles: `{"roles":["auditor"]}`, or the list alone.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum NewRoles {
    Claims(Claims),
    List(Vec<String>),
}

impl From<NewRoles> for Claims {
    fn from(roles: NewRoles) -> Self {
        match roles {
            NewRoles::Claims(claims) => claims,
            NewRoles::List(roles) => Self { roles },
        }
    }
}

#[derive(Serialize)]
pub(crate) struct WhoAmI {
    user: String,
    tenant: Option<String>,
    session_id: SessionId,
    /// Who acts as the user, where it is not the user.
    impersonator: Option<String>,
    /// When the user last proved who they are.
    authenticated_at: Timestamp,
    /// How sure that was.
    level: Option<AssuranceLevel>,
    /// By which means.
    methods: Vec<AuthMethod>,
}

impl WhoAmI {
    pub(crate) fn of(session: &ActiveSession) -> Self {
        let proof = session.authentication();
        Self {
            user: session.user().to_string(),
            tenant: session.tenant().map(ToString::to_string),
            session_id: session.id(),
            impersonator: session.impersonator().map(|admin| admin.user.to_string()),
            authenticated_at: proof.at,
            level: proof.level,
            methods: proof.methods.clone(),
        }
    }
}

pub(crate) fn new_session(user: UserKey, login: &Login) -> Result<NewSession, InvalidField> {
    let device = login.device.as_deref().filter(|device| !device.is_empty());
    let remember = login.remember.as_deref().map(|remember| remember == "on");
    let timeouts = timeouts(&user, remember == Some(true));
    let new = NewSession::of(user).with_remember(remember).with_timeouts(timeouts);
    let new = new.with_proof(password_proof()?);
    Ok(new.with_device_kind(device.map(DeviceKind::new).transpose()?))
}

/// Admins are signed out after a working day, remembered devices after a season; others as the options say.
fn timeouts(user: &UserKey, remember: bool) -> Option<Timeouts> {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let of =
        |idle, absolute| Timeouts::none().with_idle(hours(idle)).with_absolute(hours(absolute));
    if is_admin(user) {
        return Some(of(8, 24));
    }
    remember.then(|| of(30 * 24, 90 * 24))
}

fn password_proof() -> Result<Proof, InvalidField> {
    let methods = vec![AuthMethod::new("pwd")?];
    Ok(Proof::default().with_level(AssuranceLevel::Aal1).with_methods(methods))
}

pub(crate) fn after_login(login: &Login) -> &str {
    login.next().unwrap_or("/")
}

/// Only `root` gives and takes roles.
pub(crate) fn require_root(session: &ActiveSession) -> Result<(), Problem> {
    match (session.user().as_str(), session.tenant(), session.impersonator()) {
        ("root", None, None) => Ok(()),
        _ => Err(Problem::forbidden()),
    }
}

/// Checks the password of the session's user again.
pub(crate) fn confirm(session: &ActiveSession, password: &str) -> Result<RotateReason, Problem> {
    match authenticate(&name_of(session.owner()), password) {
        Some(_) => Ok(RotateReason::Reauthenticated(password_proof()?)),
        None => Err(Problem::reauthentication_required().with_detail("wrong password")),
    }
}

impl Demo {
    /// Gives a user these roles; every node knows them for the user's next request.
    pub(crate) async fn set_roles(&self, name: &str, claims: Claims) -> Result<Claims, Rejection> {
        let owner = user(name)?;
        self.accounts.set(name, &claims).map_err(|error| {
            tracing::error!(%error, "the roles cannot be kept");
            Problem::internal()
        })?;
        self.http.manager().claims_changed(&owner, Actor::Application).await?;
        Ok(claims)
    }

    /// Adds one to the count in the session's data: by compare-and-swap, so that none is lost when requests
    /// come to several nodes.
    pub(crate) async fn count(&self, session: &ActiveSession) -> Result<String, Rejection> {
        let mut count = 0;
        let change = |data: Option<&ExtraData>| {
            let mut data = data.map_or_else(|| json!({}), ExtraData::to_value);
            count = data["count"].as_u64().unwrap_or_default() + 1;
            data["count"] = count.into();
            Ok(Some(ExtraData::new(&data)?))
        };
        let manager = self.http.manager();
        let changed = manager.update_data(session.id(), session.actor(), change).await?;
        // It has ended since the request was let in.
        changed.ok_or_else(Problem::unauthorized)?;
        Ok(format!("{count}\n"))
    }
}

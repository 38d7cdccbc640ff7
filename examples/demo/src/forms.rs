//! What the demo takes and answers, on every framework.

use serde::{Deserialize, Serialize};
use session_kit::core::{Actor, DeviceKind, InvalidField, SessionId, UserKey};
use session_kit::engine::{CurrentSession, SignedIn};
use session_kit::http::{Flow, NewSession, Problem, Rejection, local_path};

use crate::Demo;
use crate::accounts::{Claims, authenticate, name_of, provided, to_act_as, user};

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
    pub(crate) fn check(&self, session: &CurrentSession) -> Result<NewSession, Problem> {
        let owner = to_act_as(session, &self.user)?;
        Ok(NewSession::of(owner).with_impersonator(session.user().clone()))
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
/// application exchanges for a signed statement of who the user is.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Callback {
    pub(crate) state: String,
    pub(crate) user: String,
}

impl Callback {
    /// The session to begin.
    pub(crate) fn check(&self) -> Result<NewSession, Problem> {
        provided(&self.user).map(NewSession::of).ok_or(Problem::forbidden())
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
}

impl WhoAmI {
    pub(crate) fn of(session: &CurrentSession) -> Self {
        Self {
            user: session.user().to_string(),
            tenant: session.tenant().map(ToString::to_string),
            session_id: session.id(),
            impersonator: session.impersonator().map(ToString::to_string),
        }
    }
}

pub(crate) fn new_session(user: UserKey, login: &Login) -> Result<NewSession, InvalidField> {
    let device = login.device.as_deref().filter(|device| !device.is_empty());
    let remember = login.remember.as_deref().map(|remember| remember == "on");
    let new = NewSession::of(user).with_remember(remember);
    Ok(new.with_device_kind(device.map(DeviceKind::new).transpose()?))
}

pub(crate) fn after_login(login: &Login) -> &str {
    login.next().unwrap_or("/")
}

/// Only `root` gives and takes roles.
pub(crate) fn require_root(session: &CurrentSession) -> Result<(), Problem> {
    match (session.user().as_str(), session.tenant(), session.impersonator()) {
        ("root", None, None) => Ok(()),
        _ => Err(Problem::forbidden()),
    }
}

/// Whether this is the password of the session's user.
pub(crate) fn confirm(session: &CurrentSession, password: &str) -> Result<(), Problem> {
    match authenticate(&name_of(session.owner()), password) {
        Some(_) => Ok(()),
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
}

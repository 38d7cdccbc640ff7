//! Who may sign in, and which roles they have.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use session_kit::core::{InvalidField, Session, TenantId, UserId, UserKey};
use session_kit::engine::{ActiveSession, ClaimsProvider, async_trait};
use session_kit::http::{AdminAccess, Caller, Problem};

use crate::place::Place;

/// The known users; those with a slash are of a tenant.
const USERS: [&str; 7] =
    ["alice", "bob", "root", "north/alice", "north/boss", "south/alice", "south/bob"];

/// The claims of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    pub(crate) roles: Vec<String>,
}

/// The users' roles, in a file that all nodes of this host share.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    file: Arc<PathBuf>,
    /// One change at a time.
    turn: Arc<Mutex<()>>,
}

type Error = Box<dyn std::error::Error + Send + Sync>;

impl Accounts {
    pub(crate) fn beside(place: &Place) -> Self {
        Self { file: Arc::new(place.beside("roles.json")), turn: Arc::default() }
    }

    /// Gives a user these roles and no others.
    pub(crate) fn set(&self, name: &str, claims: &Claims) -> Result<(), Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.read()?;
        all.insert(name.to_owned(), claims.clone());
        let new = self.file.with_extension(format!("{}.new", std::process::id()));
        std::fs::write(&new, serde_json::to_vec(&all)?)?;
        std::fs::rename(&new, self.file.as_path())?;
        Ok(())
    }

    fn read(&self) -> Result<BTreeMap<String, Claims>, Error> {
        match std::fs::read(self.file.as_path()) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl ClaimsProvider for Accounts {
    async fn claims(&self, session: &Session) -> Result<Value, Error> {
        let claims = self.read()?.remove(&name_of(&session.owner)).unwrap_or_default();
        Ok(serde_json::to_value(claims)?)
    }
}

/// The user, if there is one of this name and the password is right.
pub(crate) fn authenticate(name: &str, password: &str) -> Option<UserKey> {
    (USERS.contains(&name) && password == name).then(|| user(name).ok())?
}

/// The user of whom the stand-in for an identity provider says that it knows them.
pub(crate) fn provided(name: &str) -> Option<UserKey> {
    USERS.contains(&name).then(|| user(name).ok())?
}

/// A user by the name that the login form takes.
pub(crate) fn user(name: &str) -> Result<UserKey, InvalidField> {
    match name.split_once('/') {
        Some((tenant, user)) => Ok(UserKey::in_tenant(TenantId::new(tenant)?, UserId::new(user)?)),
        None => UserId::new(name).map(UserKey::new),
    }
}

pub(crate) fn name_of(owner: &UserKey) -> String {
    match &owner.tenant {
        Some(tenant) => format!("{tenant}/{}", owner.user),
        None => owner.user.to_string(),
    }
}

/// `root` and users with the role `admin` administer everything, the `boss` of a tenant that tenant.
pub(crate) fn guard(caller: Caller<'_>) -> AdminAccess {
    caller.session.map_or(AdminAccess::Denied, access)
}

/// Who acts as another user may not administer.
pub(crate) fn may_administer(session: &ActiveSession) -> bool {
    session.impersonator().is_none() && access(session) != AdminAccess::Denied
}

/// Returns the user to act as; an admin may act as users they administer. Others do not learn who exists.
pub(crate) fn to_act_as(session: &ActiveSession, name: &str) -> Result<UserKey, Problem> {
    if session.impersonator().is_some() {
        return Err(Problem::impersonated());
    }
    let owner = user(name)?;
    let is_within_reach = match access(session) {
        AdminAccess::Deployment => true,
        AdminAccess::Tenant(tenant) => tenant == owner.tenant,
        _ => false,
    };
    if !is_within_reach {
        return Err(Problem::forbidden());
    }
    provided(name).ok_or(Problem::not_found())
}

/// Whether a user is an admin by name. Roles do not count.
pub(crate) fn is_admin(owner: &UserKey) -> bool {
    access_by_name(owner) != AdminAccess::Denied
}

fn access(session: &ActiveSession) -> AdminAccess {
    let claims = session.claims_as::<Claims>().unwrap_or_default();
    if claims.roles.iter().any(|role| role == "admin") {
        return AdminAccess::Deployment;
    }
    access_by_name(session.owner())
}

fn access_by_name(owner: &UserKey) -> AdminAccess {
    match (owner.user.as_str(), &owner.tenant) {
        ("root", None) => AdminAccess::Deployment,
        ("boss", Some(tenant)) => AdminAccess::Tenant(Some(tenant.clone())),
        _ => AdminAccess::Denied,
    }
}

//! Who may administer.

use std::fmt;

use async_trait::async_trait;
use http::HeaderMap;
use session_core::TenantId;
use session_core::store::TenantFilter;
use session_engine::ActiveSession;

use crate::problem::Problem;

/// Decides who may use the admin API and page. Supplied by the application, as a closure or, where
/// it has to wait for something, as a type of its own.
///
/// ```
/// use session_http::{AdminAccess, Caller, Hooks};
///
/// let hooks = Hooks::default().with_guard(|caller: Caller<'_>| {
///     match caller.session {
///         Some(session) if session.user().as_str() == "root" => AdminAccess::Deployment,
///         _ => AdminAccess::Denied,
///     }
/// });
/// ```
#[async_trait]
pub trait AdminGuard: Send + Sync + 'static {
    /// How far the caller's power reaches.
    async fn access(&self, caller: Caller<'_>) -> AdminAccess;
}

#[async_trait]
impl<F> AdminGuard for F
where
    F: Fn(Caller<'_>) -> AdminAccess + Send + Sync + 'static,
{
    async fn access(&self, caller: Caller<'_>) -> AdminAccess {
        self(caller)
    }
}

/// Who asks.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Caller<'r> {
    /// The caller's session, if there is one.
    pub session: Option<&'r ActiveSession>,
    /// The request's headers.
    pub headers: &'r HeaderMap,
}

impl<'r> Caller<'r> {
    pub(crate) const fn new(session: Option<&'r ActiveSession>, headers: &'r HeaderMap) -> Self {
        Self { session, headers }
    }
}

/// How far an admin's power reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminAccess {
    /// Not at all.
    Denied,
    /// Within one tenant, or with `None` among the users outside all tenants.
    Tenant(Option<TenantId>),
    /// Everywhere.
    Deployment,
}

impl AdminAccess {
    /// The walls that the caller asked for, if they lie within reach; asking for none means all
    /// that is within reach.
    pub(crate) fn within(&self, asked: TenantFilter) -> Result<TenantFilter, Problem> {
        match (self, asked) {
            (Self::Deployment, asked) => Ok(asked),
            (Self::Tenant(own), TenantFilter::Any) => Ok(TenantFilter::Is(own.clone())),
            (Self::Tenant(own), TenantFilter::Is(tenant)) if *own == tenant => {
                Ok(TenantFilter::Is(tenant))
            }
            (Self::Denied | Self::Tenant(_), _) => Err(Problem::forbidden()),
        }
    }

    /// The tenant of a named user: the one asked for, or by default the caller's own.
    pub(crate) fn tenant(&self, asked: TenantFilter) -> Result<Option<TenantId>, Problem> {
        match self.within(asked)? {
            TenantFilter::Any => Ok(None),
            TenantFilter::Is(tenant) => Ok(tenant),
        }
    }
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("session", &self.session).finish_non_exhaustive()
    }
}

/// The default: denies every caller.
pub(crate) fn deny_all(_caller: Caller<'_>) -> AdminAccess {
    AdminAccess::Denied
}

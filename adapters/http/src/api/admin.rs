//! What an admin sees and does, within the walls that the guard allows.

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use session_core::policy::PolicyScope;
use session_core::store::{PageQuery, Selection, TenantFilter};
use session_core::{SessionId, UserId, UserKey};
use session_engine::CurrentSession;

use super::query::{self, Query};
use super::view::{PageView, PolicyView, Revoked, SessionView};
use super::{Admin, Answer, Request, json, no_content};
use crate::activity::REFRESH;
use crate::guard::AdminAccess;
use crate::problem::Problem;

/// Lists sessions, newest sign-in first.
#[utoipa::path(
    get, path = "/admin/sessions", tag = "admin", operation_id = "list_sessions",
    params(
        ("tenant" = Option<String>, Query, description = "Only this tenant; empty: only users outside all tenants"),
        ("user" = Option<String>, Query, description = "Only this user"),
        ("device" = Option<String>, Query, description = "Only this kind of device"),
        ("client" = Option<String>, Query, description = "Only this client"),
        ("active_since" = Option<String>, Query, description = "Only those last accessed at or after this time", format = "date-time"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "Sessions on a page, 50 by default", minimum = 1, maximum = 200),
        ("refresh" = Option<String>, Query, description = "Read because of an event: puts no idle timeout off"),
    ),
    responses(
        (status = 200, body = PageView, description = "A page of sessions"),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, or of another tenant", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(request: Request<'_>) -> Answer {
    let admin = request.admin().await?;
    let known = ["tenant", "user", "device", "client", "active_since", "cursor", "limit", REFRESH];
    let parameters = request.query(&known)?;
    let manager = request.http.manager();
    let mut query = manager.query(admin.filter(&parameters)?);
    query.user = parameters.get("user")?;
    query.device_kind = parameters.get("device")?;
    query.client_id = parameters.get("client")?;
    query.active_since = parameters.time("active_since")?;
    query.after = parameters.get("cursor")?;
    query.limit = parameters.number("limit", PageQuery::MAX_LIMIT)?.unwrap_or(query.limit);
    let page = manager.list(&query).await?;
    json(StatusCode::OK, &PageView::of(page, admin.session_id()))
}

/// One session with every field.
#[utoipa::path(
    get, path = "/admin/sessions/{id}", tag = "admin", operation_id = "get_session",
    params(("id" = String, Path, description = "Session id", format = "uuid")),
    responses(
        (status = 200, body = SessionView, description = "The session"),
        (status = 400, body = Problem, description = "The id is no UUID", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin", content_type = "application/problem+json"),
        (status = 404, body = Problem, description = "No such session within reach", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get(request: Request<'_>, id: &str) -> Answer {
    let admin = request.admin().await?;
    let id: SessionId = query::path_value(id)?;
    let walls = admin.walls()?;
    let session = request.http.manager().get(id, &walls).await?.ok_or(Problem::not_found())?;
    json(StatusCode::OK, &SessionView::of(session, admin.session_id()))
}

/// Ends one session.
#[utoipa::path(
    delete, path = "/admin/sessions/{id}", tag = "admin", operation_id = "revoke_session",
    params(("id" = String, Path, description = "Session id", format = "uuid")),
    responses(
        (status = 204, description = "Ended"),
        (status = 400, body = Problem, description = "The id is no UUID", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 404, body = Problem, description = "No such session within reach", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn revoke(request: Request<'_>, id: &str) -> Answer {
    let admin = request.changing_admin().await?;
    let selection = Selection::session(query::path_value(id)?, admin.walls()?);
    match request.http.manager().revoke_selected(selection, admin.by).await? {
        0 => Err(Problem::not_found().into()),
        _ => no_content(),
    }
}

/// Ends the sessions of a user.
#[utoipa::path(
    delete, path = "/admin/users/{user}/sessions", tag = "admin", operation_id = "revoke_user_sessions",
    params(
        ("user" = String, Path, description = "The user"),
        ("tenant" = Option<String>, Query, description = "The user's tenant"),
        ("device" = Option<String>, Query, description = "Only on this kind of device"),
        ("except" = Option<String>, Query, description = "But not this session", format = "uuid"),
    ),
    responses(
        (status = 200, body = Revoked, description = "Ended"),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, of another tenant, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn revoke_user(request: Request<'_>, user: &str) -> Answer {
    let admin = request.changing_admin().await?;
    let parameters = request.query(&["tenant", "device", "except"])?;
    let owner = UserKey { tenant: admin.tenant(&parameters)?, user: query::path_value(user)? };
    let mut selection = Selection::user(owner);
    selection.device_kind = parameters.get("device")?;
    selection.except = parameters.get("except")?;
    let revoked = request.http.manager().revoke_selected(selection, admin.by).await?;
    json(StatusCode::OK, &Revoked { revoked })
}

/// The policy that holds for the deployment, a tenant or a user.
#[utoipa::path(
    get, path = "/admin/policy", tag = "admin", operation_id = "get_policy",
    params(
        ("tenant" = Option<String>, Query, description = "Of this tenant, or of a user in it"),
        ("user" = Option<String>, Query, description = "Of this user"),
    ),
    responses(
        (status = 200, body = PolicyView, description = "The policy"),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, or of another tenant", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn policy(request: Request<'_>) -> Answer {
    let admin = request.admin().await?;
    let scope = admin.policy_scope(request)?;
    shown(request, &scope).await
}

/// Sets the policy of the deployment, a tenant or a user. Ends no session by itself.
#[utoipa::path(
    put, path = "/admin/policy", tag = "admin", operation_id = "set_policy",
    params(
        ("tenant" = Option<String>, Query, description = "Of this tenant, or of a user in it"),
        ("user" = Option<String>, Query, description = "Of this user"),
    ),
    request_body = PolicyView,
    responses(
        (status = 200, body = PolicyView, description = "The policy that holds from now on"),
        (status = 400, body = Problem, description = "The body or a parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, of another tenant, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 408, body = Problem, description = "The body did not arrive in time", content_type = "application/problem+json"),
        (status = 413, body = Problem, description = "The body is too large", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn set_policy<E>(
    request: Request<'_>,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Answer {
    let admin = request.changing_admin().await?;
    let scope = admin.policy_scope(request)?;
    let view: PolicyView = serde_json::from_slice(&request.body(body).await?)
        .map_err(|error| Problem::malformed(format!("the body is no policy: {error}")))?;
    let policy = Some(view.into_policy());
    request.http.manager().set_policy(scope.clone(), policy, admin.by).await?;
    shown(request, &scope).await
}

/// Inherits the policy of the wider scope again.
#[utoipa::path(
    delete, path = "/admin/policy", tag = "admin", operation_id = "unset_policy",
    params(
        ("tenant" = Option<String>, Query, description = "Of this tenant, or of a user in it"),
        ("user" = Option<String>, Query, description = "Of this user"),
    ),
    responses(
        (status = 204, description = "Inherited from now on"),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, of another tenant, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn unset_policy(request: Request<'_>) -> Answer {
    let admin = request.changing_admin().await?;
    let scope = admin.policy_scope(request)?;
    request.http.manager().set_policy(scope, None, admin.by).await?;
    no_content()
}

impl Admin {
    fn session_id(&self) -> Option<SessionId> {
        self.session.as_ref().map(CurrentSession::id)
    }

    /// All that the admin may reach.
    pub(super) fn walls(&self) -> Result<TenantFilter, Problem> {
        self.access.within(TenantFilter::Any)
    }

    fn filter(&self, parameters: &Query) -> Result<TenantFilter, Problem> {
        self.access.within(parameters.tenant()?)
    }

    fn tenant(&self, parameters: &Query) -> Result<Option<session_core::TenantId>, Problem> {
        self.access.tenant(parameters.tenant()?)
    }

    /// Where a policy call aims, if the admin may aim there.
    fn policy_scope(&self, request: Request<'_>) -> Result<PolicyScope, Problem> {
        let parameters = request.query(&["tenant", "user"])?;
        let tenant = self.tenant(&parameters)?;
        match (parameters.get::<UserId>("user")?, tenant) {
            (Some(user), tenant) => Ok(PolicyScope::User(UserKey { tenant, user })),
            (None, Some(tenant)) => Ok(PolicyScope::Tenant(tenant)),
            (None, None) if self.access == AdminAccess::Deployment => Ok(PolicyScope::Deployment),
            (None, None) => Err(Problem::forbidden()),
        }
    }
}

async fn shown(request: Request<'_>, scope: &PolicyScope) -> Answer {
    let manager = request.http.manager();
    let view = match manager.policy(scope).await? {
        Some(policy) => PolicyView::of(policy, false),
        None => PolicyView::of(manager.effective_policy(scope).await?, true),
    };
    json(StatusCode::OK, &view)
}

//! What an admin sees and does, within the walls that the guard allows.

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use http::header::{ETAG, IF_MATCH};
use session_core::policy::PolicyScope;
use session_core::store::{PageQuery, Selection, TenantFilter};
use session_core::{SessionId, TenantId, UserId, UserKey};
use session_engine::{ActiveSession, Error};

use super::query::{self, Query};
use super::view::{PageView, PolicyView, Revoked, SessionView};
use super::{Admin, Answer, Request, json, json_response, json_text, no_content};
use crate::activity::REFRESH;
use crate::entity_tag::EntityTag;
use crate::guard::AdminAccess;
use crate::problem::Problem;
use crate::rejection::Rejection;

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
    params(
        ("id" = String, Path, description = "Session id", format = "uuid"),
        ("tenant" = Option<String>, Query, description = "Only if it is of this tenant; empty: of a user outside all tenants"),
    ),
    responses(
        (status = 200, body = SessionView, description = "The session"),
        (status = 400, body = Problem, description = "The id is no UUID, or a parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin", content_type = "application/problem+json"),
        (status = 404, body = Problem, description = "No such session within reach", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get(request: Request<'_>, id: &str) -> Answer {
    let admin = request.admin().await?;
    let id: SessionId = query::path_value("id", id)?;
    let walls = admin.filter(&request.query(&["tenant"])?)?;
    let session = request.http.manager().get(id, &walls).await?.ok_or(Problem::not_found())?;
    json(StatusCode::OK, &SessionView::of(session, admin.session_id()))
}

/// Ends one session.
#[utoipa::path(
    delete, path = "/admin/sessions/{id}", tag = "admin", operation_id = "revoke_session",
    params(
        ("id" = String, Path, description = "Session id", format = "uuid"),
        ("tenant" = Option<String>, Query, description = "Only if it is of this tenant; empty: of a user outside all tenants"),
    ),
    responses(
        (status = 204, description = "Ended"),
        (status = 400, body = Problem, description = "The id is no UUID, or a parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in; or, with `reauthenticate`, not lately", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 404, body = Problem, description = "No such session within reach", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn revoke(request: Request<'_>, id: &str) -> Answer {
    let admin = request.changing_admin().await?;
    let id: SessionId = query::path_value("id", id)?;
    let selection = Selection::session(id, admin.filter(&request.query(&["tenant"])?)?);
    match admin.end(request, selection).await? {
        0 => Err(Problem::not_found().into()),
        _ => no_content(),
    }
}

/// Ends every session that all of the filters select, in an incident say.
///
/// At least one filter has to be given, or `all`. An empty `tenant`, for the users outside all tenants, is
/// not enough: in a deployment without tenants it selects every session. With `user` and without `tenant` it is
/// the user of the caller's own tenant, or the one outside all tenants.
#[utoipa::path(
    delete, path = "/admin/sessions", tag = "admin", operation_id = "revoke_sessions",
    params(
        ("tenant" = Option<String>, Query, description = "Only of this tenant; empty, with another filter or `all`: only of users outside all tenants"),
        ("user" = Option<String>, Query, description = "Only of this user"),
        ("device" = Option<String>, Query, description = "Only on this kind of device"),
        ("client" = Option<String>, Query, description = "Only of this client"),
        ("signed_in_before" = Option<String>, Query, description = "Only those that began before this time", format = "date-time"),
        ("all" = Option<bool>, Query, description = "`true` where no other filter is meant: all that the admin may reach, within `tenant` if it is given"),
        ("except" = Option<String>, Query, description = "But not this session", format = "uuid"),
    ),
    responses(
        (status = 200, body = Revoked, description = "Ended"),
        (status = 400, body = Problem, description = "A parameter does not fit, or there is none", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in; or, with `reauthenticate`, not lately", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, of another tenant, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn revoke_selected(request: Request<'_>) -> Answer {
    let admin = request.changing_admin().await?;
    let parameters = request.query(&[&FILTERS[..], &["all", "except"]].concat())?;
    if !parameters.flag("all")? && !parameters.narrows(&FILTERS) {
        return Err(no_filter(&parameters).into());
    }
    let mut selection = match parameters.get("user")? {
        Some(user) => Selection::user(UserKey { tenant: admin.tenant(&parameters)?, user }),
        None => Selection::within(admin.filter(&parameters)?),
    };
    selection.client_id = parameters.get("client")?;
    selection.signed_in_before = parameters.time("signed_in_before")?;
    admin.revoke(request, selection, &parameters).await
}

fn no_filter(parameters: &Query) -> Problem {
    let filters = FILTERS.join(", ");
    let detail = format!("give at least one of {filters}; or all=true to end every session");
    match parameters.has("tenant") {
        true => {
            query::field("tenant", format!("it is empty: {detail} of users outside all tenants"))
        }
        false => Problem::malformed(detail),
    }
}

/// The sessions of the user in the path. Browsers and proxies take some names, such as `..`, for a part
/// of the path's structure, so it is not described.
pub(super) async fn revoke_user_of_path(request: Request<'_>, user: &str) -> Answer {
    let admin = request.changing_admin().await?;
    let parameters = request.query(&["tenant", "device", "except"])?;
    let owner =
        UserKey { tenant: admin.tenant(&parameters)?, user: query::path_value("user", user)? };
    admin.revoke(request, Selection::user(owner), &parameters).await
}

/// Each makes what a call ends fewer.
const FILTERS: [&str; 5] = ["tenant", "user", "device", "client", "signed_in_before"];

/// The policy that holds for the deployment, a tenant or a user.
#[utoipa::path(
    get, path = "/admin/policy", tag = "admin", operation_id = "get_policy",
    params(
        ("tenant" = Option<String>, Query, description = "Of this tenant, or of a user in it; empty: of a user outside all tenants"),
        ("user" = Option<String>, Query, description = "Of this user"),
    ),
    responses(
        (status = 200, body = PolicyView, description = "The policy", headers(("ETag" = String, description = "Changes with the policy; for `If-Match`"))),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, or of another tenant", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn policy(request: Request<'_>) -> Answer {
    let admin = request.admin().await?;
    let scope = admin.scope(request)?;
    shown(request, &scope).await
}

/// Sets the policy of the deployment, a tenant or a user. Ends no session by itself.
///
/// A policy that a newer version has set there, `newer` in its view, is not overwritten: this version
/// would lose the parts that it does not know. It can be deleted.
///
/// That and `If-Match` are looked at just before the policy is written, not in the same atomic step: of
/// two admins who save within the same moment, the later one may still win.
#[utoipa::path(
    put, path = "/admin/policy", tag = "admin", operation_id = "set_policy",
    params(
        ("tenant" = Option<String>, Query, description = "Of this tenant, or of a user in it; empty: of a user outside all tenants"),
        ("user" = Option<String>, Query, description = "Of this user"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the policy that is to be changed"),
    ),
    request_body = PolicyView,
    responses(
        (status = 200, body = PolicyView, description = "The policy that holds from now on", headers(("ETag" = String, description = "Changes with the policy; for `If-Match`"))),
        (status = 400, body = Problem, description = "The body or a parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in; or, with `reauthenticate`, not lately", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, of another tenant, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 408, body = Problem, description = "The body did not arrive in time", content_type = "application/problem+json"),
        (status = 409, body = Problem, description = "A newer version set the policy: `urn:session-kit:newer-version`", content_type = "application/problem+json"),
        (status = 412, body = Problem, description = "The policy is no longer that of `If-Match`", content_type = "application/problem+json"),
        (status = 413, body = Problem, description = "The body is too large", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn set_policy<E>(
    request: Request<'_>,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Answer {
    let admin = request.changing_admin().await?;
    let scope = admin.scope(request)?;
    let policy = Some(PolicyView::read(&request.body(body).await?)?);
    refuse_stale(request, &scope).await?;
    let manager = request.http.manager();
    if manager.policy(&scope).await?.is_some_and(|set| set.newer) {
        return Err(Problem::newer_version().into());
    }
    manager.set_policy(scope.clone(), policy, admin.by).await?;
    shown(request, &scope).await
}

/// Inherits the policy of the wider scope again.
#[utoipa::path(
    delete, path = "/admin/policy", tag = "admin", operation_id = "unset_policy",
    params(
        ("tenant" = Option<String>, Query, description = "Of this tenant, or of a user in it; empty: of a user outside all tenants"),
        ("user" = Option<String>, Query, description = "Of this user"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the policy that is to be changed"),
    ),
    responses(
        (status = 204, description = "Inherited from now on"),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in; or, with `reauthenticate`, not lately", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, of another tenant, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 412, body = Problem, description = "The policy is no longer that of `If-Match`", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn unset_policy(request: Request<'_>) -> Answer {
    let admin = request.changing_admin().await?;
    let scope = admin.scope(request)?;
    refuse_stale(request, &scope).await?;
    request.http.manager().set_policy(scope, None, admin.by).await?;
    no_content()
}

impl Admin {
    pub(super) fn session_id(&self) -> Option<SessionId> {
        self.session.as_ref().map(ActiveSession::id)
    }

    /// What the admin may reach of what is asked for.
    pub(super) fn filter(&self, parameters: &Query) -> Result<TenantFilter, Problem> {
        self.access.within(parameters.tenant()?)
    }

    pub(super) fn tenant(&self, parameters: &Query) -> Result<Option<TenantId>, Problem> {
        self.access.tenant(parameters.tenant()?)
    }

    /// The place that a policy or a block is for, if the admin may aim there.
    pub(super) fn scope(&self, request: Request<'_>) -> Result<PolicyScope, Problem> {
        let parameters = request.query(&["tenant", "user"])?;
        let tenant = self.tenant(&parameters)?;
        match (parameters.get::<UserId>("user")?, tenant) {
            (Some(user), tenant) => Ok(PolicyScope::User(UserKey { tenant, user })),
            (None, Some(tenant)) => Ok(PolicyScope::Tenant(tenant)),
            (None, None) if self.access != AdminAccess::Deployment => Err(Problem::forbidden()),
            // An empty tenant is not an absent one.
            (None, None) if parameters.has("tenant") => Err(query::field(
                "tenant",
                "it is empty: the users outside all tenants are no place",
            )),
            (None, None) => Ok(PolicyScope::Deployment),
        }
    }

    /// Ends sessions in the admin's name; the history notes the device.
    async fn end(&self, request: Request<'_>, selection: Selection) -> Result<u64, Error> {
        let manager = request.http.manager();
        match &self.session {
            Some(session) => manager.revoke_by(selection, session).await,
            None => manager.revoke_selected(selection, self.by.clone()).await,
        }
    }

    /// Ends sessions and answers how many there were.
    async fn revoke(
        &self,
        request: Request<'_>,
        mut selection: Selection,
        parameters: &Query,
    ) -> Answer {
        selection.device_kind = parameters.get("device")?;
        selection.except = parameters.get("except")?;
        let revoked = self.end(request, selection).await?;
        json(StatusCode::OK, &Revoked { revoked })
    }
}

/// The policy that holds at a place, with its tag.
async fn shown(request: Request<'_>, scope: &PolicyScope) -> Answer {
    let text = policy_text(request, scope).await?;
    let tag = EntityTag::of(&text).value();
    let mut response = json_response(StatusCode::OK, text);
    response.headers_mut().extend(tag.map(|tag| (ETAG, tag)));
    Ok(response)
}

/// 412 where the policy is another than the one that the caller has read, if the caller says which.
async fn refuse_stale(request: Request<'_>, scope: &PolicyScope) -> Result<(), Rejection> {
    let headers = request.head.headers;
    if !headers.contains_key(IF_MATCH) {
        return Ok(());
    }
    let tag = EntityTag::of(&policy_text(request, scope).await?);
    if tag.is_in(headers, IF_MATCH) { Ok(()) } else { Err(Problem::precondition_failed().into()) }
}

async fn policy_text(request: Request<'_>, scope: &PolicyScope) -> Result<Bytes, Rejection> {
    let effective = request.http.manager().effective_policy(scope).await?;
    Ok(json_text(&PolicyView::of(effective, scope))?)
}

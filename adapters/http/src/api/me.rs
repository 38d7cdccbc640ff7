//! What a user sees and does of their own sessions.

use http::StatusCode;
use session_core::store::{PageQuery, TenantFilter};
use session_core::{Actor, SessionId};

use super::view::{MeView, PageView, Revoked};
use super::{Answer, Request, json, no_content, query};
use crate::activity::REFRESH;
use crate::problem::Problem;

/// Lists the caller's sessions.
#[utoipa::path(
    get, path = "/me", tag = "me", operation_id = "list_my_sessions",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "Sessions on a page", minimum = 1, maximum = 200),
        ("refresh" = Option<String>, Query, description = "Read because of an event: puts no idle timeout off"),
    ),
    responses(
        (status = 200, body = MeView, description = "The caller's sessions"),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(request: Request<'_>) -> Answer {
    let session = request.session()?;
    let parameters = request.query(&["cursor", "limit", REFRESH])?;
    let manager = request.http.manager();
    let mut query = manager.query(TenantFilter::Is(session.tenant().cloned()));
    query.user = Some(session.user().clone());
    query.after = parameters.get("cursor")?;
    query.limit = parameters.number("limit", PageQuery::MAX_LIMIT)?.unwrap_or(PageQuery::MAX_LIMIT);
    let page = manager.list(&query).await?;
    let view = MeView {
        user: session.user().to_string(),
        tenant: session.tenant().map(ToString::to_string),
        session_id: session.id(),
        page: PageView::of(page, Some(session.id())),
    };
    json(StatusCode::OK, &view)
}

/// Ends one of the caller's sessions.
#[utoipa::path(
    delete, path = "/me/{id}", tag = "me", operation_id = "revoke_my_session",
    params(("id" = String, Path, description = "Session id", format = "uuid")),
    responses(
        (status = 204, description = "Ended"),
        (status = 400, body = Problem, description = "The id is no UUID", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not proven to come from this origin", content_type = "application/problem+json"),
        (status = 404, body = Problem, description = "Not one of the caller's sessions", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn revoke(request: Request<'_>, id: &str) -> Answer {
    let session = request.session()?;
    let id: SessionId = query::path_value(id)?;
    let by = Actor::User(session.user().clone());
    match request.http.manager().revoke(id, session.owner(), by).await? {
        true => no_content(),
        false => Err(Problem::not_found().into()),
    }
}

/// Ends all of the caller's sessions but this one.
#[utoipa::path(
    post, path = "/me/revoke-others", tag = "me", operation_id = "revoke_my_other_sessions",
    responses(
        (status = 200, body = Revoked, description = "Ended"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not proven to come from this origin", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn revoke_others(request: Request<'_>) -> Answer {
    let session = request.session()?;
    request.asks.fresh_for_changes(request.head)?;
    let revoked = request.http.manager().revoke_others(session).await?;
    json(StatusCode::OK, &Revoked { revoked })
}

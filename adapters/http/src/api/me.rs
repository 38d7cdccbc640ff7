//! What a user sees and does of their own sessions.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use session_core::store::{Page, PageCursor, PageQuery, Selection, TenantFilter};
use session_core::{Session, SessionId};
use session_engine::{ActiveSession, Error, SessionManager};

use super::fields::Fields;
use super::view::{MeView, PageView, RenamedView, Revoked, SessionView, impersonator};
use super::{Answer, Request, json, no_content, query};
use crate::activity::REFRESH;
use crate::problem::Problem;

/// What stands below `/me`, is posted to, and is no session's id.
pub(super) const ACTIONS: [&str; 2] = ["revoke-others", "sign-out"];

/// What stands below `/me`, is read, and is no session's id.
pub(super) const LISTS: [&str; 2] = ["events", "history"];

/// Whether this may be a session's id.
pub(super) fn is_id(segment: &str) -> bool {
    !segment.is_empty() && !ACTIONS.contains(&segment) && !LISTS.contains(&segment)
}

/// Lists the caller's sessions: first that of this request, then the others, newest sign-in first.
#[utoipa::path(
    get, path = "/me", tag = "me", operation_id = "list_my_sessions",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "Sessions on a page, 200 by default", minimum = 1, maximum = 200),
        ("refresh" = Option<String>, Query, description = "Read because of an event: puts no idle timeout off"),
    ),
    responses(
        (status = 200, body = MeView, description = "A page of the caller's sessions"),
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
    let mut page = manager.list(&query).await?;
    if query.after.is_some() {
        page.sessions.retain(|listed| listed.id != session.id());
    } else {
        put_first(session, &mut page, query.limit, manager).await?;
    }
    let (impersonator, impersonator_tenant) = impersonator(session.impersonator());
    let view = MeView {
        user: session.user().to_string(),
        tenant: session.tenant().map(ToString::to_string),
        session_id: session.id(),
        impersonator,
        impersonator_tenant,
        total: manager.count(session.owner()).await?,
        page: PageView::of(page, Some(session.id())),
    };
    json(StatusCode::OK, &view)
}

/// Puts the caller's session first on the first page, wherever it stands among the others.
async fn put_first(
    session: &ActiveSession,
    page: &mut Page,
    limit: u32,
    manager: &SessionManager,
) -> Result<(), Error> {
    if let Some(place) = page.sessions.iter().position(|listed| listed.id == session.id()) {
        page.sessions[..=place].rotate_right(1);
        return Ok(());
    }
    let walls = TenantFilter::Is(session.tenant().cloned());
    let Some(own) = manager.get(session.id(), &walls).await? else { return Ok(()) };
    if page.sessions.len() == limit as usize {
        // One has to make room, and opens the next page.
        let postponed = page.sessions.pop();
        let last = page.sessions.last().map(PageCursor::of);
        page.next = last.or_else(|| postponed.as_ref().map(before));
    }
    page.sessions.insert(0, own);
    Ok(())
}

/// The cursor of a page that begins with this session.
fn before(first: &Session) -> PageCursor {
    let at = first.signed_in.plus(Duration::from_millis(1));
    PageCursor { at, id: SessionId::from_bytes([u8::MAX; 16]) }
}

/// Ends one of the caller's sessions.
#[utoipa::path(
    delete, path = "/me/{id}", tag = "me", operation_id = "revoke_my_session",
    params(("id" = String, Path, description = "Session id", format = "uuid")),
    responses(
        (status = 204, description = "Ended"),
        (status = 400, body = Problem, description = "The id is no UUID, or there is a parameter, and none is known", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in; or, with `reauthenticate`, not lately", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not proven to come from this origin", content_type = "application/problem+json"),
        (status = 404, body = Problem, description = "Not one of the caller's sessions", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn revoke(request: Request<'_>, id: &str) -> Answer {
    let session = request.session()?;
    request.query(&[])?;
    let id: SessionId = query::path_value("id", id)?;
    if id != session.id() {
        request.asks.fresh_for_changes(request.head)?;
    }
    let selection = Selection::user(session.owner().clone()).among([id]);
    match request.http.manager().revoke_by(selection, session).await? {
        0 => Err(Problem::not_found().into()),
        _ => no_content(),
    }
}

/// Names the device of one of the caller's sessions, or takes its name away.
#[utoipa::path(
    patch, path = "/me/{id}", tag = "me", operation_id = "name_my_device",
    params(("id" = String, Path, description = "Session id", format = "uuid")),
    request_body = RenamedView,
    responses(
        (status = 200, body = SessionView, description = "The session"),
        (status = 400, body = Problem, description = "The id is no UUID, the body does not fit, or there is a parameter, and none is known", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not proven to come from this origin", content_type = "application/problem+json"),
        (status = 404, body = Problem, description = "Not one of the caller's sessions", content_type = "application/problem+json"),
        (status = 408, body = Problem, description = "The body did not arrive in time", content_type = "application/problem+json"),
        (status = 413, body = Problem, description = "The body is too large", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn rename<E>(
    request: Request<'_>,
    id: &str,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Answer {
    let session = request.session()?;
    request.query(&[])?;
    let id: SessionId = query::path_value("id", id)?;
    let fields = Fields::parse(&request.body(body).await?, &["device_name"])?;
    let (name, by) = (fields.nullable("device_name")?, session.actor());
    let named = request.http.manager().name_device(id, session.owner(), name, by).await?;
    let named = named.ok_or(Problem::not_found())?;
    json(StatusCode::OK, &SessionView::of(named, Some(session.id())))
}

/// Ends all of the caller's sessions but this one.
#[utoipa::path(
    post, path = "/me/revoke-others", tag = "me", operation_id = "revoke_my_other_sessions",
    responses(
        (status = 200, body = Revoked, description = "Ended"),
        (status = 400, body = Problem, description = "There is a parameter, and none is known", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in; or, with `reauthenticate`, not lately", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not proven to come from this origin", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn revoke_others(request: Request<'_>) -> Answer {
    let session = request.session()?;
    request.query(&[])?;
    request.asks.fresh_for_changes(request.head)?;
    let revoked = request.http.manager().revoke_others(session).await?;
    json(StatusCode::OK, &Revoked { revoked })
}

/// Ends the session of this request and takes its cookie back. A second call does no harm.
#[utoipa::path(
    post, path = "/me/sign-out", tag = "me", operation_id = "sign_out",
    responses(
        (status = 204, description = "Nobody is signed in any more"),
        (status = 400, body = Problem, description = "There is a parameter, and none is known", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not proven to come from this origin", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn sign_out(request: Request<'_>) -> Answer {
    request.query(&[])?;
    let cookie = request.asks.auth(request.head).sign_out().await?;
    let mut response = no_content()?;
    cookie.apply(response.headers_mut());
    Ok(response)
}

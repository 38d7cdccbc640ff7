//! Sessions that have ended.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use session_core::store::{EndedSession, HistoryPage, HistoryQuery, PageQuery};
use session_core::{Actor, EndCause, UserKey};
use utoipa::ToSchema;

use super::query::Query;
use super::view::SessionView;
use super::{Answer, Request, json};
use crate::activity::REFRESH;
use crate::problem::Problem;
use crate::rejection::Rejection;

/// A session that has ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndedView {
    /// The session as it was.
    #[serde(flatten)]
    session: SessionView,
    /// When it ended.
    #[schema(format = "date-time")]
    ended: String,
    /// Why: `evicted`, `revoked`, `expired`, `signed_out`, `replaced`, `token_reused` or `blocked`.
    cause: String,
    /// By whom: `system`, `application`, or `user:` and the user. The session's user is not told who
    /// others are: for them it is `administrator` or, where another user signed in in the same browser,
    /// `another_user`.
    by: String,
    /// That user's tenant; absent where there is none, and the session's user is not told that of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_tenant: Option<String>,
    /// The device from which that was done, where it is known. The session's user is told of devices of
    /// their own only.
    from: Option<String>,
}

impl EndedView {
    /// All of it, for an admin.
    pub(super) fn of(ended: EndedSession) -> Self {
        let EndedSession { session, ended, cause, by, from } = ended;
        Self {
            session: SessionView::of(session, None),
            ended: ended.to_string(),
            cause: cause.to_string(),
            by: by.word().into_owned(),
            by_tenant: by.tenant().map(ToString::to_string),
            from: from.map(|device| device.to_string()),
        }
    }

    /// What the session's own user is told.
    pub(super) fn of_own(mut ended: EndedSession) -> Self {
        let by_other = is_other(&ended.by, &ended.session.owner).then(|| other(ended.cause));
        let Some(other) = by_other else {
            return Self::of(ended);
        };
        ended.from = None;
        Self { by: other.to_owned(), by_tenant: None, ..Self::of(ended) }
    }
}

/// Whether an actor is a user, and not this one.
pub(super) fn is_other(by: &Actor, user: &UserKey) -> bool {
    matches!(by, Actor::User(other) if other != user)
}

/// What the user of a session is told of another one who ended it: not who it was.
pub(super) const fn other(cause: EndCause) -> &'static str {
    match cause {
        EndCause::Replaced => "another_user",
        _ => ADMINISTRATOR,
    }
}

/// What a user is told of an admin.
pub(super) const ADMINISTRATOR: &str = "administrator";

/// A page of ended sessions, latest end first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistoryView {
    /// The sessions. A page may hold fewer than asked for, also where it is not the last.
    sessions: Vec<EndedView>,
    /// Hand it back as `cursor` for the next page; null on the last one.
    next_cursor: Option<String>,
}

impl HistoryView {
    fn of(page: HistoryPage, view: fn(EndedSession) -> EndedView) -> Self {
        Self {
            sessions: page.sessions.into_iter().map(view).collect(),
            next_cursor: page.next.map(|cursor| cursor.to_string()),
        }
    }
}

/// Lists the caller's ended sessions, latest end first, for as long as the deployment keeps them.
#[utoipa::path(
    get, path = "/me/history", tag = "me", operation_id = "list_my_ended_sessions",
    params(
        ("cause" = Option<String>, Query, description = "Only those that ended for this reason"),
        ("since" = Option<String>, Query, description = "Only those that ended at or after this time", format = "date-time"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "Sessions on a page, 50 by default", minimum = 1, maximum = 200),
        ("refresh" = Option<String>, Query, description = "Read because of an event: puts no idle timeout off"),
    ),
    responses(
        (status = 200, body = HistoryView, description = "A page of the caller's ended sessions"),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn mine(request: Request<'_>) -> Answer {
    let session = request.session()?;
    let parameters = request.query(&["cause", "since", "cursor", "limit", REFRESH])?;
    let query = HistoryQuery::user(session.owner().clone());
    let page = page(request, query, &parameters).await?;
    json(StatusCode::OK, &HistoryView::of(page, EndedView::of_own))
}

/// Lists ended sessions, latest end first, for as long as the deployment keeps them.
#[utoipa::path(
    get, path = "/admin/history", tag = "admin", operation_id = "list_ended_sessions",
    params(
        ("tenant" = Option<String>, Query, description = "Only this tenant; empty: only users outside all tenants"),
        ("user" = Option<String>, Query, description = "Only this user"),
        ("device" = Option<String>, Query, description = "Only this kind of device"),
        ("client" = Option<String>, Query, description = "Only this client"),
        ("active_since" = Option<String>, Query, description = "Only those last accessed at or after this time", format = "date-time"),
        ("cause" = Option<String>, Query, description = "Only those that ended for this reason"),
        ("since" = Option<String>, Query, description = "Only those that ended at or after this time", format = "date-time"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "Sessions on a page, 50 by default", minimum = 1, maximum = 200),
        ("refresh" = Option<String>, Query, description = "Read because of an event: puts no idle timeout off"),
    ),
    responses(
        (status = 200, body = HistoryView, description = "A page of ended sessions"),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, or of another tenant", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn all(request: Request<'_>) -> Answer {
    let admin = request.admin().await?;
    let known = [
        "tenant",
        "user",
        "device",
        "client",
        "active_since",
        "cause",
        "since",
        "cursor",
        "limit",
        REFRESH,
    ];
    let parameters = request.query(&known)?;
    let mut query = HistoryQuery::within(admin.filter(&parameters)?);
    query.user = parameters.get("user")?;
    query.device_kind = parameters.get("device")?;
    query.client_id = parameters.get("client")?;
    let active_since = parameters.time("active_since")?;
    query.since = active_since.map(|from| from.minus(ASIDE));
    let mut page = page(request, query, &parameters).await?;
    page.sessions
        .retain(|ended| active_since.is_none_or(|from| ended.session.last_accessed >= from));
    json(StatusCode::OK, &HistoryView::of(page, EndedView::of))
}

/// Reads a page. `since` of the query is a lower bound besides that of the parameters.
async fn page(
    request: Request<'_>,
    mut query: HistoryQuery,
    parameters: &Query,
) -> Result<HistoryPage, Rejection> {
    query.cause = parameters.get("cause")?;
    query.since = query.since.max(parameters.time("since")?);
    query.after = parameters.get("cursor")?;
    query.limit = parameters.number("limit", PageQuery::MAX_LIMIT)?.unwrap_or(query.limit);
    Ok(request.http.manager().history(&query).await?)
}

/// A session ends after its last access. Two nodes may stamp the two, so far apart at most.
const ASIDE: Duration = Duration::from_secs(60);

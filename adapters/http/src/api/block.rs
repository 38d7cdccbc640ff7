//! Users, tenants and deployments that may not sign in.

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use serde::Serialize;
use session_core::block::Block;
use session_core::{Timestamp, UserKey};
use session_engine::NewBlock;
use utoipa::ToSchema;

use super::fields::Fields;
use super::history::{ADMINISTRATOR, is_other};
use super::view::Revoked;
use super::{Answer, Request, json, no_content};
use crate::problem::Problem;

/// What is set at one place.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BlockView {
    /// Whether it refuses sign-ins now.
    blocked: bool,
    /// Why, in words for admins and for the user.
    reason: Option<String>,
    /// From when on sign-in is possible again; null until the block is lifted.
    #[schema(format = "date-time")]
    until: Option<String>,
    /// Since when; null where nothing is set.
    #[schema(format = "date-time")]
    since: Option<String>,
    /// Who set it: `application`, or `user:` and the user; `administrator` in what is handed to the
    /// blocked user; null where nothing is set.
    by: Option<String>,
    /// That user's tenant; absent where there is none, and the blocked user is not told that of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_tenant: Option<String>,
}

impl BlockView {
    pub(super) fn of(block: Option<Block>, now: Timestamp) -> Self {
        let blocked = block.as_ref().is_some_and(|block| block.holds(now));
        let Some(Block { reason, until, since, by }) = block else {
            return Self {
                blocked,
                reason: None,
                until: None,
                since: None,
                by: None,
                by_tenant: None,
            };
        };
        Self {
            blocked,
            reason: reason.map(|reason| reason.to_string()),
            until: until.map(|until| until.to_string()),
            since: Some(since.to_string()),
            by: Some(by.word().into_owned()),
            by_tenant: by.tenant().map(ToString::to_string),
        }
    }

    /// What the blocked user is told.
    pub(super) fn of_own(block: Block, user: &UserKey, now: Timestamp) -> Self {
        let by_other = is_other(&block.by, user);
        let view = Self::of(Some(block), now);
        if by_other {
            return Self { by: Some(ADMINISTRATOR.to_owned()), by_tenant: None, ..view };
        }
        view
    }
}

/// Why and until when.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the API's description")]
pub(super) struct NewBlockView {
    /// Why, in words for admins and for the user.
    reason: Option<String>,
    /// From when on sign-in is possible again; null or absent until the block is lifted.
    #[schema(format = "date-time")]
    until: Option<String>,
}

/// The block that is set for the deployment, a tenant or a user. A wider one may hold besides.
#[utoipa::path(
    get, path = "/admin/block", tag = "admin", operation_id = "get_block",
    params(
        ("tenant" = Option<String>, Query, description = "Of this tenant, or of a user in it; empty: of a user outside all tenants"),
        ("user" = Option<String>, Query, description = "Of this user"),
    ),
    responses(
        (status = 200, body = BlockView, description = "What is set"),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, or of another tenant", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn show(request: Request<'_>) -> Answer {
    let admin = request.admin().await?;
    let scope = admin.scope(request)?;
    let manager = request.http.manager();
    let block = manager.block_at(&scope).await?;
    json(StatusCode::OK, &BlockView::of(block, manager.now()))
}

/// Blocks the deployment, a tenant or a user: no sign-in succeeds from now on, and all sessions there
/// end, the caller's own among them. An earlier block there is replaced.
///
/// Without parameters the whole deployment is blocked. Once the caller's own session has ended, a block
/// without `until` can be lifted only by an admin outside of it or by the application.
#[utoipa::path(
    put, path = "/admin/block", tag = "admin", operation_id = "set_block",
    params(
        ("tenant" = Option<String>, Query, description = "This tenant, or a user in it; empty: a user outside all tenants"),
        ("user" = Option<String>, Query, description = "This user"),
    ),
    request_body = Option<NewBlockView>,
    responses(
        (status = 200, body = Revoked, description = "Blocked; how many sessions ended"),
        (status = 400, body = Problem, description = "The body or a parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in; or, with `reauthenticate`, not lately", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, of another tenant, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 408, body = Problem, description = "The body did not arrive in time", content_type = "application/problem+json"),
        (status = 413, body = Problem, description = "The body is too large", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn set<E>(
    request: Request<'_>,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Answer {
    let admin = request.changing_admin().await?;
    let scope = admin.scope(request)?;
    let fields = Fields::parse_optional(&request.body(body).await?, &["reason", "until"])?;
    let manager = request.http.manager();
    let block =
        NewBlock::default().with_reason(fields.get("reason")?).with_until(fields.time("until")?);
    let revoked = match &admin.session {
        Some(session) => manager.block_by(scope, block, session).await?,
        None => manager.block(scope, block, admin.by).await?,
    };
    json(StatusCode::OK, &Revoked { revoked })
}

/// Lifts the block of the deployment, a tenant or a user. Sign-in is possible again, if no wider block
/// holds; sessions that have ended stay ended. An admin of a tenant may lift any block of a user in it, also
/// one that an admin of the deployment has set.
#[utoipa::path(
    delete, path = "/admin/block", tag = "admin", operation_id = "lift_block",
    params(
        ("tenant" = Option<String>, Query, description = "Of this tenant, or of a user in it; empty: of a user outside all tenants"),
        ("user" = Option<String>, Query, description = "Of this user"),
    ),
    responses(
        (status = 204, description = "Nothing is set there any more"),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in; or, with `reauthenticate`, not lately", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, of another tenant, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn lift(request: Request<'_>) -> Answer {
    let admin = request.changing_admin().await?;
    let scope = admin.scope(request)?;
    request.http.manager().unblock(scope, admin.by).await?;
    no_content()
}

//! What is kept of one user: to be handed out, and to be deleted.

use http::StatusCode;
use serde::Serialize;
use session_core::UserKey;
use utoipa::ToSchema;

use super::block::BlockView;
use super::history::EndedView;
use super::view::{PolicyView, SessionView};
use super::{Admin, Answer, Request, json, query};
use crate::problem::Problem;

/// Everything that is kept of one user, as it may be handed to them: nothing of a token is in it, and of
/// an admin nothing but that it was one. Who has acted as the user is named, as in the user's own lists.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExportView {
    /// The user.
    user: String,
    /// The user's tenant.
    tenant: Option<String>,
    /// Live sessions, newest sign-in first.
    sessions: Vec<SessionView>,
    /// Ended sessions, latest end first.
    history: Vec<EndedView>,
    /// The user's own policy, where one is set.
    policy: Option<PolicyView>,
    /// The user's own block, where one is set.
    block: Option<BlockView>,
}

/// What an erasure has removed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErasedView {
    /// Sessions that it has ended.
    sessions: u64,
    /// Records of ended sessions.
    history: u64,
}

/// Everything that is kept of a user, for the user's right of access.
#[utoipa::path(
    get, path = "/admin/users/export", tag = "admin", operation_id = "export_user",
    params(
        ("tenant" = Option<String>, Query, description = "The user's tenant; empty: outside all tenants; by default the admin's own"),
        ("user" = String, Query, description = "The user"),
    ),
    responses(
        (status = 200, body = ExportView, description = "What is kept"),
        (status = 400, body = Problem, description = "The user or a parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, or of another tenant", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn export(request: Request<'_>) -> Answer {
    let admin = request.admin().await?;
    let owner = admin.user_of_parameters(request)?;
    exported(request, &admin, owner).await
}

/// As `GET /admin/users/export`, with the user in the path.
///
/// Browsers and proxies take some names, such as `..` or `a/b`, for a part of the path's structure:
/// the parameter `user` of the other call takes any.
#[utoipa::path(
    get, path = "/admin/users/{user}/export", tag = "admin", operation_id = "export_user_of_path",
    params(
        ("user" = String, Path, description = "The user"),
        ("tenant" = Option<String>, Query, description = "The user's tenant; empty: outside all tenants; by default the admin's own"),
    ),
    responses(
        (status = 200, body = ExportView, description = "What is kept"),
        (status = 400, body = Problem, description = "The user or a parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, or of another tenant", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn export_of_path(request: Request<'_>, user: &str) -> Answer {
    let admin = request.admin().await?;
    let owner = admin.user_of_path(request, user)?;
    exported(request, &admin, owner).await
}

async fn exported(request: Request<'_>, admin: &Admin, owner: UserKey) -> Answer {
    let manager = request.http.manager();
    let kept = manager.export_user(&owner).await?;
    let now = manager.now();
    let current = admin.session_id();
    let view = ExportView {
        user: owner.user.to_string(),
        tenant: owner.tenant.as_ref().map(|tenant| tenant.to_string()),
        sessions: kept.sessions.into_iter().map(|one| SessionView::of(one, current)).collect(),
        history: kept.history.into_iter().map(EndedView::of_own).collect(),
        policy: kept.policy.map(PolicyView::set),
        block: kept.block.map(|block| BlockView::of_own(block, &owner, now)),
    };
    json(StatusCode::OK, &view)
}

/// Ends all sessions of a user and deletes what is kept of them, and the user's own policy, for the
/// user's right to erasure.
///
/// A block stays, or the user could come back. The log of changes names the user for as long as its
/// entries are kept.
#[utoipa::path(
    delete, path = "/admin/users/data", tag = "admin", operation_id = "erase_user",
    params(
        ("tenant" = Option<String>, Query, description = "The user's tenant; empty: outside all tenants; by default the admin's own"),
        ("user" = String, Query, description = "The user"),
    ),
    responses(
        (status = 200, body = ErasedView, description = "What was removed"),
        (status = 400, body = Problem, description = "The user or a parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in; or, with `reauthenticate`, not lately", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, of another tenant, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn erase(request: Request<'_>) -> Answer {
    let admin = request.changing_admin().await?;
    let owner = admin.user_of_parameters(request)?;
    erased(request, admin, owner).await
}

/// As `DELETE /admin/users/data`, with the user in the path.
///
/// Browsers and proxies take some names, such as `..` or `a/b`, for a part of the path's structure:
/// the parameter `user` of the other call takes any.
#[utoipa::path(
    delete, path = "/admin/users/{user}/data", tag = "admin", operation_id = "erase_user_of_path",
    params(
        ("user" = String, Path, description = "The user"),
        ("tenant" = Option<String>, Query, description = "The user's tenant; empty: outside all tenants; by default the admin's own"),
    ),
    responses(
        (status = 200, body = ErasedView, description = "What was removed"),
        (status = 400, body = Problem, description = "The user or a parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in; or, with `reauthenticate`, not lately", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, of another tenant, or not proven to come from this origin", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn erase_of_path(request: Request<'_>, user: &str) -> Answer {
    let admin = request.changing_admin().await?;
    let owner = admin.user_of_path(request, user)?;
    erased(request, admin, owner).await
}

async fn erased(request: Request<'_>, admin: Admin, owner: UserKey) -> Answer {
    let erased = request.http.manager().erase_user(&owner, admin.by).await?;
    json(StatusCode::OK, &ErasedView { sessions: erased.sessions, history: erased.history })
}

impl Admin {
    /// The user whom the path names, in the tenant of the parameter or in the admin's own.
    fn user_of_path(&self, request: Request<'_>, user: &str) -> Result<UserKey, Problem> {
        let parameters = request.query(&["tenant"])?;
        Ok(UserKey { tenant: self.tenant(&parameters)?, user: query::path_value("user", user)? })
    }

    /// As [`Admin::user_of_path`], for the user whom a parameter names.
    fn user_of_parameters(&self, request: Request<'_>) -> Result<UserKey, Problem> {
        let parameters = request.query(&["tenant", "user"])?;
        Ok(UserKey { tenant: self.tenant(&parameters)?, user: parameters.required("user")? })
    }
}

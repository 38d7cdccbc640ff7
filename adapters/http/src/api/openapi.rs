//! The description of the API, generated from its code.

use utoipa::OpenApi;
use utoipa::openapi::ServerBuilder;

use super::{admin, block, events, health, history, me, privacy, ticket};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "session-kit",
        description = "Who is signed in, on which devices, and how to end it. State-changing calls need a proof that a page of the same origin made them: `Sec-Fetch-Site` or `Origin`.",
        license(name = "MIT OR Apache-2.0"),
    ),
    paths(
        me::list, me::revoke, me::rename, me::revoke_others, me::sign_out, events::mine,
        history::mine, ticket::sign_in,
        admin::list, admin::get, admin::revoke, admin::revoke_selected, history::all,
        block::show, block::set, block::lift,
        privacy::export, privacy::export_of_path, privacy::erase, privacy::erase_of_path,
        admin::policy, admin::set_policy, admin::unset_policy, events::all, health::show,
    ),
    tags(
        (name = "me", description = "The caller's own sessions"),
        (name = "admin", description = "Behind the application's guard"),
        (name = "node", description = "For probes: anybody may ask"),
    ),
)]
struct Api;

/// The OpenAPI description, for a prefix.
pub fn openapi(prefix: &str) -> utoipa::openapi::OpenApi {
    let mut api = Api::openapi();
    api.servers = Some(vec![ServerBuilder::new().url(prefix).build()]);
    api
}

//! The JSON API and the pages as axum routes.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use session_http::{HttpSessions, Problem, api};

use crate::extract::Rejection;
use crate::layer::Found;

/// Everything below the prefix of the options. The [`SessionLayer`](crate::SessionLayer) has to
/// be around it.
pub fn routes<S>(http: &HttpSessions) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let prefix = http.options().prefix.clone();
    Router::new()
        .route(&prefix, any(serve))
        .route(&format!("{prefix}/"), any(serve))
        .route(&format!("{prefix}/{{*rest}}"), any(serve))
}

async fn serve(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some(Found { http, identity }) = parts.extensions.get().cloned() else {
        return Rejection(Problem::misconfigured()).into_response();
    };
    match to_bytes(body, api::MAX_BODY_BYTES).await {
        Ok(body) => http.serve(&parts, &identity, body).await.map(Body::new),
        Err(_) => Rejection(Problem::too_large()).into_response(),
    }
}

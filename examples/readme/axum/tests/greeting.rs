//! Greets a user.

use axum::{Router, body::Body, http::Request, routing::get};
use session_kit::axum::{prelude::*, testing::as_user};
use tower::ServiceExt;

async fn hello(session: CurrentSession) -> String {
    format!("hello {}", session.user())
}

fn app(sessions: &Sessions) -> Router {
    Router::new().route("/", get(hello)).layer(sessions.layer())
}

#[tokio::test]
async fn a_user_is_greeted() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Sessions::start(MemoryStore::new(), Config::development()).await?;
    let request = as_user(&sessions, "alice", Request::get("/")).await?.body(Body::empty())?;
    let answer = app(&sessions).oneshot(request).await?;
    assert_eq!(axum::body::to_bytes(answer.into_body(), 99).await?, "hello alice");
    Ok(())
}

//! For tests of applications: `router.oneshot(as_user(&sessions, "alice", Request::get("/")).await?…)`.

use http::request::Builder;
use session_http::{HttpSessions, NewSession, Problem, testing};

pub use session_http::testing::ManualClock;

use crate::extract::Rejection;

/// The request as a page of this application sends it for a user who is signed in.
///
/// ```
/// # use axum::{Router, body::Body, routing::get};
/// # use session_axum::{Config, CurrentSession, Sessions, testing::as_user};
/// # use tower::ServiceExt;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sessions = Sessions::start(session_store_memory::MemoryStore::new(), Config::default()).await?;
/// let hello = |session: CurrentSession| async move { format!("hello {}", session.user()) };
/// let app = Router::new().route("/", get(hello)).layer(sessions.layer());
///
/// let request = as_user(&sessions, "alice", http::Request::get("/")).await?;
/// let response = app.oneshot(request.body(Body::empty())?).await?;
/// assert_eq!(axum::body::to_bytes(response.into_body(), 99).await?, "hello alice");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Auth::sign_in`](session_http::Auth::sign_in).
pub async fn as_user<N>(
    http: &HttpSessions,
    user: N,
    request: Builder,
) -> Result<Builder, Rejection>
where
    N: TryInto<NewSession>,
    N::Error: Into<Problem>,
{
    let headers = testing::headers_of(http, user).await?;
    Ok(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)))
}

//! For tests of applications: `app.get_response(as_user(&sessions, "alice", builder).await?.finish())`.

use poem::RequestBuilder;
use session_http::{HttpSessions, NewSession, Problem, testing};

pub use session_http::testing::ManualClock;

use crate::response::Rejection;

/// The request as a page of this application sends it for a user who is signed in.
///
/// ```
/// # use poem::{Endpoint, EndpointExt, Request, Route, handler, get};
/// # use session_poem::{Config, CurrentSession, Sessions, testing::as_user};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #[handler]
/// fn hello(session: CurrentSession) -> String {
///     format!("hello {}", session.user())
/// }
///
/// let sessions = Sessions::start(session_store_memory::MemoryStore::new(), Config::default()).await?;
/// let app = Route::new().at("/", get(hello)).with(sessions.middleware());
///
/// let request = as_user(&sessions, "alice", Request::builder().uri_str("/")).await?;
/// let response = app.get_response(request.finish()).await;
/// assert_eq!(response.into_body().into_string().await?, "hello alice");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Auth::sign_in`](session_http::Auth::sign_in).
pub async fn as_user<N>(
    http: &HttpSessions,
    user: N,
    request: RequestBuilder,
) -> Result<RequestBuilder, Rejection>
where
    N: TryInto<NewSession>,
    N::Error: Into<Problem>,
{
    let headers = testing::headers_of(http, user).await?;
    Ok(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)))
}

//! For tests of applications: `as_user(&sessions, "alice", TestRequest::get()).await?.to_request()`.

use actix_web::test::TestRequest;
use session_http::{HttpSessions, NewSession, Problem, testing};

pub use session_http::testing::ManualClock;

use crate::convert::header;
use crate::extract::Rejection;

/// The request as a page of this application sends it for a user who is signed in.
///
/// ```
/// # use actix_web::{App, test, web};
/// # use session_actix::{Config, CurrentSession, Sessions, testing::as_user};
/// # #[actix_web::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sessions = Sessions::start(session_store_memory::MemoryStore::new(), Config::default()).await?;
/// let hello = async |session: CurrentSession| format!("hello {}", session.user());
/// let app = App::new().route("/", web::get().to(hello)).wrap(sessions.middleware());
/// let app = test::init_service(app).await;
///
/// let request = as_user(&sessions, "alice", test::TestRequest::get()).await?;
/// assert_eq!(test::call_and_read_body(&app, request.to_request()).await, "hello alice");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Auth::sign_in`](session_http::Auth::sign_in).
pub async fn as_user<N>(
    http: &HttpSessions,
    user: N,
    request: TestRequest,
) -> Result<TestRequest, Rejection>
where
    N: TryInto<NewSession>,
    N::Error: Into<Problem>,
{
    let headers = testing::headers_of(http, user).await?;
    let headers = headers.iter().filter_map(|(name, value)| header((name, value)));
    Ok(headers.fold(request, TestRequest::insert_header))
}

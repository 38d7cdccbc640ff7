//! For tests of applications: requests of users who are signed in.

use http::header::{COOKIE, HOST};
use http::{HeaderName, HeaderValue};
use session_core::DeviceKind;

use crate::new_session::NewSession;
use crate::problem::Problem;
use crate::rejection::Rejection;
use crate::sessions::HttpSessions;

pub use session_engine::clock::ManualClock;

/// The headers of a request that a page of this application sends for a user: the cookie of a new
/// session, a host, and the proof of origin that state-changing requests need.
///
/// # Errors
/// As [`Auth::sign_in`](crate::Auth::sign_in).
pub async fn headers_of<N>(
    http: &HttpSessions,
    user: N,
) -> Result<[(HeaderName, HeaderValue); 3], Rejection>
where
    N: TryInto<NewSession>,
    N::Error: Into<Problem>,
{
    let new = user.try_into().map_err(Into::into)?;
    let signed_in = http.manager().sign_in(new.into_sign_in(DeviceKind::Web, None)).await?;
    let cookie = format!("{}={}", http.options().cookie.name, signed_in.token.expose());
    let mut cookie = HeaderValue::try_from(cookie)
        .map_err(|_| Problem::malformed("the cookie's name is no text"))?;
    cookie.set_sensitive(true);
    Ok([
        (COOKIE, cookie),
        (HOST, HeaderValue::from_static("localhost")),
        (HeaderName::from_static("sec-fetch-site"), HeaderValue::from_static("same-origin")),
    ])
}

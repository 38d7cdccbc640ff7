//! session-kit for [poem]: a middleware that finds out whose request it is, extractors, guards, and
//! the routes of the JSON API and the pages.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use poem::{Endpoint, EndpointExt, Request, Route, get, handler, http::Method, post};
//! use session_poem::{Config, CurrentSession, Rejection, SessionAuth, SessionCookie, Sessions};
//!
//! // The application has checked the password.
//! #[handler]
//! async fn login(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
//!     let (_, cookie) = auth.sign_in("alice").await?;
//!     Ok(cookie)
//! }
//!
//! #[handler]
//! async fn hello(session: CurrentSession) -> String {
//!     format!("hello {}", session.user())
//! }
//!
//! let store = session_store_memory::MemoryStore::new();
//! let sessions = Sessions::start(store, Config::default()).await?;
//! let app = Route::new()
//!     .at("/", get(hello))
//!     .at("/login", post(login))
//!     .with(sessions.routes())
//!     .with(sessions.middleware());
//!
//! let request = Request::builder().method(Method::POST).uri_str("/login").finish();
//! let answer = app.get_response(request).await;
//! let cookie = answer.headers()["set-cookie"].clone();
//! let request = Request::builder().uri_str("/").header("cookie", cookie).finish();
//! let answer = app.get_response(request).await;
//! assert_eq!(answer.into_body().into_string().await?, "hello alice");
//! # sessions.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Sessions that may be missing
//! `Option<CurrentSession>` takes an outage of the store for "nobody is signed in", as poem turns every
//! refusal of an extractor into `None`. Use [`MaybeSession`] instead.
//!
//! # Serving
//! The client's address comes from the listener: [`TcpListener`](poem::listener::TcpListener) and
//! [`UnixListener`](poem::listener::UnixListener) both tell it.
//!
//! A stopping [`Server`](poem::Server) waits for open responses. Pass
//! [`sessions.graceful(signal)`](session_http::HttpSessions::graceful) as its signal, which ends event
//! streams, and call [`shutdown`](session_http::HttpSessions::shutdown) afterwards:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use poem::{EndpointExt, Route, Server, listener::TcpListener};
//! # use session_poem::{Config, Sessions};
//! # use std::time::Duration;
//! # let store = session_store_memory::MemoryStore::new();
//! # let sessions = Sessions::start(store, Config::default()).await?;
//! # let app = Route::new().with(sessions.routes()).with(sessions.middleware());
//! # let signal = std::future::ready(());
//! Server::new(TcpListener::bind("127.0.0.1:0"))
//!     .run_with_graceful_shutdown(
//!         app,
//!         sessions.graceful(signal),
//!         Some(Duration::from_secs(10)),
//!     )
//!     .await?;
//! sessions.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! What poem's server cannot do: it has no time limit for a client that sends its headers slowly.
//! Put a proxy in front of it.

mod extract;
mod guard;
#[cfg(feature = "ws")]
mod live;
mod middleware;
mod response;
mod sessions;
#[cfg(feature = "testing")]
pub mod testing;

pub use extract::{
    Claims, CurrentSession, Ended, Fresh, Live, MaybeSession, Rejection, SameOrigin, SessionAuth,
    SessionCookie, Sessions,
};
pub use guard::{Guarded, Require};
pub use middleware::{SessionEndpoint, SessionMiddleware};
#[doc(inline)]
pub use session_engine::{Ending, Proof, RotateReason, SignedIn};
#[doc(inline)]
pub use session_http::{
    AdminAccess, AdminGuard, CallbackProof, Caller, ClientIpOptions, Close, Config, CookieOptions,
    Flow, Hooks, HttpOptions, NewSession, Origin, Problem, RequireSession, SameSite, TrustedProxy,
    local_path,
};
pub use sessions::SessionRoutes;

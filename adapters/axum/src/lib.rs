//! session-kit for [axum]: a layer that finds out whose request it is, extractors, guards, and the
//! routes of the JSON API and the pages.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, routing::{get, post}};
//! use session_axum::{Config, CurrentSession, Rejection, SessionAuth, SessionCookie, Sessions};
//! use tower::ServiceExt;
//!
//! // The application has checked the password.
//! async fn login(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
//!     let (_, cookie) = auth.sign_in("alice").await?;
//!     Ok(cookie)
//! }
//!
//! async fn hello(session: CurrentSession) -> String {
//!     format!("hello {}", session.user())
//! }
//!
//! let store = session_store_memory::MemoryStore::new();
//! let sessions = Sessions::start(store, Config::default()).await?;
//! let app = Router::new()
//!     .route("/", get(hello))
//!     .route("/login", post(login))
//!     .merge(sessions.routes())
//!     .layer(sessions.layer());
//!
//! let answer = app.clone().oneshot(http::Request::post("/login").body(Body::empty())?).await?;
//! let cookie = answer.headers()["set-cookie"].clone();
//! let request = http::Request::get("/").header("cookie", cookie).body(Body::empty())?;
//! let answer = app.oneshot(request).await?;
//! assert_eq!(axum::body::to_bytes(answer.into_body(), 99).await?, "hello alice");
//! # sessions.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Serving
//! The client's address comes from [`axum::extract::ConnectInfo`]: serve the application with
//! `into_make_service_with_connect_info::<SocketAddr>()`, or on a Unix socket with [`ClientPeer`].
//!
//! [`axum::serve`](axum::serve()) waits for open responses before it stops; pass
//! [`sessions.graceful(signal)`](session_http::HttpSessions::graceful) as its signal, which ends event
//! streams, and call [`shutdown`](session_http::HttpSessions::shutdown) afterwards. What `axum::serve`
//! cannot do: it has no time limit for a client that sends its headers slowly or never reads its
//! response. Put a proxy in front of it, or serve the router with `hyper_util`'s server, whose
//! `header_read_timeout` is such a limit.

mod extract;
mod guard;
#[cfg(feature = "ws")]
mod live;
mod sessions;
#[cfg(feature = "testing")]
pub mod testing;

pub use extract::{
    Claims, CurrentSession, Ended, Fresh, Live, MaybeSession, Rejection, SameOrigin, SessionAuth,
    SessionCookie, Sessions,
};
pub use guard::{Guarded, Require};
#[doc(inline)]
pub use session_engine::{Ending, Proof, RotateReason, SignedIn};
#[doc(inline)]
pub use session_http::{
    AdminAccess, AdminGuard, CallbackProof, Caller, ClientIpOptions, Close, Config, CookieOptions,
    Flow, Hooks, HttpOptions, NewSession, Origin, Problem, RequireSession, SameSite, TrustedProxy,
    local_path,
};
#[doc(inline)]
pub use session_tower::{SessionLayer, SessionService};
pub use sessions::ClientPeer;

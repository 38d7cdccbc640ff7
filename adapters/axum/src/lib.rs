//! session-kit for [axum]: a layer that finds out whose request it is, extractors, and the
//! routes of the JSON API and the pages.
//!
//! ```
//! use axum::{Router, extract::Form, response::{IntoResponse, Redirect}, routing::{get, post}};
//! use session_axum::{CurrentSession, HttpOptions, HttpSessions, NewSession, Rejection, SessionAuth, SessionLayer};
//! use session_core::{UserId, UserKey};
//! use session_engine::{Engine, Options};
//! use session_store_memory::MemoryStore;
//!
//! async fn login(auth: SessionAuth, Form(user): Form<String>) -> Result<impl IntoResponse, Rejection> {
//!     // The application has checked the password.
//!     let owner = UserKey::new(UserId::new(&user)?);
//!     let (_, cookie) = auth.sign_in(NewSession::of(owner)).await?;
//!     Ok((cookie, Redirect::to("/")))
//! }
//!
//! async fn hello(session: CurrentSession) -> String {
//!     format!("hello {}", session.owner.user)
//! }
//!
//! # async fn app() -> Result<Router, session_engine::Error> {
//! let engine = Engine::start(MemoryStore::new(), Options::default()).await?;
//! let http = HttpSessions::new(engine.sessions().clone(), HttpOptions::default())?;
//! let app = Router::new()
//!     .route("/", get(hello))
//!     .route("/login", post(login))
//!     .merge(session_axum::routes(&http))
//!     .layer(SessionLayer::new(http));
//! # Ok(app)
//! # }
//! ```
//!
//! The client's address comes from [`axum::extract::ConnectInfo`]: serve the application with
//! `into_make_service_with_connect_info::<SocketAddr>()`.

mod extract;
mod layer;
mod routes;

pub use extract::{CurrentSession, Fresh, Rejection, SessionAuth, SessionCookie};
pub use layer::{ResponseFuture, SessionLayer, SessionService};
pub use routes::routes;
pub use session_engine::{RotateReason, SignedIn};
pub use session_http::{
    AdminAccess, AdminGuard, Caller, CookieOptions, HttpOptions, HttpSessions, Identity, NewSession,
};

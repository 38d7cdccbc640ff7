//! session-kit for [actix-web](actix_web): a middleware that finds out whose request it is,
//! extractors, guards, and the routes of the JSON API and the pages.
//!
//! ```
//! # #[actix_web::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use actix_web::{App, test, web};
//! use session_actix::{Config, CurrentSession, Rejection, SessionAuth, SessionCookie, Sessions};
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
//! let app = App::new()
//!     .route("/", web::get().to(hello))
//!     .route("/login", web::post().to(login))
//!     .service(sessions.routes())
//!     .wrap(sessions.middleware());
//!
//! let app = test::init_service(app).await;
//! let answer = test::call_service(&app, test::TestRequest::post().uri("/login").to_request()).await;
//! let cookie = answer.headers().get("set-cookie").unwrap().clone();
//! let request = test::TestRequest::get().insert_header(("cookie", cookie)).to_request();
//! assert_eq!(test::call_and_read_body(&app, request).await, "hello alice");
//! # sessions.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Serving
//! Start the node once, before the server, and give each worker a clone:
//!
//! ```
//! # #[actix_web::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use actix_web::{App, HttpServer, rt};
//! use session_actix::{Config, Sessions};
//!
//! # let store = session_store_memory::MemoryStore::new();
//! # let signal = std::future::ready(());
//! let sessions = Sessions::start(store, Config::default()).await?;
//! let app = {
//!     let sessions = sessions.clone();
//!     move || App::new().service(sessions.routes()).wrap(sessions.middleware())
//! };
//! let server = HttpServer::new(app)
//!     .disable_signals()
//!     .h1_allow_half_closed(false) // an event stream ends when its client goes
//!     .shutdown_timeout(1)
//!     .bind("127.0.0.1:0")?
//!     .run();
//! let (node, handle) = (sessions.clone(), server.handle());
//! rt::spawn(async move {
//!     node.graceful(signal).await;
//!     handle.stop(true).await;
//! });
//! let served = server.await;
//! sessions.shutdown().await;
//! # Ok(served?)
//! # }
//! ```
//!
//! [`graceful`](session_http::HttpSessions::graceful) ends the event streams, which a server that
//! stops would wait for. Without
//! [`disable_signals`](actix_web::HttpServer::disable_signals) the server catches the signal first,
//! and cuts them after its
//! [`shutdown_timeout`](actix_web::HttpServer::shutdown_timeout). Call
//! [`shutdown`](session_http::HttpSessions::shutdown) once the server has stopped.
//!
//! A client that closes its end of a connection may still be reading, as far as actix-web knows: an
//! event stream then ends, and makes room for another, only when two heartbeats have found nobody.
//! [`h1_allow_half_closed(false)`](actix_web::HttpServer::h1_allow_half_closed) ends it at once.
//!
//! Each worker of actix-web has a runtime of its own. The node's background work runs on the runtime
//! where the node was started, which has to outlive the workers: start it in `main`, never inside the
//! closure that makes the application.
//!
//! What actix-web does not limit: a request's body may take as long as the client likes (the API's own
//! calls have the `body_timeout` of the options), and a server that also takes HTTP/2 without TLS
//! (`bind_auto_h2c`) waits without end for a connection's first bytes. A proxy in front of it has
//! such limits.
//!
//! The client's address is [`HttpRequest::peer_addr`](actix_web::HttpRequest::peer_addr). A request
//! without one counts as [`Peer::Unix`](session_http::Peer::Unix): actix-web leaves the address out
//! for Unix sockets, and in tests that set none.
//!
//! # Sessions that may be missing
//! `Option<CurrentSession>` takes an outage of the store for "nobody is signed in", as actix-web turns
//! every refusal of an extractor into `None`. Use [`MaybeSession`] instead.
//!
//! # Order
//! Put the middleware around everything that reads sessions. `App::wrap` runs the middleware that was
//! added last first, so add it after those that need a session. An error that another middleware
//! returns in place of a response passes unchanged: no headers that keep it private are put on it.

mod convert;
mod extract;
mod guard;
#[cfg(feature = "ws")]
mod live;
mod middleware;
mod sessions;
#[cfg(feature = "testing")]
pub mod testing;

pub use extract::{
    Claims, CurrentSession, Ended, Fresh, Live, MaybeSession, Rejection, SameOrigin, SessionAuth,
    SessionCookie, Sessions,
};
pub use guard::{Guarded, Require};
pub use middleware::{SessionMiddleware, SessionService};
#[doc(inline)]
pub use session_engine::{Ending, Proof, RotateReason, SignedIn};
#[doc(inline)]
pub use session_http::{
    AdminAccess, AdminGuard, CallbackProof, Caller, ClientIpOptions, Close, Config, CookieOptions,
    Flow, Hooks, HttpOptions, NewSession, Origin, Problem, RequireSession, SameSite, TrustedProxy,
    local_path,
};

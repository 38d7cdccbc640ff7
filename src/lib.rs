//! Server-side session governance: who is signed in, on which devices, how many at once, and how to
//! end it everywhere at once.
//!
//! Pick a store and a framework as features. `sessions.layer()` finds out whose request it is,
//! `sessions.routes()` are the API and the pages, and extractors say the rest:
//!
//! ```
//! # #[cfg(all(feature = "memory", feature = "axum", feature = "testing"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, routing::{get, post}};
//! use session_kit::axum::prelude::*;
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
//! let config = Config::default().with_policy(PreventConcurrentLogin::LogoutFromAllDevices);
//! let sessions = Sessions::start(MemoryStore::new(), config).await?;
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
//! # #[cfg(not(all(feature = "memory", feature = "axum", feature = "testing")))]
//! # fn main() {}
//! ```
//!
//! The README has a whole program for each framework, `examples` one with a password check.
//!
//! | module | feature | what it has |
//! | --- | --- | --- |
//! | [`core`] | | the vocabulary, the policies, and the trait that a store implements |
//! | [`engine`] | | a node: [`SessionManager`], its options, claims, events |
//! | `memory`, `sql`, `redis`, `mongodb` | `memory`, `sqlite`, `postgres`, `mysql`, `redis`, `mongodb` | stores |
//! | `http` | `http` | every HTTP rule, for an embedder of any kind |
//! | `tower`, `axum`, `actix`, `poem` | the same | the rules in a framework's idiom, each with a `prelude` |
//! | `metrics` | `metrics` | names, units and labels of the metrics that every node gives the `metrics` facade |
//! | `ws` | `axum`, `actix`, `poem` | WebSockets that end with their session: `Live::serve` |
//! | `testing` | `testing` | a clock to move; each framework's module has an `as_user` |

pub use session_core as core;
pub use session_engine as engine;

#[doc(inline)]
pub use session_core::policy::{Limit, OnExceed, Policy, PreventConcurrentLogin, Scope};
#[doc(inline)]
pub use session_core::{DeviceKind, SessionId, TenantId, Timestamp, UserId, UserKey};
#[doc(inline)]
pub use session_engine::{Engine, Options, SessionManager};
#[cfg(feature = "http")]
#[doc(inline)]
pub use session_http::{Config, Hooks, HttpOptions, HttpSessions, NewSession};

/// Sessions in this process's memory (feature `memory`).
#[cfg(feature = "memory")]
pub use session_store_memory as memory;

/// Sessions in a SQL database (features `sqlite`, `postgres` and `mysql`).
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use session_store_sql as sql;

/// Sessions in Redis or Valkey, single or Cluster (feature `redis`).
#[cfg(feature = "redis")]
pub use session_store_redis as redis;

/// Sessions in MongoDB (feature `mongodb`).
#[cfg(feature = "mongodb")]
pub use session_store_mongo as mongodb;

/// The metrics of a node (feature `metrics`); with the feature `http`, `http::metrics` has more.
#[cfg(feature = "metrics")]
pub use session_engine::metrics;

/// Every HTTP rule, without a framework (feature `http`).
#[cfg(feature = "http")]
pub use session_http as http;

/// A layer for tower services (feature `tower`).
#[cfg(feature = "tower")]
pub use session_tower as tower;

/// The stores that are turned on.
mod stores {
    #[cfg(feature = "memory")]
    pub use session_store_memory::MemoryStore;
    #[cfg(feature = "mongodb")]
    pub use session_store_mongo::{MongoOptions, MongoStore};
    #[cfg(feature = "redis")]
    pub use session_store_redis::{RedisOptions, RedisStore};
    #[cfg(feature = "mysql")]
    pub use session_store_sql::MySqlStore;
    #[cfg(feature = "postgres")]
    pub use session_store_sql::PostgresStore;
    #[cfg(feature = "sqlite")]
    pub use session_store_sql::SqliteStore;
}

/// A framework's adapter, and what its programs begin with.
macro_rules! adapter {
    ($feature:literal, $name:ident, $of:ident, $doc:literal) => {
        #[doc = $doc]
        #[cfg(feature = $feature)]
        pub mod $name {
            pub use $of::*;

            /// What a program begins with: `use session_kit::
            #[doc = concat!(stringify!($name), "::prelude::*;`.")]
            pub mod prelude {
                pub use super::{
                    AdminAccess, Caller, Claims, Config, CookieOptions, CurrentSession, Ended,
                    Fresh, Hooks, HttpOptions, Live, MaybeSession, NewSession, Problem, Rejection,
                    Require, RequireSession, RotateReason, SameOrigin, SessionAuth, SessionCookie,
                    Sessions, local_path,
                };
                #[allow(unused_imports, reason = "there may be no store")]
                pub use crate::stores::*;
                pub use crate::{
                    DeviceKind, Limit, OnExceed, Options, Policy, PreventConcurrentLogin, Scope,
                    TenantId, UserId, UserKey,
                };
            }
        }
    };
}

adapter!(
    "axum",
    axum,
    session_axum,
    "Layer, extractors, guards and routes for axum (feature `axum`)."
);
adapter!(
    "actix",
    actix,
    session_actix,
    "Middleware, extractors, guards and routes for actix-web (feature `actix`)."
);
adapter!(
    "poem",
    poem,
    session_poem,
    "Middleware, extractors, guards and routes for poem (feature `poem`)."
);

/// For tests of applications (feature `testing`): a clock to move, and the headers of a user's request.
/// `axum::testing::as_user`, `actix::testing::as_user` and `poem::testing::as_user` put them into a
/// request of the framework.
#[cfg(all(feature = "testing", feature = "http"))]
pub use session_http::testing;

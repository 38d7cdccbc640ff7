//! session-kit for [axum]: a layer that finds out whose request it is, extractors, guards, and the
//! routes of the JSON API and the pages.
//!
//! ```no_run
#![doc = include_str!("../../../examples/readme/axum/src/main.rs")]
//! ```

mod extract;
mod guard;
mod sessions;
#[cfg(feature = "testing")]
pub mod testing;

pub use extract::{Claims, CurrentSession, Fresh, MaybeSession, Rejection, SessionAuth, SessionCookie};
pub use guard::{Guarded, Require};
#[doc(inline)]
pub use session_engine::{RotateReason, SignedIn};
#[doc(inline)]
pub use session_http::{
    AdminAccess, AdminGuard, Caller, ClientIpOptions, Config, CookieOptions, Hooks, HttpOptions,
    NewSession, Problem, RequireSession, TrustedProxy, local_path,
};
#[doc(inline)]
pub use session_tower::{SessionLayer, SessionService};
pub use sessions::{ClientPeer, Sessions};

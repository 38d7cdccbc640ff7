//! All HTTP rules of session-kit that are not a framework's: cookie, client address, device,
//! same-origin proof, the JSON API and the pages.
//!
//! An adapter translates, and holds no rule. It hands the [`Head`] of every request to
//! [`HttpSessions::identify`] and leaves the answer as a [`RequestSession`] where its extractors find
//! it; these call [`RequestSession::session`] and its neighbours, and answer a [`Rejection`] with its
//! response. What arrives below the prefix goes to [`RequestSession::serve`]. The headers that are read
//! are [`READ_HEADERS`]; those to append and to replace come from [`SessionCookie`] and
//! [`RequestSession::private_headers`].
//!
//! # What counts as activity
//! Every request that carries a valid token counts as an access and puts the idle timeout off,
//! `HEAD` and range requests included. `OPTIONS` requests and prefetches (`Sec-Purpose` or
//! `Purpose: prefetch`) are checked but do not count, and neither does the time for which an
//! event stream stays open. Opening or reopening a stream counts.

mod adapter;
pub mod api;
mod auth;
mod body;
mod client_ip;
mod cookie;
mod device;
mod entity_tag;
mod guard;
mod head;
mod identity;
mod next;
mod options;
mod origin;
mod pages;
mod problem;
mod rejection;
mod request;
mod sessions;
mod streams;
#[cfg(feature = "testing")]
pub mod testing;

pub use async_trait::async_trait;
pub use auth::{Auth, NewSession};
pub use body::{Body, BodyStream, Content, MAX_BODY_BYTES};
pub use client_ip::{ClientIpOptions, ForwardingHeader, TrustedProxy};
pub use cookie::{CookieOptions, SessionCookie};
pub use device::device;
pub use guard::{AdminAccess, AdminGuard, Caller};
pub use head::{Head, OwnedHead, Peer, READ_HEADERS, TOKEN_HEADERS};
pub use http;
pub use identity::{Identified, Identity, PendingIdentity};
pub use next::local_path;
pub use options::{Config, HttpOptions};
pub use origin::{SameOrigin, same_origin};
pub use problem::Problem;
pub use rejection::Rejection;
pub use request::{PrivateHeaders, RequestSession, RequireSession};
#[doc(hidden)]
pub use session_core::Store;
pub use sessions::{Hooks, HttpSessions};

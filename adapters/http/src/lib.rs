//! All HTTP rules of session-kit that are not a framework's: cookie, client address, device,
//! same-origin proof, the JSON API and the pages.
//!
//! An adapter translates, and holds no rule. It hands the [`Head`] of every request to
//! [`HttpSessions::identify`] and leaves the answer as a [`RequestSession`] where its extractors find
//! it; these call [`RequestSession::session`] and its neighbours, and answer a [`Rejection`] with its
//! response. What arrives below the prefix goes to [`RequestSession::serve`]. The headers that are read
//! are [`READ_HEADERS`]; those to append and to replace come from [`CookieHeaders`] and
//! [`RequestSession::private_headers`]. Before it hands the request on, it asks [`RequestSession::renewal`],
//! and when the response is there, it calls [`Renewal::renew`].
//!
//! # What counts as activity
//! Every request that carries a valid token counts as an access and puts the idle timeout off,
//! `HEAD` and range requests included. These are checked but do not count: `OPTIONS` requests; `GET` and
//! `HEAD` requests that are prefetches (`Sec-Purpose` or `Purpose: prefetch`); requests that open an event
//! stream (`Accept: text/event-stream`, and ours in any case) or a WebSocket, however often, and what
//! comes over it (see [`Live::touch`]); and the lists of the API with the parameter `refresh`, for a page
//! of yours that reads them again because of an event (ours wait for the user). A new address is recorded
//! in any case.

mod accounts;
mod activity;
mod adapter;
pub mod api;
mod auth;
mod body;
mod client_ip;
mod cookie;
mod device;
mod entity_tag;
mod flow;
mod guard;
mod head;
mod identity;
#[cfg(feature = "jwt")]
pub mod jwt;
mod list;
mod live;
#[cfg(feature = "metrics")]
pub mod metrics;
mod new_session;
mod next;
mod options;
mod origin;
mod pages;
mod presented;
mod problem;
mod refused;
mod rejection;
mod renewal;
mod request;
mod seal;
mod security;
mod sessions;
mod streams;
#[cfg(feature = "testing")]
pub mod testing;
mod ticket;
mod voucher;

pub use async_trait::async_trait;
pub use auth::Auth;
pub use body::{Body, BodyStream, Content, MAX_BODY_BYTES};
pub use client_ip::{ClientIpOptions, ForwardingHeader, TrustedProxy};
pub use cookie::{CookieHeaders, CookieOptions, SameSite};
pub use device::device;
pub use flow::{CallbackProof, Flow};
#[doc(hidden)]
pub use futures_util::Stream;
pub use guard::{AdminAccess, AdminGuard, Caller};
pub use head::{Head, OwnedHead, Peer, READ_HEADERS, TOKEN_HEADERS, mark_sensitive};
pub use http;
pub use identity::{Credential, Identified, Identity, PendingIdentity};
pub use live::{Close, Live};
pub use new_session::NewSession;
pub use next::local_path;
pub use options::{Config, HttpOptions};
pub use origin::{Origin, SameOrigin};
pub use problem::Problem;
pub use rejection::Rejection;
pub use renewal::Renewal;
pub use request::{PrivateHeaders, RequestSession, RequireSession};
pub use security::Refusals;
#[doc(hidden)]
pub use session_core::{SessionId, Store, Token};
pub use sessions::{Hooks, HttpSessions};
pub use voucher::{Vouch, Vouched, Voucher};

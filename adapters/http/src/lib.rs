//! All HTTP rules of session-kit that are not a framework's: cookie, client address, device,
//! same-origin proof, the JSON API and the pages.
//!
//! An adapter does three things with [`HttpSessions`]: it asks [`HttpSessions::identify`] about
//! every request, offers the sign-in, sign-out and rotate helpers in its framework's idiom, and
//! hands what arrives below the prefix to [`HttpSessions::serve`].
//!
//! # What counts as activity
//! Every request that carries a valid token counts as an access and puts the idle timeout off,
//! `HEAD` and range requests included. `OPTIONS` requests and prefetches (`Sec-Purpose` or
//! `Purpose: prefetch`) are checked but do not count, and neither does the time for which an
//! event stream stays open.

pub mod api;
mod body;
mod client_ip;
mod cookie;
mod device;
mod guard;
mod origin;
mod pages;
mod problem;
mod sessions;

pub use client_ip::{ClientIpOptions, ForwardingHeader};
pub use cookie::{CookieOptions, SessionCookie};
pub use device::device;
pub use guard::{AdminAccess, AdminGuard, Caller, DenyAll};
pub use origin::{SameOrigin, same_origin};
pub use problem::Problem;
pub use sessions::{HttpOptions, HttpSessions, Identified, Identity, NewSession, PendingIdentity};

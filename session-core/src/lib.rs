//! The rules of server-side session governance, and the seam that stores plug into.
//!
//! This crate does no I/O. It has no networking, reads no clock, draws no random number, spawns
//! nothing and takes no lock. Time and events come in as arguments, decisions and effects go out
//! as values, so the same input always gives the same output and a whole fleet can be simulated.
//!
//! | module | decides |
//! | --- | --- |
//! | [`policy`] | how many sessions a user may have, and in which scope |
//! | [`admission`] | who has to leave when a user signs in, or whether the sign-in is refused |
//! | [`usage`] | whether a session may still be used, and when its last access is written back |
//! | [`rotation`] | what a presented token is worth: current, in grace, retired or unknown |
//! | [`block`] | whether a user may sign in at all |
//! | [`cleanup`] | which sessions the background worker may end |
//! | [`pace`] | how many records one call of a store takes on |
//!
//! The vocabulary is in [`session`], [`field`], [`token`], [`time`] and [`event`].
//! [`store::Store`] is the one trait that a backend implements; it holds no rule of its own.
//!
//! ```
//! use session_core::policy::{Policy, PreventConcurrentLogin};
//! use std::time::Duration;
//! use session_core::admission::{self, Bounds, Newcomer, Standing};
//! use session_core::{DeviceKind, SessionId, Timestamp};
//!
//! let now = Timestamp::from_micros(1_000_000);
//! let phone = Standing {
//!     id: SessionId::from_bytes([1; 16]),
//!     device_kind: DeviceKind::Mobile,
//!     client_id: None,
//!     signed_in: now,
//!     last_accessed: now,
//!     deadline: Timestamp::MAX,
//!     claimed: true,
//! };
//! let policy = Policy::from(PreventConcurrentLogin::LogoutFromAllDevices);
//! let browser = Newcomer { device_kind: &DeviceKind::Web, client_id: None, replaces: None, ends: None };
//! let (claim_within, max_lag) = (Duration::from_secs(120), Duration::from_secs(45));
//! let bounds = Bounds { claim_within, max_lag, max_sessions: None };
//!
//! let decision = admission::decide(&policy, &browser, &[phone.clone()], &bounds, now);
//! assert_eq!(decision.ended_ids(), [phone.id]);
//! ```

pub mod admission;
pub mod block;
pub mod cleanup;
pub mod event;
pub mod field;
pub mod pace;
#[doc(hidden)]
pub mod planted;
pub mod policy;
pub mod rotation;
pub mod session;
pub mod store;
pub mod time;
pub mod token;
pub mod usage;

pub use async_trait::async_trait;
pub use event::{Actor, EndCause, Event, EventKind};
pub use field::{
    AuthMethod, BlockReason, ClientId, DeviceInfo, DeviceKind, DeviceName, ExtraData, InvalidField,
    SessionId, TenantId, UserId,
};
pub use session::{AssuranceLevel, Authentication, Session, UserKey};
pub use store::{Store, StoreError, StoreErrorKind};
pub use time::Timestamp;
pub use token::{FleetKey, Token, TokenDigest};

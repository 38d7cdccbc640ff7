//! One session in a node's cache.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use session_core::checker::{AccessEffect, Activity, Unstored};
use session_core::{Session, Timestamp};

use crate::options::Options;

/// A session that a request was found to belong to.
#[derive(Clone)]
pub struct CurrentSession(pub(crate) Arc<Entry>);

impl CurrentSession {
    /// When a request last used the session, as far as this node knows.
    pub fn last_accessed(&self) -> Timestamp {
        self.0.use_().activity.last_accessed()
    }

    /// The application's claims, as fresh as the propagation bound.
    pub fn claims(&self) -> &Value {
        &self.0.claims
    }
}

impl Deref for CurrentSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0.session
    }
}

impl fmt::Debug for CurrentSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CurrentSession").field(&self.0.session.id).finish()
    }
}

/// What is known of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// Where it came from.
    pub ip: Option<IpAddr>,
    /// Whether it is none of the user's doing (a prefetch, a preflight) and leaves last accessed
    /// as it is.
    pub passive: bool,
}

impl Access {
    /// A request of the user.
    pub const fn from_ip(ip: Option<IpAddr>) -> Self {
        Self { ip, passive: false }
    }

    /// A request that does not count as activity.
    pub const fn passive() -> Self {
        Self { ip: None, passive: true }
    }
}

/// The record as loaded, and the use that this node has seen since.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) session: Session,
    claims: Value,
    ended: AtomicBool,
    use_: Mutex<Use>,
}

#[derive(Debug)]
pub(crate) struct Use {
    pub(crate) activity: Activity,
    /// Whether the write-back queue holds the entry for a planned time.
    pub(crate) planned: bool,
}

impl Entry {
    pub(crate) fn new(session: Session, claims: Value) -> Self {
        let newest_ip = session.ip_addresses.last().copied();
        let activity = Activity::stored(session.last_accessed, newest_ip);
        let use_ = Mutex::new(Use { activity, planned: false });
        Self { session, claims, ended: AtomicBool::new(false), use_ }
    }

    pub(crate) fn use_(&self) -> MutexGuard<'_, Use> {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the session is past a timeout, as far as this node knows.
    pub(crate) fn expired(&self, options: &Options, now: Timestamp) -> bool {
        let last_accessed = self.use_().activity.last_accessed();
        options.timeouts.expired(last_accessed, self.session.absolute_expiry, now)
    }

    /// Counts an access and answers what the write-back queue must know.
    pub(crate) fn access(
        &self,
        access: &Access,
        options: &Options,
        now: Timestamp,
    ) -> AccessEffect {
        let mut use_ = self.use_();
        let effect = use_.activity.access(&options.write_back, &options.timeouts, access.ip, now);
        match effect {
            AccessEffect::Plan(_) if std::mem::replace(&mut use_.planned, true) => {
                AccessEffect::None
            }
            effect => effect,
        }
    }

    /// Takes what is unstored; nothing of a session that has ended.
    pub(crate) fn take(&self) -> Option<Unstored> {
        let unstored = self.use_().activity.take();
        unstored.filter(|_| !self.ended.load(Ordering::Acquire))
    }

    pub(crate) fn mark_ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// The session as it is known here: what is unstored shows.
    pub(crate) fn overlay(&self, stored: &mut Session) {
        let use_ = self.use_();
        stored.last_accessed = stored.last_accessed.max(use_.activity.last_accessed());
        if let Some(ip) = use_.activity.newest_ip().filter(|_| use_.activity.is_unstored()) {
            session_core::session::note_ip_address(&mut stored.ip_addresses, ip);
        }
    }
}

//! One session in a node's cache.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde_json::Value;
use session_core::checker::{AccessEffect, Activity, Unstored};
use session_core::{
    ClientId, DeviceInfo, DeviceKind, ExtraData, Session, SessionId, TenantId, Timestamp, UserId,
    UserKey,
};

use crate::options::Options;

/// A session that a request was found to belong to.
#[derive(Clone)]
pub struct CurrentSession(pub(crate) Arc<Entry>);

impl CurrentSession {
    /// The public id.
    pub fn id(&self) -> SessionId {
        self.0.session.id
    }

    /// Whose session it is.
    pub fn owner(&self) -> &UserKey {
        &self.0.session.owner
    }

    /// The signed-in user, within their tenant.
    pub fn user(&self) -> &UserId {
        &self.0.session.owner.user
    }

    /// The user's tenant, where the application has tenants.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.0.session.owner.tenant.as_ref()
    }

    /// What a policy counts as "same type".
    pub fn device_kind(&self) -> &DeviceKind {
        &self.0.session.device_kind
    }

    /// Readable text about the device.
    pub fn device_info(&self) -> Option<&DeviceInfo> {
        self.0.session.device_info.as_ref()
    }

    /// The application that signed the user in.
    pub fn client_id(&self) -> Option<&ClientId> {
        self.0.session.client_id.as_ref()
    }

    /// Addresses it was used from, newest last, with those that this node has not stored yet.
    pub fn ip_addresses(&self) -> Vec<IpAddr> {
        self.0.use_().activity.ip_addresses().to_vec()
    }

    /// When it began.
    pub fn signed_in(&self) -> Timestamp {
        self.0.session.signed_in
    }

    /// When a request last used it, as far as this node knows.
    pub fn last_accessed(&self) -> Timestamp {
        self.0.use_().activity.last_accessed()
    }

    /// When the user last proved who they are.
    pub fn authenticated_at(&self) -> Timestamp {
        self.0.session.authenticated_at
    }

    /// The time from which it is refused even if it is in use.
    pub fn absolute_expiry(&self) -> Option<Timestamp> {
        self.0.session.absolute_expiry
    }

    /// The application's own data.
    pub fn data(&self) -> Option<&ExtraData> {
        self.0.session.data.as_ref()
    }

    /// The application's claims, as fresh as the propagation bound.
    pub fn claims(&self) -> &Value {
        &self.0.claims
    }

    /// The application's claims as a type of its own.
    ///
    /// # Errors
    /// Those of serde, when the claims have another shape.
    pub fn claims_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.0.claims)
    }

    /// A copy of the session as it is now, with what this node knows of its use: what
    /// [`SessionManager::get`](crate::SessionManager::get) and
    /// [`SessionManager::list`](crate::SessionManager::list) show.
    pub fn to_session(&self) -> Session {
        let use_ = self.0.use_();
        Session {
            last_accessed: use_.activity.last_accessed(),
            ip_addresses: use_.activity.ip_addresses().to_vec(),
            ..self.0.session.clone()
        }
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
    /// Whether it is none of the user's doing (a prefetch, a preflight, a page that refreshes itself)
    /// and leaves last accessed as it is.
    pub passive: bool,
}

impl Access {
    /// A request of the user.
    pub const fn from_ip(ip: Option<IpAddr>) -> Self {
        Self { ip, passive: false }
    }

    /// A request that does not count as activity. Where it came from is noted all the same.
    pub const fn passive(ip: Option<IpAddr>) -> Self {
        Self { ip, passive: true }
    }
}

/// The record as loaded, and the use that this node has seen since.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What requests do not change. Last accessed and addresses are in `use_`.
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
    pub(crate) fn new(mut session: Session, claims: Value) -> Self {
        let ip_addresses = std::mem::take(&mut session.ip_addresses);
        let activity = Activity::stored(session.last_accessed, ip_addresses);
        let use_ = Mutex::new(Use { activity, planned: false });
        Self { session, claims, ended: AtomicBool::new(false), use_ }
    }

    pub(crate) fn use_(&self) -> MutexGuard<'_, Use> {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the use that an older copy has seen. True if something is unstored now.
    pub(crate) fn take_over(&self, older: &Self) -> bool {
        self.use_().activity.take_over(&mut older.use_().activity)
    }

    /// Whether the session is past a timeout, as far as this node knows.
    pub(crate) fn expired(&self, options: &Options, now: Timestamp) -> bool {
        let last_accessed = self.use_().activity.last_accessed();
        options.timeouts.expired(last_accessed, self.session.absolute_expiry, now)
    }

    /// Counts an access, if it is one, and answers what the write-back queue must know.
    pub(crate) fn access(
        &self,
        access: &Access,
        options: &Options,
        now: Timestamp,
    ) -> AccessEffect {
        let mut use_ = self.use_();
        let (rule, timeouts) = (&options.write_back, &options.timeouts);
        let effect = if access.passive {
            use_.activity.notice(rule, timeouts, access.ip, now)
        } else {
            use_.activity.access(rule, timeouts, access.ip, now)
        };
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
}

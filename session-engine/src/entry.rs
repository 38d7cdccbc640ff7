//! One session in a node's cache.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use session_core::admission::Standing;
use session_core::planted::{self, Defect};
use session_core::rotation::{StepUp, TokenState};
use session_core::store::Touch;
use session_core::usage::{AccessEffect, Activity, Timeouts, Unstored};
use session_core::{
    Actor, Authentication, ClientId, DeviceInfo, DeviceKind, DeviceName, ExtraData, Session,
    SessionId, TenantId, Timestamp, Token, TokenDigest, UserId, UserKey,
};

use crate::ending::{LastUse, Past};
use crate::options::Options;
use crate::sync::{Arc, AtomicU64, Instant, Mutex, MutexGuard, Ordering, PoisonError};

/// A session that a request was found to belong to.
#[derive(Clone)]
pub struct ActiveSession {
    pub(crate) entry: Arc<Entry>,
    token: Shown,
    /// The authentication of a token that the record no longer has.
    former: Option<Arc<Authentication>>,
    /// When the request showed its token, by the fleet's time.
    shown_at: Timestamp,
}

/// Which of a session's tokens a request has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shown {
    #[default]
    Current,
    /// The one after it, which could not be confirmed yet.
    Successor,
    /// That of the re-authentication at this place, which could not be confirmed yet.
    StepUp(usize),
    /// The one before it, in its grace.
    Retired,
}

impl Shown {
    fn of(self, token: &TokenState) -> Option<&TokenDigest> {
        match self {
            Self::Current => Some(&token.current),
            Self::Successor => token.successor.as_ref().map(|next| &next.digest),
            Self::StepUp(_) => self.step_up(token).map(|step_up| &step_up.next.digest),
            Self::Retired => token.retired.as_ref().map(|retired| &retired.digest),
        }
    }

    /// The re-authentication whose token was shown.
    pub(crate) fn step_up(self, token: &TokenState) -> Option<&StepUp> {
        if let Self::StepUp(place) = self { token.step_ups.get(place) } else { None }
    }
}

impl ActiveSession {
    pub(crate) const fn new(entry: Arc<Entry>, token: Shown, shown_at: Timestamp) -> Self {
        Self { entry, token, former: None, shown_at }
    }

    /// This session by the token that was shown before, also where the record has another one since.
    pub(crate) fn by_token_of(mut self, before: &Self) -> Self {
        let token = &self.entry.session.token;
        let step_ups = (0..token.step_ups.len()).map(Shown::StepUp);
        let others = [Shown::Current, Shown::Successor, Shown::Retired];
        let shown = before.digest();
        let place = others
            .into_iter()
            .chain(step_ups)
            .find(|place| shown.is_some() && place.of(token) == shown);
        (self.token, self.former) = match place {
            Some(place) => (place, None),
            None => (Shown::Retired, Some(before.authentication().clone().into())),
        };
        self.shown_at = before.shown_at;
        self
    }

    /// Sets the time at which the token was shown back by `time`, for which its session was looked up.
    pub(crate) fn shown_before(&mut self, time: Duration) {
        self.shown_at = self.shown_at.minus(time);
    }

    /// How long ago the request showed its token.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        now.since(self.shown_at)
    }

    pub(crate) const fn shown_at(&self) -> Timestamp {
        self.shown_at
    }

    /// Whether this is the token that the request has shown.
    pub(crate) fn is_shown_by(&self, token: &Token) -> bool {
        self.digest().is_some_and(|digest| *digest == token.digest())
    }

    fn digest(&self) -> Option<&TokenDigest> {
        if self.former.is_some() { None } else { self.token.of(&self.entry.session.token) }
    }

    /// The public id.
    pub fn id(&self) -> SessionId {
        self.entry.session.id
    }

    /// Whose session it is.
    pub fn owner(&self) -> &UserKey {
        &self.entry.session.owner
    }

    /// The signed-in user, within their tenant.
    pub fn user(&self) -> &UserId {
        &self.entry.session.owner.user
    }

    /// The user's tenant, where the application has tenants.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.entry.session.owner.tenant.as_ref()
    }

    /// What a policy counts as "same type".
    pub fn device_kind(&self) -> &DeviceKind {
        &self.entry.session.device_kind
    }

    /// Readable text about the device.
    pub fn device_info(&self) -> Option<&DeviceInfo> {
        self.entry.session.device_info.as_ref()
    }

    /// The application that signed the user in.
    pub fn client_id(&self) -> Option<&ClientId> {
        self.entry.session.client_id.as_ref()
    }

    /// Addresses it was used from, newest last, with those that this node has not stored yet.
    pub fn ip_addresses(&self) -> Vec<IpAddr> {
        self.entry.use_().activity.ip_addresses().to_vec()
    }

    /// When it began.
    pub fn signed_in(&self) -> Timestamp {
        self.entry.session.signed_in
    }

    /// When a request last used it, as far as this node knows.
    pub fn last_accessed(&self) -> Timestamp {
        self.entry.use_().activity.last_accessed()
    }

    /// How and when the user proved who they are, as far as the request's token can tell: one that was
    /// replaced by a re-authentication knows nothing of it.
    pub fn authentication(&self) -> &Authentication {
        if let Some(former) = &self.former {
            return former;
        }
        let session = &self.entry.session;
        let shown = match self.token {
            Shown::Current | Shown::Successor => None,
            Shown::Retired if planted::is(Defect::StepUpLeaks) => None,
            Shown::StepUp(_) => self.token.step_up(&session.token).map(|it| &it.authentication),
            Shown::Retired => session.token.retired.as_ref().map(|token| &token.authentication),
        };
        shown.unwrap_or(&session.authentication)
    }

    /// When the user last proved who they are: [`ActiveSession::authentication`].
    pub fn authenticated_at(&self) -> Timestamp {
        self.authentication().at
    }

    /// The name that its user gave the device.
    pub fn device_name(&self) -> Option<&DeviceName> {
        self.entry.session.device_name.as_ref()
    }

    /// Who acts as the user, where it is not the user.
    pub fn impersonator(&self) -> Option<&UserKey> {
        self.entry.session.impersonator.as_ref()
    }

    /// Who acts in this session's requests: the user, or who acts as the user.
    pub fn actor(&self) -> Actor {
        self.entry.session.actor()
    }

    /// The device's name or, where it has none, its description.
    pub fn device(&self) -> Option<DeviceInfo> {
        self.entry.session.device()
    }

    /// The time from which it is refused even if it is in use.
    pub fn absolute_expiry(&self) -> Option<Timestamp> {
        self.entry.session.absolute_expiry
    }

    /// Timeouts of its own, in place of those of the options.
    pub fn timeouts(&self) -> Option<Timeouts> {
        self.entry.session.timeouts
    }

    /// Whether this is the session's token, or was until it was replaced, as far as this node knows.
    pub fn has_token(&self, token: &Token) -> bool {
        self.entry.session.token.same_family(token)
    }

    /// Whether this is the session's token now, or the next one, as far as this node knows.
    pub fn has_current_token(&self, token: &Token) -> bool {
        self.entry.session.token.is_current_or_next(token)
    }

    /// The application's own data.
    pub fn data(&self) -> Option<&ExtraData> {
        self.entry.session.data.as_ref()
    }

    /// The application's own data as a type of its own; none where there is no data.
    ///
    /// # Errors
    /// Those of serde, when the data have another shape.
    pub fn data_as<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        self.data().map(|data| serde_json::from_str(data.as_json())).transpose()
    }

    /// The application's claims, as fresh as the propagation bound.
    pub fn claims(&self) -> &Value {
        &self.entry.claims
    }

    /// The application's claims as a type of its own.
    ///
    /// # Errors
    /// Those of serde, when the claims have another shape.
    pub fn claims_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.entry.claims)
    }

    /// A copy of the session as it is now, with what this node knows of its use: what
    /// [`SessionManager::get`](crate::SessionManager::get) and
    /// [`SessionManager::list`](crate::SessionManager::list) show.
    pub fn to_session(&self) -> Session {
        let mut session = self.entry.session.clone();
        session.ip_addresses = self.ip_addresses();
        self.entry.overlay(&mut session);
        session
    }
}

impl fmt::Debug for ActiveSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActiveSession").field(&self.entry.session.id).finish()
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
    options: Arc<Options>,
    /// The cache's generation in which it was installed, or one of the marks below.
    generation: AtomicU64,
    use_: Mutex<Use>,
}

#[derive(Debug)]
pub(crate) struct Use {
    pub(crate) activity: Activity,
    /// Whether the write-back queue holds the entry for a planned time.
    pub(crate) planned: bool,
    /// Whether the write-back queue holds the entry for the next flush, and whether among those that leave
    /// first.
    pub(crate) due: bool,
    pub(crate) urgent: bool,
    /// Whether the session's token has been presented.
    pub(crate) claimed: bool,
}

impl Entry {
    pub(crate) fn new(mut session: Session, claims: Value, options: Arc<Options>) -> Self {
        let ip_addresses = std::mem::take(&mut session.ip_addresses);
        let activity = Activity::stored(session.last_accessed, ip_addresses);
        let use_ = Mutex::new(Use {
            activity,
            planned: false,
            due: false,
            urgent: false,
            claimed: session.claimed,
        });
        Self { session, claims, options, generation: AtomicU64::new(STALE), use_ }
    }

    pub(crate) fn use_(&self) -> MutexGuard<'_, Use> {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the use that an older copy has seen.
    pub(crate) fn take_over(&self, older: &Self) {
        let (mut use_, mut older) = (self.use_(), older.use_());
        use_.claimed |= older.claimed;
        use_.activity.take_over(&mut older.activity);
    }

    /// The timeouts that hold for the session.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.options.timeouts_of(&self.session)
    }

    /// Whether the session is past a timeout, as far as this node knows.
    pub(crate) fn expired(&self, now: Timestamp) -> bool {
        let last_accessed = self.use_().activity.last_accessed();
        self.timeouts().expired(last_accessed, self.session.absolute_expiry, now)
    }

    /// What the timeouts ask for, as far as this node knows. Another node's use may take `in_flight` to reach
    /// the store. None where the session is past no timeout.
    pub(crate) fn past(
        &self,
        in_flight: impl FnOnce() -> Duration,
        now: Timestamp,
    ) -> Option<Past> {
        if !self.expired(now) {
            return None;
        }
        self.last_use(in_flight(), now).past(&self.session, &self.options)
    }

    /// As [`Entry::past`], by the token of a re-authentication, which is still to be used.
    pub(crate) fn past_once_stepped_up(
        &self,
        step_up: &StepUp,
        in_flight: Duration,
        now: Timestamp,
    ) -> Option<Past> {
        self.last_use(in_flight, now).past_once_stepped_up(&self.session, step_up, &self.options)
    }

    fn last_use(&self, in_flight: Duration, now: Timestamp) -> LastUse {
        LastUse { at: self.use_().activity.last_accessed(), in_flight, now }
    }

    /// From when on the session ends if it is not used again; none for never.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        let last_accessed = self.use_().activity.last_accessed();
        let (expiry, in_flight) = (self.session.absolute_expiry, self.options.in_flight());
        self.timeouts().end(last_accessed, expiry, in_flight)
    }

    /// Counts an access, if it is one, and answers what the write-back queue must know.
    pub(crate) fn access(&self, access: &Access, now: Timestamp) -> AccessEffect {
        let mut use_ = self.use_();
        let (rule, timeouts) = (&self.options.write_back, &self.timeouts());
        let ip = self.options.addresses.keep(access.ip);
        let mut effect = if access.passive && !planted::is(Defect::PassiveCounts) {
            use_.activity.record_address(rule, timeouts, ip, now)
        } else {
            use_.activity.access(rule, timeouts, ip, now)
        };
        if !std::mem::replace(&mut use_.claimed, true) {
            effect = use_.activity.store_soon(now);
        }
        // The queue had no room for an earlier access.
        if effect == AccessEffect::None && !use_.planned && !use_.due {
            effect = use_.activity.waits(rule, timeouts);
        }
        match effect {
            AccessEffect::Plan(_) if std::mem::replace(&mut use_.planned, true) => {
                AccessEffect::None
            }
            AccessEffect::Due
                if use_.due && (use_.urgent || !use_.activity.is_urgent(timeouts)) =>
            {
                AccessEffect::None
            }
            effect => effect,
        }
    }

    /// The planned time has come. Where the entry has been written back since it was planned, it may be
    /// planned for a time that is later: that time. Otherwise the queue holds it for none.
    pub(crate) fn planned_after(&self, is_later: impl Fn(Timestamp) -> bool) -> Option<Timestamp> {
        let mut use_ = self.use_();
        let planned = use_.activity.planned(&self.options.write_back, &self.timeouts());
        let later = planned.filter(|at| is_later(*at));
        use_.planned = later.is_some();
        later
    }

    /// The instant of a planned write-back. A time that is further away than the rule allows is one of
    /// before the fleet's time went back: now.
    pub(crate) fn when(&self, at: Timestamp, now: Timestamp) -> Instant {
        let ahead = at.since(now);
        let possible = ahead <= self.options.write_back.max_delay;
        Instant::now() + if possible { ahead } else { Duration::ZERO }
    }

    /// What the write-back queue must know of an entry that it does not hold, because the entry has taken
    /// over what an older copy has seen, or because there was no room.
    pub(crate) fn not_held(&self) -> AccessEffect {
        let mut use_ = self.use_();
        if use_.planned || use_.due {
            return AccessEffect::None;
        }
        let effect = use_.activity.waits(&self.options.write_back, &self.timeouts());
        use_.planned = matches!(effect, AccessEffect::Plan(_));
        effect
    }

    /// Adds to a record read from the store what this node has not stored yet.
    pub(crate) fn overlay(&self, session: &mut Session) {
        let use_ = self.use_();
        use_.activity.overlay(session);
        session.claimed |= use_.claimed;
        session.deadline =
            session.deadline.max(self.deadline(session.last_accessed, session.claimed));
    }

    /// As [`Entry::overlay`], for what a policy needs to know.
    pub(crate) fn overlay_standing(&self, standing: &mut Standing) {
        let use_ = self.use_();
        standing.last_accessed = standing.last_accessed.max(use_.activity.last_accessed());
        standing.claimed |= use_.claimed;
        standing.deadline =
            standing.deadline.max(self.deadline(standing.last_accessed, standing.claimed));
    }

    /// What a write-back of this tells the store.
    pub(crate) fn touch(&self, unstored: &Unstored) -> Touch {
        let (last_accessed, claimed) = (unstored.last_accessed, self.use_().claimed);
        Touch {
            id: self.session.id,
            last_accessed,
            deadline: self.deadline(last_accessed, claimed),
            claimed,
            ip_addresses: unstored.new_ips.clone(),
        }
    }

    fn deadline(&self, last_accessed: Timestamp, claimed: bool) -> Timestamp {
        let Options { timeouts, cleanup, .. } = &*self.options;
        self.session.deadline_at(timeouts, cleanup, last_accessed, claimed)
    }

    /// Takes what is unstored; nothing of a session that has ended.
    pub(crate) fn take(&self) -> Option<Unstored> {
        let mut use_ = self.use_();
        (use_.due, use_.urgent) = (false, false);
        let unstored = use_.activity.take();
        unstored.filter(|_| self.generation.load(Ordering::Acquire) != ENDED)
    }

    /// Valid for as long as the cache is in this generation.
    pub(crate) fn install(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    /// Whether it may answer for its session.
    pub(crate) fn is_of(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) == generation
    }

    /// The record has changed: the entry only keeps the use that this node has seen.
    pub(crate) fn mark_stale(&self) {
        self.generation.store(STALE, Ordering::Release);
    }

    pub(crate) fn mark_ended(&self) {
        self.generation.store(ENDED, Ordering::Release);
    }
}

/// Generations that no cache ever has.
const STALE: u64 = u64::MAX;
const ENDED: u64 = u64::MAX - 1;

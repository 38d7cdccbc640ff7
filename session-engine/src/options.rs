//! What an operator may set; plain data, readable with serde.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use session_core::cleanup::Cleanup;
use session_core::policy::{Limit, Policy};
use session_core::usage::{Timeouts, WriteBack};
use session_core::{InvalidField, Session, Store, time};

/// Options of an [`Engine`](crate::Engine). Durations are seconds in configuration files.
///
/// ```
/// use session_core::usage::WriteBack;
/// use session_core::policy::PreventConcurrentLogin;
/// use session_engine::Options;
///
/// let options = Options::aal2()
///     .with_write_back(WriteBack::default().with_every_hits(20))
///     .with_default_policy(PreventConcurrentLogin::LogoutFromSameTypeDevices);
/// assert!(options.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// How long a session may live. A request is refused from the timeout on; an idle session ends once
    /// no use of it can be on its way from another node ([`WriteBack::in_flight`]: 15.25 s, by the
    /// default options). A change holds for requests at once. Lists, limits and the cleanup go by
    /// the deadline that is stored with each session, which follows with its next write-back.
    pub timeouts: Timeouts,
    /// When last accessed goes to the store.
    pub write_back: WriteBack,
    /// How the background worker cleans up. A session that was not used for
    /// [`inactive_for`](session_core::cleanup::Cleanup::inactive_for) is refused as one past its idle timeout,
    /// unless it has an idle timeout of its own. A changed
    /// [`inactive_for`](session_core::cleanup::Cleanup::inactive_for) holds for a session from its next
    /// write-back, as changed timeouts do.
    pub cleanup: Cleanup,
    /// The policy where none is set in the store. Default: any number of sessions.
    pub default_policy: Policy,
    /// The most sessions of one user, under any policy: the least recently used leaves. None for any
    /// number, in a configuration file zero. Default 1,000.
    #[serde(with = "number_or_off")]
    pub max_sessions_per_user: Option<u32>,
    /// A session whose token was not presented within this time is the first to leave under any limit
    /// and never the cause of a refusal, in seconds. Default 120.
    #[serde(with = "time::seconds")]
    pub claim_within: Duration,
    /// What is kept of sessions that have ended.
    pub history: History,
    /// How much of an address is kept, in sessions and in the history.
    pub addresses: Addresses,
    /// From which age on a token is renewed with a top-level navigation, in seconds, so that a copy of
    /// it is found without the application's doing; none switches it off, in a configuration file zero.
    /// Default off, 600 in the presets for AAL2 and AAL3.
    #[serde(with = "time::seconds_or_off")]
    pub renew_after: Option<Duration>,
    /// How long a replaced token is still accepted after the first use of the new one, for requests in
    /// flight, in seconds. Default 10.
    #[serde(with = "time::seconds")]
    pub rotation_grace: Duration,
    /// Every node refuses an ended session within this time while it can reach the store, in
    /// seconds. The log is read twice in it, four times where the store does not push. Default 1.
    #[serde(with = "time::seconds")]
    pub propagation_bound: Duration,
    /// Whether the store's pushes are followed, which only ever speed a revocation up. False where they
    /// do not arrive and the store cannot tell, such as behind a proxy that lends connections out: the log
    /// is then read four times in every `propagation_bound`. Default true.
    pub push: bool,
    /// A node that has not heard from the log for this long no longer trusts its cache, in
    /// seconds. Default 30.
    #[serde(with = "time::seconds")]
    pub max_staleness: Duration,
    /// What then happens to a request whose session the store cannot confirm.
    pub when_stale: WhenStale,
    /// A call to the store that takes longer counts as an outage, in seconds. The check of a token waits
    /// for no longer in all, and for a quarter of it for why its session has ended. Default 5.
    #[serde(with = "time::seconds")]
    pub store_timeout: Duration,
    /// A claims provider that takes longer has failed, in seconds. Default 2.
    #[serde(with = "time::seconds")]
    pub claims_timeout: Duration,
    /// The most reads of sessions that are under way on this node at a time; further requests wait in
    /// turn. Default 64.
    pub max_loads: usize,
    /// The most sessions in this node's cache. Default 1,000,000.
    pub cache_capacity: usize,
    /// The most ids remembered as ended, and as unknown. Default 100,000.
    pub negative_capacity: u64,
    /// How long an unknown id is answered without asking the store, in seconds. Default 5.
    #[serde(with = "time::seconds")]
    pub unknown_for: Duration,
    /// Whether each sign-in finds out if the user has a session on this kind of device and in this
    /// network. It costs another read of the store. Default false.
    pub tell_new_devices: bool,
}

/// What is kept of sessions that have ended (G20).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct History {
    /// How long, in seconds; zero switches it off. Default what the store recommends: 30 days, on Redis
    /// one day.
    #[serde(with = "time::optional_seconds")]
    pub keep: Option<Duration>,
}

impl History {
    /// Sets [`History::keep`].
    #[must_use]
    pub fn with_keep(mut self, keep: impl Into<Option<Duration>>) -> Self {
        self.keep = keep.into();
        self
    }
}

/// How much of an address is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Addresses {
    /// All of it.
    #[default]
    Whole,
    /// The network: the /24 of an IPv4 address, the /48 of an IPv6 one.
    Prefix,
    /// Nothing.
    None,
}

impl Addresses {
    /// What is kept of an address.
    pub fn keep(self, address: Option<IpAddr>) -> Option<IpAddr> {
        let address = address?;
        match self {
            Self::Whole => Some(address),
            Self::Prefix => Some(network(address)),
            Self::None => None,
        }
    }
}

/// The /24 of an IPv4 address, the /48 of an IPv6 one; the rest is zero.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 80 << 80).into(),
    }
}

/// What happens to a request when the cache is too old to trust and the store is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhenStale {
    /// Answer `Unavailable`.
    #[default]
    FailClosed,
    /// Go on trusting the cache until the log has been silent for this many seconds. A use that a node
    /// accepts is written back when it reaches the store again. If the other nodes could reach the store in
    /// the meantime, they may have ended the session as idle.
    ServeStale(#[serde(with = "time::seconds")] Duration),
}

/// A number that zero switches off: not every format has a word for nothing.
mod number_or_off {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<u32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(value.unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u32>, D::Error> {
        Ok(Option::deserialize(deserializer)?.filter(|number| *number > 0))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            write_back: WriteBack::default(),
            cleanup: Cleanup::default(),
            default_policy: Policy::default(),
            max_sessions_per_user: Some(1_000),
            claim_within: Duration::from_secs(120),
            history: History::default(),
            addresses: Addresses::Whole,
            renew_after: None,
            rotation_grace: Duration::from_secs(10),
            propagation_bound: Duration::from_secs(1),
            push: true,
            max_staleness: Duration::from_secs(30),
            when_stale: WhenStale::FailClosed,
            store_timeout: Duration::from_secs(5),
            claims_timeout: Duration::from_secs(2),
            max_loads: 64,
            cache_capacity: 1_000_000,
            negative_capacity: 100_000,
            unknown_for: Duration::from_secs(5),
            tell_new_devices: false,
        }
    }
}

impl Options {
    /// The defaults, which are those of NIST SP 800-63B-4 for AAL1: [`Timeouts::aal1`].
    pub fn aal1() -> Self {
        Self::default().with_timeouts(Timeouts::aal1())
    }

    /// The defaults with the timeouts of NIST SP 800-63B-4 for AAL2 ([`Timeouts::aal2`]), and with
    /// renewal.
    pub fn aal2() -> Self {
        Self::default().with_timeouts(Timeouts::aal2()).with_renew_after(RENEWAL)
    }

    /// The defaults with the timeouts of NIST SP 800-63B-4 for AAL3 ([`Timeouts::aal3`]), and with
    /// renewal.
    pub fn aal3() -> Self {
        Self::default().with_timeouts(Timeouts::aal3()).with_renew_after(RENEWAL)
    }

    /// Sets [`Options::timeouts`].
    #[must_use]
    pub const fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sets [`Options::write_back`].
    #[must_use]
    pub const fn with_write_back(mut self, write_back: WriteBack) -> Self {
        self.write_back = write_back;
        self
    }

    /// Sets [`Options::cleanup`].
    #[must_use]
    pub const fn with_cleanup(mut self, cleanup: Cleanup) -> Self {
        self.cleanup = cleanup;
        self
    }

    /// Sets [`Options::default_policy`].
    #[must_use]
    pub fn with_default_policy(mut self, default_policy: impl Into<Policy>) -> Self {
        self.default_policy = default_policy.into();
        self
    }

    /// Sets [`Options::max_sessions_per_user`]; none for any number.
    #[must_use]
    pub fn with_max_sessions_per_user(mut self, max: impl Into<Option<u32>>) -> Self {
        self.max_sessions_per_user = max.into();
        self
    }

    /// Sets [`Options::claim_within`].
    #[must_use]
    pub const fn with_claim_within(mut self, claim_within: Duration) -> Self {
        self.claim_within = claim_within;
        self
    }

    /// Sets [`Options::history`].
    #[must_use]
    pub const fn with_history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// Sets [`Options::addresses`].
    #[must_use]
    pub const fn with_addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Sets [`Options::renew_after`]; none switches it off.
    #[must_use]
    pub fn with_renew_after(mut self, renew_after: impl Into<Option<Duration>>) -> Self {
        self.renew_after = renew_after.into();
        self
    }

    /// Sets [`Options::rotation_grace`].
    #[must_use]
    pub const fn with_rotation_grace(mut self, rotation_grace: Duration) -> Self {
        self.rotation_grace = rotation_grace;
        self
    }

    /// Sets [`Options::propagation_bound`].
    #[must_use]
    pub const fn with_propagation_bound(mut self, propagation_bound: Duration) -> Self {
        self.propagation_bound = propagation_bound;
        self
    }

    /// Sets [`Options::push`].
    #[must_use]
    pub const fn with_push(mut self, push: bool) -> Self {
        self.push = push;
        self
    }

    /// Sets [`Options::max_staleness`].
    #[must_use]
    pub const fn with_max_staleness(mut self, max_staleness: Duration) -> Self {
        self.max_staleness = max_staleness;
        self
    }

    /// Sets [`Options::when_stale`].
    #[must_use]
    pub const fn with_when_stale(mut self, when_stale: WhenStale) -> Self {
        self.when_stale = when_stale;
        self
    }

    /// Sets [`Options::store_timeout`].
    #[must_use]
    pub const fn with_store_timeout(mut self, store_timeout: Duration) -> Self {
        self.store_timeout = store_timeout;
        self
    }

    /// Sets [`Options::claims_timeout`].
    #[must_use]
    pub const fn with_claims_timeout(mut self, claims_timeout: Duration) -> Self {
        self.claims_timeout = claims_timeout;
        self
    }

    /// Sets [`Options::max_loads`].
    #[must_use]
    pub const fn with_max_loads(mut self, max_loads: usize) -> Self {
        self.max_loads = max_loads;
        self
    }

    /// Sets [`Options::cache_capacity`].
    #[must_use]
    pub const fn with_cache_capacity(mut self, cache_capacity: usize) -> Self {
        self.cache_capacity = cache_capacity;
        self
    }

    /// Sets [`Options::negative_capacity`].
    #[must_use]
    pub const fn with_negative_capacity(mut self, negative_capacity: u64) -> Self {
        self.negative_capacity = negative_capacity;
        self
    }

    /// Sets [`Options::unknown_for`].
    #[must_use]
    pub const fn with_unknown_for(mut self, unknown_for: Duration) -> Self {
        self.unknown_for = unknown_for;
        self
    }

    /// Sets [`Options::tell_new_devices`].
    #[must_use]
    pub const fn with_tell_new_devices(mut self, tell: bool) -> Self {
        self.tell_new_devices = tell;
        self
    }

    /// How long a use that another node has accepted may be on its way, where it was accepted near
    /// the idle timeout.
    pub(crate) fn in_flight(&self) -> Duration {
        self.write_back.in_flight(self.store_timeout)
    }

    /// The timeouts that requests with this session go by.
    pub(crate) fn timeouts_of(&self, session: &Session) -> Timeouts {
        session.timeouts_with(&self.timeouts, &self.cleanup)
    }

    /// How long the log may be silent before uses count as held up. Where the store is away for less than the
    /// time limit of a call, a use still arrives in time ([`WriteBack::in_flight`]).
    pub(crate) fn most_silence(&self) -> Duration {
        self.store_timeout.max(self.propagation_bound)
    }

    /// How long any use that another node has accepted may be on its way.
    pub(crate) fn max_lag(&self) -> Duration {
        self.write_back.max_lag(self.store_timeout)
    }

    /// How long this store keeps ended sessions.
    pub(crate) fn history_keep(&self, store: &dyn Store) -> Duration {
        self.history.keep.unwrap_or_else(|| store.history_by_default())
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option and its limit.
    pub fn validate(&self) -> Result<(), InvalidField> {
        self.write_back.validate()?;
        self.cleanup.validate()?;
        self.default_policy.validate()?;
        for (name, value) in [
            ("propagation_bound", self.propagation_bound),
            ("max_staleness", self.max_staleness),
            ("store_timeout", self.store_timeout),
            ("claims_timeout", self.claims_timeout),
        ] {
            if value.is_zero() {
                return Err(InvalidField::malformed(name, "longer than zero"));
            }
        }
        self.validate_durations()?;
        if self.max_staleness < self.propagation_bound {
            return Err(InvalidField::malformed("max_staleness", "at least propagation_bound"));
        }
        if self.cleanup.log_retention <= self.max_staleness {
            let expected = "longer than max_staleness";
            return Err(InvalidField::malformed("cleanup.log_retention", expected));
        }
        if self.max_sessions_per_user.is_some_and(|max| !(1..=Limit::MAX).contains(&max)) {
            let max = Limit::MAX.into();
            return Err(InvalidField::out_of_range("max_sessions_per_user", 1, max));
        }
        if self.renew_after.is_some_and(|after| after.is_zero()) {
            return Err(InvalidField::malformed("renew_after", "longer than zero"));
        }
        if !(1..=MOST_LOADS).contains(&self.max_loads) {
            return Err(InvalidField::out_of_range("max_loads", 1, MOST_LOADS as u64));
        }
        if self.cache_capacity == 0 {
            return Err(InvalidField::out_of_range("cache_capacity", 1, u64::MAX));
        }
        Ok(())
    }

    /// A timeout of zero would refuse every request, and sums of longer durations overflow clocks.
    fn validate_durations(&self) -> Result<(), InvalidField> {
        validate_timeouts(&self.timeouts)?;
        let stale = match self.when_stale {
            WhenStale::ServeStale(limit) => limit,
            WhenStale::FailClosed => Duration::ZERO,
        };
        let all = [
            ("write_back.max_delay", self.write_back.max_delay),
            ("write_back.flush_interval", self.write_back.flush_interval),
            ("cleanup.period", self.cleanup.period),
            ("cleanup.inactive_for", self.cleanup.inactive_for),
            ("cleanup.pause", self.cleanup.pause),
            ("cleanup.log_retention", self.cleanup.log_retention),
            ("claim_within", self.claim_within),
            ("history.keep", self.history.keep.unwrap_or_default()),
            ("renew_after", self.renew_after.unwrap_or_default()),
            ("rotation_grace", self.rotation_grace),
            ("propagation_bound", self.propagation_bound),
            ("max_staleness", self.max_staleness),
            ("when_stale", stale),
            ("store_timeout", self.store_timeout),
            ("claims_timeout", self.claims_timeout),
            ("unknown_for", self.unknown_for),
        ];
        match all.into_iter().find(|(_, duration)| *duration > MAX_DURATION) {
            Some((name, _)) => Err(InvalidField::out_of_range(name, 0, MAX_DURATION.as_secs())),
            None => Ok(()),
        }
    }
}

/// Those of the options, or of a session's own.
pub(crate) fn validate_timeouts(timeouts: &Timeouts) -> Result<(), InvalidField> {
    for (name, timeout) in
        [("timeouts.idle", timeouts.idle), ("timeouts.absolute", timeouts.absolute)]
    {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(InvalidField::malformed(name, "longer than zero"));
        }
        if timeout.is_some_and(|timeout| timeout > MAX_DURATION) {
            return Err(InvalidField::out_of_range(name, 0, MAX_DURATION.as_secs()));
        }
    }
    Ok(())
}

/// The largest `max_loads`.
const MOST_LOADS: usize = 1_000_000;
/// How old a token gets at AAL2 and AAL3.
const RENEWAL: Duration = Duration::from_secs(600);
/// The longest duration of any option: a hundred years.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests;

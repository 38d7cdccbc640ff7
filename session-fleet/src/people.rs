//! The sessions that a fleet has begun, and what has become of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use session_benches::random::Random;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// Its user, as the demo's form has it: `TENANT/USER`, or the user alone.
    user: String,
    cookie: Mutex<String>,
    state: Mutex<State>,
    /// The nodes that have accepted it, as bits: they have it in their cache.
    known_to: AtomicU64,
    /// How often the count in its data was raised, and how often no answer said whether it was.
    counted: AtomicU64,
    perhaps_counted: AtomicU64,
}

/// What the fleet has acknowledged about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It began.
    Live,
    /// A revocation is under way, or its answer was lost.
    Ending,
    /// Its revocation was acknowledged then.
    Ended(Instant),
}

impl Session {
    /// A user's session by its cookie: a token begins with the session's id.
    pub(crate) fn of(user: &str, cookie: &str) -> Option<Self> {
        let token = cookie.split_once('=')?.1;
        let hex = token.get(..32)?;
        let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        Some(Self {
            id,
            user: user.to_owned(),
            cookie: Mutex::new(cookie.to_owned()),
            state: Mutex::new(State::Live),
            known_to: AtomicU64::default(),
            counted: AtomicU64::default(),
            perhaps_counted: AtomicU64::default(),
        })
    }

    pub(crate) fn state(&self) -> State {
        *held(&self.state)
    }

    /// Whether a page names it and its user.
    pub(crate) fn is_named_by(&self, page: &[u8]) -> bool {
        serde_json::from_slice(page).is_ok_and(|WhoAmI { user, tenant, session_id }| {
            let (own_tenant, own_user) = self
                .user
                .split_once('/')
                .map_or((None, &*self.user), |(tenant, user)| (Some(tenant), user));
            (tenant, user, session_id) == (own_tenant, own_user, &*self.id)
        })
    }

    /// The cookie with its latest token.
    pub(crate) fn cookie(&self) -> String {
        held(&self.cookie).clone()
    }

    /// Its token has been rotated.
    pub(crate) fn rotated(&self, cookie: &str) {
        cookie.clone_into(&mut *held(&self.cookie));
    }

    /// Its count was raised; perhaps, where nothing said so.
    pub(crate) fn counted(&self, is_sure: bool) {
        let count = if is_sure { &self.counted } else { &self.perhaps_counted };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether its count may be this.
    pub(crate) fn may_count(&self, count: u64) -> bool {
        let least = self.counted.load(Ordering::Relaxed);
        (least..=least + self.perhaps_counted.load(Ordering::Relaxed)).contains(&count)
    }

    /// Notes that a node has accepted it.
    pub(crate) fn accepted_by(&self, node: usize) {
        self.known_to.fetch_or(1 << node, Ordering::Relaxed);
    }

    fn is_known_to(&self, node: usize) -> bool {
        self.known_to.load(Ordering::Relaxed) & (1 << node) != 0
    }

    /// When its revocation was acknowledged.
    pub(crate) fn ended_at(&self) -> Option<Instant> {
        if let State::Ended(at) = self.state() { Some(at) } else { None }
    }

    fn ended_within(&self, time: Duration) -> bool {
        self.ended_at().is_some_and(|at| at.elapsed() <= time)
    }

    /// Returns what it was before.
    pub(crate) fn becomes(&self, state: State) -> State {
        std::mem::replace(&mut *held(&self.state), state)
    }
}

/// Of the demo's `/whoami`.
#[derive(Deserialize)]
struct WhoAmI<'p> {
    user: &'p str,
    tenant: Option<&'p str>,
    session_id: &'p str,
}

/// All sessions of a fleet.
#[derive(Debug, Default)]
pub(crate) struct People {
    live: Mutex<VecDeque<Arc<Session>>>,
    /// All that have ended, latest last.
    ended: Mutex<Vec<Arc<Session>>>,
}

impl People {
    pub(crate) fn begun(&self, session: &Arc<Session>) {
        held(&self.live).push_back(Arc::clone(session));
    }

    pub(crate) fn ended(&self, session: &Arc<Session>) {
        held(&self.ended).push(Arc::clone(session));
    }

    /// Takes the oldest one that may leave: the first `keep` stay.
    pub(crate) fn take(&self, keep: usize) -> Option<Arc<Session>> {
        let mut live = held(&self.live);
        (live.len() > keep).then(|| live.remove(keep)).flatten()
    }

    pub(crate) fn count(&self) -> usize {
        held(&self.live).len()
    }

    /// One of the oldest `among`.
    pub(crate) fn any_live(&self, among: usize, random: &mut Random) -> Option<Arc<Session>> {
        let live = held(&self.live);
        let count = live.len().min(among) as u64;
        (count > 0).then(|| Arc::clone(&live[random.below(count) as usize]))
    }

    /// One of those that ended within this time, all of them equally often; rather one that the node had
    /// in its cache, as a node that is cut off makes each other one wait for the store.
    pub(crate) fn any_ended(
        &self,
        within: Duration,
        node: usize,
        random: &mut Random,
    ) -> Option<Arc<Session>> {
        let ended = held(&self.ended);
        let first = ended.partition_point(|session| !session.ended_within(within));
        let lately = &ended[first..];
        let mut any = || lately.get(random.below(lately.len().max(1) as u64) as usize);
        let known = (0..TRIES).find_map(|_| any().filter(|session| session.is_known_to(node)));
        known.or_else(any).map(Arc::clone)
    }

    /// The live session at this place, from the oldest on.
    pub(crate) fn live_at(&self, place: usize) -> Option<Arc<Session>> {
        held(&self.live).get(place).cloned()
    }

    pub(crate) fn all_live(&self) -> Vec<Arc<Session>> {
        held(&self.live).iter().cloned().collect()
    }

    pub(crate) fn all_ended(&self) -> Vec<Arc<Session>> {
        held(&self.ended).clone()
    }
}

pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often one that the node knows is looked for.
const TRIES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn session(n: usize) -> Arc<Session> {
        let cookie = format!("session={n:032x}and the secret part");
        Arc::new(Session::of("north/alice", &cookie).unwrap())
    }

    #[test]
    fn everything_that_ended_lately_comes_back_where_it_was_known() {
        let (people, within) = (People::default(), Duration::from_secs(155));
        let mut random = Random::new(1);
        assert!(people.any_ended(within, 0, &mut random).is_none());
        // One every ten seconds: a machine that is busy for a while moves none across the line.
        for n in 0..30 {
            let session = session(n);
            let ago = Duration::from_secs(10 * (30 - n as u64));
            session.becomes(State::Ended(Instant::now().checked_sub(ago).unwrap()));
            session.accepted_by(n % 2);
            people.ended(&session);
        }
        let mut seen = std::collections::BTreeSet::new();
        let of_the_other = (0..2_000).filter(|_| {
            let session = people.any_ended(within, 1, &mut random).unwrap();
            seen.insert(session.id.clone());
            !session.is_known_to(1)
        });
        assert_eq!(of_the_other.count(), 0);
        assert!((7..=8).contains(&seen.len()), "every second of fifteen: {}", seen.len());
        assert!(people.any_ended(within, 2, &mut random).is_some(), "where none is known, any");
    }

    #[test]
    fn the_first_sessions_stay() {
        let people = People::default();
        for n in 0..3 {
            people.begun(&session(n));
        }
        let taken = people.take(2).unwrap();
        assert_eq!(taken.id, "00000000-0000-0000-0000-000000000002");
        assert!(people.take(2).is_none());
        assert_eq!(people.count(), 2);
        assert!(Session::of("bob", "session=").is_none());
    }

    #[test]
    fn a_page_is_of_one_user_and_session() {
        let page = |user: &str, tenant: &str, n: usize| {
            let id = session(n).id.clone();
            format!(r#"{{"user":"{user}","tenant":{tenant},"session_id":"{id}","level":null}}"#)
        };
        let own = session(7);
        assert!(own.is_named_by(page("alice", r#""north""#, 7).as_bytes()));
        for (user, tenant, n) in [
            ("bob", r#""north""#, 7),
            ("alice", r#""south""#, 7),
            ("alice", "null", 7),
            ("alice", r#""north""#, 8),
        ] {
            assert!(!own.is_named_by(page(user, tenant, n).as_bytes()), "{user} {tenant} {n}");
        }
        assert!(!own.is_named_by(b"hello"));
    }

    #[test]
    fn a_count_without_an_answer_may_have_happened() {
        let session = session(1);
        session.counted(true);
        session.counted(false);
        let may: Vec<_> = (0..4).filter(|count| session.may_count(*count)).collect();
        assert_eq!(may, [1, 2]);
    }
}

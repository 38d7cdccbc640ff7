//! The sessions that a fleet has begun, and what has become of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use session_benches::random::Random;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) cookie: String,
    fate: Mutex<Fate>,
}

/// What the fleet has acknowledged about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It began.
    Live,
    /// A revocation is under way, or its answer was lost.
    Ending,
    /// Its revocation was acknowledged then.
    Ended(Instant),
}

impl Session {
    /// A session by its cookie: a token begins with the session's id.
    pub(crate) fn of(cookie: &str) -> Option<Self> {
        let token = cookie.split_once('=')?.1;
        let hex = token.get(..32)?;
        let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        Some(Self { id, cookie: cookie.to_owned(), fate: Mutex::new(Fate::Live) })
    }

    pub(crate) fn fate(&self) -> Fate {
        *held(&self.fate)
    }

    /// Returns what it was before.
    pub(crate) fn becomes(&self, fate: Fate) -> Fate {
        std::mem::replace(&mut *held(&self.fate), fate)
    }
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

    /// One of those that ended lately.
    pub(crate) fn any_ended(&self, random: &mut Random) -> Option<Arc<Session>> {
        let ended = held(&self.ended);
        let lately = ended.len().min(LATELY) as u64;
        (lately > 0).then(|| Arc::clone(&ended[ended.len() - 1 - random.below(lately) as usize]))
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

/// How many ended sessions still come back.
const LATELY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sessions_stay() {
        let people = People::default();
        for n in 0..3 {
            let cookie = format!("session={n:032x}and the secret part");
            people.begun(&Arc::new(Session::of(&cookie).unwrap()));
        }
        let taken = people.take(2).unwrap();
        assert_eq!(taken.id, "00000000-0000-0000-0000-000000000002");
        assert!(people.take(2).is_none());
        assert_eq!(people.count(), 2);
        assert!(Session::of("session=").is_none());
    }
}

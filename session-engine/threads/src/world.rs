//! A node on a store, for the models: loads, requests and flushes as the engine makes them.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use session_core::store::Touch;
use session_core::{EndCause, FleetKey, Session, SessionId, Timestamp, Token, UserKey};

use crate::cache::{Cache, Filled};
use crate::entry::{Access, Entry};
use crate::options::Options;
use crate::queue::{Leaving, Queue};
use crate::sync::{self, Arc, Mutex, MutexGuard};

pub(crate) struct World {
    pub(crate) cache: Cache,
    pub(crate) queue: Arc<Queue>,
    options: Arc<Options>,
    store: Mutex<Store>,
}

#[derive(Default)]
struct Store {
    sessions: Vec<Session>,
    /// The addresses that write-backs have brought.
    addresses: Vec<IpAddr>,
}

impl World {
    /// A node with `room` in its queue on a store with these sessions.
    pub(crate) fn new(options: &Options, room: usize, sessions: Vec<Session>) -> Arc<Self> {
        let queue = Arc::new(Queue::new(room));
        Arc::new(Self {
            cache: Cache::new(options, Arc::clone(&queue)),
            queue,
            options: Arc::new(options.clone()),
            store: Mutex::new(Store { sessions, addresses: Vec::new() }),
        })
    }

    pub(crate) fn now() -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_secs(3600) + sync::elapsed())
    }

    /// As `load.rs` does it: reads a session and installs it.
    pub(crate) fn load(&self, id: SessionId) -> Option<Arc<Entry>> {
        let slot = self.cache.begin_fill(id);
        loop {
            let session = self.stored(id)?;
            let entry = Entry::new(session, Value::Null, Arc::clone(&self.options));
            let Some(slot) = &slot else { return Some(Arc::new(entry)) };
            match slot.finish(entry, Self::now()) {
                Filled::Installed(entry) => return Some(entry),
                Filled::Ended => return None,
                Filled::Again => {}
            }
        }
    }

    /// A request of a session, from an address of its own.
    pub(crate) fn request(&self, id: SessionId, address: u8) {
        let Some(entry) = self.cache.get(&id).or_else(|| self.load(id)) else { return };
        let access = Access::from_ip(Some(ip(address)));
        let effect = entry.access(&access, Self::now());
        self.queue.apply(effect, &entry, Self::now());
    }

    /// As `write_back.rs` does it, once; `arrives` is false where the call is dropped in the middle.
    pub(crate) fn flush(&self, leaving: Leaving, arrives: bool) {
        let taken = self.queue.take(leaving, Self::now());
        let touches = taken.touches();
        if arrives {
            touches.iter().for_each(|touch| self.store().touch(touch));
            taken.confirm();
        }
    }

    /// Writes back everything, and returns the addresses that have arrived since the beginning.
    pub(crate) fn flush_all(&self) -> Vec<IpAddr> {
        while self.queue.has(Leaving::All) {
            self.flush(Leaving::All, true);
        }
        assert_eq!(self.queue.len(), 0);
        let mut addresses = self.store().addresses.clone();
        addresses.sort_unstable();
        addresses
    }

    /// Another node has rotated the token, and the log tells it.
    pub(crate) fn rotate(&self, id: SessionId) {
        self.store().session(id).token = session(id, NEW).token;
        self.cache.invalidate(id);
    }

    /// Another node has rotated the token, which this node can no longer be told.
    pub(crate) fn rotate_unheard(&self, id: SessionId) {
        self.store().session(id).token = session(id, NEW).token;
        self.cache.clear();
    }

    pub(crate) fn end(&self, id: SessionId) {
        self.remove(id);
        self.cache.end(id, EndCause::Revoked);
    }

    pub(crate) fn remove(&self, id: SessionId) {
        self.store().sessions.retain(|session| session.id != id);
    }

    pub(crate) fn stored(&self, id: SessionId) -> Option<Session> {
        self.store().sessions.iter().find(|session| session.id == id).cloned()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("a model that panics is over")
    }
}

impl Store {
    fn session(&mut self, id: SessionId) -> &mut Session {
        self.sessions.iter_mut().find(|session| session.id == id).expect("it has not ended")
    }

    fn touch(&mut self, touch: &Touch) {
        self.addresses.extend(&touch.ip_addresses);
        if let Some(session) = self.sessions.iter_mut().find(|session| session.id == touch.id) {
            session.last_accessed = session.last_accessed.max(touch.last_accessed);
            session.claimed |= touch.claimed;
            session.ip_addresses.extend(&touch.ip_addresses);
        }
    }
}

pub(crate) const fn id(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

pub(crate) fn ip(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

pub(crate) fn owner() -> UserKey {
    UserKey::new("alice".parse().expect("a name"))
}

/// A session whose token is the one of this number.
pub(crate) fn session(id: SessionId, token: u8) -> Session {
    let token = Token::new(&FleetKey::from_bytes([0; 32]), id, [0; 12], [token; 16]);
    Session::new(owner(), &token, Timestamp::EPOCH)
}

/// One that is known to be held.
pub(crate) fn claimed(id: SessionId) -> Session {
    Session { claimed: true, ..session(id, OLD) }
}

/// The first token, and the one after a rotation.
pub(crate) const OLD: u8 = 1;
pub(crate) const NEW: u8 = 2;

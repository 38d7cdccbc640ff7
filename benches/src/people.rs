//! Users and sessions as a deployment has them, made from a seed.
//!
//! A user has `n` sessions or more with probability `n` to the power of -1.2, and at most 1,000: of
//! 230,000 users, who have a million sessions, about 60 have 1,000. The first two always do. Sign-ins
//! are spread over 40 days. Half of the sessions were in use within the last two days, the others were
//! left within a week. None is past its absolute expiry; those that were not used for 30 days are past
//! their deadline.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use session_core::cleanup::Cleanup;
use session_core::usage::Timeouts;
use session_core::{
    ClientId, DeviceInfo, DeviceKind, ExtraData, FleetKey, Session, SessionId, Store, TenantId,
    Timestamp, Token, UserId, UserKey,
};

use crate::Failure;
use crate::random::Random;

/// All users that there could be; which of them exist is for [`fill`](crate::fill) to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct People {
    seed: u64,
    /// The youngest sign-in, in microseconds.
    now: i64,
}

impl People {
    /// The most sessions of one user.
    pub const MOST: u64 = 1_000;
    /// Over which time they signed in.
    pub const SPAN: Duration = Duration::from_secs(40 * DAY);

    /// Users whose youngest sign-in is at this time.
    pub const fn new(seed: u64, now: Timestamp) -> Self {
        Self { seed, now: now.as_micros() }
    }

    /// The time of the youngest sign-in.
    pub const fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    /// How many sessions a user has.
    pub fn sessions_of(&self, user: u64) -> u64 {
        if user < 2 {
            return Self::MOST;
        }
        let rarity = 1.0 - self.random(&[user]).unit();
        (rarity.powf(-1.0 / STEEPNESS) as u64).min(Self::MOST)
    }

    /// A user.
    ///
    /// # Errors
    /// Never, for the names are valid.
    pub fn owner(&self, user: u64) -> Result<UserKey, Failure> {
        let tenant = pick(&mut self.random(&[user, TENANT]), &TENANTS);
        Ok(UserKey::in_tenant(TenantId::new(tenant)?, UserId::new(&format!("user-{user:08}"))?))
    }

    /// The id of one of a user's sessions in this store.
    ///
    /// # Errors
    /// As [`People::owner`].
    pub fn id(&self, store: &dyn Store, user: u64, n: u64) -> Result<SessionId, Failure> {
        let random = self.random(&[user, n, ID]).bytes();
        Ok(store.session_id(&self.owner(user)?, self.signed_in(user, n), random))
    }

    /// When one of a user's sessions began.
    pub fn signed_in(&self, user: u64, n: u64) -> Timestamp {
        self.now().minus(age(&mut self.random(&[user, n])))
    }

    /// One of a user's sessions.
    ///
    /// # Errors
    /// As [`People::owner`].
    pub fn session(&self, store: &dyn Store, user: u64, n: u64) -> Result<Session, Failure> {
        let random = &mut self.random(&[user, n]);
        let age = age(random);
        let used = used(random, age);
        let owner = self.owner(user)?;
        let signed_in = self.now().minus(age);
        let mut session = Session {
            device_kind: DeviceKind::new(pick(random, &KINDS))?,
            client_id: Some(ClientId::new(pick(random, &CLIENTS))?),
            ip_addresses: (0..=random.below(3)).map(|_| address(random)).collect(),
            last_accessed: self.now().minus(used),
            claimed: true,
            data: (random.below(5) == 0).then(|| ExtraData::from_json(DATA)).transpose()?,
            // Token digests cost more to make than all the rest, and differ for each session.
            ..newcomer(owner, self.id(store, user, n)?, random, signed_in)?
        };
        session.deadline = deadline(&session);
        Ok(session)
    }

    /// A session of a user among the first so many, each of them as likely.
    pub fn any(&self, users: u64, random: &mut Random) -> (u64, u64) {
        let user = random.below(users.max(1));
        (user, random.below(self.sessions_of(user)))
    }

    fn random(&self, parts: &[u64]) -> Random {
        Random::of(self.seed, parts)
    }
}

/// A session that begins at a time, as a sign-in makes it.
///
/// # Errors
/// Never, for the values are valid.
pub fn newcomer(
    owner: UserKey,
    id: SessionId,
    random: &mut Random,
    at: Timestamp,
) -> Result<Session, Failure> {
    let mut family = [0; Token::FAMILY_BYTES];
    family.copy_from_slice(&random.bytes()[..Token::FAMILY_BYTES]);
    let token = Token::new(&FLEET_KEY, id, family, random.bytes());
    let mut session = Session {
        device_info: Some(DeviceInfo::new("Firefox 140 on Linux")?),
        ip_addresses: vec![address(random)],
        absolute_expiry: Some(at.plus(People::SPAN + Duration::from_secs(2 * DAY))),
        ..Session::new(owner, &token, at)
    };
    session.deadline = deadline(&session);
    Ok(session)
}

/// When it ends if it is not used again.
fn deadline(session: &Session) -> Timestamp {
    let (none, cleanup) = (Timeouts::none(), Cleanup::default());
    session.deadline_at(&none, &cleanup, session.last_accessed, session.claimed)
}

/// How long ago a session began.
fn age(random: &mut Random) -> Duration {
    People::SPAN.mul_f64(random.unit())
}

/// How long ago a session of this age was last used.
fn used(random: &mut Random, age: Duration) -> Duration {
    if random.below(2) == 0 {
        return age.min(Duration::from_secs(2 * DAY)).mul_f64(random.unit());
    }
    age - age.min(Duration::from_secs(7 * DAY)).mul_f64(random.unit())
}

fn address(random: &mut Random) -> IpAddr {
    let [a, b, c, ..] = random.bytes();
    IpAddr::from([10, a, b, c])
}

/// One of these words; the first ones are the most frequent.
fn pick<'w>(random: &mut Random, words: &[&'w str]) -> &'w str {
    let share = random.unit() * random.unit();
    words[(share * words.len() as f64) as usize]
}

/// The tenants, the largest first.
pub const TENANTS: [&str; 5] = ["north", "south", "east", "west", "centre"];
/// The kinds of devices, the most frequent first.
pub const KINDS: [&str; 6] = ["Web", "Mobile", "Desktop", "Tv", "Console", "kiosk"];
/// The clients, the most frequent first.
pub const CLIENTS: [&str; 8] = ["shop", "mail", "wiki", "chat", "admin", "billing", "api", "lab"];
const DATA: &str = r#"{"theme":"dark","language":"en","experiments":["a","c"]}"#;
/// No node lets these sessions in: it has a key of its own.
const FLEET_KEY: FleetKey = FleetKey::from_bytes([7; FleetKey::BYTES]);
const STEEPNESS: f64 = 1.2;
const DAY: u64 = 24 * 3600;
/// Which numbers of a user's are meant, besides those of its sessions.
const TENANT: u64 = u64::MAX;
const ID: u64 = u64::MAX - 1;

#[cfg(test)]
mod tests {
    use session_store_memory::MemoryStore;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

    #[test]
    fn a_million_sessions_belong_to_few_and_to_many() {
        let people = People::new(7, NOW);
        let counts: Vec<_> = (0..230_000).map(|user| people.sessions_of(user)).collect();
        let all: u64 = counts.iter().sum();
        let heavy = counts.iter().filter(|count| **count == People::MOST).count();
        let single = counts.iter().filter(|count| **count == 1).count();
        assert!((800_000..1_200_000).contains(&all), "{all}");
        assert!((30..90).contains(&heavy), "{heavy}");
        assert!(single > counts.len() / 2, "{single}");
    }

    #[test]
    fn sessions_repeat_and_are_told_apart() {
        let (people, store) = (People::new(7, NOW), MemoryStore::new());
        let session = people.session(&store, 3, 1).unwrap();
        assert_eq!(session, People::new(7, NOW).session(&store, 3, 1).unwrap());
        assert_eq!(session.id, people.id(&store, 3, 1).unwrap());
        let ids: std::collections::HashSet<_> = (0..50)
            .flat_map(|user| (0..50).map(move |n| (user, n)))
            .map(|(user, n)| people.id(&store, user, n).unwrap())
            .collect();
        assert_eq!(ids.len(), 2_500);
    }

    #[test]
    fn times_are_in_order_and_words_vary() {
        let (people, store) = (People::new(7, NOW), MemoryStore::new());
        let mut long_unused = 0;
        let mut tenants = std::collections::HashSet::new();
        for user in 0..2_000 {
            let session = people.session(&store, user, 0).unwrap();
            assert!(session.signed_in <= session.last_accessed && session.last_accessed <= NOW);
            assert!(session.signed_in >= NOW.minus(People::SPAN));
            assert!(session.absolute_expiry.unwrap() > NOW);
            let month = NOW.minus(Duration::from_secs(30 * DAY));
            long_unused += usize::from(session.last_accessed < month);
            assert_eq!(session.deadline <= NOW, session.last_accessed <= month);
            tenants.insert(session.owner.tenant);
        }
        assert!((100..400).contains(&long_unused), "{long_unused}");
        assert_eq!(tenants.len(), TENANTS.len());
    }
}

//! Readers and sign-ins beside a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use session_benches::fill::Written;
use session_benches::load::{Done, Load};
use session_benches::people::{People, newcomer};
use session_benches::random::Random;
use session_benches::{Failure, now};
use session_core::store::{Change, Commit, Outcome};
use session_core::{Actor, SessionId, Store, UserKey};

/// Readers and sign-ins that run while calls are measured.
pub(crate) struct Beside {
    readers: Load,
    sign_ins: Load,
}

impl Beside {
    /// Starts both. The random numbers go on from `seed`.
    pub(crate) fn start(
        store: &Arc<dyn Store>,
        people: People,
        written: Written,
        seed: &Arc<AtomicU64>,
    ) -> Self {
        let (reading, signing) = (Arc::clone(store), Arc::clone(store));
        let (read, signed) = (Arc::clone(seed), Arc::clone(seed));
        let readers = Load::start(TASKS, READ_PAUSE, move |_| {
            let (store, random) = (Arc::clone(&reading), next(&read));
            async move { load(&*store, people, written, random).await }
        });
        let sign_ins = Load::start(TASKS, SIGN_IN_PAUSE, move |_| {
            let (store, n) = (Arc::clone(&signing), signed.fetch_add(1, Ordering::Relaxed));
            async move {
                let owner = UserKey::new(format!("beside-{n}").parse()?);
                sign_in(&*store, owner, &mut Random::new(n)).await
            }
        });
        Self { readers, sign_ins }
    }

    /// What the readers and the sign-ins did.
    pub(crate) async fn stop(self) -> Result<(Done, Done), Failure> {
        Ok((self.readers.stop().await?, self.sign_ins.stop().await?))
    }
}

/// A generator of its own for each call.
pub(crate) fn next(seed: &AtomicU64) -> Random {
    Random::of(seed.fetch_add(1, Ordering::Relaxed), &[CALLS])
}

/// Reads any session.
pub(crate) async fn load(
    store: &dyn Store,
    people: People,
    written: Written,
    mut random: Random,
) -> Result<(), Failure> {
    let (user, n) = people.any(written.users, &mut random);
    store.load(people.id(store, user, n)?).await?;
    Ok(())
}

/// Reads the user and commits a session, again where another sign-in came between.
pub(crate) async fn sign_in(
    store: &dyn Store,
    owner: UserKey,
    random: &mut Random,
) -> Result<(), Failure> {
    loop {
        let expected = store.user(&owner).await?.version;
        let at = now();
        // Ids of earlier runs are taken.
        let fresh = Random::of(random.bits(), &[at.as_micros().cast_unsigned()]).bytes();
        let id: SessionId = store.session_id(&owner, at, fresh);
        let session = newcomer(owner.clone(), id, random, at)?;
        let (owner, by) = (owner.clone(), Actor::User(owner.clone()));
        let changes = vec![Change::Insert(Box::new(session))];
        let commit = Commit { owner, expected, changes, at, by, from: None };
        if store.commit(&commit).await? == Outcome::Done {
            return Ok(());
        }
    }
}

const TASKS: usize = 2;
const READ_PAUSE: Duration = Duration::from_millis(2);
const SIGN_IN_PAUSE: Duration = Duration::from_millis(5);
const CALLS: u64 = 1;

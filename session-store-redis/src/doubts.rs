//! Changes that may not be on the replicas that the options ask for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use session_core::StoreError;
use session_core::store::UserTag;

/// Users with a change by this node that its replicas have not confirmed. A read of such a user
/// waits for the replicas too, because the caller may be retrying.
#[derive(Debug, Default)]
pub(crate) struct Doubts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Counts changes and confirmations as they begin.
    turn: u64,
    /// When the last change began of those that were not confirmed.
    users: HashMap<UserTag, u64>,
}

/// A change, or a wait for earlier changes. If dropped without [`confirm`], its users stay
/// unconfirmed.
#[derive(Debug)]
pub(crate) struct Doubt<'d> {
    doubts: &'d Doubts,
    users: Vec<UserTag>,
    turn: u64,
    is_change: bool,
}

impl Doubts {
    /// Begins a change of these users' sessions.
    pub(crate) fn change(
        &self,
        users: impl IntoIterator<Item = UserTag>,
    ) -> Result<Doubt<'_>, StoreError> {
        if self.state().users.len() >= MOST {
            let text = "too many changes wait for replicas that do not answer";
            return Err(StoreError::unavailable(text));
        }
        Ok(self.begin(users.into_iter().collect(), true))
    }

    /// Begins to wait for this user's changes, where some are in doubt.
    pub(crate) fn of(&self, user: UserTag) -> Option<Doubt<'_>> {
        let is_in_doubt = self.state().users.contains_key(&user);
        is_in_doubt.then(|| self.begin(vec![user], false))
    }

    fn begin(&self, users: Vec<UserTag>, is_change: bool) -> Doubt<'_> {
        let mut state = self.state();
        state.turn += 1;
        Doubt { doubts: self, users, turn: state.turn, is_change }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doubt<'_> {
    /// The replicas have all that was changed before this began.
    pub(crate) fn confirm(mut self) {
        self.is_change = false;
        let mut state = self.doubts.state();
        for user in &self.users {
            if state.users.get(user).is_some_and(|turn| *turn < self.turn) {
                state.users.remove(user);
            }
        }
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.is_change {
            return;
        }
        let mut state = self.doubts.state();
        for user in &self.users {
            let turn = state.users.entry(*user).or_default();
            *turn = self.turn.max(*turn);
        }
    }
}

/// Users in doubt at one time.
const MOST: usize = 65_536;

#[cfg(test)]
mod tests {
    use session_core::store::TagKey;
    use session_core::{UserId, UserKey};

    use super::*;

    fn tag(name: &str) -> UserTag {
        TagKey::from_bytes([1; 16]).tag(&UserKey::new(UserId::new(name).unwrap()))
    }

    #[test]
    fn only_what_began_before_a_wait_is_confirmed_by_it() {
        let doubts = Doubts::default();
        doubts.change([tag("alice")]).unwrap().confirm();
        assert!(doubts.of(tag("alice")).is_none());
        drop(doubts.change([tag("alice")]).unwrap());
        assert!(doubts.of(tag("bob")).is_none());
        let wait = doubts.of(tag("alice")).unwrap();
        drop(doubts.change([tag("alice")]).unwrap());
        wait.confirm();
        let wait = doubts.of(tag("alice")).expect("a change began after the wait");
        drop(doubts.of(tag("alice")));
        wait.confirm();
        assert!(doubts.of(tag("alice")).is_none());
    }
}

//! Replaces tokens.

use session_core::rotation::Recognition;
use session_core::store::{Change, Commit, Loaded, Outcome, Selection, TenantFilter};
use session_core::{Actor, EndCause, SessionId, Token};

use crate::check::Refusal;
use crate::error::Error;
use crate::manager::SessionManager;
use crate::{clock, notice};

/// Why a token is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RotateReason {
    /// On demand.
    Renewal,
    /// The user has just proved again who they are.
    Reauthenticated,
}

/// How a rotation ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Rotation {
    /// The client has to use this token from now on.
    Rotated {
        /// Which session.
        id: SessionId,
        /// Its new token, for the client only.
        token: Token,
    },
    /// The presented token has been replaced a moment ago by a request beside this one, whose
    /// answer carries the new token.
    AlreadyRotated,
    /// The presented token is worth nothing.
    Refused(Refusal),
}

impl SessionManager {
    /// Replaces the presented token by a new one of the same session.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn rotate(&self, token: &[u8], reason: RotateReason) -> Result<Rotation, Error> {
        let Some(token) = Token::parse(token) else {
            return Ok(Rotation::Refused(Refusal::Malformed));
        };
        let shared = self.shared();
        let id = token.session_id();
        let next = token.rotated(clock::random(shared.entropy.as_ref()));
        let mut conflicts = 0;
        let mut patience = self.patience();
        loop {
            let Some(loaded) = shared.store_call("load", shared.store.load(id)).await? else {
                return Ok(Rotation::Refused(Refusal::Unknown));
            };
            // An earlier try may have gone through although its answer was lost.
            if loaded.session.token.current != next.digest() {
                if let Some(answer) = self.not_exchangeable(&loaded, &token).await? {
                    return Ok(answer);
                }
                let commit = self.exchange(&loaded, &next, reason);
                match shared.store_call("commit", shared.store.commit(&commit)).await {
                    Ok(Outcome::Done) => notice::log_commit(&commit),
                    Ok(Outcome::Conflict) => {
                        self.back_off(&mut conflicts).await;
                        continue;
                    }
                    Err(error) => {
                        patience.may_try_again(error).await?;
                        continue;
                    }
                }
            }
            shared.cache.invalidate(id);
            shared.poke.notify_one();
            return Ok(Rotation::Rotated { id, token: next });
        }
    }

    /// The answer for a token that may not be exchanged; none for the current one.
    async fn not_exchangeable(
        &self,
        loaded: &Loaded,
        token: &Token,
    ) -> Result<Option<Rotation>, Error> {
        let session = &loaded.session;
        let (options, now) = (self.options(), self.now());
        let over = match session.token.recognise(token, options.rotation_grace, now) {
            Recognition::Current => {
                let used = self.shared().cache.get(&session.id);
                let used = used.map(|entry| entry.use_().activity.last_accessed());
                let last_accessed = used.unwrap_or_default().max(session.last_accessed);
                if !options.timeouts.expired(last_accessed, session.absolute_expiry, now) {
                    return Ok(None);
                }
                EndCause::Expired
            }
            Recognition::InGrace => return Ok(Some(Rotation::AlreadyRotated)),
            Recognition::Superseded => return Ok(Some(Rotation::Refused(Refusal::Superseded))),
            Recognition::Unknown => return Ok(Some(Rotation::Refused(Refusal::WrongSecret))),
            Recognition::Reused => EndCause::TokenReused,
        };
        let selection = Selection::session(session.id, TenantFilter::Any);
        self.end_all(selection, over, Actor::System).await?;
        Ok(Some(Rotation::Refused(Refusal::Ended(over))))
    }

    fn exchange(&self, loaded: &Loaded, next: &Token, reason: RotateReason) -> Commit {
        let (session, at) = (&loaded.session, self.now());
        let change = Change::ReplaceToken {
            id: session.id,
            token: session.token.rotated(next, at),
            authenticated_at: (reason == RotateReason::Reauthenticated).then_some(at),
        };
        Commit {
            owner: session.owner.clone(),
            expected: loaded.version,
            changes: vec![change],
            at,
            by: Actor::User(session.owner.user.clone()),
        }
    }
}

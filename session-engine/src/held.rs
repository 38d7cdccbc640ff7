//! Sessions that clients show: to sign in again, or to give them up.

use std::sync::Arc;

use session_core::store::{Loaded, Selection, TenantFilter};
use session_core::{Actor, EndCause, SessionId, Timestamp, Token, UserKey};
use tokio::time::Instant;

use crate::check::{Claim, Finding, Refusal, Verdict, judge};
use crate::entry::{Access, ActiveSession, Entry};
use crate::error::Error;
use crate::node::Node;

/// A session that a client shows with a token of its own, so that it may give it up or sign in again in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Held {
    /// The session's public id.
    pub id: SessionId,
    /// The user that it belongs to.
    pub owner: UserKey,
    /// The token that was shown. None: the session can only end.
    pub(crate) shown: Option<ShownToken>,
}

/// A token that a client has shown.
#[derive(Clone, Debug)]
pub(crate) struct ShownToken {
    pub(crate) token: Token,
    /// When, by the fleet's time.
    pub(crate) at: Timestamp,
}

impl From<&ActiveSession> for Held {
    fn from(session: &ActiveSession) -> Self {
        Self::of(session, None)
    }
}

impl Held {
    /// The session, with the token that the request showed. Without it where the token is not of this
    /// session: then a sign-in ends the session.
    pub fn by_token(session: &ActiveSession, token: &[u8]) -> Self {
        Self::of(session, Token::parse(token).filter(|token| session.has_token(token)))
    }

    fn of(session: &ActiveSession, token: Option<Token>) -> Self {
        let shown = token.map(|token| ShownToken { token, at: session.shown_at() });
        Self { id: session.id(), owner: session.owner().clone(), shown }
    }
}

impl Node {
    pub(crate) async fn held(&self, tokens: &[&[u8]]) -> Result<Option<Held>, Error> {
        let asked = Instant::now();
        match self.check_all(tokens, Access::passive(None)).resolve().await {
            Ok(Verdict::Active(session)) => {
                let mut parsed = tokens.iter().filter_map(|token| Token::parse(token));
                let shown = parsed.find(|token| session.is_shown_by(token));
                Ok(Some(Held::of(&session, shown)))
            }
            Ok(Verdict::Refused(Refusal::Idle(ending))) => {
                Ok(Some(Held { id: ending.id, owner: ending.owner.clone(), shown: None }))
            }
            Ok(Verdict::Refused(_)) => Ok(None),
            Err(Error::Claims(_)) => self.held_in_store(tokens, asked).await,
            Err(error) if error.is_corrupt() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Judges the tokens by the session alone.
    async fn held_in_store(&self, tokens: &[&[u8]], asked: Instant) -> Result<Option<Held>, Error> {
        let shared = self.shared();
        let Some(claim) = Claim::of(tokens) else { return Ok(None) };
        let load = shared.store.load(claim.session_id());
        let Some(Loaded { session, .. }) = shared.store_call("load", load).await? else {
            return Ok(None);
        };
        let held = Held { id: session.id, owner: session.owner.clone(), shown: None };
        let options = Arc::clone(&shared.options);
        let entry = Entry::new(session, serde_json::Value::Null, options);
        let (since, now) = (asked.elapsed(), shared.now());
        match judge(shared, &entry, &claim, since, now) {
            Finding::Good(shown) => {
                let session = ActiveSession::new(Arc::new(entry), shown, now.minus(since));
                let shown = claim.tokens().iter().find(|token| session.is_shown_by(token));
                Ok(Some(Held::of(&session, shown.cloned())))
            }
            Finding::Bad(Refusal::Idle(_)) => Ok(Some(held)),
            _ => Ok(None),
        }
    }

    pub(crate) async fn sign_out_held(&self, held: &Held) -> Result<(), Error> {
        let shared = self.shared();
        let stored = shared.store_call("load", shared.store.load(held.id)).await;
        let (by, from) = match stored {
            Ok(Some(Loaded { session, .. })) => (session.actor(), session.device()),
            Ok(None) => return Ok(()),
            // One that cannot be read ends all the same.
            Err(error) if error.is_corrupt() => (Actor::User(held.owner.clone()), None),
            Err(error) => return Err(error),
        };
        let selection = Selection::session(held.id, TenantFilter::Is(held.owner.tenant.clone()));
        self.end_for(selection, EndCause::SignedOut, by, from).await.map(|_| ())
    }
}

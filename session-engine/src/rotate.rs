//! Replaces tokens, in two steps: see [`session_core::rotation`].

use std::time::Duration;

use session_core::planted::{self, Defect};
use session_core::rotation::{self, Recognition, StepUp, TokenState};
use session_core::store::{Loaded, Outcome};
use session_core::{Authentication, EventKind, Session, SessionId, Token};
use tokio::time::Instant;

use crate::check::Refusal;
use crate::ending::{LastUse, Over, Past};
use crate::entropy::random;
use crate::entry::ActiveSession;
use crate::error::Error;
use crate::meter;
use crate::node::Node;
use crate::options::Options;

/// Why a token is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RotateReason {
    /// On demand.
    Renewal,
    /// The user has just proved again who they are. Both timeouts start again when the new token is
    /// used (NIST SP 800-63B-4, section 5.2).
    Reauthenticated(Proof),
}

impl RotateReason {
    /// The user has just proved again who they are, with nothing said of how.
    pub fn reauthenticated() -> Self {
        Self::Reauthenticated(Proof::default())
    }
}

/// How a user proved who they are, as the application knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proof {
    /// When, as an identity provider's `auth_time` says; none for now. A time in the future counts as
    /// now.
    pub at: Option<session_core::Timestamp>,
    /// How sure it is.
    pub level: Option<session_core::AssuranceLevel>,
    /// By which means: words of RFC 8176, at most [`Authentication::MAX_METHODS`].
    pub methods: Vec<session_core::AuthMethod>,
}

impl Proof {
    /// Sets [`Proof::at`].
    #[must_use]
    pub fn at(mut self, at: impl Into<Option<session_core::Timestamp>>) -> Self {
        self.at = at.into();
        self
    }

    /// Sets [`Proof::level`].
    #[must_use]
    pub fn with_level(mut self, level: impl Into<Option<session_core::AssuranceLevel>>) -> Self {
        self.level = level.into();
        self
    }

    /// Sets [`Proof::methods`].
    #[must_use]
    pub fn with_methods(mut self, methods: impl Into<Vec<session_core::AuthMethod>>) -> Self {
        self.methods = methods.into();
        self
    }

    /// What the record keeps of it.
    pub(crate) fn authentication(
        &self,
        now: session_core::Timestamp,
    ) -> Result<Authentication, Error> {
        let at = self.at.map_or(now, |at| at.min(now));
        let mut authentication = Authentication::at(at);
        authentication.level = self.level;
        authentication.methods.clone_from(&self.methods);
        authentication.validate()?;
        Ok(authentication)
    }
}

/// How a rotation ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Rotation {
    /// The client has to use this token from now on. Until it has done so for the first time, the
    /// presented token stays valid, and a rotation of it yields this token again.
    Rotated {
        /// Which session.
        id: SessionId,
        /// Its new token, for the client only.
        token: Token,
    },
    /// The presented token has been replaced, and the new one has been used: the client has it.
    AlreadyRotated,
    /// The presented token is worth nothing.
    Refused(Refusal),
}

impl Node {
    /// Replaces a token. `shown_before` is how long ago its request has shown it.
    pub(crate) async fn rotate(
        &self,
        token: &[u8],
        reason: RotateReason,
        shown_before: Duration,
    ) -> Result<Rotation, Error> {
        let rotation = self.rotate_if(token, reason, shown_before, |_| true).await?;
        Ok(rotation.unwrap_or(Rotation::AlreadyRotated))
    }

    /// As [`Node::rotate`]; none where the stored token is not due.
    async fn rotate_if(
        &self,
        token: &[u8],
        reason: RotateReason,
        shown_before: Duration,
        is_due: impl Fn(&TokenState) -> bool,
    ) -> Result<Option<Rotation>, Error> {
        let (shared, asked) = (self.shared(), Instant::now());
        let Some(token) = Token::parse(token).filter(|token| token.is_of_fleet(&shared.fleet_key))
        else {
            return Ok(Some(Rotation::Refused(Refusal::Malformed)));
        };
        self.know_the_time().await?;
        let authentication = match &reason {
            RotateReason::Renewal => None,
            RotateReason::Reauthenticated(proof) => Some(proof.authentication(self.now())?),
        };
        let id = token.session_id();
        let salt = random(shared.entropy.as_ref());
        let (mut tries, mut ends) = (self.tries(), 0);
        loop {
            let Some(loaded) = shared.store_call("load", shared.store.load(id)).await? else {
                return Ok(Some(self.refuse_gone(&token).await));
            };
            let record = match self.exchange(&loaded, &token, shown_before + asked.elapsed()) {
                Exchange::Of(record) if is_due(&record.token) => *record,
                Exchange::Of(_) => return Ok(None),
                Exchange::Answered(answer) => return Ok(Some(answer)),
                Exchange::Over(over) => {
                    ends += 1;
                    if self.end_over_detached(id, over, ends).await? {
                        return Ok(Some(self.refuse_gone(&token).await));
                    }
                    // It was used since it was read, or is gone.
                    continue;
                }
            };
            let (changed, mut next) =
                rotation::begin(&record, &token, salt, authentication.clone(), self.now());
            if planted::is(Defect::OtherSuccessorStored) {
                next = token.successor(&[0; 16]);
            }
            let stored = match changed.or_else(|| (record != loaded.session).then_some(record)) {
                Some(session) => {
                    let session = self.kept_while_pending(session);
                    self.store_rotation(session, &loaded, &mut tries).await?
                }
                // An earlier try may have gone through although its answer was lost.
                None => {
                    shared.cache.invalidate(id);
                    true
                }
            };
            if stored {
                meter::rotated("begun");
                if authentication.is_some() {
                    self.note_proof(id, None);
                }
                return Ok(Some(Rotation::Rotated { id, token: next }));
            }
        }
    }

    pub(crate) async fn renew_if_due(
        &self,
        current: &ActiveSession,
        token: &[u8],
    ) -> Result<Option<Token>, Error> {
        let Some(after) = self.options().renew_after else { return Ok(None) };
        let grace = self.options().rotation_grace;
        // The answer to a re-authentication or a sign-in may be on its way to the client.
        let is_due = |state: &TokenState| {
            let now = self.now();
            let proven = state.step_ups.iter().any(|it| now < it.handed_out().plus(grace));
            state.renewal_is_due(after, now) && !proven
        };
        // The request may have taken long: what is due by this node's copy may not be by the store's.
        let newest = self.shared().cache.get(&current.id());
        let state = &newest.as_ref().unwrap_or(&current.entry).session.token;
        let shown = Token::parse(token).filter(|token| state.is_current_or_next(token));
        // One that is owed is about to end: another user has signed in in the browser.
        if shown.is_none() || !is_due(state) || self.shared().owed.holds(current.id()) {
            return Ok(None);
        }
        let shown_before = current.age(self.now());
        match self.rotate_if(token, RotateReason::Renewal, shown_before, is_due).await? {
            Some(Rotation::Rotated { token, .. }) => Ok(Some(token)),
            Some(Rotation::AlreadyRotated | Rotation::Refused(_)) | None => Ok(None),
        }
    }

    /// Confirms a rotation whose new token is among these.
    pub(crate) async fn confirm(&self, id: SessionId, tokens: &[Token]) -> Result<(), Error> {
        let shared = self.shared();
        let mut tries = self.tries();
        loop {
            let Some(loaded) = shared.store_call("load", shared.store.load(id)).await? else {
                return Ok(());
            };
            let grace = self.options().rotation_grace;
            let is_next = |next| {
                let found = |token: &&Token| {
                    loaded.session.token.recognise(token, grace, self.now()) == next
                };
                tokens.iter().find(found)
            };
            let next = is_next(Recognition::StepUp).or_else(|| is_next(Recognition::Successor));
            let Some(next) = next else { return Ok(()) };
            let session = self.confirmed(&loaded.session, next);
            if self.store_rotation(session, &loaded, &mut tries).await? {
                meter::rotated("confirmed");
                return Ok(());
            }
        }
    }

    /// The record with a deadline that leaves the tokens of re-authentications their time to be used.
    pub(crate) fn kept_while_pending(&self, mut session: Session) -> Session {
        let Options { timeouts, cleanup, .. } = self.options();
        session.deadline =
            rotation::deadline_while_pending(&session, timeouts, cleanup, self.now());
        session
    }

    /// The record once this token has been used.
    pub(crate) fn confirmed(&self, session: &Session, shown: &Token) -> Session {
        let (options, now) = (self.options(), self.now());
        let mut session = rotation::confirm(session, shown, &options.timeouts, now);
        session.deadline = session.deadline_at(&options.timeouts, &options.cleanup, now, true);
        session
    }

    /// Commits a step of a rotation. Returns false after a conflict and after a lost
    /// answer: the record has to be read again.
    async fn store_rotation(
        &self,
        session: Session,
        loaded: &Loaded,
        tries: &mut crate::patience::Tries,
    ) -> Result<bool, Error> {
        let by = session.actor();
        let update = self.store_update(session, loaded.version, EventKind::Rotated, by);
        match update.await {
            Ok(Outcome::Done) => Ok(true),
            Ok(Outcome::Conflict) => {
                self.back_off(&mut tries.conflicts).await;
                Ok(false)
            }
            Err(error) => self.may_try_again(&mut tries.patience, error).await.map(|()| false),
        }
    }

    /// Judges the token. The time since it was shown is added to its grace: neither the application nor
    /// reading its session takes anything from it.
    pub(crate) fn exchange(
        &self,
        loaded: &Loaded,
        token: &Token,
        since_shown: Duration,
    ) -> Exchange {
        let session = &loaded.session;
        let (options, now) = (self.options(), self.now());
        let ignored = planted::is(Defect::GraceFromAsked);
        let since_shown = if ignored { Duration::ZERO } else { since_shown };
        match session.token.recognise(token, options.rotation_grace + since_shown, now) {
            Recognition::Current | Recognition::Successor | Recognition::StepUp => {}
            Recognition::InGrace => return Exchange::Answered(Rotation::AlreadyRotated),
            Recognition::Superseded => return Exchange::refused(Refusal::Superseded),
            Recognition::Unknown => return Exchange::refused(Refusal::WrongSecret),
            Recognition::Reused => return Exchange::Over(Over::THEFT),
        }
        let used = self.shared().cache.seen(&session.id);
        let used = used.map(|entry| entry.use_().activity.last_accessed());
        let mut step_ups = session.token.step_ups.iter();
        let step_up = step_ups.find(|it| it.next.digest == token.digest());
        let proven = step_up.map(StepUp::handed_out).unwrap_or_default();
        let last_accessed = used.unwrap_or_default().max(session.last_accessed).max(proven);
        let is_current = session.token.current == token.digest();
        let session = if is_current { session.clone() } else { self.confirmed(session, token) };
        let last_use = LastUse { at: last_accessed, in_flight: self.shared().in_flight(), now };
        match last_use.past(&session, options) {
            Some(Past::Idle(ending)) => Exchange::refused(Refusal::Idle(ending)),
            Some(Past::Over(over)) => Exchange::Over(over),
            None => Exchange::Of(session.into()),
        }
    }

    async fn refuse_gone(&self, token: &Token) -> Rotation {
        Rotation::Refused(self.why_ended(token).await)
    }
}

/// What becomes of a presented token.
pub(crate) enum Exchange {
    /// It is exchanged. This is the record in which it is the current one.
    Of(Box<Session>),
    /// It may not be exchanged.
    Answered(Rotation),
    /// Its session has to end.
    Over(Over),
}

impl Exchange {
    const fn refused(refusal: Refusal) -> Self {
        Self::Answered(Rotation::Refused(refusal))
    }
}

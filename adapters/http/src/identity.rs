//! Whom a request belongs to.

use std::sync::Arc;

use session_core::{SessionId, Token};
use session_engine::{
    Access, ActiveSession, Check, Ending, Error, Refusal, SessionManager, Verdict,
};

use crate::head::OwnedHead;
use crate::problem::Problem;
use crate::security;
use crate::sessions::HttpSessions;
use crate::voucher::Vouch;

/// Whom a request belongs to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Identity {
    /// Without a session.
    Anonymous,
    /// Without a session, too: the one whose token the request carries has ended, and this is how; or it
    /// is idle, and ends so within seconds unless a use arrives that another node has accepted.
    Ended(Arc<Ending>),
    /// To a session.
    Session(ActiveSession, Credential),
    /// It carries a token of which nothing can be said right now: answer 503, never 401.
    Unavailable,
}

/// What shows that a request belongs to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// Our cookie. Browsers send it by themselves, also for a page of another site.
    Cookie,
    /// Our token, as `Authorization: Bearer`. No page of another origin can make a browser send it.
    Bearer,
    /// What the application's [`Voucher`](crate::Voucher) has checked.
    Vouched {
        /// Whether browsers send it by themselves.
        ambient: bool,
    },
}

impl Credential {
    /// Whether a browser may send it for a page of another origin, so that a request that changes
    /// something needs a proof of its origin.
    pub const fn is_ambient(self) -> bool {
        match self {
            Self::Cookie => true,
            Self::Bearer => false,
            Self::Vouched { ambient } => ambient,
        }
    }
}

impl Identity {
    /// The session, if there is one.
    pub const fn session(&self) -> Option<&ActiveSession> {
        match self {
            Self::Session(session, _) => Some(session),
            Self::Anonymous | Self::Ended(_) | Self::Unavailable => None,
        }
    }

    /// What shows that the request belongs to its session.
    pub const fn credential(&self) -> Option<Credential> {
        match self {
            Self::Session(_, credential) => Some(*credential),
            Self::Anonymous | Self::Ended(_) | Self::Unavailable => None,
        }
    }

    /// The session, if there is one; 503 where nothing can be said.
    pub(crate) fn known(&self) -> Result<Option<&ActiveSession>, Problem> {
        match self {
            Self::Session(session, _) => Ok(Some(session)),
            Self::Anonymous | Self::Ended(_) => Ok(None),
            Self::Unavailable => Err(Problem::unavailable()),
        }
    }
}

/// The answer to "whose request is this?".
#[derive(Debug)]
#[must_use = "a pending identity has to be resolved"]
pub enum Identified {
    /// Known without asking anybody.
    Now(Identity),
    /// The store, or the application, has to be asked.
    Pending(PendingIdentity),
}

impl Identified {
    /// The identity, from the store where it is not known yet.
    pub async fn resolve(self) -> Identity {
        match self {
            Self::Now(identity) => identity,
            Self::Pending(pending) => pending.resolve().await,
        }
    }
}

/// An identity for which the store or the application has to be asked.
#[derive(Debug)]
#[must_use = "a pending identity has to be resolved"]
pub struct PendingIdentity(Box<Pending>);

#[derive(Debug)]
enum Pending {
    One(Asked, Check),
    Several(Asked, SessionManager, Vec<Check>),
    Application { http: HttpSessions, head: OwnedHead, access: Access },
}

/// What the answer depends on besides the check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) credential: Credential,
    pub(crate) access: Access,
}

impl Asked {
    /// One token; none where it has not the form of one.
    pub(crate) fn one(self, manager: &SessionManager, token: Option<Token>) -> Identified {
        let id = token.as_ref().map(Token::session_id);
        let check = match token {
            Some(token) => manager.check_token(token, self.access),
            None => manager.check(b"", self.access),
        };
        match check {
            Check::Answered(verdict) => Identified::Now(self.identity(id, verdict)),
            check @ Check::NotCached(_) => {
                Identified::Pending(PendingIdentity(Pending::One(self, check).into()))
            }
        }
    }

    /// Several tokens, each checked without counting as an access: at most one of them counts.
    pub(crate) fn several(self, manager: &SessionManager, checks: Vec<Check>) -> Identified {
        Identified::Pending(PendingIdentity(Pending::Several(self, manager.clone(), checks).into()))
    }

    fn identity(self, id: Option<SessionId>, verdict: Verdict) -> Identity {
        match verdict {
            Verdict::Active(session) => Identity::Session(session, self.credential),
            Verdict::Refused(refusal) => {
                security::refused_token(id, &refusal, self.access.ip);
                match refusal {
                    Refusal::Ended(ending) | Refusal::Idle(ending) => Identity::Ended(ending),
                    _ => Identity::Anonymous,
                }
            }
        }
    }

    fn answer(self, id: Option<SessionId>, verdict: Result<Verdict, Error>) -> Identity {
        match verdict {
            Ok(verdict) => self.identity(id, verdict),
            // Waiting does not mend a record that cannot be read: its browser may sign in again.
            Err(error) if error.is_corrupt() => Identity::Anonymous,
            Err(error) => unavailable(&error),
        }
    }

    /// Exactly one that is valid, or several of one user, of which the newest counts.
    async fn among(self, manager: &SessionManager, checks: Vec<Check>) -> Identity {
        let mut valid: Option<ActiveSession> = None;
        let mut ended: Option<Arc<Ending>> = None;
        for check in checks {
            let id = session_id(&check);
            match self.answer(id, check.resolve().await) {
                Identity::Session(session, _) => match &valid {
                    Some(other) if other.owner() != session.owner() => {
                        security::refused_cookies(self.access.ip);
                        return Identity::Anonymous;
                    }
                    Some(other) if other.signed_in() >= session.signed_in() => {}
                    _ => valid = Some(session),
                },
                Identity::Ended(ending) => {
                    let is_latest = ended.as_ref().is_none_or(|known| known.at < ending.at);
                    ended = if is_latest { Some(ending) } else { ended };
                }
                Identity::Anonymous => {}
                Identity::Unavailable => return Identity::Unavailable,
            }
        }
        let Some(session) = valid else {
            return ended.map_or(Identity::Anonymous, Identity::Ended);
        };
        // By the token that it was judged by: another one may be fresher.
        manager.note_access(&session, &self.access);
        Identity::Session(session, self.credential)
    }
}

impl PendingIdentity {
    /// Asks the application's voucher; where it knows nothing, our cookies count.
    pub(crate) fn of_application(http: &HttpSessions, head: OwnedHead, access: Access) -> Self {
        Self(Pending::Application { http: http.clone(), head, access }.into())
    }

    /// Asks.
    pub async fn resolve(self) -> Identity {
        match *self.0 {
            Pending::One(asked, check) => {
                let id = session_id(&check);
                asked.answer(id, check.resolve().await)
            }
            Pending::Several(asked, manager, checks) => asked.among(&manager, checks).await,
            Pending::Application { http, head, access } => {
                let vouched = match http.voucher() {
                    Some(voucher) => voucher.vouch(head.head()).await,
                    None => Ok(Vouch::Nothing),
                };
                http.note_voucher(vouched.as_ref().err());
                match vouched {
                    Ok(Vouch::For(vouched)) => {
                        let credential = Credential::Vouched { ambient: vouched.ambient };
                        let check = http.manager().check_id(vouched.id, access);
                        let asked = Asked { credential, access };
                        asked.answer(Some(vouched.id), check.resolve().await)
                    }
                    Ok(Vouch::Refused(reason)) => {
                        security::refused_document(reason, access.ip);
                        Identity::Anonymous
                    }
                    Ok(Vouch::Nothing) => {
                        let identified = http.identify_by_cookies(head.head().headers, || access);
                        Box::pin(identified.resolve()).await
                    }
                    Err(_) => Identity::Unavailable,
                }
            }
        }
    }
}

fn session_id(check: &Check) -> Option<SessionId> {
    match check {
        Check::NotCached(lookup) => Some(lookup.session_id()),
        Check::Answered(Verdict::Active(session)) => Some(session.id()),
        Check::Answered(Verdict::Refused(_)) => None,
    }
}

fn unavailable(error: &Error) -> Identity {
    // Why is told once, by the engine.
    tracing::debug!(%error, "a session could not be checked");
    Identity::Unavailable
}

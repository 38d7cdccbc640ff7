//! Sign in, rotate, sign out.

use std::net::IpAddr;

use session_core::{SessionId, Token};
use session_engine::{ActiveSession, Held, RotateReason, Rotation, SignIn, SignedIn};

use crate::cookie::CookieHeaders;
use crate::device::device;
use crate::flow::CallbackProof;
use crate::head::{Head, OwnedHead};
use crate::identity::{Credential, Identity};
use crate::new_session::NewSession;
use crate::origin::SameOrigin;
use crate::presented::{Stored, bearer};
use crate::problem::Problem;
use crate::rejection::Rejection;
use crate::request::RequestSession;
use crate::sessions::HttpSessions;
use crate::ticket::HandedOver;
use crate::voucher::Vouch;

/// Signs in, signs out and rotates for the sender of one request.
///
/// What it answers has to go out with the response: a [`CookieHeaders`], or for clients without
/// cookies the token. A request that a page of another origin made is refused with 403; a sign-in that
/// comes back from another site brings its own proof, a [`CallbackProof`].
#[derive(Clone, Debug)]
pub struct Auth {
    request: RequestSession,
    head: OwnedHead,
}

impl Auth {
    pub(crate) const fn new(request: RequestSession, head: OwnedHead) -> Self {
        Self { request, head }
    }

    pub(crate) const fn http(&self) -> &HttpSessions {
        self.request.http()
    }

    pub(crate) const fn head(&self) -> Head<'_> {
        self.head.head()
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.request.address(self.head())
    }

    /// The session that the request belongs to, if there is one.
    pub const fn session(&self) -> Option<&ActiveSession> {
        self.request.identity().session()
    }

    /// Begins a session. The one that the same browser holds goes on where it can
    /// ([`SignIn::with_held`]): the same session, under the new cookie. Otherwise it ends, also where it is
    /// another user's; with `max_accounts` in the options another user's stays, beside the new one.
    ///
    /// # Errors
    /// 409 `urn:session-kit:too-many-sessions` when a policy refuses it, with the user's sessions
    /// ([`Problem::too_many_sessions`]) and a [ticket](Problem::ticket) to end one of them and sign in.
    /// 403 `urn:session-kit:blocked` when the user, the tenant or the deployment is blocked. 503 when the
    /// store is away, 403 across origins, 400 for a user that does not fit, 409 as [`Auth::rotate`] where
    /// another request of the browser has replaced its token and proved who the user is.
    pub async fn sign_in<N>(&self, new: N) -> Result<(SignedIn, CookieHeaders), Rejection>
    where
        N: TryInto<NewSession>,
        N::Error: Into<Problem>,
    {
        self.refuse_cross_origin()?;
        self.begin(new.try_into().map_err(Into::into)?, None).await
    }

    /// Begins a session with a request that comes from another site by right: the callback of an
    /// identity provider. [`Auth::finish_flow`] gives the proof; who the user is has to be verified by
    /// the application.
    ///
    /// A browser sends no `SameSite=Lax` cookie with a form that another site posts. The session that it
    /// held when the flow was begun ends all the same; with `max_accounts` in the options another user's
    /// stays until its timeout. With `SameSite=Strict` the page after the callback is the first that
    /// shows the new session.
    ///
    /// # Errors
    /// As [`Auth::sign_in`], without the check of the origin.
    pub async fn sign_in_from_callback<N>(
        &self,
        proof: CallbackProof,
        new: N,
    ) -> Result<(SignedIn, CookieHeaders), Rejection>
    where
        N: TryInto<NewSession>,
        N::Error: Into<Problem>,
    {
        let new: NewSession = new.try_into().map_err(Into::into)?;
        let held = match proof.held {
            Some(held) => self.held(held, &new.owner).await?,
            None => None,
        };
        let (signed_in, cookie) = self.begin(new, held).await?;
        Ok((signed_in, cookie.and(proof.cookie)))
    }

    /// Begins a session for a client without cookies, an app or a command line: the response has the
    /// token in its body ([`Token::expose`]), and the client sends it as `Authorization: Bearer`. A
    /// session of the same user that the request shows as a bearer token goes on or ends, as with
    /// [`Auth::sign_in`].
    ///
    /// # Errors
    /// As [`Auth::sign_in`].
    pub async fn sign_in_app<N>(&self, new: N) -> Result<(SignedIn, CookieHeaders), Rejection>
    where
        N: TryInto<NewSession>,
        N::Error: Into<Problem>,
    {
        self.refuse_cross_origin()?;
        let new = new.try_into().map_err(Into::into)?;
        let held = self.held_by_bearer().await?.filter(|held| held.owner == new.owner);
        let request = self.sign_in_request(new).with_held(held);
        let signed_in = self.sign_in_as(request, HandedOver::Body).await?;
        Ok((signed_in, CookieHeaders::in_the_body()))
    }

    async fn sign_in_as(&self, request: SignIn, by: HandedOver) -> Result<SignedIn, Rejection> {
        let signed_in = self.http().manager().sign_in(request).await;
        Ok(signed_in.map_err(|error| Problem::from(error).handed_over(by))?)
    }

    /// The session that the request shows by its cookie.
    pub(crate) fn by_cookie(&self) -> Option<&ActiveSession> {
        let by_cookie = self.request.identity().credential() == Some(Credential::Cookie);
        self.session().filter(|_| by_cookie)
    }

    /// Signs in with a token that goes into the browser's cookie: what the browser's cookies name goes on, is
    /// replaced, parked or ended. `held` is the session that it held when it went to another site.
    async fn begin(
        &self,
        new: NewSession,
        held: Option<SessionId>,
    ) -> Result<(SignedIn, CookieHeaders), Rejection> {
        let options = &self.http().options().cookie;
        let remember = new.remember.unwrap_or(options.remember);
        let current = self.by_cookie();
        let (same, other) = match current {
            Some(current) if *current.owner() == new.owner => (Some(self.held_now(current)), None),
            current => (None, current),
        };
        let beside = self.beside(&new.owner).await?;
        let strays = self.strays(current.map(ActiveSession::id)).await?;
        let parked = beside.free.zip(other).and_then(|(name, other)| self.park(&name, other));
        let other = other.filter(|_| parked.is_none());
        let former = beside.replaced.as_ref().map(|held| held.id);
        // A stray cookie may be planted, so its session never goes on.
        let stray = strays.iter().find(|stray| stray.owner == new.owner).map(|stray| stray.id);
        let request = self.sign_in_request(new);
        let request = match same.or(beside.replaced) {
            Some(own) => request.with_held(own),
            None => request.with_replaces(stray.or(held).or(other.map(ActiveSession::id))),
        };
        let replaced = request.replaces;
        let signed_in = self.sign_in_as(request, HandedOver::by_cookie(remember)).await?;
        let leaving = other.map(Held::from).into_iter().chain(strays);
        for held in leaving.filter(|held| Some(held.id) != replaced) {
            self.leave(&held).await;
        }
        self.end_former(&signed_in, former).await;
        let cookie = options.set(&signed_in.token, remember, signed_in.session.timeouts());
        Ok((signed_in, cookie.and(parked.unwrap_or(beside.cookie))))
    }

    /// What becomes of the browser's cookies once a ticket has been used in it. Only then is it known
    /// whose ticket it was.
    pub(crate) async fn after_ticket(
        &self,
        signed_in: &SignedIn,
        strays: Vec<Held>,
        remember: bool,
    ) -> CookieHeaders {
        let owner = signed_in.session.owner();
        let options = &self.http().options().cookie;
        let cookie = options.set(&signed_in.token, remember, signed_in.session.timeouts());
        let current = self.by_cookie();
        let other = current.filter(|current| current.owner() != owner);
        // The session has begun: what cannot be found out about other accounts leaves them as they are.
        let beside = self.beside(owner).await.unwrap_or_default();
        let parked = beside.free.zip(other).and_then(|(name, other)| self.park(&name, other));
        let leaving = current.filter(|_| parked.is_none()).map(Held::from);
        for held in leaving.into_iter().chain(strays) {
            if !is_settled(signed_in, held.id) {
                self.leave(&held).await;
            }
        }
        self.end_former(signed_in, beside.replaced.map(|held| held.id)).await;
        cookie.and(parked.unwrap_or(beside.cookie))
    }

    /// Ends the session of the same user that the browser held in the cookie of another account, unless
    /// the sign-in has.
    async fn end_former(&self, signed_in: &SignedIn, former: Option<SessionId>) {
        let Some(former) = former.filter(|id| !is_settled(signed_in, *id)) else { return };
        let (owner, by) = (signed_in.session.owner(), signed_in.session.actor());
        if let Err(error) = self.http().manager().revoke(former, owner, by).await {
            tracing::warn!(%error, session_id = %former, "the browser's former session stays");
        }
    }

    /// The sessions, besides this one, that cookies of our name show. They end with the next sign-in or
    /// sign-out, so that a planted cookie cannot keep a user out.
    pub(crate) async fn strays(&self, current: Option<SessionId>) -> Result<Vec<Held>, Rejection> {
        let presented = self.http().options().cookie.presented(self.head().headers);
        let mut strays = Vec::new();
        for tokens in presented.by_session() {
            let id = Token::parse(tokens[0]).map(|token| token.session_id());
            if id.is_some() && id != current {
                strays.extend(self.http().manager().held(&tokens).await?);
            }
        }
        Ok(strays)
    }

    /// The session that the request shows as a bearer token.
    async fn held_by_bearer(&self) -> Result<Option<Held>, Rejection> {
        if let Identity::Session(session, credential) = self.request.identity() {
            let token = bearer(self.head().headers).filter(|_| *credential == Credential::Bearer);
            return Ok(token.map(|token| Held::by_token(session, token.expose().as_bytes())));
        }
        let Some(token) = bearer(self.head().headers) else { return Ok(None) };
        Ok(self.http().manager().held(&[token.expose().as_bytes()]).await?)
    }

    /// The new session has begun: without its cookie no client could use or end the other one.
    async fn leave(&self, other: &Held) {
        if let Err(error) = self.http().manager().sign_out_held(other).await {
            tracing::warn!(%error, session_id = %other.id, "the browser's former session stays");
        }
    }

    fn sign_in_request(&self, new: NewSession) -> SignIn {
        let (device_kind, device_info) = device(self.head().headers);
        new.into_sign_in(device_kind, device_info).with_ip(self.address())
    }

    /// The session that the request shows by its cookie, with the token in there.
    fn held_now(&self, current: &ActiveSession) -> Held {
        let presented = self.http().options().cookie.presented(self.head().headers);
        let stored = presented.of_session(current);
        stored.map_or_else(|| current.into(), |it| Held::by_token(current, it.token.as_bytes()))
    }

    /// Ends the session, if there is one, and every other that a cookie of our name shows, also where it is
    /// past its idle timeout. Takes the cookie back, even if its token is unknown. A second sign-out does no
    /// harm. Accounts that are signed in beside stay: [`Auth::sign_out_all`].
    ///
    /// # Errors
    /// 503 when the store is away, 403 across origins.
    pub async fn sign_out(&self) -> Result<CookieHeaders, Rejection> {
        let cookie = &self.http().options().cookie;
        let shows_none = cookie.presented(self.head().headers).tokens().len() == 0;
        if !shows_none || self.request.is_ambient(self.head()) {
            self.refuse_cross_origin()?;
        }
        let manager = self.http().manager();
        let current = self.session();
        let mut held = self.strays(current.map(ActiveSession::id)).await?;
        match current {
            Some(session) => manager.sign_out(session).await?,
            None => held.extend(self.held_by_bearer().await?),
        }
        for held in &held {
            manager.sign_out_held(held).await?;
        }
        if held.is_empty() || self.may_be_vouched().await {
            self.request.identity().known()?;
        }
        Ok(if shows_none { CookieHeaders::keep() } else { cookie.remove() })
    }

    /// Whether the application may vouch for a session of which nothing can be said right now.
    async fn may_be_vouched(&self) -> bool {
        let voucher = self.http().voucher().filter(|_| self.request.identity().known().is_err());
        match voucher {
            Some(voucher) => !matches!(voucher.vouch(self.head()).await, Ok(Vouch::Nothing)),
            None => false,
        }
    }

    /// As [`Auth::sign_out`], and ends every account that this browser is signed in to beside, too.
    ///
    /// # Errors
    /// As there.
    pub async fn sign_out_all(&self) -> Result<CookieHeaders, Rejection> {
        let cookie = self.sign_out().await?;
        Ok(cookie.and(self.end_accounts().await?))
    }

    /// Replaces the token in the cookie that the request carries. Requests beside this one get the same
    /// new cookie. Where the browser has used the new one already, or the token is worth nothing, it keeps
    /// the cookie that it has.
    ///
    /// # Errors
    /// 503 when the store is away, 403 across origins, 400 for a client that shows its session by
    /// something else than the cookie (one that the application vouches for cannot become fresh here),
    /// 409 when a new proof of who the user is came with a token that had just been replaced: nothing was
    /// recorded, and with the new cookie it works. 401 when it came with one that is worth nothing by now, or
    /// the session has ended.
    pub async fn rotate(&self, reason: RotateReason) -> Result<CookieHeaders, Rejection> {
        self.refuse_cross_origin()?;
        let proves = matches!(reason, RotateReason::Reauthenticated(_));
        let cookie = &self.http().options().cookie;
        let stored = match self.request.identity() {
            Identity::Session(session, Credential::Cookie) => {
                let stored = cookie.presented(self.head().headers).of_session(session);
                stored.map(|stored| (stored, session))
            }
            Identity::Session(..) => {
                let detail = "only a cookie is replaced here; a bearer token by rotate_token";
                return Err(Problem::wrong_credential(detail).into());
            }
            Identity::Unavailable => return Err(Problem::unavailable().into()),
            Identity::Anonymous | Identity::Ended(_) => None,
        };
        let Some((Stored { token, remember }, session)) = stored else {
            return Ok(CookieHeaders::keep());
        };
        match self.http().manager().rotate_shown(session, token.as_bytes(), reason).await? {
            Rotation::Rotated { token, .. } => Ok(cookie.set(&token, remember, session.timeouts())),
            Rotation::AlreadyRotated if proves => Err(Problem::rotated_meanwhile().into()),
            Rotation::Refused(_) if proves => Err(Problem::unauthorized().into()),
            _ => Ok(CookieHeaders::keep()),
        }
    }

    /// Replaces the bearer token that the request carries; the response has the new one in its body.
    /// None where the client has used the new one already, and this request was still under way.
    ///
    /// A client that never gets the answer goes on with the token that it has, and asks again: it gets
    /// the same new token, until that one has been used.
    ///
    /// # Errors
    /// 401 for a token that is worth nothing, 503 when the store is away, 400 for a client that shows
    /// its session by something else.
    pub async fn rotate_token(
        &self,
        reason: RotateReason,
    ) -> Result<(Option<Token>, CookieHeaders), Rejection> {
        let Some(token) = bearer(self.head().headers) else {
            let detail = "only a bearer token of ours is replaced here; a cookie by rotate";
            return Err(Problem::wrong_credential(detail).into());
        };
        let (manager, token) = (self.http().manager(), token.expose());
        let rotation = match self.request.identity() {
            Identity::Session(session, Credential::Bearer) => {
                manager.rotate_shown(session, token.as_bytes(), reason).await?
            }
            // When it showed the token is not known: it could be taken for a thief's.
            Identity::Unavailable => return Err(Problem::unavailable().into()),
            _ => manager.rotate(token.as_bytes(), reason).await?,
        };
        let token = match rotation {
            Rotation::Rotated { token, .. } => Some(token),
            Rotation::Refused(_) => return Err(Problem::unauthorized().into()),
            _ => None,
        };
        Ok((token, CookieHeaders::in_the_body()))
    }

    /// Refuses a request that a page of another origin made. A client that is no browser sends neither
    /// header and passes.
    pub(crate) fn refuse_cross_origin(&self) -> Result<(), Problem> {
        match self.http().same_origin(self.head()) {
            SameOrigin::Refuted => Err(self.request.cross_origin(self.head(), SameOrigin::Refuted)),
            SameOrigin::Proven | SameOrigin::Unproven => Ok(()),
        }
    }
}

/// Whether the sign-in has ended this session, or goes on in it.
fn is_settled(signed_in: &SignedIn, id: SessionId) -> bool {
    signed_in.session.id() == id || signed_in.ended.iter().any(|(ended, _)| *ended == id)
}

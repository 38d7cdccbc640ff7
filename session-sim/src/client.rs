//! What clients do, as requests to a node: through the HTTP rules where they are a user's.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{EndedSession, HistoryQuery, PageQuery, Selection, TenantFilter};
use session_core::{Actor, DeviceInfo, EndCause, ExtraData, SessionId, Timestamp, UserKey};
use session_engine::{ActiveSession, NewBlock, RotateReason, SessionManager, WaitEnd};
use session_http::{
    CookieHeaders, Head, HttpSessions, Identity, NewSession, Peer, Problem, Rejection,
    RequestSession,
};

use crate::plan::Client;

/// What a client sends along.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) token: Option<String>,
    pub(crate) bearer: bool,
    /// The user goes to a page, so that the token may be renewed.
    pub(crate) navigates: bool,
    /// The request is not the user's doing.
    pub(crate) passive: bool,
    /// How long the application works on the request.
    pub(crate) works: Duration,
}

/// What came of an operation, as its caller sees it.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Seen(Seen),
    SignedIn {
        id: SessionId,
        token: String,
    },
    TooMany {
        ticket: Option<String>,
        sessions: Vec<SessionId>,
    },
    Blocked,
    InvalidTicket,
    /// None where the client keeps what it has.
    Rotated(Option<String>),
    /// Sessions have ended, as many as there were.
    Ended,
    /// The application's data were changed to this number; none if there is no such session.
    Counted(Option<u64>),
    Waited(WaitEnd),
    /// Whose sessions are listed, and whether all of them.
    Listed(Vec<(SessionId, UserKey)>, bool),
    /// The same of those that have ended.
    Remembered(Vec<EndedSession>, bool),
    Done,
    Unauthorized,
    Unavailable,
    /// Anything that should not happen.
    Odd(String),
}

/// What a request was answered.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Active(Box<Active>),
    Ended(EndCause),
    Anonymous,
}

#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) id: SessionId,
    pub(crate) authenticated: Timestamp,
    pub(crate) claims: u64,
    pub(crate) renewed: Option<String>,
    /// How long it took to find out whose request it is.
    pub(crate) took: Duration,
}

/// The head of a request with these credentials.
fn headers(sent: &Sent) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let fetch = |headers: &mut HeaderMap, name: &'static str, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    if let Some(token) = &sent.token {
        let (name, value) = if sent.bearer {
            (AUTHORIZATION, format!("Bearer {token}"))
        } else {
            (COOKIE, format!("session={token}"))
        };
        headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
    }
    if !sent.bearer {
        fetch(&mut headers, "sec-fetch-site", "same-origin");
    }
    if sent.navigates {
        fetch(&mut headers, "sec-fetch-mode", "navigate");
        fetch(&mut headers, "sec-fetch-dest", "document");
    }
    if sent.passive {
        fetch(&mut headers, "sec-purpose", "prefetch");
    }
    headers
}

/// A request whose sender has been identified.
struct Asked {
    request: RequestSession,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Asked {
    async fn of(http: &HttpSessions, method: Method, sent: &Sent) -> Self {
        let (uri, headers) = (Uri::from_static("/page"), headers(sent));
        let peer = Some(Peer::Ip(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))));
        let identity = http.identify(Head::new(&method, &uri, &headers), peer).resolve().await;
        let request = RequestSession::new(http.clone(), identity, peer);
        Self { request, method, uri, headers }
    }

    fn head(&self) -> Head<'_> {
        Head::new(&self.method, &self.uri, &self.headers)
    }
}

/// A request for a page.
pub(crate) async fn check(http: HttpSessions, sent: Sent) -> Outcome {
    let begun = tokio::time::Instant::now();
    let asked = Asked::of(&http, Method::GET, &sent).await;
    let renewal = asked.request.renewal(asked.head());
    let mut seen = match asked.request.session(asked.head()) {
        Ok(session) => active(&session, begun.elapsed()),
        Err(rejection) => return refused(&asked, rejection),
    };
    if let (Outcome::Seen(Seen::Active(active)), Some(renewal)) = (&mut seen, renewal) {
        work(&asked, &sent).await;
        active.renewed = cookie(&renewal.renew().await);
    }
    seen
}

/// The application works on the request, between finding out whose it is and replacing the token. It answers
/// at once where it cannot tell whose it is.
async fn work(asked: &Asked, sent: &Sent) {
    if !sent.works.is_zero() && asked.request.session(asked.head()).is_ok() {
        tokio::time::sleep(sent.works).await;
    }
}

fn active(session: &ActiveSession, took: Duration) -> Outcome {
    Outcome::Seen(Seen::Active(Box::new(Active {
        id: session.id(),
        authenticated: session.authenticated_at(),
        claims: session.claims().as_u64().unwrap_or(u64::MAX),
        renewed: None,
        took,
    })))
}

fn refused(asked: &Asked, rejection: Rejection) -> Outcome {
    let (status, identity) = (rejection.status(), asked.request.identity());
    if rejection.into_response().headers().contains_key(SET_COOKIE) {
        return Outcome::Odd("a refusal carries a cookie".to_owned());
    }
    match (status, identity) {
        (StatusCode::SERVICE_UNAVAILABLE, _) => Outcome::Unavailable,
        (StatusCode::UNAUTHORIZED, Identity::Ended(ending)) => {
            Outcome::Seen(Seen::Ended(ending.cause))
        }
        (StatusCode::UNAUTHORIZED, _) => Outcome::Seen(Seen::Anonymous),
        (status, _) => Outcome::Odd(format!("a request is answered {status}")),
    }
}

/// Several requests, one after the other, until one is not accepted; the answer is that of the last.
pub(crate) async fn burst(http: HttpSessions, sent: Sent, count: u32) -> Outcome {
    let begun = tokio::time::Instant::now();
    for _ in 1..count {
        let outcome = check(http.clone(), sent.clone()).await;
        if !matches!(outcome, Outcome::Seen(Seen::Active(_))) {
            return outcome;
        }
    }
    let mut last = check(http, sent).await;
    if let Outcome::Seen(Seen::Active(active)) = &mut last {
        active.took = begun.elapsed();
    }
    last
}

fn cookie(cookie: &CookieHeaders) -> Option<String> {
    let (_, value) = cookie.append().next()?;
    let value = value.to_str().ok()?.strip_prefix("session=")?;
    Some(value.split(';').next()?.to_owned())
}

fn problem(rejection: &Rejection) -> Outcome {
    let problem = rejection.problem();
    if let Some(many) = problem.too_many_sessions() {
        let sessions = many.sessions.iter().map(|session| session.id).collect();
        return Outcome::TooMany { ticket: problem.ticket(), sessions };
    }
    if problem.blocked().is_some() {
        return Outcome::Blocked;
    }
    status(problem)
}

fn status(problem: &Problem) -> Outcome {
    match problem.status() {
        StatusCode::SERVICE_UNAVAILABLE => Outcome::Unavailable,
        StatusCode::GONE => Outcome::InvalidTicket,
        StatusCode::UNAUTHORIZED => Outcome::Unauthorized,
        status => Outcome::Odd(format!("{status}: {problem:?}")),
    }
}

fn broken(error: &session_engine::Error) -> Outcome {
    if error.is_unavailable() { Outcome::Unavailable } else { Outcome::Odd(error.to_string()) }
}

/// A sign-in. `name` says in the record which operation began the session.
pub(crate) async fn sign_in(http: HttpSessions, sent: Sent, by: Client, name: String) -> Outcome {
    let asked = Asked::of(&http, Method::POST, &sent).await;
    let auth = asked.request.auth(asked.head());
    let new = NewSession::of(by.user)
        .with_device_kind(by.kind)
        .with_client_id(by.app)
        .with_device_info(DeviceInfo::truncated(&name));
    let begun = if sent.bearer { auth.sign_in_app(new).await } else { auth.sign_in(new).await };
    match begun {
        Ok((signed_in, _)) => {
            Outcome::SignedIn { id: signed_in.session.id(), token: signed_in.token.expose() }
        }
        Err(rejection) => problem(&rejection),
    }
}

pub(crate) async fn ticket(
    http: HttpSessions,
    sent: Sent,
    ticket: String,
    end: SessionId,
) -> Outcome {
    let asked = Asked::of(&http, Method::POST, &sent).await;
    match asked.request.auth(asked.head()).sign_in_with_ticket(&ticket, end).await {
        Ok((signed_in, _)) => {
            Outcome::SignedIn { id: signed_in.session.id(), token: signed_in.token.expose() }
        }
        Err(rejection) => problem(&rejection),
    }
}

pub(crate) async fn rotate(http: HttpSessions, sent: Sent, step_up: bool) -> Outcome {
    let asked = Asked::of(&http, Method::POST, &sent).await;
    work(&asked, &sent).await;
    let auth = asked.request.auth(asked.head());
    let reason = if step_up { RotateReason::reauthenticated() } else { RotateReason::Renewal };
    if sent.bearer {
        return match auth.rotate_token(reason).await {
            Ok((token, _)) => Outcome::Rotated(token.map(|token| token.expose())),
            Err(rejection) => problem(&rejection),
        };
    }
    match auth.rotate(reason).await {
        Ok(set) => Outcome::Rotated(cookie(&set)),
        // The token had just been replaced: the user is asked again, with the new one.
        Err(rejection) if rejection.status() == StatusCode::CONFLICT => Outcome::Rotated(None),
        Err(rejection) => problem(&rejection),
    }
}

pub(crate) async fn sign_out(http: HttpSessions, sent: Sent) -> Outcome {
    let asked = Asked::of(&http, Method::POST, &sent).await;
    match asked.request.auth(asked.head()).sign_out().await {
        Ok(_) => Outcome::Done,
        Err(rejection) => problem(&rejection),
    }
}

pub(crate) async fn revoke_others(http: HttpSessions, sent: Sent) -> Outcome {
    let asked = Asked::of(&http, Method::POST, &sent).await;
    match asked.request.session(asked.head()) {
        Ok(session) => ended(http.manager().revoke_others(&session).await),
        Err(rejection) => refused(&asked, rejection),
    }
}

fn ended(result: Result<u64, session_engine::Error>) -> Outcome {
    result.map_or_else(|error| broken(&error), |_| Outcome::Ended)
}

pub(crate) async fn revoke(manager: SessionManager, id: SessionId, owner: UserKey) -> Outcome {
    ended(manager.revoke(id, &owner, Actor::Application).await.map(u64::from))
}

pub(crate) async fn revoke_selected(manager: SessionManager, selection: Selection) -> Outcome {
    ended(manager.revoke_selected(selection, Actor::Application).await)
}

/// Adds one to the number that the application keeps with a session.
pub(crate) async fn count(manager: SessionManager, id: SessionId) -> Outcome {
    let number = |data: Option<&ExtraData>| {
        data.and_then(|data| data.to_value().as_u64()).unwrap_or_default()
    };
    let change = |data: Option<&ExtraData>| {
        let next = ExtraData::from_json(&(number(data) + 1).to_string())?;
        Ok(Some(next))
    };
    match manager.update_data(id, Actor::Application, change).await {
        Ok(session) => Outcome::Counted(session.map(|session| number(session.data.as_ref()))),
        Err(error) => broken(&error),
    }
}

pub(crate) async fn wait(manager: SessionManager, id: SessionId) -> Outcome {
    Outcome::Waited(manager.session_ended(id).await)
}

pub(crate) async fn claims_changed(manager: SessionManager, owner: UserKey) -> Outcome {
    done(manager.claims_changed(&owner, Actor::Application).await)
}

pub(crate) async fn block(
    manager: SessionManager,
    scope: PolicyScope,
    until: Option<Timestamp>,
) -> Outcome {
    match manager.block(scope, NewBlock::default().with_until(until), Actor::Application).await {
        // Its time was over before the node set it.
        Err(session_engine::Error::Invalid(_)) => Outcome::Unauthorized,
        result => ended(result),
    }
}

pub(crate) async fn unblock(manager: SessionManager, scope: PolicyScope) -> Outcome {
    done(manager.unblock(scope, Actor::Application).await)
}

pub(crate) async fn set_policy(
    manager: SessionManager,
    scope: PolicyScope,
    policy: Option<Policy>,
) -> Outcome {
    done(manager.set_policy(scope, policy, Actor::Application).await)
}

fn done(result: Result<(), session_engine::Error>) -> Outcome {
    result.map_or_else(|error| broken(&error), |()| Outcome::Done)
}

pub(crate) async fn list(manager: SessionManager, owner: UserKey) -> Outcome {
    let mut query = manager.query(TenantFilter::Is(owner.tenant));
    (query.user, query.limit) = (Some(owner.user), PageQuery::MAX_LIMIT);
    match manager.list(&query).await {
        Ok(page) => {
            let listed = page.sessions.into_iter().map(|session| (session.id, session.owner));
            Outcome::Listed(listed.collect(), page.next.is_none())
        }
        Err(error) => broken(&error),
    }
}

pub(crate) async fn history(manager: SessionManager, owner: UserKey) -> Outcome {
    let mut query = HistoryQuery::user(owner);
    query.limit = PageQuery::MAX_LIMIT;
    match manager.history(&query).await {
        Ok(page) => Outcome::Remembered(page.sessions, page.next.is_none()),
        Err(error) => broken(&error),
    }
}

pub(crate) async fn erase(manager: SessionManager, owner: UserKey) -> Outcome {
    ended(manager.erase_user(&owner, Actor::Application).await.map(|erased| erased.sessions))
}

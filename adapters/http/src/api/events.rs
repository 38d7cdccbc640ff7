//! Event streams (server-sent events). A stream ends with the session that opened it.

use std::fmt::Display;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use serde_json::Value;
use session_core::{EndCause, Event, EventKind, SessionId, UserKey};
use session_engine::{Access, ActiveSession, Events, Notice, SessionManager, Verdict, WaitEnd};
use tokio::time::{Instant, Interval, interval_at};

use super::history::{is_other, other};
use super::{Answer, Request};
use crate::body::Body;
use crate::guard::{AdminAccess, Caller};
use crate::problem::Problem;
use crate::sessions::HttpSessions;
use crate::streams::Slot;

/// Follows what happens to the caller's sessions.
///
/// An event says by whom, as the history does, and from no device: the history has it.
#[utoipa::path(
    get, path = "/me/events", tag = "me", operation_id = "follow_my_sessions",
    responses(
        (status = 200, body = String, content_type = "text/event-stream",
         description = "An event for every change of the caller's sessions, named after what happened: `created`, `rotated`, `changed`, `claims_changed`, or for an end its cause: `evicted`, `revoked`, `expired`, `signed_out`, `replaced`, `token_reused` or `blocked`. Its data is a JSON object with `kind` (the name), `at`, `by`, `tenant`, `user` and `session_id`. Beside them `missed` when some may be missing, and `ended` with `cause` when this session is over"),
        (status = 400, body = Problem, description = "There is a parameter, and none is known", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 429, body = Problem, description = "As many streams are open as may be", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn mine(request: Request<'_>) -> Answer {
    let session = request.session()?;
    request.query(&[])?;
    let owner = session.owner().clone();
    let tell = move |event: &Event| {
        let is_own = event.session.is_some()
            && event.user.as_ref() == Some(&owner.user)
            && event.tenant == owner.tenant;
        is_own.then(|| told(event, &owner))
    };
    follow(request.http, Some(session), Box::new(tell), None)
}

/// Follows what happens within the admin's walls.
///
/// An event says by whom, and from no device: the history has it. An erasure shows as the ends of the
/// user's sessions.
#[utoipa::path(
    get, path = "/admin/events", tag = "admin", operation_id = "follow_sessions",
    params(
        ("tenant" = Option<String>, Query, description = "Only of this tenant; empty: only of users outside all tenants"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream",
         description = "An event for every change, as of one's own sessions, and `policy_changed`, `block_set` and `block_lifted`. `missed` when some may be missing; `ended` with `cause` when the admin's own session is over"),
        (status = 400, body = Problem, description = "A parameter does not fit", content_type = "application/problem+json"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin, or of another tenant", content_type = "application/problem+json"),
        (status = 429, body = Problem, description = "As many streams are open as may be", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn all(request: Request<'_>) -> Answer {
    let admin = request.admin().await?;
    let walls = admin.filter(&request.query(&["tenant"])?)?;
    let tell = move |event: &Event| event.is_within(&walls).then(|| json_of(event));
    let power = Power {
        http: request.http.clone(),
        headers: request.head.headers.clone(),
        session: admin.session.as_ref().map(ActiveSession::id),
        access: admin.access,
    };
    follow(request.http, admin.session.as_ref(), Box::new(tell), Some(power))
}

/// What a user is told of what happens to their sessions: not who others are.
fn told(event: &Event, user: &UserKey) -> Value {
    let mut told = json_of(event);
    if is_other(&event.by, user) {
        let cause = match event.kind {
            EventKind::Ended(cause) => cause,
            _ => EndCause::Unknown,
        };
        told["by"] = other(cause).into();
        if let Some(told) = told.as_object_mut() {
            told.remove("by_tenant");
        }
    }
    told
}

fn json_of(event: &Event) -> Value {
    serde_json::to_value(event).unwrap_or_default()
}

/// What a stream tells of an event; none where it is not this stream's.
type Tell = Box<dyn Fn(&Event) -> Option<Value> + Send + Sync>;

struct Follower {
    events: Events,
    tell: Tell,
    ended: Pin<Box<dyn Future<Output = WaitEnd> + Send>>,
    /// What the guard has allowed, for an admin's stream.
    power: Option<Power>,
    ask_again: Interval,
    until: Instant,
    state: State,
    _slot: Slot,
}

/// How far the caller's power reached when the stream was opened.
struct Power {
    http: HttpSessions,
    headers: HeaderMap,
    session: Option<SessionId>,
    access: AdminAccess,
}

impl Power {
    /// Whether the guard still says the same. While nothing can be said of the session, the stream
    /// goes on: the end of its trust in the cache is the engine's to say.
    async fn holds(&self) -> bool {
        let session = match self.session {
            Some(id) => match self.http.manager().validate_id(id, Access::passive(None)).await {
                Ok(Verdict::Active(session)) => Some(session),
                Ok(Verdict::Refused(_)) => return false,
                Err(_) => return true,
            },
            None => None,
        };
        let caller = Caller::new(session.as_ref(), &self.headers);
        self.http.guard().access(caller).await == self.access
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Over,
}

fn follow(
    http: &HttpSessions,
    session: Option<&ActiveSession>,
    tell: Tell,
    power: Option<Power>,
) -> Answer {
    let (manager, options) = (http.manager().clone(), http.options());
    let session = session.map(ActiveSession::id);
    let max = (options.max_streams_per_session, options.max_streams);
    let _slot = http.streams().open(session, max.0, max.1)?;
    let events = manager.events();
    let ended = ended(manager, session);
    let (now, state) = (Instant::now(), State::Opening);
    let ask_again = interval_at(now + GUARD_EVERY, GUARD_EVERY);
    let until = now + options.stream_lifetime;
    let follower = Follower { events, tell, ended, power, ask_again, until, state, _slot };
    let stream = stream::unfold(follower, |mut follower| async {
        let line = follower.next().await?;
        Some((Ok(line), follower))
    });
    let mut response = Response::new(Body::stream(stream));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // nginx hands events on as they come, instead of collecting them.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn ended(
    manager: SessionManager,
    session: Option<SessionId>,
) -> Pin<Box<dyn Future<Output = WaitEnd> + Send>> {
    match session {
        Some(id) => Box::pin(async move { manager.session_ended(id).await }),
        None => Box::pin(std::future::pending()),
    }
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        match self.state {
            State::Over => return None,
            State::Opening => {
                self.state = State::Open;
                return Some(Bytes::from_static(b"retry: 1000\n: open\n\n"));
            }
            State::Open => {}
        }
        let mut heartbeat = pin!(tokio::time::sleep(HEARTBEAT));
        loop {
            tokio::select! {
                biased;
                end = &mut self.ended => {
                    self.state = State::Over;
                    if matches!(end, WaitEnd::Unknown | WaitEnd::Stopping) {
                        return None;
                    }
                    let cause = end.cause().map(EndCause::as_str);
                    return Some(event("ended", &serde_json::json!({ "cause": cause })));
                }
                () = tokio::time::sleep_until(self.until) => return None,
                _ = self.ask_again.tick(), if self.power.is_some() => {
                    if !still_allowed(self.power.as_ref()).await {
                        return None;
                    }
                }
                // Keeps proxies from closing a silent connection, also while other users are busy.
                () = &mut heartbeat => return Some(Bytes::from_static(b":\n\n")),
                notice = self.events.next() => match notice? {
                    Notice::Event(happened) => {
                        let Some(told) = (self.tell)(&happened) else { continue };
                        let kind = happened.kind;
                        if kind == EventKind::ClaimsChanged && !still_allowed(self.power.as_ref()).await {
                            return None;
                        }
                        return Some(event(kind.as_str(), &told));
                    }
                    Notice::Missed => return Some(event("missed", &"{}")),
                    _ => {}
                },
            }
        }
    }
}

async fn still_allowed(power: Option<&Power>) -> bool {
    match power {
        Some(power) => power.holds().await,
        None => true,
    }
}

fn event(name: &str, data: &dyn Display) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long an admin's stream may go on after the guard's word has changed. A change of claims that
/// is told asks at once.
const GUARD_EVERY: Duration = Duration::from_secs(5);

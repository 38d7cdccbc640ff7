//! Event streams (server-sent events). A stream ends with the session that opened it.

use std::fmt::Display;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use session_core::store::TenantFilter;
use session_core::{EndCause, Event};
use session_engine::{CurrentSession, Events, Notice, SessionManager};

use super::{Answer, Body, Request, private};
use crate::problem::Problem;

/// Follows what happens to the caller's sessions.
#[utoipa::path(
    get, path = "/me/events", tag = "me", operation_id = "follow_my_sessions",
    responses(
        (status = 200, body = String, content_type = "text/event-stream",
         description = "An event for every change of the caller's sessions, named after what happened; `missed` when some may be missing; `ended` with the cause when this session is over"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn mine(request: Request<'_>) -> Answer {
    let session = request.session()?;
    let owner = session.owner.clone();
    let concerns = move |event: &Event| {
        event.session.is_some()
            && event.user.as_ref() == Some(&owner.user)
            && event.tenant == owner.tenant
    };
    Ok(follow(request.http.manager(), Some(session), Box::new(concerns)))
}

/// Follows what happens within the admin's walls.
#[utoipa::path(
    get, path = "/admin/events", tag = "admin", operation_id = "follow_sessions",
    responses(
        (status = 200, body = String, content_type = "text/event-stream",
         description = "An event for every change, named after what happened; `missed` when some may be missing; `ended` with the cause when the admin's own session is over"),
        (status = 401, body = Problem, description = "Nobody is signed in", content_type = "application/problem+json"),
        (status = 403, body = Problem, description = "Not an admin", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn all(request: Request<'_>) -> Answer {
    let admin = request.admin().await?;
    let walls: TenantFilter = admin.walls()?;
    let concerns = move |event: &Event| walls.covers(event.tenant.as_ref());
    Ok(follow(request.http.manager(), admin.session.as_ref(), Box::new(concerns)))
}

type Concerns = Box<dyn Fn(&Event) -> bool + Send + Sync>;

struct Follower {
    events: Events,
    concerns: Concerns,
    ended: Pin<Box<dyn Future<Output = Option<EndCause>> + Send>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Over,
}

fn follow(
    manager: &SessionManager,
    session: Option<&CurrentSession>,
    concerns: Concerns,
) -> Response<Body> {
    let ended: Pin<Box<dyn Future<Output = _> + Send>> = match session {
        Some(session) => {
            let (manager, id) = (manager.clone(), session.id);
            Box::pin(async move { manager.session_ended(id).await })
        }
        None => Box::pin(std::future::pending()),
    };
    let follower = Follower { events: manager.events(), concerns, ended, state: State::Opening };
    let stream = stream::unfold(follower, |mut follower| async {
        let line = follower.next().await?;
        Some((line, follower))
    });
    let mut response = Response::new(Body::stream(stream));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    private(headers);
    response
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
        loop {
            tokio::select! {
                biased;
                cause = &mut self.ended => {
                    self.state = State::Over;
                    let cause = cause.map(|cause| cause.as_str());
                    return Some(event("ended", &serde_json::json!({ "cause": cause })));
                }
                notice = self.events.next() => match notice? {
                    Notice::Event(told) if (self.concerns)(&told) => {
                        let data = serde_json::to_value(&told).unwrap_or_default();
                        return Some(event(told.kind.as_str(), &data));
                    }
                    Notice::Missed => return Some(event("missed", &"{}")),
                    _ => {}
                },
                // Keeps proxies from closing a silent connection.
                () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }
}

fn event(name: &str, data: &dyn Display) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

const HEARTBEAT: Duration = Duration::from_secs(15);

//! Sign-ins that lead through another site and come back: OpenID Connect, SAML, a mailed link.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use session_core::field::FieldProblem;
use session_core::{InvalidField, Timestamp};

use crate::auth::Auth;
use crate::cookie::{SessionCookie, named};
use crate::problem::Problem;
use crate::rejection::Rejection;
use crate::security;

/// A sign-in that was begun in this browser and goes on at another site.
///
/// The browser keeps it in a cookie of its own for 10 minutes, `__Host-` where the session's cookie is
/// sent over HTTPS only. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flow {
    /// Goes to the other site and comes back: it ties the answer to this browser.
    pub state: String,
    /// Goes into what the other site signs (OpenID Connect's `nonce`): it ties that to this flow.
    pub nonce: String,
    /// What the application wants back: where to go next, a PKCE verifier.
    pub data: String,
}

impl Flow {
    /// How long a user may be away.
    pub const LIFETIME: Duration = Duration::from_secs(600);
    /// The most bytes that [`Flow::data`] may have.
    pub const MAX_DATA_BYTES: usize = 1024;

    fn encode(&self, begun: Timestamp) -> String {
        let data = const_hex::encode(&self.data);
        format!("{}.{}.{}.{data}", self.state, self.nonce, begun.as_micros())
    }

    fn decode(text: &[u8]) -> Option<(Self, Timestamp)> {
        let mut parts = std::str::from_utf8(text).ok()?.split('.');
        let mut part = || parts.next();
        let (state, nonce, begun, data) = (part()?, part()?, part()?, part()?);
        if parts.next().is_some() || data.len() > 2 * Self::MAX_DATA_BYTES {
            return None;
        }
        let begun = Timestamp::from_micros(begun.parse().ok()?);
        let data = String::from_utf8(const_hex::decode(data).ok()?).ok()?;
        Some((Self { state: state.to_owned(), nonce: nonce.to_owned(), data }, begun))
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flow(redacted)")
    }
}

/// That a request brings its own proof of who sent it, wherever the page came from. Signing in with
/// it needs no proof of origin.
#[derive(Debug)]
#[must_use = "sign in with it"]
pub struct CallbackProof(pub(crate) SessionCookie);

impl CallbackProof {
    /// For an application that keeps its flows itself. It has to have verified all of these:
    ///
    /// 1. what the other site says: signature, issuer, audience, and that it is not too old;
    /// 2. that this very browser began the flow: by a cookie that no other site can set, compared with
    ///    the `state` that came back. Without it anybody can sign a stranger in to an account of their
    ///    own (login CSRF);
    /// 3. that the answer has not been used before.
    ///
    /// [`Auth::finish_flow`] does the second and the third.
    pub fn verified_by_the_application() -> Self {
        Self(SessionCookie::keep())
    }
}

impl Auth {
    /// Begins a sign-in at another site. The response that leads there carries the cookie; `data`
    /// comes back with [`Auth::finish_flow`].
    ///
    /// # Errors
    /// 400 for data that is too long.
    pub fn begin_flow(&self, data: &str) -> Result<(Flow, SessionCookie), Rejection> {
        if data.len() > Flow::MAX_DATA_BYTES {
            let (limit, actual) = (Flow::MAX_DATA_BYTES, data.len());
            let problem = FieldProblem::TooLong { limit, actual };
            return Err(InvalidField { field: "data", problem }.into());
        }
        let manager = self.http().manager();
        let random = || const_hex::encode(manager.random());
        let flow = Flow { state: random(), nonce: random(), data: data.to_owned() };
        let value = flow.encode(manager.now());
        let cookie = self.http().options().cookie.flow(&flow.state, &value, Flow::LIFETIME);
        Ok((flow, cookie))
    }

    /// Takes up a flow that has come back with this `state`. It does so once: the browser loses the
    /// flow's cookie with the sign-in, and this node remembers the state for as long as it could be
    /// used. (Another node does not; an authorization code is good once at the provider, too.)
    ///
    /// What the other site says remains to be verified, with the flow's `nonce` where it signs one.
    /// Then [`Auth::sign_in_from_callback`] takes the proof.
    ///
    /// # Errors
    /// 403 `urn:session-kit:foreign-flow` when this browser has not begun such a flow, or too long ago,
    /// or has finished it before.
    pub fn finish_flow(&self, state: &str) -> Result<(Flow, CallbackProof), Rejection> {
        let (http, headers) = (self.http(), self.head().headers);
        let cookie = &http.options().cookie;
        let presented = named(headers, cookie.flow_name(state).as_bytes());
        let mut flows = presented.raw().filter_map(Flow::decode);
        let now = http.manager().now();
        let is_open = |(flow, begun): &(Flow, Timestamp)| {
            flow.state == state && *begun <= now && now.since(*begun) < Flow::LIFETIME
        };
        match flows.find(is_open) {
            Some((flow, _)) if http.flows().use_up(state, now) => {
                let proof = CallbackProof(cookie.remove_flow(state));
                Ok((flow, proof))
            }
            _ => {
                security::refused_origin(self.head().uri.path(), self.address(), "a foreign flow");
                Err(Problem::foreign_flow().into())
            }
        }
    }
}

/// The flows that have come back to this node while they could be used again.
#[derive(Debug, Default)]
pub(crate) struct UsedFlows(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    states: HashSet<String>,
    by_time: VecDeque<(Timestamp, String)>,
}

impl UsedFlows {
    /// True for the first caller with this state.
    fn use_up(&self, state: &str, now: Timestamp) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((at, _)) = used.by_time.front()
            && (now.since(*at) >= Flow::LIFETIME || used.by_time.len() >= MOST_FLOWS)
        {
            if let Some((_, state)) = used.by_time.pop_front() {
                used.states.remove(&state);
            }
        }
        let first = used.states.insert(state.to_owned());
        if first {
            used.by_time.push_back((now, state.to_owned()));
        }
        first
    }
}

/// Beyond that the oldest are forgotten.
const MOST_FLOWS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_comes_back_as_it_went_and_shows_nothing() {
        let flow = Flow {
            state: "ab".repeat(16),
            nonce: "cd".repeat(16),
            data: "/next?a=b&c;d.e".to_owned(),
        };
        let begun = Timestamp::from_micros(7);
        assert_eq!(Flow::decode(flow.encode(begun).as_bytes()), Some((flow.clone(), begun)));
        assert_eq!(format!("{flow:?}"), "Flow(redacted)");
        for bad in ["", "a.b.c.d", "a.b.1", "a.b.1.xx", "a.b.1.00.00", "a.b.1.ff"] {
            assert_eq!(Flow::decode(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_state_is_used_once_and_forgotten_when_it_is_too_old() {
        let (used, now) = (UsedFlows::default(), Timestamp::from_micros(1));
        assert!(used.use_up("a", now));
        assert!(!used.use_up("a", now));
        assert!(used.use_up("b", now.plus(Flow::LIFETIME)));
        assert_eq!(used.0.lock().unwrap().states.len(), 1);
    }
}

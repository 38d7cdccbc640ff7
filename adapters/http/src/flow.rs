//! Sign-ins that lead through another site and come back: OpenID Connect, SAML.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use session_core::field::FieldProblem;
use session_core::store::TenantFilter;
use session_core::{InvalidField, SessionId, Timestamp, Token, TokenDigest, UserKey};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::Auth;
use crate::cookie::CookieHeaders;
use crate::origin::SameOrigin;
use crate::presented::named;
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
    /// PKCE's code verifier (RFC 7636): its digest goes along, it itself only to the token endpoint.
    pub verifier: String,
    /// What the application wants back: where to go next, say.
    pub data: String,
    /// The session that the browser held when it went.
    held: Option<Held>,
}

/// A session that a browser held when it went to another site, and the proof that it had its token. An
/// id alone proves nothing: the browser keeps the flow, and could name any session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    id: SessionId,
    proof: [u8; 32],
}

impl Held {
    fn of(token: &Token, state: &str) -> Self {
        Self { id: token.session_id(), proof: Self::proof(&token.digest(), state) }
    }

    fn proof(token: &TokenDigest, state: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"session-kit flow");
        hash.update(token.as_bytes());
        hash.update(state);
        hash.finalize().into()
    }

    fn encode(&self) -> String {
        format!("{}{}", self.id.as_uuid().simple(), const_hex::encode(self.proof))
    }

    fn decode(text: &str) -> Option<Self> {
        let (id, proof) = text.split_at_checked(RANDOM)?;
        let mut bytes = [0; 32];
        (proof.len() == 2 * bytes.len()).then_some(())?;
        const_hex::decode_to_slice(proof, &mut bytes).ok()?;
        Some(Self { id: id.parse().ok()?, proof: bytes })
    }
}

impl Flow {
    /// How long a user may be away.
    pub const LIFETIME: Duration = Duration::from_secs(600);
    /// The most bytes that [`Flow::data`] may have.
    pub const MAX_DATA_BYTES: usize = 1024;

    fn encode(&self, begun: Timestamp) -> String {
        let (data, begun) = (const_hex::encode(&self.data), begun.as_micros());
        let held = self.held.as_ref().map(Held::encode).unwrap_or_default();
        format!("{}.{}.{}.{begun}.{held}.{data}", self.state, self.nonce, self.verifier)
    }

    /// Reads what [`Flow::encode`] writes, and nothing else: the browser keeps it, and may not.
    fn decode(text: &[u8]) -> Option<(Self, Timestamp)> {
        let parts: Vec<_> = std::str::from_utf8(text).ok()?.split('.').collect();
        let [state, nonce, verifier, begun, held, data] = parts.as_slice() else {
            return None;
        };
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let fits = is_hex(state, RANDOM) && is_hex(nonce, RANDOM) && is_hex(verifier, 2 * RANDOM);
        if !fits || data.len() > 2 * Self::MAX_DATA_BYTES {
            return None;
        }
        let begun = Timestamp::from_micros(begun.parse().ok()?);
        let flow = Self {
            state: (*state).to_owned(),
            nonce: (*nonce).to_owned(),
            verifier: (*verifier).to_owned(),
            data: String::from_utf8(const_hex::decode(data).ok()?).ok()?,
            held: Held::decode(held),
        };
        Some((flow, begun))
    }
}

/// Digits of sixteen random bytes.
const RANDOM: usize = 32;

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flow(redacted)")
    }
}

/// Proof that this browser began the sign-in. Who the user is, the application verifies.
#[must_use = "sign in with it"]
pub struct CallbackProof {
    pub(crate) cookie: CookieHeaders,
    pub(crate) held: Option<(Held, String)>,
}

impl fmt::Debug for CallbackProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackProof(redacted)")
    }
}

impl CallbackProof {
    /// For an application that keeps its flows itself. It has to have verified all of these:
    ///
    /// 1. what the other site says: signature, issuer, audience, and that it is not too old;
    /// 2. that this very browser began the flow: by a cookie that no other site can set, compared with
    ///    the `state` that came back. Without it anybody can sign a stranger in to an account of their
    ///    own (login CSRF). A mailed link that may be opened in another browser cannot meet this: show a
    ///    page with a button, and sign in with its POST by [`Auth::sign_in`];
    /// 3. that the answer has not been used before.
    ///
    /// [`Auth::finish_flow`] does the second and the third.
    pub fn verified_by_the_application() -> Self {
        Self { cookie: CookieHeaders::keep(), held: None }
    }
}

impl Auth {
    /// Begins a sign-in at another site: `state`, `nonce` and the digest of `verifier` go there with your
    /// redirect, the cookie into the same response. `data` comes back with [`Auth::finish_flow`].
    /// A browser keeps its four newest flows.
    ///
    /// # Errors
    /// 400 for data that is too long, 403 for what a page of another site loads without going there: it
    /// could fill a browser with cookies.
    pub fn begin_flow(&self, data: &str) -> Result<(Flow, CookieHeaders), Rejection> {
        if data.len() > Flow::MAX_DATA_BYTES {
            let (limit, actual) = (Flow::MAX_DATA_BYTES, data.len());
            let problem = FieldProblem::TooLong { limit, actual };
            return Err(InvalidField { field: "data", problem }.into());
        }
        let mode = self.head().headers.get("sec-fetch-mode").map(HeaderValue::as_bytes);
        if self.http().same_origin(self.head()) == SameOrigin::Refuted
            && mode.is_some_and(|mode| mode != b"navigate")
        {
            self.refuse_cross_origin()?;
        }
        let manager = self.http().manager();
        let random = || const_hex::encode(manager.random());
        let (options, state) = (&self.http().options().cookie, random());
        let shown = options.presented(self.head().headers);
        let shown = self.by_cookie().and_then(|session| shown.of_session(session));
        let token = shown.and_then(|stored| Token::parse(stored.token.as_bytes()));
        let flow = Flow {
            held: token.map(|token| Held::of(&token, &state)),
            state,
            nonce: random(),
            verifier: random() + &random(),
            data: data.to_owned(),
        };
        let value = flow.encode(manager.now());
        let cookie = options.flow(&flow.state, value);
        let mut others: Vec<_> =
            options.flows(self.head().headers).filter_map(Flow::decode).collect();
        others.sort_by_key(|(_, begun)| std::cmp::Reverse(*begun));
        let old = others.iter().skip(MOST_IN_A_BROWSER - 1);
        let cookie = old.fold(cookie, |all, (old, _)| all.and(options.remove_flow(&old.state)));
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
            let early = begun.since(now) <= SKEW;
            flow.state == state && early && now.since(*begun) < Flow::LIFETIME
        };
        match flows.find(is_open) {
            Some((flow, _)) if http.flows().use_up(state, now) => {
                let cookie = cookie.remove_flow(state);
                let held = flow.held.map(|held| (held, flow.state.clone()));
                let proof = CallbackProof { cookie, held };
                Ok((flow, proof))
            }
            _ => {
                security::refused_flow(self.address());
                Err(Problem::foreign_flow().into())
            }
        }
    }
}

impl Auth {
    /// The session that the browser held when it went, if it had its token and the new one takes its
    /// place.
    pub(crate) async fn held(
        &self,
        (held, state): (Held, String),
        owner: &UserKey,
    ) -> Result<Option<SessionId>, Rejection> {
        let session = self.http().manager().get(held.id, &TenantFilter::Any).await?;
        let is_held = session.filter(|session| {
            let token = &session.token;
            let next = token.successor.as_ref().map(|next| &next.digest);
            let last = token.retired.as_ref().map(|last| &last.digest);
            let stepped = token.step_ups.iter().map(|step_up| &step_up.next.digest);
            let mut known = [Some(&token.current), next, last].into_iter().flatten().chain(stepped);
            known.any(|digest| Held::proof(digest, &state).ct_eq(&held.proof).into())
        });
        // Another account may stay beside the new one.
        let is_one = self.http().options().max_accounts == 1;
        let leaves = is_held.filter(|session| is_one || session.owner == *owner);
        Ok(leaves.map(|session| session.id))
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

/// Another begins only when the oldest is given up: each is a cookie that goes out with every request.
const MOST_IN_A_BROWSER: usize = 4;
/// How far the clocks of two nodes may differ.
const SKEW: Duration = Duration::from_secs(60);
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
            verifier: "ef".repeat(32),
            held: Some(Held { id: SessionId::from_random([7; 16]), proof: [9; 32] }),
            data: "/next?a=b&c;d.e".to_owned(),
        };
        let begun = Timestamp::from_micros(7);
        assert_eq!(Flow::decode(flow.encode(begun).as_bytes()), Some((flow.clone(), begun)));
        assert_eq!(format!("{flow:?}"), "Flow(redacted)");
        let good = flow.encode(begun);
        let longer = good.replacen("ab", "abab", 1);
        let (more, other) = (format!("{good}.00"), good.replacen("ab", "xy", 1));
        for bad in ["", "a.b.c.1..", &longer, &more, &other, &good[..good.len() - 1]] {
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

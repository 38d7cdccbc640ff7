//! Security events: what an operator wants to be told of, as `tracing` events of the target
//! `session_kit::security` with address and reason, and as counters. Never a token.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use session_core::{EndCause, SessionId};
use session_engine::{ActiveSession, Refusal};

/// How many requests this process has refused since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// Tokens that were worth nothing.
    pub tokens: u64,
    /// Requests that were not proven to come from this origin, and sign-ins that came back from another
    /// site without having been begun in this browser.
    pub origins: u64,
    /// Callers whom the admin guard did not let in.
    pub admins: u64,
}

impl Refusals {
    /// The counts as of now.
    pub fn of_this_process() -> Self {
        let [tokens, origins, admins] =
            [&TOKENS, &ORIGINS, &ADMINS].map(|count| count.load(Ordering::Relaxed));
        Self { tokens, origins, admins }
    }
}

static TOKENS: AtomicU64 = AtomicU64::new(0);
static ORIGINS: AtomicU64 = AtomicU64::new(0);
static ADMINS: AtomicU64 = AtomicU64::new(0);

const TARGET: &str = "session_kit::security";
/// Of a path in the log.
const MAX_PATH_BYTES: usize = 128;

/// Sessions end, and browsers keep their tokens: that alone is no attack. A token that fits a session
/// but for its secret is a guess, and a replaced token that is used after its grace was stolen.
pub(crate) fn refused_token(id: Option<SessionId>, refusal: &Refusal, address: Option<IpAddr>) {
    count(&TOKENS, "token");
    let address = address.map(tracing::field::display);
    let session_id = id.map(tracing::field::display);
    let reason = reason(refusal);
    match refusal {
        _ if is_theft(refusal) || *refusal == Refusal::WrongSecret => {
            tracing::warn!(target: TARGET, event = "token_refused", reason, address, session_id);
        }
        Refusal::Malformed | Refusal::Ended(_) | Refusal::Idle(_) => {
            tracing::debug!(target: TARGET, event = "token_refused", reason, address, session_id);
        }
        _ => tracing::info!(target: TARGET, event = "token_refused", reason, address, session_id),
    }
}

/// Several cookies of our name with valid tokens of different users.
pub(crate) fn refused_cookies(address: Option<IpAddr>) {
    refused_document("cookies of different users", address);
}

/// What a request carries that names no single session.
pub(crate) fn refused_document(reason: &'static str, address: Option<IpAddr>) {
    count(&TOKENS, "token");
    let address = address.map(tracing::field::display);
    tracing::warn!(target: TARGET, event = "token_refused", reason, address);
}

pub(crate) fn refused_origin(path: &str, address: Option<IpAddr>, proof: &'static str) {
    count(&ORIGINS, "origin");
    let address = address.map(tracing::field::display);
    let path = &path[..path.floor_char_boundary(MAX_PATH_BYTES)];
    tracing::warn!(target: TARGET, event = "origin_refused", reason = proof, address, path);
}

/// A sign-in that came back from another site without having been begun in this browser.
pub(crate) fn refused_flow(address: Option<IpAddr>) {
    count(&ORIGINS, "origin");
    let address = address.map(tracing::field::display);
    tracing::warn!(target: TARGET, event = "flow_refused", reason = "a foreign flow", address);
}

pub(crate) fn denied_admin(session: Option<&ActiveSession>, address: Option<IpAddr>) {
    count(&ADMINS, "admin");
    let reason = match session.map(ActiveSession::impersonator) {
        Some(Some(_)) => "the session has an impersonator",
        Some(None) => "the guard denies",
        None => "nobody is signed in",
    };
    let session_id = session.map(|session| tracing::field::display(session.id()));
    let user = session.map(|session| tracing::field::display(session.user()));
    let tenant = session.and_then(ActiveSession::tenant).map(tracing::field::display);
    let impersonator = session.and_then(ActiveSession::impersonator);
    let impersonator_tenant = impersonator.and_then(|key| key.tenant.as_ref());
    let impersonator_tenant = impersonator_tenant.map(tracing::field::display);
    let impersonator = impersonator.map(|key| tracing::field::display(&key.user));
    let address = address.map(tracing::field::display);
    tracing::warn!(
        target: TARGET, event = "admin_denied", reason, address, session_id, user, tenant,
        impersonator, impersonator_tenant
    );
}

fn count(refusals: &AtomicU64, kind: &'static str) {
    refusals.fetch_add(1, Ordering::Relaxed);
    #[cfg(feature = "metrics")]
    ::metrics::counter!("session_kit_http_refusals_total", "kind" => kind).increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = kind;
}

fn is_theft(refusal: &Refusal) -> bool {
    refusal.end_cause() == Some(EndCause::TokenReused)
}

fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        _ if is_theft(refusal) => "ended because a replaced token was used: theft",
        Refusal::Malformed => "malformed",
        Refusal::Unknown => "no such session",
        Refusal::WrongSecret => "not the token of this session",
        Refusal::Ended(_) => "the session has ended",
        Refusal::Idle(_) => "the session is idle",
        Refusal::Superseded => "replaced by a rotation",
        _ => "refused",
    }
}

//! Renews tokens with top-level navigations, so that a stolen copy is found without the application's
//! doing.

use std::time::Duration;

use http::HeaderMap;
use http::header::SET_COOKIE;
use session_core::Token;
use session_engine::{ActiveSession, SessionManager};

use crate::activity;
use crate::cookie::{CookieHeaders, CookieOptions};
use crate::head::Head;
use crate::identity::{Credential, Identity};
use crate::presented::Stored;
use crate::request::RequestSession;

/// The cookie of a request whose response may replace it: [`RequestSession::renewal`].
pub struct Renewal {
    manager: SessionManager,
    options: CookieOptions,
    session: ActiveSession,
    stored: Stored,
}

impl RequestSession {
    /// What the response to a request may renew, to be asked before the request is handled. None unless
    /// the engine has [`renew_after`](session_engine::Options::renew_after), the session is shown by the
    /// cookie, and the user goes to a page: `Sec-Fetch-Mode: navigate`, `Sec-Fetch-Dest: document`, a safe
    /// method, no prefetch.
    ///
    /// A response that is on its way while another tab signs in may still arrive after it. Where a browser
    /// may hold several accounts ([`max_accounts`](crate::HttpOptions::max_accounts)), the cookie's place
    /// would then be another account's, so nothing is renewed.
    pub fn renewal(&self, head: Head<'_>) -> Option<Renewal> {
        let (manager, options) = (self.http().manager(), self.http().options());
        manager.options().renew_after?;
        if options.max_accounts > 1 {
            return None;
        }
        let Identity::Session(session, Credential::Cookie) = self.identity() else { return None };
        if !is_navigation(head) || activity::is_passive(head, &options.prefix) {
            return None;
        }
        let stored = options.cookie.presented(head.headers).of_session(session)?;
        let (manager, options) = (manager.clone(), options.cookie.clone());
        Some(Renewal { manager, options, session: session.clone(), stored })
    }
}

impl Renewal {
    /// Whether the response has the session's cookie already, by the values of its `Set-Cookie`: that one
    /// is newer. A cookie whose name only begins like ours is another one: that of a flow, or of the
    /// application.
    pub fn is_overtaken<'h>(&self, set_cookies: impl IntoIterator<Item = &'h [u8]>) -> bool {
        let is_ours = |cookie: &[u8]| {
            let rest = cookie.strip_prefix(self.options.name.as_bytes());
            rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="))
        };
        set_cookies.into_iter().any(is_ours)
    }

    /// As [`Renewal::is_overtaken`], for the headers of a response.
    pub fn is_overtaken_by(&self, headers: &HeaderMap) -> bool {
        self.is_overtaken(headers.get_all(SET_COOKIE).into_iter().map(|value| value.as_bytes()))
    }

    /// Renews the token if it is old enough, once the request is handled. The cookie is empty where
    /// nothing is to be done, or where the store does not answer soon: then the next navigation tries
    /// again.
    pub async fn renew(self) -> CookieHeaders {
        let renewing = self.manager.renew_if_due(&self.session, self.stored.token.as_bytes());
        match tokio::time::timeout(PATIENCE, renewing).await {
            Ok(Ok(Some(token))) => self.cookie(&token),
            Ok(Ok(None)) => CookieHeaders::keep(),
            Ok(Err(error)) => self.later(&error),
            Err(elapsed) => self.later(&elapsed),
        }
    }

    fn cookie(&self, token: &Token) -> CookieHeaders {
        self.options.set(token, self.stored.remember, self.session.timeouts())
    }

    fn later(&self, error: &dyn std::fmt::Display) -> CookieHeaders {
        let session_id = self.session.id();
        tracing::debug!(%error, %session_id, "a token could not be renewed; later again");
        CookieHeaders::keep()
    }
}

impl std::fmt::Debug for Renewal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewal").field("session", &self.session).finish_non_exhaustive()
    }
}

fn is_navigation(head: Head<'_>) -> bool {
    let says = |name, value: &[u8]| {
        let mut values = head.headers.get_all(name).into_iter();
        matches!((values.next(), values.next()), (Some(found), None) if found.as_bytes() == value)
    };
    head.is_safe() && says("sec-fetch-mode", b"navigate") && says("sec-fetch-dest", b"document")
}

/// How long a response waits for the store.
const PATIENCE: Duration = Duration::from_secs(1);

//! The page to sign in: why the user is signed out, why a sign-in was refused, and which session to end
//! for it.

use std::time::Duration;

use session_kit::core::policy::PolicyScope;
use session_kit::core::{Actor, BlockReason, EndCause, Session, Timestamp, block};
use session_kit::engine::{Ending, TooManySessions};
use session_kit::http::Problem;

use crate::Demo;
use crate::pages::escaped;

const WRONG_PASSWORD: &str = "Unknown user or wrong password.";
/// The script of the choice.
pub(crate) const CHOOSE: &str = include_str!("choose.js");

impl Demo {
    /// The page, and where to go on from there. It says why the browser's last session has ended.
    pub(crate) async fn sign_in_page(&self, ended: Option<&Ending>, next: Option<&str>) -> String {
        let reason = match ended {
            Some(ending) => self.reason(ending).await,
            None => String::new(),
        };
        self.form_page(&reason, next)
    }

    pub(crate) fn wrong_password_page(&self, next: Option<&str>) -> String {
        self.form_page(WRONG_PASSWORD, next)
    }

    /// The page in place of a refused sign-in, for a browser. None for other refusals, and for a client
    /// that asks for no page.
    pub(crate) fn refused_page(
        &self,
        problem: &Problem,
        accept: Option<&str>,
        next: Option<&str>,
    ) -> Option<String> {
        if !accept.is_some_and(|accept| accept.contains("text/html")) {
            return None;
        }
        if let Some((refused, ticket)) = problem.too_many_sessions().zip(problem.ticket()) {
            return Some(self.choice_page(refused, &ticket, next.unwrap_or("/")));
        }
        let blocked = problem.blocked()?;
        Some(self.form_page(&blocked_text(blocked.reason.as_ref(), blocked.until), next))
    }

    /// Why a session has ended, in words for its user.
    async fn reason(&self, ending: &Ending) -> String {
        let now = self.http.manager().now();
        let blocked = match ending.cause {
            EndCause::Blocked => self.block_of(ending, now).await,
            _ => None,
        };
        [Some(reason(ending, now)), blocked].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// The block that still holds for the user, if the store can be asked.
    async fn block_of(&self, ending: &Ending, now: Timestamp) -> Option<String> {
        let mut blocks = Vec::new();
        for scope in PolicyScope::of(&ending.owner) {
            let block = self.http.manager().block_at(&scope).await.ok()?;
            blocks.extend(block.map(|block| (scope, block)));
        }
        let (_, block) = block::refusal(&blocks, now)?;
        Some(blocked_text(block.reason.as_ref(), block.until))
    }

    fn form_page(&self, notice: &str, next: Option<&str>) -> String {
        let notice = match notice {
            "" => String::new(),
            text => format!(r#"<p class="notice" role="alert">{}</p>"#, escaped(text)),
        };
        let query = next.map_or_else(String::new, |next| {
            let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
            format!("?next={next}")
        });
        let next = next.map_or_else(String::new, |next| {
            format!(r#"<input type="hidden" name="next" value="{}">"#, escaped(next))
        });
        self.page(
            "Sign in",
            &format!(
                r#"{notice}<p class="quiet">This is a demo: sign in as <b>alice</b>, <b>bob</b> or the admin <b>root</b>, or as <b>north/alice</b> or the admin <b>north/boss</b> of a tenant; the password is the name.</p>
<form method="post" action="/login">
<p><label>User <input name="user" required autofocus autocomplete="username"></label></p>
<p><label>Password <input name="password" type="password" required autocomplete="current-password"></label></p>
<p><label>Device <select name="device"><option value="">as the browser says</option><option>Web</option><option>Mobile</option><option>Desktop</option><option>Tv</option><option>Console</option></select></label></p>
<p><label><input name="remember" type="checkbox"> Stay signed in on this device</label></p>
<p>{next}<button class="primary">Sign in</button></p>
</form>
<p><a href="/login/elsewhere{query}">Sign in elsewhere</a></p>"#
            ),
        )
    }

    /// The sessions of a user who may have no more, one of which has to end.
    fn choice_page(&self, refused: &TooManySessions, ticket: &str, next: &str) -> String {
        let now = self.http.manager().now();
        let sessions: String =
            refused.sessions.iter().map(|session| choice(session, now)).collect();
        let (max, to, ticket, next) = (
            refused.limit.max,
            format!("{}/ticket", self.http.options().prefix),
            escaped(ticket),
            escaped(next),
        );
        self.page(
            "Choose a device",
            &format!(
                r#"<p class="notice" role="alert">You are signed in on as many devices as you may be (limit {max}). Sign out on one of them to go on here.</p>
<p id="notice" class="notice" role="status" hidden></p>
<form id="choice" data-to="{to}" data-ticket="{ticket}" data-next="{next}">
<ul class="cards">{sessions}</ul>
<p><button class="primary">Sign out there, sign in here</button></p>
</form>
<noscript><p class="notice">This choice needs JavaScript.</p></noscript>
<p><a href="/login">Back</a></p>
<script type="module" src="/choose.js"></script>"#
            ),
        )
    }
}

fn choice(session: &Session, now: Timestamp) -> String {
    let info = session.device_info.as_ref().map_or("Unknown device", |info| info.as_str());
    let device = session.device_name.as_ref().map_or(info, |name| name.as_str());
    let address = session.ip_addresses.last().map(|address| format!(" from {address}"));
    format!(
        r#"<li><label class="choice"><input type="radio" name="end" value="{}" required> <span><b>{}</b> ({})<br><span class="quiet">Last used {}{}</span></span></label></li>"#,
        session.id,
        escaped(device),
        escaped(session.device_kind.as_str()),
        ago(now.since(session.last_accessed)),
        address.unwrap_or_default(),
    )
}

fn reason(ending: &Ending, now: Timestamp) -> String {
    let when = ago(now.since(ending.at));
    let from = ending.from.as_ref().map(|device| format!(", {device}")).unwrap_or_default();
    let is_own = ending.by == Actor::User(ending.owner.clone());
    match (ending.cause, &ending.by) {
        (EndCause::Evicted, Actor::User(_)) if !is_own => {
            format!("An admin signed in as you, {when}.")
        }
        (EndCause::Replaced, Actor::User(_)) if !is_own => {
            format!("Another user signed in in this browser, {when}.")
        }
        (EndCause::Evicted, _) => format!("You signed in on another device, {when}{from}."),
        (EndCause::Replaced, _) => format!("You signed in again in this browser, {when}."),
        (EndCause::Revoked, Actor::User(_)) if is_own => {
            format!("You signed this device out from another one, {when}{from}.")
        }
        (EndCause::Revoked, Actor::User(_)) => format!("An admin signed you out, {when}."),
        (EndCause::Expired, _) => format!("Your session has expired, {when}."),
        (EndCause::TokenReused, _) => {
            format!("A copy of this browser's sign-in was used, {when}: it may have been stolen.")
        }
        (EndCause::Blocked, _) => format!("You were signed out, {when}."),
        _ => format!("Your session has ended, {when}."),
    }
}

fn blocked_text(reason: Option<&BlockReason>, until: Option<Timestamp>) -> String {
    let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("Sign-in is blocked{until}{reason}.")
}

fn ago(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    let (count, unit) = match minutes {
        0 => return "just now".to_owned(),
        1..60 => (minutes, "minute"),
        60..1440 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down() {
        for (seconds, text) in [
            (59, "just now"),
            (60, "1 minute ago"),
            (3_599, "59 minutes ago"),
            (3_600, "1 hour ago"),
            (86_400, "1 day ago"),
            (200_000, "2 days ago"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), text);
        }
    }
}

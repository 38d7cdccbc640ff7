//! The demo's own pages.

use session_kit::engine::ActiveSession;

use crate::Demo;
use crate::accounts::may_administer;

/// For admins.
const ACT_AS: &str = r#"<form method="post" action="/impersonate" class="row">
<label>Act as <input name="user" required autocomplete="off"></label> <button>Go</button></form>
"#;

impl Demo {
    pub(crate) fn home(&self, session: Option<&ActiveSession>) -> String {
        let prefix = &self.http.options().prefix;
        let content = match session {
            Some(session) => {
                let user = escaped(session.user().as_str());
                let acting = session.impersonator().map_or_else(String::new, |admin| {
                    let admin = escaped(admin.user.as_str());
                    format!(
                        r#"<p class="notice">This is <b>{admin}</b>, acting as <b>{user}</b>.</p>"#
                    )
                });
                let (admin, act) = match may_administer(session) {
                    true => (
                        format!(r#"<li><a href="{prefix}/admin">Administer sessions</a></li>"#),
                        ACT_AS,
                    ),
                    false => (String::new(), ""),
                };
                format!(
                    r#"{acting}<p>Signed in as <strong id="user">{user}</strong>.</p>
<ul><li><a href="{prefix}/">My devices</a></li><li><a href="/vault">The vault</a></li><li><a href="/live">Live</a></li>{admin}</ul>
{act}<form method="post" action="/logout"><button>Sign out</button></form>"#
                )
            }
            None => r#"<p>Nobody is signed in. <a href="/login">Sign in</a></p>"#.to_owned(),
        };
        self.page("session-kit demo", &content)
    }

    /// The page of a stand-in for an identity provider, which knows everybody.
    pub(crate) fn provider_page(&self, state: &str) -> String {
        let state = escaped(state);
        self.page(
            "A stand-in for an identity provider",
            &format!(
                r#"<form method="get" action="/callback"><input type="hidden" name="state" value="{state}">
<p><label>Go back as <select name="user"><option>alice</option><option>bob</option><option>root</option></select></label></p>
<p><button class="primary">Go back</button></p>
</form>"#
            ),
        )
    }

    pub(crate) fn page(&self, title: &str, content: &str) -> String {
        let prefix = &self.http.options().prefix;
        format!(
            r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{prefix}/assets/icon.svg">
<link rel="stylesheet" href="{prefix}/assets/app.css">
</head>
<body><main class="narrow"><h1>{title}</h1>
{content}
</main></body>
</html>
"#
        )
    }
}

pub(crate) fn vault(session: &ActiveSession) -> String {
    format!("{} has proved who they are at {}\n", session.user(), session.authenticated_at())
}

pub(crate) fn kept(session: &ActiveSession) -> String {
    format!("{} has put something into the vault\n", session.user())
}

pub(crate) fn cleared(session: &ActiveSession) -> String {
    format!("{} has emptied the vault\n", session.user())
}

pub(crate) fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
        escaped
    })
}

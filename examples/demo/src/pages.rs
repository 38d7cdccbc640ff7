//! The demo's own pages.

use session_kit::engine::CurrentSession;

use crate::Demo;

pub(crate) const WRONG_PASSWORD: &str = "Unknown user or wrong password.";
pub(crate) const TOO_MANY: &str =
    "You are signed in on as many devices as you may be. Sign out on another.";

impl Demo {
    pub(crate) fn home(&self, session: Option<&CurrentSession>) -> String {
        let prefix = &self.http.options().prefix;
        let content = match session {
            Some(session) => {
                let user = escaped(session.user().as_str());
                let admin = if ["root", "boss"].contains(&session.user().as_str()) {
                    format!(r#"<li><a href="{prefix}/admin">Administer sessions</a></li>"#)
                } else {
                    String::new()
                };
                format!(
                    r#"<p>Signed in as <strong id="user">{user}</strong>.</p>
<ul><li><a href="{prefix}/">My devices</a></li><li><a href="/vault">The vault</a></li>{admin}</ul>
<form method="post" action="/logout"><button>Sign out</button></form>"#
                )
            }
            None => r#"<p>Nobody is signed in. <a href="/login">Sign in</a></p>"#.to_owned(),
        };
        self.page("session-kit demo", &content)
    }

    /// The page to sign in, and where to go on from there.
    pub(crate) fn login_page(&self, failure: &str, next: Option<&str>) -> String {
        let notice = match failure {
            "" => String::new(),
            text => format!(r#"<p class="notice" role="alert">{text}</p>"#),
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

    fn page(&self, title: &str, content: &str) -> String {
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

pub(crate) fn vault(session: &CurrentSession) -> String {
    format!("{} has proved who they are at {}\n", session.user(), session.authenticated_at())
}

pub(crate) fn kept(session: &CurrentSession) -> String {
    format!("{} has put something into the vault\n", session.user())
}

pub(crate) fn cleared(session: &CurrentSession) -> String {
    format!("{} has emptied the vault\n", session.user())
}

fn escaped(text: &str) -> String {
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

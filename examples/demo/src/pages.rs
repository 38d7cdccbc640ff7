//! The demo's own two pages. All text in them is fixed, but for the names of known users.

pub(crate) fn home(user: Option<&str>) -> String {
    let content = match user {
        Some(user) => {
            let admin = if user == "root" {
                r#"<li><a href="/sessions/admin">Administer sessions</a></li>"#
            } else {
                ""
            };
            format!(
                r#"<p>Signed in as <strong id="user">{user}</strong>.</p>
<ul><li><a href="/sessions/">My devices</a></li>{admin}</ul>
<form method="post" action="/logout"><button>Sign out</button></form>"#
            )
        }
        None => r#"<p>Nobody is signed in. <a href="/login">Sign in</a></p>"#.to_owned(),
    };
    page("session-kit demo", &content)
}

pub(crate) fn login(failure: &str) -> String {
    let notice = match failure {
        "" => String::new(),
        text => format!(r#"<p class="notice" role="alert">{text}</p>"#),
    };
    page(
        "Sign in",
        &format!(
            r#"{notice}<p class="quiet">This is a demo: sign in as <b>alice</b>, <b>bob</b> or the admin <b>root</b>; the password is the name.</p>
<form method="post" action="/login">
<p><label>User <input name="user" required autofocus autocomplete="username"></label></p>
<p><label>Password <input name="password" type="password" required autocomplete="current-password"></label></p>
<p><label>Device <select name="device"><option value="">as the browser says</option><option>Web</option><option>Mobile</option><option>Desktop</option><option>Console</option></select></label></p>
<p><button class="primary">Sign in</button></p>
</form>"#
        ),
    )
}

fn page(title: &str, content: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="/sessions/assets/icon.svg">
<link rel="stylesheet" href="/sessions/assets/app.css">
</head>
<body><main class="narrow"><h1>{title}</h1>
{content}
</main></body>
</html>
"#
    )
}

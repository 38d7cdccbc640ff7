//! A browser that asks for a page is sent to sign in, and back.

use std::time::Duration;

use crate::app::{App, Ground};
use crate::client::{Answer, Client, login_form};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn page(browser: &Client, method: &str, path: &str) -> Answer {
    browser.ask(method, path).header("accept", BROWSER).send().await
}

pub(crate) async fn a_browser_is_sent_to_sign_in_and_back(on: Ground) {
    let app = App::start(on).await;
    let stranger = app.stranger();
    for (method, path, location) in [
        ("GET", "/whoami", "/login?next=/whoami"),
        ("GET", "/vault?item=1&b=2", "/login?next=/vault%3Fitem%3D1%26b%3D2"),
        ("GET", "/sessions/", "/login?next=/sessions/"),
        ("GET", "/sessions/admin", "/login?next=/sessions/admin"),
        ("POST", "/rotate", "/login"),
        ("PUT", "/roles/alice", "/login"),
    ] {
        let answer = page(&stranger, method, path).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some(location)));
        assert_eq!(answer.cookie(), None);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    for accept in ["application/json", "*/*", "text/html;q=0"] {
        stranger.ask("GET", "/whoami").header("accept", accept).send().await.problem(401);
    }
    let answer = page(&stranger, "GET", "/login?next=/vault%3Fitem%3D1%26b%3D2").await;
    let field = r#"<input type="hidden" name="next" value="/vault?item=1&amp;b=2">"#;
    assert!(answer.text().contains(field), "{}", answer.text());
    let form = format!("{}&next=/vault%3Fitem%3D1", login_form("alice"));
    let answer = stranger.send("POST", "/login", &form).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/vault?item=1")));
    // Who has to prove it again is sent there, too.
    let alice = app.browser("alice").await;
    app.advance(Duration::from_secs(301)).await;
    let answer = page(&alice, "GET", "/vault").await;
    assert_eq!(answer.header("location"), Some("/login?next=/vault"));
}

pub(crate) async fn the_way_back_leads_to_this_origin_only(on: Ground) {
    let app = App::start(on).await;
    let stranger = app.stranger();
    for evil in [
        "//evil.example",
        "https://evil.example",
        "/%5Cevil.example",
        "%5C%5Cevil.example",
        "/%09/evil.example",
        "evil.example",
        "javascript:alert(1)",
        "/%0D%0ASet-Cookie:%20a=b",
        "",
    ] {
        let form = format!("{}&next={evil}", login_form("alice"));
        let answer = stranger.send("POST", "/login", &form).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/")), "{evil}");
        let answer = stranger.get(&format!("/login?next={evil}")).await;
        assert!(!answer.text().contains(r#"name="next""#), "{evil}: {}", answer.text());
    }
}

//! Signing in through another site, and several accounts in one browser.

use std::time::Duration;

use serde_json::{Value, json};
use session_kit::Timestamp;
use session_kit::engine::clock::Clock;

use crate::app::{App, Ground, user_of};
use crate::client::{Answer, Client, login_form};
use crate::doors::{cookies, of};

struct Begun {
    browser: Client,
    state: String,
}

/// A browser that has gone to the identity provider.
async fn begin(app: &App, query: &str) -> Begun {
    let mut browser = app.stranger();
    let answer = browser.get(&format!("/login/elsewhere{query}")).await;
    assert_eq!(answer.status, 303);
    let cookie = answer.cookie().unwrap();
    for part in ["__Host-session-flow-", "; HttpOnly", "; SameSite=None", "; Secure", "Max-Age=600"]
    {
        assert!(cookie.contains(part), "{part} is not in {cookie}");
    }
    browser.keep(&answer);
    let provider = answer.header("location").unwrap().to_owned();
    assert!(browser.get(&provider).await.text().contains(r#"action="/callback""#));
    let state = provider.split("state=").nth(1).unwrap().to_owned();
    Begun { browser, state }
}

impl Begun {
    /// Back from the other site.
    async fn back(&self, method: &str, state: &str) -> Answer {
        self.back_with(method, state, "").await
    }

    /// The same, with what the other site says besides.
    async fn back_with(&self, method: &str, state: &str, more: &str) -> Answer {
        let parameters = format!("state={state}&user=alice{more}");
        let ask = match method {
            "GET" => self.browser.ask("GET", &format!("/callback?{parameters}")),
            _ => self.browser.ask("POST", "/callback").form(parameters),
        };
        of(ask, "cross-site", "https://provider.example").await
    }
}

fn session_of(answer: &Answer) -> Option<&str> {
    let mut cookies = answer.headers.get_all("set-cookie").iter().map(|c| c.to_str().unwrap());
    cookies.find(|cookie| cookie.starts_with("__Host-session="))
}

pub(crate) async fn a_callback_brings_its_own_proof(on: Ground) {
    let app = App::start(on).await;
    for method in ["GET", "POST"] {
        let begun = begin(&app, "?next=/vault").await;
        let other = begin(&app, "").await;
        for state in ["", "x", &other.state, &begun.state[1..]] {
            begun.back(method, state).await.problem(403);
        }
        let thief = Begun { browser: app.stranger(), state: String::new() };
        let problem = thief.back(method, &begun.state).await.problem(403);
        assert_eq!(problem["type"], "urn:session-kit:foreign-flow");
        let answer = begun.back(method, &begun.state).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/vault")));
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies.len(), 2, "the session, and the end of the flow: {cookies:?}");
        let signed_in = cookies_of(&app, session_of(&answer).unwrap());
        assert_eq!(user_of(&signed_in).await, "alice");
    }
    // The plain entry keeps its check.
    let stranger = app.stranger();
    let ask = stranger.ask("POST", "/login").without("sec-fetch-site");
    let ask = ask.header("sec-fetch-site", "cross-site").form(login_form("alice"));
    ask.send().await.problem(403);
}

fn cookies_of(app: &App, cookie: &str) -> Client {
    cookies(&app.stranger(), &[cookie.split(';').next().unwrap()])
}

/// `auth_time`, `acr` and `amr`: a sign-in that was long ago is not fresh, and one in the future is now.
pub(crate) async fn a_provider_says_when_and_how_its_user_proved_who_they_are(on: Ground) {
    let app = App::start(on).await;
    // What a node takes for the fleet's time may go back a little.
    let now = || app.clock.now();
    let aside = Duration::from_secs(60);
    let hour = Duration::from_secs(3600);
    for (ago, said, status) in [
        (Some(hour), "&acr=aal2&amr=otp", 401),
        (Some(aside), "&acr=aal3&amr=hwk", 200),
        (None, "", 200),
    ] {
        let auth_time = ago.map(|ago| now().minus(ago).as_micros() / 1_000_000);
        let more = auth_time.map(|at| format!("&auth_time={at}")).unwrap_or_default() + said;
        let Begun { browser, state } = &begin(&app, "").await;
        let before = now();
        let answer = Begun { browser: browser.clone(), state: state.clone() }
            .back_with("GET", state, &more)
            .await;
        let cookie = session_of(&answer).unwrap().split(';').next().unwrap().to_owned();
        let browser = Client { cookie: Some(cookie), ..browser.clone() };
        let me = browser.get("/whoami").await.json();
        let at = Timestamp::parse_rfc3339(me["authenticated_at"].as_str().unwrap()).unwrap();
        match auth_time {
            Some(seconds) => assert_eq!(at.as_micros() / 1_000_000, seconds, "{more}"),
            None => assert!(at >= before.minus(aside), "{me}"),
        }
        let (level, methods) = match said {
            "" => (Value::Null, json!([])),
            _ => (said[5..9].into(), json!([&said[14..]])),
        };
        assert_eq!((&me["level"], &me["methods"]), (&level, &methods));
        let listed = browser.get("/sessions/me").await.json()["sessions"][0].clone();
        for name in ["authenticated_at", "level", "methods"] {
            assert_eq!(listed[name], me[name], "{name}");
        }
        assert_eq!(browser.get("/vault").await.status, status, "{more}");
    }
    let begun = begin(&app, "").await;
    let future = now().plus(hour).as_micros() / 1_000_000;
    let answer = begun.back_with("GET", &begun.state, &format!("&auth_time={future}")).await;
    let cookie = session_of(&answer).unwrap().split(';').next().unwrap().to_owned();
    let browser = Client { cookie: Some(cookie), ..begun.browser };
    let me = browser.get("/whoami").await.json();
    let at = Timestamp::parse_rfc3339(me["authenticated_at"].as_str().unwrap()).unwrap();
    assert!(at <= now().plus(aside), "{me}");
}

pub(crate) async fn a_callback_is_good_once(on: Ground) {
    let app = App::start(on).await;
    let begun = begin(&app, "").await;
    assert_eq!(begun.back("GET", &begun.state).await.status, 303);
    for method in ["GET", "POST"] {
        let again = begun.back(method, &begun.state).await;
        again.problem(403);
        assert_eq!(session_of(&again), None);
    }
    let late = begin(&app, "").await;
    app.advance(Duration::from_secs(601)).await;
    late.back("GET", &late.state).await.problem(403);
}

/// A client that keeps every cookie.
struct Browser {
    client: Client,
    cookies: Vec<String>,
}

impl Browser {
    const fn new(app: &App) -> Self {
        Self { client: app.stranger(), cookies: Vec::new() }
    }

    async fn send(&mut self, method: &str, path: &str, form: &str) -> Answer {
        let cookies = (!self.cookies.is_empty()).then(|| self.cookies.join("; "));
        let client = Client { cookie: cookies, ..self.client.clone() };
        let answer = client.send(method, path, form).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let pair = cookie.split(';').next().unwrap();
            let name = &pair[..=pair.find('=').unwrap()];
            self.cookies.retain(|known| !known.starts_with(name));
            if !cookie.contains("Max-Age=0") {
                self.cookies.push(pair.to_owned());
            }
        }
        answer
    }

    /// The users whom it is signed in as, the one in use first.
    async fn accounts(&mut self) -> Vec<(String, String)> {
        let accounts = self.send("GET", "/accounts", "").await.json();
        let text =
            |account: &serde_json::Value, name: &str| account[name].as_str().unwrap().to_owned();
        let accounts = accounts.as_array().unwrap().iter();
        accounts.map(|account| (text(account, "user"), text(account, "session_id"))).collect()
    }
}

pub(crate) async fn several_accounts_are_signed_in_side_by_side(on: Ground) {
    let app = App::with(on, |config| config.http.max_accounts = 2).await;
    let mut browser = Browser::new(&app);
    for user in ["alice", "bob"] {
        assert_eq!(browser.send("POST", "/login", &login_form(user)).await.status, 303);
    }
    let accounts = browser.accounts().await;
    let users: Vec<_> = accounts.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(users, ["bob", "alice"]);
    let switch = format!("/accounts/{}", accounts[1].1);
    let answer = browser.send("POST", &switch, "").await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (303, Some("no-store")));
    assert_eq!(browser.send("GET", "/whoami", "").await.json()["user"], "alice");
    let strange = "/accounts/00000000-0000-4000-8000-000000000000";
    browser.send("POST", strange, "").await.problem(404);
    let foreign = Client { cookie: Some(browser.cookies.join("; ")), ..app.stranger() };
    let ask = foreign.ask("POST", &format!("/accounts/{}", accounts[0].1));
    of(ask, "cross-site", "https://evil.example").await.problem(403);
    assert_eq!(browser.send("POST", "/logout", "").await.status, 303);
    let left = browser.accounts().await;
    assert_eq!(left, accounts[..1], "the other one stays");
}

/// A form that another site posts comes without the session's cookie; the session is replaced all the
/// same, and no page fills a browser with flows.
pub(crate) async fn a_flow_remembers_its_session_and_a_browser_few_flows(on: Ground) {
    let app = App::start(on).await;
    let mut alice = app.browser("alice").await;
    let session = alice.cookie.clone().unwrap();
    let answer = alice.get("/login/elsewhere").await;
    let state = answer.header("location").unwrap().split("state=").nth(1).unwrap().to_owned();
    alice.keep(&answer);
    let begun = Begun { browser: alice.clone(), state };
    let answer = begun.back("POST", &begun.state).await;
    assert_eq!(answer.status, 303);
    assert_eq!(user_of(&cookies(&alice, &[&session])).await, "nobody", "it has been replaced");
    let mut browser = Browser::new(&app);
    for _ in 0..6 {
        app.advance(Duration::from_secs(1)).await;
        assert_eq!(browser.send("GET", "/login/elsewhere", "").await.status, 303);
    }
    assert_eq!(browser.cookies.len(), 4);
    let stranger = app.stranger();
    let ask = stranger.ask("GET", "/login/elsewhere").without("sec-fetch-site");
    let ask = ask.header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "no-cors");
    ask.send().await.problem(403);
}

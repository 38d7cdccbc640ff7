//! Sign-ins over axum: a limit and its ticket, why a session ended, and renewal.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing::{get, post};
use http::{HeaderValue, Request, Response};
use serde_json::{Value, json};
use session_axum::{
    Config, CurrentSession, Ended, Rejection, RotateReason, SessionAuth, SessionCookie, Sessions,
};
use session_core::policy::{Limit, OnExceed, Policy, Scope};
use session_store_memory::MemoryStore;
use std::time::Duration;
use tokio::sync::Notify;
use tower::ServiceExt;

async fn login(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
    Ok(auth.sign_in("alice").await?.1)
}

async fn step_up(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
    auth.rotate(RotateReason::reauthenticated()).await
}

async fn login_page(Ended(ended): Ended) -> String {
    ended.map_or_else(String::new, |ended| format!("{} by {}", ended.cause, ended.by))
}

async fn name(session: CurrentSession) -> String {
    session.user().to_string()
}

/// A page that is made slowly, while another tab does something else.
async fn slow(session: CurrentSession) -> String {
    ENTERED.notify_one();
    OPEN.notified().await;
    session.user().to_string()
}

static ENTERED: Notify = Notify::const_new();
static OPEN: Notify = Notify::const_new();

struct App(Router);

impl App {
    async fn start(config: Config) -> Self {
        let sessions = Sessions::start(MemoryStore::new(), config).await.unwrap();
        let app = Router::new()
            .route("/login", post(login).get(login_page))
            .route("/name", get(name))
            .route("/callback", get(login))
            .route("/step-up", get(step_up))
            .route("/slow", get(slow))
            .merge(sessions.routes())
            .layer(sessions.layer());
        Self(app)
    }

    async fn ask(&self, method: &str, path: &str, cookie: &str, body: String) -> Response<Body> {
        let request = Request::builder().method(method).uri(path).header("cookie", cookie);
        let request = request.header("sec-fetch-site", "same-origin").body(Body::from(body));
        self.0.clone().oneshot(request.unwrap()).await.unwrap()
    }

    /// As a browser that goes to a page.
    async fn navigate(&self, path: &str, cookie: &str) -> Response<Body> {
        let request =
            Request::get(path).header("cookie", cookie).header("sec-fetch-mode", "navigate");
        let request = request.header("sec-fetch-dest", "document").header("sec-fetch-site", "none");
        self.0.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn sign_in(&self) -> Response<Body> {
        self.ask("POST", "/login", "", String::new()).await
    }

    async fn read(&self, path: &str, cookie: &str) -> (u16, String) {
        let response = self.ask("GET", path, cookie, String::new()).await;
        (response.status().as_u16(), text(response).await)
    }
}

async fn text(response: Response<Body>) -> String {
    let bytes = to_bytes(response.into_body(), 99_999).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn value(response: Response<Body>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

fn cookie(response: &Response<Body>) -> String {
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_refused_sign_in_goes_on_with_a_ticket_and_the_other_device_is_told() {
    let limits = vec![Limit { max: 1, scope: Scope::User, on_exceed: OnExceed::Reject }];
    let app =
        App::start(Config::default().with_policy(Policy { limits, ..Policy::default() })).await;
    let old = cookie(&app.sign_in().await);
    let refused = app.sign_in().await;
    assert_eq!(refused.status(), 409);
    assert_eq!(refused.headers()["cache-control"], "no-store");
    let problem = value(refused).await;
    assert_eq!(problem["type"], "urn:session-kit:too-many-sessions");
    let end = &problem["sessions"][0]["id"];
    let choice = json!({ "ticket": problem["ticket"], "end": end }).to_string();
    let answer = app.ask("POST", "/sessions/ticket", "", choice.clone()).await;
    assert_eq!(answer.status(), 200);
    let new = cookie(&answer);
    assert_eq!(app.read("/name", &new).await, (200, "alice".to_owned()));
    assert_eq!(app.ask("POST", "/sessions/ticket", "", choice).await.status(), 410);
    // The old one is anonymous, keeps its cookie, and is told why.
    assert_eq!(app.read("/name", &old).await.0, 401);
    let page = app.ask("GET", "/login", &old, String::new()).await;
    assert!(!page.headers().contains_key("set-cookie"));
    assert_eq!(page.headers()["cache-control"], "private, no-store");
    assert!(text(page).await.ends_with(" by user:alice"));
    for other in ["", "__Host-session=garbage", &new] {
        let page = app.ask("GET", "/login", other, String::new()).await;
        assert_eq!(text(page).await, "", "{other}");
    }
    let nobody = app.ask("GET", "/login", "", String::new()).await;
    assert!(!nobody.headers().contains_key("cache-control"));
}

#[tokio::test]
async fn a_navigation_renews_the_cookie_after_the_handler() {
    let mut config = Config::default();
    config.engine = config.engine.with_renew_after(Duration::from_micros(1));
    let app = App::start(config).await;
    let cookie = cookie(&app.sign_in().await);
    let ask = async |path: &str, mode: &'static str| {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        let headers = request.headers_mut();
        headers.insert("cookie", cookie.parse().unwrap());
        headers.insert("sec-fetch-mode", HeaderValue::from_static(mode));
        headers.insert("sec-fetch-dest", HeaderValue::from_static("document"));
        app.0.clone().oneshot(request).await.unwrap()
    };
    let script = ask("/name", "cors").await;
    assert!(!script.headers().contains_key("set-cookie"));
    for path in ["/name", "/nothing", "/sessions/"] {
        let page = ask(path, "navigate").await;
        let renewed = page.headers()["set-cookie"].to_str().unwrap();
        assert!(renewed.starts_with("__Host-session=") && !renewed.contains(&cookie), "{path}");
        assert_eq!(page.headers().get_all("set-cookie").iter().count(), 1, "{path}");
        let control: Vec<_> = page.headers().get_all("cache-control").iter().collect();
        assert_eq!(control, ["no-store"], "{path}");
    }
    assert_eq!(app.read("/name", &cookie).await.0, 200);
}

/// The cookie of a sign-in or a step-up is newer than a renewal: where both are of one response, and where
/// the user has signed in in another tab since the request.
#[tokio::test]
async fn no_renewal_overtakes_a_sign_in() {
    let mut config = Config::default();
    config.engine = config.engine.with_renew_after(Duration::from_micros(1));
    let app = App::start(config).await;
    let first = cookie(&app.sign_in().await);
    let page = app.navigate("/callback", &first).await;
    assert_eq!(page.headers().get_all("set-cookie").iter().count(), 1);
    let second = cookie(&page);
    assert_eq!(app.read("/name", &first).await.0, 200, "the answer may be lost");
    let page = app.navigate("/step-up", &second).await;
    assert_eq!(page.headers().get_all("set-cookie").iter().count(), 1);
    let second = cookie(&page);
    assert_eq!(app.read("/name", &second).await.0, 200);
    let (page, third) = tokio::join!(app.navigate("/slow", &second), async {
        ENTERED.notified().await;
        let signed_in = app.ask("POST", "/login", &second, String::new()).await;
        OPEN.notify_one();
        cookie(&signed_in)
    });
    assert_eq!(page.status(), 200);
    assert!(!page.headers().contains_key("set-cookie"), "{:?}", page.headers());
    assert_eq!(app.read("/name", &third).await.0, 200);
    assert!(app.navigate("/name", &third).await.headers().contains_key("set-cookie"), "it is due");
}

/// Methods and bodies of the API pass through the router.
#[tokio::test]
async fn the_api_takes_every_method() {
    let app = App::start(Config::default()).await;
    let cookie = cookie(&app.sign_in().await);
    let me: Value = serde_json::from_str(&app.read("/sessions/me", &cookie).await.1).unwrap();
    let path = format!("/sessions/me/{}", me["session_id"].as_str().unwrap());
    let body = json!({ "device_name": "Kitchen tablet" }).to_string();
    let named = app.ask("PATCH", &path, &cookie, body).await;
    assert_eq!(value(named).await["device_name"], "Kitchen tablet");
    let blocked = app.ask("PUT", "/sessions/admin/block", &cookie, "{}".to_owned()).await;
    assert_eq!(blocked.status(), 403);
}
